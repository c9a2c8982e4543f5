//! `snap status`: how far back, how sound, what to worry about next.

use super::check::LAST_CHECK;
use super::env::host_name;
use super::replicas::{self, LastReplication, last_replications};
use super::rollback::SAFETY_TAG;
use super::runnable::word;
use super::runs::{self, Run};
use super::status_advice::{Known, advice};
use super::{Env, Result, settings};
use crate::id::{PackId, SnapshotId};
use crate::repo::{Repository, Snapshot, SnapshotSet};
use crate::store::{Key, Kind};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// How long a capture may take before the next one is missed.
const LATE_SECONDS: i64 = 15 * 60;

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
    /// Bytes of the packs that its snapshots need; some may be needed by other stacks too.
    pub stored_bytes: u64,
    /// Its folder, where it is on this host.
    pub directory: Option<PathBuf>,
    /// When something of it was last restored on this machine, in seconds since 1970.
    pub last_restore: Option<i64>,
    /// The longest time between two snapshots by `[schedule]` in its `snap.toml`, in seconds.
    pub scheduled_seconds: Option<i64>,
    /// True if the newest complete one is older than that allows.
    pub late: bool,
}

/// A replica, as this machine remembers it from its last replication.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// When the last replication ended, in seconds since 1970.
    pub at: i64,
    /// Snapshots that it had then.
    pub snapshots: u64,
    /// Snapshots that it lacked then, and objects that could not be copied.
    pub lacks: u64,
    /// When what had been copied was last read back, in seconds since 1970.
    pub verified: Option<i64>,
    /// When the newest snapshot that it has was made, RFC 3339; absent if that is not known.
    pub newest_there: Option<String>,
    /// When the newest snapshot here was made, RFC 3339.
    pub newest_here: Option<String>,
    /// Seconds between the two; 0 if it has everything.
    pub lag_seconds: Option<i64>,
    /// Snapshots here that it does not have.
    pub behind: u64,
    /// Objects that were damaged there.
    pub damaged_there: u64,
    /// Snapshots that it has and this repository neither has nor has removed.
    pub only_there: u64,
    /// False if it is a folder that is not there now.
    pub is_there: bool,
    /// The command that brings it up to date.
    #[serde(skip)]
    pub command: String,
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
    pub replicas: Vec<ReplicaStatus>,
    /// How each command last ended on this machine.
    pub runs: Vec<Run>,
    /// What to see to, the urgent first.
    pub advice: Vec<Advice>,
}

/// Looks at the repository.
///
/// # Errors
/// It cannot be listed.
pub fn status(env: &Env, repository: &Repository) -> Result<StatusReport> {
    let now = jiff::Timestamp::now().as_second();
    let set = repository.snapshots()?;
    let mut packs = HashMap::new();
    for object in repository.store().list(Kind::Pack)?.objects {
        if let Key::Object(_, name) = object.key {
            packs.insert(PackId(name), object.bytes);
        }
    }
    let readings = crate::repo::check::ledger(repository, now)?;
    let stored: u64 = packs.values().sum();
    let (mut read, mut oldest) = (0u64, None::<i64>);
    for (id, bytes) in &packs {
        if let Some(at) = readings.get(id) {
            read += bytes;
            oldest = Some(oldest.unwrap_or(0).max(now - at));
        }
    }
    let (last_check, damage) = last_check(repository)?;
    let runs = runs::all(env, &env.location()?.settled());
    let mut report = StatusReport {
        repository: repository.store().address(),
        id: repository.id().to_string(),
        key: repository.key_name().to_owned(),
        role: repository.secrets().role(),
        stacks: stacks(&set, &packs, &runs, now),
        stored_bytes: stored,
        packs: packs.len() as u64,
        last_check,
        last_check_found_damage: damage,
        share_read: if stored == 0 { 1.0 } else { read as f64 / stored as f64 },
        oldest_reading_seconds: oldest,
        replicas: replicas(env, repository, &set),
        runs,
        advice: Vec::new(),
    };
    report.advice = advice(&Known { env, repository, set: &set, report: &report, now });
    // The order among equals is that of what they are about.
    report.advice.sort_by_key(|advice| !advice.urgent);
    Ok(report)
}

