//! The plan: what becomes of every mount, file, secret, config, image and database of a project.
//!
//! It is made without changing anything. Each thing gets one line: captured, skipped by a rule, or not protected
//! with the reason; what was selected and cannot be protected makes the snapshot incomplete.

use super::contents::{is_image, take_databases, take_images, take_volumes};
use super::folders::{folders, project_files};
use super::observe::{Observed, is_active};
use super::project::Project;
use super::select::{Only, Stops, Writer, level_of};
use super::{Error, Result, images};
use crate::docker::{Container, Image, Status, Volume};
use crate::monitor::Warning;
use crate::repo::manifest::{Coverage, Level, SourceKind};
use crate::stack::compose::MountKind;
use crate::stack::source::database::Database;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is wanted of a capture.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Only these.
    pub only: Vec<Only>,
    /// No volume, image or database.
    pub files_only: bool,
    /// Stop everything that writes.
    pub stop: bool,
    /// What the project names and the engine does not have is no loss: the present is kept as it is.
    pub as_is: bool,
    /// Volumes of the engine that count as not there: somebody has just made them.
    pub absent: Vec<String>,
}

/// A folder to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderItem {
    /// Its name in the stack.
    pub name: String,
    /// Where it is.
    pub root: PathBuf,
    /// What is left out of it, beside what the person leaves out.
    pub patterns: Vec<String>,
    /// True for the project's own folder.
    pub is_project: bool,
    /// Who writes to it.
    pub writers: BTreeSet<Writer>,
}

impl FolderItem {
    /// How consistent its capture is. Nobody knows who else writes to a folder of the host.
    pub fn level(&self, stops: &Stops) -> Level {
        if self.writers.is_empty() { Level::Live } else { level_of(&self.writers, stops) }
    }
}

/// How a volume is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// From this folder.
    Disk(PathBuf),
    /// Through the engine, from a container that has it.
    Archive {
        /// Its id.
        container: String,
        /// Where it has it.
        path: String,
    },
    /// Through the engine, from a container that is made for it and never runs.
    Helper,
}

/// A volume to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeItem {
    /// Its name in the stack.
    pub name: String,
    /// What the engine knows of it.
    pub volume: Volume,
    /// True if it has no name of its own.
    pub anonymous: bool,
    /// Services that mount it, and where.
    pub mounts: BTreeSet<(String, String)>,
    /// How it is read.
    pub way: Way,
    /// Who writes to it.
    pub writers: BTreeSet<Writer>,
    /// Whose database's files it holds.
    pub database: Option<&'static str>,
    /// True if a live copy of a database's files was asked for.
    pub live: bool,
}

impl VolumeItem {
    /// How consistent its capture is.
    pub fn level(&self, stops: &Stops) -> Level {
        level_of(&self.writers, stops)
    }
}

/// A database to be dumped.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseItem {
    /// The container in which it runs.
    pub container: Container,
    /// What is known of it.
    pub database: Database,
}

/// An image to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageItem {
    /// What the engine knows of it.
    pub image: Image,
    /// As services name it.
    pub names: BTreeSet<String>,
    /// Services that name or run it.
    pub services: BTreeSet<String>,
}

impl ImageItem {
    /// Its name for people.
    pub fn name(&self) -> String {
        let named = self.names.first().or(self.image.tags.first());
        named.cloned().unwrap_or_else(|| self.image.id.trim_start_matches("sha256:").chars().take(12).collect())
    }
}

/// The plan.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Folders.
    pub folders: Vec<FolderItem>,
    /// Volumes.
    pub volumes: Vec<VolumeItem>,
    /// Images.
    pub images: Vec<ImageItem>,
    /// Databases that are dumped.
    pub databases: Vec<DatabaseItem>,
    /// Databases that run, dumped or not: their files are not copied.
    pub running: Vec<Database>,
    /// Which services stand still.
    pub stops: Stops,
    /// A line for each thing.
    pub coverage: Vec<Coverage>,
    /// What was selected and cannot be protected.
    pub missing: Vec<Warning>,
}

/// Makes the plan.
///
/// # Errors
/// The engine does not answer, or `--only` selects nothing.
pub fn make(project: &mut Project, wish: &Wish) -> Result<Plan> {
    let mut plan = Plan::default();
    let observed = std::mem::replace(&mut project.observed, Err(String::new()));
    let result = fill(&mut plan, project, observed, wish);
    project.observed = result?;
    for only in &wish.only {
        let named = |kind: SourceKind, names: &[&str]| only.means(kind, names);
        let found = plan.folders.iter().any(|item| named(SourceKind::Files, &[&item.name]))
            || plan.volumes.iter().any(|item| named(SourceKind::Volume, &[&item.name, &item.volume.name]))
            || plan.images.iter().any(|item| is_image(only, item))
            || plan.databases.iter().any(|item| named(SourceKind::Database, &[&item.database.service]));
        // What was looked at and cannot be captured was selected all the same, and its line says why it is not there.
        let told = plan.coverage.iter().filter(|line| line.reason != NOT_SELECTED);
        let told = told.filter(|line| line.kind == only.kind.word());
        if !found && !told.into_iter().any(|line| only.name.as_ref().is_none_or(|name| *name == line.what)) {
            return Err(Error::NothingSelected { selector: only.text(), there: there(&plan) });
        }
    }
    Ok(plan)
}

