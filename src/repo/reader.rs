//! Reading a snapshot back: chunks by id, trees as streams of entries, many chunks at once.
//!
//! Whatever comes out of here has been hashed again and compared with its id. Damage is data: what
//! cannot be had is reported for each chunk, and the rest comes all the same.

use super::entry::Extent;
use super::manifest::Need;
use super::{Error, Repository, Result, sync::Chain};
use crate::catalog::Lookup;
use crate::id::{ChunkId, PackId};
use crate::monitor::lock;
use crate::pack::{PackReader, Place};
use crate::store::Key;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// Chunks that no index object lists, found in the footers of packs that a manifest names.
    found: HashMap<ChunkId, Spot>,
    /// The segment read last: chunks of a tree lie side by side.
    last: Option<(PackId, u64, Vec<u8>)>,
}

/// One chunk that is wanted, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// The chunk.
    pub id: ChunkId,
    /// Its first byte that is wanted.
    pub from: u32,
    /// How many bytes are wanted.
    pub len: u32,
    /// True if that must be the whole chunk.
    pub whole: bool,
    /// The caller's number for what it is a part of.
    pub target: u32,
    /// Where in that.
    pub offset: u64,
}

impl Piece {
    /// What `extent` needs; nothing for a hole.
    pub fn of(extent: &Extent, target: u32, offset: u64) -> Option<Self> {
        match *extent {
            Extent::Chunk { id, len } => Some(Self { id, from: 0, len, whole: true, target, offset }),
            Extent::Slice { id, from, len } => Some(Self { id, from, len, whole: false, target, offset }),
            Extent::Hole { .. } => None,
        }
    }

    fn fits(&self, spot: &Spot) -> bool {
        let end = u64::from(self.from) + u64::from(self.len);
        if self.whole { u64::from(spot.len) == end } else { end <= u64::from(spot.len) }
    }
}

/// Takes a piece's verified bytes, or the reason why they cannot be had; false to stop.
pub type Deliver<'a> = &'a (dyn Fn(&Piece, std::result::Result<&[u8], &str>) -> bool + Sync);

impl<'r> Reader<'r> {
    /// A reader of `repository`, whose catalog has been synced.
    ///
    /// # Errors
    /// The key at hand cannot open content, or the catalog cannot be read.
    pub fn new(repository: &'r Repository) -> Result<Self> {
        repository.require_owner("read what snapshots hold")?;
        let lookup = repository.catalog.lookup()?;
        Ok(Self { repository, lookup, packs: Arc::default(), found: HashMap::new(), last: None })
    }

