//! Pruning: deleting what no snapshot needs, in two phases, beside whatever else goes on.
//!
//! **Before that** it copies what is needed of packs of which little is needed, and of many small ones,
//! into new packs (`repack`), which say where each segment came from. The old packs are then packs
//! that no snapshot needs, and go like all others.
//!
//! **Phase one** publishes a mark: which forgotten snapshots and which packs are to go. From then on no
//! capture builds anything new on them. **Phase two**, in a later run and at least a day on by this
//! machine's own knowledge (`clock`), says that it deletes (a sweep mark), then looks at everything
//! again, spares what is needed after all, records what it removes, and deletes: manifests, then
//! what index objects list, then packs, then the marks (`sweep`). It can end at any step; the marks
//! are still there, and the next run goes on.
//!
//! What makes it safe beside running captures is told in `fence`; no clock and no lock has a part in
//! it. A store whose listings lag says by how much, and is given that time wherever it matters.
//!
//! Whatever is not fully known stops it: a snapshot that cannot be read or has vanished, a gap in a
//! chain, a mark that cannot be read, an index object that cannot be read, no snapshot at all
//! (`state`), a pack that is needed and is lost with what it held. Packs that a live snapshot lost, and
//! whose content lies elsewhere, keep what has it.

mod clock;
mod index;
mod repack;
mod state;
mod sweep;

pub use clock::{Clock, Moment, SystemClock};

use super::mark::{Act, Stamp};
use super::sync::Chain;
use super::{Error, Repository, Result};
use crate::id::{MarkId, SnapshotId};
use crate::monitor::Monitor;
use crate::store::Key;
use index::Index;
use serde::Serialize;
use state::{Alive, State};
use std::collections::HashSet;

/// How to prune.
pub struct PruneOptions<'a> {
    /// Only say what would be done.
    pub dry_run: bool,
    /// A dry run takes these snapshots for forgotten ones, too.
    pub supposed: &'a [SnapshotId],
    /// Seconds between the two phases.
    pub delay_seconds: u64,
    /// Packs that no snapshot ever needed may be of a capture that still runs: seconds until they count
    /// as left behind.
    pub orphan_seconds: u64,
    /// More than this share of the packs' bytes goes only with a confirmation.
    pub share_max: f64,
    /// Packs of which less than this share is needed are copied, so that the rest goes. At 0 nothing is
    /// copied, and only whole packs go.
    pub repack_below: f64,
    /// Go on although something that snapshots need is lost; whatever holds its content stays.
    pub despite_damage: bool,
    /// Asks for it.
    pub confirm: &'a dyn Fn(&Deletion) -> bool,
    /// Who does it, and when.
    pub stamp: Stamp,
}

/// How much goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Deletion {
    /// Snapshots.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes in these packs.
    pub bytes: u64,
}

/// What was copied so that the rest can go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Repacked {
    /// Old packs, marked to be deleted.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of their bytes that are needed, and were copied.
    pub bytes_copied: u64,
}

/// What a prune did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PruneReport {
    /// What was deleted, or would be.
    pub deleted: Deletion,
    /// What was marked to be deleted by a later run, or would be.
    pub marked: Deletion,
    /// What was marked before and is not old enough.
    pub waiting: Deletion,
    /// Packs that no snapshot needs and that are too young to be marked.
    pub young: Deletion,
    /// What was copied into new packs, or would be. A dry run does not count it as marked.
    pub repacked: Repacked,
    /// Index objects that were merged into others.
    pub indexes_merged: u64,
    /// All packs before.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// True if it was too much to go without a confirmation: nothing was marked or deleted.
    pub refused: bool,
    /// True if nothing was done.
    pub dry_run: bool,
}

/// Prunes.
///
/// # Errors
/// The key is a writer's; not everything is known that has to be; the store or the catalog fails; the
/// person stopped it. What was marked stays marked, and the next prune goes on.
pub fn prune(
    repository: &Repository,
    options: &PruneOptions<'_>,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    repository.require_owner("prune")?;
    // What was there a moment ago and is gone now has been merged, copied or removed by somebody else.
    prune_alone(repository, options, clock, monitor).map_err(|error| match error.is_not_found() {
        true => Error::NotSafe { reason: format!("{}: another prune runs; this one can be run again", Chain(&error)) },
        false => error,
    })
}

