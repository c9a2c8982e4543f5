//! What index objects list, without the chunks: so that millions of these cost little memory.

use crate::id::{ChunkId, IndexId, PackId};
use crate::limits::{INDEX_CHUNKS_TARGET, PACK_CHUNKS_TARGET, PACK_SEGMENTS_TARGET};
use crate::pack::{IndexedPack, Origin, PackKind};
use crate::repo::moved::Moves;
use crate::repo::writer::groups;
use crate::repo::{Repository, Result};
use crate::store::Key;
use std::collections::{BTreeMap, HashMap, HashSet};

/// More index objects than this are merged: each costs a read wherever a catalog is filled.
pub(super) const INDEX_OBJECTS_MAX: usize = if cfg!(test) { 6 } else { 32 };

/// How often to look because one went while they were read.
const ATTEMPTS_MAX: u32 = 5;

/// A pack that is listed.
#[derive(Debug)]
pub(super) struct Listed {
    /// What its chunks are pieces of.
    pub kind: PackKind,
    /// Its size in the store, in bytes.
    pub sealed_bytes: u64,
    /// Its segments.
    pub segments: Vec<ListedSegment>,
    /// How many chunks they have together.
    pub chunks: usize,
}

/// A segment of it.
#[derive(Debug)]
pub(super) struct ListedSegment {
    /// Bytes that it takes in the pack.
    pub stored_len: u32,
    /// Where it was copied from.
    pub origins: Box<[Origin]>,
}

impl Listed {
    /// True if others could well be put into one pack with it: it was not closed for the number of what is in it.
    pub fn has_room(&self) -> bool {
        self.segments.len() < PACK_SEGMENTS_TARGET / 2 && self.chunks < PACK_CHUNKS_TARGET / 2
    }

    /// Bytes of all its segments.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.stored_len)).sum()
    }
}

/// An index object.
struct Object {
    id: IndexId,
    packs: Vec<PackId>,
    chunks: usize,
}

/// All index objects.
#[derive(Default)]
pub(super) struct Index {
    objects: Vec<Object>,
    /// What they list.
    pub packs: HashMap<PackId, Listed>,
    /// Where segments have moved to.
    pub moves: Moves,
}

impl Index {
    /// Reads all. One that cannot be read ends it: its packs might be taken for unlisted.
    ///
    /// # Errors
    /// The listing or one of them cannot be read.
    pub fn read(repository: &Repository) -> Result<Self> {
        // One may be replaced by a larger one while they are read: another look finds that.
        for _ in 1..ATTEMPTS_MAX {
            match Self::read_once(repository) {
                Err(error) if error.is_not_found() => {}
                done => return done,
            }
        }
        Self::read_once(repository)
    }

    fn read_once(repository: &Repository) -> Result<Self> {
        let mut index = Self::default();
        for id in repository.index_ids()? {
            let mut object = Object { id, packs: Vec::new(), chunks: 0 };
            for pack in repository.read_index(id)? {
                object.packs.push(pack.id);
                object.chunks += pack.footer.chunk_count();
                index.moves.add(pack.id, &pack.footer);
                index.packs.insert(pack.id, Listed::from(pack));
            }
            index.objects.push(object);
        }
        Ok(index)
    }

    /// True if there are so many objects that they should be merged.
    pub fn is_scattered(&self) -> bool {
        self.objects.len() > INDEX_OBJECTS_MAX && self.objects.iter().filter(|one| one.is_small()).count() > 1
    }

    /// True if something of this pack was copied into another.
    pub fn has_moved(&self, pack: &PackId) -> bool {
        self.moves.end_of(pack) > 0
    }

    /// No segment of this pack has this number or a higher one, as far as is known.
    pub fn end_of(&self, pack: &PackId) -> u32 {
        let listed = self.packs.get(pack).map_or(0, |pack| u32::try_from(pack.segments.len()).unwrap_or(u32::MAX));
        listed.max(self.moves.end_of(pack))
    }

