//! Reading a snapshot back: chunks by id, trees as streams of entries, many chunks at once.
//!
//! Whatever comes out of here has been hashed again and compared with its id. Damage is data: what
//! cannot be had is reported for each chunk, and the rest comes all the same.

mod known;
mod pieces;

pub use pieces::{Deliver, Piece, Stretch};

use super::entry::Extent;
use super::manifest::Need;
use super::{Error, Repository, Result, sync::Chain};
use crate::catalog::Lookup;
use crate::id::{ChunkId, PackId};
use crate::monitor::{Quiet, lock};
use crate::pack::{PackReader, Place};
use crate::store::Key;
use known::Known;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

/// Where a chunk is, ready to be read. Ordered by pack, then by place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The pack.
    pub pack: PackId,
    /// The segment.
    pub place: Place,
    /// The chunk's first byte in the segment's plaintext.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
}

/// Opened headers of packs, shared by threads.
#[derive(Default)]
struct PackCache {
    packs: Mutex<HashMap<PackId, Arc<PackReader>>>,
}

/// More headers are not kept: each is some 200 bytes, and opening one costs 0.1 ms.
const CACHED_PACKS_MAX: usize = 4096;

/// Reads chunks and trees.
pub struct Reader<'r> {
    repository: &'r Repository,
    lookup: Lookup,
    packs: Arc<PackCache>,
    /// What the catalog does not have: index objects that it has not learnt, and footers of packs that a
    /// manifest names and no index object lists.
    known: Arc<Known>,
    /// The segment read last: chunks of a tree lie side by side.
    last: Option<(PackId, u64, Vec<u8>)>,
}

impl<'r> Reader<'r> {
    /// A reader of `repository`, whose catalog has been synced.
    ///
    /// # Errors
    /// The key at hand cannot open content, or the catalog cannot be read.
    pub fn new(repository: &'r Repository) -> Result<Self> {
        repository.require_owner("read what snapshots hold")?;
        let lookup = repository.catalog.lookup()?;
        Ok(Self { repository, lookup, packs: Arc::default(), known: Arc::default(), last: None })
    }

    /// A reader of `repository`, whatever its catalog knows: what that lacks is learnt for this reader
    /// alone, as long as it is not too much to hold in memory. One restore needs each answer once, and to
    /// write all of them down first takes longer.
    ///
    /// # Errors
    /// As [`Self::new`], and the index objects cannot be listed.
    pub fn without_learning(repository: &'r Repository) -> Result<Self> {
        repository.require_owner("read what snapshots hold")?;
        let Some(unlearnt) = repository.unlearnt()? else {
            repository.sync_indexes(&Quiet::default())?;
            return Self::new(repository);
        };
        let mut reader = Self::new(repository)?;
        let known = Arc::make_mut(&mut reader.known);
        for pack in &unlearnt {
            known.add(pack.id, &pack.footer);
        }
        Ok(reader)
    }

