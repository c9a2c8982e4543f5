//! What `status` tells a person to see to, each with the command that helps.
//!
//! Urgent is what puts snapshots at risk now, or keeps new ones from being made; the rest are wise
//! precautions. What is not known is never taken for good.

use super::Env;
use super::env::host_name;
use super::rollback_resume::interrupted;
use super::runnable::word;
use super::runs::Run;
use super::schedule::is_installed;
use super::settings;
use super::status::{Advice, ReplicaStatus, StackStatus, StatusReport};
use crate::repo::keys::read_keys;
use crate::repo::{Repository, SnapshotSet};
use std::os::unix::fs::MetadataExt;

const DAY_SECONDS: i64 = 86_400;
/// A check, or a replica, that is older is spoken of.
const CHECK_AGE_MAX: i64 = 30 * DAY_SECONDS;
const REPLICA_AGE_MAX: i64 = 7 * DAY_SECONDS;
/// A failure that is older, and was not followed by another one, is no timer's.
const FAILURE_AGE_MAX: i64 = 30 * DAY_SECONDS;
/// Whether the repository shares a disk with what it protects is looked up for so many of the newest snapshots.
const LOOKED_AT: usize = 50;

/// What is known.
pub(super) struct Known<'a> {
    pub env: &'a Env,
    pub repository: &'a Repository,
    pub set: &'a SnapshotSet,
    pub report: &'a StatusReport,
    /// Seconds since 1970.
    pub now: i64,
}

fn urgent(message: impl Into<String>, command: impl Into<String>) -> Advice {
    Advice { urgent: true, message: message.into(), command: command.into() }
}

fn wise(message: impl Into<String>, command: impl Into<String>) -> Advice {
    Advice { urgent: false, message: message.into(), command: command.into() }
}

pub(super) fn advice(known: &Known<'_>) -> Vec<Advice> {
    let report = known.report;
    let mut out = Vec::new();
    for project in interrupted(known.env) {
        out.push(urgent(
            format!("a restore of {project} was interrupted"),
            format!("snap restore --resume --stack {}, or --abort", word(&project)),
        ));
    }
    let lost = known.set.unreadable.len() + known.set.vanished.len();
    if lost > 0 {
        out.push(urgent(format!("{lost} snapshots cannot be read or are gone"), "snap check"));
    }
    if report.last_check_found_damage {
        out.push(urgent("the last check found damage", "snap check"));
    }
    out.extend(report.stacks.iter().filter_map(of_stack));
    out.extend(report.stacks.iter().filter_map(|stack| of_schedule(known.env, stack)));
    out.extend(report.runs.iter().filter_map(|run| of_run(known, run)));
    out.extend(of_check(known));
    out.extend(report.replicas.iter().flat_map(|replica| of_replica(known, replica)));
    out.extend(of_place(known));
    out.extend(of_keys(known));
    out.extend(of_restores(known));
    out
}

fn of_stack(stack: &StackStatus) -> Option<Advice> {
    let list = format!("snap list --stack {}", word(&stack.stack));
    match (stack.newest_is_incomplete, &stack.newest_complete) {
        (true, _) => Some(urgent(format!("the newest snapshot of {} is incomplete", stack.stack), list)),
        (false, None) => Some(urgent(format!("{} has no complete snapshot", stack.stack), list)),
        _ => None,
    }
}

/// What should be done by itself, and is not.
fn of_schedule(env: &Env, stack: &StackStatus) -> Option<Advice> {
    let (directory, each) = (stack.directory.as_ref()?, stack.scheduled_seconds?);
    if let Some(age) = stack.newest_complete_age_seconds.filter(|_| stack.late) {
        let (age, each) = (span(age), span(each));
        let message = format!("the newest snapshot of {} is {age} old, and one is due each {each}", stack.stack);
        return Some(urgent(message, format!("snap schedule show {}", word(&directory.display().to_string()))));
    }
    let message = format!("the schedule of {} is not installed", stack.stack);
    let installed = is_installed(env, directory);
    (!installed).then(|| wise(message, format!("snap schedule install {}", word(&directory.display().to_string()))))
}

fn span(seconds: i64) -> String {
    match seconds {
        s if s < 2 * 3600 => format!("{} min", (s / 60).max(1)),
        s if s < 2 * DAY_SECONDS => format!("{} h", s / 3600),
        s => format!("{} days", s / DAY_SECONDS),
    }
}

/// A command that did not do what it was to do when it was last given.
fn of_run(known: &Known<'_>, run: &Run) -> Option<Advice> {
    // These have advice of their own, or are what somebody asked for or has seen.
    let told = match (run.command.as_str(), run.exit_code) {
        ("create" | "check", 3) | (_, 4 | 130) | ("key export", _) => true,
        ("restore", code) => !matches!(code, 6 | 7),
        _ => false,
    };
    // Another folder or host may have made one since.
    let made_since = known.report.stacks.iter().filter(|stack| stack.stack == run.subject).any(|stack| {
        stack.newest_complete_age_seconds.is_some_and(|age| run.command == "create" && known.now - age > run.at)
    });
    if run.is_good() || told || made_since || known.now - run.at > FAILURE_AGE_MAX {
        return None;
    }
    if run.command == "replicate" && is_told_elsewhere(known, run) {
        return None;
    }
    let subject = if run.subject.is_empty() { String::new() } else { format!(" of {}", run.subject) };
    let age = span((known.now - run.at).max(0));
    let message = format!("the last {}{subject} failed {age} ago: {}", run.command, run.message);
    let command = match run.command.as_str() {
        "create" => format!("snap create {}", word(&run.directory.display().to_string())),
        "replicate" if run.subject.is_empty() => "snap replicate --all".to_owned(),
        "replicate" => format!("snap replicate {}", word(&run.subject)),
        "restore" => format!("snap log --last --stack {}", word(&run.subject)),
        other => format!("snap {other}"),
    };
    // What has never worked, or waits for another, may have been an attempt.
    let once = run.command == "replicate" && run.last_good.is_none() && !is_named(run);
    let attempt = matches!(run.exit_code, 5 | 6) || once;
    Some(if attempt { wise(message, command) } else { urgent(message, command) })
}

