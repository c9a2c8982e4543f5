//! Phase two: deleting what was marked. Each step can be the last one that happens.

use super::index::Index;
use super::state::{Alive, State};
use super::{Deletion, Run};
use crate::id::{MarkId, PackId, RemovalId, SnapshotId, object_name};
use crate::monitor::Unit;
use crate::repo::mark::{Act, Tombstone};
use crate::repo::{Error, Repository, Result, SnapshotSet};
use crate::store::Key;
use std::collections::{BTreeMap, HashSet};

/// A mark of a run that has not ended for so long is one that a crash left.
const LEFT_BEHIND_SECONDS_MIN: u64 = 3600;

/// What goes.
struct Plan {
    snapshots: HashSet<SnapshotId>,
    packs: HashSet<PackId>,
    deletion: Deletion,
    /// Bytes that are lost by it.
    loss: u64,
}

impl Run<'_> {
    /// Deletes what the marks `due` name and nobody needs.
    pub(super) fn sweep(&mut self, before: State, due: &[MarkId]) -> Result<()> {
        let own = match self.options.dry_run {
            true => None,
            false => {
                let (snapshots, packs) = before.named_by(due);
                let (mut snapshots, mut packs) = (Vec::from_iter(snapshots), Vec::from_iter(packs));
                snapshots.sort_unstable();
                packs.sort_unstable();
                let mark = self.repository.put_mark(&self.options.stamp, Act::Sweep { snapshots, packs })?;
                // Whoever does not see that mark has published before, and is seen by what follows.
                self.settle();
                Some(mark)
            }
        };
        drop(before);
        let state = self.state()?;
        let index = Index::read(self.repository)?;
        let plan = self.plan(&state, due, &index)?;
        let confirmed = due.iter().all(|id| {
            let act = state.set.marks.marks.get(id).map(|mark| &mark.act);
            matches!(act, Some(Act::Delete { confirmed: true, .. }) | None)
        });
        let total = state.sizes.values().sum();
        if !(self.options.dry_run || confirmed || self.may(&Deletion { bytes: plan.loss, ..plan.deletion }, total)) {
            self.report.refused = true;
            return own.map_or(Ok(()), |mark| Ok(self.repository.store.remove(&Key::from(mark))?));
        }
        self.report.deleted = plan.deletion;
        let Some(own) = own else { return Ok(()) };
        let kept = match plan.deletion.snapshots + plan.deletion.packs {
            0 => None,
            _ => Some(self.delete(own, &state, plan, index)?),
        };
        drop(state);
        self.settle();
        self.clear_marks(&self.repository.snapshots()?, due, Some(own))?;
        kept.map_or(Ok(()), |kept| clear_records(self.repository, kept))
    }

    /// Removes the marks that have been carried out, in an order in which each step leaves the truth.
    pub(super) fn clear_marks(&self, set: &SnapshotSet, due: &[MarkId], own: Option<MarkId>) -> Result<()> {
        let marks = &set.marks;
        let remove = |id: &MarkId| self.repository.store.remove(&Key::from(*id));
        let known_for = |id: &MarkId| self.repository.known_for(&Key::from(*id).path(), &self.clock.moment());
        let left_behind = self.options.orphan_seconds.max(LEFT_BEHIND_SECONDS_MIN);
        for (id, _) in marks.marks.iter().filter(|(_, mark)| matches!(mark.act, Act::Sweep { .. })) {
            // Another's may be of a run that goes on.
            if Some(*id) == own || known_for(id)? >= left_behind {
                remove(id)?;
            }
        }
        for id in due {
            remove(id)?;
        }
        let forgotten = marks.forgotten();
        let there: HashSet<SnapshotId> = set.forgotten.iter().map(|s| s.id).collect();
        let alive: HashSet<SnapshotId> = set.snapshots.iter().map(|s| s.id).collect();
        let mut cleared = HashSet::new();
        for (id, mark) in &marks.marks {
            let Act::Forget { snapshots, .. } = &mark.act else { continue };
            // What it says counts as long as a snapshot is there because nobody has removed it yet.
            let done = |one: &SnapshotId| match forgotten.get(one) {
                Some((marks, _)) if there.contains(one) => !marks.contains(id),
                _ => alive.contains(one) || set.removed.contains_key(one),
            };
            if snapshots.iter().all(|one| done(&one.id)) {
                remove(id)?;
                cleared.insert(*id);
            }
        }
        for (id, mark) in &marks.marks {
            let Act::Undelete { snapshots } = &mark.act else { continue };
            let here = snapshots.iter().all(|one| cleared.contains(&one.mark));
            // What it undoes may be there and not be seen yet.
            let gone = snapshots.iter().all(|one| cleared.contains(&one.mark) || !marks.marks.contains_key(&one.mark));
            if here || (gone && known_for(id)? >= self.options.delay_seconds.max(self.lag())) {
                remove(id)?;
            }
        }
        Ok(())
    }

    /// Gives a store whose listings lag the time in which all see the same.
    fn settle(&self) {
        match self.lag() {
            0 => {}
            lag => self.clock.pause(2 * lag),
        }
    }

    fn lag(&self) -> u64 {
        self.repository.store.listing_lag_seconds()
    }

    fn plan(&self, state: &State, due: &[MarkId], index: &Index) -> Result<Plan> {
        let (snapshots, named) = state.named_by(due);
        let snapshots = state.removable(&snapshots);
        // What another prune deletes now is no more to be relied on than what goes here: each of two says first
        // what it deletes and then looks, so at least one of them sees the other.
        let leaving: HashSet<PackId> = named.iter().copied().chain(state.set.marks.swept().1).collect();
        let alive = loop {
            let alive = state.alive(self.repository, &snapshots, &leaving, index)?;
            if self.options.dry_run || self.copies_are_sound(&alive)? {
                break alive;
            }
        };
        let mut packs: Vec<PackId> = Vec::from_iter(named);
        packs.retain(|id| state.sizes.contains_key(id) && !alive.packs.contains(id));
        let bytes = state.bytes(&packs);
        let deletion = Deletion { snapshots: snapshots.len() as u64, packs: packs.len() as u64, bytes };
        let loss = state.loss(&packs, &alive, index);
        Ok(Plan { snapshots, packs: packs.into_iter().collect(), deletion, loss })
    }

    /// Reads whole what has taken the place of something that goes, unless it was read before. False if
    /// something of it is not as it was stored, which is noted.
    fn copies_are_sound(&self, alive: &Alive) -> Result<bool> {
        let catalog = self.repository.catalog();
        let read = catalog.readings()?;
        let at = self.clock.moment().wall_seconds;
        for id in alive.relied.iter().filter(|id| !read.contains_key(id)) {
            let sound = match self.repository.store.get(&Key::from(*id)) {
                Ok(sealed) => object_name(&sealed) == id.0,
                Err(error) if error.is_outage() => return Err(error.into()),
                Err(_) => false,
            };
            if !sound {
                catalog.note_readings(&[], &[*id], at)?;
                return Ok(false);
            }
            catalog.note_readings(&[*id], &[], at)?;
        }
        Ok(true)
    }

    /// Removes manifests, then what the index lists, then packs. What is removed is recorded first.
    fn delete(&mut self, own: MarkId, state: &State, plan: Plan, index: Index) -> Result<RemovalId> {
        let steps = plan.snapshots.len() + plan.packs.len();
        self.monitor.phase("deleting", Unit::Items, Some(steps as u64));
        let kept = record(self, state, &plan.snapshots)?;
        for id in &plan.snapshots {
            self.step(own, &Key::from(*id))?;
        }
        self.report.indexes_merged += index.rewrite(self.repository, &plan.packs, false)?;
        for pack in &plan.packs {
            self.step(own, &Key::from(*pack))?;
        }
        Ok(kept)
    }

    /// Deletes one object, unless this run has slept for so long that its mark was taken for one that a
    /// crash had left: then nobody is warned of it any more.
    fn step(&self, own: MarkId, key: &Key) -> Result<()> {
        if self.monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        if self.repository.store.size(&Key::from(own))?.is_none() {
            let reason = "the rest of it: this run has slept for too long; the next one goes on".to_owned();
            return Err(Error::NotSafe { reason });
        }
        self.repository.store.remove(key)?;
        self.monitor.advance(1);
        Ok(())
    }
}

