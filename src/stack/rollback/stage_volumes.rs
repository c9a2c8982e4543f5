//! Making a volume's part of a restore ready: its content is restored in full beside the present one, on the same
//! file system, and the two folders change places.
//!
//! A volume that is not there any more is made anew, with its labels, so that Compose takes it for its own. Only volumes
//! of the driver `local` without options lie where two folders can change places; see `stage_held` for others.

use super::stage_files::make_stage;
use super::{Error, Result, STAGE_PREFIX, Staged, Swap};
use crate::docker::{Engine, NewVolume, Volume};
use crate::monitor::Monitor;
use crate::repo::manifest::{SourceEntry, VolumeDetail};
use crate::repo::reader::Reader;
use crate::stack::files::Disk;
use crate::stack::restore::{FolderRestore, restore_folder};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why an anonymous volume cannot come back without a container that has one: nobody would mount it.
pub(super) const NO_CONTAINER: &str = "it has no name of its own, and no container of its service is there to mount it: \
    docker compose create makes one, then give the command again; or bring the other parts back with --only";

/// A volume that is brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeTarget {
    /// Its name in the engine.
    pub volume: String,
    /// Where its content is now, without links; nowhere if it is to be made.
    pub present: Option<PathBuf>,
}

impl VolumeTarget {
    /// Finds the volume `detail` speaks of. `current` is the engine's volume that a container of the service has now
    /// at the same place: an anonymous one has another name each time.
    ///
    /// # Errors
    /// It lies where it cannot be exchanged, or the engine does not answer.
    pub fn find(engine: &Engine, detail: &VolumeDetail, current: Option<&str>) -> Result<Self> {
        let name = if detail.anonymous { current.unwrap_or(&detail.volume) } else { &detail.volume };
        let refused = |message: String| Error::Engine { subject: format!("volume {name}"), message };
        if detail.anonymous && current.is_none() {
            return Err(refused(NO_CONTAINER.to_owned()));
        }
        let found = match engine.volume(name) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                return Ok(Self { volume: name.to_owned(), present: None });
            }
            Err(error) => return Err(refused(error.to_string())),
        };
        if !is_plain(&found.driver, found.options.len()) {
            let message = format!(
                "a volume of this name exists with the driver {}{}: bring the other parts back with --only, or remove it first",
                found.driver,
                if found.options.is_empty() { "" } else { " and options" }
            );
            return Err(refused(message));
        }
        let present = folder_of(&found)?;
        if !present.parent().is_some_and(|parent| same_device(&present, parent)) {
            return Err(refused("it is a file system of its own, and cannot be exchanged".to_owned()));
        }
        Ok(Self { volume: name.to_owned(), present: Some(present) })
    }

    /// The folder in which the content of then waits.
    pub fn stage(&self, restore: &str) -> Option<PathBuf> {
        let present = self.present.as_ref()?;
        Some(present.parent()?.join(format!("{STAGE_PREFIX}{restore}")))
    }

    /// What is going to be made.
    pub fn staged(&self, restore: &str) -> Staged {
        match self.stage(restore) {
            Some(path) => Staged::Path(path),
            None => Staged::Volume(self.volume.clone()),
        }
    }

    /// Restores the content beside the present one, or into the new volume; gives the swap, if one is needed.
    ///
    /// # Errors
    /// Something of it cannot be restored, or the engine refuses the new volume.
    pub fn make_ready(
        &self,
        engine: &Engine,
        reader: &mut Reader<'_>,
        source: &SourceEntry,
        detail: &VolumeDetail,
        restore: &str,
        monitor: &dyn Monitor,
    ) -> Result<Option<Swap>> {
        match (&self.present, self.stage(restore)) {
            (Some(live), Some(stage)) => {
                make_stage(&stage)?;
                fill(reader, source, &stage, monitor)?;
                exchange(live, &stage).map(Some)
            }
            _ => {
                let made = make_volume(engine, &self.volume, &detail.driver, &detail.options, &detail.labels)?;
                fill(reader, source, &folder_of(&made)?, monitor)?;
                Ok(None)
            }
        }
    }
}

/// True if a volume lies where two folders can change places.
pub(super) fn is_plain(driver: &str, options: usize) -> bool {
    (driver.is_empty() || driver == "local") && options == 0
}

/// Makes a volume that is not there.
///
/// # Errors
/// The engine or the driver refuses.
pub(super) fn make_volume(
    engine: &Engine,
    name: &str,
    driver: &str,
    options: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> Result<Volume> {
    let new = NewVolume {
        name: name.to_owned(),
        driver: if driver.is_empty() { "local".to_owned() } else { driver.to_owned() },
        options: options.clone(),
        labels: labels.clone(),
    };
    let failed =
        |error: crate::docker::Error| Error::Engine { subject: format!("volume {name}"), message: error.to_string() };
    engine.create_volume(&new).map_err(failed)
}

/// The swap of two folders.
///
/// # Errors
/// One is not there.
pub fn exchange(live: &Path, kept: &Path) -> Result<Swap> {
    let inode = |path: &Path| Disk.inode(path)?.ok_or_else(|| Error::Strange { path: path.to_path_buf() });
    Ok(Swap::Exchange { live: live.to_path_buf(), kept: kept.to_path_buf(), old: inode(live)?, new: inode(kept)? })
}

/// True if a folder can change places with one in `beside`.
pub(super) fn same_device(folder: &Path, beside: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    device(folder).is_some() && device(folder) == device(beside)
}

fn folder_of(volume: &Volume) -> Result<PathBuf> {
    std::fs::canonicalize(&volume.mountpoint)
        .map_err(|source| Error::state("open the folder", &volume.mountpoint, source))
}

fn fill(reader: &mut Reader<'_>, source: &SourceEntry, folder: &Path, monitor: &dyn Monitor) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let options = FolderRestore {
        privileged: rustix::process::geteuid().is_root(),
        in_place: true,
        workers,
        ..FolderRestore::default()
    };
    let done = restore_folder(reader, source, folder, &options, monitor)?;
    match done.lost.first() {
        None => Ok(()),
        Some(lost) if lost.damage => {
            let object = format!("{}/{}", source.name, lost.path);
            Err(Error::Repo(crate::repo::Error::Damaged { object, what: lost.message.clone() }))
        }
        Some(lost) => Err(Error::Engine { subject: lost.path.clone(), message: lost.message.clone() }),
    }
}
