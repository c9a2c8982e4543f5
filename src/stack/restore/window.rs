//! The files of one window: their chunks fetched in the packs' order, written side by side.

use super::{FolderRestore, Lost, Result};
use crate::monitor::{Monitor, lock};
use crate::repo::entry::{Extent, Meta, shown};
use crate::repo::reader::{Piece, Reader, Stretch};
use crate::repo::sync::Chain;
use crate::stack::capture::sqlite::BESIDE;
use crate::stack::files::{self, Difference, PendingFile, Placer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Files in one window: as many may be open at once in the worst case.
pub(super) const WINDOW_FILES: usize = 16_384;
/// Extents in one window, which bounds its memory.
const WINDOW_EXTENTS: usize = 1 << 18;

/// Files that are restored together.
#[derive(Default)]
pub(super) struct Window {
    files: Vec<WindowFile>,
    extents: usize,
    /// What is there already does not count, right or not.
    anew: bool,
}

struct WindowFile {
    path: Vec<u8>,
    meta: Meta,
    extents: Vec<Extent>,
    /// A database's log and journal belong to other content than this and must not meet it.
    is_database: bool,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    pending: Option<Arc<PendingFile>>,
    chunks_left: usize,
    failed: bool,
}

/// What became of a window.
#[derive(Default)]
pub(super) struct Outcome {
    pub files: u64,
    pub unchanged: u64,
    pub bytes: u64,
    pub differences: Vec<Difference>,
    pub lost: Vec<Lost>,
    /// In place: files with the right content and several names, which are not restored yet.
    pub several_names: Vec<Vec<u8>>,
}

impl WindowFile {
    fn size(&self) -> u64 {
        self.extents.iter().map(Extent::len).sum()
    }

    /// Gives it up; dropping what was written removes it. False if that has been done before.
    fn fail(&self) -> bool {
        let mut progress = lock(&self.progress);
        !std::mem::replace(&mut *progress, Progress { failed: true, ..Progress::default() }).failed
    }

    /// Counts so many pieces as written; with the last of them gives the file.
    fn count(&self, pieces: usize) -> Option<Arc<PendingFile>> {
        let mut progress = lock(&self.progress);
        progress.chunks_left = progress.chunks_left.saturating_sub(pieces);
        if progress.chunks_left == 0 { progress.pending.take() } else { None }
    }

    /// Removes what lies beside a database in the target: SQLite would otherwise replay a log of
    /// today into the database of then.
    fn clear_beside(&self, placer: &Placer) -> files::Result<()> {
        let mut suffixes = BESIDE.iter().filter(|_| self.is_database);
        suffixes.try_for_each(|suffix| placer.remove(&[&self.path, *suffix].concat()))
    }
}

struct Run<'a> {
    files: &'a [WindowFile],
    placer: &'a Placer,
    monitor: &'a dyn Monitor,
    bytes: AtomicU64,
    outcome: Mutex<Outcome>,
    /// Why nothing more can be written.
    end: Mutex<Option<files::Error>>,
}

