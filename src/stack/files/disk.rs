//! Renames by full path that can be undone: two things change places, or one goes to a free name.
//!
//! Every folder on the way is reached through no link: the paths were resolved when the change was
//! planned, and a link that stands there now was put there since. What a name holds is told by its
//! inode number, so that after a crash one can see what had been done. Not by the device's number,
//! which may be another after a reboot; both sides of a rename are on one file system anyway.

use super::beneath::{Beneath, Spot};
use super::handle::{open_target, pin, stat_at, stat_fd};
use super::place_meta::{Difference, Placed, apply};
use super::remove::remove_tree;
use super::xattr::{Subject, read_all};
use super::{Error, Result};
use crate::repo::entry::{Meta, Time};
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

/// The host's file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Disk {
    /// The inode number at `path`, of a link itself; `None` where nothing is.
    ///
    /// # Errors
    /// A folder on the way cannot be reached or is a link now.
    pub fn inode(&self, path: &Path) -> Result<Option<u64>> {
        let spot = match spot(path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match stat_at(&spot.dir, &spot.name) {
            Ok(stat) => Ok(Some(stat.stx_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("look at", path, error)),
        }
    }

    /// Lets `a` and `b` change places in one step; false where the file system cannot do that.
    ///
    /// # Errors
    /// One of them is not there, they are on two file systems, or the system refuses.
    pub fn exchange(&self, a: &Path, b: &Path) -> Result<bool> {
        let (from, to) = (spot(a)?, spot(b)?);
        match rustix::fs::renameat_with(&from.dir, &from.name, &to.dir, &to.name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(failed("exchange", a, error)),
        }
    }

    /// Renames `from` to `to`, a name that nothing has.
    ///
    /// # Errors
    /// The name is taken, `from` is not there, they are on two file systems, or the system refuses.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (source, target) = (spot(from)?, spot(to)?);
        match rustix::fs::renameat_with(&source.dir, &source.name, &target.dir, &target.name, RenameFlags::NOREPLACE) {
            // A file system without that flag: look first, which is as good while nobody else writes.
            Err(Errno::INVAL | Errno::NOSYS) => match self.inode(to)? {
                Some(_) => Err(failed("rename", from, Errno::EXIST)),
                None => rustix::fs::renameat(&source.dir, &source.name, &target.dir, &target.name)
                    .map_err(|error| failed("rename", from, error)),
            },
            other => other.map_err(|error| failed("rename", from, error)),
        }
    }

    /// The attributes at `path`, of a link itself.
    ///
    /// # Errors
    /// Nothing is there, or it cannot be looked at.
    pub fn attributes(&self, path: &Path) -> Result<Meta> {
        let failed = |error| failed("look at", path, error);
        let spot = spot(path)?;
        let pinned = pin(&spot.dir, &spot.name).map_err(failed)?;
        let stat = stat_fd(&pinned).map_err(failed)?;
        let subject = Subject::Pinned(super::handle::proc_path(&pinned).into_bytes());
        let xattrs = read_all(&subject)
            .map_err(|error| Error::io("read the attributes of", path.as_os_str().as_bytes(), error))?;
        Ok(Meta {
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: Time { seconds: stat.stx_mtime.tv_sec, nanos: stat.stx_mtime.tv_nsec },
            xattrs,
        })
    }

    /// Gives what is at `path` the attributes `meta`; what the system refuses is returned.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn set_attributes(&self, path: &Path, meta: &Meta) -> Result<Vec<Difference>> {
        let spot = spot(path)?;
        let pinned = pin(&spot.dir, &spot.name).map_err(|error| failed("look at", path, error))?;
        let privileged = rustix::process::geteuid().is_root();
        Ok(apply(&Placed::Pinned(pinned.as_fd()), meta, privileged, path.as_os_str().as_bytes()))
    }

    /// Makes the names in the folder of `path` durable.
    ///
    /// # Errors
    /// The disk refuses, or the folder is not there.
    pub fn sync_folder_of(&self, path: &Path) -> Result<()> {
        let failed = |error| failed("make durable", path, error);
        let spot = spot(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::openat(&spot.dir, c".", flags, rustix::fs::Mode::empty()).map_err(failed)?;
        rustix::fs::fsync(open).map_err(failed)
    }

    /// Removes `path` and all that is in it; nothing there is no error. Links are removed, not
    /// followed.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let spot = match spot(path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        remove_tree(&spot.dir, &spot.name).map_err(|error| failed("remove", path, error))
    }
}

fn failed(operation: &'static str, path: &Path, error: Errno) -> Error {
    Error::io(operation, path.as_os_str().as_bytes(), error)
}

/// The folder of `path`, reached from the root through no link, and the last name.
fn spot(path: &Path) -> Result<Spot> {
    let shown = path.as_os_str().as_bytes();
    let is_plain = path.is_absolute() && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if !is_plain {
        return Err(Error::unfit(shown, "is no full path without . and .."));
    }
    let root = open_target(Path::new("/")).map_err(|error| Error::io("open", b"/", error))?;
    // Not kept for the next call: a folder that was reached may have changed places by then.
    Beneath::new(Arc::new(root)).spot(shown.strip_prefix(b"/").unwrap_or(shown)).map_err(|error| match error {
        Error::Io { operation, source, .. } => Error::io(operation, shown, source),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_change_places_and_names_are_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (a, b, free) = (root.join("a"), root.join("b"), root.join("free"));
        std::fs::write(&a, "a").unwrap();
        std::fs::create_dir(&b).unwrap();
        let (old, new) = (Disk.inode(&a).unwrap(), Disk.inode(&b).unwrap());
        assert!(Disk.exchange(&a, &b).unwrap(), "the file system of this test knows exchanges");
        assert_eq!((Disk.inode(&a).unwrap(), Disk.inode(&b).unwrap()), (new, old));
        assert!(Disk.rename(&a, &b).is_err());
        Disk.rename(&a, &free).unwrap();
        assert_eq!(Disk.inode(&a).unwrap(), None);
        Disk.sync_folder_of(&free).unwrap();
        Disk.remove(&free).unwrap();
        assert_eq!(Disk.inode(&free.join("below")).unwrap(), None);
        let lost = Disk.attributes(&free.join("below")).unwrap_err().to_string();
        assert!(lost.contains(&format!(" {}", free.display())), "its path is not a full one: {lost}");
    }

    #[test]
    fn no_link_on_the_way_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/x"), "x").unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        assert!(Disk.inode(&root.join("real/x")).unwrap().is_some());
        assert!(Disk.inode(&root.join("link/x")).is_err());
        assert!(Disk.remove(&root.join("link/x")).is_err());
        assert!(Disk.rename(&root.join("link/x"), &root.join("y")).is_err());
        assert!(Disk.inode(Path::new("/tmp/../etc")).is_err() && Disk.inode(Path::new("etc")).is_err());
    }

    #[test]
    fn attributes_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("d");
        std::fs::create_dir(&path).unwrap();
        let before = Disk.attributes(&path).unwrap();
        let other = Meta { mode: 0o711, mtime: Time { seconds: 1_000_000, nanos: 7 }, ..before.clone() };
        assert!(Disk.set_attributes(&path, &other).unwrap().is_empty());
        assert_eq!(Disk.attributes(&path).unwrap(), other);
        Disk.set_attributes(&path, &before).unwrap();
        assert_eq!(Disk.attributes(&path).unwrap(), before);
    }
}
