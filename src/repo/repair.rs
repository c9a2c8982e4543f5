//! Mending a repository: taking back from a replica what is damaged or missing, listing again what a lost
//! index object listed, storing again what live files still hold.
//!
//! Nothing that is there is lost by it. A damaged object is replaced in one step, and only by bytes that
//! fit its name; what it was stays under `damaged/`. One that nothing can replace stays where it is: half
//! a pack still restores half of what it holds. Each step can be the last one that happens, and the next
//! run goes on.
//!
//! The order: `config` and keys, which open it (`mend_keys`); manifests and records, which say what is needed; packs; index objects, which owners can
//! make anew from the packs; chunks from live files.

use super::check::{CheckOptions, CheckReport, Problem, Reading, Severity, check};
use super::manifest::Need;
use super::mend_keys::{mend_config, mend_keys};
use super::sync::Chain;
use super::{Error, Repository, Result};
use crate::id::{ChunkId, PackId, SnapshotId, object_name};
use crate::monitor::{Monitor, Quiet, Unit};
use crate::store::{self, Key, Kind, ReadStore};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Kinds of small objects, in the order in which they are mended.
const SMALL_KINDS: [Kind; 4] = [Kind::Snapshot, Kind::Removal, Kind::Log, Kind::Index];
/// Chunks that were found may be of trees, and name others.
const ROUNDS_MAX: usize = 4;

/// How to repair.
#[derive(Clone, Copy, Default)]
pub struct RepairOptions<'a> {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Where there is a replica.
    pub from: Option<&'a dyn ReadStore>,
    /// Read all packs whole, to find what nobody has noticed yet.
    pub read_data: bool,
    /// The present, in seconds since 1970.
    pub now: i64,
}

/// What becomes of a damaged or missing object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It was taken from the replica.
    Fetched,
    /// The replica has it whole.
    CanBeFetched,
    /// It is not needed any more: what it listed is listed elsewhere. It is kept under `damaged/`.
    SetAside,
    /// What it listed is or can be listed again.
    CanBeSetAside,
    /// An owner knows what it said, and it was written again.
    Written,
    /// An owner knows what it said.
    CanBeWritten,
    /// Nothing at hand has it.
    Left,
}

/// One object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// Its path.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What becomes of it.
    pub state: State,
    /// Why nothing better does, if the replica does not have it as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Under which path of the repository what was there is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
}

/// What a repair did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RepairReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Objects that were not as they should be.
    pub objects: Vec<Mended>,
    /// Packs that are, or would be, listed again.
    pub relisted: u64,
    /// Chunks that no sound pack holds, before live files were looked at.
    pub chunks_lost: u64,
    /// Chunks of those that live files still hold, and that are, or would be, stored again.
    pub chunks_stored: u64,
    /// What is damaged still, by snapshot and path; in a dry run, now.
    pub problems: Vec<Problem>,
}

impl RepairReport {
    /// True if something can be done.
    pub fn has_work(&self) -> bool {
        self.relisted > 0 || self.chunks_stored > 0 || self.objects.iter().any(|one| one.state != State::Left)
    }

    /// True if something is damaged still.
    pub fn is_damaged(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Damage)
    }
}

/// Stores again those of some chunks that live files still hold, and says how many; in a dry run it only looks.
pub type Recapture<'a> = &'a dyn Fn(&HashSet<ChunkId>) -> Result<u64>;

/// An object that is not as it should be.
struct Fault {
    key: Key,
    /// True if something is there under its name.
    there: bool,
    problem: String,
}

/// Repairs the repository, or says what it would do.
///
/// # Errors
/// The key at hand is a writer's, a store does not answer, or the person stopped it. What cannot be mended
/// is in the report.
pub fn repair(
    repository: &Repository,
    options: &RepairOptions<'_>,
    recapture: Option<Recapture<'_>>,
    monitor: &dyn Monitor,
) -> Result<RepairReport> {
    repository.require_owner("repair")?;
    let mut run = Run { repository, options, monitor, report: RepairReport::default() };
    run.report.dry_run = options.dry_run;
    run.report.objects.extend(mend_config(repository, options.dry_run)?);
    run.report.objects.extend(mend_keys(repository, options.from, options.dry_run)?);
    let mut found = run.check(options.read_data)?;
    let faults = run.small_faults()?;
    run.mend(faults)?;
    let mut faults = run.pack_faults()?;
    if found.is_damaged() && !options.read_data && faults.is_empty() && run.report.objects.is_empty() {
        // Something is damaged, and what it is only reading tells.
        found = run.check(true)?;
        faults = run.pack_faults()?;
    }
    run.mend(faults)?;
    run.relist()?;
    run.set_indexes_aside()?;
    if !options.dry_run {
        found = run.check(false)?;
    }
    run.report.chunks_lost = found.lost_chunks.len() as u64;
    if let Some(recapture) = recapture {
        for _ in 0..ROUNDS_MAX {
            let stored = if found.lost_chunks.is_empty() { 0 } else { recapture(&found.lost_chunks)? };
            run.report.chunks_stored += stored;
            // Without storing them, what found chunks of trees name is not known.
            if stored == 0 || options.dry_run {
                break;
            }
            found = run.check(false)?;
        }
    }
    run.report.problems = found.problems;
    run.report.problems.extend(repository.config_problem().filter(|_| options.dry_run).map(|problem| Problem {
        severity: Severity::Damage,
        object: Key::Config.path(),
        message: problem.to_owned(),
    }));
    run.report.objects.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(run.report)
}

