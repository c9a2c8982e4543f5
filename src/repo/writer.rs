//! Writing a snapshot: the only place that knows the order of writes.
//!
//! ```text
//! packs (durable) → index object (durable) → manifest, if absent (durable) → catalog
//! ```
//!
//! A crash before the manifest leaves objects that nothing refers to. Worker threads each own a
//! [`Sink`]: it names a chunk, asks whether the repository or this session has it, and otherwise
//! puts it into a pack of its own. Finished packs go into a batch, which a barrier makes durable as a
//! whole; on a long run that happens every gigabyte, so that an interrupted one loses little.

use super::fence::Fence;
use super::manifest::{Manifest, Need};
use super::moved::segments_of;
use super::needs::Needs;
use super::{Error, Repository, Result};
use crate::catalog::Lookup;
use crate::chunk::Compressor;
use crate::crypto;
use crate::id::{ChunkId, PackId, SnapshotId, object_name};
use crate::limits::{CHECKPOINT_BYTES, CHUNK_BYTES_MAX, INDEX_CHUNKS_TARGET};
use crate::monitor::lock;
use crate::pack::{FinishedPack, IndexedPack, PackKind, PackWriter};
use crate::store::{Batch, Key};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A pack, before or after it has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackRef {
    /// One that the catalog knows, by its number there.
    Known(u32),
    /// One of this session, in the order of their beginnings.
    New(u32),
}

/// Where a chunk that was put is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub id: ChunkId,
    /// In which pack.
    pub pack: PackRef,
    /// In which segment of it.
    pub segment: u32,
    /// True if this call added it.
    pub added: bool,
}

const SHARDS: usize = 64;

type Fresh = hashbrown::HashMap<ChunkId, (u32, u32)>;

/// Packs that are on their way into the store.
#[derive(Default)]
struct Pending {
    batch: Option<Box<dyn Batch>>,
    indexed: Vec<IndexedPack>,
    bytes: u64,
    slots: Vec<u32>,
}

/// One run that adds to the repository.
pub struct Session<'r> {
    repository: &'r Repository,
    level: i32,
    /// Chunks that this session has put and no index object lists yet, by pack and segment.
    fresh: Vec<Mutex<Fresh>>,
    /// The names of this session's packs, once they have one.
    names: Mutex<Vec<Option<PackId>>>,
    pending: Mutex<Pending>,
    /// Held while packs become durable, so that barriers come one after the other.
    barrier: Mutex<()>,
    bytes_new: AtomicU64,
    bytes_stored: AtomicU64,
    known_is_empty: bool,
    /// The deletions that were known when it began.
    fence: Fence,
    /// Only these chunks are stored; absent where all are.
    only: Option<HashSet<ChunkId>>,
    /// Where nothing is to be stored: those of the wanted chunks that were found.
    found: Option<Mutex<HashSet<ChunkId>>>,
    chunks_added: AtomicU64,
}

