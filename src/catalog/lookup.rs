//! Finding chunks: the question that a capture asks for every chunk it has cut.

use super::{Catalog, Error, Result, connect_for_reading};
use crate::chunk::Codec;
use crate::id::{ChunkId, PackId};
use crate::pack::Place;
use rusqlite::Connection;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The catalog's number of the pack.
    pub pack: u32,
    /// Which segment of it.
    pub segment: u32,
    /// Where in the segment's plaintext, in bytes.
    pub offset: u32,
    /// The chunk's length in bytes.
    pub len: u32,
}

/// Questions that one view of the catalog answers: what other processes write is seen no later.
const VIEW_QUESTIONS: u32 = 1024;
/// Segments whose places are remembered.
const PLACES_MAX: usize = 1 << 14;

/// Finds chunks; one for each thread.
///
/// To begin and end a view of the file costs more than to look into it. So a view is kept for many
/// questions, and given up as soon as this process changes the catalog.
pub struct Lookup {
    path: PathBuf,
    connection: Connection,
    changes: Arc<AtomicU64>,
    /// The count of changes that the open view has, and how many questions it may still answer.
    view: Cell<Option<(u64, u32)>>,
    /// Packs that cannot be relied on, as the view has them.
    unusable: RefCell<HashSet<u32>>,
    /// A pack never changes, and no other gets its number.
    places: RefCell<HashMap<(u32, u32), (PackId, Place)>>,
}

/// A check value over a row of `chunk`: what SQLite does not notice, this does.
pub(super) fn tag(id: &ChunkId, place: Located) -> i64 {
    let mut bytes = [0u8; 48];
    let (name, numbers) = bytes.split_at_mut(32);
    name.copy_from_slice(&id.0);
    let fields = [place.pack, place.segment, place.offset, place.len];
    for (slot, field) in numbers.chunks_exact_mut(4).zip(fields) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    let mut number = [0; 4];
    number.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..4]);
    i64::from(u32::from_le_bytes(number))
}

impl Catalog {
    /// A finder of chunks with a connection of its own.
    ///
    /// # Errors
    /// The file cannot be opened again.
    pub fn lookup(&self) -> Result<Lookup> {
        Ok(Lookup {
            path: self.path.clone(),
            connection: connect_for_reading(&self.path)?,
            changes: Arc::clone(&self.changes),
            view: Cell::new(None),
            unusable: RefCell::default(),
            places: RefCell::default(),
        })
    }
}

impl Lookup {
    /// Where the chunk `id` is, if a pack that can be relied on has it.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Located>> {
        let places = self.find_all(id)?;
        let unusable = self.unusable.borrow();
        Ok(places.into_iter().find(|place| !unusable.contains(&place.pack)))
    }

    /// Everywhere the chunk `id` is, packs that can be relied on first.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn find_all(&self, id: &ChunkId) -> Result<Vec<Located>> {
        let failed = |source| Error::Sqlite { operation: "look up a chunk", path: self.path.clone(), source };
        self.look().map_err(failed)?;
        let mut query = self
            .connection
            .prepare_cached("SELECT pack, segment, offset, len, tag FROM chunk WHERE id = ?1")
            .map_err(failed)?;
        let mut rows = query.query([&id.0[..]]).map_err(failed)?;
        let mut places: Vec<Located> = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let read = || -> rusqlite::Result<(Located, i64)> {
                let place = Located { pack: row.get(0)?, segment: row.get(1)?, offset: row.get(2)?, len: row.get(3)? };
                Ok((place, row.get(4)?))
            };
            let (place, check) = read().map_err(failed)?;
            if check != tag(id, place) {
                return Err(Error::Damaged { path: self.path.clone() });
            }
            places.push(place);
        }
        let unusable = self.unusable.borrow();
        places.sort_by_key(|place| unusable.contains(&place.pack));
        Ok(places)
    }

    /// Begins a view of the catalog, unless there is one that may still be used.
    fn look(&self) -> rusqlite::Result<()> {
        let changes = self.changes.load(Ordering::Acquire);
        if let Some((seen, left)) = self.view.get() {
            if seen == changes && left > 0 {
                self.view.set(Some((seen, left - 1)));
                return Ok(());
            }
            self.view.set(None);
            self.connection.prepare_cached("COMMIT")?.execute([])?;
        }
        self.connection.prepare_cached("BEGIN")?.execute([])?;
        let mut query = self.connection.prepare_cached("SELECT no FROM pack WHERE present = 2")?;
        let numbers = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        self.unusable.replace(numbers);
        self.view.set(Some((changes, VIEW_QUESTIONS)));
        Ok(())
    }

    /// Where a segment lies in its pack, and the pack.
    ///
    /// # Errors
    /// The catalog is damaged: it names the segment of a chunk and does not know it.
    pub fn place(&self, pack: u32, segment: u32) -> Result<(PackId, Place)> {
        if let Some(known) = self.places.borrow().get(&(pack, segment)) {
            return Ok(*known);
        }
        let found = self.read_place(pack, segment)?;
        let mut places = self.places.borrow_mut();
        if places.len() >= PLACES_MAX {
            places.clear();
        }
        places.insert((pack, segment), found);
        Ok(found)
    }

    fn read_place(&self, pack: u32, segment: u32) -> Result<(PackId, Place)> {
        let failed = |source| Error::Sqlite { operation: "look up a segment", path: self.path.clone(), source };
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT name, codec, offset, stored, plain FROM segment JOIN pack ON pack.no = segment.pack
                 WHERE segment.pack = ?1 AND segment.segment = ?2",
            )
            .map_err(failed)?;
        let (name, codec, offset, stored_len, plain_len) = query
            .query_row([pack, segment], |row| {
                let name: [u8; 32] = row.get(0)?;
                let offset: i64 = row.get(2)?;
                Ok((name, row.get::<_, u8>(1)?, offset, row.get(3)?, row.get(4)?))
            })
            .map_err(failed)?;
        match (Codec::from_byte(codec), u64::try_from(offset)) {
            (Some(codec), Ok(offset)) => Ok((PackId(name), Place { codec, offset, stored_len, plain_len })),
            _ => Err(Error::Damaged { path: self.path.clone() }),
        }
    }
}
