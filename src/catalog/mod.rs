//! The catalog: a local SQLite file that remembers what the repository holds.
//!
//! It is a cache and never the only place of anything: it can be deleted, damaged or out of date
//! at any time, and `repo` fills it again from the repository. What it says of a chunk's place
//! carries a check value, so that a damaged row is noticed instead of believed. It holds names of
//! hosts, stacks and files in plain, and is readable by its owner alone.

mod lookup;
mod rows;
mod schema;

pub use lookup::{Located, Lookup};
pub use rows::{PackRow, SnapshotRow};

use crate::fs::{PRIVATE_DIR, PRIVATE_FILE, create_dir_durable};
use crate::id::RepositoryId;
use crate::monitor::lock;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What went wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite failed; the catalog may be damaged.
    #[error("cannot {operation} in the catalog {}", path.display())]
    Sqlite {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row is not what was written.
    #[error("the catalog {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The catalog's folder or file cannot be made or used.
    #[error("cannot use {} for the catalog", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// True if the disk that it lies on is full.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Sqlite { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Error::Folder { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Error::Damaged { .. } => false,
        }
    }

    /// True if throwing the catalog away and filling it again would help.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, ReadOnly, SchemaChanged, Unknown};
        match self {
            Error::Damaged { .. } => true,
            Error::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(code) => matches!(code, DatabaseCorrupt | NotADatabase | ReadOnly | SchemaChanged | Unknown),
                // A column of another type, a missing row: not what this program wrote.
                None => true,
            },
            Error::Folder { .. } => false,
        }
    }
}

/// A catalog's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Where a repository is reached. What was read of one copy says nothing of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its address: snapshots that were seen there are missed there.
    pub address: String,
    /// Address and body: another folder that was put there has other bytes, none of them read.
    pub bytes: String,
}

/// An open catalog; threads may share it.
pub struct Catalog {
    place: Place,
    folder: PathBuf,
    path: PathBuf,
    repository: RepositoryId,
    connection: Mutex<Connection>,
    /// Raised after each change to what lookups answer from.
    changes: Arc<AtomicU64>,
}

impl Catalog {
    /// Opens the catalog of `repository`, which is reached at `place`, in `folder`, or makes it there. A file that is damaged, of
    /// another repository or of another version is replaced by an empty one.
    ///
    /// # Errors
    /// The folder cannot be used, or another process holds the file for a minute.
    pub fn open(folder: &Path, repository: RepositoryId, place: Place) -> Result<Self> {
        let unusable = |source| Error::Folder { path: folder.to_path_buf(), source };
        create_dir_durable(folder).map_err(unusable)?;
        let only_owner = std::fs::Permissions::from_mode(PRIVATE_DIR);
        std::fs::set_permissions(folder, only_owner).map_err(unusable)?;
        let path = folder.join("catalog.db");
        let connection = {
            let _alone = alone(folder);
            match connect(&path, repository) {
                Ok(connection) => connection,
                Err(error) if error.is_damage() => {
                    remove_files(&path);
                    connect(&path, repository)?
                }
                Err(error) => return Err(error),
            }
        };
        let connection = Mutex::new(connection);
        Ok(Self { place, folder: folder.to_path_buf(), path, repository, connection, changes: Arc::default() })
    }

    /// The key of a value that is true at this place alone.
    pub fn key_here(&self, key: &str) -> String {
        format!("{key} {}", self.place.bytes)
    }

    /// The folder, where other caches may lie too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps other processes of this user that share the catalog from doing the same until the result is dropped;
    /// nothing where the file system has no such locks.
    pub fn alone(&self) -> Option<File> {
        alone(&self.folder)
    }

    /// Replaces the file by an empty catalog. Other processes go on with the old one unharmed.
    ///
    /// # Errors
    /// The new file cannot be made.
    pub fn discard(&self) -> Result<()> {
        let mut connection = lock(&self.connection);
        let _alone = alone(&self.folder);
        remove_files(&self.path);
        *connection = connect(&self.path, self.repository)?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn failed(&self, operation: &'static str) -> impl Fn(rusqlite::Error) -> Error + '_ {
        move |source| Error::Sqlite { operation, path: self.path.clone(), source }
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Keeps other processes from opening a catalog in `folder` until the result is dropped. SQLite does not
/// wait, whatever its time limit says, while two connections give a new file its journal mode: the
/// second is told that the database is locked.
fn alone(folder: &Path) -> Option<File> {
    // Where there are no such locks, as on some network file systems, both go on as they did.
    let folder = File::open(folder).ok()?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(folder)
}

fn remove_files(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // What cannot be removed will fail again, with a message, when it is opened.
        let _ = std::fs::remove_file(name);
    }
}

fn connect(path: &Path, repository: RepositoryId) -> Result<Connection> {
    let failed = |source| Error::Sqlite { operation: "open a file", path: path.to_path_buf(), source };
    // SQLite gives the files beside it the same mode.
    let private = OpenOptions::new().create(true).append(true).mode(PRIVATE_FILE).open(path);
    private.map_err(|source| Error::Folder { path: path.to_path_buf(), source })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(60)).map_err(failed)?;
    connection.execute_batch(schema::PRAGMAS).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    // What is in the log is as good as what is in the file; to bring it there at each end of a command
    // would cost three waits for the disk.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    match version {
        0 => {
            create_tables(&mut connection, repository).map_err(failed)?;
            Ok(connection)
        }
        schema::VERSION => {
            let known: Option<Vec<u8>> = connection
                .query_row("SELECT value FROM meta WHERE key = 'repository'", [], |row| row.get(0))
                .optional()
                .map_err(failed)?;
            match known {
                Some(id) if id == repository.0 => Ok(connection),
                _ => Err(Error::Damaged { path: path.to_path_buf() }),
            }
        }
        _ => Err(Error::Damaged { path: path.to_path_buf() }),
    }
}

fn create_tables(connection: &mut Connection, repository: RepositoryId) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(schema::TABLES)?;
        transaction.execute("INSERT INTO meta VALUES ('repository', ?1)", [&repository.0[..]])?;
        transaction.pragma_update(None, "user_version", schema::VERSION)?;
    }
    transaction.commit()
}

fn connect_for_reading(path: &Path) -> Result<Connection> {
    let failed = |source| Error::Sqlite { operation: "open a file", path: path.to_path_buf(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(60)).map_err(failed)?;
    connection.execute_batch("PRAGMA mmap_size = 67108864; PRAGMA cache_size = -16384;").map_err(failed)?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
