//! From a prepared restore to the new state, or back to the old one.
//!
//! Going back is itself made of steps that can be repeated: stop, undo the swaps in the other order,
//! start what ran. If one of them fails the journal stays, and the same is tried again by `--abort`
//! once a person has removed the cause.

use super::journal::{Decision, Event, Journal, Line, Staged};
use super::swap::{Leftover, Side};
use super::{Error, Result, Swap, World};
use crate::repo::evidence::{Evidence, Verdict};
use crate::repo::sync::Chain;
use crate::stack::health::Proof;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// How a restore ended.
#[derive(Debug)]
pub enum Outcome {
    /// The new state is in place and runs.
    Restored {
        /// What the health gate found.
        proof: Proof,
        /// What of the old state is still there, because no safety snapshot holds all of it.
        kept: Vec<String>,
        /// What could not be removed; it is in nobody's way.
        left: Vec<String>,
        /// How long services were down.
        down_seconds: f64,
        /// The journal.
        lines: Vec<Line>,
    },
    /// The old state is back and runs.
    PutBack {
        /// Why.
        reason: String,
        /// What the health gate found of the new state, if it came to that.
        proof: Option<Proof>,
        /// What could not be removed; it is in nobody's way.
        left: Vec<String>,
        /// How long services were down.
        down_seconds: f64,
        /// The journal.
        lines: Vec<Line>,
    },
    /// A person must look: the journal stays.
    NeedsPerson {
        /// Why the restore did not succeed.
        reason: String,
        /// What went wrong on the way back.
        trouble: String,
        /// The journal so far.
        lines: Vec<Line>,
    },
    /// It had not come far enough to go on: the old state is as it was, and the restore has to begin
    /// anew.
    BeginAnew {
        /// What could not be removed; it is in nobody's way.
        left: Vec<String>,
    },
}

/// A restore whose journal is open.
pub struct Transaction<'a> {
    journal: Journal,
    world: &'a dyn World,
    /// Called when all services stand still: what changed since the swaps were prepared.
    refresh: Option<&'a Refresh<'a>>,
    stopped_at: Option<Instant>,
    started_at: Option<Instant>,
    proof: Option<Proof>,
}

/// See [`Transaction::refreshed_by`].
pub type Refresh<'a> = dyn Fn(&[Swap]) -> Result<Option<Vec<Swap>>> + 'a;

impl<'a> Transaction<'a> {
    /// One that goes on where `journal` ends.
    pub fn new(journal: Journal, world: &'a dyn World) -> Self {
        Self { journal, world, refresh: None, stopped_at: None, started_at: None, proof: None }
    }

    /// Lets `refresh` look again once all services stand still; it gives the swaps anew if something
    /// changed since they were prepared.
    #[must_use]
    pub fn refreshed_by(mut self, refresh: &'a Refresh<'a>) -> Self {
        self.refresh = Some(refresh);
        self
    }

    /// Stops, swaps, starts, proves; keeps the new state, or brings the old one back. For a journal
    /// that has `Prepared` and no decision yet.
    pub fn run(mut self) -> Outcome {
        match self.forward() {
            Ok(Some(reason)) => self.back(reason),
            Ok(None) => self.settle(),
            Err(error) => self.back(Chain(&error).to_string()),
        }
    }

    /// Goes on with an interrupted restore: forward if it had begun to swap, else back to its start.
    pub fn resume(self) -> Outcome {
        match self.journal.decision() {
            Some(Decision::Forward) => self.settle(),
            Some(Decision::Back) => self.abort("it was interrupted while it went back"),
            None if self.journal.has(|event| matches!(event, Event::Swapping)) => self.run(),
            None => match self.abort("it was interrupted before anything was changed") {
                Outcome::PutBack { left, .. } => Outcome::BeginAnew { left },
                other => other,
            },
        }
    }

    /// Brings the old state back, unless the new one was committed already.
    pub fn abort(self, reason: &str) -> Outcome {
        match self.journal.decision() {
            Some(Decision::Forward) => self.settle(),
            _ => self.back(reason.to_owned()),
        }
    }

