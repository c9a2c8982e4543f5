//! `snap replicate`: a copy of the repository elsewhere, kept up to date.

use super::settings::Settings;
use super::{Env, Error, Result};
use crate::catalog::{Catalog, Place};
use crate::crypto::secrets::Role;
use crate::id::SnapshotId;
use crate::repo::config::Config;
use crate::repo::leave_out::LeaveOut;
use crate::repo::replicate::{self, ReplicateOptions, ReplicateReport};
use crate::repo::{self, read_config_bytes};
use crate::store::{self, Key, Kind, Location, Store};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A place for a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in `snap.toml`; the address where it has none.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The server of a bucket, if not the usual one.
    pub endpoint: Option<String>,
    /// At most so many bytes a second.
    pub bytes_per_second: Option<u64>,
    /// Read back what is copied.
    pub verify: bool,
}

/// What became of one replica.
#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// What was done.
    #[serde(flatten)]
    pub report: ReplicateReport,
    /// When the newest snapshot here was made, RFC 3339. It is not known where no command that has a key
    /// has read that snapshot on this machine.
    pub newest_here: Option<String>,
    /// The same of the newest snapshot that the replica has, after it.
    pub newest_there: Option<String>,
}

/// What this machine remembers of a replica.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastReplication {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// When it last ended well, in seconds since 1970.
    pub at: i64,
    /// Snapshots that it has.
    pub snapshots: u64,
    /// Snapshots that it lacks, and objects that could not be copied.
    pub lacks: u64,
    /// When what had been copied was last read back, in seconds since 1970.
    #[serde(default)]
    pub verified: Option<i64>,
    /// The ids of the snapshots that are here and there.
    #[serde(default)]
    pub ids: Vec<SnapshotId>,
    /// The ids of those that it has removed by its own retention.
    #[serde(default)]
    pub left_out: Vec<SnapshotId>,
}

const KEPT: &str = "replicas";

/// The replicas that are meant: one by name or address, or all of `snap.toml`.
///
/// # Errors
/// None is named, or `all` and there are none.
pub fn targets(settings: &Settings, named: Option<&str>, all: bool) -> Result<Vec<Target>> {
    let known = || settings.replicas();
    match (named, all) {
        (Some(text), false) => match known()?.into_iter().find(|target| target.name == text) {
            Some(target) => Ok(vec![target]),
            None => Ok(vec![Target {
                name: text.to_owned(),
                address: text.to_owned(),
                endpoint: None,
                bytes_per_second: None,
                verify: false,
            }]),
        },
        (None, true) => match known()? {
            none if none.is_empty() => Err(Error::usage(
                "there is no replica in snap.toml",
                "add [replica.NAME] with url = \"…\", or give a place",
            )),
            several => Ok(several),
        },
        _ => Err(Error::usage("it is not said where to", "give a place, a name from snap.toml, or --all")),
    }
}

/// Brings one replica up to date.
///
/// # Errors
/// There is no repository, the replica is another one or the same place, or it cannot be written.
pub fn replicate(env: &Env, target: &Target, options: &ReplicateOptions) -> Result<Replica> {
    let from = env.store()?;
    let place = match &target.endpoint {
        Some(endpoint) => Location::parse(&target.address, Some(endpoint))
            .map_err(|error| Error::usage(error.to_string(), "see [replica.NAME] in snap.toml"))?,
        None => env.place(&target.address)?,
    };
    let id = Config::decode(&from.address(), &read_config_bytes(&*from)?)?.repository;
    refuse_same(&env.location()?, &place)?;
    let to = store::open(&place)?;
    let prepare = || -> repo::Result<()> { Ok(to.prepare()?) };
    refuse_foreign(&*to)?;
    let options = ReplicateOptions {
        verify: options.verify || target.verify,
        bytes_per_second: options.bytes_per_second.or(target.bytes_per_second),
        leave_out: left_out(env, &from, &to).unwrap_or_default(),
    };
    let report = replicate::replicate(&*from, &*to, &prepare, &options, &*env.monitor)?;
    let cache = env.cache_folder(id)?.join(id.to_string());
    let place = Place { address: from.address(), bytes: from.body() };
    // What is remembered is for `status`; the copy is what counts.
    let catalog = Catalog::open(&cache, id, place).ok();
    let times = catalog.as_ref().map(times).unwrap_or_default();
    let newest = |ids: &[SnapshotId]| {
        let known: Option<Vec<&String>> = ids.iter().map(|id| times.get(id)).collect();
        known.and_then(|times| times.into_iter().max().cloned())
    };
    let (newest_here, newest_there) = (newest(&report.ids), newest(&report.ids_there));
    if let Some(catalog) = &catalog {
        remember(catalog, target, &report, &options.leave_out);
    }
    Ok(Replica { name: target.name.clone(), address: target.address.clone(), report, newest_here, newest_there })
}

