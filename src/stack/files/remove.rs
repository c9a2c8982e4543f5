//! Removing a folder with all that is in it, and nothing that is not.
//!
//! Only one folder is open at a time, so that the deepest tree needs no more descriptors than a
//! flat one; the way back goes through `..`, which must be the folder it came from. Links are
//! removed, never followed; a folder on which something is mounted is not entered.

use super::handle::{FolderId, folder_id, stat_fd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BUFFER_BYTES: usize = 32 << 10;

/// A folder that is being emptied.
struct Level {
    name: CString,
    id: FolderId,
    /// Folders in it that are still there.
    folders: Vec<CString>,
}

/// Removes `name` from `parent`, whatever it is; nothing there is no error.
///
/// # Errors
/// Something in it cannot be removed, is a mount point (`XDEV`, `BUSY`), or was moved meanwhile
/// (`STALE`). What was removed before stays removed.
pub(super) fn remove_tree(parent: impl AsFd, name: &CStr) -> Result<()> {
    let refused = match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Which of the two a folder gives depends on the file system.
        Err(error @ (Errno::ISDIR | Errno::PERM)) => error,
        Err(error) => return Err(error),
    };
    match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            empty_out(&parent, name)?;
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
        }
        Err(Errno::NOTDIR) => Err(refused),
        Err(error) => Err(error),
    }
}

/// Removes all that is in the folder `name` of `parent`.
fn empty_out(parent: impl AsFd, name: &CStr) -> Result<()> {
    let mut dir = open_same_mount(&parent, name)?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut levels = vec![enter(&dir, name, &mut buffer)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.folders.pop() {
            dir = open_same_mount(&dir, &name)?;
            levels.push(enter(&dir, &name, &mut buffer)?);
            continue;
        }
        let done = levels.pop();
        if let (Some(done), Some(above)) = (done, levels.last()) {
            dir = rustix::fs::openat(&dir, c"..", FOLDER, Mode::empty())?;
            if folder_id(&stat_fd(&dir)?) != above.id {
                return Err(Errno::STALE);
            }
            rustix::fs::unlinkat(&dir, &done.name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// Removes all in `dir` that is no folder, or an empty one; the other folders are left to do.
fn enter(dir: &OwnedFd, name: &CStr, buffer: &mut Vec<u8>) -> Result<Level> {
    // It is going away: a mode that keeps its owner from removing the content does not matter.
    let _ = rustix::fs::fchmod(dir, Mode::RWXU);
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    let mut folders = Vec::new();
    for (name, kind) in names {
        let removed = match kind {
            FileType::Directory => Err(Errno::ISDIR),
            _ => rustix::fs::unlinkat(dir, &name, AtFlags::empty()),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error @ (Errno::ISDIR | Errno::PERM)) => match rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => folders.push(name),
                Err(Errno::NOTDIR) => return Err(error),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(Level { name: name.to_owned(), id: folder_id(&stat_fd(dir)?), folders })
}

/// Opens the folder `name` of `dir` unless something is mounted there.
fn open_same_mount(dir: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let below = match rustix::fs::openat2(&dir, name, FOLDER, Mode::empty(), how) {
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => rustix::fs::openat(&dir, name, FOLDER, Mode::empty()),
        other => other,
    }?;
    // All there is where that call is missing.
    let dev = |stat: rustix::fs::Statx| folder_id(&stat).0;
    if dev(stat_fd(&below)?) == dev(stat_fd(&dir)?) { Ok(below) } else { Err(Errno::XDEV) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_took_a_folders_place_is_not_entered() {
        let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("kept"), b"x").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("d")).unwrap();
        let parent = rustix::fs::open(dir.path(), FOLDER, Mode::empty()).unwrap();
        assert!(empty_out(&parent, c"d").is_err());
        assert!(outside.path().join("kept").exists());
    }
}
