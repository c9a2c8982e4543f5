//! Where chunks are that the catalog does not tell of: an index in memory.

use super::Spot;
use crate::id::{ChunkId, IndexId, PackId};
use crate::pack::{Footer, IndexedPack, Place};
use crate::repo::moved::Moves;
use crate::repo::{Repository, Result};
use crate::store::{Key, Kind};
use std::collections::HashSet;

/// More of index objects, in bytes as they are stored, is not read into memory by one who only wants to
/// read: some 400,000 chunks, which take 25 MB there.
const UNLEARNT_BYTES_MAX: u64 = 16 << 20;

/// The content of footers. A chunk takes some 60 bytes of memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    packs: HashSet<PackId>,
    segments: Vec<(PackId, Place)>,
    /// The first copy of each chunk.
    chunks: hashbrown::HashMap<ChunkId, Slot>,
    /// Copies beside the first, of which there are few.
    more: hashbrown::HashMap<ChunkId, Vec<Slot>>,
    moves: Moves,
}

/// A place in one of the segments.
#[derive(Debug, Clone, Copy)]
struct Slot {
    segment: u32,
    offset: u32,
    len: u32,
}

impl Known {
    /// Adds what `footer` lists, which is that of `pack`.
    pub(super) fn add(&mut self, pack: PackId, footer: &Footer) {
        if !self.packs.insert(pack) {
            return;
        }
        self.moves.add(pack, footer);
        self.chunks.reserve(footer.segments.iter().map(|segment| segment.chunks.len()).sum());
        for segment in &footer.segments {
            let Ok(number) = u32::try_from(self.segments.len()) else { return };
            self.segments.push((pack, Place::from(segment)));
            for (offset, chunk) in segment.placed() {
                let slot = Slot { segment: number, offset, len: chunk.len };
                if self.chunks.try_insert(chunk.id, slot).is_err() {
                    self.more.entry(chunk.id).or_default().push(slot);
                }
            }
        }
    }

    /// True if it knows what is in `pack`.
    pub(super) fn has(&self, pack: &PackId) -> bool {
        self.packs.contains(pack)
    }

    /// Where segments have moved to, as it knows.
    pub(super) fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Everywhere that the chunk `id` is.
    pub(super) fn spots(&self, id: &ChunkId) -> impl Iterator<Item = Spot> + '_ {
        self.chunks.get(id).into_iter().chain(self.more.get(id).into_iter().flatten()).filter_map(|slot| {
            let (pack, place) = *self.segments.get(slot.segment as usize)?;
            Some(Spot { pack, place, offset: slot.offset, len: slot.len })
        })
    }
}

impl Repository {
    /// What index objects list that the catalog has not learnt, and does not learn by this; `None` if it has
    /// to be brought up to date: there is too much of it, something that it knows is gone, or an object
    /// cannot be read.
    ///
    /// # Errors
    /// The listing fails, a server does not answer, or the catalog is damaged.
    pub(super) fn unlearnt(&self) -> Result<Option<Vec<IndexedPack>>> {
        // In this order, as when it is brought up to date.
        let known = self.catalog.indexes()?;
        let listing = self.store.list(Kind::Index)?;
        let (mut unlearnt, mut bytes, mut present) = (Vec::new(), 0, 0);
        for object in &listing.objects {
            let Key::Object(Kind::Index, name) = object.key else { continue };
            if known.contains(&IndexId(name)) {
                present += 1;
            } else {
                unlearnt.push(IndexId(name));
                bytes += object.bytes;
            }
        }
        if present < known.len() || bytes > UNLEARNT_BYTES_MAX {
            return Ok(None);
        }
        let mut packs = Vec::new();
        for id in unlearnt {
            match self.read_index(id) {
                Ok(listed) => packs.extend(listed),
                Err(error) if error.is_outage() => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(packs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Codec;
    use crate::pack::{PackKind, Segment, SegmentChunk};

    /// Segments of chunks that are told apart by their number and have that many bytes.
    fn footer(segments: &[&[u8]]) -> Footer {
        let mut offset = 0;
        let segments = segments.iter().map(|numbers| {
            let chunks = numbers.iter().map(|n| SegmentChunk { id: ChunkId([*n; 32]), len: u32::from(*n) });
            let (at, plain_len) = (offset, numbers.iter().map(|n| u32::from(*n)).sum());
            offset += 100;
            Segment {
                codec: Codec::Raw,
                offset: at,
                stored_len: 100,
                plain_len,
                chunks: chunks.collect(),
                origins: Vec::new(),
            }
        });
        Footer { kind: PackKind::Data, segments: segments.collect() }
    }

    fn spots(known: &Known, number: u8) -> Vec<(u8, u64, u32, u32)> {
        let spots = known.spots(&ChunkId([number; 32]));
        spots.map(|spot| (spot.pack.0[0], spot.place.offset, spot.offset, spot.len)).collect()
    }

    #[test]
    fn every_copy_of_a_chunk_is_found() {
        let mut known = Known::default();
        known.add(PackId([1; 32]), &footer(&[&[10, 20], &[30, 10]]));
        known.add(PackId([2; 32]), &footer(&[&[20], &[], &[40]]));
        // A pack that two index objects list is one pack.
        known.add(PackId([1; 32]), &footer(&[&[10, 20], &[30, 10]]));
        assert_eq!(spots(&known, 10), [(1, 0, 0, 10), (1, 100, 30, 10)]);
        assert_eq!(spots(&known, 20), [(1, 0, 10, 20), (2, 0, 0, 20)]);
        assert_eq!(spots(&known, 40), [(2, 200, 0, 40)]);
        assert_eq!(spots(&known, 50), []);
        assert!(known.has(&PackId([2; 32])) && !known.has(&PackId([3; 32])));
    }
}
