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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    found: HashMap<ChunkId, Vec<Spot>>,
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

    /// A reader of its own that knows what this one knows.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub fn another(&self) -> Result<Self> {
        let lookup = self.repository.catalog.lookup()?;
        let (packs, found) = (Arc::clone(&self.packs), self.found.clone());
        Ok(Self { repository: self.repository, lookup, packs, found, last: None })
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
        spots.extend(self.found.get(id).into_iter().flatten());
        Ok(spots)
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
                    let spot = Spot { pack: need.pack, place, offset, len: chunk.len };
                    self.found.entry(chunk.id).or_default().push(spot);
                    offset += chunk.len;
                }
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

    /// Gives the content of many pieces to `deliver`, on `workers` threads and in an order that
    /// suits the packs: each segment is read and decoded once. A piece that cannot be had comes with
    /// the reason.
    ///
    /// # Errors
    /// The catalog is damaged; `deliver` returns false to stop.
    pub fn pieces(&self, pieces: &[Piece], workers: usize, deliver: Deliver<'_>) -> Result<()> {
        let mut jobs = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match self.spot(piece, 0)? {
                Ok(spot) => jobs.push(Job { spot, piece, copy: 0, failure: None }),
                Err(reason) => {
                    if !deliver(piece, Err(&reason)) {
                        return Ok(());
                    }
                }
            }
        }
        // What one pack does not have as it should be may be in another: each round asks for the next
        // copy of what the round before could not read.
        while !jobs.is_empty() {
            let Some(failed) = self.round(&mut jobs, workers, deliver) else { return Ok(()) };
            jobs.clear();
            for Job { piece, copy, failure, .. } in failed {
                match self.spot(piece, copy + 1)? {
                    Ok(spot) => jobs.push(Job { spot, piece, copy: copy + 1, failure }),
                    Err(_) => {
                        if !deliver(piece, Err(failure.as_deref().unwrap_or_default())) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Where copy number `copy` of what `piece` wants is, or why there is none.
    fn spot(&self, piece: &Piece, copy: usize) -> Result<std::result::Result<Spot, String>> {
        let spots = self.locate(&piece.id)?;
        let none = || match spots.is_empty() {
            true => Chain(&missing(&piece.id)).to_string(),
            false => "the tree and the index disagree about its length".to_owned(),
        };
        Ok(spots.iter().copied().filter(|spot| piece.fits(spot)).nth(copy).ok_or_else(none))
    }

    /// Reads and delivers; gives what could not be read, or `None` if `deliver` wants no more.
    fn round<'p>(&self, jobs: &mut [Job<'p>], workers: usize, deliver: Deliver<'_>) -> Option<Vec<Job<'p>>> {
        jobs.sort_unstable_by_key(|job| {
            (job.spot.pack, job.spot.place.offset, job.spot.offset, job.piece.target, job.piece.offset)
        });
        let groups: Vec<&[Job<'p>]> =
            jobs.chunk_by(|a, b| a.spot.pack == b.spot.pack && a.spot.place.offset == b.spot.place.offset).collect();
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed = Mutex::new(Vec::new());
        let (packs, repository) = (&*self.packs, self.repository);
        std::thread::scope(|scope| {
            for _ in 0..workers.clamp(1, groups.len().max(1)) {
                scope.spawn(|| {
                    while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        if !packs.deliver_group(repository, group, deliver, &failed) {
                            stopped.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (!stopped.into_inner()).then_some(failed)
    }
}

/// A piece, and the copy of its chunk that is to be read.
struct Job<'p> {
    spot: Spot,
    piece: &'p Piece,
    copy: usize,
    /// Why the first copy could not be read.
    failure: Option<String>,
}

impl<'p> Job<'p> {
    fn failed(&self, reason: &str) -> Self {
        let failure = Some(self.failure.clone().unwrap_or_else(|| reason.to_owned()));
        Job { spot: self.spot, piece: self.piece, copy: self.copy, failure }
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

    /// Delivers what one segment holds, and gives to `failed` what it does not hold as it should;
    /// false if `deliver` wants no more.
    fn deliver_group<'p>(
        &self,
        repository: &Repository,
        group: &[Job<'p>],
        deliver: Deliver<'_>,
        failed: &Mutex<Vec<Job<'p>>>,
    ) -> bool {
        let Some(Job { spot, .. }) = group.first() else { return true };
        let segment =
            self.get(repository, spot.pack).and_then(|reader| Ok(reader.segment(&*repository.store, spot.place)?));
        let segment = match segment {
            Ok(segment) => segment,
            Err(error) => {
                let message = Chain(&error).to_string();
                lock(failed).extend(group.iter().map(|job| job.failed(&message)));
                return true;
            }
        };
        let mut proven: Option<(ChunkId, u32)> = None;
        group.iter().all(|job| {
            let Job { spot, piece, .. } = job;
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
                Err(error) => {
                    lock(failed).push(job.failed(&Chain(&error).to_string()));
                    true
                }
            }
        })
    }
}
