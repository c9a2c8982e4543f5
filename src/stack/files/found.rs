//! One thing that a scan has found, and reading what belongs to it.
//!
//! A [`Found`] carries its open parent folder, so that reading it later needs no path: a folder
//! renamed or a link planted in between cannot lead elsewhere.

use super::handle::{DirHandle, folder_id, proc_path};
use super::xattr::{Subject, Xattrs, read_all};
use super::{Error, Result};
use crate::repo::entry::{Meta, Time};
use rustix::fs::{FileType, Statx, StatxTimestamp};
use std::sync::Arc;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// A folder.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes that the file system holds for it.
    pub blocks: u64,
    /// Time of the last change of the content.
    pub mtime: Time,
    /// Time of the last change of content or attributes; no program can set it back.
    pub ctime: Time,
    /// Names of the file.
    pub nlink: u32,
}

/// One thing below the scanned root, or the root itself.
#[derive(Debug)]
pub struct Found {
    /// Path relative to the root; empty for the root.
    pub path: Vec<u8>,
    /// Where the name begins in the path.
    pub(super) name_start: usize,
    /// What it is.
    pub kind: FoundKind,
    /// Its attributes without the extended ones, which [`Found::read_xattrs`] reads.
    pub meta: Meta,
    /// Its state when it was found.
    pub stat: Stat,
    /// The folder that holds it; the root is found in itself.
    pub parent: Arc<DirHandle>,
}

impl Found {
    /// Its name in the parent folder; `.` for the root.
    pub fn name(&self) -> &[u8] {
        match self.path.get(self.name_start..) {
            Some(name) if !name.is_empty() => name,
            _ => b".",
        }
    }

    /// The bytes that a symbolic link holds.
    ///
    /// # Errors
    /// It is gone, or is no link any more.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        match rustix::fs::readlinkat(&*self.parent, self.name(), Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(error) => Err(Error::io("read the link", &self.path, error)),
        }
    }

    /// All extended attributes that this process may list, sorted by name: ACLs, capabilities,
    /// `user.*`, and for root `trusted.*`. Of a link, its own. None where the file system has none.
    /// Costs one system call for a thing without attributes.
    ///
    /// # Errors
    /// It is gone, an attribute cannot be read, or they are larger than
    /// [`XATTR_BYTES_MAX`](crate::limits::XATTR_BYTES_MAX).
    pub fn read_xattrs(&self) -> Result<Xattrs> {
        let mut path = proc_path(&*self.parent).into_bytes();
        path.push(b'/');
        path.extend_from_slice(self.name());
        read_all(&Subject::Named(path)).map_err(|error| Error::io("read the attributes of", &self.path, error))
    }
}

/// The parts of a `statx` that are kept; `None` for a socket or something unknown.
pub(super) fn kind_of(stat: &Statx) -> Option<FoundKind> {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    Some(match file_type(stat) {
        FileType::Directory => FoundKind::Dir,
        FileType::RegularFile => FoundKind::File,
        FileType::Symlink => FoundKind::Symlink,
        FileType::Fifo => FoundKind::Fifo,
        FileType::CharacterDevice => FoundKind::CharDevice { major, minor },
        FileType::BlockDevice => FoundKind::BlockDevice { major, minor },
        FileType::Socket | FileType::Unknown => return None,
    })
}

pub(super) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

pub(super) fn meta_of(stat: &Statx) -> Meta {
    Meta {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: time_of(stat.stx_mtime),
        xattrs: Vec::new(),
    }
}

pub(super) fn state_of(stat: &Statx) -> Stat {
    let (dev, ino) = folder_id(stat);
    Stat {
        dev,
        ino,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        mtime: time_of(stat.stx_mtime),
        ctime: time_of(stat.stx_ctime),
        nlink: stat.stx_nlink,
    }
}

fn time_of(stamp: StatxTimestamp) -> Time {
    Time { seconds: stamp.tv_sec, nanos: stamp.tv_nsec }
}
