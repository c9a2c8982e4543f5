//! `snap restore` of an application: a transaction that ends all new or all old, and its `--resume` and `--abort`.

use super::application::{ComposeOptions, prepare};
use super::create::{CreateOptions, create};
use super::env::{host_name, now_text};
use super::project::Project as Folder;
use super::rollback_report::{RollbackPlan, RollbackReport, report_of};
use super::show::{find, open_reader};
use super::{Env, Error, Result, log};
use crate::docker::Engine;
use crate::repo::Repository;
use crate::repo::log::Ending;
use crate::repo::manifest::ProjectEntry;
use crate::repo::reader::Reader;
use crate::repo::select::Scope;
use crate::repo::sync::Snapshot;
use crate::stack::application::{self, Choice};
use crate::stack::compose::labels::PREFIX;
use crate::stack::rollback::compose_call::{Call, running_call};
use crate::stack::rollback::journal::folder_of;
use crate::stack::rollback::prepare::{Plan, Planner};
use crate::stack::rollback::probes::Probes;
use crate::stack::rollback::services::{Application, NewService};
use crate::stack::rollback::wanted::{Part, choose};
use crate::stack::rollback::{self, Begun, Event, Journal, Outcome, STAGE_PREFIX, Swap, Transaction};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The tag of the snapshot that is made of the present first.
pub const SAFETY_TAG: &str = "before-restore";

/// How an application is brought back.
#[derive(Debug, Clone, Default)]
pub struct RollbackOptions {
    /// Which snapshot.
    pub id: String,
    /// Of which host and stack.
    pub scope: Scope,
    /// Parts: `env`, `files`, `file:PATH`, `image:NAME`, `volume:NAME`, `db:NAME`; all if empty.
    pub only: Vec<String>,
    /// Only say what would be done.
    pub plan: bool,
    /// Do not ask.
    pub yes: bool,
    /// Threads; 0 for one for each processor.
    pub workers: usize,
}

/// What was done, or would be.
#[derive(Debug)]
pub enum Answer {
    /// What would be done.
    Plan(RollbackPlan),
    /// What was done.
    Done(Box<RollbackReport>),
}

/// True if the snapshot is one of an application.
///
/// # Errors
/// There is no such snapshot.
pub fn is_application(repository: &Repository, scope: &Scope, id: &str) -> Result<bool> {
    let set = repository.snapshots()?;
    Ok(find(&set, scope, id)?.manifest.project.is_some())
}

/// What a restore works on.
struct Work<'a> {
    env: &'a Env,
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    project: &'a ProjectEntry,
    directory: PathBuf,
    state: PathBuf,
    world: &'a Application,
    planner: Planner<'a>,
    plan: Plan<'a>,
}

/// Brings an application back to what it was, or leaves it as it is.
///
/// # Errors
/// Nothing was changed: something is not there, cannot be restored, is in the way, or the person did not agree.
pub fn rollback(env: &Env, repository: &Repository, options: &RollbackOptions) -> Result<Answer> {
    let started = Instant::now();
    let set = repository.snapshots()?;
    let snapshot = find(&set, &options.scope, &options.id)?;
    let manifest = &snapshot.manifest;
    let Some(project) = &manifest.project else {
        return Err(Error::usage("the snapshot is of a folder", "give --in-place or --target DIR"));
    };
    let parts = parts(&options.only)?;
    let directory = PathBuf::from(&project.directory);
    let directory = std::fs::canonicalize(&directory).unwrap_or(directory);
    let state = folder_of(&env.folders.data, &host_name(), &project.name, &directory);
    refuse_unfinished(env, &directory, &project.name)?;
    let engine = Engine::from_env().map_err(application::Error::Docker)?;
    refuse_remote(&engine)?;
    let restore = crate::fs::random_hex().map_err(|source| Error::Path {
        operation: "read random bytes from",
        path: "/dev/urandom".into(),
        source,
    })?;
    let world = world_of(env, &engine, project, &directory, &parts)?;
    let wanted = choose(manifest, &parts)
        .map_err(|message| Error::usage(message, format!("snap show {} lists what it has", snapshot.id.short())))?;
    let mut reader = open_reader(repository, snapshot)?;
    let planner = Planner {
        engine: &engine,
        repository,
        manifest,
        project: &project.name,
        restore: &restore,
        workers: workers(options.workers),
        monitor: &*env.monitor,
    };
    let plan = planner.plan(&wanted, &mut reader)?;
    let told = RollbackPlan::of(snapshot, project, &plan, &world);
    if options.plan {
        return Ok(Answer::Plan(told));
    }
    let question = format!("{}\n  {} is stopped, changed and started again.", told.lines().join("\n"), project.name);
    if !options.yes && !env.prompt.confirm(&question, &project.name) {
        let hint = "snap restore … --plan says what would be done; --yes does it without asking";
        return Err(Error::usage("nobody agreed to the restore, and nothing was changed", hint));
    }
    let work = Work { env, repository, snapshot, project, directory, state, world: &world, planner, plan };
    let mut entry = log::begin(repository, "restore");
    entry.stack.clone_from(&manifest.stack);
    entry.snapshot = Some(snapshot.id);
    entry.only.clone_from(&options.only);
    entry.changes.clone_from(&work.plan.changes);
    match work.transact(&options.only, &mut reader) {
        Ok(outcome) => {
            let report = report_of(outcome, &mut entry, project, &snapshot.id.to_string(), &work.state, started);
            log::put(env, repository, entry, started);
            Ok(Answer::Done(Box::new(report)))
        }
        Err(error) => {
            (entry.ending, entry.message) = log::failure(&error);
            log::put(env, repository, entry, started);
            Err(error)
        }
    }
}

