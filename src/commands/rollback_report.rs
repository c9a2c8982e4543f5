//! What a restore of an application says: before it, and after it.

use crate::repo::evidence::{Evidence, Verdict};
use crate::repo::log::{Ending, LogEntry, Step};
use crate::repo::manifest::ProjectEntry;
use crate::repo::sync::Snapshot;
use crate::stack::rollback::Outcome;
use crate::stack::rollback::journal::{Event, Line};
use crate::stack::rollback::prepare::Plan;
use crate::stack::rollback::services::Application;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// What would be done.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackPlan {
    /// The snapshot's id.
    pub snapshot: String,
    /// When it was made.
    pub time: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The project.
    pub project: String,
    /// True if the snapshot is complete.
    pub complete: bool,
    /// What will change, a line each.
    pub changes: Vec<String>,
    /// Bytes that will be written beside what is there.
    pub bytes: u64,
    /// Services that will be stopped.
    pub stops: Vec<String>,
    /// Services that will be started.
    pub starts: Vec<String>,
}

impl RollbackPlan {
    pub(super) fn of(snapshot: &Snapshot, project: &ProjectEntry, plan: &Plan<'_>, world: &Application) -> Self {
        let manifest = &snapshot.manifest;
        Self {
            snapshot: snapshot.id.to_string(),
            time: manifest.time.clone(),
            tags: manifest.tags.clone(),
            project: project.name.clone(),
            complete: manifest.complete,
            changes: plan.changes.clone(),
            bytes: plan.bytes(),
            stops: world.ran.iter().map(|ran| ran.service.clone()).collect(),
            starts: world.new_services.iter().map(|service| service.name.clone()).collect(),
        }
    }

