//! Bringing the catalog up to what the repository holds now.

use super::manifest::Manifest;
use super::mark::{Marks, Tombstone};
use super::{Error, Repository, Result};
use crate::catalog::SnapshotRow;
use crate::crypto;
use crate::id::{IndexId, PackId, SnapshotId, object_name};
use crate::limits::{INDEX_BYTES_MAX, MANIFEST_BYTES_MAX};
use crate::monitor::{Monitor, Warning, lock};
use crate::pack::{IndexedPack, decode_index};
use crate::store::{Key, Kind};
use std::collections::{BTreeMap, HashMap, HashSet};

/// How often index objects are listed anew because one went while they were read.
const SYNC_ATTEMPTS_MAX: u32 = 5;

/// One snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// What it says.
    pub manifest: Manifest,
}

/// An object under `snapshots/` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id.
    pub id: SnapshotId,
    /// Why.
    pub message: String,
    /// True if a newer snap wrote it; false if it is damaged.
    pub newer: bool,
}

/// What is known of the repository's snapshots.
#[derive(Debug, Default)]
pub struct SnapshotSet {
    /// Those that can be read, oldest first as far as their chain tells.
    pub snapshots: Vec<Snapshot>,
    /// Objects under `snapshots/` that cannot, and why.
    pub unreadable: Vec<Unreadable>,
    /// Those among the unreadable ones that were read here while they were whole, with what they said then; filled
    /// by [`Repository::prove`].
    pub damaged: Vec<Snapshot>,
    /// Snapshots that this machine has seen before and that are gone.
    pub vanished: Vec<Snapshot>,
    /// Snapshots that somebody has forgotten and that are still there, in the same order.
    pub forgotten: Vec<Snapshot>,
    /// Snapshots that were forgotten and removed.
    pub removed: BTreeMap<SnapshotId, Tombstone>,
    /// All that is known of deletions.
    pub marks: Marks,
}

/// What a person can do about something that is damaged or gone.
pub const TAKES_BACK: &str = "`snap repair --from REPLICA` takes it back";

/// What a person can do about a snapshot that is damaged or gone.
pub fn way_back(id: &SnapshotId) -> String {
    format!("{TAKES_BACK}, `snap forget {}` gives it up", id.short())
}

impl SnapshotSet {
    /// What is wrong with an unreadable one, and what a person can do.
    pub fn way_out(&self, one: &Unreadable) -> String {
        let what = &one.message;
        if one.newer {
            format!("{what}; use a newer snap")
        } else if self.damaged.iter().any(|snapshot| snapshot.id == one.id) {
            format!("{what}; {}", way_back(&one.id))
        } else {
            format!("{what}; {TAKES_BACK}")
        }
    }

    /// The snapshots of a lineage that no other of them follows: those that the next one follows.
    /// Forgotten and removed ones count, so that the chain stays whole.
    pub fn heads(&self, host: &str, stack: &str) -> Vec<SnapshotId> {
        let there = self.snapshots.iter().chain(&self.forgotten).filter(|s| s.manifest.lineage() == (host, stack));
        let gone = self.removed.values().filter(|t| (t.host.as_str(), t.stack.as_str()) == (host, stack));
        let there = there.map(|s| (s.id, &s.manifest.predecessors));
        let all: BTreeMap<SnapshotId, &Vec<SnapshotId>> = there.chain(gone.map(|t| (t.id, &t.predecessors))).collect();
        let followed: HashSet<SnapshotId> = all.values().flat_map(|before| before.iter().copied()).collect();
        all.into_keys().filter(|id| !followed.contains(id)).collect()
    }

    /// The newest snapshot of a lineage: a head, the latest by its own clock where there are two.
    pub fn newest(&self, host: &str, stack: &str) -> Option<&Snapshot> {
        self.snapshots.iter().rev().find(|s| s.manifest.lineage() == (host, stack))
    }
}

