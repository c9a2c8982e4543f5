//! What is neither file nor folder: symbolic links, named pipes, devices.

use super::found::file_type;
use super::handle::stat_fd;
use rustix::fs::{FileType, Mode};
use rustix::io::Result as SysResult;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// One of them, and what makes it this one.
pub(super) enum Special<'a> {
    /// A link that holds this.
    Symlink(&'a [u8]),
    Fifo,
    /// A device of this kind, with this number.
    Device(FileType, u64),
}

impl Special<'_> {
    /// Makes it as `name` in `dir`.
    pub(super) fn make(&self, dir: &OwnedFd, name: &CStr) -> SysResult<()> {
        let owner_alone = Mode::RUSR | Mode::WUSR;
        match *self {
            Self::Symlink(target) => rustix::fs::symlinkat(target, dir, name),
            Self::Fifo => rustix::fs::mknodat(dir, name, FileType::Fifo, owner_alone, 0),
            Self::Device(kind, number) => rustix::fs::mknodat(dir, name, kind, owner_alone, number),
        }
    }

    /// True if `pinned` is it, and has one name.
    pub(super) fn is(&self, pinned: &OwnedFd) -> bool {
        let Ok(stat) = stat_fd(pinned) else { return false };
        if stat.stx_nlink != 1 {
            return false;
        }
        match *self {
            Self::Symlink(target) => {
                file_type(&stat) == FileType::Symlink
                    && rustix::fs::readlinkat(pinned, c"", Vec::new()).is_ok_and(|held| held.as_bytes() == target)
            }
            Self::Fifo => file_type(&stat) == FileType::Fifo,
            Self::Device(kind, number) => {
                file_type(&stat) == kind && rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor) == number
            }
        }
    }
}
