//! The sources that only the engine can give: images, and databases by their own clients.

use super::folders::folder_writers;
use super::plan::{DatabaseItem, Plan};
use super::select::level_of;
use super::take::{Surroundings, Taken};
use super::{Observed, project::Project};
use crate::docker::Container;
use crate::monitor::{Monitor, Quiet, Unit, Warning};
use crate::repo::entry::Time;
use crate::repo::manifest::{Authority, Coverage, Detail, Level, SourceKind};
use crate::repo::writer::Session;
use crate::repo::{self, SnapshotSet};
use crate::stack::capture;
use crate::stack::files::Excludes;
use crate::stack::source::database::{self, Database, Into, Settings, compare, summary};
use crate::stack::source::image::{ImageCapture, KnownImages, Outcome, WantedImage};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

/// More of a server's configuration is not read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The databases that run in the project's containers, by service, and why one that is said to be one is not known.
pub fn find_databases(project: &Project, observed: &Observed) -> (Vec<DatabaseItem>, Vec<Warning>) {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for name in &project.order {
        if project.rules.get(name).is_some_and(|rules| rules.exclude_all) {
            continue;
        }
        let containers: Vec<&Container> = observed.of_service(name).collect();
        let container = containers.iter().find(|c| c.state.is_up()).or(containers.first());
        let Some(container) = container else { continue };
        let said = project.labels.get(name).map(Settings::from_labels).unwrap_or_default();
        match database::find(container, &said.or(Settings::from_labels(&container.labels))) {
            Ok(Some(mut database)) => {
                if let Some(folder) = folder_by_config(observed, container, &database) {
                    database.keeps_data_in(container, folder);
                }
                found.push(DatabaseItem { container: (*container).clone(), database });
            }
            Ok(None) => {}
            Err(reason) => wrong.push(Warning::missing(format!("database {name}"), reason)),
        }
    }
    (found, wrong)
}

/// Where the server's own configuration says that its data is; `None` if that says nothing else than its command.
fn folder_by_config(observed: &Observed, container: &Container, database: &Database) -> Option<PathBuf> {
    let path = database.config_file(container)?.display().to_string();
    let quiet = Quiet::default();
    // What cannot be read says nothing.
    let mut archive = tar::Archive::new(observed.engine.read_archive(&container.id, &path, &quiet).ok()?);
    let file = archive.entries().ok()?.next()?.ok()?;
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX).read_to_string(&mut text).ok()?;
    Database::folder_in(&text)
}

/// Captures the images of the plan.
pub(super) fn take_images(
    plan: &Plan,
    around: &Surroundings<'_, '_>,
    observed: &Observed,
    taken: &mut Taken,
    monitor: &dyn Monitor,
) -> capture::Result<()> {
    if plan.images.is_empty() {
        return Ok(());
    }
    monitor.phase("reading images", Unit::Bytes, None);
    let known = KnownImages::of(around.before);
    let capture = ImageCapture {
        repository: around.repository,
        session: around.session,
        engine: &observed.engine,
        known: &known,
        workers: around.workers,
    };
    for item in &plan.images {
        let wanted = WantedImage {
            image: item.image.clone(),
            name: item.name(),
            services: item.services.iter().cloned().collect(),
        };
        match capture.capture(&wanted, &mut taken.needs, monitor)? {
            Outcome::Captured(captured) => {
                taken.bytes_read += captured.bytes_read;
                taken.lines.push(Coverage {
                    kind: SourceKind::Image.word().to_owned(),
                    what: wanted.name,
                    ..captured.coverage.clone()
                });
                taken.images.push(*captured);
            }
            Outcome::Missed { warning, .. } => {
                monitor.warn(&Warning { subject: format!("image {}", wanted.name), ..warning });
            }
        }
    }
    Ok(())
}