impl Window {
    /// One whose files are written whatever is there.
    pub(super) fn anew() -> Self {
        Self { anew: true, ..Self::default() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= WINDOW_FILES || self.extents >= WINDOW_EXTENTS
    }

    pub(super) fn add(&mut self, path: Vec<u8>, extents: Vec<Extent>, meta: Meta, is_database: bool) {
        self.extents += extents.len() + 1;
        let chunks_left = extents.iter().filter(|e| e.chunk().is_some()).count();
        let progress = Mutex::new(Progress { chunks_left, ..Progress::default() });
        self.files.push(WindowFile { path, meta, extents, is_database, progress });
    }

    /// Restores the files.
    pub(super) fn run(
        mut self,
        reader: &Reader<'_>,
        placer: &Placer,
        options: &FolderRestore,
        monitor: &dyn Monitor,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if options.in_place && !self.anew {
            self.leave_out_what_is_right(reader, placer, &mut outcome);
        }
        let mut pieces = Vec::with_capacity(self.extents);
        for (file, target) in self.files.iter().zip(0u32..) {
            let mut offset = 0;
            for extent in &file.extents {
                pieces.extend(Piece::of(extent, target, offset));
                offset += extent.len();
            }
        }
        let run = Run {
            files: &self.files,
            placer,
            monitor,
            bytes: AtomicU64::new(0),
            outcome: Mutex::new(outcome),
            end: Mutex::new(None),
        };
        for file in self.files.iter().filter(|file| lock(&file.progress).chunks_left == 0) {
            run.without_chunks(file);
        }
        if lock(&run.end).is_none() {
            reader.pieces(&pieces, options.workers, &|stretch, bytes| run.deliver(stretch, bytes))?;
        }
        if let Some(error) = lock(&run.end).take() {
            return Err(error.into());
        }
        let mut outcome = run.outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        outcome.bytes = run.bytes.into_inner();
        Ok(outcome)
    }

    /// In place: a file whose content is that of the snapshot only gets its attributes.
    fn leave_out_what_is_right(&mut self, reader: &Reader<'_>, placer: &Placer, outcome: &mut Outcome) {
        let mut slices: Option<Reader<'_>> = None;
        // A part of a chunk has no name of its own: what is stored is compared byte by byte.
        let mut is = |bytes: &[u8], extent: &Extent| match extent {
            Extent::Chunk { id, .. } => reader.name(bytes) == *id,
            Extent::Slice { .. } => {
                if slices.is_none() {
                    slices = reader.another().ok();
                }
                let stored = slices.as_mut().and_then(|slices| slices.content(extent).ok());
                stored.is_some_and(|stored| stored == bytes)
            }
            Extent::Hole { .. } => false,
        };
        self.files.retain(|file| {
            match placer.has_content(&file.path, &file.extents, &mut is) {
                None => return true,
                Some(1) => {}
                Some(_) => {
                    outcome.several_names.push(file.path.clone());
                    return false;
                }
            }
            match file.clear_beside(placer).and_then(|()| placer.adopt(&file.path, &file.meta)) {
                Ok(differences) => {
                    outcome.differences.extend(differences);
                    outcome.files += 1;
                    outcome.unchanged += 1;
                    false
                }
                Err(_) => true,
            }
        });
    }
}

impl Run<'_> {
    fn without_chunks(&self, file: &WindowFile) {
        match self.placer.begin_file(&file.path, file.size()).and_then(|pending| pending.finish(&file.meta)) {
            Ok(differences) => self.kept(differences),
            Err(error) => self.refused(file, error),
        }
    }

    fn refused(&self, file: &WindowFile, error: files::Error) {
        if error.ends_all() {
            lock(&self.end).get_or_insert(error);
        } else {
            self.lost(file, Chain(&error).to_string(), false);
        }
    }

    fn kept(&self, differences: Vec<Difference>) {
        let mut outcome = lock(&self.outcome);
        outcome.files += 1;
        outcome.differences.extend(differences);
    }

    fn lost(&self, file: &WindowFile, message: String, damage: bool) {
        lock(&self.outcome).lost.push(Lost { path: shown(&file.path), raw: file.path.clone(), message, damage });
    }

    fn deliver(&self, stretch: &Stretch, bytes: std::result::Result<&[u8], &str>) -> bool {
        let Some(file) = self.files.get(stretch.target as usize) else { return true };
        match bytes {
            Ok(bytes) => {
                if let Err(error) = self.write(file, stretch, bytes)
                    && file.fail()
                {
                    self.refused(file, error);
                }
            }
            Err(message) => {
                if file.fail() {
                    self.lost(file, message.to_owned(), true);
                }
            }
        }
        self.monitor.advance(stretch.len);
        lock(&self.end).is_none() && !self.monitor.cancelled()
    }

    fn write(&self, file: &WindowFile, stretch: &Stretch, bytes: &[u8]) -> files::Result<()> {
        let Some(pending) = self.pending(file)? else { return Ok(()) };
        // Without the lock: a large file is written by all workers.
        pending.write_at(stretch.offset, bytes)?;
        self.bytes.fetch_add(stretch.len, Ordering::Relaxed);
        // Before it is counted: whoever counts the last piece is then the only one who has the file.
        drop(pending);
        if let Some(pending) = file.count(stretch.pieces).and_then(Arc::into_inner) {
            // Only now, when the content is whole: until then the old one keeps its log.
            file.clear_beside(self.placer)?;
            self.kept(pending.finish(&file.meta)?);
        }
        Ok(())
    }

    /// The file as it is being written, begun if it is not yet; `None` if it has failed.
    fn pending(&self, file: &WindowFile) -> files::Result<Option<Arc<PendingFile>>> {
        let mut progress = lock(&file.progress);
        if progress.failed {
            return Ok(None);
        }
        let pending = match &mut progress.pending {
            Some(pending) => pending,
            none => none.insert(Arc::new(self.placer.begin_file(&file.path, file.size())?)),
        };
        Ok(Some(Arc::clone(pending)))
    }
}
