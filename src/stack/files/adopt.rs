//! In place: finding out that a file is right already, and leaving its content alone.

use super::found::file_type;
use super::handle::{folder_id, open_quietly, pin, stat_at, stat_fd};
use super::place_meta::{Placed, apply};
use super::{Difference, Error, Placer, Result};
use crate::repo::entry::{Extent, Meta};
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Bytes of a hole that are compared at once.
const ZEROS: usize = 64 << 10;

impl Placer {
    /// How many names the file `path` has, if it is a regular one with exactly this content; `is` says
    /// whether bytes are an extent's, which is no hole. Another name may lie outside the target, or be
    /// about to become another file: [`Self::are_one_file`] tells.
    pub fn has_content(
        &self,
        path: &[u8],
        extents: &[Extent],
        is: &mut dyn FnMut(&[u8], &Extent) -> bool,
    ) -> Option<u32> {
        let spot = self.beneath.spot(path).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = open_quietly(&*spot.dir, spot.name.as_bytes(), flags).ok()?;
        let stat = stat_fd(&fd).ok()?;
        let size: u64 = extents.iter().map(Extent::len).sum();
        if file_type(&stat) != FileType::RegularFile || stat.stx_size != size {
            return None;
        }
        let file = File::from(fd);
        let mut buffer = Vec::new();
        let mut offset = 0;
        let same = extents.iter().all(|extent| {
            let at = offset;
            offset += extent.len();
            match extent {
                Extent::Chunk { len, .. } | Extent::Slice { len, .. } => {
                    buffer.resize(*len as usize, 0);
                    file.read_exact_at(&mut buffer, at).is_ok() && is(&buffer, extent)
                }
                Extent::Hole { len } => is_zero(&file, at, *len, &mut buffer),
            }
        });
        same.then_some(stat.stx_nlink)
    }

    /// True if `names` are the names of one regular file, and all that it has.
    pub fn are_one_file(&self, names: &[&[u8]]) -> bool {
        let mut ids = names.iter().map(|name| {
            let spot = self.beneath.spot(name).ok()?;
            let stat = stat_at(&*spot.dir, &spot.name).ok()?;
            let whole = file_type(&stat) == FileType::RegularFile && stat.stx_nlink as usize == names.len();
            whole.then(|| folder_id(&stat))
        });
        let Some(Some(first)) = ids.next() else { return false };
        ids.all(|id| id == Some(first))
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
        // What the file itself knows to be a hole is not read.
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) if data >= at + len => return true,
            Ok(data) => (at, len) = (data, at + len - data),
            Err(Errno::NXIO) => return true,
            Err(_) => {}
        }
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
