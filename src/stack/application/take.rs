//! Capturing an application by its plan, in one session.
//!
//! Hooks run first. What no service has to stand still for is read while everything runs; then those services that
//! must are stopped, only for as long as it takes to read what they write to, and started again; then the other hooks
//! run, whatever happened. What one source lacks makes the snapshot incomplete and does not end the others; what the
//! repository lacks ends all.

use super::Error;
use super::guard::{Downtime, Held, held};
use super::helper;
use super::observe::{Observed, is_active, is_one_off, service_of};
use super::plan::{FolderItem, Plan, VolumeItem, Way};
use super::project::Project;
use super::select::{Stops, Writer};
use super::take_engine::{take_databases, take_images};
use crate::docker::{ExecSpec, Status};
use crate::monitor::{Monitor, Quiet, Warning};
use crate::repo::manifest::{Coverage, Level, Rules, SourceEntry, SourceKind};
use crate::repo::needs::Needs;
use crate::repo::state::StateWriter;
use crate::repo::sync::Chain;
use crate::repo::writer::{PackRef, Session};
use crate::repo::{self, Repository, SnapshotSet};
use crate::stack::capture::{self, FolderOptions, capture_folder};
use crate::stack::files::{Excludes, OwnFolders};
use crate::stack::source::image::CapturedImage;
use crate::stack::source::volume::VolumeCapture;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(600);

/// With what an application is captured.
pub struct Surroundings<'a, 's> {
    /// The repository.
    pub repository: &'a Repository,
    /// The run.
    pub session: &'a Session<'s>,
    /// The stack's name: file-state caches go by it.
    pub stack: &'a str,
    /// What the person leaves out of folders.
    pub rules: Rules,
    /// Folders that are never captured, by device and inode number.
    pub skip: OwnFolders,
    /// The snapshots that there are.
    pub before: &'a SnapshotSet,
    /// Where records of stopped services are kept.
    pub records: PathBuf,
    /// Threads.
    pub workers: usize,
}

/// What was captured.
#[derive(Default)]
pub struct Taken {
    /// The sources for the manifest: the project's folder first.
    pub sources: Vec<SourceEntry>,
    /// The next file-state caches, to be finished once the manifest is committed.
    pub states: Vec<(StateWriter, PathBuf)>,
    /// Images, which become sources when all is stored: [`Taken::complete`].
    pub images: Vec<CapturedImage>,
    /// How each image and database was captured.
    pub lines: Vec<Coverage>,
    /// Segments that they need.
    pub needs: Needs<PackRef>,
    /// Regular files that were read.
    pub files_changed: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// How long services stood still.
    pub downtime: Downtime,
}

/// Something to be captured.
enum Item<'p> {
    Folder(&'p FolderItem),
    Volume(&'p VolumeItem),
}

impl Item<'_> {
    fn writers(&self) -> &BTreeSet<Writer> {
        match self {
            Item::Folder(item) => &item.writers,
            Item::Volume(item) => &item.writers,
        }
    }

    fn must_wait(&self, stops: &Stops) -> bool {
        self.writers().iter().any(|writer| stops.holds(&writer.service))
    }
}

/// Captures what the plan says.
///
/// # Errors
/// The repository cannot be written, the project's folder cannot be read, a service cannot be stopped, or the person
/// stops the work. Services run again as before in any case.
pub fn take(
    project: &Project,
    plan: &Plan,
    around: &Surroundings<'_, '_>,
    monitor: &dyn Monitor,
) -> std::result::Result<Taken, TakeError> {
    let mut taken = Taken::default();
    let observed = project.observed.as_ref().ok();
    let hooked = run_hooks(project, observed, true, monitor);
    let result = take_sources(project, plan, around, observed, &mut taken, monitor);
    if hooked {
        run_hooks(project, observed, false, monitor);
    }
    result?;
    let rank = |source: &SourceEntry| (source.kind, source.root != project.selection.directory.display().to_string());
    taken.sources.sort_by_key(|source| (rank(source), source.name.clone()));
    Ok(taken)
}