fn remember(catalog: &Catalog, target: &Target, report: &ReplicateReport, left_out: &LeaveOut) {
    let now = jiff::Timestamp::now().as_second();
    let mut all = last_replications(catalog);
    let before = all.iter().position(|one| one.name == target.name).map(|at| all.remove(at));
    let read_back = (report.verified > 0 && report.replica_damaged.is_empty()).then_some(now);
    all.push(LastReplication {
        name: target.name.clone(),
        address: target.address.clone(),
        at: now,
        snapshots: report.replica_snapshots,
        lacks: report.behind + report.damaged.len() as u64 + report.replica_damaged.len() as u64,
        verified: read_back.or(before.and_then(|before| before.verified)),
        ids: report.ids_there.clone(),
        left_out: left_out.snapshots.iter().copied().collect(),
    });
    if let Ok(text) = serde_json::to_vec(&all) {
        let _ = catalog.set_value(KEPT, &text);
    }
}

/// When the snapshots were made that this machine has read.
fn times(catalog: &Catalog) -> HashMap<SnapshotId, String> {
    #[derive(Deserialize)]
    struct Head {
        time: String,
    }
    let rows = catalog.snapshots().unwrap_or_default().into_iter();
    let known = rows.filter_map(|row| Some((row.id, serde_json::from_slice::<Head>(&row.manifest).ok()?.time)));
    known.collect()
}

/// What this machine remembers of replicas.
pub fn last_replications(catalog: &Catalog) -> Vec<LastReplication> {
    let kept = catalog.value(KEPT).ok().flatten();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// What the replica has removed by a retention of its own; `None` if that cannot be known: without an owner's key,
/// which is not asked for, it is copied again.
fn left_out(env: &Env, from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Option<LeaveOut> {
    let records = |store: &dyn Store| -> Option<HashSet<Key>> {
        Some(store.list(Kind::Removal).ok()?.objects.into_iter().map(|object| object.key).collect())
    };
    if records(&**to)?.is_subset(&records(&**from)?) {
        return None;
    }
    let open = |store: &Arc<dyn Store>| {
        let repository = env.open_silently(store).ok()?;
        (repository.secrets().role() == Role::Owner).then_some(repository)
    };
    let removed = open(to)?.snapshots().ok()?.removed;
    open(from)?.leave_out(&removed).ok()
}

fn refuse_same(from: &Location, to: &Location) -> Result<()> {
    let same = match (from, to) {
        (Location::Folder(a), Location::Folder(b)) => {
            matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
        }
        (a, b) => a == b,
    };
    match same {
        true => Err(Error::usage("the replica is the repository itself", "give another place")),
        false => Ok(()),
    }
}

/// A place with something in it that is no repository is not taken over.
fn refuse_foreign(to: &dyn Store) -> Result<()> {
    match to.stranger() {
        Ok(Some(name)) if read_config_bytes(to).is_err() => Err(Error::usage(
            format!("{} is not empty: it has {name}", to.address()),
            "give an empty place, or one that does not exist yet",
        )),
        // Whatever keeps it from being listed is met again, and told, by the replication.
        _ => Ok(()),
    }
}
