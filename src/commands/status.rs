//! `snap status`: how far back, how sound, what to worry about next.

use super::replicate::{LastReplication, last_replications};
use super::{Env, Result};
use crate::repo::{Repository, Snapshot, SnapshotSet};
use crate::store::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// One stack.
#[derive(Debug, Clone, Serialize)]
pub struct StackStatus {
    /// Its name.
    pub stack: String,
    /// Its host.
    pub host: String,
    /// Snapshots kept.
    pub snapshots: u64,
    /// The newest complete one.
    pub newest_complete: Option<String>,
    /// When it was made, RFC 3339.
    pub newest_complete_time: Option<String>,
    /// Its age in seconds.
    pub newest_complete_age_seconds: Option<i64>,
    /// True if a later one is incomplete.
    pub newest_is_incomplete: bool,
    /// Bytes of content in all its snapshots together.
    pub bytes: u64,
}

/// Something to see to.
#[derive(Debug, Clone, Serialize)]
pub struct Advice {
    /// True if snapshots are at risk now; false for a wise precaution.
    pub urgent: bool,
    /// What is the matter.
    pub message: String,
    /// The command that helps.
    pub command: String,
}

/// What `status` says.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Where the repository is.
    pub repository: String,
    /// Its identity.
    pub id: String,
    /// The key in use.
    pub key: String,
    /// What that key can do.
    pub role: crate::crypto::secrets::Role,
    /// The stacks.
    pub stacks: Vec<StackStatus>,
    /// Bytes in the repository's packs.
    pub stored_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// When `check` last ended on this machine, in seconds since 1970.
    pub last_check: Option<i64>,
    /// True if that check found damage.
    pub last_check_found_damage: bool,
    /// Share of the packs' bytes that a check on this machine has read, between 0 and 1.
    pub share_read: f64,
    /// Age in seconds of the oldest reading among them.
    pub oldest_reading_seconds: Option<i64>,
    /// The replicas, as this machine remembers them.
    pub replicas: Vec<LastReplication>,
    /// What to see to.
    pub advice: Vec<Advice>,
}

/// Looks at the repository.
///
/// # Errors
/// It cannot be listed.
pub fn status(_: &Env, repository: &Repository) -> Result<StatusReport> {
    let now = jiff::Timestamp::now().as_second();
    let set = repository.snapshots()?;
    let packs = repository.store().list(Kind::Pack)?;
    let readings = crate::repo::check::ledger(repository, now)?;
    let (mut stored, mut read, mut oldest) = (0u64, 0u64, None::<i64>);
    for pack in &packs.objects {
        stored += pack.bytes;
        if let crate::store::Key::Object(_, name) = pack.key
            && let Some(at) = readings.get(&crate::id::PackId(name))
        {
            read += pack.bytes;
            oldest = Some(oldest.unwrap_or(0).max(now - at));
        }
    }
    let (last_check, damage) = last_check(repository)?;
    let mut report = StatusReport {
        repository: repository.store().address(),
        id: repository.id().to_string(),
        key: repository.key_name().to_owned(),
        role: repository.secrets().role(),
        stacks: stacks(&set, now),
        stored_bytes: stored,
        packs: packs.objects.len() as u64,
        last_check,
        last_check_found_damage: damage,
        share_read: if stored == 0 { 1.0 } else { read as f64 / stored as f64 },
        oldest_reading_seconds: oldest,
        replicas: last_replications(repository.catalog()),
        advice: Vec::new(),
    };
    report.advice = advice(&report, &set, repository, now);
    Ok(report)
}

