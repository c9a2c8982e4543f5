//! What keeps a capture and a deletion that run at the same time from hurting each other.
//!
//! Neither waits for the other and there is no lock. Each first says what it does and then looks:
//!
//! ```text
//! create:  … → put the manifest → look for sweeps        prune:  put the sweep mark → look for manifests → delete
//! ```
//!
//! So at least one of the two sees the other. A prune that sees the manifest spares what it needs. A
//! capture that sees a sweep of what it needs has failed: it says so and is made again, and then does
//! not count on what is to go. Looking before the manifest is put as well makes it rare that one is
//! published in vain.
//!
//! A sweep that has come and gone since the capture began has left a record of a removal; then the
//! packs themselves are looked for.

use super::mark::{Act, Marks};
use super::needs::Needs;
use super::{Error, Repository, Result};
use crate::id::{PackId, SnapshotId};
use crate::store::{Key, Kind};
use std::collections::{BTreeSet, HashSet};

/// The deletions that were known when a capture began.
#[derive(Debug, Clone, Default)]
pub(super) struct Fence {
    removals: BTreeSet<Key>,
}

impl Marks {
    /// Packs that are to be deleted: nothing new may be built on them.
    pub fn doomed(&self) -> HashSet<PackId> {
        let packs = self.marks.values().filter_map(|mark| match &mark.act {
            Act::Delete { packs, .. } | Act::Sweep { packs, .. } => Some(packs),
            _ => None,
        });
        packs.flatten().copied().collect()
    }

    /// Snapshots and packs that a prune is deleting now.
    pub(super) fn swept(&self) -> (HashSet<SnapshotId>, HashSet<PackId>) {
        let (mut all_snapshots, mut all_packs) = (HashSet::new(), HashSet::new());
        for mark in self.marks.values() {
            if let Act::Sweep { snapshots, packs } = &mark.act {
                all_snapshots.extend(snapshots);
                all_packs.extend(packs);
            }
        }
        (all_snapshots, all_packs)
    }
}

impl Repository {
    /// What is known of deletions now.
    ///
    /// # Errors
    /// The listing fails.
    pub(super) fn fence(&self) -> Result<Fence> {
        let removals = self.store.list(Kind::Removal)?.objects.into_iter().map(|object| object.key).collect();
        Ok(Fence { removals })
    }

    /// Fails if a deletion that is going on, or has ended since `fence`, concerns one of `needs`.
    ///
    /// # Errors
    /// [`Error::Overtaken`], or a listing fails.
    pub(super) fn pass(&self, fence: &Fence, needs: &Needs<PackId>) -> Result<()> {
        let (_, swept) = self.marks()?.swept();
        let mut lost: HashSet<PackId> = needs.packs().filter(|pack| swept.contains(pack)).collect();
        if self.fence()?.removals != fence.removals {
            let there = self.pack_sizes()?;
            lost.extend(needs.packs().filter(|pack| !there.contains_key(pack)));
        }
        match lost.len() {
            0 => Ok(()),
            packs => Err(Error::Overtaken { packs }),
        }
    }
}
