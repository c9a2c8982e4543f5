//! `snap restore` of an application: a transaction that ends all new or all old, and its `--resume` and `--abort`.

use super::application::{ComposeOptions, prepare};
use super::create::{CreateOptions, create};
use super::env::{host_name, now_text, threads};
use super::project::Project as Folder;
use super::restore::incomplete_for_exact;
use super::rollback_report::{RollbackPlan, RollbackReport, report_of, teller};
use super::rollback_resume::refuse_unfinished;
use super::rollback_table::restore_table;
use super::rollback_world::{databases, world_of};
use super::show::{find, open_reader};
use super::{Env, Error, Result, log};
use crate::docker::Engine;
use crate::monitor::lock;
use crate::repo::Repository;
use crate::repo::log::LogEntry;
use crate::repo::manifest::ProjectEntry;
use crate::repo::reader::Reader;
use crate::repo::select::Scope;
use crate::repo::sync::Snapshot;
use crate::stack::application;
use crate::stack::rollback::journal::folder_of;
use crate::stack::rollback::plan_services::{refuse_missing_networks, service_changes};
use crate::stack::rollback::ports::refuse_taken;
use crate::stack::rollback::prepare::{Plan, Planner};
use crate::stack::rollback::services::Application;
use crate::stack::rollback::wanted::{Part, choose};
use crate::stack::rollback::{Begun, Event, Journal, Outcome, STAGE_PREFIX, Swap, Transaction};
use std::path::PathBuf;
use std::time::Instant;

/// The tag of the snapshot that is made of the present first.
pub const SAFETY_TAG: &str = "before-restore";

/// So much of what a snapshot lacks is told.
const LACKS_MAX: usize = 10;

/// How an application is brought back.
#[derive(Debug, Clone, Default)]
pub struct RollbackOptions {
    /// Which snapshot.
    pub id: String,
    /// Of which host and stack.
    pub scope: Scope,
    /// Parts: `env`, `files`, `file:PATH`, `image:NAME`, `volume:NAME`, `db:NAME`, or `db:NAME/TABLE` alone; all if empty.
    pub only: Vec<String>,
    /// What the snapshot does not have goes aside, and is gone when the new state has proved itself.
    pub exact: bool,
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
    env.about.set(&manifest.stack, None);
    let Some(project) = &manifest.project else {
        return Err(Error::usage("the snapshot is of a folder", "give --in-place or --target DIR"));
    };
    let parts = parts(&options.only)?;
    if options.exact && !manifest.complete {
        return Err(incomplete_for_exact(snapshot));
    }
    let directory = PathBuf::from(&project.directory);
    let directory = std::fs::canonicalize(&directory).unwrap_or(directory);
    let state = folder_of(&env.folders.data, &host_name(), &project.name, &directory);
    refuse_unfinished(env, &directory, &project.name)?;
    let mut entry = log::begin(repository, "restore");
    entry.stack.clone_from(&manifest.stack);
    entry.snapshot = Some(snapshot.id);
    entry.only.clone_from(&options.only);
    let aim = Aim { env, repository, snapshot, project, directory, state, parts, options };
    let answer = match only_table(&aim.parts)? {
        Some(one) => restore_table(&aim, one, &mut entry),
        None => aim.reach(&mut entry, started),
    };
    match &answer {
        Ok(Answer::Done(_)) => log::put(env, repository, entry, started),
        // What was asked for wrongly, or only looked at, was no restore.
        Err(error) if !options.plan && !matches!(error, Error::Usage { .. }) => {
            (entry.ending, entry.message) = log::failure(error);
            log::put(env, repository, entry, started);
        }
        _ => {}
    }
    answer
}

/// What is to be brought back, and where.
pub(super) struct Aim<'a> {
    pub(super) env: &'a Env,
    pub(super) repository: &'a Repository,
    pub(super) snapshot: &'a Snapshot,
    pub(super) project: &'a ProjectEntry,
    pub(super) directory: PathBuf,
    pub(super) state: PathBuf,
    pub(super) parts: Vec<Part>,
    pub(super) options: &'a RollbackOptions,
}