    /// The listed packs that hold a chunk of one of `lost`.
    ///
    /// # Errors
    /// An index object cannot be read any more.
    pub fn holders(&self, repository: &Repository, lost: &HashSet<PackId>) -> Result<HashSet<PackId>> {
        let mut chunks: HashSet<ChunkId> = HashSet::new();
        self.each(repository, &mut |pack| {
            if lost.contains(&pack.id) {
                chunks.extend(chunks_of(&pack));
            }
            Ok(())
        })?;
        let mut holders = HashSet::new();
        self.each(repository, &mut |pack| {
            if chunks_of(&pack).any(|id| chunks.contains(&id)) {
                holders.insert(pack.id);
            }
            Ok(())
        })?;
        Ok(holders)
    }

    /// True if something of the segments `lost` is in none of the packs that are `sound`.
    ///
    /// # Errors
    /// An index object cannot be read any more.
    pub fn lacks(
        &self,
        repository: &Repository,
        lost: &HashSet<Origin>,
        sound: &dyn Fn(&PackId) -> bool,
    ) -> Result<bool> {
        let mut chunks: HashSet<ChunkId> = HashSet::new();
        self.each(repository, &mut |pack| {
            for (segment, at) in pack.footer.segments.iter().zip(0u32..) {
                if lost.contains(&Origin { pack: pack.id, segment: at }) {
                    chunks.extend(segment.chunks.iter().map(|chunk| chunk.id));
                }
            }
            Ok(())
        })?;
        self.each(repository, &mut |pack| {
            if sound(&pack.id) {
                for id in chunks_of(&pack) {
                    chunks.remove(&id);
                }
            }
            Ok(())
        })?;
        Ok(!chunks.is_empty())
    }

    fn each(&self, repository: &Repository, see: &mut dyn FnMut(IndexedPack) -> Result<()>) -> Result<()> {
        for object in &self.objects {
            for pack in repository.read_index(object.id)? {
                see(pack)?;
            }
        }
        Ok(())
    }

    /// Replaces the objects that list one of `gone`, and small ones if there are many. The new ones are
    /// there before the old ones go. Gives how many fewer there are, or would be.
    ///
    /// # Errors
    /// One cannot be read any more, or the store refuses.
    pub fn rewrite(self, repository: &Repository, gone: &HashSet<PackId>, dry_run: bool) -> Result<u64> {
        let scattered = self.is_scattered();
        let is_due =
            |object: &Object| (scattered && object.is_small()) || object.packs.iter().any(|pack| gone.contains(pack));
        let due: Vec<&Object> = self.objects.iter().filter(|object| is_due(object)).collect();
        if dry_run {
            let chunks: usize = due.iter().map(|object| object.chunks).sum();
            return Ok((due.len() as u64).saturating_sub(chunks.div_ceil(INDEX_CHUNKS_TARGET) as u64));
        }
        let mut new = 0;
        let mut open = BTreeMap::new();
        let mut chunks = 0;
        let mut put = |open: &mut BTreeMap<PackId, IndexedPack>| {
            let packs: Vec<IndexedPack> = std::mem::take(open).into_values().collect();
            for group in groups(&packs) {
                repository.put_index(group)?;
                new += 1;
            }
            Result::Ok(())
        };
        for object in &due {
            for pack in repository.read_index(object.id)? {
                if !gone.contains(&pack.id) && !open.contains_key(&pack.id) {
                    chunks += pack.footer.chunk_count();
                    open.insert(pack.id, pack);
                }
            }
            if chunks >= INDEX_CHUNKS_TARGET {
                put(&mut open)?;
                chunks = 0;
            }
        }
        put(&mut open)?;
        for object in &due {
            repository.store.remove(&Key::from(object.id))?;
        }
        Ok((due.len() as u64).saturating_sub(new))
    }
}

impl Object {
    fn is_small(&self) -> bool {
        self.chunks < INDEX_CHUNKS_TARGET / 4
    }
}

impl From<IndexedPack> for Listed {
    fn from(pack: IndexedPack) -> Self {
        let chunks = pack.footer.chunk_count();
        let segments = pack.footer.segments.into_iter();
        let segments = segments.map(|one| ListedSegment { stored_len: one.stored_len, origins: one.origins.into() });
        Self { kind: pack.footer.kind, sealed_bytes: pack.sealed_bytes, segments: segments.collect(), chunks }
    }
}

fn chunks_of(pack: &IndexedPack) -> impl Iterator<Item = ChunkId> {
    pack.footer.segments.iter().flat_map(|segment| segment.chunks.iter().map(|chunk| chunk.id))
}
