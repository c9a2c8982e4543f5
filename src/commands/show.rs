//! `snap show`: a snapshot's manifest, its entries, or the content of one file.

use super::{Env, Error, Result};
use crate::repo::entry::{Entry, Extent, Node, compare_paths};
use crate::repo::manifest::{Manifest, SourceEntry};
use crate::repo::reader::Reader;
use crate::repo::select::{Scope, select};
use crate::repo::walk::TreeWalker;
use crate::repo::{self, Repository, Snapshot, SnapshotSet};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Write;

/// The operation of an error that is standard output's.
pub const WRITE_OUT: &str = "write to";

/// Stacks that are named where another one was asked for.
const STACKS_TOLD: usize = 10;

/// What `show ID` says.
#[derive(Debug, Clone, Serialize)]
pub struct ShowReport {
    /// The snapshot's id.
    pub id: String,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The snapshot that `text` names.
///
/// # Errors
/// None or several fit.
pub fn find<'s>(set: &'s SnapshotSet, scope: &Scope, text: &str) -> Result<&'s Snapshot> {
    let of_stack = Scope { host: None, stack: scope.stack.clone() };
    if let Some(stack) = &scope.stack
        && set.unreadable.is_empty()
        && !set.snapshots.iter().any(|snapshot| of_stack.holds(snapshot))
    {
        let known: BTreeSet<&str> = set.snapshots.iter().map(|snapshot| snapshot.manifest.stack.as_str()).collect();
        let known: Vec<&str> = known.into_iter().take(STACKS_TOLD).collect();
        let hint = format!("snap list shows what there is: {}", known.join(", "));
        return Err(Error::usage(format!("no snapshot is of a stack “{stack}”"), hint));
    }
    Ok(select(set, scope, text, &parse_time)?)
}

/// A time as people write it, in the local time zone unless it names one, as RFC 3339 UTC with
/// microseconds.
pub(super) fn parse_time(text: &str) -> Option<String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(format!("{time:.6}"));
    }
    let civil: jiff::civil::DateTime = text.parse().ok().or_else(|| {
        let day: jiff::civil::Date = text.parse().ok()?;
        Some(day.at(23, 59, 59, 999_999_999))
    })?;
    let zoned = civil.to_zoned_datetime(jiff::tz::TimeZone::system()).ok()?;
    Some(format!("{:.6}", zoned.timestamp()))
}

/// Shows a manifest.
///
/// # Errors
/// No snapshot fits.
pub fn show(_: &Env, repository: &Repository, scope: &Scope, id: &str) -> Result<ShowReport> {
    let set = repository.snapshots()?;
    let snapshot = find(&set, scope, id)?;
    Ok(ShowReport { id: snapshot.id.to_string(), manifest: snapshot.manifest.clone() })
}

/// One entry as `show ID --files` lists it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedEntry {
    /// Its path, for people.
    pub path: String,
    /// One letter: `d`, `-`, `l`, `h` (hard link), `p`, `c`, `b`.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Where a link leads.
    pub target: Option<String>,
}

impl From<&Entry> for ListedEntry {
    fn from(entry: &Entry) -> Self {
        let (kind, target) = match &entry.node {
            Node::Dir => ('d', None),
            Node::File(_) => ('-', None),
            Node::Symlink(to) => ('l', Some(repo::entry::shown(to))),
            Node::Hardlink(to) => ('h', Some(repo::entry::shown(to))),
            Node::Fifo => ('p', None),
            Node::CharDevice { .. } => ('c', None),
            Node::BlockDevice { .. } => ('b', None),
        };
        let meta = &entry.meta;
        let (path, size) = (entry.shown_path(), entry.size());
        Self { path, kind, mode: meta.mode, uid: meta.uid, gid: meta.gid, size, mtime: meta.mtime.seconds, target }
    }
}

/// Gives every entry of a snapshot to `visit`, and what could not be read.
///
/// # Errors
/// No snapshot fits, the key cannot open content, or `visit` fails.
pub fn entries(
    env: &Env,
    repository: &Repository,
    scope: &Scope,
    id: &str,
    visit: &mut dyn FnMut(&SourceEntry, &Entry) -> Result<()>,
) -> Result<Vec<String>> {
    let set = repository.snapshots()?;
    let snapshot = find(&set, scope, id)?;
    let mut reader = open_reader(repository, snapshot)?;
    let mut lost = Vec::new();
    for source in &snapshot.manifest.sources {
        let mut walker = TreeWalker::new(&source.tree);
        let mut more = true;
        let mut entries = Vec::new();
        while more {
            more = walker.next(&mut reader, &mut entries, 1024)?;
            for entry in entries.drain(..) {
                let entry = placed(&snapshot.manifest, source, entry);
                visit(source, &entry)?;
            }
            go_on(env)?;
        }
        lost.extend(walker.lost());
    }
    Ok(lost)
}