impl Aim<'_> {
    /// Plans, asks, and goes through with it.
    fn reach(&self, entry: &mut LogEntry, started: Instant) -> Result<Answer> {
        let Self { env, repository, snapshot, project, directory, state, parts, options } = self;
        let engine = Engine::from_env().map_err(application::Error::Docker)?;
        refuse_remote(&engine)?;
        let restore = random_digits()?;
        let mut world = world_of(env, &engine, project, directory, state, parts)?;
        let wanted = choose(&snapshot.manifest, parts)
            .map_err(|message| Error::usage(message, format!("snap show {} lists what it has", snapshot.id.short())))?;
        world.databases = databases(&wanted);
        let mut reader = open_reader(repository, snapshot)?;
        let planner = Planner {
            engine: &engine,
            repository,
            manifest: &snapshot.manifest,
            project: &project.name,
            restore: &restore,
            wanted,
            only: !parts.is_empty(),
            exact: options.exact,
            keep: env.own_folders(repository, directory)?.into_keys().chain(env.own_keys()).collect(),
            settings: &world.probes.settings,
            workers: threads(options.workers),
            monitor: &*env.monitor,
        };
        if parts.is_empty() {
            refuse_taken(project, &world.origins)?;
            refuse_missing_networks(&engine, &snapshot.manifest)?;
        }
        let mut plan = planner.plan(&mut reader)?;
        if parts.is_empty() {
            plan.changes.extend(service_changes(project, &world.ran, &world.new_services, &world.origins));
        }
        let told = RollbackPlan::of(snapshot, project, &plan, &world);
        if options.plan {
            return Ok(Answer::Plan(told));
        }
        let question =
            format!("{}\n  {} is stopped, changed and started again.", told.lines().join("\n"), project.name);
        if !options.yes && !env.prompt.confirm(&question, &project.name) {
            let hint = "snap restore … --plan says what would be done; --yes does it without asking";
            return Err(Error::usage("nobody agreed to the restore, and nothing was changed", hint));
        }
        entry.changes.clone_from(&plan.changes);
        let (directory, state) = (directory.clone(), state.clone());
        let work = Work { env, repository, snapshot, project, directory, state, world: &world, planner, plan };
        let outcome = work.transact(&options.only, &mut reader)?;
        let report = report_of(outcome, entry, project, &snapshot.id.to_string(), &self.state, started);
        Ok(Answer::Done(Box::new(report)))
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
            exact: self.planner.exact,
            began: now_text(),
            ran: self.world.ran.clone(),
            old_call: self.world.old_call.clone(),
            new_call: self.world.new_call.clone(),
            new_services: self.world.new_services.clone(),
            order: self.world.order.clone(),
        };
        let mut journal =
            Journal::begin(&self.state, begun, &self.world.origins)?.watched_by(teller(&self.env.monitor));
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
        let (held, staged) = self.plan.hold(&self.planner, reader)?;
        *lock(&self.world.held) = held;
        if !staged.is_empty() {
            journal.append(Event::Staging { staged })?;
        }
        let swaps = self.plan.make_ready(&self.planner, reader)?;
        let (snapshot, lacks) = self.keep_present()?;
        journal.append(Event::Safety { snapshot, complete: lacks.is_empty(), lacks })?;
        if self.env.monitor.cancelled() {
            return Err(crate::repo::Error::Interrupted.into());
        }
        journal.append(Event::Prepared { swaps })?;
        Ok(())
    }

    /// A snapshot of the present, and what is missing in it. A project that Compose refuses is kept as its
    /// folder: then the old state itself is kept too.
    fn keep_present(&self) -> Result<(String, Vec<String>)> {
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
                as_is: true,
                absent: self.plan.made_volumes(),
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
        let missing = report.warnings.iter().filter(|warning| warning.incomplete);
        let mut lacks: Vec<String> = missing.map(|w| format!("{}: {}", w.subject, w.message)).take(LACKS_MAX).collect();
        if prepared.is_none() {
            lacks.push("images, volumes and databases: Compose refuses the project as it is now".to_owned());
        } else if !report.snapshot.complete && lacks.is_empty() {
            lacks.push("something that could not be read".to_owned());
        }
        Ok((report.snapshot.id, lacks))
    }
}

fn refuse_remote(engine: &Engine) -> Result<()> {
    if engine.is_local().map_err(application::Error::Docker)? && rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let message = "an application is brought back as root, on the host of its engine";
    Err(Error::usage(message, "run it there as root, or write its parts elsewhere with --target DIR"))
}

fn random_digits() -> Result<String> {
    let failed = |source| Error::Path { operation: "read random bytes from", path: "/dev/urandom".into(), source };
    crate::fs::random_hex().map_err(failed)
}

/// The table that is meant, if one is: it comes back by itself, into the server that runs.
fn only_table(parts: &[Part]) -> Result<Option<(&str, &str)>> {
    let table = |part: &'_ Part| matches!(part, Part::Database(Some(_), Some(_)));
    match parts {
        [Part::Database(Some(name), Some(table))] => Ok(Some((name, table))),
        parts if parts.iter().any(table) => {
            Err(Error::usage("a table comes back by itself", "give the command once for it, and again for the rest"))
        }
        _ => Ok(None),
    }
}

/// What `--only` names.
///
/// # Errors
/// It means nothing.
pub(super) fn parts(only: &[String]) -> Result<Vec<Part>> {
    let part = |text: &String| {
        let hint = "give env, files, file:PATH, image:NAME, volume:NAME, db:NAME or db:NAME/TABLE";
        Part::parse(text).ok_or_else(|| Error::usage(format!("--only {text} means nothing"), hint))
    };
    only.iter().map(part).collect()
}
