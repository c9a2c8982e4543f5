//! Capturing a folder that comes as a tar archive: what only the engine can read.
//!
//! The archive is read once, from its beginning to its end. One thread reads it, another cuts and stores; between
//! them go the files, each as a stream of its own. The archive's first part is the folder itself; what follows is below
//! it. An archive that ends without its end, as the engine's do when something goes wrong, is an error.

use super::content::Content;
use super::read::{Block, BlockReader};
use super::stream::store_tree;
use super::{Error, Result};
use crate::chunk::Profile;
use crate::monitor::{Monitor, Warning, lock};
use crate::pack::PackKind;
use crate::repo::entry::{Entry, Meta, Node, Time, is_valid_path, shown};
use crate::repo::manifest::{Level, SourceEntry, SourceKind};
use crate::repo::needs::Needs;
use crate::repo::writer::{PackRef, Session};
use crate::repo::{self, Repository};
use crate::stack::files::place::UNFINISHED_PREFIX;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that are handed over at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait.
const QUEUE: usize = 8;
/// An archive ends with two blocks of zeros.
const END: u64 = 1024;

/// A file on its way to the thread that stores.
struct Job {
    path: Vec<u8>,
    meta: Meta,
    size: u64,
    pieces: Receiver<io::Result<Vec<u8>>>,
}

/// What has been stored.
#[derive(Default)]
struct Done {
    entries: Vec<Entry>,
    needs: Vec<(PackRef, u32)>,
    files: u64,
    bytes: u64,
    bytes_new: u64,
}

/// Captures the archive that `open` gives as the source `name`.
///
/// # Errors
/// The archive cannot be read to its end, the repository cannot be written, or the person stops the work.
pub fn capture_archive<'o>(
    repository: &Repository,
    session: &Session<'_>,
    name: &str,
    open: impl FnOnce() -> io::Result<Box<dyn Read + 'o>>,
    needs: &mut Needs<PackRef>,
    monitor: &dyn Monitor,
) -> Result<SourceEntry> {
    let broken = |source| Error::Stream { path: name.to_owned(), source };
    let archive = open().map_err(broken)?;
    let done = Mutex::new(Done::default());
    let (jobs, waiting) = sync_channel::<Job>(QUEUE);
    let (read, stored) = std::thread::scope(|scope| {
        let storing = scope.spawn(|| store(repository, session, waiting, &done, monitor));
        let read = unpack(archive, &jobs, &done, monitor);
        drop(jobs);
        (read, storing.join().unwrap_or(Err(repo::Error::Unfinished { what: "a worker" }.into())))
    });
    // What went wrong with storing explains a reader that found its way closed.
    stored.and(read.map_err(broken))?;
    if monitor.cancelled() {
        return Err(repo::Error::Interrupted.into());
    }
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (pack, segment) in done.needs {
        needs.add(pack, segment);
    }
    let folder = Meta { mode: 0o755, ..Meta::default() };
    let (tree, entries) = store_tree(session, done.entries, &folder, needs)?;
    Ok(SourceEntry {
        kind: SourceKind::Files,
        name: name.to_owned(),
        root: String::new(),
        level: Level::Live,
        tree,
        entries,
        files: done.files,
        bytes: done.bytes,
        new_bytes: done.bytes_new,
        sqlite: Vec::new(),
        rules: None,
        detail: None,
    })
}

/// Reads the archive; everything but the content of files is done with here.
fn unpack(
    archive: Box<dyn Read + '_>,
    jobs: &SyncSender<Job>,
    done: &Mutex<Done>,
    monitor: &dyn Monitor,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(Tail { inner: archive, zeros: 0 });
    let mut top: Option<Vec<u8>> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if monitor.cancelled() {
            return Ok(());
        }
        let path = trimmed(&entry.path_bytes());
        let top = top.get_or_insert_with(|| path.clone());
        let Some(path) = below(top, &path) else {
            return Err(io::Error::other(format!("{} lies outside of the folder", shown(&path))));
        };
        // What a restore that is at work has put there is not the volume's own.
        if path.starts_with(UNFINISHED_PREFIX.as_bytes()) {
            continue;
        }
        if !is_valid_path(&path) {
            return Err(io::Error::other(format!("{} is no path inside the folder", shown(&path))));
        }
        let meta = meta_of(&mut entry)?;
        let header = entry.header().clone();
        let link = entry.link_name_bytes().map(|bytes| bytes.into_owned()).unwrap_or_default();
        let device = |header: &tar::Header| -> io::Result<(u32, u32)> {
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let node = match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                if !send_file(&mut entry, path, meta, jobs)? {
                    return Ok(());
                }
                continue;
            }
            tar::EntryType::Directory => Node::Dir,
            tar::EntryType::Symlink => Node::Symlink(link),
            tar::EntryType::Link => match below(top, &trimmed(&link)) {
                Some(first) => Node::Hardlink(first),
                None => return Err(io::Error::other(format!("{} is linked to outside of the folder", shown(&path)))),
            },
            tar::EntryType::Fifo => Node::Fifo,
            tar::EntryType::Char => device(&header).map(|(major, minor)| Node::CharDevice { major, minor })?,
            tar::EntryType::Block => device(&header).map(|(major, minor)| Node::BlockDevice { major, minor })?,
            _ => {
                monitor.warn(&Warning::note(shown(&path), "left out: a socket or something unknown"));
                continue;
            }
        };
        lock(done).entries.push(Entry { path, node, meta });
    }
    let mut tail = archive.into_inner();
    io::copy(&mut tail, &mut io::sink())?;
    if tail.zeros < END {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive has no end: it was cut"));
    }
    Ok(())
}

