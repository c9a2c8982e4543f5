//! Files and folders of the host: finding them, reading them, and putting them back safely.
//!
//! Reading: [`walk`](mod@walk) scans a folder in canonical order and hands out each thing as a [`Found`], which
//! keeps its folder open, so that nobody resolves a path twice; [`content`] opens a found file and
//! says which parts of it hold data; [`Found::read_xattrs`] reads what the scan leaves out;
//! [`exclude`] decides what is left out by rule.
//!
//! Writing: [`place`] puts things below one folder and nowhere else, even while somebody swaps
//! folders for links under it; what it cannot set on this host it reports as a [`Difference`].

mod adopt;
mod beneath;
pub mod content;
mod disk;
mod event;
pub mod exclude;
mod found;
mod handle;
mod names;
mod pending;
pub mod place;
mod place_meta;
mod remove;
mod special;
mod staged;
#[cfg(test)]
mod tests;
pub mod unfinished;
pub mod walk;
mod writeout;
mod xattr;

pub use disk::Disk;
pub use event::{Event, OwnFolders, Reason, WalkOptions};
pub use exclude::Excludes;
pub use found::{Found, FoundKind, Stat};
pub use handle::{DirHandle, raise_open_file_limit};
pub use pending::PendingFile;
pub use place::{PlaceOptions, Placer};
pub use place_meta::Difference;
pub use walk::walk;
pub use xattr::{Xattrs, read_xattrs_fd};

use crate::repo::entry::shown;
use std::io;

/// What could not be done with a file, and which.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused an operation.
    #[error("cannot {operation} {path}")]
    Io {
        /// The verb: open, read, write, make, remove.
        operation: &'static str,
        /// The path as it is shown to people.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A path that a tree must not hold: it would lead out of the target.
    #[error("{path} is not a path inside the target")]
    Path {
        /// The path as it is shown to people.
        path: String,
    },
    /// Something is not what it was, or not what it must be.
    #[error("{path} {problem}")]
    Unfit {
        /// The path as it is shown to people.
        path: String,
        /// The rest of the sentence.
        problem: &'static str,
    },
    /// A pattern that says nothing.
    #[error("the pattern `{pattern}` is not valid: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A result of this folder's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn io(operation: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: shown(path), source: source.into() }
    }

    /// True if what comes next will fail too: the disk is full, or may not be written at all.
    pub fn ends_all(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull)
    }

    fn unfit(path: &[u8], problem: &'static str) -> Self {
        Self::Unfit { path: shown(path), problem }
    }
}
