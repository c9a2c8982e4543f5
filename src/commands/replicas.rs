//! What this machine remembers of replicas, for `status` and for captures, which leave them out.
//!
//! A replica is known by its whole address, so that two folders that were typed alike are two. What is remembered
//! lies in the catalog: it can be lost with it, and the next replication remembers it anew.

use super::replicate::{Replica, Target};
use super::runs::forget;
use super::settings::{self, Settings};
use super::{Env, Result};
use crate::catalog::{Catalog, Place};
use crate::id::{RepositoryId, SnapshotId};
use crate::repo::config::Config;
use crate::repo::leave_out::LeaveOut;
use crate::repo::read_config_bytes;
use crate::store::{LocalStore, Location, Store};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What this machine remembers of a replica.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LastReplication {
    /// Its name in `snap.toml`; its address where it had none.
    pub name: String,
    /// Its whole address.
    pub address: String,
    /// When it last ended well, in seconds since 1970.
    pub at: i64,
    /// Snapshots that it has.
    pub snapshots: u64,
    /// Snapshots that it lacks, and objects that could not be copied.
    pub lacks: u64,
    /// Objects that are damaged there.
    pub damaged_there: u64,
    /// When what had been copied was last read back, in seconds since 1970.
    pub verified: Option<i64>,
    /// The ids of the snapshots that are here and there.
    pub ids: Vec<SnapshotId>,
    /// The ids of those that it has removed by its own retention.
    pub left_out: Vec<SnapshotId>,
    /// Snapshots that it has and this repository neither has nor has removed.
    pub only_there: u64,
    /// When the newest of these was made, RFC 3339.
    pub newest_only_there: Option<String>,
}

/// A disk that sleeps has answered by then.
const ANSWER_MAX: Duration = Duration::from_secs(15);

const KEPT: &str = "replicas";

/// Remembers what a replication of today says of a replica.
pub(super) fn remember(catalog: &Catalog, done: &Replica, left_out: &LeaveOut) {
    let (now, report) = (jiff::Timestamp::now().as_second(), &done.report);
    let mut all = last_replications(catalog);
    let is_it = |one: &LastReplication| one.address == done.address;
    let before = all.iter().find(|one| is_it(one)).and_then(|before| before.verified);
    all.retain(|one| !is_it(one));
    let read_back = (report.verified > 0 && report.replica_damaged.is_empty()).then_some(now);
    all.push(LastReplication {
        name: done.name.clone(),
        address: done.address.clone(),
        at: now,
        snapshots: report.replica_snapshots,
        lacks: report.behind + report.damaged.len() as u64 + report.replica_damaged.len() as u64,
        damaged_there: report.replica_damaged.len() as u64,
        verified: read_back.or(before),
        ids: report.ids_there.clone(),
        left_out: left_out.snapshots.iter().copied().collect(),
        only_there: done.only_there,
        newest_only_there: done.newest_only_there.clone(),
    });
    keep(catalog, &all);
}

fn keep(catalog: &Catalog, all: &[LastReplication]) {
    if let Ok(text) = serde_json::to_vec(all) {
        // It is for `status`; the copy is what counts.
        let _ = catalog.set_value(KEPT, &text);
    }
}

/// What this machine remembers of replicas.
pub fn last_replications(catalog: &Catalog) -> Vec<LastReplication> {
    let kept = catalog.value(KEPT).ok().flatten();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Drops from memory the replicas called `text` or at that place, and gives their addresses; `text` of one that
/// never worked. What is there stays.
///
/// # Errors
/// There is no repository, or no catalog of it.
pub fn drop_replica(env: &Env, text: &str) -> Result<Vec<String>> {
    let from = env.store()?;
    let id = Config::decode(&from.address(), &read_config_bytes(&*from)?)?.repository;
    let catalog = catalog_of(env, &*from, id)?;
    let address = env.place(text).map(|place| place.whole_address()).unwrap_or_default();
    let is_it = |one: &LastReplication| one.name == text || one.address == address;
    let (gone, rest): (Vec<_>, Vec<_>) = last_replications(&catalog).into_iter().partition(is_it);
    keep(&catalog, &rest);
    let repository = env.location()?.settled();
    let names = gone.iter().flat_map(|one| [&one.name, &one.address]).map(String::as_str).chain([text, &address]);
    let failed = names.filter(|name| forget(env, &repository, "replicate", name)).count() > 0;
    // One that never worked is remembered only for its failure.
    let never_worked = failed && gone.is_empty();
    Ok(gone.into_iter().map(|one| one.address).chain(never_worked.then(|| text.to_owned())).collect())
}

/// The catalog of the repository `id` in `store`; no key is needed for it.
pub(super) fn catalog_of(env: &Env, store: &dyn Store, id: RepositoryId) -> Result<Catalog> {
    let folder = env.cache_folder(id)?.join(id.to_string());
    Ok(Catalog::open(&folder, id, Place { address: store.address(), bytes: store.body() })?)
}

/// The folders in which replicas of the repository `id` are: those of the settings in `root`, and those remembered.
pub(super) fn folders_of(catalog: &Catalog, id: RepositoryId, root: &Path) -> Vec<PathBuf> {
    // Settings that cannot be understood are told by the commands that need them.
    let targets = settings::read(root).and_then(|settings| settings.replicas(root)).unwrap_or_default();
    let named = targets.into_iter().map(|target| target.address);
    let all = named.chain(last_replications(catalog).into_iter().map(|one| one.address));
    let folders = all.filter_map(|text| Some(Location::parse(&text, None).ok()?.folder()?.to_path_buf()));
    folders.filter(|folder| is_replica(folder.clone(), id)).collect()
}

fn is_replica(folder: PathBuf, id: RepositoryId) -> bool {
    let config = in_time(move || read_config_bytes(&LocalStore::at(folder)).ok()).flatten();
    config.and_then(|bytes| Config::decode("", &bytes).ok()).is_some_and(|config| config.repository == id)
}

/// What `work` finds, unless it takes too long: a server of files that is gone may never answer, and neither a
/// capture nor `status` may hang for a replica there.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = sender.send(work());
    });
    receiver.recv_timeout(ANSWER_MAX).ok()
}

/// True unless it is a folder that is not there now; whether a bucket answers is not asked.
pub(super) fn is_there(address: &str) -> bool {
    match Location::parse(address, None) {
        Ok(Location::Folder(path)) => in_time(move || path.join("config").exists()).unwrap_or(false),
        _ => true,
    }
}

/// How the settings here call the replica at `address`.
pub(super) fn name_of<'s>(settings: &'s [Target], env: &Env, address: &str) -> Option<&'s str> {
    let is_it = |target: &&Target| target.place(env).is_ok_and(|place| place.whole_address() == address);
    settings.iter().find(is_it).map(|target| target.name.as_str())
}

/// The replicas that the settings here name; none where they cannot be understood.
pub(super) fn named_here() -> Vec<Target> {
    let read = settings::read(Path::new("."));
    read.and_then(|settings: Settings| settings.replicas(Path::new("."))).unwrap_or_default()
}
