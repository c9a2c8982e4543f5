//! What a restore will change, and making all of it ready while services run.
//!
//! Planning compares and asks; it changes nothing. Making ready reads every chunk that will be needed, verifies it,
//! and puts it beside what is there. So a snapshot that is damaged, an image that the engine refuses, a disk without
//! room are known before the first service stops.

use super::database_files::unsaid;
use super::probes::listed;
use super::services::engine_error;
use super::stage_databases::DatabasePart;
use super::stage_files::{FolderPart, make_stage};
use super::stage_held::{HeldPart, is_exchanged, present};
use super::stage_volumes::VolumeTarget;
use super::wanted::Wanted;
use super::{Error, Result, Staged, Swap};
use crate::amount;
use crate::docker::Engine;
use crate::monitor::{Monitor, Unit};
use crate::repo::Repository;
use crate::repo::manifest::{Detail, ImageDetail, Manifest, SourceEntry, SourceKind, VolumeDetail};
use crate::repo::reader::Reader;
use crate::stack::application::observe::{PROJECT, is_active};
use crate::stack::source::image::load_image;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A volume.
pub(super) struct VolumePart<'m> {
    pub(super) target: VolumeTarget,
    source: &'m SourceEntry,
    detail: &'m VolumeDetail,
}

/// An image, and which of its tags name another one now.
pub(super) struct ImagePart<'m> {
    pub(super) source: &'m SourceEntry,
    pub(super) detail: &'m ImageDetail,
    pub(super) is_there: bool,
    pub(super) tags: BTreeMap<String, Option<String>>,
}

/// What will be done.
pub struct Plan<'m> {
    pub(super) restore: String,
    pub(super) folders: Vec<FolderPart<'m>>,
    /// Folders of the host with the files of servers that stood still when they were captured.
    pub(super) cold: Vec<PathBuf>,
    pub(super) volumes: Vec<VolumePart<'m>>,
    pub(super) held: Vec<HeldPart<'m>>,
    /// What differs in those, once they are mounted.
    pub(super) in_held: OnceCell<Vec<FolderPart<'m>>>,
    pub(super) databases: Vec<DatabasePart<'m>>,
    pub(super) images: Vec<ImagePart<'m>>,
    /// When the folders were compared, seconds since 1970.
    compared_at: i64,
    /// What will change, a line each.
    pub changes: Vec<String>,
    /// Bytes that must find room, by file system.
    needs: BTreeMap<u64, (PathBuf, u64)>,
}

/// What planning needs.
pub struct Planner<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The repository.
    pub repository: &'a Repository,
    /// The snapshot.
    pub manifest: &'a Manifest,
    /// The project's name: what belongs to others is not touched.
    pub project: &'a str,
    /// Digits that name this restore.
    pub restore: &'a str,
    /// What is brought back.
    pub wanted: Vec<Wanted<'a>>,
    /// True if only parts come back.
    pub only: bool,
    /// True if what the snapshot does not have goes aside.
    pub exact: bool,
    /// What never goes aside, by device and inode number: the repository, the key in use.
    pub keep: Vec<(u64, u64)>,
    /// What settings say of services, as labels.
    pub settings: &'a BTreeMap<String, BTreeMap<String, String>>,
    /// Threads.
    pub workers: usize,
    /// Shows progress.
    pub monitor: &'a dyn Monitor,
}

