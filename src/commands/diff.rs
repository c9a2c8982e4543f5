//! `snap diff`: what differs between two snapshots, or between a snapshot and a folder.

use super::show::{find, open_reader, placed};
use super::{Env, Result};
use crate::chunk::Profile;
use crate::repo::entry::{Entry, Extent, Meta, Node, compare_paths};
use crate::repo::reader::Reader;
use crate::repo::select::Scope;
use crate::repo::walk::TreeWalker;
use crate::repo::{self, Repository, Snapshot};
use crate::stack::capture::read::{Block, BlockReader, Part};
use crate::stack::capture::sqlite::{BESIDE, back_up};
use crate::stack::files::content::{data_extents, open_file};
use crate::stack::files::{Event, Found, FoundKind, WalkOptions, walk};
use serde::Serialize;
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::Path;

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

/// One difference.
#[derive(Debug, Clone, Serialize)]
pub struct DiffLine {
    /// Its path, for people.
    pub path: String,
    /// How it differs.
    pub change: Change,
    /// What of it differs: content, type, target, mode, owner, mtime, xattrs.
    pub what: Vec<&'static str>,
    /// Bytes in the first.
    pub bytes_before: u64,
    /// Bytes in the second.
    pub bytes_after: u64,
}

/// What `diff` says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DiffReport {
    /// The first, as it was found.
    pub before: String,
    /// The second.
    pub after: String,
    /// The differences, in the order of a walk.
    pub differences: Vec<DiffLine>,
    /// What could not be compared, and why.
    pub problems: Vec<String>,
}

impl DiffReport {
    /// How many differences there are of one kind.
    pub fn count(&self, change: Change) -> usize {
        self.differences.iter().filter(|line| line.change == change).count()
    }
}

/// Compares the snapshot `before` with `after`, a snapshot or a folder.
///
/// # Errors
/// One of them cannot be found or read.
pub fn diff(env: &Env, repository: &Repository, scope: &Scope, before: &str, after: &str) -> Result<DiffReport> {
    let set = repository.snapshots()?;
    let first = find(&set, scope, before)?;
    let mut report = DiffReport { before: first.id.to_string(), after: after.to_owned(), ..DiffReport::default() };
    let (old, new) = match find(&set, scope, after) {
        Ok(second) => {
            report.after = second.id.to_string();
            (
                entries_of(env, repository, first, true, &mut report)?,
                entries_of(env, repository, second, true, &mut report)?,
            )
        }
        Err(_) if Path::new(after).is_dir() => {
            let old = entries_of(env, repository, first, false, &mut report)?;
            (old, entries_below(env, repository, Path::new(after), first, &mut report)?)
        }
        Err(error) => return Err(error),
    };
    report.differences = compare(&old, &new);
    Ok(report)
}

/// The entries of all parts of a snapshot; of an application's folder alone where it is compared with a folder.
fn entries_of(
    env: &Env,
    repository: &Repository,
    snapshot: &Snapshot,
    all_parts: bool,
    report: &mut DiffReport,
) -> Result<Vec<Entry>> {
    let mut reader = open_reader(repository, snapshot)?;
    let mut out = Vec::new();
    for source in &snapshot.manifest.sources {
        if !all_parts && snapshot.manifest.place_of(source).is_some_and(|place| place != "files") {
            continue;
        }
        let mut walker = TreeWalker::new(&source.tree);
        let mut entries = Vec::new();
        while walker.next(&mut reader, &mut entries, 4096)? {
            go_on(env)?;
        }
        report.problems.extend(walker.lost());
        let place = |entry| if all_parts { placed(&snapshot.manifest, source, entry) } else { entry };
        out.extend(entries.into_iter().map(place));
    }
    if snapshot.manifest.project.is_some() {
        out.sort_by(|a, b| compare_paths(&a.path, &b.path));
    }
    Ok(out)
}

/// The entries of a folder, its files cut and named as a capture would.
fn entries_below(
    env: &Env,
    repository: &Repository,
    root: &Path,
    against: &Snapshot,
    report: &mut DiffReport,
) -> Result<Vec<Entry>> {
    let reader = open_reader(repository, against)?;
    let mut links: std::collections::HashMap<(u64, u64), Vec<u8>> = std::collections::HashMap::new();
    let databases: Vec<&String> = against.manifest.sources.iter().flat_map(|source| &source.sqlite).collect();
    let mut out = Vec::new();
    let rules = against.manifest.sources.first().and_then(|source| source.rules.as_ref());
    let options = WalkOptions::by(rules, env.own_folders(repository, root)?)?;
    walk(root, &options, &mut |event| {
        if go_on(env).is_err() {
            return ControlFlow::Break(());
        }
        match event {
            Event::Found(found) => {
                let first = (found.kind == FoundKind::File && found.stat.nlink > 1).then(|| {
                    links.entry((found.stat.dev, found.stat.ino)).or_insert_with(|| found.path.clone()).clone()
                });
                match entry_of(env, repository, &reader, &found, first, &databases) {
                    Ok(entry) => out.extend(entry),
                    Err(message) => report.problems.push(message),
                }
            }
            Event::LeftOut { path, reason } if reason.is_loss() => {
                report.problems.push(format!("{}: {reason}", crate::repo::entry::shown(&path)));
            }
            Event::LeftOut { .. } | Event::BadPattern { .. } => {}
        }
        ControlFlow::Continue(())
    })?;
    go_on(env)?;
    Ok(out)
}

/// # Errors
/// The person has stopped the command.
fn go_on(env: &Env) -> Result<()> {
    if env.monitor.cancelled() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
}