    /// Where the chunk is; `None` if nothing known holds it.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn locate(&self, id: &ChunkId) -> Result<Option<Spot>> {
        match self.lookup.find(id)? {
            Some(at) => {
                let (pack, place) = self.lookup.place(at.pack, at.segment)?;
                Ok(Some(Spot { pack, place, offset: at.offset, len: at.len }))
            }
            None => Ok(self.found.get(id).copied()),
        }
    }

    /// Reads the footers of those packs a manifest needs that no index object lists: a lost index
    /// object then loses nothing. Gives the packs that cannot be read, and why.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn add_unlisted(&mut self, needs: &[Need]) -> Result<Vec<(PackId, String)>> {
        let known: std::collections::HashSet<PackId> =
            self.repository.catalog.packs()?.into_iter().map(|row| row.id).collect();
        let mut bad = Vec::new();
        for need in needs.iter().filter(|need| !known.contains(&need.pack)) {
            let footer = self
                .packs
                .get(self.repository, need.pack)
                .and_then(|reader| reader.footer(&*self.repository.store).map_err(Error::from));
            let footer = match footer {
                Ok(footer) => footer,
                Err(error) => {
                    bad.push((need.pack, Chain(&error).to_string()));
                    continue;
                }
            };
            for segment in &footer.segments {
                let place = Place {
                    codec: segment.codec,
                    offset: segment.offset,
                    stored_len: segment.stored_len,
                    plain_len: segment.plain_len,
                };
                let mut offset = 0;
                for chunk in &segment.chunks {
                    self.found.insert(chunk.id, Spot { pack: need.pack, place, offset, len: chunk.len });
                    offset += chunk.len;
                }
            }
        }
        Ok(bad)
    }

    /// One chunk.
    ///
    /// # Errors
    /// It cannot be had, or is not what its id says.
    pub fn chunk(&mut self, id: &ChunkId) -> Result<Vec<u8>> {
        let spot = self.locate(id)?.ok_or_else(|| missing(id))?;
        let cached = matches!(&self.last, Some((pack, at, _)) if *pack == spot.pack && *at == spot.place.offset);
        if !cached {
            let reader = self.packs.get(self.repository, spot.pack)?;
            let segment = reader.segment(&*self.repository.store, spot.place)?;
            self.last = Some((spot.pack, spot.place.offset, segment));
        }
        let segment = self.last.as_ref().map(|(_, _, bytes)| bytes.as_slice()).unwrap_or_default();
        Ok(verified(self.repository, segment, &spot, id)?.to_vec())
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

    /// Gives the content of many pieces to `deliver`, on `workers` threads and in an order that
    /// suits the packs: each segment is read and decoded once. A piece that cannot be had comes with
    /// the reason.
    ///
    /// # Errors
    /// The catalog is damaged; `deliver` returns false to stop.
    pub fn pieces(&self, pieces: &[Piece], workers: usize, deliver: Deliver<'_>) -> Result<()> {
        let mut jobs = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match self.locate(&piece.id)? {
                Some(spot) if piece.fits(&spot) => jobs.push((spot, piece)),
                Some(_) => drop(deliver(piece, Err("the tree and the index disagree about its length"))),
                None => drop(deliver(piece, Err(&Chain(&missing(&piece.id)).to_string()))),
            }
        }
        jobs.sort_unstable_by_key(|(spot, piece)| {
            (spot.pack, spot.place.offset, spot.offset, piece.target, piece.offset)
        });
        let groups: Vec<&[(Spot, &Piece)]> =
            jobs.chunk_by(|(a, _), (b, _)| a.pack == b.pack && a.place.offset == b.place.offset).collect();
        let next = AtomicUsize::new(0);
        let (packs, repository) = (&*self.packs, self.repository);
        std::thread::scope(|scope| {
            for _ in 0..workers.clamp(1, groups.len().max(1)) {
                scope.spawn(|| {
                    while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if !packs.deliver_group(repository, group, deliver) {
                            next.store(groups.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        Ok(())
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

    fn deliver_group(&self, repository: &Repository, group: &[(Spot, &Piece)], deliver: Deliver<'_>) -> bool {
        let Some((spot, _)) = group.first() else { return true };
        let segment =
            self.get(repository, spot.pack).and_then(|reader| Ok(reader.segment(&*repository.store, spot.place)?));
        let segment = match segment {
            Ok(segment) => segment,
            Err(error) => {
                let message = Chain(&error).to_string();
                return group.iter().all(|(_, piece)| deliver(piece, Err(&message)));
            }
        };
        let mut proven: Option<(ChunkId, u32)> = None;
        group.iter().all(|(spot, piece)| {
            // The same chunk wanted several times is hashed once.
            let again = proven == Some((piece.id, spot.offset));
            let bytes = if again {
                Ok(&segment[spot.offset as usize..spot.offset as usize + spot.len as usize])
            } else {
                verified(repository, &segment, spot, &piece.id)
            };
            match bytes {
                Ok(bytes) => {
                    proven = Some((piece.id, spot.offset));
                    // In bounds: `Piece::fits` has compared them with the chunk's length.
                    deliver(piece, Ok(&bytes[piece.from as usize..(piece.from + piece.len) as usize]))
                }
                Err(error) => deliver(piece, Err(&Chain(&error).to_string())),
            }
        })
    }
}
