//! Open folders, and the ways to reach what is in them without resolving a path again.
//!
//! A handle pins a folder: whatever is renamed or swapped around it, `openat` relative to it stays
//! in that folder. Handles cost file descriptors, of which a process has few by default, hence
//! [`raise_open_file_limit`].

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A folder on one file system: device and inode number.
pub(super) type FolderId = (u64, u64);

/// A folder that is held open for reading.
#[derive(Debug)]
pub struct DirHandle {
    fd: OwnedFd,
}

impl AsFd for DirHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl DirHandle {
    /// The folder at `path`; a link there is followed, because the operator named it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self { fd: rustix::fs::open(path, FOLDER, Mode::empty())? })
    }

    /// The folder that `pinned` is, for reading.
    pub(super) fn again(pinned: impl AsFd) -> Result<Self> {
        Ok(Self { fd: rustix::fs::openat(pinned, c".", FOLDER, Mode::empty())? })
    }

    /// The folder `name` in this one; never through a link.
    pub(super) fn child(&self, name: &[u8]) -> Result<Self> {
        Ok(Self { fd: open_quietly(self, name, FOLDER | OFlags::NOFOLLOW)? })
    }

    /// The folder that holds this one, if it is still the one known as `id`.
    pub(super) fn parent(&self, id: FolderId) -> Result<Self> {
        let parent = Self { fd: rustix::fs::openat(self, c"..", FOLDER, Mode::empty())? };
        if folder_id(&stat_fd(&parent)?) == id { Ok(parent) } else { Err(Errno::STALE) }
    }
}

/// Opens `name` for reading without touching its time of last access, where the system allows that.
pub(super) fn open_quietly(dir: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    match rustix::fs::openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only a file's owner and root may ask for it.
        Err(Errno::PERM) => rustix::fs::openat(&dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// Attributes of `name` in `dir`; of a link itself, not of what it points to.
pub(super) fn stat_at(dir: impl AsFd, name: &CStr) -> Result<Statx> {
    rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
}

/// Attributes of what `fd` is.
pub(super) fn stat_fd(fd: impl AsFd) -> Result<Statx> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Which folder it is.
pub(super) fn folder_id(stat: &Statx) -> FolderId {
    (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
}

/// A path that leads through `fd` and not through any name, for the calls that take only paths.
pub(super) fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// A handle that pins `name` in `dir` whatever it is, without opening it; a link is not followed.
pub(super) fn pin(dir: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Raises the number of files this process may hold open to the most the system allows it, and
/// returns that number. To be called once at start; a refusal leaves the limit as it was.
///
/// A scan holds up to some hundred folders open, and so does each [`Found`](super::Found) that
/// waits in a queue: the queue must stay well below the returned number.
pub fn raise_open_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // A refusal is not an error: the soft limit is enough for all but the deepest trees.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The folder at `path` for writing below it.
pub(super) fn open_target(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, FOLDER, Mode::empty())
}
