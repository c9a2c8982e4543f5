//! The scan: everything below a folder, in canonical order, at the price of one `statx` each.
//!
//! For each folder the names are read and sorted, then each is looked at relative to the open
//! folder and reported, a folder just before its content. Nothing is left out in silence: what is
//! not entered, has vanished or cannot be read is reported by its path with the [`Reason`].
//!
//! Memory holds the names of the folders on the way down, not of the tree. Only the deepest
//! `OPEN_LEVELS` folders on the way stay open; one above is opened again through `..` when the
//! scan comes back to it, if it is still the same.

use super::event::{Event, Reason, WalkOptions};
use super::exclude::{CACHE_TAG, FolderRules, IGNORE_FILE, is_tagged_cache};
use super::found::{Found, FoundKind, file_type, kind_of, meta_of, state_of};
use super::handle::{DirHandle, FolderId, folder_id, stat_at, stat_fd};
use super::names::Names;
use super::unfinished::{is_unfinished, is_unfinished_tree};
use super::{Error, Result};
use rustix::fs::{FileType, Statx};
use std::ffi::CStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Folders on the way down that are kept open; the limit of a process may be as low as 1024.
const OPEN_LEVELS: usize = 128;

/// Scans the folder `root` in canonical order and tells `on` of everything, the root first with an
/// empty path, until `on` breaks off.
///
/// # Errors
/// `root` is no folder or cannot be opened. All else is told to `on`.
pub fn walk(root: &Path, options: &WalkOptions, on: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
    let shown = root.as_os_str().as_bytes();
    let handle = DirHandle::open(root).map_err(|error| Error::io("open", shown, error))?;
    let stat = stat_fd(&handle).map_err(|error| Error::io("look at", shown, error))?;
    let root_dev = folder_id(&stat).0;
    let buffer = Vec::new();
    let mut walk = Walk { options, on, levels: Vec::new(), path: Vec::new(), spare: Vec::new(), buffer, root_dev };
    // A break is the caller's own decision, of which it need not be told.
    let _ = walk.run(handle, &stat);
    Ok(())
}

/// One folder on the way down.
struct Level {
    /// `None` while it is closed to save descriptors.
    handle: Option<Arc<DirHandle>>,
    id: FolderId,
    names: Names,
    next: usize,
    path_len: usize,
    rules: Option<FolderRules>,
}

struct Walk<'a> {
    options: &'a WalkOptions,
    on: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
    levels: Vec<Level>,
    /// Path of what is looked at.
    path: Vec<u8>,
    /// Memory of levels that are done.
    spare: Vec<Names>,
    buffer: Vec<u8>,
    root_dev: u64,
}

