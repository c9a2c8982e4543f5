//! A file that is being placed: it has a hidden name, or is in a hidden folder, until it is whole.
//!
//! Whoever looks at the target sees the old file, or none, or the new one with all its content
//! and attributes, never a part. A pending file that is dropped is removed.

use super::beneath::{Beneath, Spot};
use super::place::PlaceOptions;
use super::place_meta::{Difference, Placed, apply};
use super::remove::remove_tree;
use super::writeout::WriteOut;
use super::{Error, Result};
use crate::repo::entry::Meta;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, Result as SysResult};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name in a folder that goes away unless it is given its final one.
pub(super) struct Hidden {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: CString,
    armed: bool,
}

impl Hidden {
    pub(super) fn new(dir: Arc<OwnedFd>, name: CString) -> Self {
        Self { dir, name, armed: true }
    }

    /// Renames the thing to `name`. In place it replaces what has that name, a folder with content only if
    /// what the snapshot does not have is to go (`NOTEMPTY` otherwise); else nothing may have it. What has it
    /// from the start keeps it.
    pub(super) fn publish(mut self, name: &CStr, options: PlaceOptions) -> SysResult<()> {
        if *self.name == *name {
            self.armed = false;
            return Ok(());
        }
        let renamed = if options.in_place {
            match rustix::fs::renameat(&self.dir, &self.name, &self.dir, name) {
                // A folder is in the way.
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                    if options.exact {
                        remove_tree(&self.dir, name)?;
                    } else {
                        rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR)?;
                    }
                    rustix::fs::renameat(&self.dir, &self.name, &self.dir, name)
                }
                other => other,
            }
        } else {
            rename_new(&self.dir, &self.name, &self.dir, name)
        };
        self.armed = renamed.is_err();
        renamed
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.armed {
            // Nothing can be done about a failure here, and the name says what the thing is.
            let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Renames `name` in `from` to `new_name` in `to`, where nothing may have that name.
pub(super) fn rename_new(from: &OwnedFd, name: &CStr, to: &OwnedFd, new_name: &CStr) -> SysResult<()> {
    match rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        // A file system without that flag. The target is new, so nobody else makes names in it.
        Err(Errno::INVAL | Errno::NOSYS) => match super::handle::stat_at(to, new_name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new_name),
            Err(error) => Err(error),
        },
        other => other,
    }
}

/// Why something did not get its name.
pub(super) fn unnamed(operation: &'static str, path: &[u8], error: Errno) -> Error {
    match error {
        Errno::NOTEMPTY => Error::unfit(path, "is a folder with content here, which only --exact removes"),
        other => Error::io(operation, path, other),
    }
}

/// A regular file that is being written. It may be written from several threads.
pub struct PendingFile {
    file: File,
    hidden: Hidden,
    name: CString,
    path: Vec<u8>,
    size: u64,
    /// Behind the last byte written.
    written: AtomicU64,
    write_out: Arc<WriteOut>,
    options: PlaceOptions,
    beneath: Arc<Beneath>,
}

impl PendingFile {
    /// Makes the hidden file `hidden` beside the spot.
    pub(super) fn new(
        spot: Spot,
        hidden: CString,
        path: &[u8],
        size: u64,
        options: PlaceOptions,
        beneath: Arc<Beneath>,
        write_out: Arc<WriteOut>,
    ) -> SysResult<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&spot.dir, &hidden, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self {
            file: File::from(fd),
            hidden: Hidden::new(spot.dir, hidden),
            name: spot.name,
            path: path.to_vec(),
            size,
            written: AtomicU64::new(0),
            write_out,
            options,
            beneath,
        })
    }

    /// Path relative to the target.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Writes `bytes` at `offset`. What is never written stays a hole.
    ///
    /// # Errors
    /// The bytes do not fit into the announced size, or cannot be written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.size);
        let Some(end) = end else {
            return Err(Error::unfit(&self.path, "has content beyond its size"));
        };
        self.file.write_all_at(bytes, offset).map_err(|error| Error::io("write", &self.path, error))?;
        self.written.fetch_max(end, Ordering::Relaxed);
        self.write_out.count(bytes.len() as u64);
        Ok(())
    }

    /// Gives the file its size, attributes and name. Durable only after [`Placer::sync`](super::Placer::sync).
    ///
    /// # Errors
    /// It cannot get its size or name; it is then gone. Attributes that cannot be set are no
    /// errors but returned.
    pub fn finish(self, meta: &Meta) -> Result<Vec<Difference>> {
        let Self { file, hidden, name, path, size, written, options, beneath, .. } = self;
        if written.into_inner() < size {
            file.set_len(size).map_err(|error| Error::io("set the size of", &path, error))?;
        }
        let differences = apply(&Placed::Open(file.as_fd()), meta, options.privileged, &path);
        hidden.publish(&name, options).map_err(|error| unnamed("name", &path, error))?;
        if options.in_place {
            beneath.forget(&path);
        }
        Ok(differences)
    }
}