impl Repository {
    /// Reads an object that is named by its content and sealed to the index recipient.
    pub(super) fn open_sealed(&self, key: &Key, name: &[u8; 32], limit: usize) -> Result<Vec<u8>> {
        let object = key.path();
        let sealed = self.store.get(key)?;
        if object_name(&sealed) != *name {
            return Err(Error::Damaged { object, what: "its bytes do not fit its name".to_owned() });
        }
        crypto::open::open(std::slice::from_ref(self.secrets.index_identity()), &sealed, limit)
            .map_err(|source| Error::Crypto { object: format!("cannot open {object}"), source })
    }

    /// The packs that an index object lists.
    pub(super) fn read_index(&self, id: IndexId) -> Result<Vec<IndexedPack>> {
        let key = Key::from(id);
        let plain = self.open_sealed(&key, &id.0, INDEX_BYTES_MAX)?;
        Ok(decode_index(&key.path(), &plain)?)
    }

    /// Learns new index objects and forgets those that are gone. An unreadable one is told to the
    /// monitor: what only it lists is not found, and `create` stores it again.
    ///
    /// # Errors
    /// The listing fails, or the catalog does.
    pub fn sync_indexes(&self, monitor: &dyn Monitor) -> Result<()> {
        // An index object may be replaced by a larger one while they are read: the new one is there
        // before the old one goes, so another look finds it.
        for attempt in 0..SYNC_ATTEMPTS_MAX {
            if self.sync_indexes_once(monitor, attempt + 1 == SYNC_ATTEMPTS_MAX)? {
                break;
            }
        }
        Ok(())
    }

    /// False if an index object went while it was read, and another look is worth it.
    fn sync_indexes_once(&self, monitor: &dyn Monitor, last: bool) -> Result<bool> {
        // In this order: another process that shares the catalog learns only what is in the store already,
        // so what is known now and not listed then is gone.
        let mut known = self.catalog.indexes()?;
        let listed: Vec<IndexId> = self.index_ids()?;
        let present: HashSet<IndexId> = listed.iter().copied().collect();
        if known.iter().any(|id| !present.contains(id)) {
            // Somebody has deleted packs: nothing that was known of any may be relied on.
            self.catalog.forget_packs()?;
            known.clear();
        }
        for id in listed.into_iter().filter(|id| !known.contains(id)) {
            match self.read_index(id) {
                Ok(packs) => self.catalog.add_index(id, &packs)?,
                Err(Error::Store(crate::store::Error::NotFound { .. })) if !last => return Ok(false),
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => {
                    let message = format!("{}; what only it lists is not known here", Chain(&error));
                    monitor.warn(&Warning::note(Key::from(id).path(), message));
                }
            }
        }
        Ok(true)
    }

    /// The index objects in the store.
    pub(super) fn index_ids(&self) -> Result<Vec<IndexId>> {
        let listing = self.store.list(Kind::Index)?;
        let ids = listing.objects.iter().filter_map(|object| match object.key {
            Key::Object(Kind::Index, name) => Some(IndexId(name)),
            _ => None,
        });
        Ok(ids.collect())
    }

    /// Like [`Self::sync_indexes`], and marks the packs that cannot be relied on: those that the
    /// repository does not have at their full size, and those that a check has found damaged. What they
    /// hold is stored again wherever it still is.
    ///
    /// # Errors
    /// A listing fails, or the catalog does.
    pub fn sync_for_writing(&self, monitor: &dyn Monitor) -> Result<()> {
        // In this order: what is deleted after it was looked for here is caught when the snapshot is
        // committed, and what was deleted before is missing among the packs.
        *lock(&self.fence) = Some(self.fence()?);
        let doomed = self.marks()?.doomed();
        self.sync_indexes(monitor)?;
        let sizes: HashMap<PackId, u64> = self.pack_sizes()?;
        self.relist(&sizes, monitor)?;
        let marked: HashSet<PackId> =
            self.catalog.packs()?.into_iter().filter(|pack| !pack.usable).map(|pack| pack.id).collect();
        let mut lost = self.lost_packs(&sizes)?;
        if lost.keys().any(|id| !marked.contains(id)) {
            // It may be the catalog that is wrong.
            self.relearn()?;
            lost = self.lost_packs(&sizes)?;
        }
        let doomed = self.catalog.packs()?.into_iter().map(|pack| pack.id).filter(|id| doomed.contains(id));
        let unusable: HashSet<PackId> = lost.keys().copied().chain(doomed).collect();
        if unusable != marked {
            self.catalog.set_unusable(&unusable)?;
        }
        for (pack, reason) in lost.iter().filter(|(id, _)| !marked.contains(*id)) {
            let message = format!("{reason}; what it held is stored again where it still is");
            monitor.warn(&Warning::note(Key::from(*pack).path(), message));
        }
        Ok(())
    }