/// One record in the place of all: what is removed now, and what was before.
fn record(run: &Run<'_>, state: &State, snapshots: &HashSet<SnapshotId>) -> Result<RemovalId> {
    let mut tombstones = state.set.removed.clone();
    for snapshot in state.set.forgotten.iter().filter(|s| snapshots.contains(&s.id)) {
        let manifest = &snapshot.manifest;
        let tombstone = Tombstone {
            id: snapshot.id,
            predecessors: manifest.predecessors.clone(),
            time: manifest.time.clone(),
            host: manifest.host.clone(),
            stack: manifest.stack.clone(),
        };
        tombstones.insert(snapshot.id, tombstone);
    }
    let there: HashSet<SnapshotId> = state.set.snapshots.iter().map(|s| s.id).collect();
    let accepted = state.set.marks.accepted().into_iter().filter(|id| there.contains(id)).collect();
    run.repository.put_removal(&run.options.stamp, tombstones.into_values().collect(), accepted)
}

/// Removes the records that `kept` repeats. That one is new in any case, so that whoever knew the others
/// sees that something was deleted.
fn clear_records(repository: &Repository, kept: RemovalId) -> Result<()> {
    let records = repository.marks()?.removals.into_iter();
    let said = records.map(|(id, record)| (id, record.snapshots.iter().map(|one| one.id).collect())).collect();
    for id in repeated(&said, kept) {
        repository.store.remove(&Key::from(id))?;
    }
    Ok(())
}

/// The records that say nothing that `kept` does not say. Of two that say the same one stays, and all agree
/// which: two prunes at once, each of which removed the other's, would leave none.
fn repeated(said: &BTreeMap<RemovalId, HashSet<SnapshotId>>, kept: RemovalId) -> Vec<RemovalId> {
    let Some(all) = said.get(&kept) else { return Vec::new() };
    let goes = |id: &RemovalId, own: &HashSet<SnapshotId>| own.is_subset(all) && (own.len() < all.len() || *id > kept);
    said.iter().filter(|(id, own)| goes(id, own)).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_prunes_at_once_leave_one_record_of_what_both_say() {
        let id = |number: u8| RemovalId([number; 32]);
        let record = |name: u8, numbers: &[u8]| (id(name), numbers.iter().map(|n| SnapshotId([*n; 32])).collect());
        let said = BTreeMap::from([record(1, &[7]), record(2, &[7, 8]), record(3, &[7, 8]), record(4, &[9])]);
        assert_eq!(repeated(&said, id(2)), [id(1), id(3)]);
        assert_eq!(repeated(&said, id(3)), [id(1)]);
        assert_eq!(repeated(&said, id(4)), []);
        assert_eq!(repeated(&said, id(5)), []);
    }
}
