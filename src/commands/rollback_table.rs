//! `snap restore ID --only db:NAME/TABLE`: one table, into the server that runs, in one step of that server. Nothing is
//! stopped, and there is nothing to resume: it has happened or it has not.

use super::application::{ComposeOptions, prepare};
use super::create::{CreateOptions, create};
use super::project::Project as Folder;
use super::rollback::{Aim, Answer, SAFETY_TAG};
use super::rollback_report::{RollbackPlan, RollbackReport};
use super::rollback_world::labels;
use super::{Env, Error, Result};
use crate::amount;
use crate::docker::{Container, Engine, Status};
use crate::repo::Repository;
use crate::repo::evidence::{Evidence, Verdict};
use crate::repo::log::{Ending, LogEntry};
use crate::repo::manifest::{DatabaseDetail, Detail, Manifest, ProjectEntry, SourceEntry};
use crate::repo::sync::Snapshot;
use crate::stack::rollback;
use crate::stack::rollback::probes::Probes;
use crate::stack::source::database::restore::table::{Table, is_there, load_table};
use crate::stack::source::database::{self, Database, Settings};
use std::path::Path;
use std::time::Instant;

/// Finds the table that is meant.
fn find<'m>(manifest: &'m Manifest, name: &str, table: &str) -> Result<(Table<'m>, &'m DatabaseDetail)> {
    let detail = |source: &'m SourceEntry| match &source.detail {
        Some(Detail::Database(detail)) => Some((source, detail)),
        _ => None,
    };
    let mut found = Vec::new();
    for (source, detail) in manifest.sources.iter().filter_map(detail) {
        let is_server = source.name == name || detail.service == name;
        for dump in detail.dumps.iter().filter(|dump| is_server || dump.database == name) {
            let fits = |has: &str| has == table || has.split_once('.').is_some_and(|(_, last)| last == table);
            let tables = dump.tables.iter().filter(|has| fits(&has.name));
            found.extend(tables.map(|table| (Table { source, dump, table }, detail)));
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let hint = "write db:SERVICE/TABLE, db:SERVICE/SCHEMA.TABLE or db:DATABASE/TABLE; snap show lists tables";
            Err(Error::usage(format!("the snapshot has no table {table} of {name}"), hint))
        }
        _ => {
            let all = found.iter().map(|(found, _)| format!("db:{}/{}", found.dump.database, found.table.name));
            let hint = format!("say which: {}", all.collect::<Vec<_>>().join(", "));
            Err(Error::usage(format!("{name}/{table} means several tables"), hint))
        }
    }
}

/// Brings one table back.
///
/// # Errors
/// Nothing was changed: it is not there, its server does not run or refuses, or the person did not agree.
pub(super) fn restore_table(aim: &Aim<'_>, (name, table): (&str, &str), entry: &mut LogEntry) -> Result<Answer> {
    let started = Instant::now();
    let Aim { env, repository, snapshot, project, directory, options, .. } = aim;
    repository.require_owner("read what snapshots hold")?;
    let (wanted, detail) = find(&snapshot.manifest, name, table)?;
    let engine = Engine::from_env().map_err(crate::stack::application::Error::Docker)?;
    let probes = Probes { engine, project: project.name.clone(), settings: labels(directory)? };
    let (container, server) = running(&probes, detail)?;
    let (shown, rows) = (format!("{} of {}", wanted.table.name, wanted.dump.database), wanted.table.rows);
    let monitor = &*env.monitor;
    let failed = |error| rollback::database_error(&format!("database {}", detail.service), error);
    let is_there = is_there(&probes.engine, &container.id, &server, &wanted, monitor).map_err(failed)?;
    let what = match is_there {
        true => format!("its {} replace what it has", amount::count(rows, "row", "rows")),
        false => format!("it is gone, and made again with its {}", amount::count(rows, "row", "rows")),
    };
    let change = format!("table {shown} (service {}): {what}", detail.service);
    if options.plan {
        return Ok(Answer::Plan(told(snapshot, project, &change, &wanted)));
    }
    let question = format!("  {change}\n  Nothing is stopped, and no other table is touched.");
    if !options.yes && !env.prompt.confirm(&question, &project.name) {
        let hint = "snap restore … --plan says what would be done; --yes does it without asking";
        return Err(Error::usage("nobody agreed to the restore, and nothing was changed", hint));
    }
    entry.changes = vec![change];
    let safety = keep_present(env, repository, snapshot, project, directory, &detail.service)?;
    let rows = load_table(&probes.engine, &container.id, repository, &server, &wanted, monitor).map_err(failed)?;
    let evidence = counted(&shown, &detail.service, rows);
    entry.ending = Ending::Done;
    entry.safety = crate::id::SnapshotId::parse(&safety).ok();
    entry.evidence = vec![evidence];
    entry.verdict = Some(Verdict::of(&entry.evidence));
    let mut report = RollbackReport::new(&snapshot.id.to_string(), project, entry);
    report.safety = Some(safety);
    report.evidence.clone_from(&entry.evidence);
    report.verdict = entry.verdict;
    report.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(Answer::Done(Box::new(report)))
}

