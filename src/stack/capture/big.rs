//! A large file that all workers read together: they take turns at reading and cutting a block, and
//! hash, compress and store side by side.

use super::content::Content;
use super::read::{Block, BlockReader};
use super::tick::open_settled;
use super::work::{Failure, of_file, open_reader};
use crate::monitor::lock;
use crate::repo::Repository;
use crate::repo::entry::{Meta, shown};
use crate::repo::sync::Chain;
use crate::stack::files::content::is_sqlite;
use crate::stack::files::{Found, Stat};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

/// A large file, read by all workers in turns.
pub(super) struct BigFile {
    pub(super) number: u64,
    pub(super) found: Found,
    pub(super) tickets: AtomicUsize,
    pub(super) cursor: Mutex<Cursor>,
    pub(super) parts: Mutex<Vec<Content>>,
}

pub(super) enum Cursor {
    Unopened,
    Open {
        reader: Box<BlockReader<'static>>,
        before: Stat,
        meta: Meta,
        ended: bool,
    },
    /// To be read by one worker alone.
    Database,
    Failed(String),
}

impl Cursor {
    pub(super) fn fail(&mut self, message: String) {
        *self = Cursor::Failed(message);
    }
}

impl BigFile {
    /// The file, which stands at `number` in the order, for so many workers.
    pub(super) fn new(number: u64, found: Found, workers: usize) -> Self {
        let (tickets, cursor) = (AtomicUsize::new(workers), Mutex::new(Cursor::Unopened));
        Self { number, found, tickets, cursor, parts: Mutex::new(Vec::new()) }
    }

    /// Reads the next block; false when there is nothing more to take.
    pub(super) fn take_turn(&self, repository: &Repository, block: &mut Block) -> bool {
        let mut cursor = lock(&self.cursor);
        if matches!(*cursor, Cursor::Unopened) {
            *cursor = self.open();
        }
        let Cursor::Open { reader, ended, .. } = &mut *cursor else { return false };
        if *ended {
            return false;
        }
        match reader.next(repository.cutter(), block) {
            Ok(more) => {
                *ended = !more;
                more
            }
            Err(error) => {
                cursor.fail(format!("cannot read {}: {error}", shown(&self.found.path)));
                false
            }
        }
    }

    fn open(&self) -> Cursor {
        use std::os::unix::fs::FileExt;
        let opened = open_settled(&self.found).map_err(|e| of_file(&e)).and_then(|(file, before, meta)| {
            let mut header = [0; 16];
            if file.read_exact_at(&mut header, 0).is_ok() && is_sqlite(&header) {
                return Ok(Cursor::Database);
            }
            let reader = Box::new(open_reader(file, &before, &self.found.path)?);
            Ok(Cursor::Open { reader, before, meta, ended: false })
        });
        match opened {
            Ok(cursor) => cursor,
            Err(Failure::File(message)) => Cursor::Failed(message),
            Err(Failure::Repo(error)) => Cursor::Failed(Chain(&error).to_string()),
        }
    }
}
