//! The scanner of a capture: finds, compares with the last capture, and hands out batches.

use super::big::BigFile;
use super::job::{Done, Item, Job, Kept, Outcome};
use super::tick::is_racy;
use super::{FolderOptions, Result, sqlite};
use crate::monitor::{Monitor, Warning};
use crate::repo::Repository;
use crate::repo::entry::{Entry, Meta, Node, shown};
use crate::repo::state::{StateReader, StateRecord};
use crate::stack::files::{Event, Found, FoundKind, Reason, WalkOptions, walk};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// A batch is handed out when it holds this many things …
const BATCH_ITEMS: usize = 512;
/// … or this many bytes to read.
const BATCH_BYTES: u64 = 8 << 20;
/// A file of at least this size is shared by all workers.
const BIG_BYTES: u64 = 16 << 20;

/// Where batches go.
pub(super) struct Out {
    /// To the workers.
    pub jobs: SyncSender<Job>,
    /// Straight to the assembler.
    pub done: SyncSender<Done>,
}

struct Scanner<'a> {
    options: &'a FolderOptions,
    out: Out,
    monitor: &'a dyn Monitor,
    state: Option<StateReader>,
    batch: Vec<Item>,
    losses: Vec<Outcome>,
    changed: usize,
    bytes: u64,
    number: u64,
    total: u64,
    /// Regular files with several names, by device and inode, and the first name of each.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The last file that was asked whether it is a database, and the answer.
    asked: Option<(Vec<u8>, bool)>,
}

pub(super) fn scan(
    repository: &Repository,
    root: &Path,
    options: &FolderOptions,
    out: Out,
    stop: &AtomicBool,
    monitor: &dyn Monitor,
) -> Result<()> {
    // What lies in packs that cannot be relied on is read and stored again.
    let packs = repository.catalog().packs().map_err(crate::repo::Error::from)?;
    let numbers: HashMap<_, _> = packs.into_iter().filter(|p| p.usable).map(|p| (p.id, p.number)).collect();
    let key = repository.secrets().cache_key();
    let mut scanner = Scanner {
        options,
        out,
        monitor,
        state: StateReader::open(&options.state, &key, &|id| numbers.get(id).copied()),
        batch: Vec::new(),
        losses: Vec::new(),
        changed: 0,
        bytes: 0,
        number: 0,
        total: 0,
        links: HashMap::new(),
        asked: None,
    };
    let walk_options = WalkOptions {
        exclude: options.exclude.clone(),
        one_file_system: options.one_file_system,
        skip: options.skip.clone(),
    };
    walk(root, &walk_options, &mut |event| {
        if stop.load(Ordering::Relaxed) || monitor.cancelled() {
            return ControlFlow::Break(());
        }
        scanner.take(event)
    })?;
    // A closed way means that another thread has failed, and that one says why.
    let _ = scanner.flush();
    Ok(())
}

