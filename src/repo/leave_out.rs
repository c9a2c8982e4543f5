//! What a replica has removed by a retention of its own, and is not given again.
//!
//! Only owners remove snapshots, and say so in a record that only they can make; only with an owner's key can it
//! be read and believed. Packs are left out as far as no other snapshot of the source needs them, and only if
//! all of the source's snapshots can be read: what is not known may be needed.

use super::manifest::Need;
use super::mark::Tombstone;
use super::{Repository, Result};
use crate::id::{PackId, SnapshotId};
use crate::monitor::Quiet;
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

impl Repository {
    /// Of this source's snapshots those that the replica has `removed`, and what only they need.
    ///
    /// # Errors
    /// A listing fails, or the catalog does.
    pub fn leave_out(&self, removed: &BTreeMap<SnapshotId, Tombstone>) -> Result<LeaveOut> {
        let source = self.snapshots()?;
        let all = || source.snapshots.iter().chain(&source.forgotten);
        let snapshots = all().map(|snapshot| snapshot.id).filter(|id| removed.contains_key(id)).collect();
        let needs = |gone: bool| -> Vec<&Need> {
            let some = all().filter(|snapshot| removed.contains_key(&snapshot.id) == gone);
            some.flat_map(|snapshot| &snapshot.manifest.needs).collect()
        };
        if !source.unreadable.is_empty() {
            return Ok(LeaveOut { snapshots, packs: HashSet::new() });
        }
        // What others need may have moved into a pack that only the removed ones name.
        self.sync_indexes(&Quiet::default())?;
        let sizes = self.pack_sizes()?;
        let mut kept = self.packs_of(&needs(false), &|id| sizes.contains_key(id))?;
        kept.extend(needs(false).iter().map(|need| need.pack));
        let packs = needs(true).iter().map(|need| need.pack).filter(|pack| !kept.contains(pack)).collect();
        Ok(LeaveOut { snapshots, packs })
    }
}

impl LeaveOut {
    /// True if the object is one of them.
    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Object(Kind::Snapshot, name) => self.snapshots.contains(&SnapshotId(*name)),
            Key::Object(Kind::Pack, name) => self.packs.contains(&PackId(*name)),
            _ => false,
        }
    }
}