    /// Does what is left to do once the new state was committed.
    fn settle(self) -> Outcome {
        let proof = self.known_proof();
        let down_seconds = self.down_seconds(Side::New);
        let is_kept_elsewhere = self.journal.safety().is_some_and(|(_, complete)| complete);
        let (left, kept) = self.clean(Side::New, !is_kept_elsewhere);
        let proof = proof.unwrap_or(Proof { verdict: Verdict::NotVerified, evidence: Vec::new(), stopped: false });
        match self.journal.finish() {
            Ok(lines) => Outcome::Restored { proof, kept, left, down_seconds, lines },
            Err(error) => Outcome::NeedsPerson {
                reason: "the new state is in place and runs, but the restore could not be ended".to_owned(),
                trouble: Chain(&error).to_string(),
                lines: Vec::new(),
            },
        }
    }

    /// `Some` is why it must go back.
    fn forward(&mut self) -> Result<Option<String>> {
        let swapping = self.journal.has(|event| matches!(event, Event::Swapping));
        self.journal.append(Event::Stopping)?;
        self.stopped_at = Some(Instant::now());
        self.world.stop()?;
        self.journal.append(Event::Stopped)?;
        if let (false, Some(refresh)) = (swapping, self.refresh)
            && let Some(swaps) = refresh(self.journal.swaps())?
        {
            self.journal.append(Event::Prepared { swaps })?;
        }
        self.journal.append(Event::Swapping)?;
        self.bring(Side::New)?;
        self.journal.append(Event::Swapped)?;
        self.journal.append(Event::Starting)?;
        self.world.start(Side::New)?;
        self.started_at = Some(Instant::now());
        self.journal.append(Event::Started)?;
        let proof = self.world.prove(Side::New);
        let reason = refusal(&proof);
        self.proof = Some(proof.clone());
        self.journal.append(Event::Proved { verdict: proof.verdict, evidence: proof.evidence })?;
        if reason.is_none() {
            self.journal.append(Event::Committed)?;
        }
        Ok(reason)
    }

    fn back(mut self, reason: String) -> Outcome {
        if let Err(error) = self.undo(&reason) {
            let lines = self.journal.lines().to_vec();
            return Outcome::NeedsPerson { reason, trouble: Chain(&error).to_string(), lines };
        }
        let down_seconds = self.down_seconds(Side::Old);
        let proof = self.known_proof();
        let (left, _) = self.clean(Side::Old, false);
        match self.journal.finish() {
            Ok(lines) => Outcome::PutBack { reason, proof, left, down_seconds, lines },
            Err(error) => {
                let trouble = Chain(&error).to_string();
                Outcome::NeedsPerson { reason, trouble, lines: Vec::new() }
            }
        }
    }

    fn undo(&mut self, reason: &str) -> Result<()> {
        let has = |is: fn(&Event) -> bool| self.journal.has(is);
        let touched = has(|event| matches!(event, Event::Stopping));
        let swapped = has(|event| matches!(event, Event::Swapping));
        let undone = has(|event| matches!(event, Event::Undone));
        self.journal.append(Event::Undoing { reason: reason.to_owned() })?;
        if !touched {
            return Ok(());
        }
        self.stopped_at.get_or_insert_with(Instant::now);
        // Once undone, what the swaps speak of may have been removed already.
        if !undone {
            // A stop that a killed restore had asked for may still be going on: what is started before it ends would
            // be stopped by it.
            self.world.stop()?;
            if swapped {
                self.bring(Side::Old)?;
            }
            self.journal.append(Event::Undone)?;
        }
        self.world.start(Side::Old)?;
        self.started_at = Some(Instant::now());
        let proof = self.world.prove(Side::Old);
        match proof.evidence.iter().find(|found| !found.passed) {
            None => Ok(()),
            Some(found) => Err(Error::Engine {
                subject: found.service.clone(),
                message: format!("it does not run as before ({}: {})", found.check, found.answer),
            }),
        }
    }

