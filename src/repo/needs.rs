//! The set of packs and segments that a snapshot needs, collected while it is made.

use super::manifest::Need;
use crate::id::PackId;
use std::collections::BTreeMap;

/// Segment numbers of packs, as bits. `P` names a pack.
#[derive(Debug, Clone)]
pub struct Needs<P> {
    packs: BTreeMap<P, Vec<u64>>,
}

impl<P: Ord> Default for Needs<P> {
    fn default() -> Self {
        Self { packs: BTreeMap::new() }
    }
}

impl<P: Ord + Copy> Needs<P> {
    /// Adds one segment.
    pub fn add(&mut self, pack: P, segment: u32) {
        let bits = self.packs.entry(pack).or_default();
        let (word, bit) = (segment as usize / 64, segment % 64);
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= 1 << bit;
    }

    /// Adds all of `other`, whose packs `rename` names anew.
    pub fn absorb<Q: Ord + Copy>(&mut self, other: &Needs<Q>, rename: impl Fn(Q) -> P) {
        for (pack, theirs) in &other.packs {
            let ours = self.packs.entry(rename(*pack)).or_default();
            if ours.len() < theirs.len() {
                ours.resize(theirs.len(), 0);
            }
            for (mine, their) in ours.iter_mut().zip(theirs) {
                *mine |= their;
            }
        }
    }

    /// Each pack and segment in it.
    pub fn segments(&self) -> impl Iterator<Item = (P, u32)> + '_ {
        self.packs.iter().flat_map(|(pack, bits)| {
            let pack = *pack;
            runs(bits).into_iter().flat_map(move |[first, count]| (first..first + count).map(move |at| (pack, at)))
        })
    }

    /// The packs in it.
    pub fn packs(&self) -> impl Iterator<Item = P> + '_ {
        self.packs.keys().copied()
    }
}

impl Needs<PackId> {
    /// The form that a manifest keeps.
    pub fn to_list(&self) -> Vec<Need> {
        self.packs.iter().map(|(pack, bits)| Need { pack: *pack, segments: runs(bits) }).collect()
    }
}

fn runs(bits: &[u64]) -> Vec<[u32; 2]> {
    let mut out: Vec<[u32; 2]> = Vec::new();
    for (word, mask) in bits.iter().enumerate() {
        for bit in 0..64 {
            if mask >> bit & 1 == 0 {
                continue;
            }
            let at = u32::try_from(word * 64 + bit).unwrap_or(u32::MAX);
            match out.last_mut() {
                Some([first, count]) if *first + *count == at => *count += 1,
                _ => out.push([at, 1]),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_neighbours_across_words() {
        let mut needs = Needs::default();
        for segment in [0, 1, 2, 63, 64, 70] {
            needs.add(7u32, segment);
        }
        let mut named = Needs::default();
        named.absorb(&needs, |n| PackId([n as u8; 32]));
        let list = named.to_list();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].segments, vec![[0, 3], [63, 2], [70, 1]]);
    }
}
