//! `snap repair`: takes back what is damaged or missing.

use super::env::now_text;
use super::{Env, Error, Result};
use crate::id::ChunkId;
use crate::repo::config::Config;
use crate::repo::keys::read_keys;
use crate::repo::needs::Needs;
use crate::repo::repair::{self, RepairReport};
use crate::repo::writer::Session;
use crate::repo::{self, Repository, read_config_bytes};
use crate::stack::capture::{self, FolderOptions, capture_folder};
use crate::stack::files::Excludes;
use crate::store::{self, ReadStore, Store};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// A replica.
    pub from: Option<String>,
    /// A folder that still has some of what is lost.
    pub from_source: Option<PathBuf>,
    /// Read all packs whole first.
    pub read_data: bool,
}

/// zstd level of what is stored again.
const LEVEL: i32 = 3;

/// Repairs the repository, or says what it would do.
///
/// # Errors
/// The replica is another repository, a store does not answer, or the person stopped it.
pub fn repair(env: &Env, repository: &Repository, options: &RepairOptions) -> Result<RepairReport> {
    let replica = options.from.as_deref().map(|place| open_replica(env, repository, place)).transpose()?;
    if let Some(folder) = options.from_source.as_deref().filter(|folder| !folder.is_dir()) {
        let hint = "give a folder that still holds the files, as --from-source DIR";
        return Err(Error::usage(format!("there is no folder {}", folder.display()), hint));
    }
    let own = repair::RepairOptions {
        dry_run: options.dry_run,
        from: replica.as_ref().map(|replica| &**replica as &dyn ReadStore),
        read_data: options.read_data,
        now: jiff::Timestamp::now().as_second(),
    };
    let recapture = |wanted: &HashSet<ChunkId>| -> repo::Result<u64> {
        match &options.from_source {
            Some(folder) => store_again(env, repository, folder, wanted, options.dry_run),
            None => Ok(0),
        }
    };
    Ok(repair::repair(repository, &own, Some(&recapture), &*env.monitor)?)
}

fn open_replica(env: &Env, repository: &Repository, place: &str) -> Result<Arc<dyn Store>> {
    let replica = replica_at(env, place)?;
    match Config::decode(&replica.address(), &read_config_bytes(&*replica)?)?.repository == repository.id() {
        true => Ok(replica),
        false => Err(repo::Error::OtherRepository { address: replica.address() }.into()),
    }
}

/// The store of the replica at `place`.
fn replica_at(env: &Env, place: &str) -> Result<Arc<dyn Store>> {
    let location = env.place(place)?;
    if location == env.location()? {
        return Err(Error::usage("the replica is the repository itself", "name another place with --from"));
    }
    let replica = store::open(&location, &env.monitor)?;
    match read_config_bytes(&*replica) {
        Err(repo::Error::NoRepository { address }) => {
            let message = format!("there is no repository at {address} to repair from");
            Err(Error::usage(message, "name a replica of this repository with --from"))
        }
        _ => Ok(replica),
    }
}

/// Opens the repository to be repaired; where its own key files are damaged or gone, with those of the replica.
///
/// # Errors
/// Neither opens it, or the replica is another repository.
pub fn open(env: &Env, from: Option<&str>) -> Result<Repository> {
    let error = match (env.open(), from) {
        (Err(error), Some(_)) if is_locked_out(&error) => error,
        (opened, _) => return opened,
    };
    let Some(replica) = from.map(|place| replica_at(env, place)).transpose()? else { return Err(error) };
    let keys = read_keys(&*replica)?;
    if keys.is_empty() {
        return Err(error);
    }
    env.open_with(&keys)
}

/// True if the repository is there, and its own keys do not open it.
fn is_locked_out(error: &Error) -> bool {
    match error {
        Error::Repo(repo::Error::WrongKey { .. } | repo::Error::NoRepository { .. }) => true,
        Error::Repo(repo::Error::Damaged { object, .. }) => object.starts_with("keys"),
        _ => false,
    }
}

/// Reads `folder` as a capture does, and stores what is wanted of it and nothing else; in a dry run not even that.
fn store_again(
    env: &Env,
    repository: &Repository,
    folder: &Path,
    wanted: &HashSet<ChunkId>,
    dry_run: bool,
) -> repo::Result<u64> {
    if !dry_run {
        repository.sync_for_writing(&*env.monitor)?;
    }
    let session = Session::begin(repository, LEVEL)?;
    let session = if dry_run { session.only_look(wanted.clone()) } else { session.only(wanted.clone()) };
    let name = format!("repair-{}.state", now_text().replace([':', '.'], "-"));
    let folder_options = FolderOptions {
        name: folder.display().to_string(),
        exclude: Excludes::default(),
        one_file_system: false,
        skip: env.own_folders(repository, folder).unwrap_or_default(),
        // None is there: every file is read.
        state: repository.catalog().folder().join(name),
        workers: std::thread::available_parallelism().map_or(1, usize::from).min(crate::limits::WORKERS_MAX),
    };
    let mut needs = Needs::default();
    let root = std::path::absolute(folder).map_err(|source| local(folder, source))?;
    capture_folder(repository, &session, &root, &folder_options, &mut needs, &*env.monitor).map_err(
        |error| match error {
            capture::Error::Repo(error) => error,
            other => local(folder, std::io::Error::other(other.to_string())),
        },
    )?;
    if !dry_run {
        session.checkpoint()?;
    }
    Ok(session.chunks_added())
}

fn local(folder: &Path, source: std::io::Error) -> repo::Error {
    repo::Error::Local { operation: "read", path: folder.to_path_buf(), source }
}
