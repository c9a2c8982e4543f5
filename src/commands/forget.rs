//! `snap forget` and `snap undelete`: which snapshots stay, and why.

use super::check::found_damaged;
use super::env::{host_name, now_text};
use super::list::ListedSnapshot;
use super::origin::folder_of;
use super::prune::{PruneOptions, prune};
use super::{Env, Error, Result};
use crate::id::SnapshotId;
use crate::repo::forget::{Forgetting, select_forgotten};
use crate::repo::mark::{ForgottenSnapshot, Stamp};
use crate::repo::prune::PruneReport;
use crate::repo::retention::{Candidate, Policy, Suspect, Verdict, judge, suspects};
use crate::repo::select::{Scope, select, select_lost};
use crate::repo::sync::way_back;
use crate::repo::{self, Repository, Snapshot, SnapshotSet};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What to forget.
#[derive(Debug, Clone, Default)]
pub struct ForgetOptions {
    /// These, by name.
    pub ids: Vec<String>,
    /// Of which host and stack.
    pub scope: Scope,
    /// Else what this policy does not keep.
    pub policy: Policy,
    /// Only say what would be done.
    pub dry_run: bool,
    /// What looks wrong has been looked at.
    pub confirmed: bool,
    /// Prune afterwards, unless a stack was held; its own `dry_run` does not count.
    pub prune: Option<PruneOptions>,
}

/// One snapshot, judged.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedSnapshot {
    /// The snapshot.
    #[serde(flatten)]
    pub snapshot: ListedSnapshot,
    /// True if it stays.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<String>,
}

/// A snapshot that looks wrong.
#[derive(Debug, Clone, Serialize)]
pub struct SuspectSnapshot {
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub what: String,
}

/// The snapshots of one host and stack.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedStack {
    /// The host.
    pub host: String,
    /// The stack.
    pub stack: String,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<JudgedSnapshot>,
    /// What looks wrong. Unless it is confirmed, nothing of this stack is forgotten.
    pub suspects: Vec<SuspectSnapshot>,
    /// True if nothing was forgotten because something looks wrong.
    pub held: bool,
}

/// What `forget` did.
#[derive(Debug, Clone, Serialize)]
pub struct ForgetReport {
    /// The stacks.
    pub stacks: Vec<JudgedStack>,
    /// How many snapshots were forgotten, or would be.
    pub forgotten: u64,
    /// The mark; absent if nothing was forgotten.
    pub mark: Option<String>,
    /// True if nothing was done.
    pub dry_run: bool,
    /// Where the repository is.
    pub repository: String,
    /// What the prune afterwards did, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneReport>,
}

/// What `undelete` did.
#[derive(Debug, Clone, Serialize)]
pub struct UndeleteReport {
    /// The snapshots that are back.
    pub snapshots: Vec<ListedSnapshot>,
    /// The mark.
    pub mark: String,
}

pub(super) fn stamp() -> Stamp {
    Stamp { time: now_text(), host: host_name() }
}

/// Forgets snapshots by name, or those that the policy does not keep.
///
/// # Errors
/// There is neither name nor policy; a name fits none; the last complete snapshot of a stack would go;
/// the key is a writer's; the repository cannot be read or written; what was forgotten stays so where
/// only the prune afterwards fails.
pub fn forget(env: &Env, repository: &Repository, options: &ForgetOptions) -> Result<ForgetReport> {
    repository.require_owner("forget snapshots")?;
    let mut set = repository.snapshots()?;
    // What is damaged in the store must not stand for what goes, whatever is remembered of it here.
    repository.prove(&mut set, &|_| true)?;
    let damaged = found_damaged(repository)?;
    let mut stacks = if options.ids.is_empty() { by_policy(&set, &damaged, options)? } else { by_name(&set, options)? };
    if options.ids.is_empty() {
        // What is not seen may be what a rule should have kept.
        let lost = lost(&set);
        stacks.iter_mut().for_each(|stack| stack.suspects.extend(lost.iter().cloned()));
    }
    hold(env, &mut stacks, options);
    let mut forgetting = Forgetting::default();
    for stack in stacks.iter().filter(|stack| !stack.held) {
        for one in stack.snapshots.iter().filter(|one| !one.keep) {
            let id = parse(&one.snapshot.id)?;
            forgetting.snapshots.push(ForgottenSnapshot { id, reason: one.reasons.join(", ") });
        }
        forgetting.accepted.extend(stack.suspects.iter().filter_map(|one| SnapshotId::parse(&one.id).ok()));
    }
    let forgotten = forgetting.snapshots.len() as u64;
    let mark = match options.dry_run || forgotten == 0 {
        true => None,
        false => Some(repository.forget(&set, &forgetting, &stamp())?.to_string()),
    };
    let dry_run = options.dry_run;
    let prune = match options.prune {
        Some(how) if !stacks.iter().any(|stack| stack.held) => {
            let supposed: Vec<SnapshotId> = forgetting.snapshots.iter().map(|one| one.id).collect();
            Some(prune(env, repository, &PruneOptions { dry_run, ..how }, &supposed)?)
        }
        _ => None,
    };
    Ok(ForgetReport { stacks, forgotten, mark, dry_run, repository: repository.store().address(), prune })
}

