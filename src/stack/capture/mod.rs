//! Capturing a folder: scan, read what changed, put the tree together.
//!
//! ```text
//! scanner ──batches──▶ workers (read → cut → hash → look up → compress → seal) ──▶ assembler
//!         └────────────── batches in which nothing changed ───────────────────────▶
//! ```
//!
//! The scanner walks in canonical order, side by side with the file-state cache, and hands out
//! batches. A worker runs each to the end, so that content stays in its processor's cache. A large
//! file goes to all workers at once, which take turns at reading and cutting it and do the rest
//! side by side. The assembler, on the calling thread, puts the results back into order and writes
//! the tree and the next file-state cache.

pub mod archive;
mod assemble;
mod big;
mod content;
mod job;
pub mod read;
mod scan;
pub mod sqlite;
pub mod stream;
mod tick;
mod work;

use super::files::{self, Excludes, OwnFolders};
use crate::monitor::Monitor;
use crate::repo::manifest::{Level, SourceEntry, SourceKind};
use crate::repo::needs::Needs;
use crate::repo::writer::{PackRef, Session};
use crate::repo::{Repository, state::StateWriter};
use std::path::{Path, PathBuf};

/// What went wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder itself.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] crate::repo::Error),
    /// A stream ended before its end, or could not be read.
    #[error("cannot read {path}")]
    Stream {
        /// What it was to become.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file-state cache.
    #[error("cannot write the file-state cache {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A capture's result.
pub type Result<T> = std::result::Result<T, Error>;

/// How a folder is captured.
#[derive(Debug, Clone)]
pub struct FolderOptions {
    /// The source's name in the manifest.
    pub name: String,
    /// What is left out by rule.
    pub exclude: Excludes,
    /// False to enter folders on which other file systems are mounted.
    pub one_file_system: bool,
    /// Folders that are left out whole, by device and inode number.
    pub skip: OwnFolders,
    /// The file-state cache of this folder.
    pub state: PathBuf,
    /// Threads that read and compress.
    pub workers: usize,
}

/// What a capture gave.
pub struct Captured {
    /// The source for the manifest.
    pub source: SourceEntry,
    /// Regular files that were read.
    pub files_changed: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// The next file-state cache, to be finished once the manifest is committed.
    pub state: StateWriter,
}

/// Captures the folder `root` into `session`, and adds the segments it needs to `needs`.
///
/// # Errors
/// `root` cannot be opened, the repository cannot be written, or the person stops the work. What
/// cannot be read below `root` is told to the monitor and leaves the capture incomplete.
pub fn capture_folder(
    repository: &Repository,
    session: &Session<'_>,
    root: &Path,
    options: &FolderOptions,
    needs: &mut Needs<PackRef>,
    monitor: &dyn Monitor,
) -> Result<Captured> {
    let start = tick::now();
    sqlite::remove_left_copies(&repository.catalog().folder().join("tmp"));
    let key = repository.secrets().cache_key();
    let failed = |source| Error::State { path: options.state.clone(), source };
    let state = StateWriter::new(&options.state, &key, start).map_err(failed)?;
    let mut assembler = assemble::Assembler::new(session, state, needs, monitor)?;
    job::run(repository, session, root, options, &mut assembler, monitor)?;
    let done = assembler.finish().map_err(|error| error.at(&options.state))?;
    Ok(Captured {
        source: SourceEntry {
            kind: SourceKind::Files,
            name: options.name.clone(),
            root: root.display().to_string(),
            level: Level::Live,
            tree: done.tree,
            entries: done.entries,
            files: done.files,
            bytes: done.bytes,
            new_bytes: done.new_bytes,
            sqlite: done.sqlite,
            rules: None,
            detail: None,
        },
        files_changed: done.files_changed,
        bytes_read: done.bytes_read,
        state: done.state,
    })
}
