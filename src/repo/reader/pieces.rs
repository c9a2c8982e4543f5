//! Many pieces at once, in the packs' order, each segment read and decoded once.

use super::{PackCache, Reader, Spot, missing, verified};
use crate::id::ChunkId;
use crate::monitor::lock;
use crate::repo::entry::Extent;
use crate::repo::{Error, Repository, Result, sync::Chain};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Pieces that follow each other in what they are for and in the segment that holds them: a segment
/// of one large file is given, and can be written, at once.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// The caller's number for what they are a part of.
    pub target: u32,
    /// Where in that the first of them begins.
    pub offset: u64,
    /// Bytes in all of them.
    pub len: u64,
    /// How many there are.
    pub pieces: usize,
}

impl From<&Piece> for Stretch {
    fn from(piece: &Piece) -> Self {
        Self { target: piece.target, offset: piece.offset, len: u64::from(piece.len), pieces: 1 }
    }
}

/// Takes verified bytes, or the reason why they cannot be had; false to stop.
pub type Deliver<'a> = &'a (dyn Fn(&Stretch, std::result::Result<&[u8], &str>) -> bool + Sync);

impl Reader<'_> {
    /// Gives the content of many pieces to `deliver`, on `workers` threads and in an order that
    /// suits the packs: each segment is read and decoded once. A piece that cannot be had comes with
    /// the reason.
    ///
    /// # Errors
    /// The catalog is damaged, or a server does not give what it has; `deliver` returns false to stop.
    pub fn pieces(&self, pieces: &[Piece], workers: usize, deliver: Deliver<'_>) -> Result<()> {
        let workers = workers.max(self.repository.store.reads_at_once());
        let mut jobs = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match self.spot(piece, 0)? {
                Ok(spot) => jobs.push(Job { spot, piece, copy: 0, failure: None }),
                Err(reason) => {
                    if !deliver(&piece.into(), Err(&reason)) {
                        return Ok(());
                    }
                }
            }
        }
        // What one pack does not have as it should be may be in another: each round asks for the next
        // copy of what the round before could not read.
        while !jobs.is_empty() {
            let Some(failed) = self.round(&mut jobs, workers, deliver)? else { return Ok(()) };
            jobs.clear();
            for Job { piece, copy, failure, .. } in failed {
                match self.spot(piece, copy + 1)? {
                    Ok(spot) => jobs.push(Job { spot, piece, copy: copy + 1, failure }),
                    Err(_) => {
                        if !deliver(&piece.into(), Err(failure.as_deref().unwrap_or_default())) {
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
    fn round<'p>(&self, jobs: &mut [Job<'p>], workers: usize, deliver: Deliver<'_>) -> Result<Option<Vec<Job<'p>>>> {
        jobs.sort_unstable_by_key(|job| {
            (job.spot.pack, job.spot.place.offset, job.spot.offset, job.piece.target, job.piece.offset)
        });
        let groups: Vec<&[Job<'p>]> =
            jobs.chunk_by(|a, b| a.spot.pack == b.spot.pack && a.spot.place.offset == b.spot.place.offset).collect();
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed = Mutex::new(Failed::default());
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
        match failed.outage {
            Some(error) => Err(error),
            None => Ok((!stopped.into_inner()).then_some(failed.jobs)),
        }
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
    /// Where its bytes are in the segment's plaintext.
    fn range(&self) -> std::ops::Range<usize> {
        let from = self.spot.offset as usize + self.piece.from as usize;
        from..from + self.piece.len as usize
    }

    /// True if `next` goes on where this one ends, in what they are for and in their segment.
    fn precedes(&self, next: &Self) -> bool {
        let (piece, after) = (self.piece, next.piece);
        piece.target == after.target
            && piece.offset + u64::from(piece.len) == after.offset
            && self.range().end == next.range().start
    }

    fn failed(&self, reason: &str) -> Self {
        let failure = Some(self.failure.clone().unwrap_or_else(|| reason.to_owned()));
        Job { spot: self.spot, piece: self.piece, copy: self.copy, failure }
    }
}

/// What a round could not read.
#[derive(Default)]
struct Failed<'p> {
    jobs: Vec<Job<'p>>,
    /// A server does not answer: nothing is known of what is there.
    outage: Option<Error>,
}

impl PackCache {
    /// Delivers what one segment holds, and gives to `failed` what it does not hold as it should;
    /// false if `deliver` wants no more.
    fn deliver_group<'p>(
        &self,
        repository: &Repository,
        group: &[Job<'p>],
        deliver: Deliver<'_>,
        failed: &Mutex<Failed<'p>>,
    ) -> bool {
        let Some(Job { spot, .. }) = group.first() else { return true };
        let segment =
            self.get(repository, spot.pack).and_then(|reader| Ok(reader.segment(&*repository.store, spot.place)?));
        let segment = match segment {
            Ok(segment) => segment,
            Err(error) if error.is_outage() => {
                lock(failed).outage.get_or_insert(error);
                return false;
            }
            Err(error) => {
                let message = Chain(&error).to_string();
                lock(failed).jobs.extend(group.iter().map(|job| job.failed(&message)));
                return true;
            }
        };
        let (good, bad): (Vec<&Job<'p>>, Vec<_>) = proven(repository, group, &segment);
        lock(failed).jobs.extend(bad);
        hand_over(good, &segment, deliver)
    }
}

/// Those jobs of a segment whose chunk is what its id says; the others with the reason.
fn proven<'g, 'p>(repository: &Repository, group: &'g [Job<'p>], segment: &[u8]) -> (Vec<&'g Job<'p>>, Vec<Job<'p>>) {
    let (mut good, mut bad) = (Vec::with_capacity(group.len()), Vec::new());
    let mut last: Option<(ChunkId, u32)> = None;
    for job in group {
        let Job { spot, piece, .. } = job;
        // The same chunk wanted several times is hashed once.
        if last != Some((piece.id, spot.offset)) {
            if let Err(error) = verified(repository, segment, spot, &piece.id) {
                bad.push(job.failed(&Chain(&error).to_string()));
                continue;
            }
            last = Some((piece.id, spot.offset));
        }
        good.push(job);
    }
    (good, bad)
}

/// Delivers what was proven, what belongs together at once; false if `deliver` wants no more.
fn hand_over(mut good: Vec<&Job<'_>>, segment: &[u8], deliver: Deliver<'_>) -> bool {
    good.sort_unstable_by_key(|job| (job.piece.target, job.piece.offset));
    good.chunk_by(|a, b| a.precedes(b)).all(|jobs| {
        let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else { return true };
        let (from, to) = (first.range().start, last.range().end);
        let stretch = Stretch { len: (to - from) as u64, pieces: jobs.len(), ..first.piece.into() };
        // In bounds: `Piece::fits` has compared them with the length of the chunk, which was proven.
        deliver(&stretch, Ok(&segment[from..to]))
    })
}
