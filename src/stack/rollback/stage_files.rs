//! Making a folder's part of a restore ready: what differs is restored beside it, and only that is swapped.
//!
//! Files that the snapshot does not have stay where they are, because a project's folder holds more than was
//! captured; but a Compose file or `.env` that did not exist then goes aside, since with it the application would not
//! be what it was. What lies beside a SQLite database belongs to other content of it and goes aside too.
//!
//! The first comparison is made while services run. Once they stand still, what was touched since is compared again.

use super::{Error, Result, STAGE_PREFIX, Swap};
use crate::monitor::Monitor;
use crate::repo::entry::{Entry, Extent, Meta, Node, shown};
use crate::repo::manifest::SourceEntry;
use crate::repo::reader::Reader;
use crate::repo::walk::TreeWalker;
use crate::stack::capture::sqlite::BESIDE;
use crate::stack::files::{Disk, PlaceOptions, Placer};
use crate::stack::restore::{FolderRestore, restore_folder};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// More paths than this are not picked out one by one: all of the folder is restored then.
const PICKED_MAX: usize = 2000;
/// Seconds before the first comparison in which a change may have been missed by the clock's grain.
const GRAIN_SECONDS: i64 = 3;

/// A folder of which a part is brought back.
pub struct Folder<'a> {
    /// The source.
    pub source: &'a SourceEntry,
    /// Where it is, without links.
    pub root: PathBuf,
    /// What is wanted of it: paths, and what is below them; all if empty.
    pub only: Vec<Vec<u8>>,
    /// Names in it that go aside if the snapshot does not have them.
    pub inputs: Vec<&'static str>,
    /// True if everything goes aside that the snapshot does not have.
    pub exact: bool,
    /// Threads.
    pub workers: usize,
}

/// What differs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences {
    /// Paths of the snapshot that are to be swapped in, each the topmost of what is new.
    pub changed: BTreeSet<Vec<u8>>,
    /// Folders that are there and get other attributes.
    pub folders: BTreeMap<Vec<u8>, Metadata>,
    /// Names that go aside.
    pub gone: BTreeSet<Vec<u8>>,
    /// Bytes that must be staged.
    pub bytes: u64,
}

/// The attributes that a folder gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Meta);

impl Folder<'_> {
    /// Compares the folder with the snapshot. With `known`, files that were not touched since are not read again: what
    /// differed then still does.
    ///
    /// # Errors
    /// The tree is damaged, the folder cannot be looked at, or the person stops the work.
    pub fn differences(
        &self,
        reader: &mut Reader<'_>,
        known: Option<(&Differences, i64)>,
        monitor: &dyn Monitor,
    ) -> Result<Differences> {
        let place = PlaceOptions { in_place: true, exact: true, privileged: true };
        let placer = if self.root.is_dir() { Some(Placer::open(&self.root, place)?) } else { None };
        let mut found = Comparison {
            folder: self,
            placer,
            known,
            slices: reader.another()?,
            found: Differences::default(),
            new_below: None,
            seen: BTreeSet::new(),
            all: BTreeSet::new(),
            folders: BTreeMap::new(),
        };
        let mut walker = TreeWalker::new(&self.source.tree);
        let (mut entries, mut more) = (Vec::new(), true);
        while more {
            more = walker.next(reader, &mut entries, 1024)?;
            if let Some(lost) = walker.lost().into_iter().next() {
                return Err(Error::Repo(crate::repo::Error::Damaged { object: "the snapshot".to_owned(), what: lost }));
            }
            for entry in entries.drain(..) {
                found.entry(entry)?;
            }
            if monitor.cancelled() {
                return Err(Error::Repo(crate::repo::Error::Interrupted));
            }
        }
        found.finish()
    }

    /// Restores what differs into the folder `stage`, which is made, on the same file system.
    ///
    /// # Errors
    /// Something of it cannot be restored: then nothing is to be swapped.
    pub fn stage(
        &self,
        reader: &mut Reader<'_>,
        changed: &BTreeSet<Vec<u8>>,
        stage: &Path,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        make_stage(stage)?;
        if changed.is_empty() {
            return Ok(());
        }
        let whole = changed.len() > PICKED_MAX || changed.contains(&Vec::new());
        let options = FolderRestore {
            privileged: rustix::process::geteuid().is_root(),
            only: if whole { Vec::new() } else { changed.iter().cloned().collect() },
            workers: self.workers,
            ..FolderRestore::default()
        };
        let done = restore_folder(reader, self.source, stage, &options, monitor)?;
        match done.lost.first() {
            None => Ok(()),
            Some(lost) if lost.damage => {
                Err(Error::Repo(crate::repo::Error::Damaged { object: lost.path.clone(), what: lost.message.clone() }))
            }
            Some(lost) => Err(Error::Engine { subject: lost.path.clone(), message: lost.message.clone() }),
        }
    }

    /// The swaps, in the order in which they are done. `stages` says where each changed path waits.
    ///
    /// # Errors
    /// Something is not there any more.
    pub fn swaps(
        &self,
        differences: &Differences,
        stage_of: &dyn Fn(&[u8]) -> PathBuf,
        aside: &Path,
    ) -> Result<Vec<Swap>> {
        let mut swaps = Vec::new();
        for (number, path) in differences.gone.iter().enumerate() {
            let live = self.at(path);
            if let Some(old) = Disk.inode(&live)? {
                swaps.push(Swap::Go { live, kept: aside.join(format!("aside-{number}")), old });
            }
        }
        for path in &differences.changed {
            let (live, staged) = (self.at(path), stage_of(path));
            let Some(new) = Disk.inode(&staged)? else { return Err(Error::Strange { path: staged }) };
            swaps.push(match Disk.inode(&live)? {
                Some(old) => Swap::Exchange { live, kept: staged, old, new },
                None => Swap::Come { live, staged, new },
            });
        }
        // The deepest first, as times are set.
        for (path, wanted) in differences.folders.iter().rev() {
            let live = self.at(path);
            let old = (&Disk.attributes(&live)?).into();
            swaps.push(Swap::Attributes { path: live, old, new: (&wanted.0).into() });
        }
        Ok(swaps)
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(std::ffi::OsStr::from_bytes(path)) }
    }
}

