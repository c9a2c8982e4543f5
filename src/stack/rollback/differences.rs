//! What differs between a folder and what a snapshot has of it, and what is there that the snapshot does not have.
//!
//! What was left out by rule, sockets, other file systems, the repository and the key in use are not looked at: they
//! stay whatever is asked.

use super::stage_files::Folder;
use super::{Error, Result, STAGE_PREFIX};
use crate::monitor::Monitor;
use crate::repo::entry::{Entry, Extent, Meta, Node, shown};
use crate::repo::reader::Reader;
use crate::repo::walk::TreeWalker;
use crate::stack::capture::sqlite::BESIDE;
use crate::stack::files::{self, Disk, PlaceOptions, Placer, WalkOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Seconds before the first comparison in which a change may have been missed by the clock's grain.
const GRAIN_SECONDS: i64 = 3;

/// What differs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences {
    /// Paths of the snapshot that are to be swapped in, each the topmost of what is new.
    pub changed: BTreeSet<Vec<u8>>,
    /// Folders that are there and get other attributes.
    pub folders: BTreeMap<Vec<u8>, Metadata>,
    /// Names that go aside.
    pub gone: BTreeSet<Vec<u8>>,
    /// What the snapshot does not have and stays, each the topmost. Looked for at the first comparison alone.
    pub stays: Vec<Vec<u8>>,
    /// Bytes that must be staged.
    pub bytes: u64,
}

/// The attributes that a folder gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(pub(super) Meta);

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
        if self.looks_for_others() {
            self.all.insert(entry.path.clone());
        }
        if self.folder.without.iter().any(|path| is_below(path, &entry.path)) {
            return Ok(());
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
        let Some(now) = attributes(live)? else { return Ok(false) };
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
        if self.looks_for_others() {
            for path in self.others()? {
                match self.folder.exact.iter().any(|folder| is_below(folder, &path)) {
                    true => drop(self.found.gone.insert(path)),
                    false => self.found.stays.push(path),
                }
            }
            let gone = &self.found.gone;
            self.found.stays.retain(|path| !gone.contains(path));
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
            // A folder that has vanished meanwhile is found when all stand still.
            let Some(now) = attributes(&self.folder.at(&path))? else { continue };
            if touched.contains(&path) || now != meta {
                self.found.folders.insert(path, Metadata(meta));
            }
        }
        Ok(self.found)
    }
}

impl Comparison<'_, '_> {
    fn looks_for_others(&self) -> bool {
        self.known.is_none() || !self.folder.exact.is_empty()
    }

    /// What is there and the snapshot does not have, each the topmost, as far as it is wanted. A folder in which
    /// something must stay is none of it, but what else is in it.
    fn others(&self) -> Result<Vec<Vec<u8>>> {
        let (mut others, mut stay) = (Vec::new(), self.folder.without.clone());
        if !self.folder.root.is_dir() {
            return Ok(others);
        }
        files::walk(&self.folder.root, &self.folder.walk_options()?, &mut |event| {
            match event {
                files::Event::Found(found)
                    if is_staged(&found.path) || self.folder.keep.contains(&(found.stat.dev, found.stat.ino)) =>
                {
                    stay.push(found.path);
                }
                files::Event::Found(found) if !self.all.contains(&found.path) => others.push(found.path),
                files::Event::LeftOut { path, .. } => stay.push(path),
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        let only = &self.folder.only;
        others.retain(|path| only.is_empty() || only.iter().any(|wanted| is_below(wanted, path)));
        let stays = |path: &Vec<u8>| stay.iter().any(|stays| is_below(path, stays) || is_below(stays, path));
        others.retain(|path| !path.is_empty() && !stays(path));
        // In canonical order a folder stands before what is in it.
        others.dedup_by(|path, folder| is_below(folder, path));
        // What is in a folder that the snapshot has as something else goes with that.
        let is_in_changed = |path: &Vec<u8>| {
            let mut above = (0..path.len()).filter(|at| path[*at] == b'/').map(|at| &path[..at]);
            above.any(|above| self.found.changed.contains(above))
        };
        others.retain(|path| !is_in_changed(path));
        Ok(others)
    }
}

impl Folder<'_> {
    /// How what the snapshot does not have is looked for: by the rules of the capture, and by those by which the
    /// present is kept as a snapshot, so that nothing goes that is in none.
    fn walk_options(&self) -> Result<WalkOptions> {
        let skip = self.keep.iter().map(|id| (*id, "snap's own")).collect();
        let options = match &self.source.rules {
            Some(rules) => {
                let by = WalkOptions::by(Some(rules), skip)?;
                WalkOptions { exclude: by.exclude.ignore_files(true), ..by }
            }
            // A volume's own content does not decide what becomes of it.
            None => WalkOptions { skip, ..WalkOptions::default() },
        };
        Ok(options)
    }
}

/// True for what a restore puts somewhere for a while, or has kept.
fn is_staged(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(STAGE_PREFIX.as_bytes()))
}

/// The attributes at `path`; `None` where nothing is any more.
pub(super) fn attributes(path: &Path) -> Result<Option<Meta>> {
    match Disk.attributes(path) {
        Err(files::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn parent(path: &[u8]) -> Vec<u8> {
    path.iter().rposition(|byte| *byte == b'/').map_or_else(Vec::new, |at| path[..at].to_vec())
}

/// True for `folder` itself and what is in it.
pub(super) fn is_below(folder: &[u8], path: &[u8]) -> bool {
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