impl Work<'_> {
    /// Makes all ready and goes through with it.
    fn transact(&self, only: &[String], reader: &mut Reader<'_>) -> Result<Outcome> {
        let begun = Begun {
            restore: self.planner.restore.to_owned(),
            snapshot: self.snapshot.id.to_string(),
            project: self.project.name.clone(),
            directory: self.directory.clone(),
            only: only.to_vec(),
            began: now_text(),
            ran: self.world.ran.clone(),
            old_call: self.world.old_call.clone(),
            new_call: self.world.new_call.clone(),
            new_services: self.world.new_services.clone(),
            order: self.world.order.clone(),
        };
        let mut journal = Journal::begin(&self.state, begun)?;
        if let Err(error) = self.make_ready(&mut journal, reader) {
            // Nothing was touched: only what was put beside it has to go.
            let _ = Transaction::new(journal, self.world).abort("it could not be made ready");
            return Err(error);
        }
        let needs = &self.snapshot.manifest.needs;
        let refresh = |before: &[Swap]| {
            let mut reader = Reader::new(self.repository)?;
            reader.add_unlisted(needs)?;
            let now = self.plan.refresh(&self.planner, &mut reader, before)?;
            Ok((now != before).then_some(now))
        };
        Ok(Transaction::new(journal, self.world).refreshed_by(&refresh).run())
    }

    fn make_ready(&self, journal: &mut Journal, reader: &mut Reader<'_>) -> Result<()> {
        journal.append(Event::Staging { staged: self.plan.staged() })?;
        let swaps = self.plan.make_ready(&self.planner, reader)?;
        let (snapshot, complete) = self.keep_present()?;
        journal.append(Event::Safety { snapshot, complete })?;
        if self.env.monitor.cancelled() {
            return Err(crate::repo::Error::Interrupted.into());
        }
        journal.append(Event::Prepared { swaps })?;
        Ok(())
    }

    /// A snapshot of the present; true if nothing is missing in it. A project that Compose refuses is kept as its
    /// folder: then the old state itself is kept too.
    fn keep_present(&self) -> Result<(String, bool)> {
        let there: Vec<PathBuf> = self.project.files.iter().map(PathBuf::from).filter(|file| file.is_file()).collect();
        let files = if there.len() == self.project.files.len() { there } else { Vec::new() };
        let mut options = CreateOptions {
            dir: self.directory.clone(),
            tags: vec![SAFETY_TAG.to_owned()],
            note: format!("before the restore of {}", self.snapshot.id.short()),
            exclude: vec![format!("{STAGE_PREFIX}*")],
            skip_caches: false,
            no_ignore_files: false,
            cross_mounts: false,
            stack: Some(self.snapshot.manifest.stack.clone()),
            level: 3,
            workers: self.planner.workers,
            compose: ComposeOptions {
                files: if self.world.ran.is_empty() { files } else { Vec::new() },
                project: Some(self.project.name.clone()),
                ..ComposeOptions::default()
            },
        };
        let folder = Folder::look(&self.directory)?;
        let prepared = match prepare(self.env, &folder, &options) {
            Err(Error::Application(application::Error::Compose(_))) => {
                options.compose = ComposeOptions { files_only: true, ..ComposeOptions::default() };
                prepare(self.env, &folder, &options)?
            }
            other => other?,
        };
        let report = create(self.env, self.repository, &options, prepared.as_ref())?;
        Ok((report.snapshot.id, report.snapshot.complete && prepared.is_some()))
    }
}

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
    let engine = Engine::from_env().map_err(application::Error::Docker)?;
    let world = Application {
        probes: Probes { engine, project: begun.project.clone() },
        directory: begun.directory.clone(),
        new_call: begun.new_call.clone(),
        old_call: begun.old_call.clone(),
        new_services: begun.new_services.clone(),
        ran: begun.ran.clone(),
        order: begun.order.clone(),
        settings: labels(&begun.directory)?,
        checks: Vec::new(),
        monitor: Arc::clone(&env.monitor),
    };
    let mut entry = log::begin(repository, if abort { "abort" } else { "resume" });
    entry.stack.clone_from(&begun.project);
    entry.snapshot = crate::id::SnapshotId::parse(&begun.snapshot).ok();
    entry.only.clone_from(&begun.only);
    let transaction = Transaction::new(journal, &world);
    let outcome = if abort { transaction.abort("the person asked for it") } else { transaction.resume() };
    if let Outcome::BeginAnew { .. } = outcome {
        entry.ending = Ending::Interrupted;
        entry.message = "it had not begun to change anything, and begins anew".to_owned();
        log::put(env, repository, entry, started);
        let options = RollbackOptions { id: begun.snapshot, only: begun.only, yes: true, ..RollbackOptions::default() };
        return match rollback(env, repository, &options)? {
            Answer::Done(report) => Ok(*report),
            Answer::Plan(_) => Err(Error::usage("nothing was done", "give the command again")),
        };
    }
    let set = repository.snapshots()?;
    let project = set.snapshots.iter().find(|s| s.id.to_string() == begun.snapshot);
    let project = project.and_then(|snapshot| snapshot.manifest.project.clone());
    let project = project.unwrap_or_else(|| ProjectEntry {
        name: begun.project.clone(),
        directory: begun.directory.display().to_string(),
        ..ProjectEntry::default()
    });
    let report = report_of(outcome, &mut entry, &project, &begun.snapshot, &folder, started);
    log::put(env, repository, entry, started);
    Ok(report)
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