    /// It, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut out: Vec<String> = self.changes.iter().map(|line| format!("  {line}")).collect();
        if out.is_empty() {
            out.push("  nothing differs".to_owned());
        }
        out.push(format!("  stopped: {} · started: {}", list(&self.stops), list(&self.starts)));
        if !self.complete {
            out.push("  the snapshot is incomplete: what it lacks stays as it is now".to_owned());
        }
        out
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackReport {
    /// The snapshot's id.
    pub snapshot: String,
    /// The project.
    pub project: String,
    /// `done`, `put-back` or `needs-person`.
    pub ending: Ending,
    /// Why it did not end as it should.
    pub reason: String,
    /// What a person must do.
    pub trouble: String,
    /// The snapshot of the present that was made first.
    pub safety: Option<String>,
    /// What was changed, a line each.
    pub changes: Vec<String>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Services that were stopped, in that order.
    pub stopped: Vec<String>,
    /// Services that were started, in that order.
    pub started: Vec<String>,
    /// How long stopping took.
    pub stop_seconds: f64,
    /// How long services were down.
    pub down_seconds: f64,
    /// What the health gate found; absent if it did not come to that.
    pub verdict: Option<Verdict>,
    /// Each check.
    pub evidence: Vec<Evidence>,
    /// What of the old state is kept, because no snapshot holds all of it.
    pub kept: Vec<String>,
    /// What could not be removed.
    pub left: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl RollbackReport {
    pub(super) fn new(snapshot: &str, project: &ProjectEntry, entry: &LogEntry) -> Self {
        Self {
            snapshot: snapshot.to_owned(),
            project: project.name.clone(),
            ending: Ending::Done,
            reason: String::new(),
            trouble: String::new(),
            safety: None,
            changes: entry.changes.clone(),
            steps: Vec::new(),
            stopped: Vec::new(),
            started: Vec::new(),
            stop_seconds: 0.0,
            down_seconds: 0.0,
            verdict: None,
            evidence: Vec::new(),
            kept: Vec::new(),
            left: Vec::new(),
            seconds: 0.0,
        }
    }
}

impl RollbackReport {
    /// Which services were stopped and started, as the journal says.
    fn services(&mut self, lines: &[Line]) {
        let begun = lines.iter().find_map(|line| match &line.event {
            Event::Begun(begun) => Some(begun),
            _ => None,
        });
        let time = |wanted: fn(&Event) -> bool| {
            let line = lines.iter().rev().find(|line| wanted(&line.event))?;
            line.time.parse::<jiff::Timestamp>().ok()
        };
        let stopping = time(|event| matches!(event, Event::Stopping));
        let (Some(begun), Some(stopping)) = (begun, stopping) else { return };
        self.stopped = begun.ran.iter().rev().map(|ran| ran.service.clone()).collect();
        self.started = match self.ending {
            Ending::Done => begun.new_services.iter().map(|service| service.name.clone()).collect(),
            Ending::PutBack => begun.ran.iter().map(|ran| ran.service.clone()).collect(),
            // What runs then is what the person must find out.
            _ => Vec::new(),
        };
        if let Some(stopped) = time(|event| matches!(event, Event::Stopped)) {
            self.stop_seconds = (stopped.duration_since(stopping).as_secs_f64() * 1000.0).round() / 1000.0;
        }
    }
}

/// What an outcome means, for the person and for the record.
pub(super) fn report_of(
    outcome: Outcome,
    entry: &mut LogEntry,
    project: &ProjectEntry,
    snapshot: &str,
    state: &Path,
    started: Instant,
) -> RollbackReport {
    let mut report = RollbackReport::new(snapshot, project, entry);
    let lines = match outcome {
        Outcome::Restored { proof, kept, left, down_seconds, lines } => {
            report.verdict = Some(proof.verdict);
            report.evidence = proof.evidence;
            (report.kept, report.left, report.down_seconds) = (kept, left, down_seconds);
            lines
        }
        Outcome::PutBack { reason, proof, left, down_seconds, lines } => {
            report.ending = Ending::PutBack;
            report.verdict = proof.as_ref().map(|proof| proof.verdict);
            report.evidence = proof.map(|proof| proof.evidence).unwrap_or_default();
            (report.reason, report.left, report.down_seconds) = (reason, left, down_seconds);
            lines
        }
        Outcome::NeedsPerson { reason, trouble, lines } => {
            report.ending = Ending::NeedsPerson;
            report.reason = reason;
            report.trouble = format!(
                "{trouble}. Remove the cause, then run snap restore --abort --stack {}, which tries again to put the \
                 old state back; {} says what was done",
                project.name,
                state.join("journal").display()
            );
            lines
        }
        Outcome::BeginAnew { left } => {
            report.left = left;
            Vec::new()
        }
    };
    report.steps = lines.iter().filter_map(step).collect();
    report.services(&lines);
    report.safety = lines.iter().rev().find_map(|line| match &line.event {
        Event::Safety { snapshot, .. } => Some(snapshot.clone()),
        _ => None,
    });
    report.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    entry.ending = report.ending;
    entry.message = match report.trouble.is_empty() {
        true => report.reason.clone(),
        false => format!("{}; {}", report.reason, report.trouble),
    };
    entry.safety = report.safety.as_deref().and_then(|id| crate::id::SnapshotId::parse(id).ok());
    entry.steps.clone_from(&report.steps);
    entry.down_seconds = Some(report.down_seconds);
    entry.verdict = report.verdict;
    entry.evidence.clone_from(&report.evidence);
    report
}

fn step(line: &Line) -> Option<Step> {
    let what = match &line.event {
        Event::Begun(_) | Event::Stopping | Event::Swapping | Event::Starting => return None,
        Event::Staging { .. } => "every byte that is needed is read, verified and put beside what is there".to_owned(),
        Event::Safety { snapshot, complete } => {
            let short = snapshot.get(..8).unwrap_or(snapshot);
            let lack = if *complete { "" } else { " (incomplete: the old state itself is kept too)" };
            format!("the present is kept as {short}{lack}")
        }
        Event::Prepared { swaps } => format!("{} changes are ready", swaps.len()),
        Event::Stopped => "services stopped".to_owned(),
        Event::Swapped => "changes made".to_owned(),
        Event::Started => "services started".to_owned(),
        Event::Proved { verdict, evidence } => {
            let passed = evidence.iter().filter(|found| found.passed).count();
            format!("{}: {passed} of {} checks passed", verdict.words(), evidence.len())
        }
        Event::Committed => "the new state stays".to_owned(),
        Event::Undoing { reason } => format!("going back: {reason}"),
        Event::Undone => "changes undone".to_owned(),
    };
    Some(Step { time: line.time.clone(), what })
}
