//! What a replica has removed by a retention of its own, and is not given again.
//!
//! Only owners remove snapshots, and say so in a record that only they can make; only with an owner's key can it
//! be read and believed. Packs are left out as far as no other snapshot of the source needs them, and only if
//! all of the source's snapshots can be read: what is not known may be needed.

use super::SnapshotSet;
use super::mark::Tombstone;
use crate::id::{PackId, SnapshotId};
use crate::store::{Key, Kind};
use std::collections::{BTreeMap, HashSet};

/// Objects that are not copied although they are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveOut {
    /// Snapshots that the replica has removed.
    pub snapshots: HashSet<SnapshotId>,
    /// Packs that only they need.
    pub packs: HashSet<PackId>,
}

impl LeaveOut {
    /// Of the source's snapshots those that the replica has `removed`, and what only they need.
    pub fn of(source: &SnapshotSet, removed: &BTreeMap<SnapshotId, Tombstone>) -> Self {
        let all = || source.snapshots.iter().chain(&source.forgotten);
        let needs = |gone: bool| {
            let some = all().filter(move |snapshot| removed.contains_key(&snapshot.id) == gone);
            some.flat_map(|snapshot| snapshot.manifest.needs.iter().map(|need| need.pack)).collect::<HashSet<PackId>>()
        };
        let snapshots = all().map(|snapshot| snapshot.id).filter(|id| removed.contains_key(id)).collect();
        let packs = match source.unreadable.is_empty() {
            true => needs(true).difference(&needs(false)).copied().collect(),
            false => HashSet::new(),
        };
        Self { snapshots, packs }
    }

    /// True if the object is one of them.
    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Object(Kind::Snapshot, name) => self.snapshots.contains(&SnapshotId(*name)),
            Key::Object(Kind::Pack, name) => self.packs.contains(&PackId(*name)),
            _ => false,
        }
    }
}
