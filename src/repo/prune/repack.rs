//! Copying what is needed out of packs of which little is, and out of many small ones.
//!
//! Segments are copied as they lie, after each of their chunks has been hashed again, and each copy says
//! where it comes from ([`crate::repo`]'s `moved`). New packs are durable and listed before anything else
//! happens; what they took the place of is then marked and deleted like all that no snapshot needs. So
//! a run can end anywhere: a copy that is listed is one more copy, and one that is not is left behind.

use super::index::{Index, Listed};
use super::state::{Alive, State};
use super::{Deletion, Repacked, Run};
use crate::chunk::Compressor;
use crate::id::PackId;
use crate::limits::PACK_BYTES_TARGET;
use crate::monitor::{Unit, Warning};
use crate::pack::{Origin, PackKind, PackReader, PackWriter, Place, Segment};
use crate::repo::sync::Chain;
use crate::repo::writer::Session;
use crate::repo::{Error, Result};
use crate::store::Key;
use std::collections::{BTreeMap, HashMap};

/// Packs below this size, in bytes, are small.
const SMALL_BYTES: u64 = PACK_BYTES_TARGET as u64 / 4;
/// So many small packs of a kind are brought together, or fewer that fill one.
const SMALL_PACKS_MIN: usize = if cfg!(test) { 6 } else { 32 };
/// Copied packs become durable and listed after so many bytes, so that a run that ends has not worked
/// in vain.
const DURABLE_BYTES: u64 = 8 * PACK_BYTES_TARGET as u64;

/// A pack that is to be copied.
struct Candidate {
    id: PackId,
    kind: PackKind,
    segments: Vec<u32>,
    live_bytes: u64,
    /// Bytes of segments that nothing needs.
    dead_bytes: u64,
    sealed_bytes: u64,
}

impl Run<'_> {
    /// Copies what is due, or says what would be. True if something was copied.
    pub(super) fn repack(&mut self, state: &State, index: &Index) -> Result<bool> {
        if self.options.repack_below <= 0.0 {
            return Ok(false);
        }
        let (removable, alive) = self.alive(state, index)?;
        let due = self.choose(state, index, &alive);
        let mut repacked = Repacked::default();
        for one in &due {
            repacked.packs += 1;
            repacked.bytes += one.sealed_bytes;
            repacked.bytes_copied += one.live_bytes;
        }
        if due.is_empty() || self.options.dry_run {
            self.report.repacked = repacked;
            return Ok(false);
        }
        // Asked for before anything is copied.
        let named = state.needed_by_any();
        let gone: Vec<PackId> =
            state.sizes.keys().copied().filter(|id| named.contains(id) && !alive.packs.contains(id)).collect();
        let dead: u64 = due.iter().map(|one| one.dead_bytes).sum();
        let bytes = dead + state.loss(&gone, &alive, index);
        let packs = repacked.packs + gone.len() as u64;
        let deletion = Deletion { snapshots: removable.len() as u64, packs, bytes };
        if !self.may(&deletion, state.sizes.values().sum()) {
            self.report.refused = true;
            return Ok(false);
        }
        self.monitor.phase("repacking", Unit::Bytes, Some(repacked.bytes_copied));
        let mut copying = Copying::new(self)?;
        for one in &due {
            copying.pack(one)?;
        }
        self.report.repacked = copying.finish()?;
        Ok(self.report.repacked.packs > 0)
    }

    /// Sound packs that nobody deletes, and of which less is needed than asked for, or that are small and
    /// many; in the order in which snapshots came to need them, so that what belongs together stays so.
    fn choose(&self, state: &State, index: &Index, alive: &Alive) -> Vec<Candidate> {
        let leaving = state.leaving();
        let mut live: BTreeMap<PackId, Vec<u32>> = BTreeMap::new();
        for (pack, segment) in alive.segments.segments() {
            live.entry(pack).or_default().push(segment);
        }
        let (mut sparse, mut small): (Vec<Candidate>, Vec<Candidate>) = (Vec::new(), Vec::new());
        for (id, segments) in live {
            let Some(listed) = index.packs.get(&id).filter(|_| !leaving.contains(&id)) else { continue };
            let Some(one) = Candidate::new(id, listed, segments) else { continue };
            if (one.live_bytes as f64) < listed.stored_bytes() as f64 * self.options.repack_below {
                sparse.push(one);
            } else if one.sealed_bytes < SMALL_BYTES && listed.has_room() {
                small.push(one);
            }
        }
        for kind in [PackKind::Data, PackKind::Tree] {
            let of_kind = || small.iter().filter(|one| one.kind == kind);
            let bytes: u64 = of_kind().map(|one| one.live_bytes).sum();
            let (count, fills) = (of_kind().count(), bytes >= PACK_BYTES_TARGET as u64);
            if count >= SMALL_PACKS_MIN || (fills && count > 1) {
                sparse.extend(small.extract_if(.., |one| one.kind == kind));
            }
        }
        let first: HashMap<PackId, usize> = state.first_needed();
        sparse.sort_by_key(|one| (one.kind as u8, first.get(&one.id).copied().unwrap_or(0), one.id));
        sparse
    }
}

