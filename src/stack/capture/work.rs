//! A worker of a capture: everything between a found thing and its record.

use super::big::{BigFile, Cursor};
use super::content::Content;
use super::job::{Item, Kept, Outcome};
use super::read::{Block, BlockReader};
use super::tick::open_settled;
use super::{Result, scan, sqlite};
use crate::chunk::Profile;
use crate::limits::READ_ATTEMPTS_MAX;
use crate::monitor::{Monitor, Warning, lock};
use crate::repo::entry::{Entry, Meta, Node, shown};
use crate::repo::state::{FileStat, StateRecord};
use crate::repo::sync::Chain;
use crate::repo::writer::Sink;
use crate::repo::{self, Repository};
use crate::stack::files::content::{advise_done, data_extents, is_sqlite, same_stat, state};
use crate::stack::files::{Found, FoundKind, Stat, read_xattrs_fd};
use std::fs::File;
use std::sync::atomic::Ordering;

/// A file of at least this size does not stay in the page cache on snap's account.
const CACHE_BYTES_MAX: u64 = 64 << 20;

/// A file that was read once, as it was when it was opened.
struct Opened {
    file: File,
    before: Stat,
    meta: Meta,
    content: Content,
}

/// Why a file has no content: its own fault, or the repository's.
pub(super) enum Failure {
    File(String),
    Repo(repo::Error),
}

impl From<repo::Error> for Failure {
    fn from(error: repo::Error) -> Self {
        Failure::Repo(error)
    }
}

pub(super) type Reading<T> = std::result::Result<T, Failure>;

pub(super) fn of_file(error: &dyn std::error::Error) -> Failure {
    Failure::File(Chain(error).to_string())
}

/// One of the threads that read.
pub(super) struct Worker<'a, 's, 'r> {
    repository: &'a Repository,
    sink: Sink<'s, 'r>,
    monitor: &'a dyn Monitor,
    block: Block,
}

impl<'a, 's, 'r> Worker<'a, 's, 'r> {
    pub(super) fn new(repository: &'a Repository, sink: Sink<'s, 'r>, monitor: &'a dyn Monitor) -> Self {
        Self { repository, sink, monitor, block: Block::default() }
    }

    /// Ends the work: what was put becomes part of the session.
    pub(super) fn finish(self) -> std::result::Result<(), repo::Error> {
        self.sink.finish()
    }