    /// Packs that cannot be relied on, and why.
    fn lost_packs(&self, sizes: &HashMap<PackId, u64>) -> Result<BTreeMap<PackId, &'static str>> {
        let bad = self.catalog.bad_packs()?;
        let lost = self.catalog.packs()?.into_iter().filter_map(|pack| {
            let reason = match sizes.get(&pack.id) {
                None => "it is missing",
                Some(bytes) if *bytes != pack.sealed_bytes => "it is cut short",
                Some(_) if bad.contains_key(&pack.id) => "a check has found it damaged",
                Some(_) => return None,
            };
            Some((pack.id, reason))
        });
        Ok(lost.collect())
    }

    /// Learns anew where everything lies: before something is called damaged, the catalog must be
    /// ruled out.
    ///
    /// # Errors
    /// The listing fails, or the catalog does.
    pub fn relearn(&self) -> Result<()> {
        self.catalog.forget_packs()?;
        self.sync_indexes(&crate::monitor::Quiet::default())
    }

    /// All packs in the store and their sizes in bytes.
    pub(super) fn pack_sizes(&self) -> Result<HashMap<PackId, u64>> {
        let listing = self.store.list(Kind::Pack)?;
        let sizes = listing.objects.into_iter().filter_map(|object| match object.key {
            Key::Object(Kind::Pack, name) => Some((PackId(name), object.bytes)),
            _ => None,
        });
        Ok(sizes.collect())
    }

    /// Reads and authenticates a manifest, whatever the catalog knows of it.
    pub(super) fn verify_manifest(&self, id: SnapshotId) -> Result<()> {
        self.read_manifest(id).map(drop)
    }

    fn read_manifest(&self, id: SnapshotId) -> Result<Vec<u8>> {
        let key = Key::from(id);
        let plain = self.open_sealed(&key, &id.0, MANIFEST_BYTES_MAX)?;
        let document = Manifest::document(&key.path(), &plain)?;
        // Decoded once here, so that what the catalog keeps is known to be genuine.
        Manifest::decode(&key.path(), &document, &self.secrets.mac_key(), self.id())?;
        Ok(document)
    }

    /// All snapshots.
    ///
    /// # Errors
    /// The listing fails, or the catalog does. A snapshot that cannot be read is in the result.
    pub fn snapshots(&self) -> Result<SnapshotSet> {
        let listed: Vec<SnapshotId> = self
            .store
            .list(Kind::Snapshot)?
            .objects
            .iter()
            .filter_map(|object| match object.key {
                Key::Object(Kind::Snapshot, name) => Some(SnapshotId(name)),
                _ => None,
            })
            .collect();
        let seen = self.catalog.sightings()?;
        let mut set = SnapshotSet::default();
        let mut fresh = Vec::new();
        for id in listed.iter().copied() {
            // One by one: all of them together take as much memory again as what is made of them.
            if let Some(row) = self.catalog.snapshot(id)? {
                set.snapshots.push(self.parse(&row)?);
                continue;
            }
            match self.read_manifest(id) {
                Ok(manifest) => {
                    let row = SnapshotRow { id, manifest };
                    set.snapshots.push(self.parse(&row)?);
                    fresh.push(row);
                }
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => {
                    let message = Chain(&error).to_string();
                    set.unreadable.push(Unreadable { id, message, newer: error.is_newer() });
                }
            }
        }
        set.marks = self.marks()?;
        set.removed = set.marks.removed();
        let forgotten: HashSet<SnapshotId> = set.marks.forgotten().into_keys().collect();
        let listed: HashSet<SnapshotId> = listed.into_iter().collect();
        for id in seen.difference(&listed).filter(|id| !set.removed.contains_key(*id) && !forgotten.contains(*id)) {
            if let Some(row) = self.catalog.snapshot(*id)? {
                set.vanished.push(self.parse(&row)?);
            }
        }
        set.vanished.sort_by(|a, b| (&a.manifest.time, a.id).cmp(&(&b.manifest.time, b.id)));
        if !fresh.is_empty() {
            self.catalog.add_snapshots(&fresh)?;
        }
        let unseen: Vec<SnapshotId> = set.snapshots.iter().map(|s| s.id).filter(|id| !seen.contains(id)).collect();
        if !unseen.is_empty() {
            self.catalog.add_sightings(&unseen)?;
        }
        sort_by_chain(&mut set.snapshots, &set.removed);
        (set.forgotten, set.snapshots) = set.snapshots.into_iter().partition(|s| forgotten.contains(&s.id));
        Ok(set)
    }

    fn parse(&self, row: &SnapshotRow) -> Result<Snapshot> {
        let damaged = |_| crate::catalog::Error::Damaged { path: self.catalog.folder().join("catalog.db") };
        let manifest = serde_json::from_slice(&row.manifest).map_err(damaged)?;
        Ok(Snapshot { id: row.id, manifest })
    }
}

