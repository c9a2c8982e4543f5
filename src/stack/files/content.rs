//! Reading found files: opening without a path, holes, and noticing that a file changed meanwhile.

use super::found::{Found, Stat, file_type, meta_of, state_of};
use super::handle::{open_quietly, stat_fd};
use super::{Error, Result};
use crate::repo::entry::Meta;
use rustix::fs::{Advice, FileType, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

/// A hole shorter than this is read as zeros: a run of its own would cost more than it saves.
pub const HOLE_BYTES_MIN: u64 = 64 << 10;

/// Opens a found regular file for reading, and says what state and attributes (without the extended
/// ones) it has now, which may be others than when it was found. The time of last
/// access is left alone where the system allows that.
///
/// # Errors
/// It is gone, may not be read, or is no regular file any more.
pub fn open_file(found: &Found) -> Result<(File, Stat, Meta)> {
    // Not to wait for a writer, should a pipe have taken its place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |error| Error::io("open", &found.path, error);
    let fd = open_quietly(&*found.parent, found.name(), flags).map_err(open)?;
    let stat = stat_fd(&fd).map_err(open)?;
    if file_type(&stat) != FileType::RegularFile {
        return Err(Error::unfit(&found.path, "is no regular file any more"));
    }
    Ok((File::from(fd), state_of(&stat), meta_of(&stat)))
}

/// The state of an open file; `path` is for the message.
///
/// # Errors
/// The system does not say.
pub fn state(file: impl AsFd, path: &[u8]) -> Result<Stat> {
    match stat_fd(file) {
        Ok(stat) => Ok(state_of(&stat)),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

/// True if nothing happened to the file between the two states. A new name or another mode counts
/// as a change too: reading again is cheap, a torn copy is not.
pub fn same_stat(before: &Stat, after: &Stat) -> bool {
    let state = |stat: &Stat| (stat.dev, stat.ino, stat.size, stat.mtime, stat.ctime);
    state(before) == state(after)
}

/// The runs of the file that hold data, as (offset, length) in order; the rest up to `size` are
/// holes of at least [`HOLE_BYTES_MIN`]. `blocks` is [`Stat::blocks`]: a file that has all its
/// blocks is not asked. The file's position is moved. A file system that does not know of holes
/// has none.
///
/// # Errors
/// The file cannot be asked; `path` is for the message.
pub fn data_extents(file: impl AsFd, size: u64, blocks: u64, path: &[u8]) -> Result<Vec<(u64, u64)>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    if size == 0 {
        return Ok(runs);
    }
    if blocks.saturating_mul(512) >= size {
        return Ok(vec![(0, size)]);
    }
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) => return Ok(vec![(0, size)]),
            Err(error) => return Err(Error::io("find the holes of", path, error)),
        };
        let end = match rustix::fs::seek(&file, SeekFrom::Hole(start)) {
            // Never backwards, whatever the file system says.
            Ok(end) => end.max(start + 1),
            Err(Errno::NXIO) => break,
            Err(error) => return Err(Error::io("find the holes of", path, error)),
        };
        add_run(&mut runs, start.min(size), end.min(size));
        at = end;
    }
    // A short hole at the end is data too.
    if let Some((start, length)) = runs.last_mut()
        && size - (*start + *length) < HOLE_BYTES_MIN
    {
        *length = size - *start;
    }
    if runs.is_empty() && size < HOLE_BYTES_MIN {
        runs.push((0, size));
    }
    Ok(runs)
}

fn add_run(runs: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    let behind = runs.last().map_or(0, |(start, length)| start + length);
    let start = if start - behind.min(start) < HOLE_BYTES_MIN { behind } else { start };
    match runs.last_mut() {
        Some((last, length)) if *last + *length == start => *length = end - *last,
        _ if start < end => runs.push((start, end - start)),
        _ => {}
    }
}

/// True if a file that begins with `header` is an SQLite database.
pub fn is_sqlite(header: &[u8]) -> bool {
    header.starts_with(b"SQLite format 3\0")
}

/// Tells the kernel that the file will be read from start to end.
pub fn advise_sequential(file: impl AsFd) {
    advise(file, 0, 0, Advice::Sequential);
}

/// Tells the kernel that `length` bytes from `offset` on (0: all the rest) will be read soon.
pub fn advise_soon(file: impl AsFd, offset: u64, length: u64) {
    advise(file, offset, length, Advice::WillNeed);
}

/// Tells the kernel that `length` bytes from `offset` on (0: all the rest) need not stay in memory.
pub fn advise_done(file: impl AsFd, offset: u64, length: u64) {
    advise(file, offset, length, Advice::DontNeed);
}

fn advise(file: impl AsFd, offset: u64, length: u64, advice: Advice) {
    // Advice is for speed only; a file system that takes none is as good.
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), advice);
}