/// A folder and what differs in it.
pub(super) struct FolderPart<'m> {
    pub(super) folder: Folder<'m>,
    pub(super) differences: Differences,
    pub(super) stage: PathBuf,
    /// What the folder was before anything was made ready in it.
    pub(super) before: Option<Meta>,
}

impl FolderPart<'_> {
    /// The swaps, with the attributes that the folder itself had before.
    pub(super) fn swaps(&self, differences: &Differences, stage_of: &dyn Fn(&[u8]) -> PathBuf) -> Result<Vec<Swap>> {
        let mut swaps = self.folder.swaps(differences, stage_of, &self.stage)?;
        let Some(before) = &self.before else { return Ok(swaps) };
        let root = &self.folder.root;
        for swap in &mut swaps {
            if let Swap::Attributes { path, old, .. } = swap
                && path == root
            {
                *old = before.into();
                return Ok(swaps);
            }
        }
        swaps.push(Swap::Attributes { path: root.clone(), old: before.into(), new: before.into() });
        Ok(swaps)
    }
}

/// Makes a folder for things that wait, closed to others.
///
/// # Errors
/// It cannot be made.
pub fn make_stage(stage: &Path) -> Result<()> {
    let failed = |source| Error::state("make the folder", stage, source);
    crate::fs::create_dir_durable(stage).map_err(failed)
}

struct Comparison<'a, 'r> {
    folder: &'a Folder<'a>,
    placer: Option<Placer>,
    known: Option<(&'a Differences, i64)>,
    slices: Reader<'r>,
    found: Differences,
    /// What is below this comes with it.
    new_below: Option<Vec<u8>>,
    /// Names at the top of the snapshot.
    seen: BTreeSet<Vec<u8>>,
    /// All paths of the snapshot, if what it does not have goes aside.
    all: BTreeSet<Vec<u8>>,
    /// Folders that are there.
    folders: BTreeMap<Vec<u8>, Meta>,
}

impl Comparison<'_, '_> {
    fn entry(&mut self, entry: Entry) -> Result<()> {
        if !entry.path.contains(&b'/') {
            self.seen.insert(entry.path.clone());
        }
        if self.folder.exact {
            self.all.insert(entry.path.clone());
        }
        if let Some(above) = &self.new_below {
            if is_below(above, &entry.path) {
                self.found.bytes += entry.size();
                return Ok(());
            }
            self.new_below = None;
        }
        let only = &self.folder.only;
        let wanted = only.is_empty() || only.iter().any(|path| is_below(path, &entry.path));
        let on_the_way = only.iter().any(|path| is_below(&entry.path, path));
        if !(wanted || (on_the_way && matches!(entry.node, Node::Dir))) {
            return Ok(());
        }
        let live = self.folder.at(&entry.path);
        let there = std::fs::symlink_metadata(&live).ok();
        let same = there.as_ref().is_some_and(|there| is_kind(&entry.node, there));
        if matches!(entry.node, Node::Dir) {
            if same {
                if wanted {
                    self.folders.insert(entry.path, entry.meta);
                }
            } else {
                self.change(&entry);
                self.new_below = Some(entry.path);
            }
            return Ok(());
        }
        let untouched = match (&self.known, &there) {
            (Some((known, since)), Some(there)) => {
                !known.changed.contains(&entry.path) && there.ctime() < *since - GRAIN_SECONDS
            }
            _ => false,
        };
        if !same || !(untouched || self.is_right(&entry, &live)?) {
            self.change(&entry);
        }
        Ok(())
    }