impl<'a> Planner<'a> {
    /// Finds out what has to be done.
    ///
    /// # Errors
    /// Something cannot be restored in place, is in use by others, or has no room; or the repository or the engine
    /// does not answer. Nothing was changed.
    pub fn plan(&self, reader: &mut Reader<'_>) -> Result<Plan<'a>> {
        let mut plan = Plan {
            restore: self.restore.to_owned(),
            folders: Vec::new(),
            cold: self.cold_folders()?,
            volumes: Vec::new(),
            held: Vec::new(),
            in_held: OnceCell::new(),
            databases: Vec::new(),
            images: Vec::new(),
            compared_at: jiff::Timestamp::now().as_second(),
            changes: Vec::new(),
            needs: BTreeMap::new(),
        };
        // What databases are loaded into is not compared as a folder.
        let (databases, others): (Vec<_>, Vec<_>) =
            self.wanted.iter().cloned().partition(|wanted| wanted.source.kind == SourceKind::Database);
        let mut others = others;
        self.monitor.phase("comparing", Unit::Items, Some(self.wanted.len() as u64));
        for wanted in databases {
            self.monitor.item(&wanted.source.name);
            self.any_database(&mut plan, wanted.source, &mut others, reader)?;
            self.monitor.advance(1);
        }
        for wanted in &others {
            self.monitor.item(&wanted.source.name);
            match (wanted.source.kind, &wanted.source.detail) {
                (SourceKind::Files, _) => self.folder(&mut plan, wanted, reader)?,
                (_, Some(Detail::Volume(detail))) => self.volume(&mut plan, wanted.source, detail)?,
                (_, Some(Detail::Image(detail))) => self.image(&mut plan, wanted.source, detail)?,
                (kind, _) => return Err(unsaid(kind, wanted.source)),
            }
            self.monitor.advance(1);
        }
        plan.without_doubles()?;
        plan.has_room()?;
        Ok(plan)
    }

    pub(super) fn volume(&self, plan: &mut Plan<'a>, source: &'a SourceEntry, detail: &'a VolumeDetail) -> Result<()> {
        let current = if detail.anonymous { self.current_volume(detail)? } else { None };
        if !is_exchanged(detail) {
            let name = current.as_deref().unwrap_or(&detail.volume);
            return self.held_volume(plan, source, detail, name, present(self, name)?.as_ref());
        }
        let target = VolumeTarget::find(self.engine, detail, current.as_deref())?;
        self.refuse_foreign(&target.volume)?;
        match &target.present {
            Some(present) => plan.need(present, source.bytes)?,
            None => {
                let info = self.engine.info().map_err(|error| engine_error(&target.volume, &error))?;
                plan.need(&info.root_dir, source.bytes)?;
            }
        }
        let what = if target.present.is_some() { "is replaced" } else { "is made anew" };
        plan.changes.push(format!("volume {} {what}: {}", target.volume, amount_of(source)));
        plan.volumes.push(VolumePart { target, source, detail });
        Ok(())
    }

    /// The volume that a service has now where the anonymous one was.
    fn current_volume(&self, detail: &VolumeDetail) -> Result<Option<String>> {
        for mount in &detail.mounts {
            let found = listed(self.engine, self.project, Some(&mount.service));
            let found = found.map_err(|error| engine_error(&detail.volume, &error))?;
            let at =
                |found: &crate::docker::Mount| found.destination == Path::new(&mount.target) && !found.name.is_empty();
            if let Some(found) = found.iter().flat_map(|container| &container.mounts).find(|found| at(found)) {
                return Ok(Some(found.name.clone()));
            }
        }
        Ok(None)
    }

    /// Others that run with the volume would see its content change under them.
    pub(super) fn refuse_foreign(&self, volume: &str) -> Result<()> {
        let found = self.engine.containers_using(volume).map_err(|error| engine_error(volume, &error))?;
        let is_foreign = |container: &&crate::docker::ContainerSummary| {
            is_active(container.status) && container.labels.get(PROJECT).is_none_or(|project| project != self.project)
        };
        match found.iter().find(is_foreign) {
            None => Ok(()),
            Some(other) => Err(Error::Engine {
                subject: format!("volume {volume}"),
                message: format!(
                    "the container {} of another project uses it; stop that first",
                    other.names.first().unwrap_or(&other.id)
                ),
            }),
        }
    }
}

impl Plan<'_> {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        let same = |part: &FolderPart<'_>| part.differences.changed.is_empty() && part.differences.gone.is_empty();
        self.folders.iter().all(same)
            && self.volumes.is_empty()
            && self.held.is_empty()
            && self.databases.is_empty()
            && self.images.iter().all(|part| part.is_there && part.tags.is_empty())
    }

    /// Bytes that will be written.
    pub fn bytes(&self) -> u64 {
        self.needs.values().map(|(_, bytes)| bytes).sum()
    }

    pub(super) fn need(&mut self, place: &Path, bytes: u64) -> Result<()> {
        let found = std::fs::metadata(place).map_err(|source| Error::state("look at", place, source))?;
        self.needs.entry(found.dev()).or_insert_with(|| (place.to_path_buf(), 0)).1 += bytes;
        Ok(())
    }

    /// Room is looked for before anything is made, with a little to spare.
    fn has_room(&self) -> Result<()> {
        for (place, bytes) in self.needs.values() {
            let found = rustix::fs::statvfs(place).map_err(|error| Error::state("look at", place, error.into()))?;
            let (free, wanted) = (found.f_bavail.saturating_mul(found.f_frsize), bytes + bytes / 20);
            if wanted > free {
                let message =
                    format!("staging needs {} there, and {} are free", amount::bytes(wanted), amount::bytes(free));
                return Err(Error::Engine { subject: place.display().to_string(), message });
            }
        }
        Ok(())
    }

    /// The volumes that are made because they are not there.
    pub fn made_volumes(&self) -> Vec<String> {
        let plain = self.volumes.iter().filter(|part| part.target.present.is_none());
        let plain = plain.map(|part| part.target.volume.clone());
        plain.chain(self.made_held()).chain(self.made_for_databases()).collect()
    }

    /// All that is going to be made.
    pub fn staged(&self) -> Vec<Staged> {
        let folders = self.folders.iter().flat_map(|part| [&part.stage].map(|path| Staged::Path(path.clone())));
        let late = self.folders.iter().map(|part| Staged::Path(late(&part.stage)));
        let volumes = self.volumes.iter().map(|part| part.target.staged(&self.restore));
        let images = self.images.iter().enumerate().filter(|(_, part)| !part.is_there);
        let images = images.map(|(number, _)| Staged::Tag(self.held_tag(number)));
        let others = self.staged_databases().into_iter().chain(self.staged_held());
        folders.chain(late).chain(volumes).chain(images).chain(others).collect()
    }

    /// The folders, and the mounted volumes, which are changed as folders are.
    fn all_folders(&self) -> impl Iterator<Item = &FolderPart<'_>> {
        self.folders.iter().chain(self.in_held.get().into_iter().flatten())
    }

    /// The tag that keeps a loaded image until it has its own.
    fn held_tag(&self, number: usize) -> String {
        format!("snap-rollback/{}:new{number}", self.restore)
    }

    /// Makes all ready, and gives the swaps.
    ///
    /// # Errors
    /// Something of it cannot be restored. What was made is in [`Plan::staged`].
    pub fn make_ready(&self, planner: &Planner<'_>, reader: &mut Reader<'_>) -> Result<Vec<Swap>> {
        let (mut swaps, mut images) = (Vec::new(), BTreeMap::new());
        for (number, part) in self.images.iter().enumerate() {
            let subject = format!("image {}", part.source.name);
            let failed = |error: crate::docker::Error| engine_error(&subject, &error);
            let (id, loaded) = load_image(
                planner.engine,
                planner.repository,
                part.source,
                part.detail,
                planner.workers,
                planner.monitor,
            )
            .map_err(failed)?;
            if loaded {
                planner.engine.tag_image(&id, &self.held_tag(number)).map_err(failed)?;
            }
            images.insert(part.detail.id.clone(), id.clone());
            for (at, (tag, old)) in part.tags.iter().enumerate() {
                let kept = format!("snap-rollback/{}:old{number}-{at}", self.restore);
                swaps.push(Swap::Tag { tag: tag.clone(), old: old.clone(), new: Some(id.clone()), kept });
            }
        }
        for part in &self.volumes {
            let VolumePart { target, source, detail } = part;
            let made = target.make_ready(planner.engine, reader, source, detail, &self.restore, planner.monitor)?;
            swaps.extend(made);
        }
        swaps.extend(self.load_databases(planner, reader, &images)?);
        for part in self.all_folders() {
            part.folder.stage(reader, &part.differences.changed, &part.stage, planner.monitor)?;
            let at = |path: &[u8]| join(&part.stage, path);
            swaps.extend(part.swaps(&part.differences, &at)?);
        }
        Ok(swaps)
    }

    /// Once all services stand still: compares the folders again where they were touched since, makes ready what
    /// differs now, and gives all swaps anew.
    ///
    /// # Errors
    /// Something cannot be restored.
    pub fn refresh(&self, planner: &Planner<'_>, reader: &mut Reader<'_>, before: &[Swap]) -> Result<Vec<Swap>> {
        let of_folders: BTreeSet<&Path> = self.all_folders().map(|part| part.folder.root.as_path()).collect();
        let is_of_folder = |swap: &&Swap| {
            let live = match swap {
                Swap::Exchange { live, .. } | Swap::Come { live, .. } | Swap::Go { live, .. } => live,
                Swap::Attributes { path, .. } => path,
                Swap::Tag { .. } => return false,
            };
            !self.is_database(live) && of_folders.iter().any(|root| live.starts_with(root))
        };
        let mut swaps: Vec<Swap> = before.iter().filter(|swap| !is_of_folder(swap)).cloned().collect();
        for part in self.all_folders() {
            let known = Some((&part.differences, self.compared_at));
            let now = part.folder.differences(reader, known, planner.monitor)?;
            let new: BTreeSet<Vec<u8>> = now.changed.difference(&part.differences.changed).cloned().collect();
            let late = late(&part.stage);
            if new.is_empty() {
                make_stage(&part.stage)?;
            } else {
                part.folder.stage(reader, &new, &late, planner.monitor)?;
            }
            let at = |path: &[u8]| join(if new.contains(path) { &late } else { &part.stage }, path);
            swaps.extend(part.swaps(&now, &at)?);
        }
        Ok(swaps)
    }
}

/// How much a source is, for people.
pub(super) fn amount_of(source: &SourceEntry) -> String {
    format!("{}, {}", amount::count(source.files, "file", "files"), amount::bytes(source.bytes))
}

/// Where what differs only since the first comparison waits.
pub(super) fn late(stage: &Path) -> PathBuf {
    let mut name = stage.as_os_str().to_owned();
    name.push("-late");
    name.into()
}

pub(super) fn join(folder: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    folder.join(std::ffi::OsStr::from_bytes(path))
}