/// What ends a capture.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The application.
    #[error(transparent)]
    Application(#[from] Error),
    /// A source, or the repository.
    #[error(transparent)]
    Capture(#[from] capture::Error),
}

fn take_sources(
    project: &Project,
    plan: &Plan,
    around: &Surroundings<'_, '_>,
    observed: Option<&Observed>,
    taken: &mut Taken,
    monitor: &dyn Monitor,
) -> std::result::Result<(), TakeError> {
    if let Some(observed) = observed {
        take_images(plan, around, observed, taken, monitor)?;
        take_databases(plan, around, observed, taken, monitor)?;
    }
    let folders = plan.folders.iter().map(Item::Folder);
    let items = folders.chain(plan.volumes.iter().map(Item::Volume));
    let (later, now): (Vec<_>, Vec<_>) = items.partition(|item| item.must_wait(&plan.stops));
    for item in &now {
        take_item(item, plan, around, observed, taken, monitor)?;
    }
    let Some(observed) = observed else { return Ok(()) };
    let services: BTreeSet<&str> = later
        .iter()
        .flat_map(|item| item.writers().iter().map(|writer| writer.service.as_str()))
        .filter(|service| plan.stops.holds(service))
        .collect();
    let containers = to_hold(project, observed, &plan.stops, &services);
    let work = || {
        let each = |item| take_item(item, plan, around, Some(observed), taken, monitor);
        later.iter().try_for_each(each)
    };
    let (result, downtime) = held(&observed.engine, &around.records, &project.model.name, containers, monitor, work)?;
    taken.downtime = downtime;
    result
}

/// The containers that stand still, in the order in which they start.
fn to_hold(project: &Project, observed: &Observed, stops: &Stops, services: &BTreeSet<&str>) -> Vec<Held> {
    let mut out = Vec::new();
    for name in project.order.iter().filter(|name| services.contains(name.as_str())) {
        let needs_healthy = |other: &&String| {
            let depends = project.model.services.get(*other).and_then(|service| service.depends_on.get(name));
            services.contains(other.as_str()) && depends.is_some_and(|depends| depends.condition == "service_healthy")
        };
        let is_needed_healthy = project.order.iter().any(|other| needs_healthy(&other));
        for container in observed.of_service(name) {
            let pause = stops.pause.contains(name);
            // What is paused already stays as it is, unless it is to be stopped.
            if is_active(container.state.status) && !(pause && container.state.status == Status::Paused) {
                out.push(Held {
                    id: container.id.clone(),
                    name: container.name.clone(),
                    service: name.clone(),
                    pause,
                    is_needed_healthy,
                    was_paused: container.state.status == Status::Paused,
                });
            }
        }
    }
    out
}

fn take_item(
    item: &Item<'_>,
    plan: &Plan,
    around: &Surroundings<'_, '_>,
    observed: Option<&Observed>,
    taken: &mut Taken,
    monitor: &dyn Monitor,
) -> std::result::Result<(), TakeError> {
    let (subject, is_project, result) = match item {
        Item::Folder(item) => {
            let result = take_folder(item, item.level(&plan.stops), around, taken, monitor);
            (format!("files {}", item.name), item.is_project, result)
        }
        Item::Volume(item) => {
            let level = item.level(&plan.stops);
            let result = take_volume(item, level, around, observed, taken, monitor);
            (format!("volume {}", item.name), false, result)
        }
    };
    match result {
        // One source that cannot be read is no reason to lose the others.
        Err(error @ (capture::Error::Files(_) | capture::Error::Stream { .. })) if !is_project => {
            monitor.warn(&Warning::missing(subject, Chain(&error).to_string()));
            Ok(())
        }
        other => Ok(other?),
    }
}

fn take_folder(
    item: &FolderItem,
    level: Level,
    around: &Surroundings<'_, '_>,
    taken: &mut Taken,
    monitor: &dyn Monitor,
) -> capture::Result<()> {
    let mut rules = around.rules.clone();
    rules.exclude.extend(item.patterns.iter().cloned());
    let exclude = Excludes::new(&rules.exclude)?.ignore_files(rules.ignore_files).cache_tags(rules.cache_tags);
    let options = FolderOptions {
        name: item.name.clone(),
        exclude,
        one_file_system: !rules.cross_mounts,
        skip: around.skip.clone(),
        state: state_path(around, SourceKind::Files, item.root.as_os_str().as_encoded_bytes()),
        workers: around.workers,
    };
    let (repository, session) = (around.repository, around.session);
    let done = capture_folder(repository, session, &item.root, &options, &mut taken.needs, monitor)?;
    taken.files_changed += done.files_changed;
    taken.bytes_read += done.bytes_read;
    taken.states.push((done.state, options.state));
    taken.sources.push(SourceEntry { level, rules: Some(rules), ..done.source });
    Ok(())
}

fn take_volume(
    item: &VolumeItem,
    level: Level,
    around: &Surroundings<'_, '_>,
    observed: Option<&Observed>,
    taken: &mut Taken,
    monitor: &dyn Monitor,
) -> capture::Result<()> {
    let state = state_path(around, SourceKind::Volume, item.volume.name.as_bytes());
    let capture = VolumeCapture {
        repository: around.repository,
        session: around.session,
        skip: around.skip.clone(),
        state: state.clone(),
        workers: around.workers,
    };
    let open = |container: &str, path: &str| -> std::io::Result<Box<dyn Read>> {
        let Some(observed) = observed else { return Err(std::io::Error::other("there is no engine")) };
        let body = observed.engine.read_archive(container, path, monitor).map_err(std::io::Error::other)?;
        Ok(Box::new(body))
    };
    let helped = |source| capture::Error::Stream { path: item.name.clone(), source };
    let made = match (&item.way, observed) {
        (Way::Helper, Some(observed)) => Some(helper::begin(&observed.engine, &item.volume.name).map_err(helped)?),
        _ => None,
    };
    let through = made.as_ref().map(|made| VolumeItem {
        way: Way::Archive { container: made.name().to_owned(), path: helper::PLACE.to_owned() },
        ..item.clone()
    });
    let item = through.as_ref().unwrap_or(item);
    let done = capture.capture(item, level, &open, &mut taken.needs, monitor)?;
    taken.files_changed += done.files_changed;
    taken.bytes_read += done.bytes_read;
    taken.states.extend(done.state.map(|written| (written, state)));
    taken.sources.push(done.source);
    Ok(())
}

/// The file-state cache of one source of a stack.
fn state_path(around: &Surroundings<'_, '_>, kind: SourceKind, what: &[u8]) -> PathBuf {
    state_file(around.repository.catalog().folder(), around.stack, kind, what)
}

/// The file-state cache of one source of a stack, in the folder of the catalog.
pub fn state_file(folder: &Path, stack: &str, kind: SourceKind, what: &[u8]) -> PathBuf {
    let lineage = [stack.as_bytes(), b"\0", kind.word().as_bytes(), b"\0", what].concat();
    folder.join(format!("files-{}", &blake3::hash(&lineage).to_hex().as_str()[..16]))
}

/// Runs the hooks before or after; true if there are any. One that fails makes the snapshot incomplete: what it was
/// to make ready is not.
fn run_hooks(project: &Project, observed: Option<&Observed>, before: bool, monitor: &dyn Monitor) -> bool {
    let mut any = false;
    for name in &project.order {
        let Some(rules) = project.rules.get(name) else { continue };
        any |= rules.hook_pre.is_some() || rules.hook_post.is_some();
        let (label, hook) =
            if before { ("snap.hook.pre", &rules.hook_pre) } else { ("snap.hook.post", &rules.hook_post) };
        let Some(command) = hook else { continue };
        let Some(observed) = observed else {
            monitor.warn(&Warning::missing(name, format!("{label} was not run: the engine does not answer")));
            continue;
        };
        let running = |c: &&crate::docker::Container| c.state.status == Status::Running && !is_one_off(c);
        let Some(container) = observed.containers.iter().filter(|c| service_of(c) == name).find(running) else {
            monitor.warn(&Warning::note(name, format!("{label} was not run: the service does not run")));
            continue;
        };
        monitor.item(&format!("{label} of {name}"));
        let mut spec = ExecSpec::new(["sh", "-c", command.as_str()]);
        spec.limit = Some(HOOK_LIMIT);
        // What a hook before has begun is ended also when the person stops the capture.
        let quiet = Quiet::default();
        let watch: &dyn Monitor = if before { monitor } else { &quiet };
        let failed = match observed.engine.run(&container.id, &spec, None, watch) {
            Ok(output) if output.exit_code == 0 => continue,
            Ok(output) => format!("{label} ended with {}", output.exit_code),
            Err(error) => format!("{label} failed: {error}"),
        };
        monitor.warn(&Warning::missing(name, failed));
    }
    any
}

/// True if the error is the person's wish to stop.
pub fn is_interruption(error: &TakeError) -> bool {
    match error {
        TakeError::Application(Error::Docker(error)) => error.is_cancelled(),
        TakeError::Capture(capture::Error::Repo(repo::Error::Interrupted)) => true,
        _ => false,
    }
}
