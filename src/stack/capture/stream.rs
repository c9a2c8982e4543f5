//! Capturing streams: dumps and archives that are read once, from their beginning to their end.
//!
//! The streams become the files of a small tree, so that everything that reads trees reads them too.
//! All workers share each stream as they share a large file: they take turns at reading and cutting,
//! and do the rest side by side. A stream's own end decides whether it was whole: a [`Read`] that
//! fails makes the capture fail, and is never taken for an end.

use super::content::Content;
use super::read::{Block, BlockReader};
use super::{Error, Result};
use crate::chunk::Profile;
use crate::monitor::{Monitor, lock};
use crate::pack::PackKind;
use crate::repo::entry::{Entry, Meta, Node, compare_paths, shown};
use crate::repo::needs::Needs;
use crate::repo::tree::{TreeRoot, TreeWriter};
use crate::repo::writer::{PackRef, Session, Sink};
use crate::repo::{self, Repository};
use std::io::Read;
use std::sync::Mutex;

/// A file that a stream becomes.
pub struct StreamFile<'s> {
    /// Its path in the tree; the folders above it are made.
    pub path: Vec<u8>,
    /// Its attributes.
    pub meta: Meta,
    /// Its content.
    pub content: Box<dyn Read + Send + 's>,
    /// How it is cut.
    pub profile: Profile,
}

/// What a captured stream has become.
#[derive(Debug, Clone)]
pub struct StreamedFile {
    /// Its entry.
    pub entry: Entry,
    /// Bytes of it.
    pub bytes: u64,
    /// Bytes of them that the repository did not have.
    pub bytes_new: u64,
}

/// Captures one stream on `workers` threads and adds the segments it needs to `needs`.
///
/// # Errors
/// The stream fails, the repository cannot be written, or the person stops the work.
pub fn capture_stream(
    repository: &Repository,
    session: &Session<'_>,
    file: StreamFile<'_>,
    workers: usize,
    needs: &mut Needs<PackRef>,
    monitor: &dyn Monitor,
) -> Result<StreamedFile> {
    let StreamFile { path, meta, content, profile } = file;
    let shared = Shared {
        repository,
        cursor: Mutex::new(Some(BlockReader::of_stream(content, profile))),
        content: Mutex::new(Content::default()),
        failure: Mutex::new(None),
        monitor,
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(|| shared.work(session))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Err(repo::Error::Unfinished { what: "a worker" })))
    })?;
    let failure = lock(&shared.failure).take();
    if let Some(source) = failure {
        return Err(Error::Stream { path: shown(&path), source });
    }
    if monitor.cancelled() {
        return Err(repo::Error::Interrupted.into());
    }
    let content = shared.content.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (bytes, bytes_new) = (content.bytes, content.bytes_new);
    let (extents, places) = content.in_order();
    for (pack, segment) in places {
        needs.add(pack, segment);
    }
    Ok(StreamedFile { entry: Entry { path, node: Node::File(extents), meta }, bytes, bytes_new })
}

struct Shared<'a> {
    repository: &'a Repository,
    /// Gone once the stream has ended or failed.
    cursor: Mutex<Option<BlockReader<'a>>>,
    content: Mutex<Content>,
    failure: Mutex<Option<std::io::Error>>,
    monitor: &'a dyn Monitor,
}

impl Shared<'_> {
    fn work(&self, session: &Session<'_>) -> repo::Result<()> {
        let mut sink = session.sink(PackKind::Data)?;
        let mut block = Block::default();
        while !self.monitor.cancelled() && self.take_turn(&mut block) {
            let mut content = Content::default();
            let put = content.put(&block, &mut sink, self.monitor);
            if put.is_err() {
                // Nobody else needs to read on.
                *lock(&self.cursor) = None;
                return put;
            }
            lock(&self.content).absorb(content);
        }
        sink.finish()
    }

    fn take_turn(&self, block: &mut Block) -> bool {
        let mut cursor = lock(&self.cursor);
        let Some(reader) = &mut *cursor else { return false };
        let more = match reader.next(self.repository.cutter(), block) {
            Ok(more) => more,
            Err(error) => {
                *lock(&self.failure) = Some(error);
                false
            }
        };
        if !more {
            *cursor = None;
        }
        more
    }
}

/// Stores the tree that `entries` make, in any order; folders above them are added with `folder` as
/// their attributes.
///
/// # Errors
/// The repository cannot be written.
pub fn store_tree(
    session: &Session<'_>,
    mut entries: Vec<Entry>,
    folder: &Meta,
    needs: &mut Needs<PackRef>,
) -> Result<(TreeRoot, u64)> {
    let mut folders: Vec<Vec<u8>> = vec![Vec::new()];
    for entry in &entries {
        let parents = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        folders.extend(parents.map(|at| entry.path[..at].to_vec()));
    }
    folders.sort_unstable();
    folders.dedup();
    let own = |path: &Vec<u8>| entries.iter().any(|entry| entry.path == *path);
    let missing: Vec<Vec<u8>> = folders.into_iter().filter(|path| !own(path)).collect();
    entries.extend(missing.into_iter().map(|path| Entry { path, node: Node::Dir, meta: folder.clone() }));
    entries.sort_unstable_by(|a, b| compare_paths(&a.path, &b.path));
    let mut sink = session.sink(PackKind::Tree)?;
    let mut put = |bytes: &[u8]| put_tree(&mut sink, needs, bytes);
    let mut tree = TreeWriter::default();
    for entry in &entries {
        tree.add(entry, &mut put)?;
    }
    let root = tree.finish(&mut put)?;
    sink.finish()?;
    Ok((root, entries.len() as u64))
}

/// Stores one chunk of a tree and notes that it is needed.
pub(super) fn put_tree(
    sink: &mut Sink<'_, '_>,
    needs: &mut Needs<PackRef>,
    bytes: &[u8],
) -> repo::Result<crate::id::ChunkId> {
    let stored = sink.put(bytes)?;
    needs.add(stored.pack, stored.segment);
    Ok(stored.id)
}