/// Whether the settings where it was given name the replica that it was about, or any if it was about all.
fn is_named(run: &Run) -> bool {
    let replicas = settings::read(&run.directory).map(|settings| settings.replica).unwrap_or_default();
    if run.subject.is_empty() { !replicas.is_empty() } else { replicas.contains_key(&run.subject) }
}

/// True if another run says it better: of all replicas one by one, or if the replica is not wanted any more.
fn is_told_elsewhere(known: &Known<'_>, run: &Run) -> bool {
    let is_address = run.subject.contains(['/', ':']);
    let one_by_one = || {
        let begun = run.at - i64::try_from(run.seconds).unwrap_or(0);
        let mut others = known.report.runs.iter().filter(|other| other.command == "replicate");
        others.any(|other| !other.subject.is_empty() && other.at >= begun)
    };
    if run.subject.is_empty() { one_by_one() } else { !is_address && !is_named(run) }
}

fn of_check(known: &Known<'_>) -> Option<Advice> {
    let report = known.report;
    match report.last_check {
        _ if report.stacks.is_empty() => Some(wise("there is no snapshot yet", "snap create DIR")),
        None => Some(wise("the repository was never checked from here", "snap check --read-data")),
        Some(at) if known.now - at > CHECK_AGE_MAX => {
            Some(wise("the last check was more than 30 days ago", "snap check --max-age 30d --budget 20m"))
        }
        Some(_) if report.share_read < 1.0 => {
            let share = (report.share_read * 100.0).floor();
            let message = format!("only {share} % of the stored bytes were ever read back from here");
            Some(wise(message, "snap check --max-age 30d --budget 20m"))
        }
        Some(_) => None,
    }
}

fn of_replica(known: &Known<'_>, replica: &ReplicaStatus) -> Vec<Advice> {
    let mut out = Vec::new();
    let (name, there) = (&replica.name, word(&replica.address));
    if replica.damaged_there > 0 {
        // A replication replaces nothing that is there.
        let here = known.env.location().map(|place| place.whole_address()).unwrap_or_default();
        let command = format!("snap repair --repo {there} --from {}", word(&here));
        out.push(urgent(format!("the replica {name} is damaged"), command));
    } else if replica.lacks > 0 {
        out.push(urgent(format!("the replica {name} lacks what is damaged here"), "snap check --read-data"));
    }
    if replica.only_there > 0 {
        let message = format!(
            "the replica {name} has {} snapshots that are not here: this repository may be an old copy",
            replica.only_there
        );
        out.push(wise(message, format!("snap list --repo {there}")));
    }
    let age = known.now - replica.at;
    if age > REPLICA_AGE_MAX && replica.lacks == 0 {
        let behind = match replica.behind {
            0 => String::new(),
            n => format!(" and lacks {n} snapshots"),
        };
        let (gone, command) = match replica.is_there {
            true => ("", replica.command.clone()),
            false => (", and is not there now", format!("{}, or with --drop if it is gone for good", replica.command)),
        };
        let days = age / DAY_SECONDS;
        out.push(wise(
            format!("the replica {name} was last brought up to date {days} days ago{behind}{gone}"),
            command,
        ));
    }
    out
}

/// One fire, one thief or one typing mistake must not take the application and its snapshots.
fn of_place(known: &Known<'_>) -> Option<Advice> {
    if !known.report.replicas.is_empty() || known.report.stacks.is_empty() {
        return None;
    }
    let message = match on_same_disk(known) {
        true => "the repository is on the same file system as what it protects",
        false => "there is no copy of the repository elsewhere",
    };
    Some(wise(message, "snap replicate PLACE"))
}

fn on_same_disk(known: &Known<'_>) -> bool {
    let device = |path: &str| std::fs::metadata(path).ok().map(|stat| stat.dev());
    let host = host_name();
    let own = device(&known.report.repository);
    let newest = known.set.snapshots.iter().rev().take(LOOKED_AT).filter(|s| s.manifest.host == host);
    own.is_some()
        && newest.into_iter().any(|snapshot| snapshot.manifest.sources.iter().any(|source| device(&source.root) == own))
}

fn of_keys(known: &Known<'_>) -> Option<Advice> {
    let keys = read_keys(known.repository.store()).ok()?;
    let [only] = keys.as_slice() else { return None };
    // What is in somebody's head cannot be copied by a command.
    let exported = known.report.runs.iter().any(|run| run.command == "key export" && run.last_good.is_some());
    if only.wants_passphrase() || exported {
        return None;
    }
    let message = "one key alone opens the repository: lose it, and everything is lost";
    Some(wise(message, "snap key export FILE, and keep that file elsewhere"))
}

fn of_restores(known: &Known<'_>) -> Option<Advice> {
    let host = host_name();
    let own = known.report.stacks.iter().filter(|stack| stack.host == host && stack.newest_complete.is_some());
    let never: Vec<&str> = own.filter(|stack| stack.last_restore.is_none()).map(|stack| stack.stack.as_str()).collect();
    let first = never.first()?;
    let message = format!("never restored from here: {}", never.join(", "));
    Some(wise(message, format!("snap restore latest --stack {} --target DIR", word(first))))
}
