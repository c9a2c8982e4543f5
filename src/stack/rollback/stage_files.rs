//! Making a folder's part of a restore ready: what differs is restored beside it, and only that is swapped.
//!
//! Files that the snapshot does not have stay where they are, unless the person wants it to be exactly what it was,
//! because a project's folder holds more than was captured; but a Compose file or `.env` that did not exist then goes aside, since with it the application would not
//! be what it was. What lies beside a SQLite database belongs to other content of it and goes aside too.
//!
//! The first comparison is made while services run. Once they stand still, what was touched since is compared again.

use super::differences::{Differences, attributes};
use super::{Error, Result, Swap};
use crate::monitor::Monitor;
use crate::repo::entry::Meta;
use crate::repo::manifest::SourceEntry;
use crate::repo::reader::Reader;
use crate::stack::files::Disk;
use crate::stack::restore::{FolderRestore, restore_folder};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// More paths than this are not picked out one by one: all of the folder is restored then.
const PICKED_MAX: usize = 2000;

/// A folder of which a part is brought back.
pub struct Folder<'a> {
    /// The source.
    pub source: &'a SourceEntry,
    /// Where it is, without links.
    pub root: PathBuf,
    /// What is wanted of it: paths, and what is below them; all if empty.
    pub only: Vec<Vec<u8>>,
    /// Names in it that go aside if the snapshot does not have them.
    pub inputs: Vec<&'static str>,
    /// Folders in it from which everything goes aside that the snapshot does not have; the empty path for all of it.
    pub exact: Vec<Vec<u8>>,
    /// What is in it and comes back by other means: the data of a database that is loaded.
    pub without: Vec<Vec<u8>>,
    /// What never goes aside, by device and inode number: the repository, the key in use.
    pub keep: Vec<(u64, u64)>,
    /// Threads.
    pub workers: usize,
}

impl Folder<'_> {
    /// Restores what differs into the folder `stage`, which is made, on the same file system.
    ///
    /// # Errors
    /// Something of it cannot be restored: then nothing is to be swapped.
    pub fn stage(
        &self,
        reader: &mut Reader<'_>,
        changed: &BTreeSet<Vec<u8>>,
        stage: &Path,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        make_stage(stage)?;
        if changed.is_empty() {
            return Ok(());
        }
        let whole = changed.len() > PICKED_MAX || changed.contains(&Vec::new());
        let options = FolderRestore {
            privileged: rustix::process::geteuid().is_root(),
            only: if whole { Vec::new() } else { changed.iter().cloned().collect() },
            workers: self.workers,
            ..FolderRestore::default()
        };
        let done = restore_folder(reader, self.source, stage, &options, monitor)?;
        match done.lost.first() {
            None => Ok(()),
            Some(lost) if lost.damage => {
                Err(Error::Repo(crate::repo::Error::Damaged { object: lost.path.clone(), what: lost.message.clone() }))
            }
            Some(lost) => Err(Error::Engine { subject: lost.path.clone(), message: lost.message.clone() }),
        }
    }

    /// The swaps, in the order in which they are done. `stages` says where each changed path waits.
    ///
    /// # Errors
    /// Something is not there any more.
    pub fn swaps(
        &self,
        differences: &Differences,
        stage_of: &dyn Fn(&[u8]) -> PathBuf,
        aside: &Path,
    ) -> Result<Vec<Swap>> {
        let mut swaps = Vec::new();
        for (number, path) in differences.gone.iter().enumerate() {
            let live = self.at(path);
            if let Some(old) = Disk.inode(&live)? {
                swaps.push(Swap::Go { live, kept: aside.join(format!("aside-{number}")), old });
            }
        }
        for path in &differences.changed {
            let (live, staged) = (self.at(path), stage_of(path));
            let Some(new) = Disk.inode(&staged)? else { return Err(Error::Strange { path: staged }) };
            swaps.push(match Disk.inode(&live)? {
                Some(old) => Swap::Exchange { live, kept: staged, old, new },
                None => Swap::Come { live, staged, new },
            });
        }
        // The deepest first, as times are set.
        for (path, wanted) in differences.folders.iter().rev() {
            let live = self.at(path);
            let Some(old) = attributes(&live)? else { continue };
            swaps.push(Swap::Attributes { path: live, old: (&old).into(), new: (&wanted.0).into() });
        }
        Ok(swaps)
    }

    pub(super) fn at(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(std::ffi::OsStr::from_bytes(path)) }
    }
}

/// A folder and what differs in it.
pub(super) struct FolderPart<'m> {
    pub(super) folder: Folder<'m>,
    pub(super) differences: Differences,
    pub(super) stage: PathBuf,
    /// What the folder was before anything was made ready in it.
    pub(super) before: Option<Meta>,
}

impl FolderPart<'_> {
    /// The swaps, with the attributes that the folder itself had before.
    pub(super) fn swaps(&self, differences: &Differences, stage_of: &dyn Fn(&[u8]) -> PathBuf) -> Result<Vec<Swap>> {
        let mut swaps = self.folder.swaps(differences, stage_of, &self.stage)?;
        let Some(before) = &self.before else { return Ok(swaps) };
        let root = &self.folder.root;
        for swap in &mut swaps {
            if let Swap::Attributes { path, old, .. } = swap
                && path == root
            {
                *old = before.into();
                return Ok(swaps);
            }
        }
        swaps.push(Swap::Attributes { path: root.clone(), old: before.into(), new: before.into() });
        Ok(swaps)
    }
}

/// Makes a folder for things that wait, closed to others.
///
/// # Errors
/// It cannot be made.
pub fn make_stage(stage: &Path) -> Result<()> {
    let failed = |source| Error::state("make the folder", stage, source);
    crate::fs::create_dir_durable(stage).map_err(failed)
}