    fn change(&mut self, entry: &Entry) {
        self.found.bytes += entry.size();
        self.found.changed.insert(entry.path.clone());
    }

    fn is_right(&mut self, entry: &Entry, live: &Path) -> Result<bool> {
        let content = match &entry.node {
            // It is right if it is a name of the file that its first name is, and that one stays.
            Node::Hardlink(first) => {
                return Ok(
                    !self.found.changed.contains(first) && Disk.inode(live)? == Disk.inode(&self.folder.at(first))?
                );
            }
            Node::Symlink(target) => std::fs::read_link(live).is_ok_and(|found| found.as_os_str().as_bytes() == target),
            Node::File(extents) => self.has_content(&entry.path, extents),
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                let number = rustix::fs::makedev(*major, *minor);
                std::fs::symlink_metadata(live).is_ok_and(|found| found.rdev() == number)
            }
            Node::Fifo | Node::Dir => true,
        };
        if !content {
            return Ok(false);
        }
        let now = Disk.attributes(live)?;
        let mode = matches!(entry.node, Node::Symlink(_)) || now.mode == entry.meta.mode;
        let owned = (now.uid, now.gid) == (entry.meta.uid, entry.meta.gid) || !rustix::process::geteuid().is_root();
        Ok(mode && owned && now.mtime == entry.meta.mtime && now.xattrs == entry.meta.xattrs)
    }

    fn has_content(&mut self, path: &[u8], extents: &[Extent]) -> bool {
        let Some(placer) = &self.placer else { return false };
        let slices = &mut self.slices;
        // A file with other names is brought back together with them.
        let names = placer.has_content(path, extents, &mut |bytes, extent| match extent {
            Extent::Chunk { id, .. } => slices.name(bytes) == *id,
            Extent::Slice { .. } => slices.content(extent).is_ok_and(|stored| stored == bytes),
            Extent::Hole { .. } => false,
        });
        names == Some(1)
    }

    fn finish(mut self) -> Result<Differences> {
        if self.folder.only.is_empty() {
            for name in self.folder.inputs.iter().map(|name| name.as_bytes().to_vec()) {
                if !self.seen.contains(&name) && Disk.inode(&self.folder.at(&name))?.is_some() {
                    self.found.gone.insert(name);
                }
            }
        }
        if self.folder.exact {
            self.found.gone.extend(self.others()?);
        }
        for database in &self.folder.source.sqlite {
            let changed: Vec<Vec<u8>> =
                self.found.changed.iter().filter(|path| shown(path) == *database).cloned().collect();
            for beside in changed.iter().flat_map(|path| BESIDE.map(|suffix| [path, suffix].concat())) {
                if Disk.inode(&self.folder.at(&beside))?.is_some() {
                    self.found.gone.insert(beside);
                }
            }
        }
        let touched: BTreeSet<Vec<u8>> =
            self.found.changed.iter().chain(&self.found.gone).map(|path| parent(path)).collect();
        for (path, meta) in std::mem::take(&mut self.folders) {
            let now = Disk.attributes(&self.folder.at(&path))?;
            if touched.contains(&path) || now != meta {
                self.found.folders.insert(path, Metadata(meta));
            }
        }
        Ok(self.found)
    }
}

impl Comparison<'_, '_> {
    /// What is there and the snapshot does not have, each the topmost.
    fn others(&self) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        for folder in self.folders.keys() {
            let at = self.folder.at(folder);
            let failed = |source| Error::state("look into", &at, source);
            for entry in std::fs::read_dir(&at).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let name = name.as_bytes();
                let path = if folder.is_empty() { name.to_vec() } else { [folder, &b"/"[..], name].concat() };
                let is_stage = folder.is_empty() && name.starts_with(STAGE_PREFIX.as_bytes());
                if !is_stage && !self.all.contains(&path) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

fn parent(path: &[u8]) -> Vec<u8> {
    path.iter().rposition(|byte| *byte == b'/').map_or_else(Vec::new, |at| path[..at].to_vec())
}

/// True for `folder` itself and what is in it.
fn is_below(folder: &[u8], path: &[u8]) -> bool {
    folder.is_empty() || path == folder || (path.starts_with(folder) && path.get(folder.len()) == Some(&b'/'))
}

fn is_kind(node: &Node, there: &std::fs::Metadata) -> bool {
    let kind = there.file_type();
    match node {
        Node::Dir => kind.is_dir(),
        Node::File(_) | Node::Hardlink(_) => kind.is_file(),
        Node::Symlink(_) => kind.is_symlink(),
        Node::Fifo => kind.is_fifo(),
        Node::CharDevice { .. } => kind.is_char_device(),
        Node::BlockDevice { .. } => kind.is_block_device(),
    }
}
