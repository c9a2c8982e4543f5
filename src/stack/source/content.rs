//! A file of a snapshot, read from its beginning to its end in bounded memory.
//!
//! Archives are stored as many small slices of shared chunks between the chunks of their files. Read
//! one by one they would have the same segments decoded again and again, so a window of some 32 MiB
//! is fetched at once, in the packs' order and by several threads.

use crate::monitor::lock;
use crate::repo::entry::{Entry, Extent, Node};
use crate::repo::reader::{Piece, Reader, Stretch};
use crate::repo::walk::TreeWalker;
use crate::repo::{self, Repository, tree::TreeRoot};
use std::io::{self, Read};
use std::sync::Mutex;

const WINDOW_BYTES: u64 = 32 << 20;

/// A file's content; every byte is proven, and what cannot be had is an error.
pub struct FileContent<'r> {
    reader: Reader<'r>,
    extents: std::collections::VecDeque<Extent>,
    workers: usize,
    window: Vec<u8>,
    at: usize,
}

impl<'r> FileContent<'r> {
    /// The file `path` in the tree `root`.
    ///
    /// # Errors
    /// There is no such file, or the tree cannot be read.
    pub fn open(mut reader: Reader<'r>, root: &TreeRoot, path: &[u8], workers: usize) -> repo::Result<Self> {
        let damaged = |what: String| repo::Error::Damaged { object: "a snapshot's tree".to_owned(), what };
        let (mut walker, mut entries, mut more) = (TreeWalker::new(root), Vec::new(), true);
        while more {
            more = walker.next(&mut reader, &mut entries, 1024)?;
            if let Some(what) = walker.lost().into_iter().next() {
                return Err(damaged(what));
            }
            for entry in entries.drain(..) {
                if let Entry { path: found, node: Node::File(extents), .. } = entry
                    && found == path
                {
                    return Ok(Self { reader, extents: extents.into(), workers, window: Vec::new(), at: 0 });
                }
            }
        }
        Err(damaged(format!("it has no file {}", repo::entry::shown(path))))
    }

    /// The same with a reader of its own.
    ///
    /// # Errors
    /// As [`FileContent::open`]; the key at hand cannot open content.
    pub fn of(repository: &'r Repository, root: &TreeRoot, path: &[u8], workers: usize) -> repo::Result<Self> {
        Self::open(Reader::new(repository)?, root, path, workers)
    }

    /// Goes on so many bytes; chunks that lie before them are not read.
    ///
    /// # Errors
    /// The file is shorter, or cannot be read.
    pub fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while self.at == self.window.len()
            && let Some(extent) = self.extents.front()
            && extent.len() <= bytes
        {
            bytes -= extent.len();
            self.extents.pop_front();
        }
        match io::copy(&mut self.by_ref().take(bytes), &mut io::sink())? == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let (mut pieces, mut len) = (Vec::new(), 0u64);
        while len < WINDOW_BYTES
            && let Some(extent) = self.extents.pop_front()
        {
            // A hole longer than the window comes in parts.
            let taken = extent.len().min(WINDOW_BYTES.max(extent.data_len()));
            pieces.extend(Piece::of(&extent, 0, len));
            len += taken;
            if taken < extent.len() {
                self.extents.push_front(Extent::Hole { len: extent.len() - taken });
            }
        }
        let size = usize::try_from(len).map_err(io::Error::other)?;
        let (window, failure) = (Mutex::new(vec![0; size]), Mutex::new(None));
        let deliver = |stretch: &Stretch, bytes: Result<&[u8], &str>| match bytes {
            Ok(bytes) => {
                let from = stretch.offset as usize;
                lock(&window)[from..from + bytes.len()].copy_from_slice(bytes);
                true
            }
            Err(reason) => {
                *lock(&failure) = Some(reason.to_owned());
                false
            }
        };
        self.reader.pieces(&pieces, self.workers, &deliver).map_err(io::Error::other)?;
        if let Some(reason) = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.window = window.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.at = 0;
        Ok(())
    }
}

impl Read for FileContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.window.len() && !self.extents.is_empty() {
            self.fill()?;
        }
        let count = buffer.len().min(self.window.len() - self.at);
        buffer[..count].copy_from_slice(&self.window[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