impl<'r> Session<'r> {
    /// Begins; the catalog has been synced for writing. `level` is the zstd level.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub fn begin(repository: &'r Repository, level: i32) -> Result<Self> {
        Ok(Self {
            repository,
            level,
            fresh: (0..SHARDS).map(|_| Mutex::new(Fresh::new())).collect(),
            names: Mutex::new(Vec::new()),
            pending: Mutex::new(Pending::default()),
            barrier: Mutex::new(()),
            bytes_new: AtomicU64::new(0),
            bytes_stored: AtomicU64::new(0),
            known_is_empty: !repository.catalog.has_chunks()?,
            fence: match lock(&repository.fence).clone() {
                Some(fence) => fence,
                None => repository.fence()?,
            },
            only: None,
            found: None,
            chunks_added: AtomicU64::new(0),
        })
    }

    /// Stores only the chunks `wanted`, to mend what has lost them. Such a session commits no snapshot: what
    /// it says of the place of other chunks means nothing.
    #[must_use]
    pub fn only(self, wanted: HashSet<ChunkId>) -> Self {
        Self { only: Some(wanted), ..self }
    }

    /// Like [`Self::only`], but only counts how many of them there are.
    #[must_use]
    pub fn only_look(self, wanted: HashSet<ChunkId>) -> Self {
        Self { found: Some(Mutex::default()), ..self.only(wanted) }
    }

    /// Notes a wanted chunk where nothing is to be stored; else false.
    fn notes_only(&self, id: ChunkId) -> bool {
        self.found.as_ref().map(|found| lock(found).insert(id)).is_some()
    }

    /// How many chunks it has added, or has found.
    pub fn chunks_added(&self) -> u64 {
        let found = self.found.as_ref().map(|found| lock(found).len() as u64);
        found.unwrap_or_else(|| self.chunks_added.load(Ordering::Relaxed))
    }

    /// How this session refers to segments that an older manifest needs; `None` if the repository
    /// does not have them all.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn refer(&self, needs: &[Need]) -> Result<Option<Needs<PackRef>>> {
        let known: HashMap<PackId, u32> = self
            .repository
            .catalog
            .packs()?
            .into_iter()
            .filter(|row| row.usable)
            .map(|row| (row.id, row.number))
            .collect();
        let mut out = Needs::default();
        let mut moves = None;
        for segment in segments_of(needs) {
            if let Some(number) = known.get(&segment.pack) {
                out.add(PackRef::Known(*number), segment.segment);
                continue;
            }
            let moves = match &mut moves {
                Some(moves) => moves,
                unread => unread.insert(self.repository.moves()?),
            };
            let copies = moves.of(&segment);
            let copy = copies.iter().find_map(|copy| Some((known.get(&copy.pack)?, copy.segment)));
            let Some((number, at)) = copy else { return Ok(None) };
            out.add(PackRef::Known(*number), at);
        }
        Ok(Some(out))
    }

    /// The names of the packs in `needs`, as a manifest keeps them. Only after a checkpoint with all
    /// sinks finished.
    ///
    /// # Errors
    /// A pack has no name yet.
    pub fn named(&self, needs: &Needs<PackRef>) -> Result<Vec<Need>> {
        Ok(self.name_needs(needs)?.to_list())
    }

    /// A way in for one thread, for chunks of one kind.
    ///
    /// # Errors
    /// The catalog cannot be opened again.
    pub fn sink(&self, kind: PackKind) -> Result<Sink<'_, 'r>> {
        let compressor = Compressor::new(self.level).map_err(|source| Error::Compress { source })?;
        Ok(Sink { session: self, kind, lookup: self.repository.catalog.lookup()?, compressor, open: None })
    }

    /// Bytes of chunks that this session has added, and bytes that the repository has grown by.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_new.load(Ordering::Relaxed), self.bytes_stored.load(Ordering::Relaxed))
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<Fresh> {
        &self.fresh[usize::from(id.0[0]) % SHARDS]
    }

    /// The number, in this session, of a pack that begins.
    pub(super) fn begin_pack(&self) -> u32 {
        let mut names = lock(&self.names);
        names.push(None);
        u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes a pack that is whole.
    ///
    /// # Errors
    /// The store refuses.
    pub(super) fn deliver(&self, slot: u32, pack: FinishedPack) -> Result<()> {
        if let Some(name) = lock(&self.names).get_mut(slot as usize) {
            *name = Some(pack.indexed.id);
        }
        self.bytes_stored.fetch_add(pack.indexed.sealed_bytes, Ordering::Relaxed);
        let due = {
            let mut pending = lock(&self.pending);
            // A store on a server begins to send it, and takes its time where it has enough to send.
            let batch = pending.batch.get_or_insert_with(|| self.repository.store.batch());
            batch.add(Key::from(pack.indexed.id), pack.upload)?;
            pending.bytes += pack.indexed.sealed_bytes;
            pending.indexed.push(pack.indexed);
            pending.slots.push(slot);
            pending.bytes >= CHECKPOINT_BYTES
        };
        if due { self.checkpoint() } else { Ok(()) }
    }

    /// Makes durable what is finished and lists it in index objects. What a later run of an
    /// interrupted `create` finds here it does not store again.
    ///
    /// # Errors
    /// The store refuses, or the catalog cannot be written.
    pub fn checkpoint(&self) -> Result<()> {
        let _one_at_a_time = lock(&self.barrier);
        let Pending { batch, indexed, slots, .. } = std::mem::take(&mut *lock(&self.pending));
        let Some(batch) = batch else { return Ok(()) };
        batch.commit()?;
        for group in groups(&indexed) {
            let bytes = self.repository.put_index(group)?;
            self.bytes_stored.fetch_add(bytes, Ordering::Relaxed);
        }
        // The catalog has them now.
        let done: HashSet<u32> = slots.into_iter().collect();
        for shard in &self.fresh {
            lock(shard).retain(|_, (slot, _)| !done.contains(slot));
        }
        Ok(())
    }

    /// Commits the snapshot: everything that was put becomes durable, then its manifest. `needs` are
    /// the segments it refers to; `describe` completes the manifest once the costs are known.
    ///
    /// # Errors
    /// Nothing is committed.
    pub fn commit(self, needs: &Needs<PackRef>, manifest: &mut Manifest) -> Result<SnapshotId> {
        self.checkpoint()?;
        let needs = self.name_needs(needs)?;
        manifest.needs = needs.to_list();
        let repository = self.repository;
        repository.pass(&self.fence, &needs)?;
        let plain = manifest.encode(&repository.secrets.mac_key())?;
        let sealed = crypto::seal::seal(&[repository.secrets.index_recipient()], &plain)
            .map_err(|source| Error::Crypto { object: "cannot seal the manifest".to_owned(), source })?;
        let id = SnapshotId(object_name(&sealed));
        repository.store.put(&Key::from(id), &sealed)?;
        repository.pass(&self.fence, &needs).inspect_err(|error| {
            if error.is_overtaken() {
                repository.disown(id, manifest);
            }
        })?;
        // From here on it is published. The catalog only remembers it; if it cannot, the next command
        // reads it from the repository.
        if let Ok(document) = Manifest::document(&Key::from(id).path(), &plain) {
            let row = crate::catalog::SnapshotRow { id, manifest: document };
            let _ = repository.catalog.add_snapshots(&[row]).and_then(|()| repository.catalog.add_sightings(&[id]));
        }
        Ok(id)
    }

    /// The names of this session's packs.
    ///
    /// # Errors
    /// One has none: a sink was not finished.
    pub fn pack_names(&self) -> Result<HashMap<PackRef, PackId>> {
        let mut names = HashMap::new();
        for row in self.repository.catalog.packs()? {
            names.insert(PackRef::Known(row.number), row.id);
        }
        for (slot, name) in lock(&self.names).iter().enumerate() {
            let name = name.ok_or(Error::Unfinished { what: "a worker" })?;
            names.insert(PackRef::New(u32::try_from(slot).unwrap_or(u32::MAX)), name);
        }
        Ok(names)
    }

    fn name_needs(&self, needs: &Needs<PackRef>) -> Result<Needs<PackId>> {
        let names = self.pack_names()?;
        if needs.packs().any(|pack| !names.contains_key(&pack)) {
            // A pack was there when the run began and has been deleted since.
            return Err(Error::Unfinished { what: "a pack that this snapshot needs" });
        }
        let mut named = Needs::default();
        named.absorb(needs, |pack| names.get(&pack).copied().unwrap_or(PackId([0; 32])));
        Ok(named)
    }
}

