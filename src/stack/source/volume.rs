//! Capturing a volume: from the engine's disk where that is this host's and snap is root, else through the engine.
//!
//! From disk it is captured as any folder is, root folder included, with its cache of what need not be read again and
//! with SQLite's own backup. Rules that leave things out of folders do not hold here: a volume's own content must not
//! decide what is kept of it.

use crate::monitor::{Monitor, Unit};
use crate::repo::Repository;
use crate::repo::manifest::{Detail, Level, SourceEntry, SourceKind, VolumeDetail, VolumeMount};
use crate::repo::needs::Needs;
use crate::repo::state::StateWriter;
use crate::repo::writer::{PackRef, Session};
use crate::stack::application::{VolumeItem, Way};
use crate::stack::capture::archive::capture_archive;
use crate::stack::capture::{Error, FolderOptions, Result, capture_folder};
use crate::stack::files::place::UNFINISHED_PREFIX;
use crate::stack::files::{Excludes, OwnFolders};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

/// Gives the archive of what a container has at a path.
pub type Opener<'o> = &'o dyn Fn(&str, &str) -> std::io::Result<Box<dyn Read + 'o>>;

/// With what a volume is captured.
pub struct VolumeCapture<'a, 's> {
    /// The repository.
    pub repository: &'a Repository,
    /// The run.
    pub session: &'a Session<'s>,
    /// Folders that are never captured, by device and inode number.
    pub skip: OwnFolders,
    /// The volume's file-state cache.
    pub state: PathBuf,
    /// Threads.
    pub workers: usize,
}

/// What a captured volume has become.
pub struct CapturedVolume {
    /// The source for the manifest.
    pub source: SourceEntry,
    /// Regular files that were read.
    pub files_changed: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// The next file-state cache, where there is one.
    pub state: Option<StateWriter>,
}

impl VolumeCapture<'_, '_> {
    /// Captures `item`; `open` gives its archive where it is read through the engine.
    ///
    /// # Errors
    /// It cannot be opened or its archive breaks off, the repository cannot be written, or the person stops the work.
    pub fn capture<'o>(
        &self,
        item: &VolumeItem,
        level: Level,
        open: Opener<'o>,
        needs: &mut Needs<PackRef>,
        monitor: &dyn Monitor,
    ) -> Result<CapturedVolume> {
        match &item.way {
            Way::Disk(path) => {
                let options = FolderOptions {
                    name: item.name.clone(),
                    // What a restore that is at work has put there is not the volume's own.
                    exclude: Excludes::new(&[format!("/{UNFINISHED_PREFIX}*")])?,
                    one_file_system: true,
                    skip: self.skip.clone(),
                    state: self.state.clone(),
                    workers: self.workers,
                };
                let done = capture_folder(self.repository, self.session, path, &options, needs, monitor)?;
                Ok(CapturedVolume {
                    source: describe(item, level, done.source),
                    files_changed: done.files_changed,
                    bytes_read: done.bytes_read,
                    state: Some(done.state),
                })
            }
            // Whoever calls makes the container first.
            Way::Helper => {
                Err(Error::Stream { path: item.name.clone(), source: std::io::Error::other("no container has it") })
            }
            Way::Archive { container, path } => {
                monitor.phase("reading", Unit::Bytes, None);
                let done = capture_archive(
                    self.repository,
                    self.session,
                    &item.name,
                    || open(container, path),
                    needs,
                    monitor,
                )?;
                let (files_changed, bytes_read) = (done.files, done.bytes);
                Ok(CapturedVolume { source: describe(item, level, done), files_changed, bytes_read, state: None })
            }
        }
    }
}

fn describe(item: &VolumeItem, level: Level, source: SourceEntry) -> SourceEntry {
    let volume = &item.volume;
    let mounts = item.mounts.iter();
    let mounts =
        mounts.map(|(service, target)| VolumeMount { service: service.clone(), target: target.clone() }).collect();
    let services: BTreeSet<&String> = item.mounts.iter().map(|(service, _)| service).collect();
    let detail = VolumeDetail {
        volume: volume.name.clone(),
        driver: volume.driver.clone(),
        options: volume.options.clone(),
        labels: volume.labels.clone(),
        services: services.into_iter().cloned().collect(),
        mounts,
        anonymous: item.anonymous,
    };
    SourceEntry {
        kind: SourceKind::Volume,
        name: item.name.clone(),
        root: volume.mountpoint.display().to_string(),
        level,
        detail: Some(Detail::Volume(detail)),
        ..source
    }
}
