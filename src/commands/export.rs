//! `snap export`: a snapshot's files as one tar, for people who have no snap.

use super::show::{find, open_reader, placed};
use super::{Env, Error, Result};
use crate::repo::Repository;
use crate::repo::entry::{Entry, Extent, Node};
use crate::repo::reader::Reader;
use crate::repo::select::Scope;
use crate::repo::walk::TreeWalker;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
/// No snapshot fits, something in it cannot be had, or the file exists; a half tar is removed.
pub fn export(_: &Env, repository: &Repository, scope: &Scope, id: &str, file: &Path) -> Result<ExportReport> {
    let set = repository.snapshots()?;
    let snapshot = find(&set, scope, id)?;
    let mut reader = open_reader(repository, snapshot)?;
    let cannot = |source| Error::Path { operation: "write", path: file.to_path_buf(), source };
    let out = File::options().write(true).create_new(true).mode(0o600).open(file).map_err(cannot)?;
    let half = Half(Some(file.to_path_buf()));
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, out));
    let mut entries = 0;
    for source in &snapshot.manifest.sources {
        let mut walker = TreeWalker::new(&source.tree);
        let mut batch = Vec::new();
        let mut more = true;
        while more {
            more = walker.next(&mut reader, &mut batch, 1024)?;
            if let Some(what) = walker.lost().into_iter().next() {
                return Err(
                    crate::repo::Error::Damaged { object: format!("snapshot {}", snapshot.id.short()), what }.into()
                );
            }
            for entry in batch.drain(..) {
                let entry = placed(&snapshot.manifest, source, entry);
                append(&mut tar, &mut reader, &entry, file)?;
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

fn append<W: Write>(tar: &mut tar::Builder<W>, reader: &mut Reader<'_>, entry: &Entry, file: &Path) -> Result<()> {
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
            let mut content = Content { reader, extents: extents.iter(), rest: Vec::new(), at: 0, zeros: 0 };
            tar.append_data(&mut header, path, &mut content)
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

/// A file's content as a stream.
struct Content<'a, 'r> {
    reader: &'a mut Reader<'r>,
    extents: std::slice::Iter<'a, Extent>,
    rest: Vec<u8>,
    at: usize,
    zeros: u64,
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.rest.len() && self.zeros == 0 {
            match self.extents.next() {
                None => return Ok(0),
                Some(Extent::Hole { len }) => self.zeros = *len,
                Some(extent) => {
                    let failed = |e: crate::repo::Error| io::Error::other(crate::repo::sync::Chain(&e).to_string());
                    self.rest = self.reader.content(extent).map_err(failed)?;
                    self.at = 0;
                }
            }
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
