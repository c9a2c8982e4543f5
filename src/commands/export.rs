//! `snap export`: a snapshot's files as one tar, for people who have no snap.
//!
//! Content is fetched ahead, a window at a time and in the packs' order, so that each segment is decoded
//! once a window although a tar is written in the order of paths. Who stops it finds no half tar.

use super::show::{find, open_reader, placed};
use super::{Env, Error, Result};
use crate::monitor::{Monitor, Unit, lock};
use crate::repo::entry::{Entry, Extent, Node};
use crate::repo::reader::{Piece, Reader};
use crate::repo::select::Scope;
use crate::repo::walk::TreeWalker;
use crate::repo::{self, Repository};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Entries whose content is fetched together.
const BATCH_ENTRIES: usize = 1024;
/// Bytes of content that are fetched ahead, at least one chunk.
const AHEAD_BYTES: u64 = 64 << 20;

/// What `export` says.
#[derive(Debug, Clone, Serialize)]
pub struct ExportReport {
    /// The snapshot's id.
    pub snapshot: String,
    /// The file that was written.
    pub file: PathBuf,
    /// Entries in it.
    pub entries: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Writes the snapshot `id` as the new tar `file` (POSIX pax format), mode 0600.
///
/// # Errors
/// No snapshot fits, something in it cannot be had, the file exists, or the person stops it; a half tar
/// is removed.
pub fn export(env: &Env, repository: &Repository, scope: &Scope, id: &str, file: &Path) -> Result<ExportReport> {
    let set = repository.snapshots()?;
    let snapshot = find(&set, scope, id)?;
    let mut reader = open_reader(repository, snapshot)?;
    let cannot = |source| Error::Path { operation: "write", path: file.to_path_buf(), source };
    let out = File::options().write(true).create_new(true).mode(0o600).open(file).map_err(cannot)?;
    let half = Half(Some(file.to_path_buf()));
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, out));
    let mut entries = 0;
    env.monitor.phase("exporting", Unit::Bytes, Some(snapshot.manifest.sources.iter().map(|s| s.bytes).sum()));
    for source in &snapshot.manifest.sources {
        let mut walker = TreeWalker::new(&source.tree);
        let mut batch = Vec::new();
        let mut more = true;
        while more {
            more = walker.next(&mut reader, &mut batch, BATCH_ENTRIES)?;
            if let Some(what) = walker.lost().into_iter().next() {
                return Err(repo::Error::Damaged { object: format!("snapshot {}", snapshot.id.short()), what }.into());
            }
            let mut ahead = Ahead::new(&reader, &batch, &*env.monitor);
            for entry in batch.drain(..) {
                append(&mut tar, &mut ahead, &placed(&snapshot.manifest, source, entry), file)?;
                entries += 1;
            }
        }
    }
    let mut out = tar.into_inner().map_err(cannot)?;
    out.flush().map_err(cannot)?;
    let out = out.into_inner().map_err(|error| cannot(error.into_error()))?;
    out.sync_all().map_err(cannot)?;
    let bytes = out.metadata().map_err(cannot)?.len();
    half.keep();
    Ok(ExportReport { snapshot: snapshot.id.to_string(), file: file.to_path_buf(), entries, bytes })
}

/// Removes the file unless it was finished.
struct Half(Option<PathBuf>);

impl Half {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that led here is the one to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, ahead: &mut Ahead<'_, '_>, entry: &Entry, file: &Path) -> Result<()> {
    ahead.go_on()?;
    let cannot = |source| Error::Path { operation: "write", path: file.to_path_buf(), source };
    let mut extra: Vec<(String, Vec<u8>)> = Vec::new();
    let mtime = entry.meta.mtime;
    if mtime.nanos != 0 || mtime.seconds < 0 {
        extra.push(("mtime".to_owned(), pax_time(mtime).into_bytes()));
    }
    for (name, value) in &entry.meta.xattrs {
        extra.push((format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone()));
    }
    if !extra.is_empty() {
        let records = extra.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        tar.append_pax_extensions(records).map_err(cannot)?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.meta.mode);
    header.set_uid(entry.meta.uid.into());
    header.set_gid(entry.meta.gid.into());
    header.set_mtime(u64::try_from(mtime.seconds).unwrap_or(0));
    header.set_size(0);
    let path = if entry.path.is_empty() { Path::new(".") } else { Path::new(std::ffi::OsStr::from_bytes(&entry.path)) };
    let link = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let done = match &entry.node {
        Node::File(extents) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(entry.size());
            let mut content =
                Content { ahead, extents: extents.iter(), rest: Vec::new(), at: 0, zeros: 0, failure: None };
            let done = tar.append_data(&mut header, path, &mut content);
            match content.failure {
                Some(failure) => return Err(failure.into()),
                None => done,
            }
        }
        Node::Dir => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, path, io::empty())
        }
        Node::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, link(target))
        }
        Node::Hardlink(first) => {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, path, link(first))
        }
        Node::Fifo => {
            header.set_entry_type(tar::EntryType::Fifo);
            tar.append_data(&mut header, path, io::empty())
        }
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            let is_char = matches!(entry.node, Node::CharDevice { .. });
            header.set_entry_type(if is_char { tar::EntryType::Char } else { tar::EntryType::Block });
            header.set_device_major(*major).and_then(|()| header.set_device_minor(*minor)).map_err(cannot)?;
            tar.append_data(&mut header, path, io::empty())
        }
    };
    done.map_err(|source| Error::Path { operation: "write", path: file.to_path_buf(), source })
}

