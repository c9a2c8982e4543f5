//! Extended attributes, of things that are open and of things that cannot be opened.
//!
//! A link, a pipe or a device cannot be asked through a file descriptor. They are reached through
//! `/proc/self/fd`: the kernel goes from there straight to the pinned folder or thing, so that no
//! name on the way can be swapped.

use super::{Error, Result};
use crate::limits::XATTR_BYTES_MAX;
use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result as SysResult};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Names and values, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The kernel's own bound for a list of names and for one value, in bytes.
const KERNEL_MAX: usize = 64 << 10;

/// What is asked.
pub(super) enum Subject<'a> {
    /// An open file or folder.
    Open(BorrowedFd<'a>),
    /// The path of a pinned thing in `/proc/self/fd`.
    Pinned(Vec<u8>),
    /// A path whose last part is not followed.
    Named(Vec<u8>),
}

impl Subject<'_> {
    fn list(&self, buffer: &mut [u8]) -> SysResult<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Pinned(path) => rustix::fs::listxattr(path, buffer),
            Self::Named(path) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> SysResult<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Pinned(path) => rustix::fs::getxattr(path, name, buffer),
            Self::Named(path) => rustix::fs::lgetxattr(path, name, buffer),
        }
    }

    pub(super) fn set(&self, name: &[u8], value: &[u8]) -> SysResult<()> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Pinned(path) => rustix::fs::setxattr(path, name, value, XattrFlags::empty()),
            Self::Named(path) => rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()),
        }
    }

    pub(super) fn unset(&self, name: &[u8]) -> SysResult<()> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Pinned(path) => rustix::fs::removexattr(path, name),
            Self::Named(path) => rustix::fs::lremovexattr(path, name),
        }
    }

    /// The value of `name`, or `None` where there is none.
    pub(super) fn value(&self, name: &[u8]) -> SysResult<Option<Vec<u8>>> {
        let mut buffer = vec![0; 256];
        loop {
            match self.get(name, &mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(Errno::RANGE) if buffer.len() < KERNEL_MAX => buffer.resize(KERNEL_MAX, 0),
                Err(Errno::NODATA) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The names, sorted; none on a file system without extended attributes.
    pub(super) fn names(&self) -> SysResult<Vec<Vec<u8>>> {
        let mut small = [0; 512];
        match self.list(&mut small) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
            Ok(length) => Ok(split(small.get(..length).unwrap_or_default())),
            Err(Errno::RANGE) => {
                let mut large = vec![0; KERNEL_MAX];
                let length = self.list(&mut large)?;
                Ok(split(large.get(..length).unwrap_or_default()))
            }
            Err(error) => Err(error),
        }
    }
}

fn split(list: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = list.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    names
}

/// Every attribute of `subject`, sorted by name.
pub(super) fn read_all(subject: &Subject<'_>) -> io::Result<Xattrs> {
    let names = subject.names()?;
    let mut all = Vec::with_capacity(names.len());
    let mut bytes = 0;
    for name in names {
        // One that was removed in between is as if it had never been listed.
        if let Some(value) = subject.value(&name)? {
            bytes += name.len() + value.len();
            if bytes > XATTR_BYTES_MAX {
                return Err(io::Error::other("more than a MiB of extended attributes"));
            }
            all.push((name, value));
        }
    }
    Ok(all)
}

/// As [`Found::read_xattrs`](super::Found::read_xattrs), of a file that is open anyway; `path` is
/// for the message.
///
/// # Errors
/// An attribute cannot be read, or they are larger than [`XATTR_BYTES_MAX`].
pub fn read_xattrs_fd(file: impl AsFd, path: &[u8]) -> Result<Xattrs> {
    read_all(&Subject::Open(file.as_fd())).map_err(|error| Error::io("read the attributes of", path, error))
}
