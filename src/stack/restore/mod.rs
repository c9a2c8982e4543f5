//! Putting a folder back from a snapshot.
//!
//! Entries come in canonical order. Folders are made as they come, with access for their owner
//! alone; files are gathered into windows, and a window's chunks are fetched in the packs' order,
//! each segment decoded once. A file gets its name when its last chunk has been hashed and written.
//! Hard links follow when all files are there, folders get their attributes last, deepest first, so
//! that nothing changes their times again; then everything is synced.

mod names;
mod window;

use super::files::{self, Difference, PlaceOptions, Placer, WalkOptions};
use crate::monitor::{Monitor, Unit};
use crate::repo::entry::{Entry, Meta, Node, shown};
use crate::repo::manifest::{Rules, SourceEntry};
use crate::repo::reader::Reader;
use crate::repo::walk::TreeWalker;
use crate::repo::{self, sync::Chain};
use names::Names;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use window::Window;

/// A larger tree is not made in a hidden folder: who was killed in the middle goes on, in place, where he was.
const STAGED_BYTES_MAX: u64 = 4 << 30;

/// What went wrong with a restore.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] repo::Error),
}

/// A restore's result.
pub type Result<T> = std::result::Result<T, Error>;

/// How a folder is put back.
#[derive(Debug, Clone, Default)]
pub struct FolderRestore {
    /// Into a folder with content: what is right already is left alone.
    pub in_place: bool,
    /// In place: what the snapshot does not have is removed.
    pub exact: bool,
    /// Set-id bits, capabilities, `trusted.*` attributes and devices are made.
    pub privileged: bool,
    /// Only these paths and what is below them; all if empty.
    pub only: Vec<Vec<u8>>,
    /// Folders and files that are never removed, by device and inode number: the repository itself, and what
    /// opens it.
    pub keep: Vec<(u64, u64)>,
    /// Threads that read and write.
    pub workers: usize,
}

/// Something that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// Its path, for people.
    pub path: String,
    /// Its path.
    #[serde(skip)]
    pub raw: Vec<u8>,
    /// Why.
    pub message: String,
    /// True if the repository is damaged; false if the target refused.
    pub damage: bool,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct Restored {
    /// Entries of the snapshot that were wanted, whatever became of them.
    pub entries: u64,
    /// Regular files that are now as in the snapshot.
    pub files: u64,
    /// Of them, those that were right already.
    pub unchanged: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Things removed because the snapshot does not have them.
    pub removed: u64,
    /// What this host did not allow.
    pub differences: Vec<Difference>,
    /// What is not there.
    pub lost: Vec<Lost>,
}

impl Restored {
    fn lose(&mut self, path: &[u8], message: String, damage: bool) {
        self.lost.push(Lost { path: shown(path), raw: path.to_vec(), message, damage });
    }
}

struct Restore<'a, 'r> {
    reader: &'a mut Reader<'r>,
    placer: &'a Placer,
    options: &'a FolderRestore,
    monitor: &'a dyn Monitor,
    folders: Vec<(Vec<u8>, Meta)>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    /// In place: files with several names.
    names: Names,
    /// True once a part of the tree could not be read: folders may be missing then.
    has_gap: bool,
    /// Wanted paths that have not come yet.
    missing: Vec<Vec<u8>>,
    /// Databases: what lies beside one belongs to other content of it.
    databases: &'a [String],
    done: Restored,
}

/// Restores the tree of `source` into the folder `target`, which exists.
///
/// # Errors
/// The target cannot be opened or synced, or the person stops the work. What cannot be restored is
/// in the result; everything else is restored all the same.
pub fn restore_folder(
    reader: &mut Reader<'_>,
    source: &SourceEntry,
    target: &Path,
    options: &FolderRestore,
    monitor: &dyn Monitor,
) -> Result<Restored> {
    let place = PlaceOptions { in_place: options.in_place, exact: options.exact, privileged: options.privileged };
    let staged = !options.in_place && source.bytes <= STAGED_BYTES_MAX;
    let placer = if staged { Placer::open_staged(target, place)? } else { Placer::open(target, place)? };
    monitor.phase("restoring", Unit::Bytes, Some(source.bytes));
    let mut window = Window::default();
    let mut kept: HashSet<Vec<u8>> = HashSet::new();
    let mut parts: Vec<Entry> = Vec::new();
    let mut restore = Restore {
        reader,
        placer: &placer,
        options,
        monitor,
        folders: Vec::new(),
        links: Vec::new(),
        names: Names::default(),
        has_gap: false,
        missing: options.only.clone(),
        databases: &source.sqlite,
        done: Restored::default(),
    };
    let mut walker = TreeWalker::new(&source.tree);
    loop {
        let more = walker.next(restore.reader, &mut parts, window::WINDOW_FILES)?;
        for part in walker.lost() {
            restore.done.lose(b"", part, true);
            restore.has_gap = true;
        }
        for entry in parts.drain(..) {
            if let Node::Hardlink(first) = &entry.node
                && options.in_place
            {
                restore.names.add(first, &entry.path);
            }
            if !is_wanted(options, &entry.path) {
                continue;
            }
            if options.exact {
                kept.insert(entry.path.clone());
            }
            if window.is_full() {
                restore.run(&mut window)?;
            }
            restore.saw(&entry.path);
            restore.entry(entry, &mut window)?;
        }
        restore.run(&mut window)?;
        if !more {
            break;
        }
    }
    restore.adopt_links(source)?;
    restore.settle_names(source)?;
    restore.remove_unfinished()?;
    if options.exact && restore.done.lost.is_empty() {
        restore.remove_others(target, source.rules.as_ref(), &kept)?;
    }
    restore.finish()
}

