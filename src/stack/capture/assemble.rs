//! Putting results back into order: the tree, the next file-state cache, the sums.

use super::job::{Done, Kept, Outcome};
use super::stream::put_tree;
use crate::monitor::{Monitor, Warning};
use crate::pack::PackKind;
use crate::repo::entry::{Extent, Node, shown};
use crate::repo::needs::Needs;
use crate::repo::state::StateWriter;
use crate::repo::tree::{TreeRoot, TreeWriter};
use crate::repo::writer::{PackRef, Session, Sink};
use crate::repo::{self};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

/// What the assembler can fail at.
pub(super) enum Error {
    Repo(repo::Error),
    State(std::io::Error),
}

impl Error {
    /// The error with the path of the file-state cache.
    pub(super) fn at(self, state: &Path) -> super::Error {
        match self {
            Error::Repo(error) => error.into(),
            Error::State(source) => super::Error::State { path: state.to_path_buf(), source },
        }
    }
}

impl From<repo::Error> for Error {
    fn from(error: repo::Error) -> Self {
        Error::Repo(error)
    }
}

/// The finished tree and its sums.
pub(super) struct Assembled {
    pub tree: TreeRoot,
    pub state: StateWriter,
    pub entries: u64,
    pub files: u64,
    pub files_changed: u64,
    pub bytes: u64,
    pub bytes_read: u64,
    pub new_bytes: u64,
    pub sqlite: Vec<String>,
}

/// Takes results in any order and uses them in the right one.
pub(super) struct Assembler<'a, 's> {
    monitor: &'a dyn Monitor,
    needs: &'a mut Needs<PackRef>,
    sink: Sink<'s, 's>,
    tree: TreeWriter,
    out: Assembled,
    waiting: BTreeMap<u64, Vec<Outcome>>,
    next: u64,
    lost: HashSet<Vec<u8>>,
}

impl<'a, 's> Assembler<'a, 's> {
    pub(super) fn new(
        session: &'s Session<'s>,
        state: StateWriter,
        needs: &'a mut Needs<PackRef>,
        monitor: &'a dyn Monitor,
    ) -> repo::Result<Self> {
        let out = Assembled {
            tree: TreeRoot::default(),
            state,
            entries: 0,
            files: 0,
            files_changed: 0,
            bytes: 0,
            bytes_read: 0,
            new_bytes: 0,
            sqlite: Vec::new(),
        };
        Ok(Self {
            monitor,
            needs,
            sink: session.sink(PackKind::Tree)?,
            tree: TreeWriter::default(),
            out,
            waiting: BTreeMap::new(),
            next: 0,
            lost: HashSet::new(),
        })
    }

    /// Takes results until the scanner and all workers are done. A failure here tells them to stop.
    pub(super) fn take_all(&mut self, results: &Receiver<Done>, stop: &AtomicBool) -> Result<(), Error> {
        while let Ok((number, outcomes)) = results.recv() {
            self.waiting.insert(number, outcomes);
            while let Some(outcomes) = self.waiting.remove(&self.next) {
                self.next += 1;
                for outcome in outcomes {
                    if let Err(error) = self.take(outcome) {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Outcome::Lost(path, warning) => {
                self.monitor.warn(&warning);
                if warning.incomplete {
                    self.lost.insert(path);
                }
                Ok(())
            }
            Outcome::Kept(kept) => self.keep(*kept),
        }
    }

    fn keep(&mut self, kept: Kept) -> Result<(), Error> {
        let entry = &kept.record.entry;
        if let Node::Hardlink(first) = &entry.node
            && self.lost.contains(first)
        {
            let message = format!("another name of {}, which was not captured", shown(first));
            self.monitor.warn(&Warning::missing(entry.shown_path(), message));
            return Ok(());
        }
        if let Some(warning) = &kept.warning {
            self.monitor.warn(warning);
        }
        for (pack, segment) in &kept.record.places {
            self.needs.add(*pack, *segment);
        }
        self.out.entries += 1;
        if let Node::File(extents) = &entry.node {
            self.out.files += 1;
            self.out.bytes += extents.iter().map(Extent::data_len).sum::<u64>();
        }
        self.out.files_changed += u64::from(kept.read);
        self.out.bytes_read += kept.bytes_read;
        self.out.new_bytes += kept.bytes_new;
        if kept.sqlite {
            self.out.sqlite.push(entry.shown_path());
        }
        let (sink, needs) = (&mut self.sink, &mut *self.needs);
        self.tree.add(entry, &mut |bytes| put_tree(sink, needs, bytes))?;
        if !matches!(entry.node, Node::Hardlink(_)) {
            self.out.state.add(&kept.record).map_err(Error::State)?;
        }
        Ok(())
    }

    /// Ends the tree.
    pub(super) fn finish(self) -> Result<Assembled, Error> {
        let Self { mut sink, needs, tree, mut out, .. } = self;
        out.tree = tree.finish(&mut |bytes| put_tree(&mut sink, needs, bytes))?;
        sink.finish()?;
        Ok(out)
    }
}
