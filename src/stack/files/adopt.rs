//! In place: finding out that a file is right already, and leaving its content alone.

use super::found::file_type;
use super::handle::{open_quietly, pin};
use super::place_meta::{Placed, apply};
use super::{Difference, Error, Placer, Result};
use crate::repo::entry::{Extent, Meta};
use rustix::fs::{FileType, OFlags};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Bytes of a hole that are compared at once.
const ZEROS: usize = 64 << 10;

impl Placer {
    /// True if `path` is a regular file with exactly this content; `is` says whether bytes are an
    /// extent's, which is no hole.
    pub fn has_content(&self, path: &[u8], extents: &[Extent], is: &mut dyn FnMut(&[u8], &Extent) -> bool) -> bool {
        let Ok(spot) = self.beneath.spot(path) else { return false };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(fd) = open_quietly(&*spot.dir, spot.name.as_bytes(), flags) else { return false };
        let Ok(stat) = super::handle::stat_fd(&fd) else { return false };
        let size: u64 = extents.iter().map(Extent::len).sum();
        if file_type(&stat) != FileType::RegularFile || stat.stx_size != size || stat.stx_nlink > 1 {
            // Another name of it may lie outside, or be about to become another file.
            return false;
        }
        let file = File::from(fd);
        let mut buffer = Vec::new();
        let mut offset = 0;
        extents.iter().all(|extent| {
            let at = offset;
            offset += extent.len();
            match extent {
                Extent::Chunk { len, .. } | Extent::Slice { len, .. } => {
                    buffer.resize(*len as usize, 0);
                    file.read_exact_at(&mut buffer, at).is_ok() && is(&buffer, extent)
                }
                Extent::Hole { len } => is_zero(&file, at, *len, &mut buffer),
            }
        })
    }

    /// Gives the file `path`, whose content is right, its attributes.
    ///
    /// # Errors
    /// The path is not valid, or nothing is there any more.
    pub fn adopt(&self, path: &[u8], meta: &Meta) -> Result<Vec<Difference>> {
        let spot = self.beneath.spot(path)?;
        let pinned = pin(&*spot.dir, &spot.name).map_err(|error| Error::io("look at", path, error))?;
        Ok(apply(&Placed::Pinned(pinned.as_fd()), meta, self.options.privileged, path))
    }
}

fn is_zero(file: &File, mut at: u64, mut len: u64, buffer: &mut Vec<u8>) -> bool {
    while len > 0 {
        let part = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS);
        buffer.resize(part, 0);
        if file.read_exact_at(buffer, at).is_err() || buffer.iter().any(|byte| *byte != 0) {
            return false;
        }
        at += part as u64;
        len -= part as u64;
    }
    true
}