impl Scanner<'_> {
    fn take(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Found(found) => self.found(found),
            Event::LeftOut { path, reason } => self.left_out(&path, &reason),
            Event::BadPattern { path, message } => {
                self.monitor.warn(&Warning::note(shown(&path), message));
                ControlFlow::Continue(())
            }
        }
    }

    fn left_out(&mut self, path: &[u8], reason: &Reason) -> ControlFlow<()> {
        let warning = match reason {
            Reason::Excluded | Reason::Cache => return ControlFlow::Continue(()),
            Reason::Skipped(_) => Warning::expected(shown(path), format!("left out: {reason}")),
            Reason::Socket | Reason::Unfinished => Warning::note(shown(path), format!("left out: {reason}")),
            Reason::OtherFileSystem => {
                let message = "its content is on another file system and was not captured (--cross-mounts enters it)";
                Warning::missing(shown(path), message)
            }
            Reason::Vanished | Reason::Replaced | Reason::Unreadable(_) => {
                Warning::missing(shown(path), reason.to_string())
            }
        };
        self.losses.push(Outcome::Lost(path.to_vec(), warning));
        ControlFlow::Continue(())
    }

    fn found(&mut self, found: Found) -> ControlFlow<()> {
        if found.kind == FoundKind::File && self.is_beside_database(&found) {
            return ControlFlow::Continue(());
        }
        if found.kind == FoundKind::File && found.stat.nlink > 1 {
            let key = (found.stat.dev, found.stat.ino);
            if let Some(first) = self.links.get(&key) {
                let first = first.clone();
                return self.push(Item::Link(Box::new(found), first));
            }
            self.links.insert(key, found.path.clone());
        }
        if let Some(record) = self.unchanged(&found) {
            return self.push(Item::Unchanged(Box::new(record)));
        }
        if found.kind != FoundKind::File {
            self.changed += 1;
            return self.push(Item::Changed(Box::new(found)));
        }
        self.total += found.stat.size;
        self.monitor.total(self.total);
        if found.stat.size >= BIG_BYTES {
            return self.big(found);
        }
        self.bytes += found.stat.size;
        self.changed += 1;
        self.push(Item::Changed(Box::new(found)))
    }

    /// A database's log or journal: what it holds is in the database's backup.
    fn is_beside_database(&mut self, found: &Found) -> bool {
        let Some(base) = sqlite::database_of(&found.path) else { return false };
        if let Some((asked, answer)) = &self.asked
            && asked == base
        {
            return *answer;
        }
        let answer = sqlite::is_database_beside(found, base);
        self.asked = Some((base.to_vec(), answer));
        answer
    }

    fn unchanged(&mut self, found: &Found) -> Option<StateRecord> {
        let state = self.state.as_mut()?;
        let record = state.take(&found.path)?;
        let stat = &found.stat;
        let same = record.stat.inode == stat.ino
            && record.stat.ctime == stat.ctime
            && record.stat.size == stat.size
            && same_meta(&record.entry.meta, &found.meta)
            && same_kind(&record.entry.node, found.kind)
            && !is_racy(stat.ctime, state.start())
            && !is_racy(stat.mtime, state.start());
        let start = state.start();
        (same && sqlite::beside_is_same(found, &record.stat.beside, &|time| is_racy(time, start))).then_some(record)
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        self.batch.push(item);
        if self.batch.len() >= BATCH_ITEMS || self.bytes >= BATCH_BYTES {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let items = std::mem::take(&mut self.batch);
        let losses = std::mem::take(&mut self.losses);
        if !losses.is_empty() {
            let number = self.next_number();
            sent(self.out.done.send((number, losses)))?;
        }
        if items.is_empty() {
            return ControlFlow::Continue(());
        }
        let number = self.next_number();
        if self.changed > 0 {
            (self.changed, self.bytes) = (0, 0);
            return sent(self.out.jobs.send(Job::Batch(number, items)));
        }
        let outcomes = items.into_iter().map(settled).collect();
        sent(self.out.done.send((number, outcomes)))
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn big(&mut self, found: Found) -> ControlFlow<()> {
        self.flush()?;
        let workers = self.options.workers.max(1);
        let file = Arc::new(BigFile::new(self.next_number(), found, workers));
        for _ in 0..workers {
            sent(self.out.jobs.send(Job::Big(Arc::clone(&file))))?;
        }
        ControlFlow::Continue(())
    }
}

fn sent<T>(result: std::result::Result<(), std::sync::mpsc::SendError<T>>) -> ControlFlow<()> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// An item that needs no worker.
pub(super) fn settled(item: Item) -> Outcome {
    match item {
        Item::Unchanged(record) => {
            let sqlite = !record.stat.beside.is_empty();
            Outcome::Kept(Box::new(Kept {
                record: *record,
                read: false,
                bytes_read: 0,
                bytes_new: 0,
                warning: None,
                sqlite,
            }))
        }
        Item::Link(found, first) => {
            let meta = found.meta.clone();
            let entry = Entry { path: found.path.clone(), node: Node::Hardlink(first), meta };
            let record = StateRecord { entry, stat: Default::default(), places: Vec::new() };
            Outcome::Kept(Box::new(Kept {
                record,
                read: false,
                bytes_read: 0,
                bytes_new: 0,
                warning: None,
                sqlite: false,
            }))
        }
        Item::Changed(found) => {
            let warning = Warning::missing(shown(&found.path), "it was not read");
            Outcome::Lost(found.path, warning)
        }
    }
}

fn same_meta(before: &Meta, now: &Meta) -> bool {
    (before.mode, before.uid, before.gid, before.mtime) == (now.mode, now.uid, now.gid, now.mtime)
}

fn same_kind(node: &Node, kind: FoundKind) -> bool {
    match (node, kind) {
        (Node::Dir, FoundKind::Dir)
        | (Node::File(_), FoundKind::File)
        | (Node::Symlink(_), FoundKind::Symlink)
        | (Node::Fifo, FoundKind::Fifo) => true,
        (Node::CharDevice { major, minor }, FoundKind::CharDevice { major: a, minor: b })
        | (Node::BlockDevice { major, minor }, FoundKind::BlockDevice { major: a, minor: b }) => {
            (*major, *minor) == (a, b)
        }
        _ => false,
    }
}
