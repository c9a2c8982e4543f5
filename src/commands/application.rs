//! `snap create` of a Compose project: what is known of it, the plan, and the capture.

use super::create::{
    CreateOptions, CreateReport, Recorder, created, draft, finish_state, own_folders, previous, workers,
};
use super::env::{host_name, now_text};
use super::origin::tell_of_other;
use super::project::Project as Folder;
use super::{Env, Error, Result};
use crate::monitor::{Monitor, Quiet, Warning, lock};
use crate::repo::Repository;
use crate::repo::manifest::{Coverage, SourceEntry, Stats};
use crate::repo::writer::Session;
use crate::stack::application::describe::describe;
use crate::stack::application::plan::{self, Wish};
use crate::stack::application::take::{Surroundings, Taken, is_interruption, take};
use crate::stack::application::{self, Choice, Only, Plan, Project, load};
use crate::stack::compose::selection::looks_like_compose;
use crate::stack::compose::{Selection, ToolChoice};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// What is said of the project on the command line.
#[derive(Debug, Clone, Default)]
pub struct ComposeOptions {
    /// Compose files.
    pub files: Vec<PathBuf>,
    /// Env files.
    pub env_files: Vec<PathBuf>,
    /// Profiles.
    pub profiles: Vec<String>,
    /// The project's name.
    pub project: Option<String>,
    /// Only these: `KIND[:NAME]`.
    pub only: Vec<String>,
    /// No volume, image or database.
    pub files_only: bool,
    /// Stop everything that writes.
    pub stop: bool,
    /// What the project names and is not there is no loss.
    pub as_is: bool,
    /// Volumes of the engine that count as not there.
    pub absent: Vec<String>,
}

impl ComposeOptions {
    fn is_said(&self) -> bool {
        !(self.files.is_empty() && self.project.is_none() && self.profiles.is_empty() && self.only.is_empty())
            || self.stop
            || !self.env_files.is_empty()
    }
}

/// An application that is ready to be captured.
#[derive(Debug)]
pub struct Prepared {
    project: Project,
    plan: Plan,
    notes: Vec<Warning>,
}

impl Prepared {
    /// The name that the project has.
    pub fn stack(&self) -> &str {
        &self.project.model.name
    }
}

/// What `create --plan` says.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// The stack.
    pub stack: String,
    /// The folder.
    pub directory: String,
    /// Services that would be stopped.
    pub stops: Vec<String>,
    /// Services that would be paused.
    pub pauses: Vec<String>,
    /// A line for each thing.
    pub coverage: Vec<Coverage>,
    /// What would make the snapshot incomplete, and what else there is to know.
    pub warnings: Vec<Warning>,
}

