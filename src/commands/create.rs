//! `snap create`: captures a folder as a snapshot.

use super::application::{ComposeOptions, Prepared};
use super::env::{host_name, now_text, threads};
use super::origin::{is_other, tell_of_other};
use super::project::Project;
use super::{Env, Error, Result};
use crate::id::SnapshotId;
use crate::monitor::{Monitor, Unit, Warning, lock};
use crate::repo::manifest::{Coverage, Detail, Manifest, Rules, SourceEntry, SourceKind, Stats, VERSION};
use crate::repo::needs::Needs;
use crate::repo::writer::Session;
use crate::repo::{self, Repository, SnapshotSet};
use crate::stack::application::guard::Downtime;
use crate::stack::application::take::state_file;
use crate::stack::capture::{FolderOptions, capture_folder};
use crate::stack::files::{Excludes, OwnFolders};
use crate::stack::source::database::{Kind, summary};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How a snapshot is made.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The folder.
    pub dir: PathBuf,
    /// Labels.
    pub tags: Vec<String>,
    /// A remark.
    pub note: String,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Leave out what `CACHEDIR.TAG` marks.
    pub skip_caches: bool,
    /// Do not read `.snapignore` files.
    pub no_ignore_files: bool,
    /// Enter folders on which other file systems are mounted.
    pub cross_mounts: bool,
    /// The stack's name, if not the project's own.
    pub stack: Option<String>,
    /// zstd level.
    pub level: i32,
    /// Threads; 0 for one for each processor.
    pub workers: usize,
    /// What is said of the Compose project.
    pub compose: ComposeOptions,
}

impl CreateOptions {
    /// What is left out by rule, as the manifest keeps it.
    pub(super) fn rules(&self) -> Rules {
        Rules {
            exclude: self.exclude.clone(),
            ignore_files: !self.no_ignore_files,
            cache_tags: self.skip_caches,
            cross_mounts: self.cross_mounts,
        }
    }
}

/// The snapshot that was made.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedSnapshot {
    /// Its id.
    pub id: String,
    /// When the capture began, RFC 3339.
    pub time: String,
    /// The host.
    pub host: String,
    /// The stack.
    pub stack: String,
    /// Labels.
    pub tags: Vec<String>,
    /// True if everything selected is in it.
    pub complete: bool,
    /// The sources.
    pub sources: Vec<CreatedSource>,
}

/// One source of it.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedSource {
    /// Which kind.
    pub kind: repo::manifest::SourceKind,
    /// Its name.
    pub name: String,
    /// Bytes of content.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes that were new.
    pub new_bytes: u64,
    /// What more there is to say of it, for people; empty for files.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// How consistent it is.
    pub level: repo::manifest::Level,
}

/// What `create` says.
#[derive(Debug, Clone, Serialize)]
pub struct CreateReport {
    /// The snapshot.
    pub snapshot: CreatedSnapshot,
    /// What it cost.
    pub stats: Stats,
    /// What the person should know.
    pub warnings: Vec<Warning>,
    /// What was captured and what was not.
    pub coverage: Vec<Coverage>,
    /// When the newest complete snapshot of the stack before this one was made, RFC 3339.
    pub previous: Option<String>,
    /// Where the repository is.
    pub repository: String,
    /// How long services stood still; absent for a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime: Option<Downtime>,
    /// How many services ran; absent for a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services_running: Option<u64>,
}

/// A monitor that also keeps the warnings for the manifest.
pub(super) struct Recorder {
    shown: Arc<dyn Monitor>,
    pub(super) warnings: Mutex<Vec<Warning>>,
}

impl Recorder {
    pub(super) fn new(env: &Env) -> Self {
        Self { shown: Arc::clone(&env.monitor), warnings: Mutex::new(Vec::new()) }
    }
}

