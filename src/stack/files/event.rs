//! What a scan can be told, and what it tells.

use super::Result;
use super::exclude::Excludes;
use super::found::Found;
use crate::repo::manifest::Rules;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;

/// Folders that are snap's own, by device and inode number, and what each of them is.
pub type OwnFolders = BTreeMap<(u64, u64), &'static str>;

/// How a scan is done.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// What is left out by rule.
    pub exclude: Excludes,
    /// Folders on which another file system is mounted are found but not entered.
    pub one_file_system: bool,
    /// Folders that are left out whole.
    pub skip: OwnFolders,
}

impl WalkOptions {
    /// A scan by the rules of an earlier capture.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn by(rules: Option<&Rules>, skip: OwnFolders) -> Result<Self> {
        let Some(rules) = rules else {
            let exclude = Excludes::default().ignore_files(true);
            return Ok(Self { exclude, skip, ..Self::default() });
        };
        let exclude = Excludes::new(&rules.exclude)?.ignore_files(rules.ignore_files).cache_tags(rules.cache_tags);
        Ok(Self { exclude, one_file_system: !rules.cross_mounts, skip })
    }
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self { exclude: Excludes::default(), one_file_system: true, skip: OwnFolders::new() }
    }
}

/// What a scan tells.
#[derive(Debug)]
pub enum Event {
    /// Something that belongs to the tree.
    Found(Found),
    /// What is at `path`, or below the folder found there just before, is not in the tree.
    LeftOut {
        /// Path relative to the root.
        path: Vec<u8>,
        /// Why.
        reason: Reason,
    },
    /// A `.snapignore` that was not understood in full; its other lines count.
    BadPattern {
        /// Path of the file, relative to the root.
        path: Vec<u8>,
        /// What is wrong, with the line's number.
        message: String,
    },
}

/// Why something is not in the tree.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A pattern matches it.
    #[error("excluded by a pattern")]
    Excluded,
    /// The folder is tagged as a cache; the tag itself is found.
    #[error("the content of a cache, by its CACHEDIR.TAG")]
    Cache,
    /// It is one of [`WalkOptions::skip`].
    #[error("{0}")]
    Skipped(&'static str),
    /// Another file system is mounted on the folder.
    #[error("on another file system")]
    OtherFileSystem,
    /// An interrupted restore has left it.
    #[error("left by an interrupted restore")]
    Unfinished,
    /// A socket, which only its program can make.
    #[error("a socket")]
    Socket,
    /// It was gone before it could be looked at.
    #[error("it vanished during the scan")]
    Vanished,
    /// Another folder or link took its place during the scan.
    #[error("it was replaced during the scan")]
    Replaced,
    /// The system refused to read it.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
}

impl Reason {
    /// True if something that should be in the tree is missing, so that the result is incomplete.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Replaced | Self::Unreadable(_))
    }

    pub(super) fn of(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Vanished,
            Errno::NOTDIR | Errno::LOOP | Errno::STALE => Self::Replaced,
            other => Self::Unreadable(other.into()),
        }
    }
}