impl Walk<'_> {
    fn run(&mut self, root: DirHandle, stat: &Statx) -> ControlFlow<()> {
        let root = Arc::new(root);
        let id = folder_id(stat);
        if let Some(what) = self.options.skip.get(&id) {
            return self.left_out(Reason::Skipped(what));
        }
        let found = self.found(FoundKind::Dir, stat, 0, root.clone());
        (self.on)(Event::Found(found))?;
        self.enter(root, id)?;
        while let Some(level) = self.levels.last_mut() {
            let index = level.next;
            if index < level.names.len() {
                level.next += 1;
                self.visit(index)?;
            } else {
                self.leave()?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Looks at one name of the deepest level.
    fn visit(&mut self, index: usize) -> ControlFlow<()> {
        let Some(level) = self.levels.last() else { return ControlFlow::Continue(()) };
        let (Some(parent), Some((name, hint))) = (&level.handle, level.names.get(index)) else {
            return ControlFlow::Continue(());
        };
        self.path.truncate(level.path_len);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let name_start = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        match self.look(parent, name, name_start, hint) {
            Ok(found) if found.kind == FoundKind::Dir => self.visit_dir(found),
            Ok(found) => (self.on)(Event::Found(found)),
            Err(reason) => self.left_out(reason),
        }
    }

    fn look(
        &self,
        parent: &Arc<DirHandle>,
        name: &CStr,
        name_start: usize,
        hint: FileType,
    ) -> std::result::Result<Found, Reason> {
        let is_folder = hint == FileType::Directory;
        if (!is_folder && is_unfinished(name.to_bytes())) || (name_start == 0 && is_unfinished_tree(name.to_bytes())) {
            return Err(Reason::Unfinished);
        }
        // Before the `statx`, so that what is excluded cannot fail.
        if hint != FileType::Unknown && self.excluded(hint == FileType::Directory) {
            return Err(Reason::Excluded);
        }
        let stat = stat_at(parent, name).map_err(Reason::of)?;
        let Some(kind) = kind_of(&stat) else {
            return Err(match file_type(&stat) {
                FileType::Socket => Reason::Socket,
                _ => Reason::Unreadable(io::Error::other("a file of a kind that is not known")),
            });
        };
        if hint == FileType::Unknown && self.excluded(kind == FoundKind::Dir) {
            return Err(Reason::Excluded);
        }
        if kind == FoundKind::Dir
            && let Some(what) = self.options.skip.get(&folder_id(&stat))
        {
            return Err(Reason::Skipped(what));
        }
        Ok(self.found(kind, &stat, name_start, parent.clone()))
    }

    fn found(&self, kind: FoundKind, stat: &Statx, name_start: usize, parent: Arc<DirHandle>) -> Found {
        Found { path: self.path.clone(), name_start, kind, meta: meta_of(stat), stat: state_of(stat), parent }
    }

    fn visit_dir(&mut self, found: Found) -> ControlFlow<()> {
        let opened = self.open(&found);
        let id = (found.stat.dev, found.stat.ino);
        (self.on)(Event::Found(found))?;
        match opened {
            Ok(handle) => self.enter(Arc::new(handle), id),
            Err(reason) => self.left_out(reason),
        }
    }

    fn open(&self, found: &Found) -> std::result::Result<DirHandle, Reason> {
        if self.options.one_file_system && found.stat.dev != self.root_dev {
            return Err(Reason::OtherFileSystem);
        }
        let handle = found.parent.child(found.name()).map_err(Reason::of)?;
        // Opening may have mounted something, and another folder may have taken the place.
        let id = folder_id(&stat_fd(&handle).map_err(Reason::of)?);
        if id == (found.stat.dev, found.stat.ino) {
            return Ok(handle);
        }
        let mounted = id.0 != found.stat.dev && self.options.one_file_system;
        Err(if mounted { Reason::OtherFileSystem } else { Reason::Replaced })
    }

    /// Reads the names of the folder at `self.path` and makes it the deepest level.
    fn enter(&mut self, handle: Arc<DirHandle>, id: FolderId) -> ControlFlow<()> {
        let mut names = self.spare.pop().unwrap_or_default();
        if let Err(error) = names.read(&handle, &mut self.buffer) {
            self.left_out(Reason::of(error))?;
        }
        let exclude = &self.options.exclude;
        if exclude.wants_cache_tags() && names.contains(CACHE_TAG) && is_tagged_cache(&handle) {
            names.keep_only(CACHE_TAG);
            self.left_out(Reason::Cache)?;
        }
        let rules =
            if exclude.wants_ignore_files() && names.contains(IGNORE_FILE) { self.rules(&handle)? } else { None };
        self.levels.push(Level { handle: Some(handle), id, names, next: 0, path_len: self.path.len(), rules });
        // The root stays open: it is nobody's `..`.
        if let Some(old @ 1..) = self.levels.len().checked_sub(OPEN_LEVELS)
            && let Some(level) = self.levels.get_mut(old)
        {
            level.handle = None;
        }
        ControlFlow::Continue(())
    }

    fn rules(&mut self, handle: &DirHandle) -> ControlFlow<(), Option<FolderRules>> {
        let (rules, complaints) = match FolderRules::read(handle) {
            Ok(read) => read,
            Err(error) => (None, vec![error.to_string()]),
        };
        for message in complaints {
            let mut path = self.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(IGNORE_FILE);
            (self.on)(Event::BadPattern { path, message })?;
        }
        ControlFlow::Continue(rules)
    }

    /// The deepest level is done: back to the one above, which may have to be opened again.
    fn leave(&mut self) -> ControlFlow<()> {
        let Some(done) = self.levels.pop() else { return ControlFlow::Continue(()) };
        self.spare.push(done.names);
        if let (Some(level), Some(below)) = (self.levels.last_mut(), &done.handle)
            && level.handle.is_none()
        {
            level.handle = below.parent(level.id).ok().map(Arc::new);
        }
        // A folder that was moved away under the scan takes those above with it, as far as they
        // are closed. What is left of them is reported, not guessed.
        while let Some(level) = self.levels.last()
            && level.handle.is_none()
        {
            self.path.truncate(level.path_len);
            self.levels.pop();
            self.left_out(Reason::Replaced)?;
        }
        ControlFlow::Continue(())
    }

    fn excluded(&self, is_dir: bool) -> bool {
        if !self.options.exclude.is_empty()
            && let Some(verdict) = self.options.exclude.verdict(&self.path, is_dir)
        {
            return verdict;
        }
        if !self.options.exclude.wants_ignore_files() {
            return false;
        }
        let below = |level: &Level| {
            let path = self.path.get(level.path_len..)?;
            level.rules.as_ref()?.verdict(path.strip_prefix(b"/").unwrap_or(path), is_dir)
        };
        self.levels.iter().rev().find_map(below).unwrap_or(false)
    }

    fn left_out(&mut self, reason: Reason) -> ControlFlow<()> {
        (self.on)(Event::LeftOut { path: self.path.clone(), reason })
    }
}