fn prune_alone(
    repository: &Repository,
    options: &PruneOptions<'_>,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let report = PruneReport { dry_run: options.dry_run, ..PruneReport::default() };
    let mut run = Run { repository, options, clock, monitor, report, answer: None };
    let mut state = run.state()?;
    state.prove(repository)?;
    run.report.packs = state.sizes.len() as u64;
    run.report.bytes = state.sizes.values().sum();
    let now = clock.moment();
    let mut due = Vec::new();
    for id in state.deletions() {
        if repository.known_for(&Key::from(id).path(), &now)? >= options.delay_seconds {
            due.push(id);
        }
    }
    if !due.is_empty() {
        run.sweep(state, &due)?;
        state = run.state()?;
    } else if !options.dry_run && !state.set.marks.marks.is_empty() {
        // What an earlier run had no time for.
        run.clear_marks(&state.set, &[], None)?;
    }
    let mut index = Index::read(repository)?;
    if run.repack(&state, &index)? {
        // Of each of these there is one at a time: in a large repository they are what takes memory.
        drop((state, index));
        state = run.state()?;
        index = Index::read(repository)?;
    }
    if !run.report.refused {
        run.mark(&state, &due, &now, &index)?;
    }
    if index.is_scattered() {
        run.report.indexes_merged += index.rewrite(repository, &HashSet::new(), options.dry_run)?;
    }
    Ok(run.report)
}

struct Run<'a> {
    repository: &'a Repository,
    options: &'a PruneOptions<'a>,
    clock: &'a dyn Clock,
    monitor: &'a dyn Monitor,
    report: PruneReport,
    /// What the person has said, if asked.
    answer: Option<bool>,
}

impl Run<'_> {
    /// The repository as it is now; in a dry run as it would be.
    fn state(&self) -> Result<State> {
        let mut state = State::read(self.repository)?;
        state.despite_damage = self.options.despite_damage;
        if self.options.dry_run {
            state.suppose_forgotten(self.options.supposed);
        }
        Ok(state)
    }

    /// True unless so much would go that a person has to confirm it and has not.
    fn may(&mut self, deletion: &Deletion, total: u64) -> bool {
        let confirm = self.options.confirm;
        let little = deletion.bytes as f64 <= total as f64 * self.options.share_max;
        little || *self.answer.get_or_insert_with(|| confirm(deletion))
    }

    /// What must stay when everything that is marked and can go has gone.
    fn alive(&self, state: &State, index: &Index) -> Result<(HashSet<SnapshotId>, Alive)> {
        let forgotten: HashSet<SnapshotId> = state.set.forgotten.iter().map(|s| s.id).collect();
        let removable = state.removable(&forgotten);
        let alive = state.alive(self.repository, &removable, &state.leaving(), index)?;
        Ok((removable, alive))
    }

    /// Phase one. `due` are the marks that phase two has dealt with, in a dry run without deleting.
    fn mark(&mut self, state: &State, due: &[MarkId], now: &Moment, index: &Index) -> Result<()> {
        let waiting: Vec<MarkId> = state.deletions().into_iter().filter(|id| !due.contains(id)).collect();
        let (marked_snapshots, marked_packs) = state.named_by(&state.deletions());
        let (removable, alive) = self.alive(state, index)?;
        let (mut chosen, mut young) = (Vec::new(), Vec::new());
        let named = state.needed_by_any();
        for pack in state.sizes.keys().filter(|id| !alive.packs.contains(*id) && !marked_packs.contains(*id)) {
            let age = self.repository.known_for(&format!("unneeded {pack}"), now)?;
            // What no snapshot ever named may be of a capture that still runs.
            let left = named.contains(pack) || index.has_moved(pack) || age >= self.options.orphan_seconds;
            if left { chosen.push(*pack) } else { young.push(*pack) }
        }
        let snapshots: Vec<SnapshotId> = removable.difference(&marked_snapshots).copied().collect();
        self.report.waiting = state.deletion(&waiting, &alive);
        self.report.young = Deletion { snapshots: 0, packs: young.len() as u64, bytes: state.bytes(&young) };
        let deletion =
            Deletion { snapshots: snapshots.len() as u64, packs: chosen.len() as u64, bytes: state.bytes(&chosen) };
        if deletion == Deletion::default() || self.options.dry_run {
            self.report.marked = deletion;
            return Ok(());
        }
        let loss = state.loss(&chosen, &alive, index) + state.loss(&state.unneeded(&waiting, &alive), &alive, index);
        let total: u64 = state.sizes.values().sum();
        let confirmed = loss as f64 > total as f64 * self.options.share_max;
        if !self.may(&Deletion { bytes: loss, ..deletion }, total) {
            self.report.refused = true;
            return Ok(());
        }
        let seen = state.set.snapshots.iter().map(|s| s.id).collect();
        chosen.sort_unstable();
        let act = Act::Delete { snapshots, packs: chosen, seen, confirmed };
        let mark = self.repository.put_mark(&self.options.stamp, act)?;
        self.repository.known_for(&Key::from(mark).path(), now)?;
        self.report.marked = deletion;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