/// Hands a file over, piece by piece; false if nobody takes it any more.
fn send_file(
    entry: &mut tar::Entry<'_, impl Read>,
    path: Vec<u8>,
    meta: Meta,
    jobs: &SyncSender<Job>,
) -> io::Result<bool> {
    let (pieces, taken) = sync_channel(QUEUE);
    if jobs.send(Job { path, meta, size: entry.size(), pieces: taken }).is_err() {
        return Ok(false);
    }
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        match entry.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(_) if pieces.send(Ok(piece)).is_err() => return Ok(false),
            Ok(_) => {}
            Err(error) => {
                // The other side must not take what came for the whole.
                let _ = pieces.send(Err(io::Error::other(error.to_string())));
                return Err(error);
            }
        }
    }
}

/// Cuts and stores what comes.
fn store(
    repository: &Repository,
    session: &Session<'_>,
    jobs: Receiver<Job>,
    done: &Mutex<Done>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut sink = session.sink(PackKind::Data)?;
    let mut block = Block::default();
    for job in jobs {
        let Job { path, meta, size, pieces } = job;
        let pieces = Pieces { pieces: Mutex::new(pieces), piece: Vec::new(), at: 0 };
        let mut reader = BlockReader::of_stream(Box::new(pieces), Profile::FILES);
        let mut content = Content::default();
        let failed = |source| Error::Stream { path: shown(&path), source };
        while reader.next(repository.cutter(), &mut block).map_err(failed)? {
            content.put(&block, &mut sink, monitor)?;
        }
        let (bytes, bytes_new) = (content.bytes, content.bytes_new);
        let (extents, places) = content.in_order();
        let node = Node::File(extents);
        let entry = Entry { path, node, meta };
        if entry.size() != size {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut");
            return Err(Error::Stream { path: entry.shown_path(), source });
        }
        let mut done = lock(done);
        done.needs.extend(places);
        done.files += 1;
        done.bytes += bytes;
        done.bytes_new += bytes_new;
        done.entries.push(entry);
    }
    Ok(sink.finish()?)
}

/// A file's pieces as one stream.
struct Pieces {
    pieces: Mutex<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match lock(&self.pieces).recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                Err(_) => return Ok(0),
            }
        }
        let len = out.len().min(self.piece.len() - self.at);
        out[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Counts the zeros at the end of what was read.
struct Tail<R> {
    inner: R,
    zeros: u64,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(out)?;
        match out[..len].iter().rposition(|byte| *byte != 0) {
            Some(last) => self.zeros = (len - 1 - last) as u64,
            None => self.zeros += len as u64,
        }
        Ok(len)
    }
}

fn trimmed(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path).to_vec()
}

/// `path` relative to `top`.
fn below(top: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    if path == top {
        return Some(Vec::new());
    }
    if top.is_empty() || top == b"." {
        return Some(path.to_vec());
    }
    path.strip_prefix(top)?.strip_prefix(b"/").map(<[u8]>::to_vec)
}

/// A part's attributes, with what extended headers add.
fn meta_of(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Meta> {
    let header = entry.header();
    let number = |n: u64| u32::try_from(n).map_err(|_| io::Error::other("an owner's number is too large"));
    let mut meta = Meta {
        mode: header.mode()? & 0o7777,
        uid: number(header.uid()?)?,
        gid: number(header.gid()?)?,
        mtime: Time { seconds: header.mtime()?.try_into().unwrap_or(i64::MAX), nanos: 0 },
        xattrs: Vec::new(),
    };
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                meta.xattrs.push((name.to_vec(), value.to_vec()));
            } else if key == b"mtime"
                && let Some(time) = std::str::from_utf8(value).ok().and_then(parse_time)
            {
                meta.mtime = time;
            } else if let Some(id) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                match key {
                    b"uid" => meta.uid = id,
                    b"gid" => meta.gid = id,
                    _ => {}
                }
            }
        }
    }
    meta.xattrs.sort();
    Ok(meta)
}

/// `SECONDS[.FRACTION]`.
fn parse_time(text: &str) -> Option<Time> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let (whole, nanos): (i64, u32) = (seconds.parse().ok()?, digits.parse().ok()?);
    if seconds.starts_with('-') && nanos > 0 {
        return Some(Time { seconds: whole - 1, nanos: 1_000_000_000 - nanos });
    }
    Some(Time { seconds: whole, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_meant_below_the_first() {
        let below = |top: &str, path: &str| below(top.as_bytes(), &trimmed(path.as_bytes()));
        assert_eq!(below("data", "data/"), Some(Vec::new()));
        assert_eq!(below("data", "data/a/b"), Some(b"a/b".to_vec()));
        assert_eq!(below("data", "data2/a"), None);
        assert_eq!(below(".", "./a"), Some(b"a".to_vec()));
    }

    #[test]
    fn times_have_fractions() {
        assert_eq!(parse_time("12.5"), Some(Time { seconds: 12, nanos: 500_000_000 }));
        assert_eq!(parse_time("-1.25"), Some(Time { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(parse_time("x"), None);
    }

    #[test]
    fn an_archive_that_was_cut_is_no_archive() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir("data", ".").unwrap();
        let whole = builder.into_inner().unwrap();
        let done = Mutex::new(Done::default());
        let (jobs, _waiting) = sync_channel(1);
        let quiet = crate::monitor::Quiet::default();
        assert!(unpack(Box::new(&whole[..]), &jobs, &done, &quiet).is_ok());
        assert!(unpack(Box::new(&whole[..512]), &jobs, &done, &quiet).is_err());
    }
}