fn last_check(repository: &Repository) -> Result<(Option<i64>, bool)> {
    let catalog = repository.catalog();
    let Some(text) = catalog.value(&catalog.key_here("last_check"))? else { return Ok((None, false)) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let (at, finding) = text.split_once(' ').unwrap_or((&text, ""));
    Ok((at.parse().ok(), finding == "damaged"))
}

fn stacks(set: &SnapshotSet, now: i64) -> Vec<StackStatus> {
    let mut by_lineage: BTreeMap<(&str, &str), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in &set.snapshots {
        let (host, stack) = snapshot.manifest.lineage();
        by_lineage.entry((stack, host)).or_default().push(snapshot);
    }
    let one = |((stack, host), snapshots): ((&str, &str), Vec<&Snapshot>)| {
        let newest = snapshots.iter().rev().find(|s| s.manifest.complete);
        let age = newest.and_then(|s| s.manifest.time.parse::<jiff::Timestamp>().ok()).map(|t| now - t.as_second());
        StackStatus {
            stack: stack.to_owned(),
            host: host.to_owned(),
            snapshots: snapshots.len() as u64,
            newest_complete: newest.map(|s| s.id.to_string()),
            newest_complete_time: newest.map(|s| s.manifest.time.clone()),
            newest_complete_age_seconds: age,
            newest_is_incomplete: snapshots.last().is_some_and(|s| !s.manifest.complete),
            bytes: snapshots.iter().map(|s| s.manifest.bytes()).sum(),
        }
    };
    by_lineage.into_iter().map(one).collect()
}

fn advice(report: &StatusReport, set: &SnapshotSet, repository: &Repository, now: i64) -> Vec<Advice> {
    let mut out = Vec::new();
    let mut say =
        |urgent, message: String, command: &str| out.push(Advice { urgent, message, command: command.to_owned() });
    if !set.unreadable.is_empty() || !set.vanished.is_empty() {
        let count = set.unreadable.len() + set.vanished.len();
        say(true, format!("{count} snapshots cannot be read or are gone"), "snap check");
    }
    if report.last_check_found_damage {
        say(true, "the last check found damage".to_owned(), "snap check");
    }
    for stack in &report.stacks {
        match (stack.newest_is_incomplete, &stack.newest_complete) {
            (true, _) => say(true, format!("the newest snapshot of {} is incomplete", stack.stack), "snap list"),
            (false, None) => say(true, format!("{} has no complete snapshot", stack.stack), "snap list"),
            _ => {}
        }
    }
    match report.last_check {
        _ if report.stacks.is_empty() => say(false, "there is no snapshot yet".to_owned(), "snap create DIR"),
        None => say(false, "the repository was never checked from here".to_owned(), "snap check --read-data"),
        Some(at) if now - at > 30 * 86_400 => {
            say(false, "the last check was more than 30 days ago".to_owned(), "snap check --max-age 30d");
        }
        Some(_) if report.share_read < 1.0 => {
            let share = (report.share_read * 100.0).floor();
            say(false, format!("only {share} % of the stored bytes were ever read back"), "snap check --read-data");
        }
        Some(_) => {}
    }
    for replica in &report.replicas {
        let days = (now - replica.at) / 86_400;
        let command = format!("snap replicate {}", replica.name);
        if replica.lacks > 0 {
            say(true, format!("the replica {} lacks something or is damaged", replica.name), &command);
        } else if days > 7 {
            say(false, format!("the replica {} was last brought up to date {days} days ago", replica.name), &command);
        }
    }
    if on_same_disk(set, report) && report.replicas.is_empty() {
        let message = "the repository is on the same file system as what it protects";
        say(false, message.to_owned(), "snap replicate PLACE, or move it to another disk");
    }
    if crate::repo::keys::read_keys(repository.store()).is_ok_and(|keys| keys.len() == 1) {
        let message = "one key alone opens the repository: lose it, and everything is lost";
        say(false, message.to_owned(), "snap key export FILE, and keep that file elsewhere");
    }
    out
}

fn on_same_disk(set: &SnapshotSet, report: &StatusReport) -> bool {
    let device = |path: &str| std::fs::metadata(path).ok().map(|stat| stat.dev());
    let host = super::env::host_name();
    let own = device(&report.repository);
    own.is_some()
        && set
            .snapshots
            .iter()
            .rev()
            .take(50)
            .filter(|s| s.manifest.host == host)
            .any(|snapshot| snapshot.manifest.sources.iter().any(|source| device(&source.root) == own))
}
