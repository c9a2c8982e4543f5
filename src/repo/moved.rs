//! Where segments have moved to.
//!
//! A manifest names the packs and segments that it needs, and is never changed. When `prune` copies
//! segments into new packs so that the old ones can go, each copy says where it comes from: all the names
//! that it ever had. So what a manifest needs of a pack that is gone is found in the one that has it now,
//! and nothing else has to remember the way.

use super::manifest::Need;
use super::{Repository, Result};
use crate::id::PackId;
use crate::pack::{Footer, Origin};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The copies of segments, by the places that they were copied from.
#[derive(Debug, Clone, Default)]
pub(super) struct Moves {
    copies: HashMap<PackId, BTreeMap<u32, Vec<Origin>>>,
}

impl Moves {
    /// Learns what the pack `id` holds.
    pub fn add(&mut self, id: PackId, footer: &Footer) {
        for (segment, at) in footer.segments.iter().zip(0u32..) {
            for from in &segment.origins {
                self.add_one(*from, Origin { pack: id, segment: at });
            }
        }
    }

    /// Learns what `others` know.
    pub fn learn(&mut self, others: &Moves) {
        for (pack, segments) in &others.copies {
            for (segment, copies) in segments {
                let from = Origin { pack: *pack, segment: *segment };
                copies.iter().for_each(|copy| self.add_one(from, *copy));
            }
        }
    }

    fn add_one(&mut self, from: Origin, to: Origin) {
        let copies = self.copies.entry(from.pack).or_default().entry(from.segment).or_default();
        // In one order for all who look, whatever they read first.
        if let Err(place) = copies.binary_search(&to) {
            copies.insert(place, to);
        }
    }

    /// The copies of a segment, the best first: one that others were not copied from any more.
    pub fn of(&self, segment: &Origin) -> Vec<Origin> {
        let copies = self.copies.get(&segment.pack).and_then(|copies| copies.get(&segment.segment));
        let mut copies = copies.cloned().unwrap_or_default();
        copies.sort_by_key(|copy| self.has(copy));
        copies
    }

    fn has(&self, segment: &Origin) -> bool {
        self.copies.get(&segment.pack).is_some_and(|copies| copies.contains_key(&segment.segment))
    }

    /// True if a copy of each segment of `need` is known.
    pub fn cover(&self, need: &Need) -> bool {
        let Some(copies) = self.copies.get(&need.pack) else { return false };
        let covers = |[first, count]: &[u32; 2]| {
            copies.range(*first..first.saturating_add(*count)).count() as u64 == u64::from(*count)
        };
        need.segments.iter().all(covers)
    }

    /// One more than the highest number of a segment that was copied from this pack; 0 if none was.
    pub fn end_of(&self, pack: &PackId) -> u32 {
        let last = self.copies.get(pack).and_then(|copies| copies.last_key_value());
        last.map_or(0, |(segment, _)| segment.saturating_add(1))
    }

    /// True if nothing has moved.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}

/// Each segment of `needs`.
pub(super) fn segments_of<'n>(needs: impl IntoIterator<Item = &'n Need>) -> impl Iterator<Item = Origin> {
    needs.into_iter().flat_map(|need| {
        let pack = need.pack;
        let numbers = need.segments.iter().flat_map(|[first, count]| *first..first.saturating_add(*count));
        numbers.map(move |segment| Origin { pack, segment })
    })
}

impl Repository {
    /// The moves that the catalog knows of.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub(super) fn moves(&self) -> Result<Moves> {
        let mut moves = Moves::default();
        for (from, to) in self.catalog.copies()? {
            moves.add_one(from, to);
        }
        Ok(moves)
    }

    /// The packs in which that is which `needs` name: where a pack is not `there`, those that all of it has
    /// moved to; itself if it has not.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub(super) fn packs_of(&self, needs: &[&Need], there: &dyn Fn(&PackId) -> bool) -> Result<HashSet<PackId>> {
        let (mut packs, mut gone) = (HashSet::new(), Vec::new());
        for need in needs {
            if there(&need.pack) {
                packs.insert(need.pack);
            } else {
                gone.push(*need);
            }
        }
        if gone.is_empty() {
            return Ok(packs);
        }
        let moves = self.moves()?;
        for need in gone {
            if !moves.cover(need) {
                packs.insert(need.pack);
                continue;
            }
            for segment in segments_of([need]) {
                let copy = moves.of(&segment).into_iter().find(|copy| there(&copy.pack));
                packs.insert(copy.map_or(segment.pack, |copy| copy.pack));
            }
        }
        Ok(packs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pack: u8, segment: u32) -> Origin {
        Origin { pack: PackId([pack; 32]), segment }
    }

    #[test]
    fn the_newest_copy_comes_first_and_two_who_look_agree() {
        let known = [(place(1, 0), place(2, 5)), (place(1, 0), place(3, 1)), (place(2, 5), place(3, 1))];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut moves = Moves::default();
            order.iter().for_each(|at: &usize| moves.add_one(known[*at].0, known[*at].1));
            assert_eq!(moves.of(&place(1, 0)), [place(3, 1), place(2, 5)]);
            assert_eq!((moves.of(&place(2, 5)), moves.of(&place(3, 1))), (vec![place(3, 1)], vec![]));
            let need = |segments: &[[u32; 2]]| Need { pack: PackId([2; 32]), segments: segments.to_vec() };
            assert!(moves.cover(&need(&[[5, 1]])) && !moves.cover(&need(&[[5, 2]])) && !moves.cover(&need(&[[0, 9]])));
            assert_eq!((moves.end_of(&PackId([2; 32])), moves.end_of(&PackId([3; 32]))), (6, 0));
        }
        let need = Need { pack: PackId([1; 32]), segments: vec![[0, 2], [7, 1]] };
        assert_eq!(segments_of([&need]).map(|s| s.segment).collect::<Vec<_>>(), [0, 1, 7]);
    }
}