impl Candidate {
    /// `None` if the manifests name segments that the pack does not have.
    fn new(id: PackId, listed: &Listed, segments: Vec<u32>) -> Option<Self> {
        let mut live_bytes = 0;
        for at in &segments {
            live_bytes += u64::from(listed.segments.get(*at as usize)?.stored_len);
        }
        let (kind, sealed_bytes) = (listed.kind, listed.sealed_bytes);
        Some(Self { id, kind, segments, live_bytes, dead_bytes: listed.stored_bytes() - live_bytes, sealed_bytes })
    }
}

/// The new packs while they are filled.
struct Copying<'r, 'a> {
    run: &'r Run<'a>,
    session: Session<'r>,
    compressor: Compressor,
    open: Option<(u32, PackKind, PackWriter)>,
    /// Bytes that are not durable yet.
    pending_bytes: u64,
    done: Repacked,
}

impl<'r, 'a> Copying<'r, 'a> {
    fn new(run: &'r Run<'a>) -> Result<Self> {
        let session = Session::begin(run.repository, 1)?;
        let compressor = Compressor::new(1).map_err(|source| Error::Compress { source })?;
        Ok(Self { run, session, compressor, open: None, pending_bytes: 0, done: Repacked::default() })
    }

    /// Copies what is needed of one pack. One that is damaged stays as it is.
    fn pack(&mut self, one: &Candidate) -> Result<()> {
        let (repository, store) = (self.run.repository, &*self.run.repository.store);
        let reader = PackReader::open(store, one.id, &repository.secrets.data_identities());
        let footer = reader.and_then(|reader| Ok((reader.footer(store)?, reader)));
        let (footer, reader) = match footer {
            Ok(found) => found,
            Err(error) => return self.leave(one, error.into()),
        };
        for at in &one.segments {
            if self.run.monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            let Some(segment) = footer.segments.get(*at as usize) else { return Ok(()) };
            let (stored, plain) = match reader.stored_and_plain(store, Place::from(segment)) {
                Ok(bytes) => bytes,
                Err(error) => return self.leave(one, error.into()),
            };
            if !self.holds(segment, &plain) {
                let what = "a chunk is not what its id says".to_owned();
                return self.leave(one, Error::Damaged { object: Key::from(one.id).path(), what });
            }
            self.segment(one, *at, segment, &stored)?;
            self.run.monitor.advance(stored.len() as u64);
        }
        self.done.packs += 1;
        self.done.bytes += one.sealed_bytes;
        self.done.bytes_copied += one.live_bytes;
        Ok(())
    }

    fn holds(&self, segment: &Segment, plain: &[u8]) -> bool {
        let mut rest = plain;
        segment.chunks.iter().all(|chunk| {
            let (bytes, behind) = rest.split_at_checked(chunk.len as usize).unwrap_or((rest, &[]));
            rest = behind;
            self.run.repository.namer.name(bytes) == chunk.id
        })
    }

    fn segment(&mut self, one: &Candidate, at: u32, segment: &Segment, stored: &[u8]) -> Result<()> {
        if self.open.as_ref().is_some_and(|(_, kind, pack)| *kind != one.kind || pack.is_full()) {
            self.close()?;
        }
        let (_, _, pack) = match &mut self.open {
            Some(open) => open,
            empty => {
                let repository = self.run.repository;
                let pack = PackWriter::new(&*repository.store, repository.secrets.data_recipient(), one.kind)?;
                empty.insert((self.session.begin_pack(), one.kind, pack))
            }
        };
        pack.copy_segment(Origin { pack: one.id, segment: at }, segment.clone(), stored)?;
        self.pending_bytes += stored.len() as u64;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some((slot, _, pack)) = self.open.take() {
            self.session.deliver(slot, pack.finish(&mut self.compressor)?)?;
            if self.pending_bytes >= DURABLE_BYTES {
                self.session.checkpoint()?;
                self.pending_bytes = 0;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Repacked> {
        self.close()?;
        self.session.checkpoint()?;
        Ok(self.done)
    }

    /// Leaves a pack that cannot be read, and remembers it if it is damaged: then nothing relies on it.
    fn leave(&self, one: &Candidate, error: Error) -> Result<()> {
        if error.is_outage() || error.is_catalog_damage() {
            return Err(error);
        }
        let message = format!("{}; it was not copied   ← snap check --read-data", Chain(&error));
        self.run.monitor.warn(&Warning::note(Key::from(one.id).path(), message));
        if error.is_damage() {
            let at = self.run.clock.moment().wall_seconds;
            self.run.repository.catalog().note_readings(&[], &[one.id], at)?;
        }
        Ok(())
    }
}