    /// A reader of its own that knows what this one knows.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub fn another(&self) -> Result<Self> {
        let lookup = self.repository.catalog.lookup()?;
        let (packs, known) = (Arc::clone(&self.packs), Arc::clone(&self.known));
        Ok(Self { repository: self.repository, lookup, packs, known, last: None })
    }

    /// Where the chunk is: every copy of it, those in packs that can be relied on first.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<Spot>> {
        let mut spots = Vec::new();
        for at in self.lookup.find_all(id)? {
            let (pack, place) = self.lookup.place(at.pack, at.segment)?;
            spots.push(Spot { pack, place, offset: at.offset, len: at.len });
        }
        spots.extend(self.known.spots(id));
        Ok(spots)
    }

    /// Reads the footers of those packs a manifest needs that no index object lists: a lost index
    /// object then loses nothing. Gives the packs that cannot be read, and why.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn add_unlisted(&mut self, needs: &[Need]) -> Result<Vec<(PackId, String)>> {
        let listed = self.repository.listed_packs()?;
        let is_known = |need: &&Need| listed.contains(&need.pack) || self.known.has(&need.pack);
        let unknown: Vec<&Need> = needs.iter().filter(|need| !is_known(need)).collect();
        let (mut bad, mut gone) = (Vec::new(), BTreeSet::new());
        if unknown.is_empty() {
            return Ok(bad);
        }
        let mut moves = self.repository.moves()?;
        moves.learn(self.known.moves());
        for Need { pack, .. } in unknown.into_iter().filter(|need| !moves.cover(need)) {
            let footer = self
                .packs
                .get(self.repository, *pack)
                .and_then(|reader| reader.footer(&*self.repository.store).map_err(Error::from));
            match footer {
                Ok(footer) => Arc::make_mut(&mut self.known).add(*pack, &footer),
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => {
                    if error.is_not_found() {
                        gone.insert(*pack);
                    }
                    bad.push((*pack, Chain(&error).to_string()));
                }
            }
        }
        if !gone.is_empty() {
            let sizes = self.repository.pack_sizes()?;
            for pack in self.repository.moved_from(&gone, &sizes, &listed, &Quiet::default())? {
                Arc::make_mut(&mut self.known).add(pack.id, &pack.footer);
                let origins = || pack.footer.segments.iter().flat_map(|segment| &segment.origins);
                bad.retain(|(id, _)| !origins().any(|from| from.pack == *id));
            }
        }
        Ok(bad)
    }

    /// One chunk: from another pack where the first does not have it as it should be.
    ///
    /// # Errors
    /// It cannot be had, or is not what its id says.
    pub fn chunk(&mut self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut first = None;
        for spot in self.locate(id)? {
            match self.read(id, &spot) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| missing(id)))
    }

    fn read(&mut self, id: &ChunkId, spot: &Spot) -> Result<Vec<u8>> {
        let cached = matches!(&self.last, Some((pack, at, _)) if *pack == spot.pack && *at == spot.place.offset);
        if !cached {
            let reader = self.packs.get(self.repository, spot.pack)?;
            let segment = reader.segment(&*self.repository.store, spot.place)?;
            self.last = Some((spot.pack, spot.place.offset, segment));
        }
        let segment = self.last.as_ref().map(|(_, _, bytes)| bytes.as_slice()).unwrap_or_default();
        Ok(verified(self.repository, segment, spot, id)?.to_vec())
    }

    /// The bytes of an extent that is no hole; of a hole none.
    ///
    /// # Errors
    /// They cannot be had, or are not what the tree says.
    pub fn content(&mut self, extent: &Extent) -> Result<Vec<u8>> {
        let Some(piece) = Piece::of(extent, 0, 0) else { return Ok(Vec::new()) };
        let mut bytes = self.chunk(&piece.id)?;
        let (from, to) = (piece.from as usize, piece.from as usize + piece.len as usize);
        if to > bytes.len() || (piece.whole && to != bytes.len()) {
            let what = "the tree and the index disagree about its length".to_owned();
            return Err(Error::Damaged { object: format!("chunk {}", piece.id.short()), what });
        }
        bytes.truncate(to);
        bytes.drain(..from);
        Ok(bytes)
    }

    /// The id that `plain` has as a chunk of this repository.
    pub fn name(&self, plain: &[u8]) -> ChunkId {
        self.repository.namer.name(plain)
    }
}

fn missing(id: &ChunkId) -> Error {
    Error::Damaged { object: format!("chunk {}", id.short()), what: "no pack is known to hold it".to_owned() }
}

/// The chunk at `spot` of its decoded segment, if it is what its id says.
fn verified<'s>(repository: &Repository, segment: &'s [u8], spot: &Spot, id: &ChunkId) -> Result<&'s [u8]> {
    let (from, to) = (spot.offset as usize, spot.offset as usize + spot.len as usize);
    match segment.get(from..to) {
        Some(bytes) if repository.namer.name(bytes) == *id => Ok(bytes),
        _ => Err(Error::Damaged {
            object: Key::from(spot.pack).path(),
            what: format!("chunk {} is not what its id says", id.short()),
        }),
    }
}

impl PackCache {
    fn get(&self, repository: &Repository, id: PackId) -> Result<Arc<PackReader>> {
        if let Some(reader) = lock(&self.packs).get(&id) {
            return Ok(Arc::clone(reader));
        }
        let reader = Arc::new(PackReader::open(&*repository.store, id, &repository.secrets.data_identities())?);
        let mut packs = lock(&self.packs);
        if packs.len() >= CACHED_PACKS_MAX {
            packs.clear();
        }
        packs.insert(id, Arc::clone(&reader));
        Ok(reader)
    }
}