/// An entry with the path that it has among the parts of an application.
pub(super) fn placed(manifest: &Manifest, source: &SourceEntry, mut entry: Entry) -> Entry {
    if let Some(place) = manifest.place_of(source) {
        let below = |path: &[u8]| match path {
            b"" => place.as_bytes().to_vec(),
            path => [place.as_bytes(), b"/", path].concat(),
        };
        if let Node::Hardlink(first) = &mut entry.node {
            *first = below(first);
        }
        entry.path = below(&entry.path);
    }
    entry
}

/// A reader for a snapshot, whatever the catalog knows.
///
/// # Errors
/// The key at hand cannot open content.
pub fn open_reader<'r>(repository: &'r Repository, snapshot: &Snapshot) -> Result<Reader<'r>> {
    let mut reader = Reader::without_learning(repository)?;
    // What cannot be read is told where it is missed.
    reader.add_unlisted(&snapshot.manifest.needs)?;
    Ok(reader)
}

/// Writes the content of the file `path` in a snapshot to `out`.
///
/// # Errors
/// There is no such file, a chunk of it cannot be had, or `out` refuses.
pub fn cat(
    env: &Env,
    repository: &Repository,
    scope: &Scope,
    id: &str,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<()> {
    let set = repository.snapshots()?;
    let snapshot = find(&set, scope, id)?;
    let mut reader = open_reader(repository, snapshot)?;
    let wanted = path.strip_prefix(b"./").unwrap_or(path);
    let wanted = wanted.strip_suffix(b"/").unwrap_or(wanted);
    let path = &*repo::entry::shown(path);
    for source in &snapshot.manifest.sources {
        // In an application a path names its part, or is one of the project's own folder.
        let place = snapshot.manifest.place_of(source);
        let inner = place.as_ref().and_then(|place| wanted.strip_prefix(place.as_bytes())?.strip_prefix(b"/"));
        let wanted = match (&place, inner) {
            (Some(_), Some(inner)) => inner,
            (Some(place), None) if place != "files" => continue,
            _ => wanted,
        };
        let Some(entry) = find_entry(&mut reader, source, wanted)? else { continue };
        return match &entry.node {
            Node::File(extents) => write_content(env, &mut reader, extents, out),
            Node::Hardlink(first) => match find_entry(&mut reader, source, first)? {
                Some(Entry { node: Node::File(extents), .. }) => write_content(env, &mut reader, &extents, out),
                _ => Err(not_a_file(path)),
            },
            _ => Err(not_a_file(path)),
        };
    }
    let hint = format!("snap show {} --files lists what is", snapshot.id.short());
    Err(Error::usage(format!("{path} is not in snapshot {}", snapshot.id.short()), hint))
}

/// Fails if the person wants it to stop.
fn go_on(env: &Env) -> Result<()> {
    if env.monitor.cancelled() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
}

fn not_a_file(path: &str) -> Error {
    Error::usage(format!("{path} is not a regular file"), "only a file's content can be shown")
}

fn find_entry(reader: &mut Reader<'_>, source: &SourceEntry, path: &[u8]) -> Result<Option<Entry>> {
    let mut walker = TreeWalker::new(&source.tree);
    let mut entries = Vec::new();
    loop {
        let more = walker.next(reader, &mut entries, 1024)?;
        if let Some(found) = entries.iter().position(|entry| entry.path == path) {
            return Ok(Some(entries.swap_remove(found)));
        }
        let past = entries.last().is_some_and(|last| compare_paths(&last.path, path) == Ordering::Greater);
        if !more || past {
            return Ok(None);
        }
        entries.clear();
    }
}

/// Those of `paths` that are nowhere in the tree of `source`; none where a part of it cannot be read, since
/// they may be there.
///
/// # Errors
/// The catalog is damaged.
pub(super) fn absent(reader: &mut Reader<'_>, source: &SourceEntry, paths: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mut absent = paths.to_vec();
    let (mut walker, mut entries, mut more) = (TreeWalker::new(&source.tree), Vec::new(), true);
    while more && !absent.is_empty() {
        more = walker.next(reader, &mut entries, 4096)?;
        if !walker.lost().is_empty() {
            return Ok(Vec::new());
        }
        for entry in entries.drain(..) {
            absent.retain(|path| *path != entry.path);
        }
    }
    Ok(absent)
}

fn write_content(env: &Env, reader: &mut Reader<'_>, extents: &[Extent], out: &mut dyn Write) -> Result<()> {
    let failed = |source| Error::Path { operation: WRITE_OUT, path: "standard output".into(), source };
    for extent in extents {
        go_on(env)?;
        match extent {
            Extent::Hole { len } => {
                std::io::copy(&mut std::io::Read::take(std::io::repeat(0), *len), out).map_err(failed)?;
            }
            extent => out.write_all(&reader.content(extent)?).map_err(failed)?,
        }
    }
    out.flush().map_err(failed)
}
