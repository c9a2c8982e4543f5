//! `snap restore --resume` and `--abort`: what becomes of a restore that was interrupted.

use super::env::host_name;
use super::rollback::{Answer, RollbackOptions, parts, rollback};
use super::rollback_report::{RollbackReport, report_of, teller};
use super::rollback_world::{databases, labels};
use super::{Env, Error, Result, log};
use crate::docker::Engine;
use crate::repo::Repository;
use crate::repo::log::Ending;
use crate::repo::manifest::ProjectEntry;
use crate::stack::application;
use crate::stack::rollback::hold::Held;
use crate::stack::rollback::journal::{Decision, folder_of};
use crate::stack::rollback::probes::Probes;
use crate::stack::rollback::services::Application;
use crate::stack::rollback::wanted::choose;
use crate::stack::rollback::{self, Begun, Journal, Outcome, Transaction};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Goes on with an interrupted restore, or puts the old state back.
///
/// # Errors
/// There is none, or several and none was named; another snap is at work.
pub fn go_on(env: &Env, repository: &Repository, stack: Option<&str>, abort: bool) -> Result<RollbackReport> {
    let started = Instant::now();
    let (folder, _) = left_over(env, stack)?;
    let Some(journal) = Journal::open(&folder)? else {
        return Err(Error::usage("the restore has been ended meanwhile", "snap log says how"));
    };
    let begun = journal.begun()?.clone();
    env.about.set(&begun.project, None);
    let engine = Engine::from_env().map_err(application::Error::Docker)?;
    let set = repository.snapshots()?;
    let snapshot = set.snapshots.iter().find(|snapshot| snapshot.id.to_string() == begun.snapshot);
    let settings = labels(&begun.directory)?;
    let held = Held::again(&engine, &begun.project, &begun.restore, &journal.staged())?;
    let world = Application {
        probes: Probes { engine, project: begun.project.clone(), settings },
        directory: begun.directory.clone(),
        state: folder.clone(),
        // Once the new state has been committed, there is no way back that needs them.
        origins: match journal.decision() {
            Some(Decision::Forward) => Vec::new(),
            _ => journal.containers()?,
        },
        new_call: begun.new_call.clone(),
        old_call: begun.old_call.clone(),
        new_services: begun.new_services.clone(),
        ran: begun.ran.clone(),
        order: begun.order.clone(),
        // A snapshot that is gone meanwhile does not hold up the way back.
        databases: match snapshot {
            Some(snapshot) => {
                choose(&snapshot.manifest, &parts(&begun.only)?).map(|all| databases(&all)).unwrap_or_default()
            }
            None => Vec::new(),
        },
        monitor: Arc::clone(&env.monitor),
        held: Mutex::new(held),
    };
    let mut entry = log::begin(repository, if abort { "abort" } else { "resume" });
    entry.stack.clone_from(&begun.project);
    entry.snapshot = crate::id::SnapshotId::parse(&begun.snapshot).ok();
    entry.only.clone_from(&begun.only);
    let transaction = Transaction::new(journal.watched_by(teller(&env.monitor)), &world);
    let outcome = if abort { transaction.abort("the person asked for it") } else { transaction.resume() };
    if let Outcome::BeginAnew { .. } = outcome {
        entry.ending = Ending::Interrupted;
        entry.message = "it had not begun to change anything, and begins anew".to_owned();
        log::put(env, repository, entry, started);
        return begin_anew(env, repository, begun);
    }
    let project = snapshot.and_then(|snapshot| snapshot.manifest.project.clone());
    let project = project.unwrap_or_else(|| ProjectEntry {
        name: begun.project.clone(),
        directory: begun.directory.display().to_string(),
        ..ProjectEntry::default()
    });
    let report = report_of(outcome, &mut entry, &project, &begun.snapshot, &folder, started);
    if abort && entry.ending == Ending::PutBack {
        // That is what was asked for.
        entry.ending = Ending::Done;
        entry.message = "the old state was put back".to_owned();
    }
    log::put(env, repository, entry, started);
    Ok(report)
}

fn begin_anew(env: &Env, repository: &Repository, begun: Begun) -> Result<RollbackReport> {
    let options = RollbackOptions {
        id: begun.snapshot,
        only: begun.only,
        exact: begun.exact,
        yes: true,
        ..RollbackOptions::default()
    };
    match rollback(env, repository, &options)? {
        Answer::Done(report) => Ok(*report),
        Answer::Plan(_) => Err(Error::usage("nothing was done", "give the command again")),
    }
}

/// The folder of the one restore that was not finished.
fn left_over(env: &Env, stack: Option<&str>) -> Result<(PathBuf, Begun)> {
    let all = std::fs::read_dir(env.folders.data.join("restores")).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in all {
        if let Some(begun) = Journal::left_over(&entry.path())?
            && stack.is_none_or(|stack| stack == begun.project)
        {
            found.push((entry.path(), begun));
        }
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(_, begun)| begun.project.as_str()).collect();
        return Err(Error::usage(
            format!("several restores are unfinished: {}", names.join(", ")),
            "name one with --stack",
        ));
    }
    found.pop().ok_or_else(|| Error::usage("no restore is unfinished", "snap log says how the last ones ended"))
}

/// Fails if a restore of the project in `directory` was interrupted.
///
/// # Errors
/// One was, or its journal is damaged.
pub fn refuse_unfinished(env: &Env, directory: &Path, project: &str) -> Result<()> {
    let folder = folder_of(&env.folders.data, &host_name(), project, directory);
    match Journal::left_over(&folder)? {
        // One that is at work has the lock.
        Some(begun) => match Journal::open(&folder) {
            Err(error) => Err(error.into()),
            Ok(_) => Err(rollback::Error::Unfinished { project: begun.project }.into()),
        },
        None => Ok(()),
    }
}

/// The applications whose restore was interrupted and is not gone on with. One that is at work is none of them.
pub fn interrupted(env: &Env) -> Vec<String> {
    let all = std::fs::read_dir(env.folders.data.join("restores")).into_iter().flatten().flatten();
    let left = all.map(|entry| entry.path()).filter(|folder| !Journal::is_at_work(folder));
    left.filter_map(|folder| Some(Journal::left_over(&folder).ok()??.project)).collect()
}