fn is_wanted(options: &FolderRestore, path: &[u8]) -> bool {
    // The folders on the way to a wanted path are wanted too.
    options.only.is_empty() || options.only.iter().any(|only| is_below(only, path) || is_below(path, only))
}

/// True for `folder` itself and what is in it.
fn is_below(folder: &[u8], path: &[u8]) -> bool {
    folder.is_empty() || path == folder || (path.starts_with(folder) && path.get(folder.len()) == Some(&b'/'))
}

impl Restore<'_, '_> {
    fn saw(&mut self, path: &[u8]) {
        self.missing.retain(|wanted| wanted != path);
        let only = &self.options.only;
        self.done.entries += u64::from(only.is_empty() || only.iter().any(|wanted| is_below(wanted, path)));
    }

    fn entry(&mut self, entry: Entry, window: &mut Window) -> Result<()> {
        let Entry { path, node, meta } = entry;
        if self.has_gap {
            self.make_parents(&path)?;
        }
        let placed = match node {
            Node::File(extents) => {
                let is_database = self.options.in_place && self.databases.contains(&shown(&path));
                window.add(path, extents, meta, is_database);
                return Ok(());
            }
            Node::Dir => {
                let made = self.placer.make_dir(&path).map(|()| Vec::new());
                if made.is_ok() {
                    self.folders.push((path, meta));
                    return Ok(());
                }
                made
            }
            Node::Hardlink(first) => {
                self.links.push((path, first));
                return Ok(());
            }
            Node::Symlink(target) => self.placer.symlink(&path, &target, &meta),
            Node::Fifo => self.placer.fifo(&path, &meta),
            Node::CharDevice { .. } | Node::BlockDevice { .. } => self.placer.device(&path, &node, &meta),
        };
        self.note(&path, placed)
    }

