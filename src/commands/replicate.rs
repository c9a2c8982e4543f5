//! `snap replicate`: a copy of the repository elsewhere, kept up to date.

use super::replicas::{catalog_of, remember};
use super::settings::Settings;
use super::{Env, Error, Result};
use crate::catalog::Catalog;
use crate::crypto::secrets::Role;
use crate::id::SnapshotId;
use crate::repo::config::Config;
use crate::repo::leave_out::LeaveOut;
use crate::repo::replicate::{self, NotCopied, ReplicateOptions, ReplicateReport};
use crate::repo::{self, read_config_bytes};
use crate::store::{self, Key, Kind, Location, Store};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::Path;
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
    /// True if `snap.toml` names it.
    pub named: bool,
}

impl Target {
    /// The place that it names.
    ///
    /// # Errors
    /// Its address is none.
    pub fn place(&self, env: &Env) -> Result<Location> {
        match &self.endpoint {
            Some(endpoint) => Location::parse(&self.address, Some(endpoint))
                .map_err(|error| Error::usage(error.to_string(), "see [replica.NAME] in snap.toml")),
            None => env.place(&self.address),
        }
    }
}

/// What became of one replica.
#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Its whole address.
    pub address: String,
    /// Where the repository is.
    #[serde(skip)]
    pub repository: String,
    /// What was done.
    #[serde(flatten)]
    pub report: ReplicateReport,
    /// When the newest snapshot here was made, RFC 3339. It is not known where no command that has a key
    /// has read that snapshot on this machine.
    pub newest_here: Option<String>,
    /// The same of the newest snapshot that the replica has, after it.
    pub newest_there: Option<String>,
    /// Snapshots that it has and this repository does not have; those that it has removed do not count, where an
    /// owner's key is at hand that can tell.
    pub only_there: u64,
    /// When the newest of these was made, if that is known.
    pub newest_only_there: Option<String>,
}

/// The replicas that are meant: one by name or address, or all of `snap.toml`.
///
/// # Errors
/// None is named, none has that name, or `all` and there are none.
pub fn targets(env: &Env, settings: &Settings, named: Option<&str>, all: bool) -> Result<Vec<Target>> {
    let known = settings.replicas(Path::new("."))?;
    match (named, all) {
        (Some(text), false) => one(env, known, text).map(|target| vec![target]),
        (None, true) if known.is_empty() => Err(Error::usage(
            "there is no replica in snap.toml",
            "add [replica.NAME] with url = \"…\", or give a place",
        )),
        (None, true) => Ok(known),
        _ => Err(Error::usage("it is not said where to", "give a place, a name from snap.toml, or --all")),
    }
}

fn one(env: &Env, known: Vec<Target>, text: &str) -> Result<Target> {
    if let Some(target) = known.iter().find(|target| target.name == text) {
        return Ok(target.clone());
    }
    // A slip of the fingers must not make a new replica beside the one that is meant.
    if !known.is_empty() && !text.contains(['/', ':']) && !text.starts_with(['.', '~']) {
        let names: Vec<&str> = known.iter().map(|target| target.name.as_str()).collect();
        let message = format!("snap.toml names no replica “{text}”, but {}", names.join(", "));
        return Err(Error::usage(message, format!("give one of these names; write ./{text} for a folder")));
    }
    let address = env.place(text)?.whole_address();
    let same = |target: &Target| target.place(env).is_ok_and(|place| place.whole_address() == address);
    Ok(known.into_iter().find(same).unwrap_or_else(|| Target {
        name: address.clone(),
        address,
        endpoint: None,
        bytes_per_second: None,
        verify: false,
        named: false,
    }))
}