/// That the table has the captured rows.
fn counted(table: &str, service: &str, rows: u64) -> Evidence {
    Evidence {
        check: format!("rows of {table}"),
        service: service.to_owned(),
        passed: true,
        proves: true,
        attempts: 1,
        answer: format!("{}, as captured", amount::count(rows, "row", "rows")),
        time: super::env::now_text(),
        seconds: 0.0,
    }
}

/// What would be done, as a plan.
fn told(snapshot: &Snapshot, project: &ProjectEntry, change: &str, wanted: &Table<'_>) -> RollbackPlan {
    RollbackPlan {
        snapshot: snapshot.id.to_string(),
        time: snapshot.manifest.time.clone(),
        tags: snapshot.manifest.tags.clone(),
        project: project.name.clone(),
        complete: snapshot.manifest.complete,
        changes: vec![change.to_owned()],
        bytes: wanted.table.bytes.unwrap_or(0),
        stops: Vec::new(),
        starts: Vec::new(),
    }
}

/// The container of the server, and how it is entered.
fn running(probes: &Probes, detail: &DatabaseDetail) -> Result<(Container, Database)> {
    let failed = |message: String| rollback::Error::Engine { subject: format!("database {}", detail.service), message };
    let found = probes.containers(Some(&detail.service)).map_err(|error| failed(error.to_string()))?;
    let container = found.into_iter().find(|container| container.state.status == Status::Running);
    let container = container.ok_or_else(|| failed("its server does not run".to_owned()))?;
    let said = probes.settings.get(&detail.service).map(Settings::from_labels).unwrap_or_default();
    let said = said.or(Settings::from_labels(&container.labels));
    let settings = Settings { database: Some(detail.engine.clone()), dump: None, ..said };
    let server = database::find(&container, &settings).map_err(failed)?;
    let server = server.ok_or_else(|| failed("it is no database that is known here".to_owned()))?;
    Ok((container, server))
}

/// The database as it is now, as a snapshot; gives its id.
fn keep_present(
    env: &Env,
    repository: &Repository,
    snapshot: &Snapshot,
    project: &ProjectEntry,
    directory: &Path,
    service: &str,
) -> Result<String> {
    let options = CreateOptions {
        dir: directory.to_path_buf(),
        tags: vec![SAFETY_TAG.to_owned()],
        note: format!("before the restore of a table from {}", snapshot.id.short()),
        exclude: Vec::new(),
        skip_caches: false,
        no_ignore_files: false,
        cross_mounts: false,
        stack: Some(snapshot.manifest.stack.clone()),
        level: 3,
        workers: 0,
        compose: ComposeOptions {
            project: Some(project.name.clone()),
            only: vec![format!("database:{service}")],
            ..ComposeOptions::default()
        },
    };
    let prepared = prepare(env, &Folder::look(directory)?, &options)?;
    let report = create(env, repository, &options, prepared.as_ref())?;
    Ok(report.snapshot.id)
}