/// Oldest first: by the clock, except that a snapshot never stands before one it follows, be it by
/// way of removed ones.
fn sort_by_chain(snapshots: &mut Vec<Snapshot>, removed: &BTreeMap<SnapshotId, Tombstone>) {
    snapshots.sort_by(|a, b| (&a.manifest.time, a.id).cmp(&(&b.manifest.time, b.id)));
    let position: HashMap<SnapshotId, usize> = snapshots.iter().enumerate().map(|(at, s)| (s.id, at)).collect();
    let before: Vec<Vec<SnapshotId>> =
        snapshots.iter().map(|s| followed(&s.manifest.predecessors, &position, removed)).collect();
    let in_order = before
        .iter()
        .enumerate()
        .all(|(at, before)| before.iter().all(|id| position.get(id).is_none_or(|earlier| *earlier < at)));
    if in_order {
        return;
    }
    // Kahn's algorithm over the few that a wrong clock has put out of order.
    let mut rest: Vec<Option<Snapshot>> = std::mem::take(snapshots).into_iter().map(Some).collect();
    let mut placed = HashSet::new();
    while snapshots.len() < rest.len() {
        let count = snapshots.len();
        for (slot, before) in rest.iter_mut().zip(&before) {
            let ready = slot.is_some() && before.iter().all(|id| placed.contains(id));
            if ready && let Some(snapshot) = slot.take() {
                placed.insert(snapshot.id);
                snapshots.push(snapshot);
            }
        }
        if snapshots.len() == count {
            // A circle cannot be made without breaking BLAKE3; still, nothing may get lost here.
            snapshots.extend(rest.iter_mut().filter_map(Option::take));
        }
    }
}

/// The snapshots in `present` that one with these predecessors follows, through removed ones.
fn followed(
    predecessors: &[SnapshotId],
    present: &HashMap<SnapshotId, usize>,
    removed: &BTreeMap<SnapshotId, Tombstone>,
) -> Vec<SnapshotId> {
    let mut out = Vec::new();
    let mut seen = HashSet::new();
    let mut open = predecessors.to_vec();
    while let Some(id) = open.pop() {
        if present.contains_key(&id) {
            out.push(id);
        } else if let Some(tombstone) = removed.get(&id).filter(|_| seen.insert(id)) {
            open.extend(&tombstone.predecessors);
        }
    }
    out
}

/// What the system says, without the number that Rust adds: `(os error 2)` helps nobody.
pub fn without_number(text: &str) -> String {
    let mut out = text.to_owned();
    while let Some(start) = out.find(" (os error ") {
        let Some(end) = out[start..].find(')') else { break };
        out.replace_range(start..=start + end, "");
    }
    out
}

/// What is said of an object; some messages name it themselves.
pub fn about(object: &str, message: &str) -> String {
    if message.contains(object) { message.to_owned() } else { format!("{object}: {message}") }
}

/// An error and its causes in one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&without_number(&self.0.to_string()))?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {}", without_number(&error.to_string()))?;
            cause = error.source();
        }
        Ok(())
    }
}