/// The snapshots that cannot be read or are gone, and what to do about them.
fn lost(set: &SnapshotSet) -> Vec<SuspectSnapshot> {
    let unread = set.unreadable.iter().map(|one| (one.id, format!("it cannot be read: {}", set.way_out(one))));
    let gone = |id| (id, format!("it was here before and is gone; nobody has forgotten it: {}", way_back(&id)));
    let all = unread.chain(set.vanished.iter().map(|one| gone(one.id)));
    all.map(|(id, what)| SuspectSnapshot { id: id.to_string(), what }).collect()
}

fn parse(text: &str) -> Result<SnapshotId> {
    SnapshotId::parse(text).map_err(|error| Error::usage(error.to_string(), "give the id as `snap list` shows it"))
}

/// Asks, for each stack in which something looks wrong, whether to go on all the same.
fn hold(env: &Env, stacks: &mut [JudgedStack], options: &ForgetOptions) {
    if options.confirmed {
        return;
    }
    for stack in stacks.iter_mut().filter(|s| !s.suspects.is_empty() && s.snapshots.iter().any(|one| !one.keep)) {
        let what: Vec<String> =
            stack.suspects.iter().map(|one| format!("{}: {}", one.id.get(..8).unwrap_or(&one.id), one.what)).collect();
        let count = stack.snapshots.iter().filter(|one| !one.keep).count();
        let question = format!(
            "{}: something looks wrong ({}). Forget {count} older snapshots all the same?",
            stack.stack,
            what.join("; ")
        );
        stack.held = options.dry_run || !env.prompt.confirm(&question, &stack.stack);
    }
}

fn by_name(set: &SnapshotSet, options: &ForgetOptions) -> Result<Vec<JudgedStack>> {
    if !options.policy.is_empty() {
        return Err(Error::usage("names and a policy exclude each other", "give either ids or --keep-…"));
    }
    let mut chosen: Vec<&Snapshot> = Vec::new();
    for text in &options.ids {
        // What somebody has removed by hand is acknowledged by forgetting it.
        let one = match select_lost(set, text) {
            Some(gone) => gone,
            None => select(set, &options.scope, text, &super::show::parse_time)?,
        };
        if !chosen.iter().any(|other| other.id == one.id) {
            chosen.push(one);
        }
    }
    let reason = vec!["asked for".to_owned()];
    let mut stacks: Vec<JudgedStack> = Vec::new();
    for snapshot in chosen {
        let judged = JudgedSnapshot { snapshot: snapshot.into(), keep: false, reasons: reason.clone() };
        let (host, stack) = snapshot.manifest.lineage();
        match stacks.iter_mut().find(|one| (one.host.as_str(), one.stack.as_str()) == (host, stack)) {
            Some(one) => one.snapshots.push(judged),
            None => stacks.push(JudgedStack {
                host: host.to_owned(),
                stack: stack.to_owned(),
                snapshots: vec![judged],
                suspects: Vec::new(),
                held: false,
            }),
        }
    }
    Ok(stacks)
}