    /// Works through a batch.
    pub(super) fn batch(&mut self, items: Vec<Item>) -> Result<Vec<Outcome>> {
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            out.push(match item {
                Item::Changed(_) if self.monitor.cancelled() => return Err(repo::Error::Interrupted.into()),
                Item::Changed(found) => self.changed(&found)?,
                other => scan::settled(other),
            });
        }
        Ok(out)
    }

    fn changed(&mut self, found: &Found) -> Result<Outcome> {
        let result = match found.kind {
            FoundKind::File => self.file(found, None),
            _ => other_node(found).map(|node| kept(found, node, found.meta.clone(), FileStat::default())),
        };
        match result {
            Ok(kept) => Ok(Outcome::Kept(Box::new(kept))),
            Err(Failure::File(message)) => {
                Ok(Outcome::Lost(found.path.clone(), Warning::missing(shown(&found.path), message)))
            }
            Err(Failure::Repo(error)) => Err(error.into()),
        }
    }

    /// A regular file, read until nothing happens to it while it is read. `first` is a first reading
    /// that was done already, with the state before it.
    fn file(&mut self, found: &Found, mut first: Option<Opened>) -> Reading<Kept> {
        for attempt in 1..=READ_ATTEMPTS_MAX {
            let Opened { file, before, meta, content } = match first.take() {
                Some(read) => read,
                None => {
                    let (file, before, meta) = open_settled(found).map_err(|e| of_file(&e))?;
                    if let Some(kept) = self.database(found, &file, &before, &meta)? {
                        return Ok(kept);
                    }
                    let mut reader = open_reader(file, &before, &found.path)?;
                    let content = self.read(&mut reader, &found.path)?;
                    let file = reader.into_file().ok_or_else(|| Failure::File("it was not read".to_owned()))?;
                    Opened { file, before, meta, content }
                }
            };
            let after = state(&file, &found.path).map_err(|e| of_file(&e))?;
            let same = same_stat(&before, &after);
            if same || attempt == READ_ATTEMPTS_MAX {
                let mut kept = self.kept_file(found, &file, &before, meta, content)?;
                if !same {
                    // Inode 0 fits no file: next time it is read in any case.
                    kept.record.stat.inode = 0;
                    let message =
                        format!("it changed while it was read, {READ_ATTEMPTS_MAX} times; its content may be torn");
                    kept.warning = Some(Warning::missing(shown(&found.path), message));
                }
                return Ok(kept);
            }
        }
        Err(Failure::File("it was not read".to_owned()))
    }

    fn kept_file(&self, found: &Found, file: &File, stat: &Stat, meta: Meta, content: Content) -> Reading<Kept> {
        if stat.size >= CACHE_BYTES_MAX {
            advise_done(file, 0, 0);
        }
        let xattrs = read_xattrs_fd(file, &found.path).map_err(|e| of_file(&e))?;
        let meta = Meta { xattrs, ..meta };
        let file_stat = FileStat { inode: stat.ino, ctime: stat.ctime, size: stat.size, beside: Vec::new() };
        let (bytes, bytes_new) = (content.bytes, content.bytes_new);
        let (extents, places) = content.in_order();
        let mut kept = kept(found, Node::File(extents), meta, file_stat);
        kept.record.places = places;
        (kept.bytes_read, kept.bytes_new) = (bytes, bytes_new);
        Ok(kept)
    }

    fn read(&mut self, reader: &mut BlockReader<'_>, path: &[u8]) -> Reading<Content> {
        let mut content = Content::default();
        loop {
            let mut block = std::mem::take(&mut self.block);
            let more = reader.next(self.repository.cutter(), &mut block);
            let result = match more {
                Ok(true) => self.put(&block, &mut content).map(|()| true),
                Ok(false) => Ok(false),
                Err(error) => Err(Failure::File(format!("cannot read {}: {error}", shown(path)))),
            };
            self.block = block;
            if !result? {
                return Ok(content);
            }
            if self.monitor.cancelled() {
                return Err(repo::Error::Interrupted.into());
            }
        }
    }

    fn put(&mut self, block: &Block, content: &mut Content) -> Reading<()> {
        Ok(content.put(block, &mut self.sink, self.monitor)?)
    }

    /// A database goes through SQLite's own backup; `None` for any other file, and for one that
    /// SQLite cannot open.
    fn database(&mut self, found: &Found, file: &File, stat: &Stat, meta: &Meta) -> Reading<Option<Kept>> {
        use std::os::unix::fs::FileExt;
        let mut header = [0; 100];
        if stat.size < 100 || file.read_exact_at(&mut header, 0).is_err() || !is_sqlite(&header) {
            return Ok(None);
        }
        let beside = sqlite::fingerprint(found);
        let folder = self.repository.catalog().folder().join("tmp");
        let copy = match sqlite::back_up(found, &folder) {
            Ok(copy) => copy,
            Err(reason) => {
                let message = format!("SQLite cannot back it up ({reason}); it is kept as a plain file");
                if sqlite::has_log(found) {
                    let message = format!("{message}, without its log or journal");
                    self.monitor.warn(&Warning::missing(shown(&found.path), message));
                } else {
                    self.monitor.warn(&Warning::note(shown(&found.path), message));
                }
                return Ok(None);
            }
        };
        let size = copy.file.metadata().map_err(|e| of_file(&e))?.len();
        let mut reader = BlockReader::new(copy.file, size, vec![(0, size)], Profile::PAGES);
        let content = self.read(&mut reader, &found.path)?;
        let mut kept = self.kept_file(found, file, stat, meta.clone(), content)?;
        kept.record.stat.beside = beside;
        kept.sqlite = true;
        kept.warning = copy.flaw.map(|flaw| Warning::missing(shown(&found.path), flaw));
        Ok(Some(kept))
    }

    /// Takes part in reading a large file; whoever is the last to leave gives the result.
    pub(super) fn share(&mut self, file: &BigFile) -> Result<Option<(u64, Vec<Outcome>)>> {
        loop {
            if self.monitor.cancelled() {
                return Err(repo::Error::Interrupted.into());
            }
            let mut block = std::mem::take(&mut self.block);
            let turn = file.take_turn(self.repository, &mut block);
            let result = match turn {
                true => {
                    let mut content = Content::default();
                    let put = self.put(&block, &mut content);
                    lock(&file.parts).push(content);
                    put.map(|()| true)
                }
                false => Ok(false),
            };
            self.block = block;
            match result {
                Ok(true) => {}
                Ok(false) => break,
                Err(Failure::Repo(error)) => return Err(error.into()),
                Err(Failure::File(message)) => lock(&file.cursor).fail(message),
            }
        }
        if file.tickets.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(None);
        }
        Ok(Some((file.number, vec![self.conclude(file)?])))
    }

    /// Joins the parts of a large file; one that must be read otherwise is read here, alone.
    fn conclude(&mut self, file: &BigFile) -> Result<Outcome> {
        let found = &file.found;
        let cursor = std::mem::replace(&mut *lock(&file.cursor), Cursor::Unopened);
        let result = match cursor {
            Cursor::Failed(message) => Err(Failure::File(message)),
            Cursor::Open { reader, before, meta, .. } => {
                let mut content = Content::default();
                for part in std::mem::take(&mut *lock(&file.parts)) {
                    content.absorb(part);
                }
                match reader.into_file() {
                    Some(file) => self.file(found, Some(Opened { file, before, meta, content })),
                    None => self.file(found, None),
                }
            }
            Cursor::Unopened | Cursor::Database => self.file(found, None),
        };
        match result {
            Ok(kept) => Ok(Outcome::Kept(Box::new(kept))),
            Err(Failure::File(message)) => {
                Ok(Outcome::Lost(found.path.clone(), Warning::missing(shown(&found.path), message)))
            }
            Err(Failure::Repo(error)) => Err(error.into()),
        }
    }
}

