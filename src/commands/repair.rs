//! `snap repair`: takes back what is damaged or missing.

use super::env::now_text;
use super::{Env, Error, Result};
use crate::id::ChunkId;
use crate::repo::config::Config;
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
    let own = repair::RepairOptions {
        dry_run: options.dry_run,
        from: replica.as_ref().map(|replica| &**replica as &dyn ReadStore),
        read_data: options.read_data,
        now: jiff::Timestamp::now().as_second(),
    };
    let recapture = |wanted: &HashSet<ChunkId>| -> repo::Result<u64> {
        match &options.from_source {
            Some(folder) => store_again(env, repository, folder, wanted),
            None => Ok(0),
        }
    };
    Ok(repair::repair(repository, &own, Some(&recapture), &*env.monitor)?)
}

fn open_replica(env: &Env, repository: &Repository, place: &str) -> Result<Arc<dyn Store>> {
    let location = env.place(place)?;
    if location == env.location()? {
        return Err(Error::usage("the replica is the repository itself", "name another place with --from"));
    }
    let replica = store::open(&location, &env.monitor)?;
    match Config::decode(&replica.address(), &read_config_bytes(&*replica)?)?.repository == repository.id() {
        true => Ok(replica),
        false => Err(repo::Error::OtherRepository { address: replica.address() }.into()),
    }
}

/// Reads `folder` as a capture does, and stores what is wanted of it and nothing else.
fn store_again(env: &Env, repository: &Repository, folder: &Path, wanted: &HashSet<ChunkId>) -> repo::Result<u64> {
    repository.sync_for_writing(&*env.monitor)?;
    let session = Session::begin(repository, LEVEL)?.only(wanted.clone());
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
    session.checkpoint()?;
    Ok(session.chunks_added())
}

fn local(folder: &Path, source: std::io::Error) -> repo::Error {
    repo::Error::Local { operation: "read", path: folder.to_path_buf(), source }
}
