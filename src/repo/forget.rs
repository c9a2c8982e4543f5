//! Forgetting snapshots and taking them back.
//!
//! To forget is to publish a mark. The snapshot is no longer listed, counted or restored by name, and
//! is there until `prune` has removed it. Only an owner can do either.

use super::manifest::Manifest;
use super::mark::{Act, ForgottenSnapshot, Stamp, UndeletedSnapshot};
use super::needs::Needs;
use super::sync::{Snapshot, SnapshotSet};
use super::{Error, Repository, Result};
use crate::id::{MarkId, SnapshotId};
use crate::monitor::Quiet;
use crate::store::Key;
use std::collections::HashSet;

/// What a forgetting is made of.
#[derive(Debug, Clone, Default)]
pub struct Forgetting {
    /// Which snapshots, and why.
    pub snapshots: Vec<ForgottenSnapshot>,
    /// Those that looked wrong and that a person has confirmed.
    pub accepted: Vec<SnapshotId>,
}

impl Repository {
    /// Forgets snapshots of `set`.
    ///
    /// # Errors
    /// The key at hand is a writer's; a stack would be left without a complete snapshot; the store
    /// refuses.
    pub fn forget(&self, set: &SnapshotSet, forgetting: &Forgetting, stamp: &Stamp) -> Result<MarkId> {
        self.require_owner("forget snapshots")?;
        keeps_a_complete_one(set, &forgetting.snapshots)?;
        let Forgetting { snapshots, accepted } = forgetting.clone();
        self.put_mark(stamp, Act::Forget { snapshots, accepted })
    }

    /// Forgets a snapshot that was published in vain: a prune has deleted what it needs. A writer cannot;
    /// then `check` names it until an owner forgets it.
    pub(super) fn disown(&self, id: SnapshotId, manifest: &Manifest) {
        let reason = "a prune that ran at the same time deleted what it needs".to_owned();
        let act = Act::Forget { snapshots: vec![ForgottenSnapshot { id, reason }], accepted: Vec::new() };
        let stamp = Stamp { time: manifest.time.clone(), host: manifest.host.clone() };
        // The capture has failed and says so, whether or not this succeeds.
        let _ = self.put_mark(&stamp, act);
    }

    /// Takes forgotten snapshots of `set` back.
    ///
    /// # Errors
    /// The key at hand is a writer's; a prune is removing one, and whether it is back is not known; the
    /// store refuses.
    pub fn undelete(&self, set: &SnapshotSet, ids: &[SnapshotId], stamp: &Stamp) -> Result<MarkId> {
        self.require_owner("take snapshots back")?;
        let fence = self.fence()?;
        self.sync_indexes(&Quiet::default())?;
        let forgotten = set.marks.forgotten();
        let mut snapshots = Vec::new();
        let (mut needs, mut wanted) = (Needs::default(), Vec::new());
        for snapshot in set.forgotten.iter().filter(|snapshot| ids.contains(&snapshot.id)) {
            let id = snapshot.id;
            let marks = forgotten.get(&id).map(|(marks, _)| marks.as_slice()).unwrap_or_default();
            snapshots.extend(marks.iter().map(|mark| UndeletedSnapshot { id, mark: *mark }));
            wanted.extend(&snapshot.manifest.needs);
        }
        let there = self.pack_sizes()?;
        for pack in self.packs_of(&wanted, &|id| there.contains_key(id))? {
            needs.add(pack, 0);
        }
        let mark = self.put_mark(stamp, Act::Undelete { snapshots })?;
        // As with a capture: a prune that begins from here on sees the mark; one that has begun is seen.
        self.pass(&fence, &needs)?;
        let (swept, _) = self.marks()?.swept();
        for id in ids {
            if swept.contains(id) || self.store.size(&Key::from(*id))?.is_none() {
                return Err(Error::Overtaken { packs: 0 });
            }
        }
        Ok(mark)
    }
}

/// Fails if a stack would be left without a complete snapshot.
fn keeps_a_complete_one(set: &SnapshotSet, chosen: &[ForgottenSnapshot]) -> Result<()> {
    let chosen: HashSet<SnapshotId> = chosen.iter().map(|one| one.id).collect();
    let complete = || set.snapshots.iter().filter(|s| s.manifest.complete);
    for snapshot in complete().filter(|s| chosen.contains(&s.id)).rev() {
        let (host, stack) = snapshot.manifest.lineage();
        if !complete().any(|s| s.manifest.lineage() == (host, stack) && !chosen.contains(&s.id)) {
            let id = snapshot.id.short();
            return Err(Error::LastComplete { id, stack: stack.to_owned(), host: host.to_owned() });
        }
    }
    Ok(())
}

/// The forgotten snapshot whose id begins with `text`.
///
/// # Errors
/// None does, or several do.
pub fn select_forgotten<'s>(set: &'s SnapshotSet, text: &str) -> Result<&'s Snapshot> {
    let begins = |id: &SnapshotId| text.len() >= 4 && id.to_string().starts_with(text);
    let fits: Vec<&Snapshot> = set.forgotten.iter().filter(|s| begins(&s.id)).collect();
    let none = |hint: &str| Error::NoSnapshot { text: text.to_owned(), hint: hint.to_owned() };
    match fits.as_slice() {
        [one] => Ok(one),
        [] if set.snapshots.iter().any(|s| begins(&s.id)) => Err(none(" among the forgotten ones: it is there")),
        [] if set.removed.keys().any(begins) => Err(none(": it was forgotten and has been removed")),
        [] => Err(none(" among the forgotten ones; `snap list --forgotten` shows them")),
        several => Err(Error::Ambiguous {
            text: text.to_owned(),
            ids: several.iter().map(|s| s.id.to_string()[..12].to_owned()).collect(),
        }),
    }
}
