//! A tree that is made where nobody looks: below one hidden folder, whose content gets its names in the target
//! all at once.
//!
//! A file that is written under a hidden name of its own and then renamed costs its folder two changes. In a
//! folder that is hidden itself it has its own name from the start, which is a fifth less work for the kernel,
//! and not even a power cut leaves a part of a file where somebody takes it for the whole: the tree is durable
//! before it is revealed. What a killed run has made is thrown away with the hidden folder, so this is for trees
//! that are soon made again.

use super::handle::DirHandle;
use super::names::Names;
use super::pending::rename_new;
use super::place::{PlaceOptions, Placer};
use super::remove::remove_tree;
use super::unfinished::TREE_PREFIX;
use super::{Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result as SysResult};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// The hidden folder. When it is dropped, what is in it is revealed as far as that goes.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) target: Arc<OwnedFd>,
    pub(super) folder: Arc<OwnedFd>,
    name: CString,
}

impl Stage {
    /// Makes the hidden folder `name` in `target`; `None` if that has anything in it.
    pub(super) fn make(target: Arc<OwnedFd>, name: CString) -> SysResult<Option<Self>> {
        if names_in(&target)?.len() > 0 {
            return Ok(None);
        }
        rustix::fs::mkdirat(&target, &name, Mode::RWXU)?;
        // Open for reading, because it is the handle of a sync too.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&target, &name, flags, Mode::empty())?;
        Ok(Some(Self { target, folder: Arc::new(folder), name }))
    }

    /// Moves everything into the target and removes the hidden folder. Gives what has no name there now.
    fn reveal(&self) -> SysResult<Vec<(CString, Errno)>> {
        let mut refused = Vec::new();
        for (name, _) in names_in(&self.folder)?.iter() {
            if let Err(error) = rename_new(&self.folder, name, &self.target, name) {
                refused.push((name.to_owned(), error));
            }
        }
        match rustix::fs::unlinkat(&self.target, &self.name, AtFlags::REMOVEDIR) {
            Err(error) if refused.is_empty() && error != Errno::NOENT => Err(error),
            _ => Ok(refused),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a success there is nothing left. After anything else what is whole is worth keeping, and
        // what cannot be moved is still there under a name that says what it is.
        let _ = self.reveal();
    }
}

fn names_in(dir: &OwnedFd) -> SysResult<Names> {
    let mut names = Names::default();
    names.read(&DirHandle::again(dir)?, &mut Vec::new())?;
    Ok(names)
}

impl Placer {
    /// Like [`Placer::open`], for a tree that is seen only when [`Placer::reveal`] has been called, or the
    /// placer is dropped. Where the target has something in it already, each thing is placed by itself.
    ///
    /// # Errors
    /// As [`Placer::open`].
    pub fn open_staged(target: &Path, options: PlaceOptions) -> Result<Self> {
        let shown = target.as_os_str().as_bytes();
        let failed = |error| Error::io("make a folder in", shown, error);
        let plain = Self::open(target, options)?;
        let run = crate::fs::random_hex().map_err(|error| Error::io("name a folder in", shown, error))?;
        let name = CString::new(format!("{TREE_PREFIX}{run}")).map_err(|error| Error::io("name", shown, error))?;
        Ok(match Stage::make(Arc::clone(plain.beneath.root()), name).map_err(failed)? {
            Some(stage) => plain.below(stage),
            None => plain,
        })
    }

    /// Gives what was placed its names in the target, after it was made durable. What does not get one is
    /// thrown away; it is returned with the reason.
    ///
    /// # Errors
    /// A disk refuses: what was placed must be taken for lost. Or the hidden folder cannot be read or removed.
    pub fn reveal(&self) -> Result<Vec<(Vec<u8>, String)>> {
        let Some(stage) = &self.stage else { return Ok(Vec::new()) };
        self.sync()?;
        let failed = |error| Error::io("give names to what was placed", b"", error);
        let refused = stage.reveal().map_err(failed)?;
        self.beneath.move_to(Arc::clone(&stage.target));
        if !refused.is_empty() {
            remove_tree(&stage.target, &stage.name).map_err(failed)?;
        }
        Ok(refused.into_iter().map(|(name, error)| (name.into_bytes(), super::place_meta::reason(error))).collect())
    }
}
