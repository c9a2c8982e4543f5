//! Proving a repository without changing it. Nothing is trusted, and no problem ends the check.
//!
//! From the outside in: names and sizes; the bytes of index objects; where data is read, every byte
//! of every pack: its name, its seal, each chunk against its id; manifests, their MACs and the chain
//! of snapshots; every tree, chunk by chunk, against what the index lists and the packs hold.
//!
//! A pack that was found damaged once is read again by every check until it is sound or unused.

mod data;
mod places;
mod structure;
mod trees;

pub use data::{Reading, Share, ledger};

use super::sync::Chain;
use super::{Error, Repository, Result};
use crate::id::ChunkId;
use crate::monitor::Monitor;
use crate::store::Key;
use places::Places;
use serde::Serialize;
use std::collections::HashSet;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that was stored cannot be had as it was, or may have been tampered with.
    Damage,
    /// Something that a newer snap wrote: this one cannot tell whether it is sound.
    Unknown,
    /// Nothing is lost; a person may want to know.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
}

/// What to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// Which packs to read whole; none if absent.
    pub read: Option<Reading>,
    /// The time, in seconds since 1970, for the ledger.
    pub now: i64,
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// The findings.
    pub problems: Vec<Problem>,
    /// Snapshots that can be read.
    pub snapshots: u64,
    /// Packs in the repository.
    pub packs: u64,
    /// Packs that were read whole by this check.
    pub packs_read: u64,
    /// Bytes that were read of packs.
    pub bytes_read: u64,
    /// True if what was read was also opened and each chunk hashed (an owner's key), not only the
    /// sealed bytes.
    pub opened: bool,
    /// True if the trees were walked (an owner's key).
    pub trees_walked: bool,
    /// Packs that no check on this machine has ever read.
    pub packs_never_read: u64,
    /// Age of the oldest reading in seconds; absent if a pack was never read.
    pub oldest_unread_seconds: Option<u64>,
    /// Share of the packs' bytes, 0 to 1, that checks on this machine have read and found sound; with a
    /// greatest age only what was read within it.
    pub share_read: f64,
    /// With a greatest age: packs that have no sound reading within it, after this check.
    pub packs_overdue: u64,
    /// Chunks that snapshots use and no sound pack holds.
    #[serde(skip)]
    pub lost_chunks: HashSet<ChunkId>,
}

impl CheckReport {
    /// True if something is damaged.
    pub fn is_damaged(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Damage)
    }

    /// True if something could not be judged.
    pub fn is_unknown(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Unknown)
    }
}

/// The findings while they are collected.
#[derive(Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    fn damage(&mut self, object: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Damage, object.into(), message.into());
    }

    /// What kept an object from being read.
    fn fault(&mut self, object: impl Into<String>, error: &Error) {
        let severity = if error.is_newer() { Severity::Unknown } else { Severity::Damage };
        self.add(severity, object.into(), Chain(error).to_string());
    }

    fn note(&mut self, object: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Note, object.into(), message.into());
    }

    fn add(&mut self, severity: Severity, object: String, message: String) {
        let problem = Problem { severity, object, message };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// Checks the repository.
///
/// # Errors
/// A listing fails, the local catalog fails, or the person stops the work. Damage is no error: it
/// is in the report.
pub fn check(repository: &Repository, options: &CheckOptions, monitor: &dyn Monitor) -> Result<CheckReport> {
    let mut findings = Findings::default();
    let mut report = CheckReport::default();
    structure::check_keys(repository, &mut findings)?;
    // Snapshots are listed before what they need: one that is published meanwhile is for next time.
    let published = structure::list_snapshots(repository, &mut findings)?;
    let listed = structure::check_listings(repository, &mut findings, monitor)?;
    report.packs = listed.sizes.len() as u64;
    let readings = data::read_packs(repository, options, &listed, &mut report, monitor)?;
    let snapshots = structure::check_snapshots(repository, &published, &mut findings)?;
    report.snapshots = snapshots.len() as u64;
    let places = Places::new(&listed, &readings);
    let mut walk = trees::walk(repository, &places, &snapshots, monitor)?;
    if !walk.problems.is_empty() {
        // It may be the catalog that is wrong.
        repository.relearn()?;
        walk = trees::walk(repository, &places, &snapshots, monitor)?;
    }
    report.trees_walked = walk.walked;
    report.lost_chunks = std::mem::take(&mut walk.lost);
    structure::check_needs(&snapshots, &listed, &walk.intact, &mut findings);
    let all_read = snapshots.len() == published.len();
    structure::check_unread_indexes(&snapshots, all_read, &listed, &mut findings);
    // What nothing uses can be lost without a loss, if it is known what is used.
    let known = walk.walked && !walk.gaps && all_read;
    for (pack, problems) in &places.unsound {
        for problem in problems {
            let object = Key::from(*pack).path();
            if known && listed.indexed.contains_key(pack) && !walk.wanted.contains(pack) {
                findings.note(object, format!("{problem}; nothing that a snapshot uses is lost with it"));
            } else {
                findings.damage(object, problem.clone());
            }
        }
    }
    for problem in walk.problems {
        findings.add(problem.severity, problem.object, problem.message);
    }
    report.problems = findings.problems;
    report.problems.sort_by(|a, b| (a.severity, &a.object, &a.message).cmp(&(b.severity, &b.object, &b.message)));
    Ok(report)
}