/// Brings one replica up to date.
///
/// # Errors
/// There is no repository, the replica is another one or not apart from it, or it cannot be written.
pub fn replicate(env: &Env, target: &Target, options: &ReplicateOptions) -> Result<Replica> {
    let from = env.store()?;
    let place = target.place(env)?;
    let id = Config::decode(&from.address(), &read_config_bytes(&*from)?)?.repository;
    refuse_inside(&env.location()?, &place)?;
    let to = store::open(&place, &env.monitor)?;
    let prepare = || -> repo::Result<()> { Ok(to.prepare()?) };
    refuse_foreign(&*to)?;
    let options = ReplicateOptions {
        verify: options.verify || target.verify,
        bytes_per_second: options.bytes_per_second.or(target.bytes_per_second),
        leave_out: left_out(env, &from, &to).unwrap_or_default(),
    };
    let mut report = replicate::replicate(&*from, &*to, &prepare, &options, &*env.monitor)?;
    report.replica_damaged.extend(config_damage(env, &from, &to, options.verify));
    let extra = only_there(env, &from, &to, &report.ids_only_there);
    // What is remembered is for `status`; the copy is what counts.
    let catalog = catalog_of(env, &*from, id).ok();
    let times = catalog.as_ref().map(times).unwrap_or_default();
    let newest = |ids: &[SnapshotId]| {
        let known: Option<Vec<&String>> = ids.iter().map(|id| times.get(id)).collect();
        known.and_then(|times| times.into_iter().max().cloned())
    };
    let all_there = [report.ids_there.as_slice(), &report.ids_only_there].concat();
    let done = Replica {
        name: target.name.clone(),
        address: place.whole_address(),
        repository: env.location()?.whole_address(),
        newest_here: newest(&report.ids),
        newest_there: newest(&all_there),
        only_there: extra.len() as u64,
        newest_only_there: newest(&extra),
        report,
    };
    if let Some(catalog) = &catalog {
        remember(catalog, &done, &options.leave_out);
    }
    Ok(done)
}

/// Of the snapshots `ids`, which the replica has and the repository has not, those that the repository has not
/// removed itself: it may be an old copy of what it was. With a key at hand their times are learnt.
fn only_there(env: &Env, from: &Arc<dyn Store>, to: &Arc<dyn Store>, ids: &[SnapshotId]) -> Vec<SnapshotId> {
    if ids.is_empty() {
        return Vec::new();
    }
    let read = |store: &Arc<dyn Store>| env.open_silently(store).ok()?.snapshots().ok();
    let removed = read(from).map(|set| set.removed).unwrap_or_default();
    let extra: Vec<SnapshotId> = ids.iter().copied().filter(|id| !removed.contains_key(id)).collect();
    if !extra.is_empty() {
        // The catalog remembers their times then; without a key they stay unknown.
        let _ = read(to);
    }
    extra
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

/// One fire must not take both, and neither may be copied into itself.
fn refuse_inside(from: &Location, to: &Location) -> Result<()> {
    let message = match (to.is_within(from), from.is_within(to)) {
        (true, true) => "the replica is the repository itself".to_owned(),
        (true, false) => format!("{to} lies inside the repository {from}"),
        (false, true) => format!("the repository {from} lies inside {to}"),
        (false, false) => return Ok(()),
    };
    Err(Error::usage(message, "give another place"))
}

/// What is wrong with the replica's `config`, if it is another one than here: a key tells which was altered; without
/// one, only that they differ.
fn config_damage(env: &Env, from: &Arc<dyn Store>, to: &Arc<dyn Store>, verify: bool) -> Option<NotCopied> {
    let (here, there) = (from.get(&Key::Config).ok()?, to.get(&Key::Config).ok()?);
    if here == there {
        return None;
    }
    let no_config = Config::decode(&to.address(), &there).is_err();
    let message = match env.open_silently(to) {
        Ok(replica) => replica.config_problem()?.to_owned(),
        Err(_) if no_config => "it is damaged: it is no configuration of a repository".to_owned(),
        Err(_) if verify => "it is another one than here: one of the two was altered".to_owned(),
        Err(_) => return None,
    };
    Some(NotCopied { object: Key::Config.path(), message })
}

/// A place with something in it that is no repository is not taken over.
fn refuse_foreign(to: &dyn Store) -> Result<()> {
    let config = read_config_bytes(to);
    if let Err(repo::Error::NotARepository { address }) = config {
        let message = format!("{address} is a file, or lies below one: no replica can be there");
        return Err(Error::usage(message, "give a folder, or one that does not exist yet"));
    }
    match to.stranger() {
        Ok(Some(name)) if config.is_err() => Err(Error::usage(
            format!("{} is not empty: it has {name}", to.address()),
            "give an empty place, or one that does not exist yet",
        )),
        // Whatever keeps it from being listed is met again, and told, by the replication.
        _ => Ok(()),
    }
}
