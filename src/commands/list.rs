//! `snap list`: the snapshots of a repository.

use super::check::found_damaged;
use super::{Env, Result};
use crate::repo::manifest::Stats;
use crate::repo::select::Scope;
use crate::repo::{Repository, Snapshot};
use serde::Serialize;

/// One snapshot in a list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedSnapshot {
    /// Its id.
    pub id: String,
    /// The snapshots it follows.
    pub predecessors: Vec<String>,
    /// When its capture began, RFC 3339.
    pub time: String,
    /// The host.
    pub host: String,
    /// The stack.
    pub stack: String,
    /// Labels.
    pub tags: Vec<String>,
    /// A remark.
    pub note: String,
    /// True if everything selected is in it.
    pub complete: bool,
    /// Regular files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What it cost.
    pub stats: Stats,
}

impl From<&Snapshot> for ListedSnapshot {
    fn from(snapshot: &Snapshot) -> Self {
        let manifest = &snapshot.manifest;
        Self {
            id: snapshot.id.to_string(),
            predecessors: manifest.predecessors.iter().map(ToString::to_string).collect(),
            time: manifest.time.clone(),
            host: manifest.host.clone(),
            stack: manifest.stack.clone(),
            tags: manifest.tags.clone(),
            note: manifest.note.clone(),
            complete: manifest.complete,
            files: manifest.files(),
            bytes: manifest.bytes(),
            stats: manifest.stats,
        }
    }
}

/// An object under `snapshots/` that cannot be read.
#[derive(Debug, Clone, Serialize)]
pub struct Unreadable {
    /// Its id.
    pub id: String,
    /// Why.
    pub message: String,
    /// True if a newer snap wrote it; false if it is damaged.
    pub newer: bool,
}

/// What `list` says.
#[derive(Debug, Clone, Serialize)]
pub struct ListReport {
    /// The snapshots, oldest first.
    pub snapshots: Vec<ListedSnapshot>,
    /// Those that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Those that this machine has seen before and that are gone.
    pub vanished: Vec<ListedSnapshot>,
    /// Those that were forgotten and are still there.
    pub forgotten: Vec<ListedSnapshot>,
    /// Of those that can be read and the forgotten ones, those that the last check on this machine found damaged, themselves or what they need.
    pub damaged: Vec<String>,
    /// Where the repository is.
    pub repository: String,
}

/// Which snapshots to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Of which host and stack.
    pub scope: Scope,
    /// Only with this tag.
    pub tag: Option<String>,
}

/// Lists snapshots.
///
/// # Errors
/// The repository cannot be listed.
pub fn list(_: &Env, repository: &Repository, options: &ListOptions) -> Result<ListReport> {
    let mut set = repository.snapshots()?;
    let damaged = found_damaged(repository)?;
    // The catalog remembers what a damaged manifest said; whether it was mended since, only the store can tell.
    repository.prove(&mut set, &|id| damaged.contains(id))?;
    let wanted =
        |s: &&Snapshot| options.scope.holds(s) && options.tag.as_ref().is_none_or(|tag| s.manifest.tags.contains(tag));
    Ok(ListReport {
        snapshots: set.snapshots.iter().filter(wanted).map(Into::into).collect(),
        unreadable: set
            .unreadable
            .iter()
            .map(|one| Unreadable { id: one.id.to_string(), message: one.message.clone(), newer: one.newer })
            .collect(),
        vanished: set.vanished.iter().filter(wanted).map(Into::into).collect(),
        forgotten: set.forgotten.iter().filter(wanted).map(Into::into).collect(),
        damaged: set
            .snapshots
            .iter()
            .chain(&set.forgotten)
            .filter(|s| wanted(s) && damaged.contains(&s.id))
            .map(|s| s.id.to_string())
            .collect(),
        repository: repository.store().address(),
    })
}
