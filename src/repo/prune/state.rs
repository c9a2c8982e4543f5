//! What there is, whether it is known well enough to delete anything, and what is needed of it.

use super::Deletion;
use super::index::Index;
use crate::id::{MarkId, PackId, SnapshotId};
use crate::pack::Origin;
use crate::repo::mark::Act;
use crate::repo::needs::Needs;
use crate::repo::sync::{TAKES_BACK, about, way_back};
use crate::repo::{Error, Repository, Result, Snapshot, SnapshotSet};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The repository at one moment.
pub(super) struct State {
    /// Its snapshots and marks.
    pub set: SnapshotSet,
    /// Its packs and their sizes in bytes.
    pub sizes: HashMap<PackId, u64>,
    /// True if a person wants to go on although something that is needed is lost.
    pub despite_damage: bool,
}

/// What must stay.
#[derive(Default)]
pub(super) struct Alive {
    /// The segments, where they are now.
    pub segments: Needs<PackId>,
    /// The packs, those among them of which it is not known what is needed.
    pub packs: HashSet<PackId>,
    /// What the manifests name.
    pub named: Needs<PackId>,
    /// Packs that are relied on in the place of others, which go.
    pub relied: BTreeSet<PackId>,
}

impl Alive {
    fn keep(&mut self, at: &Origin) {
        self.segments.add(at.pack, at.segment);
        self.packs.insert(at.pack);
    }
}

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
        let state = Self { sizes: repository.pack_sizes()?, set, despite_damage: false };
        state.is_known_well()?;
        Ok(state)
    }

    /// Reads from the store what the snapshots that stay are relied on for: the catalog may remember one as
    /// it was before it was damaged.
    ///
    /// # Errors
    /// One of them is damaged: then nothing may be deleted. The store does not answer.
    pub fn prove(&mut self, repository: &Repository) -> Result<()> {
        repository.prove(&mut self.set, &|_| true)?;
        self.is_known_well()
    }

    /// Goes on as if these snapshots were forgotten.
    pub fn suppose_forgotten(&mut self, ids: &[SnapshotId]) {
        let gone = self.set.snapshots.extract_if(.., |snapshot| ids.contains(&snapshot.id));
        self.set.forgotten.extend(gone);
    }

    fn is_known_well(&self) -> Result<()> {
        let set = &self.set;
        if let Some(one) = set.unreadable.first() {
            return Err(not_safe(format!("snapshot {} cannot be read: {}", one.id.short(), set.way_out(one))));
        }
        if let Some(one) = set.vanished.first() {
            let (id, way) = (one.id.short(), way_back(&one.id));
            return Err(not_safe(format!("snapshot {id} was here before and is gone; nobody has removed it: {way}")));
        }
        if let Some(one) = set.marks.unread.first() {
            return Err(not_safe(about(&one.object, &one.message)));
        }
        if set.snapshots.is_empty() && !(self.sizes.is_empty() && set.forgotten.is_empty()) {
            return Err(not_safe("there is no snapshot".to_owned()));
        }
        let there: HashSet<SnapshotId> = self.present().map(|s| s.id).chain(set.removed.keys().copied()).collect();
        for snapshot in self.present() {
            if let Some(before) = snapshot.manifest.predecessors.iter().find(|id| !there.contains(id)) {
                let (id, before) = (snapshot.id.short(), before.short());
                return Err(not_safe(format!("the snapshot {before}, which {id} follows, is missing: {TAKES_BACK}")));
            }
        }
        for mark in set.marks.marks.values() {
            let Act::Delete { seen, .. } = &mark.act else { continue };
            if let Some(id) = seen.iter().find(|id| !there.contains(id)) {
                return Err(not_safe(format!("snapshot {} is missing since the last prune: {TAKES_BACK}", id.short())));
            }
        }
        Ok(())
    }

    fn present(&self) -> impl Iterator<Item = &Snapshot> {
        self.set.snapshots.iter().chain(&self.set.forgotten)
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

    /// The packs that snapshots name, forgotten ones too.
    pub fn needed_by_any(&self) -> HashSet<PackId> {
        self.present().flat_map(|s| s.manifest.needs.iter().map(|need| need.pack)).collect()
    }

    /// For each pack the number of the first snapshot that names it.
    pub fn first_needed(&self) -> HashMap<PackId, usize> {
        let mut first = HashMap::new();
        for (at, snapshot) in self.present().enumerate() {
            for need in &snapshot.manifest.needs {
                first.entry(need.pack).or_insert(at);
            }
        }
        first
    }

    /// What the snapshots name that are not to be removed; of a pack that is not known, its first segment.
    fn named(&self, removing: &HashSet<SnapshotId>, index: &Index) -> Needs<PackId> {
        let mut named = Needs::default();
        let stay = self.present().filter(|s| !removing.contains(&s.id));
        for need in stay.flat_map(|s| &s.manifest.needs) {
            let end = index.end_of(&need.pack);
            for [first, count] in &need.segments {
                let end = first.saturating_add(*count).min(end);
                (*first..end).for_each(|segment| named.add(need.pack, segment));
            }
            if need.segments.iter().all(|[first, _]| *first >= end) {
                named.add(need.pack, 0);
            }
        }
        named
    }

    /// What must stay when the snapshots `removing` go: what the others name, where it is now. Of what lies
    /// in several places one counts, that in none of the packs `leaving`; where there is none, all do. Where
    /// nothing sound is left of a segment, all that hold what was in its pack stay.
    ///
    /// # Errors
    /// A pack is missing and nothing says what was in it, or no other one holds it and nobody has said that
    /// this is known; the catalog or the store fails.
    pub fn alive(
        &self,
        repository: &Repository,
        removing: &HashSet<SnapshotId>,
        leaving: &HashSet<PackId>,
        index: &Index,
    ) -> Result<Alive> {
        let mut alive = Alive::default();
        let named = self.named(removing, index);
        let bad = repository.catalog().bad_packs()?;
        let sound = |id: &PackId| {
            let listed = index.packs.get(id);
            let whole = self.sizes.get(id).is_some_and(|size| listed.is_none_or(|pack| pack.sealed_bytes == *size));
            whole && !bad.contains_key(id)
        };
        let (mut lost, mut lost_segments) = (HashSet::new(), HashSet::new());
        for (pack, segment) in named.segments() {
            let own = Origin { pack, segment };
            let mut places = if index.moves.is_empty() { Vec::new() } else { index.moves.of(&own) };
            places.push(own);
            places.retain(|place| sound(&place.pack));
            match places.iter().find(|place| !leaving.contains(&place.pack)) {
                Some(place) => {
                    alive.keep(place);
                    if places.iter().any(|other| leaving.contains(&other.pack)) {
                        alive.relied.insert(place.pack);
                    }
                }
                None if places.is_empty() => {
                    lost.insert(pack);
                    lost_segments.insert(own);
                }
                None => places.iter().for_each(|place| alive.keep(place)),
            }
        }
        if let Some(id) = lost.iter().find(|id| !index.packs.contains_key(id)) {
            let reason = format!("pack {} is missing or damaged, and no index says what was in it", id.short());
            return Err(not_safe(format!("{reason}: {TAKES_BACK}")));
        }
        if !lost.is_empty() {
            if !self.despite_damage && index.lacks(repository, &lost_segments, &sound)? {
                return Err(self.lacks(removing, &lost));
            }
            alive.packs.extend(lost.iter().filter(|id| self.sizes.contains_key(*id)));
            alive.packs.extend(index.holders(repository, &lost)?);
        }
        Ok(Alive { named, ..alive })
    }

    /// What stays needs packs that are lost: older snapshots may hold the last whole copy of its files.
    fn lacks(&self, removing: &HashSet<SnapshotId>, lost: &HashSet<PackId>) -> Error {
        let needs = |s: &&Snapshot| s.manifest.needs.iter().any(|need| lost.contains(&need.pack));
        let newest = self.present().filter(|s| !removing.contains(&s.id)).filter(needs).last();
        let packs = lost.iter().min().map(PackId::short).unwrap_or_default();
        let whose = newest.map(|s| format!("snapshot {} of {} needs", s.id.short(), s.manifest.stack));
        not_safe(format!(
            "{} pack {packs}, which is missing or damaged: {TAKES_BACK}, the next `snap create` stores again what is \
             still there, --despite-damage goes on all the same",
            whose.unwrap_or_default()
        ))
    }

    /// Packs that a prune has marked or is deleting.
    pub fn leaving(&self) -> HashSet<PackId> {
        self.set.marks.doomed()
    }

    /// How many bytes are lost with these packs: not those of what has moved elsewhere.
    pub fn loss(&self, packs: &[PackId], alive: &Alive, index: &Index) -> u64 {
        if index.moves.is_empty() {
            return self.bytes(packs);
        }
        let named: HashSet<Origin> = alive.named.segments().map(|(pack, segment)| Origin { pack, segment }).collect();
        let one = |id: &PackId| {
            let Some(pack) = index.packs.get(id) else { return self.bytes(&[*id]) };
            let moved = |at: u32, origins: &[Origin]| {
                named.contains(&Origin { pack: *id, segment: at }) || origins.iter().any(|from| named.contains(from))
            };
            let dead = pack.segments.iter().zip(0u32..).filter(|(segment, at)| !moved(*at, &segment.origins));
            let dead: Vec<u32> = dead.map(|(segment, _)| segment.stored_len).collect();
            match dead.len() == pack.segments.len() {
                true => self.bytes(&[*id]),
                false => dead.into_iter().map(u64::from).sum(),
            }
        };
        packs.iter().map(one).sum()
    }

    /// Bytes in these packs.
    pub fn bytes(&self, packs: &[PackId]) -> u64 {
        packs.iter().filter_map(|id| self.sizes.get(id)).sum()
    }

    /// The packs that these marks name, that are there and that need not stay.
    pub fn unneeded(&self, marks: &[MarkId], alive: &Alive) -> Vec<PackId> {
        let (_, packs) = self.named_by(marks);
        packs.into_iter().filter(|id| self.sizes.contains_key(id) && !alive.packs.contains(id)).collect()
    }

    /// What these marks would delete.
    pub fn deletion(&self, marks: &[MarkId], alive: &Alive) -> Deletion {
        let snapshots = self.removable(&self.named_by(marks).0).len() as u64;
        let packs = self.unneeded(marks, alive);
        Deletion { snapshots, packs: packs.len() as u64, bytes: self.bytes(&packs) }
    }
}