/// Packs for one index object each: never so many that one object grows out of bounds.
pub(super) fn groups(packs: &[IndexedPack]) -> Vec<&[IndexedPack]> {
    let mut out = Vec::new();
    let (mut start, mut chunks) = (0, 0);
    for (at, pack) in packs.iter().enumerate() {
        chunks += pack.footer.chunk_count();
        if chunks >= INDEX_CHUNKS_TARGET || at + 1 == packs.len() {
            out.push(&packs[start..=at]);
            (start, chunks) = (at + 1, 0);
        }
    }
    out
}

/// One thread's way into a session.
pub struct Sink<'s, 'r> {
    session: &'s Session<'r>,
    kind: PackKind,
    lookup: Lookup,
    compressor: Compressor,
    open: Option<(u32, PackWriter)>,
}

impl Sink<'_, '_> {
    /// Stores the chunk `plain` unless the repository has it.
    ///
    /// # Errors
    /// The store or the catalog fails; the chunk is longer than any reader takes.
    pub fn put(&mut self, plain: &[u8]) -> Result<Stored> {
        let session = self.session;
        if plain.len() > CHUNK_BYTES_MAX {
            let what = format!("it has {} bytes, and no chunk may have more than {CHUNK_BYTES_MAX}", plain.len());
            return Err(Error::Damaged { object: "a new chunk".to_owned(), what });
        }
        let id = session.repository.namer.name(plain);
        if session.only.as_ref().is_some_and(|only| !only.contains(&id) || session.notes_only(id)) {
            return Ok(Stored { id, pack: PackRef::Known(u32::MAX), segment: 0, added: false });
        }
        if let Some((slot, segment)) = lock(session.shard(&id)).get(&id) {
            return Ok(Stored { id, pack: PackRef::New(*slot), segment: *segment, added: false });
        }
        let checkpointed = session.bytes_stored.load(Ordering::Relaxed) >= CHECKPOINT_BYTES;
        if (!session.known_is_empty || checkpointed)
            && let Some(found) = self.lookup.find(&id)?
        {
            return Ok(Stored { id, pack: PackRef::Known(found.pack), segment: found.segment, added: false });
        }
        self.add(id, plain)
    }

