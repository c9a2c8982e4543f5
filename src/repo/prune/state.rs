//! What there is, whether it is known well enough to delete anything, and what is needed of it.

use super::Deletion;
use crate::id::{IndexId, MarkId, PackId, SnapshotId};
use crate::pack::IndexedPack;
use crate::repo::mark::Act;
use crate::repo::{Error, Repository, Result, Snapshot, SnapshotSet};
use std::collections::{HashMap, HashSet};

/// The repository at one moment.
pub(super) struct State {
    /// Its snapshots and marks.
    pub set: SnapshotSet,
    /// Its packs and their sizes in bytes.
    pub sizes: HashMap<PackId, u64>,
}

/// All index objects and what they list.
pub(super) type Index = Vec<(IndexId, Vec<IndexedPack>)>;

fn not_safe(reason: String) -> Error {
    Error::NotSafe { reason }
}

impl State {
    /// Reads it anew.
    ///
    /// # Errors
    /// Not everything can be listed and read: then nothing may be deleted.
    pub fn read(repository: &Repository) -> Result<Self> {
        // Snapshots first: one that is published meanwhile is seen by whoever deletes, or sees him.
        let set = repository.snapshots()?;
        let state = Self { sizes: repository.pack_sizes()?, set };
        state.is_known_well()?;
        Ok(state)
    }

    /// Goes on as if these snapshots were forgotten.
    pub fn suppose_forgotten(&mut self, ids: &[SnapshotId]) {
        let gone = self.set.snapshots.extract_if(.., |snapshot| ids.contains(&snapshot.id));
        self.set.forgotten.extend(gone);
    }

    fn is_known_well(&self) -> Result<()> {
        let set = &self.set;
        if let Some(one) = set.unreadable.first() {
            return Err(not_safe(format!("snapshot {} cannot be read: {}", one.id.short(), one.message)));
        }
        if let Some(one) = set.vanished.first() {
            let reason = format!("snapshot {} was here before and is gone; nobody has removed it", one.id.short());
            return Err(not_safe(reason));
        }
        if let Some(one) = set.marks.unread.first() {
            return Err(not_safe(format!("{}: {}", one.object, one.message)));
        }
        if set.snapshots.is_empty() && !(self.sizes.is_empty() && set.forgotten.is_empty()) {
            return Err(not_safe("there is no snapshot".to_owned()));
        }
        let there: HashSet<SnapshotId> = self.present().map(|s| s.id).chain(set.removed.keys().copied()).collect();
        for snapshot in self.present() {
            if let Some(before) = snapshot.manifest.predecessors.iter().find(|id| !there.contains(id)) {
                let (id, before) = (snapshot.id.short(), before.short());
                return Err(not_safe(format!("the snapshot {before}, which {id} follows, is missing")));
            }
        }
        for mark in set.marks.marks.values() {
            let Act::Delete { seen, .. } = &mark.act else { continue };
            if let Some(id) = seen.iter().find(|id| !there.contains(id)) {
                return Err(not_safe(format!("snapshot {} is missing since the last prune", id.short())));
            }
        }
        Ok(())
    }

    fn present(&self) -> impl Iterator<Item = &Snapshot> {
        self.set.snapshots.iter().chain(&self.set.forgotten)
    }

    /// All index objects. One that cannot be read ends it: its packs might be taken for unlisted.
    ///
    /// # Errors
    /// The listing or one of them cannot be read.
    pub fn read_index(&self, repository: &Repository) -> Result<Index> {
        repository.index_ids()?.into_iter().map(|id| Ok((id, repository.read_index(id)?))).collect()
    }

    /// The marks of phase one.
    pub fn deletions(&self) -> Vec<MarkId> {
        let marks = self.set.marks.marks.iter();
        marks.filter(|(_, mark)| matches!(mark.act, Act::Delete { .. })).map(|(id, _)| *id).collect()
    }