fn last_check(repository: &Repository) -> Result<(Option<i64>, bool)> {
    let catalog = repository.catalog();
    let Some(text) = catalog.value(&catalog.key_here(LAST_CHECK))? else { return Ok((None, false)) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let (at, finding) = text.split_once(' ').unwrap_or((&text, ""));
    Ok((at.parse().ok(), finding == "damaged"))
}

fn stacks(set: &SnapshotSet, packs: &HashMap<PackId, u64>, runs: &[Run], now: i64) -> Vec<StackStatus> {
    let mut by_lineage: BTreeMap<(&str, &str), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in &set.snapshots {
        let (host, stack) = snapshot.manifest.lineage();
        by_lineage.entry((stack, host)).or_default().push(snapshot);
    }
    let own_host = host_name();
    let one = |((stack, host), snapshots): ((&str, &str), Vec<&Snapshot>)| {
        let newest = snapshots.iter().rev().find(|s| s.manifest.complete);
        let age = newest.and_then(|s| seconds_of(&s.manifest.time)).map(|at| now - at);
        let needed: HashSet<PackId> =
            snapshots.iter().flat_map(|s| s.manifest.needs.iter().map(|need| need.pack)).collect();
        let directory = snapshots.last().filter(|_| host == own_host).and_then(|s| directory_of(s));
        let scheduled = directory.as_deref().and_then(scheduled);
        let restored = runs.iter().find(|run| run.command == "restore" && run.subject == stack);
        StackStatus {
            stack: stack.to_owned(),
            host: host.to_owned(),
            snapshots: snapshots.len() as u64,
            newest_complete: newest.map(|s| s.id.to_string()),
            newest_complete_time: newest.map(|s| s.manifest.time.clone()),
            newest_complete_age_seconds: age,
            // What a restore keeps of a present that was broken may well lack something.
            newest_is_incomplete: snapshots
                .iter()
                .rev()
                .find(|s| s.manifest.complete || !s.manifest.tags.iter().any(|tag| tag == SAFETY_TAG))
                .is_some_and(|s| !s.manifest.complete),
            bytes: snapshots.iter().map(|s| s.manifest.bytes()).sum(),
            stored_bytes: needed.iter().filter_map(|pack| packs.get(pack)).sum(),
            late: age.zip(scheduled).is_some_and(|(age, each)| age > 2 * each + LATE_SECONDS),
            directory,
            last_restore: restored.and_then(|run| run.last_good),
            scheduled_seconds: scheduled,
        }
    };
    by_lineage.into_iter().map(one).collect()
}

pub(super) fn seconds_of(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// How often a snapshot is made by itself of what is in `directory`, in seconds. What cannot be understood there
/// is told by the commands that need it.
fn scheduled(directory: &Path) -> Option<i64> {
    let when = settings::read(directory).ok()?.schedule?.when("create").ok()??;
    Some(when.interval_seconds())
}

/// The folder that was captured: the project's, or the one of plain files.
fn directory_of(snapshot: &Snapshot) -> Option<PathBuf> {
    let directory = snapshot.manifest.directory()?;
    Some(PathBuf::from(directory)).filter(|path| path.is_dir())
}

fn replicas(env: &Env, repository: &Repository, set: &SnapshotSet) -> Vec<ReplicaStatus> {
    let newest = |there: &dyn Fn(&Snapshot) -> bool| {
        let times = set.snapshots.iter().filter(|s| there(s)).map(|s| s.manifest.time.as_str());
        times.max().map(str::to_owned)
    };
    let named = replicas::named_here();
    let one = |last: LastReplication| {
        let name = replicas::name_of(&named, env, &last.address);
        let ids: HashSet<SnapshotId> = last.ids.iter().copied().collect();
        let newest_here = newest(&|_| true);
        let newest_there = newest(&|s| ids.contains(&s.id)).max(last.newest_only_there.clone());
        let seconds = |time: &Option<String>| time.as_deref().and_then(seconds_of);
        let lag_seconds = seconds(&newest_here).zip(seconds(&newest_there)).map(|(here, there)| (here - there).max(0));
        let known = |s: &&Snapshot| ids.contains(&s.id) || last.left_out.contains(&s.id);
        let behind = set.snapshots.iter().filter(|s| !known(s)).count() as u64;
        let command = format!("snap replicate {}", word(name.unwrap_or(&last.address)));
        // The name may be another place's by now.
        let taken = named.iter().any(|target| target.name == last.name);
        let old_name = if taken { last.address.clone() } else { last.name };
        ReplicaStatus {
            name: name.map_or(old_name, str::to_owned),
            is_there: replicas::is_there(&last.address),
            address: last.address,
            at: last.at,
            snapshots: last.snapshots,
            lacks: last.lacks,
            verified: last.verified,
            newest_there,
            newest_here,
            lag_seconds,
            behind,
            damaged_there: last.damaged_there,
            only_there: last.only_there,
            command,
        }
    };
    last_replications(repository.catalog()).into_iter().map(one).collect()
}