/// Looks at what is to be captured; `None` if the folder is no application. Nothing is changed, and for a folder
/// without any sign of Compose the engine is not asked.
///
/// # Errors
/// Compose refuses the project, a label or a setting is wrong, or what is to be selected is not there.
pub fn prepare(env: &Env, folder: &Folder, options: &CreateOptions) -> Result<Option<Prepared>> {
    let settings = super::settings::read(&folder.root)?;
    let said = &options.compose;
    let mut choice = Choice {
        directory: folder.root.clone(),
        files: said.files.iter().map(|file| file_in(&folder.root, file)).collect(),
        env_files: said.env_files.iter().map(|file| file_in(&folder.root, file)).collect(),
        profiles: said.profiles.clone(),
        project: said.project.clone(),
        tool: ToolChoice::Any,
        services: Default::default(),
    };
    settings.complete(&mut choice, &folder.root)?;
    let selection = Selection { directory: folder.root.clone(), files: choice.files.clone(), ..Selection::default() };
    let is_project = !selection.complete(|name| std::env::var(name).ok()).files.is_empty();
    if !is_project && !looks_like_compose(&folder.root) {
        if said.is_said() {
            let message = format!("{} is no Compose project", folder.root.display());
            return Err(Error::usage(message, "name its Compose file with -f, or leave these options out"));
        }
        return Ok(None);
    }
    let quiet = Quiet::default();
    let mut project = match load(&choice, &quiet) {
        Ok(Some(project)) => project,
        Ok(None) => return Ok(None),
        Err(application::Error::Compose(error)) if said.files_only => {
            let message = format!("{error}; only its folder is captured");
            env.monitor.warn(&Warning::note(folder.name.clone(), message));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let only = said.only.iter().map(|text| {
        let hint = "give files, volume:NAME, image:NAME or database:NAME";
        Only::parse(text).ok_or_else(|| Error::usage(format!("--only {text} means nothing"), hint))
    });
    let (only, as_is) = (only.collect::<Result<_>>()?, said.as_is);
    let absent = said.absent.clone();
    let wish = Wish { only, files_only: said.files_only, stop: said.stop, as_is, absent };
    let plan = plan::make(&mut project, &wish)?;
    Ok(Some(Prepared { project, plan, notes: quiet.warnings() }))
}

/// A file as a person means it: in the project's folder, or else from where they are.
fn file_in(root: &std::path::Path, file: &std::path::Path) -> PathBuf {
    let inside = root.join(file);
    if inside.exists() { inside } else { std::path::absolute(file).unwrap_or(inside) }
}

/// The plan, for `--plan`; of a folder that is no application it is one line.
pub fn plan_report(folder: &Folder, prepared: Option<&Prepared>) -> PlanReport {
    let directory = folder.root.display().to_string();
    let Some(prepared) = prepared else {
        let line = Coverage {
            kind: "files".to_owned(),
            what: directory.clone(),
            state: "captured".to_owned(),
            reason: "all files that no rule leaves out".to_owned(),
        };
        let stack = folder.name.clone();
        return PlanReport { stack, directory, stops: vec![], pauses: vec![], coverage: vec![line], warnings: vec![] };
    };
    let plan = &prepared.plan;
    PlanReport {
        stack: prepared.project.model.name.clone(),
        directory,
        stops: plan.stops.stop.iter().cloned().collect(),
        pauses: plan.stops.pause.iter().cloned().collect(),
        coverage: plan.coverage.clone(),
        warnings: plan.missing.iter().chain(&prepared.notes).cloned().collect(),
    }
}

/// Makes a snapshot of an application.
///
/// # Errors
/// Nothing was published, and all services run as before.
pub fn create(
    env: &Env,
    repository: &Repository,
    options: &CreateOptions,
    folder: &Folder,
    prepared: &Prepared,
) -> Result<CreateReport> {
    let started = Instant::now();
    let time = now_text();
    let Prepared { project, plan, notes } = prepared;
    let stack = options.stack.clone().unwrap_or_else(|| project.model.name.clone());
    let monitor = Recorder::new(env);
    notes.iter().chain(&plan.missing).for_each(|warning| monitor.warn(warning));
    let before = repository.snapshots()?;
    tell_of_other(&before, &host_name(), &stack, &folder.root, &monitor);
    repository.sync_for_writing(&monitor)?;
    let session = Session::begin(repository, options.level)?;
    let around = Surroundings {
        repository,
        session: &session,
        stack: &stack,
        rules: options.rules(),
        skip: own_folders(env, repository, &folder.root)?,
        before: &before,
        records: env.folders.stopped(),
        workers: workers(options),
    };
    let mut taken = match take(project, plan, &around, &monitor) {
        Ok(taken) => taken,
        Err(error) => {
            // What is stored already need not be stored again by the next run.
            let _ = session.checkpoint();
            return Err(if is_interruption(&error) { crate::repo::Error::Interrupted.into() } else { error.into() });
        }
    };
    monitor.phase("storing", crate::monitor::Unit::Items, None);
    session.checkpoint()?;
    taken.complete(&session)?;
    let names = session.pack_names()?;
    let mut made = draft(repository, options, folder, stack, time, &before);
    let warnings = lock(&monitor.warnings).clone();
    made.project = Some(describe(project, &plan.stops));
    made.complete = !warnings.iter().any(|warning| warning.incomplete);
    let Taken { sources, states, needs, files_changed, bytes_read, downtime, lines, .. } = taken;
    made.coverage = coverage(plan, &sources, lines, &warnings);
    made.warnings = warnings.iter().map(Into::into).collect();
    made.stats = Stats {
        files: sources.iter().map(|source| source.files).sum(),
        files_changed,
        bytes_read,
        bytes_new: sources.iter().map(|source| source.new_bytes).sum(),
        bytes_stored: session.bytes().1,
        seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    };
    made.sources = sources;
    let id = session.commit(&needs, &mut made)?;
    for (state, path) in states {
        finish_state(state, &names, &path, &*env.monitor);
    }
    let previous = previous(&before, &made, &folder.root);
    let running = made.project.as_ref().map(|project| project.services.iter().filter(|s| s.running > 0).count());
    Ok(CreateReport {
        downtime: Some(downtime),
        services_running: running.map(|count| count as u64),
        ..created(id, made, warnings, previous, repository)
    })
}

/// The plan's lines, as they came true.
fn coverage(plan: &Plan, sources: &[SourceEntry], told: Vec<Coverage>, warnings: &[Warning]) -> Vec<Coverage> {
    let mut lines = plan.coverage.clone();
    for told in told {
        match lines.iter_mut().find(|line| line.kind == told.kind && line.what == told.what) {
            Some(line) => *line = told,
            None => lines.push(told),
        }
    }
    for line in lines.iter_mut().filter(|line| line.state == "captured") {
        let subject = format!("{} {}", line.kind, line.what);
        if let Some(warning) = warnings.iter().find(|warning| warning.incomplete && warning.subject == subject) {
            line.state = "not protected".to_owned();
            line.reason.clone_from(&warning.message);
        }
    }
    for source in sources {
        lines.extend(source.sqlite.iter().map(|database| Coverage {
            kind: "sqlite".to_owned(),
            what: format!("{}/{database}", source.name),
            state: "captured".to_owned(),
            reason: "SQLite's online backup, one transaction".to_owned(),
        }));
    }
    lines
}