    /// What these marks name.
    pub fn named_by(&self, marks: &[MarkId]) -> (HashSet<SnapshotId>, HashSet<PackId>) {
        let (mut all_snapshots, mut all_packs) = (HashSet::new(), HashSet::new());
        for mark in marks.iter().filter_map(|id| self.set.marks.marks.get(id)) {
            if let Act::Delete { snapshots, packs, .. } = &mark.act {
                all_snapshots.extend(snapshots);
                all_packs.extend(packs);
            }
        }
        (all_snapshots, all_packs)
    }

    /// Those of `wanted` that are forgotten and can go: two who forget at once may together have
    /// forgotten every complete snapshot of a stack, and then its newest stays all the same.
    pub fn removable(&self, wanted: &HashSet<SnapshotId>) -> HashSet<SnapshotId> {
        let complete = |s: &&Snapshot| s.manifest.complete;
        let held: HashSet<(&str, &str)> =
            self.set.snapshots.iter().filter(complete).map(|s| s.manifest.lineage()).collect();
        let mut last = HashMap::new();
        for snapshot in self.set.forgotten.iter().filter(complete) {
            if !held.contains(&snapshot.manifest.lineage()) {
                last.insert(snapshot.manifest.lineage(), snapshot.id);
            }
        }
        let stays: HashSet<SnapshotId> = last.into_values().collect();
        let forgotten = self.set.forgotten.iter().map(|s| s.id);
        forgotten.filter(|id| wanted.contains(id) && !stays.contains(id)).collect()
    }

    /// The packs that these snapshots name.
    pub fn needs_of(&self, snapshots: &HashSet<SnapshotId>) -> HashSet<PackId> {
        let named = self.present().filter(|s| snapshots.contains(&s.id));
        named.flat_map(|s| s.manifest.needs.iter().map(|need| need.pack)).collect()
    }

    /// The packs that must stay when `removing` go: those that the other snapshots name, and where one
    /// of these is missing or damaged, all that hold what was in it.
    ///
    /// # Errors
    /// A pack is missing and nothing says what was in it; the catalog fails.
    pub fn needed(
        &self,
        repository: &Repository,
        removing: &HashSet<SnapshotId>,
        index: &Index,
    ) -> Result<HashSet<PackId>> {
        let stay = self.present().filter(|s| !removing.contains(&s.id));
        let mut needed: HashSet<PackId> = stay.flat_map(|s| s.manifest.needs.iter().map(|need| need.pack)).collect();
        let bad = repository.catalog().bad_packs()?;
        let listed: HashMap<PackId, &IndexedPack> =
            index.iter().flat_map(|(_, packs)| packs).map(|pack| (pack.id, pack)).collect();
        let mut lost = HashSet::new();
        for id in &needed {
            let pack = listed.get(id);
            let whole = self.sizes.get(id).is_some_and(|size| pack.is_none_or(|pack| pack.sealed_bytes == *size));
            if whole && !bad.contains_key(id) {
                continue;
            }
            let Some(pack) = pack else {
                let reason = format!("pack {} is missing or damaged, and no index says what was in it", id.short());
                return Err(not_safe(reason));
            };
            lost.extend(pack.footer.segments.iter().flat_map(|segment| segment.chunks.iter().map(|chunk| chunk.id)));
        }
        if !lost.is_empty() {
            let has = |pack: &&&IndexedPack| {
                pack.footer.segments.iter().any(|segment| segment.chunks.iter().any(|chunk| lost.contains(&chunk.id)))
            };
            needed.extend(listed.values().filter(has).map(|pack| pack.id));
        }
        Ok(needed)
    }

    /// Bytes in these packs.
    pub fn bytes(&self, packs: &[PackId]) -> u64 {
        packs.iter().filter_map(|id| self.sizes.get(id)).sum()
    }

    /// What these marks would delete if `alive` packs stay.
    pub fn deletion(&self, marks: &[MarkId], alive: &HashSet<PackId>) -> Deletion {
        let (snapshots, packs) = self.named_by(marks);
        let packs: Vec<PackId> =
            packs.into_iter().filter(|id| self.sizes.contains_key(id) && !alive.contains(id)).collect();
        let snapshots = self.removable(&snapshots).len() as u64;
        Deletion { snapshots, packs: packs.len() as u64, bytes: self.bytes(&packs) }
    }
}
