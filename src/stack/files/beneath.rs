//! Reaching folders below one folder, and never one outside it.
//!
//! The kernel does it with `openat2`: beneath the handle, through no link. Where that call is
//! missing or forbidden, each part of the path is opened by itself without following a link. A
//! path longer than the kernel takes in one piece goes in several. The last folders that were
//! reached stay open, because entries come folder by folder.

use super::{Error, Result};
use crate::monitor::lock;
use crate::repo::entry::is_valid_path;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result as SysResult};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// Folders that are kept open.
const CACHED_MAX: usize = 32;
/// Longest path that goes to the kernel in one piece; it takes up to 4095 bytes.
const PIECE_BYTES_MAX: usize = 4000;
/// Most parts of a path in one piece. The folder behind each piece is remembered, so that finishing
/// a very deep tree from its end does not begin at the root each time.
const PIECE_PARTS_MAX: usize = 64;
/// How often the kernel may ask to try again because of a rename elsewhere.
const ATTEMPTS_MAX: u32 = 64;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open folder and the name of something in it.
pub(super) struct Spot {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: CString,
}

/// A folder and what is below it.
#[derive(Debug)]
pub(super) struct Beneath {
    root: Arc<OwnedFd>,
    /// Where what was below the root lies now.
    moved: OnceLock<Arc<OwnedFd>>,
    /// The last used first.
    cached: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
    has_openat2: AtomicBool,
}

impl Beneath {
    pub(super) fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, moved: OnceLock::new(), cached: Mutex::default(), has_openat2: AtomicBool::new(true) }
    }

    pub(super) fn root(&self) -> &Arc<OwnedFd> {
        self.moved.get().unwrap_or(&self.root)
    }

    /// From now on everything is below `root`, whereto all that was in the old one was moved. Folders that are
    /// open are still the same.
    pub(super) fn move_to(&self, root: Arc<OwnedFd>) {
        let _ = self.moved.set(root);
    }

    /// From now on without `openat2`.
    #[cfg(test)]
    pub(super) fn without_openat2(&self) {
        self.has_openat2.store(false, Ordering::Relaxed);
    }

    /// The folder that holds `path`, and its name there.
    ///
    /// # Errors
    /// `path` is not one that a tree may hold, or is the root, or its folder cannot be reached.
    pub(super) fn spot(&self, path: &[u8]) -> Result<Spot> {
        let invalid = || Error::Path { path: crate::repo::entry::shown(path) };
        if path.is_empty() || !is_valid_path(path) {
            return Err(invalid());
        }
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
            None => (&[][..], path),
        };
        let name = CString::new(name).map_err(|_| invalid())?;
        let dir = self.reach(parent).map_err(|error| Error::io("reach the folder of", path, error))?;
        Ok(Spot { dir, name })
    }

    /// The folder `path`, pinned but not opened for reading.
    ///
    /// # Errors
    /// `path` is not one that a tree may hold, or cannot be reached.
    pub(super) fn folder(&self, path: &[u8]) -> Result<Arc<OwnedFd>> {
        if !is_valid_path(path) {
            return Err(Error::Path { path: crate::repo::entry::shown(path) });
        }
        self.reach(path).map_err(|error| Error::io("reach", path, error))
    }

    /// Forgets what was known of `path` and below: another thing has taken its place.
    pub(super) fn forget(&self, path: &[u8]) {
        lock(&self.cached).retain(|(cached, _)| rest_below(cached, path).is_none());
    }

    fn reach(&self, path: &[u8]) -> SysResult<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root().clone());
        }
        let (mut dir, mut rest) = self.nearest(path);
        while !rest.is_empty() {
            let (piece, behind) = first_piece(rest);
            dir = Arc::new(self.open(&dir, piece)?);
            let reached = path.len() - behind.len() - usize::from(!behind.is_empty());
            self.remember(path.get(..reached).unwrap_or(path), &dir);
            rest = behind;
        }
        Ok(dir)
    }

    fn remember(&self, path: &[u8], dir: &Arc<OwnedFd>) {
        let mut cached = lock(&self.cached);
        cached.truncate(CACHED_MAX - 1);
        cached.insert(0, (path.to_vec(), dir.clone()));
    }

    /// The open folder that is nearest above `path` or is it, and the way from there.
    fn nearest<'p>(&self, path: &'p [u8]) -> (Arc<OwnedFd>, &'p [u8]) {
        let mut cached = lock(&self.cached);
        let ways = cached.iter().enumerate().filter_map(|(i, (known, _))| Some((i, rest_below(path, known)?)));
        match ways.min_by_key(|(_, rest)| rest.len()) {
            Some((index, rest)) => {
                let used = cached.remove(index);
                let dir = used.1.clone();
                cached.insert(0, used);
                (dir, rest)
            }
            None => (self.root().clone(), path),
        }
    }

    /// Opens the folder `path` beneath `dir`; `path` has no `..` and is short enough.
    fn open(&self, dir: &OwnedFd, path: &[u8]) -> SysResult<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        while self.has_openat2.load(Ordering::Relaxed) {
            match rustix::fs::openat2(dir, path, FOLDER, Mode::empty(), how) {
                Err(Errno::AGAIN) if attempts < ATTEMPTS_MAX => attempts += 1,
                Err(Errno::NOSYS) => self.has_openat2.store(false, Ordering::Relaxed),
                // The answer of container sandboxes to a call that they do not know.
                Err(Errno::PERM) => break,
                other => return other,
            }
        }
        let mut at: Option<OwnedFd> = None;
        for part in path.split(|b| *b == b'/') {
            at = Some(rustix::fs::openat(at.as_ref().unwrap_or(dir), part, FOLDER, Mode::empty())?);
        }
        at.ok_or(Errno::NOENT)
    }
}

/// The way from the folder `above` to `path`, empty if they are the same; `None` if it is not above.
fn rest_below<'p>(path: &'p [u8], above: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(above)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// Cuts `path` between two parts so that the first piece is short enough.
fn first_piece(path: &[u8]) -> (&[u8], &[u8]) {
    let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    // A part has at most 255 bytes, hence a path that is too long has a slash in its first piece.
    match slashes.take(PIECE_PARTS_MAX).take_while(|at| *at <= PIECE_BYTES_MAX).enumerate().last() {
        Some((index, cut)) if index + 1 == PIECE_PARTS_MAX || path.len() > PIECE_BYTES_MAX => {
            (path.get(..cut).unwrap_or(path), path.get(cut + 1..).unwrap_or_default())
        }
        _ => (path, &[]),
    }
}