fn refuse_remote(engine: &Engine) -> Result<()> {
    if engine.is_local().map_err(application::Error::Docker)? && rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let message = "an application is brought back as root, on the host of its engine";
    Err(Error::usage(message, "run it there as root, or write its parts elsewhere with --target DIR"))
}

fn workers(asked: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if asked == 0 { processors } else { asked }
}

fn parts(only: &[String]) -> Result<Vec<Part>> {
    let part = |text: &String| {
        let hint = "give env, files, file:PATH, image:NAME, volume:NAME or db:NAME";
        Part::parse(text).ok_or_else(|| Error::usage(format!("--only {text} means nothing"), hint))
    };
    only.iter().map(part).collect()
}

/// The project as it runs, and as it is to run.
fn world_of(
    env: &Env,
    engine: &Engine,
    project: &ProjectEntry,
    directory: &Path,
    parts: &[Part],
) -> Result<Application> {
    let probes = Probes { engine: engine.clone(), project: project.name.clone() };
    let order: Vec<String> = project.services.iter().map(|service| service.name.clone()).collect();
    let ran = Application::running(&probes, &order)?;
    let then = Call { plugin: !project.compose.starts_with("docker-compose"), arguments: project.arguments.clone() };
    let now = running_call(&probes, directory)?.unwrap_or_else(|| then.clone());
    // Where only parts come back, what runs now is what runs afterwards; with `.env` or files, as they say.
    let whole = parts.is_empty();
    let services_then = project.services.iter().filter(|service| service.running > 0);
    let new_services: Vec<NewService> = match whole {
        true => services_then
            .map(|service| NewService { name: service.name.clone(), containers: service.running as usize })
            .collect(),
        false => {
            ran.iter().map(|ran| NewService { name: ran.service.clone(), containers: ran.containers.len() }).collect()
        }
    };
    Ok(Application {
        probes,
        directory: directory.to_path_buf(),
        new_call: if whole { then } else { now.clone() },
        old_call: now,
        new_services,
        ran,
        order,
        settings: labels(directory)?,
        checks: Vec::new(),
        monitor: Arc::clone(&env.monitor),
    })
}

/// What `snap.toml` says of services, as labels.
fn labels(directory: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut choice = Choice { directory: directory.to_path_buf(), ..Choice::default() };
    super::settings::read(directory)?.complete(&mut choice, directory)?;
    let named = |table: BTreeMap<String, String>| table.into_iter().map(|(k, v)| (format!("{PREFIX}{k}"), v)).collect();
    Ok(choice.services.into_iter().map(|(service, table)| (service, named(table))).collect())
}