    fn add(&mut self, id: ChunkId, plain: &[u8]) -> Result<Stored> {
        let session = self.session;
        let (slot, pack) = match &mut self.open {
            Some(open) => open,
            empty => {
                let repository = session.repository;
                let pack = PackWriter::new(&*repository.store, repository.secrets.data_recipient(), self.kind)?;
                empty.insert((session.begin_pack(), pack))
            }
        };
        let place = (*slot, pack.segment());
        // Another thread may have put the same chunk a moment ago: the first one counts.
        let (slot, segment) = *lock(session.shard(&id)).entry(id).or_insert(place);
        if (slot, segment) != place {
            return Ok(Stored { id, pack: PackRef::New(slot), segment, added: false });
        }
        pack.add(id, plain);
        session.bytes_new.fetch_add(plain.len() as u64, Ordering::Relaxed);
        session.chunks_added.fetch_add(1, Ordering::Relaxed);
        if pack.segment_is_full() {
            pack.close_segment(&mut self.compressor)?;
            if pack.is_full() {
                self.close_pack()?;
            }
        }
        Ok(Stored { id, pack: PackRef::New(slot), segment, added: true })
    }

    fn close_pack(&mut self) -> Result<()> {
        match self.open.take() {
            Some((slot, pack)) => self.session.deliver(slot, pack.finish(&mut self.compressor)?),
            None => Ok(()),
        }
    }

    /// Ends the segment, so that the next chunk begins another one.
    #[cfg(test)]
    pub(super) fn end_segment(&mut self) -> Result<()> {
        match &mut self.open {
            Some((_, pack)) => Ok(pack.close_segment(&mut self.compressor)?),
            None => Ok(()),
        }
    }

    /// Ends the thread's work: its open pack is finished.
    ///
    /// # Errors
    /// The store refuses.
    pub fn finish(mut self) -> Result<()> {
        self.close_pack()
    }
}