fn there(plan: &Plan) -> String {
    let selectable = ["files", "volume", "image", "database"];
    let lines = plan.coverage.iter().filter(|line| selectable.contains(&line.kind.as_str()));
    let all: Vec<String> = lines.map(|line| format!("{}:{}", line.kind, line.what)).collect();
    if all.is_empty() { "nothing that can be selected".to_owned() } else { all.join(" ") }
}

fn fill(
    plan: &mut Plan,
    project: &Project,
    mut observed: std::result::Result<Observed, String>,
    wish: &Wish,
) -> Result<std::result::Result<Observed, String>> {
    if let Ok(seen) = &observed {
        plan.stops = stops(project, seen, wish);
        take_databases(plan, project, seen, wish);
        if !wish.files_only {
            leave_paused(plan, seen);
        }
    }
    folders(plan, project, observed.as_ref().ok(), wish);
    project_files(plan, project, wish);
    match &mut observed {
        Ok(seen) if !wish.files_only => {
            take_volumes(plan, project, seen, wish);
            take_images(plan, project, seen, wish)?;
        }
        Ok(_) => unselected(plan, project, "skipped", "only files are captured (--files-only)"),
        Err(_) if wish.files_only => unselected(plan, project, "skipped", "only files are captured (--files-only)"),
        Err(reason) => {
            unselected(plan, project, "not protected", reason);
            if !project.model.services.is_empty() && wish.only.iter().all(|only| only.kind != SourceKind::Files) {
                plan.missing.push(Warning::missing("images, volumes and databases", reason.as_str()));
            }
        }
    }
    rest(plan, project);
    Ok(observed)
}

impl Plan {
    pub(super) fn line(&mut self, kind: &str, what: impl Into<String>, state: &str, reason: impl Into<String>) {
        let (kind, state) = (kind.to_owned(), state.to_owned());
        let line = Coverage { kind, what: what.into(), state, reason: reason.into() };
        // What two services mount is one thing.
        if !self.coverage.contains(&line) {
            self.coverage.push(line);
        }
    }

    /// Something selected that cannot be protected.
    pub(super) fn unprotected(&mut self, kind: &str, what: &str, reason: &str) {
        self.line(kind, what, "not protected", reason);
        self.missing.push(Warning::missing(format!("{kind} {what}"), reason));
    }
}

/// The reason of what `--only` leaves out.
pub(super) const NOT_SELECTED: &str = "not selected (--only)";

/// Which services stand still: those whose labels say so, or all that write.
fn stops(project: &Project, observed: &Observed, wish: &Wish) -> Stops {
    let mut stops = Stops::default();
    for (name, rules) in &project.rules {
        let active = || observed.of_service(name).filter(|c| is_active(c.state.status));
        let writes = || active().any(|c| c.mounts.iter().any(|mount| mount.writable && mount.kind != "tmpfs"));
        if rules.exclude_all || active().next().is_none() {
            continue;
        }
        if rules.stop || (wish.stop && writes()) {
            stops.stop.insert(name.clone());
        } else if rules.pause {
            stops.pause.insert(name.clone());
        }
    }
    stops
}

/// What a person has paused does not write, and stays as it is. A database is stopped all the same, and paused again
/// afterwards: a pause leaves its files in the middle of things.
fn leave_paused(plan: &mut Plan, observed: &Observed) {
    let runs = |name: &str| {
        let mut active = observed.of_service(name).filter(|c| is_active(c.state.status));
        active.any(|container| container.state.status != Status::Paused)
    };
    let is_database = |name: &str| plan.running.iter().any(|database| database.service == name);
    plan.stops.stop.retain(|name| is_database(name) || runs(name));
}

/// Lines for what is not looked at.
fn unselected(plan: &mut Plan, project: &Project, state: &str, reason: &str) {
    for name in project.model.volumes.keys() {
        plan.line("volume", name, state, reason);
    }
    let named = project.model.services.iter().map(|(name, service)| images::named(project, name, &service.image));
    for name in named.collect::<BTreeSet<_>>() {
        plan.line("image", name, state, reason);
    }
}

/// What is never captured, said so that nobody believes it is.
fn rest(plan: &mut Plan, project: &Project) {
    for (name, service) in &project.model.services {
        for mount in &service.mounts {
            match &mount.kind {
                MountKind::Tmpfs => {
                    plan.line(
                        "tmpfs",
                        format!("{name}:{}", mount.target),
                        "skipped",
                        "memory, gone with its container",
                    );
                }
                MountKind::Other(kind) => {
                    plan.unprotected(
                        kind,
                        &format!("{name}:{}", mount.target),
                        "snap does not know this kind of mount",
                    );
                }
                _ => {}
            }
        }
    }
    for network in project.model.networks.values().filter(|network| network.external) {
        plan.line("network", network.name.clone(), "skipped", "external: it must be there before a restore");
    }
}