    /// Swaps all, or back; then the attributes, because every rename changes its folder's times.
    fn bring(&self, side: Side) -> Result<()> {
        let (last, mut first): (Vec<&Swap>, Vec<&Swap>) =
            self.journal.swaps().iter().partition(|swap| swap.comes_last());
        if side == Side::Old {
            first.reverse();
        }
        first.iter().chain(&last).try_for_each(|swap| swap.bring(side, self.world))?;
        let folders: BTreeSet<&Path> = first.iter().chain(&last).flat_map(|swap| swap.paths()).collect();
        folders.into_iter().try_for_each(|path| self.world.sync_folder_of(path))
    }

    /// Removes what is no longer needed; gives what could not be removed, and what stays on purpose.
    fn clean(&self, side: Side, keep_old: bool) -> (Vec<String>, Vec<String>) {
        let (mut left, mut kept, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut note = |done: Result<()>| left.extend(done.err().map(|error| Chain(&error).to_string()));
        for leftover in self.journal.swaps().iter().filter_map(|swap| swap.leftover(side)) {
            match leftover {
                Leftover::Path(path) if keep_old => {
                    kept.push(path.display().to_string());
                    places.push(path);
                }
                Leftover::Tag(tag) if keep_old => kept.push(format!("image {tag}")),
                Leftover::Path(path) => note(self.world.remove(path)),
                Leftover::Tag(tag) => note(self.world.untag(tag)),
            }
        }
        // What lies in a volume goes before the volume does, and that is no longer mounted then.
        let (mounts, staged): (Vec<Staged>, Vec<Staged>) =
            self.journal.staged().into_iter().partition(|staged| matches!(staged, Staged::Held(_) | Staged::Volume(_)));
        for staged in staged {
            let holds_kept = matches!(&staged, Staged::Path(path) if places.iter().any(|kept| kept.starts_with(path)));
            if !holds_kept {
                note(self.world.discard(&staged));
            }
        }
        for swap in self.journal.swaps().iter().filter(|swap| swap.comes_last()) {
            note(swap.bring(side, self.world));
        }
        let (held, volumes): (Vec<Staged>, Vec<Staged>) =
            mounts.into_iter().partition(|staged| matches!(staged, Staged::Held(_)));
        // A volume that was made for the new state is the new state.
        for staged in held.into_iter().chain(volumes.into_iter().filter(|_| side == Side::Old)) {
            note(self.world.discard(&staged));
        }
        (left, kept)
    }

    /// From the moment when the first service was stopped to the one when the last proved itself.
    fn down_seconds(&self, side: Side) -> f64 {
        let (Some(stopped), Some(started)) = (self.stopped_at, self.started_at) else { return 0.0 };
        let evidence = self.proof.iter().flat_map(|proof| &proof.evidence).filter(|found| found.proves);
        let proving = if side == Side::New { evidence.map(|found| found.seconds).fold(0.0, f64::max) } else { 0.0 };
        ((started.duration_since(stopped).as_secs_f64() + proving) * 1000.0).round() / 1000.0
    }

    fn known_proof(&self) -> Option<Proof> {
        let in_journal = || {
            self.journal.lines().iter().rev().find_map(|line| match &line.event {
                Event::Proved { verdict, evidence } => {
                    Some(Proof { verdict: *verdict, evidence: evidence.clone(), stopped: false })
                }
                _ => None,
            })
        };
        self.proof.clone().or_else(in_journal)
    }
}

/// Why a proof does not let the new state stay.
fn refusal(proof: &Proof) -> Option<String> {
    if proof.stopped {
        return Some("a signal ended it before the application had proved itself".to_owned());
    }
    let failed: Vec<String> = proof
        .evidence
        .iter()
        .filter(|found| !found.passed)
        .map(|found| format!("{}: {}: {} (for {:.0} s)", found.service, found.check, found.answer, found.seconds))
        .collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

/// The evidence of checks that could not be asked at all.
pub(super) fn unasked(message: &str) -> Evidence {
    Evidence {
        check: "checks".to_owned(),
        service: "application".to_owned(),
        passed: false,
        proves: true,
        attempts: 0,
        answer: message.to_owned(),
        time: format!("{:.6}", jiff::Timestamp::now()),
        seconds: 0.0,
    }
}
