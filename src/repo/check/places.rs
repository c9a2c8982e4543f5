//! Where every chunk lies, as the index objects say and as far as the packs can be relied on.

use super::data::Readings;
use super::structure::Listed;
use crate::id::{ChunkId, PackId};
use crate::pack::Origin;
use std::collections::{HashMap, HashSet};

/// A chunk in packs that cannot be relied on.
pub(super) struct Weak {
    /// The packs.
    pub packs: Vec<PackId>,
    /// Its length in bytes.
    pub len: u32,
    /// True if one of them gives it back as it was.
    pub readable: bool,
}

/// Every chunk that index objects list.
#[derive(Default)]
pub(super) struct Places {
    /// Chunks in sound packs: number of the pack, segment, length.
    pub sound: HashMap<ChunkId, (u32, u32, u32)>,
    /// Chunks in other packs.
    pub weak: HashMap<ChunkId, Weak>,
    /// The sound packs by number.
    pub packs: Vec<PackId>,
    /// Segments with a chunk that lies elsewhere too.
    pub ambiguous: HashSet<(u32, u32)>,
    /// Where segments of sound packs were copied from.
    pub origins: HashMap<(u32, u32), Vec<Origin>>,
    /// Packs that are missing, cut short or damaged, and what is wrong with each.
    pub unsound: Vec<(PackId, Vec<String>)>,
}

impl Places {
    pub(super) fn new(listed: &Listed, readings: &Readings) -> Self {
        let mut places = Self::default();
        for (id, pack) in &listed.indexed {
            let fault = match listed.sizes.get(id) {
                None => Some("it is missing".to_owned()),
                Some(bytes) if *bytes != pack.sealed_bytes => {
                    Some(format!("it has {bytes} bytes and should have {}", pack.sealed_bytes))
                }
                Some(_) => None,
            };
            let (problems, lost) = match (fault, readings.bad.get(id)) {
                (Some(fault), _) => (vec![fault], None),
                (None, Some(bad)) => (bad.problems.clone(), bad.lost.as_ref()),
                (None, None) => {
                    places.add_sound(*id, listed);
                    continue;
                }
            };
            for chunk in pack.footer.segments.iter().flat_map(|segment| &segment.chunks) {
                let readable = lost.is_some_and(|lost| !lost.contains(&chunk.id));
                let weak = places.weak.entry(chunk.id);
                let weak = weak.or_insert_with(|| Weak { packs: Vec::new(), len: chunk.len, readable: false });
                weak.packs.push(*id);
                weak.readable |= readable;
            }
            places.unsound.push((*id, problems));
        }
        for (id, bad) in readings.bad.iter().filter(|(id, _)| !listed.indexed.contains_key(*id)) {
            places.unsound.push((*id, bad.problems.clone()));
        }
        for id in places.weak.keys() {
            if let Some((pack, segment, _)) = places.sound.get(id) {
                places.ambiguous.insert((*pack, *segment));
            }
        }
        places
    }

    fn add_sound(&mut self, id: PackId, listed: &Listed) {
        let number = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.packs.push(id);
        let segments = listed.indexed.get(&id).map(|pack| pack.footer.segments.as_slice()).unwrap_or_default();
        for (segment, at) in segments.iter().zip(0u32..) {
            if !segment.origins.is_empty() {
                self.origins.insert((number, at), segment.origins.clone());
            }
            for chunk in &segment.chunks {
                if let Some((pack, segment, _)) = self.sound.insert(chunk.id, (number, at, chunk.len)) {
                    self.ambiguous.extend([(pack, segment), (number, at)]);
                }
            }
        }
    }
}