/// Dumps the databases of the plan. What is wrong with one makes the snapshot incomplete and does not end the others.
pub(super) fn take_databases(
    plan: &Plan,
    around: &Surroundings<'_, '_>,
    observed: &Observed,
    taken: &mut Taken,
    monitor: &dyn Monitor,
) -> capture::Result<()> {
    let now = jiff::Timestamp::now();
    let time = Time { seconds: now.as_second(), nanos: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) };
    let into = Into { repository: around.repository, session: around.session, workers: around.workers, time };
    let last = last_dumps(around.before, around.stack);
    for item in &plan.databases {
        let name = &item.database.service;
        monitor.phase("dumping", Unit::Bytes, None);
        monitor.item(name);
        let (engine, needs) = (&observed.engine, &mut taken.needs);
        let captured = match database::capture(engine, &item.container, &item.database, &into, needs, monitor) {
            Ok(captured) => captured,
            Err(database::Error::Database { subject, reason }) => {
                let reason = if subject == *name { reason } else { format!("{subject}: {reason}") };
                monitor.warn(&Warning::missing(format!("database {name}"), reason));
                continue;
            }
            Err(database::Error::Capture(error)) => return Err(error),
        };
        captured.warnings.iter().for_each(|warning| monitor.warn(warning));
        let mut source = captured.source;
        if let Some(Detail::Database(detail)) = &mut source.detail {
            if let Some(before) = last.get(name) {
                compare(before, detail).iter().for_each(|warning| monitor.warn(warning));
            }
            taken.lines.push(Coverage {
                kind: SourceKind::Database.word().to_owned(),
                what: name.clone(),
                state: "captured".to_owned(),
                reason: format!("{} {}: {}", item.database.kind.name(), detail.version, summary(detail)),
            });
            if is_copied_cold(plan, item, around, observed)? {
                detail.authority = Authority::Volume;
            }
        }
        taken.bytes_read += source.bytes;
        taken.sources.push(source);
    }
    Ok(())
}

/// True if the server's own files are captured while it is stopped: they are then newer than the dump.
fn is_copied_cold(
    plan: &Plan,
    item: &DatabaseItem,
    around: &Surroundings<'_, '_>,
    observed: &Observed,
) -> capture::Result<bool> {
    let stops = &plan.stops;
    if !stops.stop.contains(&item.database.service) {
        return Ok(false);
    }
    let holds = |name: &str| item.database.mounts.iter().any(|mount| mount.name == name);
    if plan.volumes.iter().any(|volume| holds(&volume.volume.name) && volume.level(stops) == Level::Stopped) {
        return Ok(true);
    }
    for mount in item.database.mounts.iter().filter(|mount| mount.kind == "bind") {
        let path = std::fs::canonicalize(&mount.source).unwrap_or_else(|_| mount.source.clone());
        for folder in &plan.folders {
            let Ok(inner) = path.strip_prefix(&folder.root) else { continue };
            let patterns: Vec<&String> = around.rules.exclude.iter().chain(&folder.patterns).collect();
            let is_captured = !Excludes::new(&patterns)?.leaves_out_folder(inner);
            if is_captured && level_of(&folder_writers(Some(observed), &path), stops) == Level::Stopped {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The newest complete snapshot's dumps of the stack on this host, by service.
fn last_dumps(before: &SnapshotSet, stack: &str) -> BTreeMap<String, crate::repo::manifest::DatabaseDetail> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut out = BTreeMap::new();
    for snapshot in before.snapshots.iter().filter(|s| s.manifest.lineage() == (host.as_str(), stack)) {
        for source in &snapshot.manifest.sources {
            if let Some(Detail::Database(detail)) = &source.detail {
                out.insert(detail.service.clone(), detail.clone());
            }
        }
    }
    out
}

impl Taken {
    /// Completes the sources once all of the session has its names.
    ///
    /// # Errors
    /// Something of the session is not stored.
    pub fn complete(&mut self, session: &Session<'_>) -> repo::Result<()> {
        for mut image in std::mem::take(&mut self.images) {
            image.name_needs(session)?;
            self.sources.push(image.source);
        }
        self.sources.sort_by_key(|source| source.kind);
        Ok(())
    }
}
