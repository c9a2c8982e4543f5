//! What a restore of an application says: before it, and after it.

use super::runnable::word;
use crate::amount;
use crate::monitor::Monitor;
use crate::repo::evidence::{Evidence, Verdict};
use crate::repo::log::{Ending, LogEntry, Step};
use crate::repo::manifest::ProjectEntry;
use crate::repo::sync::Snapshot;
use crate::stack::rollback::journal::{Begun, Event, Line, Watcher};
use crate::stack::rollback::prepare::Plan;
use crate::stack::rollback::services::Application;
use crate::stack::rollback::{Outcome, STAGE_PREFIX};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
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
    /// What the snapshot of the present lacks.
    pub lacks: Vec<String>,
    /// What of the old state is kept, because that snapshot lacks something.
    pub kept: Vec<String>,
    /// Bytes of it.
    pub kept_bytes: u64,
    /// The commands that remove it.
    pub discard: Vec<String>,
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
            lacks: Vec::new(),
            kept: Vec::new(),
            kept_bytes: 0,
            discard: Vec::new(),
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
    report.steps = steps(&lines);
    report.services(&lines);
    if let Some((snapshot, lacks)) = lines.iter().rev().find_map(|line| match &line.event {
        Event::Safety { snapshot, lacks, .. } => Some((snapshot, lacks)),
        _ => None,
    }) {
        (report.safety, report.lacks) = (Some(snapshot.clone()), lacks.clone());
    }
    (report.kept_bytes, report.discard) = kept_bytes_and_commands(&report.kept);
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

/// How much is kept, and the commands that remove it: the folders that the restore had made for it, and tags.
fn kept_bytes_and_commands(kept: &[String]) -> (u64, Vec<String>) {
    let (mut bytes, mut folders, mut tags) = (0, BTreeSet::new(), BTreeSet::new());
    for one in kept {
        if let Some(tag) = one.strip_prefix("image ") {
            tags.insert(word(tag));
            continue;
        }
        let path = Path::new(one);
        let is_stage =
            |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STAGE_PREFIX));
        bytes += bytes_below(path);
        folders.insert(word(&path.ancestors().find(is_stage).unwrap_or(path).display().to_string()));
    }
    let command = |verb: &str, words: BTreeSet<String>| {
        (!words.is_empty()).then(|| format!("{verb} {}", words.into_iter().collect::<Vec<_>>().join(" ")))
    };
    (bytes, command("rm -r --", folders).into_iter().chain(command("docker rmi", tags)).collect())
}

/// Bytes of files at and below `path`, as far as they can be looked at.
fn bytes_below(path: &Path) -> u64 {
    let (mut bytes, mut left) = (0, vec![path.to_path_buf()]);
    while let Some(path) = left.pop() {
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            bytes += found.len();
        }
    }
    bytes
}

/// The steps that journal lines tell of.
pub(super) fn steps(lines: &[Line]) -> Vec<Step> {
    let begun = lines.iter().find_map(|line| match &line.event {
        Event::Begun(begun) => Some(begun.as_ref()),
        _ => None,
    });
    lines.iter().filter_map(|line| step(line, begun)).collect()
}

/// Tells each step as soon as the journal has it.
pub(super) fn teller(monitor: &Arc<dyn Monitor>) -> Watcher {
    let monitor = Arc::clone(monitor);
    Watcher::new(move |lines| {
        let steps = steps(lines);
        // Not every line is a step.
        if let (Some(step), Some(line)) = (steps.last(), lines.last())
            && step.time == line.time
        {
            monitor.step(steps.len(), &step.what);
        }
    })
}

fn step(line: &Line, begun: Option<&Begun>) -> Option<Step> {
    let ran = begun.is_none_or(|begun| !begun.ran.is_empty());
    let starts = begun.is_none_or(|begun| !begun.new_services.is_empty());
    let what = match &line.event {
        Event::Begun(_) | Event::Stopping | Event::Swapping | Event::Starting => return None,
        Event::Staging { .. } => "every byte that is needed is read, verified and put beside what is there".to_owned(),
        Event::Safety { snapshot, complete, .. } => {
            let short = snapshot.get(..8).unwrap_or(snapshot);
            let lack = if *complete { "" } else { " (incomplete: the old state itself is kept too)" };
            format!("the present is kept as {short}{lack}")
        }
        Event::Prepared { swaps } => {
            format!("{} ready", amount::count(swaps.len() as u64, "change is", "changes are"))
        }
        Event::Stopped => if ran { "services stopped" } else { "no service ran that had to stop" }.to_owned(),
        Event::Swapped => "changes made".to_owned(),
        Event::Started => if starts { "services started" } else { "no service is to be started" }.to_owned(),
        Event::Proved { evidence, .. } if evidence.is_empty() => "nothing runs that could be checked".to_owned(),
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