    /// Folders whose own entry is lost, so that what is in them need not be lost too.
    fn make_parents(&mut self, path: &[u8]) -> Result<()> {
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' {
                let made = self.placer.make_dir(&path[..at]).map(|()| Vec::new());
                self.note(&path[..at], made)?;
            }
        }
        Ok(())
    }

    /// Of links whose first name is not restored the first one becomes the file itself.
    fn adopt_links(&mut self, source: &SourceEntry) -> Result<()> {
        let mut heirs: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        for (path, first) in std::mem::take(&mut self.links) {
            if is_wanted(self.options, &first) {
                self.links.push((path, first));
            } else if let Some(heir) = heirs.get(&first) {
                self.links.push((path, heir.clone()));
            } else {
                self.names.inherit(&first, &path);
                heirs.insert(first, path);
            }
        }
        let mut walker = TreeWalker::new(&source.tree);
        let (mut window, mut entries, mut more) = (Window::default(), Vec::new(), !heirs.is_empty());
        while more && !heirs.is_empty() {
            more = walker.next(self.reader, &mut entries, window::WINDOW_FILES)?;
            for entry in entries.drain(..) {
                if let Some(heir) = heirs.remove(&entry.path) {
                    self.entry(Entry { path: heir, ..entry }, &mut window)?;
                }
            }
            self.run(&mut window)?;
        }
        for heir in heirs.into_values() {
            self.done.lose(&heir, "the file that it is another name of is lost".to_owned(), true);
        }
        Ok(())
    }

    /// Files with several names whose content is right: those are left alone whose names are right too,
    /// all of them, and the others are written anew.
    fn settle_names(&mut self, source: &SourceEntry) -> Result<()> {
        let mut held = self.names.settle(self.placer);
        let mut walker = TreeWalker::new(&source.tree);
        let (mut window, mut entries, mut more) = (Window::anew(), Vec::new(), !held.is_empty());
        while more && !held.is_empty() {
            more = walker.next(self.reader, &mut entries, window::WINDOW_FILES)?;
            for entry in entries.drain(..) {
                let Some((path, is_right)) = held.remove(&entry.path) else { continue };
                if !is_right {
                    self.entry(Entry { path, ..entry }, &mut window)?;
                    continue;
                }
                let adopted = self.placer.adopt(&path, &entry.meta);
                self.done.files += u64::from(adopted.is_ok());
                self.done.unchanged += u64::from(adopted.is_ok());
                self.note(&path, adopted)?;
            }
            self.run(&mut window)?;
            window = Window::anew();
        }
        for (path, _) in held.into_values() {
            self.done.lose(&path, "its entry could not be read again".to_owned(), true);
        }
        Ok(())
    }

    /// In place: what an earlier restore has left that was killed.
    fn remove_unfinished(&mut self) -> Result<()> {
        let folders: Vec<Vec<u8>> = match self.options.in_place {
            true => self.folders.iter().map(|(path, _)| path.clone()).collect(),
            false => Vec::new(),
        };
        for path in folders {
            let removed = self.placer.remove_unfinished(&path).map(|_| Vec::new());
            self.note(&path, removed)?;
        }
        Ok(())
    }

    /// What cannot be placed is lost, unless everything after it would be too.
    fn note(&mut self, path: &[u8], placed: files::Result<Vec<Difference>>) -> Result<()> {
        match placed {
            Ok(differences) => self.done.differences.extend(differences),
            Err(error) if error.ends_all() => return Err(error.into()),
            Err(error) => self.done.lose(path, Chain(&error).to_string(), false),
        }
        Ok(())
    }

    fn run(&mut self, window: &mut Window) -> Result<()> {
        let gathered = std::mem::take(window);
        let outcome = gathered.run(self.reader, self.placer, self.options, self.monitor)?;
        self.done.files += outcome.files;
        self.done.unchanged += outcome.unchanged;
        self.done.bytes += outcome.bytes;
        self.done.differences.extend(outcome.differences);
        self.done.lost.extend(outcome.lost);
        self.names.hold(outcome.several_names);
        if self.monitor.cancelled() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
    }

    /// Removes what the snapshot does not have. A folder goes whole, unless something in it must stay:
    /// what the capture left out by rule, a socket, the repository, another file system, what cannot be
    /// looked into.
    fn remove_others(&mut self, target: &Path, rules: Option<&Rules>, kept: &HashSet<Vec<u8>>) -> Result<()> {
        let (mut others, mut stay): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let keep = self.options.keep.iter().map(|id| (*id, "snap's own"));
        let walk_options = WalkOptions::by(rules, keep.collect())?;
        files::walk(target, &walk_options, &mut |event| {
            match event {
                files::Event::Found(found) if self.options.keep.contains(&(found.stat.dev, found.stat.ino)) => {
                    stay.push(found.path);
                }
                files::Event::Found(found) => others.push(found.path),
                files::Event::LeftOut { path, reason: files::Reason::Unfinished } => others.push(path),
                files::Event::LeftOut { path, .. } => stay.push(path),
                files::Event::BadPattern { .. } => {}
            }
            ControlFlow::Continue(())
        })?;
        others.retain(|path| !path.is_empty() && !kept.contains(path));
        others.retain(|path| !stay.iter().any(|stays| is_below(path, stays)));
        // In canonical order a folder stands before what is in it.
        others.dedup_by(|path, folder| is_below(folder, path));
        for path in others {
            let removed = self.placer.remove(&path);
            self.done.removed += u64::from(removed.is_ok());
            self.note(&path, removed.map(|()| Vec::new()))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Restored> {
        for path in std::mem::take(&mut self.missing) {
            self.done.lose(&path, "the snapshot has nothing at this path".to_owned(), false);
        }
        for (path, first) in std::mem::take(&mut self.links) {
            let linked = self.placer.hardlink(&path, &first);
            self.done.files += u64::from(linked.is_ok());
            self.done.unchanged += u64::from(matches!(linked, Ok(false)));
            self.note(&path, linked.map(|_| Vec::new()))?;
        }
        for (name, reason) in self.placer.reveal()? {
            self.done.lose(&name, format!("cannot name it: {reason}"), false);
        }
        for (path, meta) in std::mem::take(&mut self.folders).into_iter().rev() {
            let finished = self.placer.finish_dir(&path, &meta);
            self.note(&path, finished)?;
        }
        self.placer.sync()?;
        Ok(self.done)
    }
}