impl Monitor for Recorder {
    fn phase(&self, name: &str, unit: Unit, total: Option<u64>) {
        self.shown.phase(name, unit, total);
    }
    fn total(&self, total: u64) {
        self.shown.total(total);
    }
    fn advance(&self, amount: u64) {
        self.shown.advance(amount);
    }
    fn item(&self, name: &str) {
        self.shown.item(name);
    }
    fn warn(&self, warning: &Warning) {
        lock(&self.warnings).push(warning.clone());
        self.shown.warn(warning);
    }
    fn cancelled(&self) -> bool {
        self.shown.cancelled()
    }
}

/// Makes a snapshot of `options.dir`, which [`super::application::prepare`] has found to be an application or not.
///
/// # Errors
/// Nothing was published: the folder or the repository cannot be used, or the person stopped it.
pub fn create(
    env: &Env,
    repository: &Repository,
    options: &CreateOptions,
    prepared: Option<&Prepared>,
) -> Result<CreateReport> {
    let project = Project::look(&options.dir)?;
    match prepared {
        Some(prepared) => super::application::create(env, repository, options, &project, prepared),
        None => create_of_folder(env, repository, options, &project),
    }
}

fn create_of_folder(
    env: &Env,
    repository: &Repository,
    options: &CreateOptions,
    project: &Project,
) -> Result<CreateReport> {
    let started = Instant::now();
    let time = now_text();
    let stack = options.stack.clone().unwrap_or_else(|| project.name.clone());
    let monitor = Recorder::new(env);
    let before = repository.snapshots()?;
    tell_of_other(&before, &host_name(), &stack, &project.root, &monitor);
    repository.sync_for_writing(&monitor)?;
    let folder = folder_options(env, repository, options, project, &stack)?;
    let session = Session::begin(repository, options.level)?;
    let mut needs = Needs::default();
    let captured = capture_folder(repository, &session, &project.root, &folder, &mut needs, &monitor);
    let captured = match captured {
        Ok(captured) => captured,
        Err(error) => {
            // What is stored already need not be stored again by the next run. A failure here does
            // not matter beside the first one.
            let _ = session.checkpoint();
            return Err(error.into());
        }
    };
    monitor.phase("storing", Unit::Items, None);
    session.checkpoint()?;
    let names = session.pack_names()?;
    let mut made = draft(repository, options, project, stack, time, &before);
    let warnings = lock(&monitor.warnings).clone();
    made.complete = !warnings.iter().any(|warning| warning.incomplete);
    made.coverage = coverage(project, &captured.source);
    made.warnings = warnings.iter().map(Into::into).collect();
    made.stats = Stats {
        files: captured.source.files,
        files_changed: captured.files_changed,
        bytes_read: captured.bytes_read,
        bytes_new: captured.source.new_bytes,
        bytes_stored: session.bytes().1,
        seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    };
    made.sources = vec![SourceEntry { rules: Some(options.rules()), ..captured.source }];
    let id = session.commit(&needs, &mut made)?;
    finish_state(captured.state, &names, &folder.state, &*env.monitor);
    let previous = previous(&before, &made, &project.root);
    Ok(created(id, made, warnings, previous, repository))
}

/// What `create` says of the snapshot `id`.
pub(super) fn created(
    id: SnapshotId,
    made: Manifest,
    warnings: Vec<Warning>,
    previous: Option<String>,
    repository: &Repository,
) -> CreateReport {
    CreateReport {
        previous,
        snapshot: CreatedSnapshot {
            id: id.to_string(),
            time: made.time,
            host: made.host,
            stack: made.stack,
            tags: made.tags,
            complete: made.complete,
            sources: made.sources.iter().map(created_source).collect(),
        },
        stats: made.stats,
        warnings,
        coverage: made.coverage,
        repository: repository.store().address(),
        downtime: None,
        services_running: None,
    }
}

/// The cache is worth less than the snapshot, which is safe by now.
pub(super) fn finish_state(
    state: repo::state::StateWriter,
    names: &std::collections::HashMap<repo::writer::PackRef, crate::id::PackId>,
    path: &Path,
    monitor: &dyn Monitor,
) {
    if let Err(error) = state.finish(names) {
        let message = format!("the file-state cache was not written ({error}); the next run reads every file");
        monitor.warn(&Warning::note(path.display().to_string(), message));
    }
}