fn entry_of(
    env: &Env,
    repository: &Repository,
    reader: &Reader<'_>,
    found: &Found,
    first: Option<Vec<u8>>,
    databases: &[&String],
) -> std::result::Result<Option<Entry>, String> {
    let said = |error: &dyn std::error::Error| crate::repo::sync::Chain(error).to_string();
    let shown = crate::repo::entry::shown(&found.path);
    // What lies beside a database is inside its backup.
    let is_beside = |base: &[u8]| databases.iter().any(|database| **database == crate::repo::entry::shown(base));
    let beside = BESIDE.iter().any(|suffix| found.path.strip_suffix(*suffix).is_some_and(is_beside));
    if beside {
        return Ok(None);
    }
    let node = match found.kind {
        FoundKind::Dir => Node::Dir,
        FoundKind::Symlink => Node::Symlink(found.read_link().map_err(|e| said(&e))?),
        FoundKind::Fifo => Node::Fifo,
        FoundKind::CharDevice { major, minor } => Node::CharDevice { major, minor },
        FoundKind::BlockDevice { major, minor } => Node::BlockDevice { major, minor },
        FoundKind::File => match first {
            Some(first) if first != found.path => Node::Hardlink(first),
            _ => {
                let (file, stat, _) = open_file(found).map_err(|e| said(&e))?;
                let mut blocks = if databases.contains(&&shown) {
                    // As a capture would have it, with what is in its log.
                    let copy = back_up(found, &repository.catalog().folder().join("tmp"));
                    let copy = copy.map_err(|reason| format!("{shown}: SQLite cannot back it up: {reason}"))?.file;
                    let size = copy.metadata().map_err(|e| said(&e))?.len();
                    BlockReader::new(copy, size, vec![(0, size)], Profile::PAGES)
                } else {
                    let runs = data_extents(&file, stat.size, stat.blocks, &found.path).map_err(|e| said(&e))?;
                    BlockReader::new(file, stat.size, runs, Profile::FILES)
                };
                Node::File(cut(env, repository, reader, &mut blocks).map_err(|e| format!("{shown}: {e}"))?)
            }
        },
    };
    let xattrs = found.read_xattrs().map_err(|e| said(&e))?;
    Ok(Some(Entry { path: found.path.clone(), node, meta: Meta { xattrs, ..found.meta.clone() } }))
}

fn cut(
    env: &Env,
    repository: &Repository,
    reader: &Reader<'_>,
    blocks: &mut BlockReader<'_>,
) -> std::io::Result<Vec<Extent>> {
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut extents = Vec::new();
    let mut block = Block::default();
    // Of a file that is left in the middle nothing is used: the walk ends with it.
    while !env.monitor.cancelled() && blocks.next(repository.cutter(), &mut block)? {
        for (number, item) in &block.items {
            extents.push(match *item {
                Part::Hole { len } => (*number, Extent::Hole { len }),
                Part::Chunk { start, len } => {
                    let id = reader.name(&block.data[start..start + len]);
                    (*number, Extent::Chunk { id, len: length(len) })
                }
            });
        }
        for group in &block.groups {
            let id = reader.name(&group.bytes);
            let slices = group.slices.iter();
            extents.extend(slices.map(|(number, from, len)| (*number, Extent::Slice { id, from: *from, len: *len })));
        }
    }
    extents.sort_unstable_by_key(|(number, _)| *number);
    Ok(extents.into_iter().map(|(_, extent)| extent).collect())
}

fn compare(old: &[Entry], new: &[Entry]) -> Vec<DiffLine> {
    let mut out = Vec::new();
    let (mut a, mut b) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => compare_paths(&x.path, &y.path),
        };
        match order {
            Ordering::Less => out.extend(a.next().map(|entry| alone(entry, Change::Removed))),
            Ordering::Greater => out.extend(b.next().map(|entry| alone(entry, Change::Added))),
            Ordering::Equal => {
                if let (Some(x), Some(y)) = (a.next(), b.next()) {
                    let what = differences(x, y);
                    if !what.is_empty() {
                        let (bytes_before, bytes_after) = (x.size(), y.size());
                        let path = x.shown_path();
                        out.push(DiffLine { path, change: Change::Changed, what, bytes_before, bytes_after });
                    }
                }
            }
        }
    }
}

fn alone(entry: &Entry, change: Change) -> DiffLine {
    let size = entry.size();
    let (bytes_before, bytes_after) = if change == Change::Removed { (size, 0) } else { (0, size) };
    DiffLine { path: entry.shown_path(), change, what: Vec::new(), bytes_before, bytes_after }
}

fn differences(a: &Entry, b: &Entry) -> Vec<&'static str> {
    let mut what = Vec::new();
    match (&a.node, &b.node) {
        (Node::File(x), Node::File(y)) if x != y => what.push("content"),
        (Node::Symlink(x) | Node::Hardlink(x), Node::Symlink(y) | Node::Hardlink(y))
            if x != y && std::mem::discriminant(&a.node) == std::mem::discriminant(&b.node) =>
        {
            what.push("target");
        }
        (x, y) if std::mem::discriminant(x) != std::mem::discriminant(y) => what.push("type"),
        (Node::CharDevice { .. } | Node::BlockDevice { .. }, _) if a.node != b.node => what.push("device"),
        _ => {}
    }
    // Another name of a file has the attributes of the first.
    if matches!(a.node, Node::Hardlink(_)) {
        return what;
    }
    if a.meta.mode != b.meta.mode && !matches!(a.node, Node::Symlink(_)) {
        what.push("mode");
    }
    if (a.meta.uid, a.meta.gid) != (b.meta.uid, b.meta.gid) {
        what.push("owner");
    }
    if a.meta.mtime != b.meta.mtime {
        what.push("mtime");
    }
    if a.meta.xattrs != b.meta.xattrs {
        what.push("xattrs");
    }
    what
}