pub(super) fn open_reader(file: File, stat: &Stat, path: &[u8]) -> Reading<BlockReader<'static>> {
    let runs = data_extents(&file, stat.size, stat.blocks, path).map_err(|e| of_file(&e))?;
    Ok(BlockReader::new(file, stat.size, runs, Profile::FILES))
}

fn other_node(found: &Found) -> Reading<Node> {
    Ok(match found.kind {
        FoundKind::Dir => Node::Dir,
        FoundKind::Symlink => Node::Symlink(found.read_link().map_err(|e| of_file(&e))?),
        FoundKind::Fifo => Node::Fifo,
        FoundKind::CharDevice { major, minor } => Node::CharDevice { major, minor },
        FoundKind::BlockDevice { major, minor } => Node::BlockDevice { major, minor },
        FoundKind::File => Node::File(Vec::new()),
    })
}

/// A record of something found. What is no regular file gets its attributes here.
fn kept(found: &Found, node: Node, meta: Meta, stat: FileStat) -> Kept {
    let (mut meta, mut stat, mut warning) = (meta, stat, None);
    if found.kind != FoundKind::File {
        match found.read_xattrs() {
            Ok(xattrs) => meta.xattrs = xattrs,
            Err(error) => warning = Some(Warning::missing(shown(&found.path), Chain(&error).to_string())),
        }
        let (inode, ctime, size) = (found.stat.ino, found.stat.ctime, found.stat.size);
        stat = FileStat { inode, ctime, size, beside: Vec::new() };
    }
    let entry = Entry { path: found.path.clone(), node, meta };
    let record = StateRecord { entry, stat, places: Vec::new() };
    let read = found.kind == FoundKind::File;
    Kept { record, read, bytes_read: 0, bytes_new: 0, warning, sqlite: false }
}