fn by_policy(set: &SnapshotSet, damaged: &BTreeSet<SnapshotId>, options: &ForgetOptions) -> Result<Vec<JudgedStack>> {
    if options.policy.is_empty() {
        return Err(Error::usage(
            "nothing says what to keep",
            "give --keep-daily 14 and the like, [retention] in snap.toml, or the ids of what to forget",
        ));
    }
    let mut lineages: BTreeMap<(&str, &str), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in set.snapshots.iter().filter(|s| options.scope.holds(s)) {
        lineages.entry(snapshot.manifest.lineage()).or_default().push(snapshot);
    }
    if lineages.is_empty() && options.scope != Scope::default() {
        let hint = "; `snap list` shows the stacks there are".to_owned();
        return Err(repo::Error::NoSnapshot { text: options.scope.typed(), hint }.into());
    }
    let (now, zone, accepted) = (Timestamp::now(), TimeZone::system(), set.marks.accepted());
    let one = |((host, stack), snapshots): ((&str, &str), Vec<&Snapshot>)| {
        let candidates: Vec<Candidate> = snapshots.iter().map(|s| candidate(s)).collect::<Result<_>>()?;
        let verdicts = judge(&options.policy, &candidates, now, &zone);
        let mut suspects = suspects(&candidates, &verdicts, &accepted, now);
        suspects.extend(relied_on(&candidates, &verdicts, damaged).filter(|one| !accepted.contains(&one.id)));
        Ok(JudgedStack {
            host: host.to_owned(),
            stack: stack.to_owned(),
            snapshots: snapshots.iter().zip(verdicts).map(|(s, verdict)| judged(s, verdict)).collect(),
            suspects: suspects.into_iter().map(|s| SuspectSnapshot { id: s.id.to_string(), what: s.what }).collect(),
            held: false,
        })
    };
    lineages.into_iter().map(one).collect()
}

/// The snapshots that are to stay, complete as it seems, and that the last check found damaged.
fn relied_on<'a>(
    candidates: &'a [Candidate],
    verdicts: &'a [Verdict],
    damaged: &'a BTreeSet<SnapshotId>,
) -> impl Iterator<Item = Suspect> + 'a {
    let stay = candidates.iter().zip(verdicts).filter(|(one, verdict)| one.complete && verdict.keeps());
    let what = "the last check found damage in it; `snap repair` mends what can be, `snap check` looks again";
    let suspect = move |id| Suspect { id, what: what.to_owned() };
    stay.filter(|(one, _)| damaged.contains(&one.id)).map(move |(one, _)| suspect(one.id))
}

fn candidate(snapshot: &Snapshot) -> Result<Candidate> {
    let manifest = &snapshot.manifest;
    let time = manifest.time.parse::<Timestamp>().map_err(|_| crate::repo::Error::Damaged {
        object: format!("snapshot {}", snapshot.id.short()),
        what: format!("“{}” is no time", manifest.time),
    })?;
    let (tags, complete, bytes) = (manifest.tags.clone(), manifest.complete, manifest.bytes());
    let folder = folder_of(manifest).map(str::to_owned);
    Ok(Candidate { id: snapshot.id, time, folder, tags, complete, bytes })
}

fn judged(snapshot: &Snapshot, verdict: Verdict) -> JudgedSnapshot {
    let (keep, reasons) = match verdict {
        Verdict::Keep(reasons) => (true, reasons),
        Verdict::Drop(reason) => (false, vec![reason]),
    };
    JudgedSnapshot { snapshot: snapshot.into(), keep, reasons }
}

/// Takes forgotten snapshots back.
///
/// # Errors
/// A name fits no forgotten snapshot; the key is a writer's; the store refuses.
pub fn undelete(repository: &Repository, ids: &[String]) -> Result<UndeleteReport> {
    repository.require_owner("take snapshots back")?;
    let set = repository.snapshots()?;
    let chosen = ids.iter().map(|text| Ok(select_forgotten(&set, text)?)).collect::<Result<Vec<&Snapshot>>>()?;
    let ids: Vec<SnapshotId> = chosen.iter().map(|snapshot| snapshot.id).collect();
    let mark = repository.undelete(&set, &ids, &stamp())?.to_string();
    Ok(UndeleteReport { snapshots: chosen.into_iter().map(Into::into).collect(), mark })
}