fn pax_time(time: crate::repo::entry::Time) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let (sign, nanos) = if nanos < 0 { ("-", -nanos) } else { ("", nanos) };
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// The content of a batch of entries, in their order.
struct Ahead<'a, 'r> {
    reader: &'a Reader<'r>,
    monitor: &'a dyn Monitor,
    /// What was not fetched yet.
    coming: std::vec::IntoIter<Piece>,
    /// What was fetched.
    ready: std::vec::IntoIter<std::result::Result<Vec<u8>, String>>,
}

impl<'a, 'r> Ahead<'a, 'r> {
    fn new(reader: &'a Reader<'r>, batch: &[Entry], monitor: &'a dyn Monitor) -> Self {
        let extents = batch.iter().filter_map(|entry| match &entry.node {
            Node::File(extents) => Some(extents),
            _ => None,
        });
        let coming: Vec<Piece> = extents.flatten().filter_map(|extent| Piece::of(extent, 0, 0)).collect();
        Self { reader, monitor, coming: coming.into_iter(), ready: Vec::new().into_iter() }
    }

    fn go_on(&self) -> repo::Result<()> {
        if self.monitor.cancelled() { Err(repo::Error::Interrupted) } else { Ok(()) }
    }

    /// The content of the next extent that is no hole.
    fn next(&mut self) -> repo::Result<Vec<u8>> {
        if self.ready.len() == 0 {
            self.fetch()?;
        }
        let none = || Err("it has more content than was asked for".to_owned());
        let bytes = self.ready.next().unwrap_or_else(none);
        let bytes = bytes.map_err(|what| repo::Error::Damaged { object: "what it holds".to_owned(), what })?;
        self.monitor.advance(bytes.len() as u64);
        Ok(bytes)
    }

    fn fetch(&mut self) -> repo::Result<()> {
        let (mut bytes, mut pieces) = (0, Vec::new());
        while bytes < AHEAD_BYTES
            && let Some(piece) = self.coming.next()
        {
            bytes += u64::from(piece.len);
            pieces.push(Piece { target: u32::try_from(pieces.len()).unwrap_or(u32::MAX), ..piece });
        }
        let fetched: Vec<_> = pieces.iter().map(|_| Mutex::new(Ok(Vec::new()))).collect();
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        self.reader.pieces(&pieces, workers, &|stretch, bytes| {
            if let Some(place) = fetched.get(stretch.target as usize) {
                *lock(place) = bytes.map(<[u8]>::to_vec).map_err(str::to_owned);
            }
            !self.monitor.cancelled()
        })?;
        self.go_on()?;
        let taken = fetched.into_iter().map(|place| place.into_inner().unwrap_or_else(|broken| broken.into_inner()));
        self.ready = taken.collect::<Vec<_>>().into_iter();
        Ok(())
    }
}

/// A file's content as a stream.
struct Content<'f, 'a, 'r> {
    ahead: &'f mut Ahead<'a, 'r>,
    extents: std::slice::Iter<'f, Extent>,
    rest: Vec<u8>,
    at: usize,
    zeros: u64,
    /// Why there is no more: a stream has no other way to tell a damaged repository from a full disk.
    failure: Option<repo::Error>,
}

impl Content<'_, '_, '_> {
    fn fill(&mut self) -> repo::Result<()> {
        self.ahead.go_on()?;
        while self.at == self.rest.len() && self.zeros == 0 {
            match self.extents.next() {
                None => return Ok(()),
                Some(Extent::Hole { len }) => self.zeros = *len,
                Some(_) => (self.rest, self.at) = (self.ahead.next()?, 0),
            }
        }
        Ok(())
    }
}

impl Read for Content<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(failure) = self.fill() {
            self.failure = Some(failure);
            return Err(io::ErrorKind::Other.into());
        }
        if self.zeros > 0 {
            let part = usize::try_from(self.zeros).unwrap_or(usize::MAX).min(buffer.len());
            buffer[..part].fill(0);
            self.zeros -= part as u64;
            return Ok(part);
        }
        let part = (self.rest.len() - self.at).min(buffer.len());
        buffer[..part].copy_from_slice(&self.rest[self.at..self.at + part]);
        self.at += part;
        Ok(part)
    }
}
