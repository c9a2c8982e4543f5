//! The content of one file while it is being stored: its pieces, in any order, and what they cost.

use super::read::{Block, Part};
use crate::id::ChunkId;
use crate::monitor::Monitor;
use crate::repo;
use crate::repo::entry::Extent;
use crate::repo::writer::{PackRef, Sink};

/// A pack and a segment of it.
pub(super) type StoredAt = (PackRef, u32);

/// The chunks of a file, as far as they are known.
#[derive(Default)]
pub(super) struct Content {
    /// Each with its number in the file, and where it is stored unless it is a hole.
    extents: Vec<(u64, Extent, Option<StoredAt>)>,
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// Bytes of them that the repository did not have.
    pub(super) bytes_new: u64,
}

impl Content {
    /// Stores the pieces of `block`.
    pub(super) fn put(&mut self, block: &Block, sink: &mut Sink<'_, '_>, monitor: &dyn Monitor) -> repo::Result<()> {
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        for (number, item) in &block.items {
            match *item {
                Part::Hole { len } => self.extents.push((*number, Extent::Hole { len }, None)),
                Part::Chunk { start, len } => {
                    let (id, place) = self.put_chunk(&block.data[start..start + len], sink)?;
                    self.extents.push((*number, Extent::Chunk { id, len: length(len) }, Some(place)));
                }
            }
        }
        for group in &block.groups {
            let (id, place) = self.put_chunk(&group.bytes, sink)?;
            for (number, from, len) in &group.slices {
                self.extents.push((*number, Extent::Slice { id, from: *from, len: *len }, Some(place)));
            }
        }
        self.bytes += block.data.len() as u64;
        monitor.advance(block.data.len() as u64);
        Ok(())
    }

    fn put_chunk(&mut self, plain: &[u8], sink: &mut Sink<'_, '_>) -> repo::Result<(ChunkId, StoredAt)> {
        let stored = sink.put(plain)?;
        if stored.added {
            self.bytes_new += plain.len() as u64;
        }
        Ok((stored.id, (stored.pack, stored.segment)))
    }

    /// Joins the pieces of two parts of the same file.
    pub(super) fn absorb(&mut self, other: Self) {
        self.extents.extend(other.extents);
        self.bytes += other.bytes;
        self.bytes_new += other.bytes_new;
    }

    /// The extents in the order of the file, and the places of those that are stored.
    pub(super) fn in_order(mut self) -> (Vec<Extent>, Vec<StoredAt>) {
        self.extents.sort_unstable_by_key(|(number, ..)| *number);
        let places = self.extents.iter().filter_map(|(_, _, place)| *place).collect();
        (self.extents.into_iter().map(|(_, extent, _)| extent).collect(), places)
    }
}