fn created_source(source: &SourceEntry) -> CreatedSource {
    CreatedSource {
        kind: source.kind,
        name: source.name.clone(),
        bytes: source.bytes,
        files: source.files,
        new_bytes: source.new_bytes,
        about: about(source),
        level: source.level,
    }
}

/// What only its kind has, in a few words.
fn about(source: &SourceEntry) -> String {
    match &source.detail {
        Some(Detail::Database(detail)) => {
            let kind = Kind::from_word(&detail.engine).map_or(detail.engine.as_str(), |kind| kind.name());
            format!("{kind} {}: {}", detail.version, summary(detail))
        }
        Some(Detail::Image(detail)) => {
            let id = detail.id.trim_start_matches("sha256:");
            format!("sha256:{}", id.get(..8).unwrap_or(id))
        }
        Some(Detail::Volume(_)) | None => String::new(),
    }
}

pub(super) fn previous(before: &SnapshotSet, made: &Manifest, root: &Path) -> Option<String> {
    let complete = before.snapshots.iter().filter(|s| s.manifest.lineage() == made.lineage() && s.manifest.complete);
    complete.rev().find(|s| !is_other(s, root)).map(|snapshot| snapshot.manifest.time.clone())
}

pub(super) fn draft(
    repository: &Repository,
    options: &CreateOptions,
    project: &Project,
    stack: String,
    time: String,
    before: &SnapshotSet,
) -> Manifest {
    let host = host_name();
    let mut tags = options.tags.clone();
    tags.sort_unstable();
    tags.dedup();
    Manifest {
        version: VERSION,
        requires: Vec::new(),
        repository: repository.id(),
        predecessors: before.heads(&host, &stack),
        time,
        host,
        stack,
        tags,
        note: options.note.clone(),
        tool: concat!("snap ", env!("CARGO_PKG_VERSION")).to_owned(),
        project: None,
        git: project.git.clone(),
        complete: false,
        sources: Vec::new(),
        coverage: Vec::new(),
        warnings: Vec::new(),
        stats: Stats::default(),
        needs: Vec::new(),
    }
}

fn coverage(project: &Project, source: &SourceEntry) -> Vec<Coverage> {
    let line = |what: &str, state: &str, reason: &str| Coverage {
        kind: String::new(),
        what: what.to_owned(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    };
    let mut lines = vec![line(&project.root.display().to_string(), "captured", "all files that no rule leaves out")];
    for database in &source.sqlite {
        lines.push(line(database, "captured", "SQLite's online backup, one transaction"));
    }
    lines
}

fn folder_options(
    env: &Env,
    repository: &Repository,
    options: &CreateOptions,
    project: &Project,
    stack: &str,
) -> Result<FolderOptions> {
    let exclude =
        Excludes::new(&options.exclude)?.ignore_files(!options.no_ignore_files).cache_tags(options.skip_caches);
    let root = project.root.as_os_str().as_encoded_bytes();
    Ok(FolderOptions {
        name: project.name.clone(),
        exclude,
        one_file_system: !options.cross_mounts,
        skip: own_folders(env, repository, &project.root)?,
        state: state_file(repository.catalog().folder(), stack, SourceKind::Files, root),
        workers: workers(options),
    })
}

/// The folders that are snap's own and are never captured.
pub(super) fn own_folders(env: &Env, repository: &Repository, root: &Path) -> Result<OwnFolders> {
    let skip = env.own_folders(repository, root)?;
    let stat = std::fs::metadata(root).map_err(|source| Error::Path {
        operation: "open the folder",
        path: root.to_path_buf(),
        source,
    })?;
    if let Some(what) = skip.get(&(stat.dev(), stat.ino())) {
        let message = format!("{} is {what}", root.display());
        return Err(Error::usage(message, "capture the folder that you want to keep"));
    }
    Ok(skip)
}

/// How many threads read and compress.
pub(super) fn workers(options: &CreateOptions) -> usize {
    threads(options.workers).clamp(1, crate::limits::WORKERS_MAX)
}
