//! Forgetting snapshots and taking them back.
//!
//! To forget is to publish a mark. The snapshot is no longer listed, counted or restored by name, and
//! is there until `prune` has removed it. Only an owner can do either.

use super::mark::{Act, ForgottenSnapshot, Stamp, UndeletedSnapshot};
use super::sync::{Snapshot, SnapshotSet};
use super::{Error, Repository, Result};
use crate::id::{MarkId, SnapshotId};
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

    /// Takes forgotten snapshots of `set` back.
    ///
    /// # Errors
    /// The key at hand is a writer's; one is gone already; the store refuses.
    pub fn undelete(&self, set: &SnapshotSet, ids: &[SnapshotId], stamp: &Stamp) -> Result<MarkId> {
        self.require_owner("take snapshots back")?;
        let forgotten = set.marks.forgotten();
        let mut snapshots = Vec::new();
        let mut manifests = Vec::new();
        for id in ids {
            manifests.push((Key::from(*id), self.store.get(&Key::from(*id))?));
            let marks = forgotten.get(id).map(|(marks, _)| marks.as_slice()).unwrap_or_default();
            snapshots.extend(marks.iter().map(|mark| UndeletedSnapshot { id: *id, mark: *mark }));
        }
        let mark = self.put_mark(stamp, Act::Undelete { snapshots })?;
        // A prune that began before the mark was there may have removed them a moment ago; it has not
        // touched the packs that they need, and looks for marks again before it does.
        for (key, bytes) in manifests {
            if self.store.size(&key)?.is_none() {
                self.store.put(&key, &bytes)?;
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