struct Run<'a> {
    repository: &'a Repository,
    options: &'a RepairOptions<'a>,
    monitor: &'a dyn Monitor,
    report: RepairReport,
}

impl Run<'_> {
    /// What is damaged, by snapshot and path; the ledger learns which packs are.
    fn check(&self, read_data: bool) -> Result<CheckReport> {
        let read = read_data.then(Reading::default);
        check(self.repository, &CheckOptions { read, now: self.options.now }, self.monitor)
    }

    /// Manifests, records and index objects whose bytes do not fit their names, and manifests that are gone.
    fn small_faults(&self) -> Result<Vec<Fault>> {
        let store = self.repository.store();
        let mut faults = Vec::new();
        for kind in SMALL_KINDS {
            for object in store.list(kind)?.objects {
                let Key::Object(_, name) = &object.key else { continue };
                let problem = match store.get(&object.key) {
                    Ok(bytes) if object_name(&bytes) == *name => continue,
                    Ok(_) => "its bytes do not fit its name".to_owned(),
                    Err(store::Error::NotFound { .. }) => continue,
                    Err(error) if error.is_outage() => return Err(error.into()),
                    Err(error) => Chain(&error).to_string(),
                };
                faults.push(Fault { key: object.key, there: true, problem });
            }
        }
        let set = self.repository.snapshots()?;
        let known: HashSet<SnapshotId> = set.snapshots.iter().chain(&set.forgotten).map(|s| s.id).collect();
        let is_lost = |id: &SnapshotId| {
            !known.contains(id) && !set.removed.contains_key(id) && !set.unreadable.iter().any(|one| one.id == *id)
        };
        let before = set.snapshots.iter().flat_map(|snapshot| snapshot.manifest.predecessors.iter().copied());
        let seen = set.vanished.iter().map(|snapshot| snapshot.id);
        let there = self.snapshots_of_the_replica()?;
        let lost: BTreeSet<SnapshotId> = seen.chain(before).chain(there).filter(is_lost).collect();
        for id in lost {
            faults.push(Fault { key: Key::from(id), there: false, problem: "it is missing".to_owned() });
        }
        Ok(faults)
    }

    /// The newest snapshot is missed by nobody here who has not seen it: only the replica tells of it. One that
    /// was removed here has a record that says so.
    fn snapshots_of_the_replica(&self) -> Result<Vec<SnapshotId>> {
        let Some(from) = self.options.from else { return Ok(Vec::new()) };
        let listed = from.list(Kind::Snapshot)?.objects.into_iter();
        Ok(listed
            .filter_map(|object| if let Key::Object(_, name) = object.key { Some(SnapshotId(name)) } else { None })
            .collect())
    }

    /// Packs that snapshots need and that are missing, those that are cut short, and those that were found
    /// damaged when they were read.
    fn pack_faults(&self) -> Result<Vec<Fault>> {
        let repository = self.repository;
        let sizes = repository.pack_sizes()?;
        let bad = repository.catalog().bad_packs()?;
        let mut faults: BTreeMap<PackId, (bool, &str)> = BTreeMap::new();
        for pack in repository.catalog().packs()? {
            if sizes.get(&pack.id).is_some_and(|bytes| *bytes != pack.sealed_bytes) {
                faults.insert(pack.id, (true, "it has another length than it should have"));
            }
        }
        for id in bad.into_keys().filter(|id| sizes.contains_key(id)) {
            faults.entry(id).or_insert((true, "its bytes are not those that were stored"));
        }
        for id in self.needed()?.into_iter().filter(|id| !sizes.contains_key(id)) {
            faults.insert(id, (false, "it is missing"));
        }
        let fault = |(id, (there, problem)): (PackId, (bool, &str))| Fault {
            key: Key::from(id),
            there,
            problem: problem.to_owned(),
        };
        Ok(faults.into_iter().map(fault).collect())
    }

    /// Packs that have what snapshots name, forgotten ones too.
    fn needed(&self) -> Result<HashSet<PackId>> {
        let set = self.repository.snapshots()?;
        let sizes = self.repository.pack_sizes()?;
        let needs: Vec<&Need> =
            set.snapshots.iter().chain(&set.forgotten).flat_map(|snapshot| &snapshot.manifest.needs).collect();
        self.repository.packs_of(&needs, &|id| sizes.contains_key(id))
    }

    fn mend(&mut self, faults: Vec<Fault>) -> Result<()> {
        self.monitor.phase("mending", Unit::Items, Some(faults.len() as u64));
        for fault in faults {
            if self.monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            let mended = self.mend_one(fault)?;
            self.report.objects.push(mended);
            self.monitor.advance(1);
        }
        Ok(())
    }

    fn mend_one(&self, fault: Fault) -> Result<Mended> {
        let Fault { key, there, problem } = fault;
        let mended =
            |state, reason, aside| Mended { object: key.path(), problem: problem.clone(), state, reason, aside };
        let bytes = match self.copy_of(&key)? {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(mended(State::Left, reason, None)),
        };
        if self.options.dry_run {
            return Ok(mended(State::CanBeFetched, None, None));
        }
        let store = self.repository.store();
        let mut aside = None;
        if there {
            aside = Some(store.keep_aside(&key)?);
            store.overwrite(&key, &bytes)?;
        } else {
            store.put(&key, &bytes)?;
        }
        if let Key::Object(Kind::Pack, name) = key {
            self.repository.catalog().note_readings(&[PackId(name)], &[], self.options.now)?;
        }
        Ok(mended(State::Fetched, None, aside))
    }

    /// The object's bytes from the replica, or why they cannot be had there.
    fn copy_of(&self, key: &Key) -> Result<std::result::Result<Vec<u8>, Option<String>>> {
        let (Some(from), Key::Object(_, name)) = (self.options.from, key) else { return Ok(Err(None)) };
        Ok(match from.get(key) {
            Ok(bytes) if object_name(&bytes) == *name => Ok(bytes),
            Ok(_) => Err(Some("it is damaged in the replica too".to_owned())),
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(store::Error::NotFound { .. }) => Err(Some("the replica does not have it".to_owned())),
            Err(error) => Err(Some(Chain(&error).to_string())),
        })
    }

    /// Lists again what snapshots need and no index lists.
    fn relist(&mut self) -> Result<()> {
        // The catalog may have read an index object while it was whole.
        self.repository.relearn()?;
        let before = self.unlisted()?;
        self.report.relisted = before;
        if !self.options.dry_run && before > 0 {
            let sizes = self.repository.pack_sizes()?;
            self.repository.relist(&sizes, &Quiet::default())?;
            self.report.relisted = before - self.unlisted()?;
        }
        Ok(())
    }

    /// How many packs are there that snapshots need and no index lists.
    fn unlisted(&self) -> Result<u64> {
        let listed = self.listed()?;
        let sizes = self.repository.pack_sizes()?;
        Ok(self.needed()?.iter().filter(|id| sizes.contains_key(id) && !listed.contains(id)).count() as u64)
    }

    fn listed(&self) -> Result<HashSet<PackId>> {
        Ok(self.repository.catalog().packs()?.into_iter().map(|pack| pack.id).collect())
    }

    /// Index objects that cannot be read and that nothing can replace are of no use once all that they may
    /// have listed is listed elsewhere.
    fn set_indexes_aside(&mut self) -> Result<()> {
        let repository = self.repository;
        let all_listed = self.unlisted()? == 0;
        let prefix = format!("{}/", Kind::Index.folder());
        for one in self.report.objects.iter_mut() {
            if one.state != State::Left || !one.object.starts_with(&prefix) {
                continue;
            }
            let Some(key) = Key::parse_object(Kind::Index, &one.object[prefix.len()..]) else { continue };
            if self.options.dry_run {
                one.state = State::CanBeSetAside;
            } else if all_listed {
                one.aside = Some(repository.store().keep_aside(&key)?);
                repository.store().remove(&key)?;
                one.state = State::SetAside;
            }
        }
        Ok(())
    }
}
