//! What a restore was about to do, written down before it does it.
//!
//! One line for each event: sixteen digits of the BLAKE3 of the rest, a space, JSON. A line is
//! durable when [`Journal::append`] returns. A power cut may leave half a last line, which then
//! says nothing; a damaged line before the last is damage and ends all guessing.
//!
//! How the containers of before were made is in a file beside it, durable before the first line is, because only
//! that can bring them back once others have taken their place ([`super::origin`]).
//!
//! Beside the journal lies a file that is locked as long as a restore works, so that two never meet;
//! the kernel drops the lock with the process, so that nobody needs to unlock anything. Room for the
//! journal is reserved at its beginning: a disk that fills up must not keep a restore from saying
//! that it goes back.

pub use super::event::{Begun, Event, Line, Ran, Staged};
use super::origin::Origin;
use super::swap::Swap;
use super::{Error, Result};
use crate::fs::{PRIVATE_FILE, create_dir_durable, sync_dir, write_new, write_replacing};
use rustix::fs::{FallocateFlags, FlockOperation};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NAME: &str = "journal";
const LAST: &str = "last";
const LOCK: &str = "lock";
/// Locked as long as the Compose tool works for a restore.
const TOOL: &str = "tool";
/// How the containers of before were made. It holds their variables and is gone with the journal.
const CONTAINERS: &str = "containers";
/// The Compose tool of a restore that was killed is waited for so long.
const TOOL_PATIENCE: Duration = Duration::from_secs(600);
const TOOL_STEP: Duration = Duration::from_millis(50);
/// Bytes that are reserved behind what is written.
const RESERVED: u64 = 1 << 20;
/// Longest journal that is read.
const BYTES_MAX: u64 = 1 << 30;
const SUM_DIGITS: usize = 16;

/// What a journal has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The new state stays.
    Forward,
    /// The old state comes back.
    Back,
}

/// The journal of a restore that is not over.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    /// Bytes that are whole.
    len: u64,
    lines: Vec<Line>,
    watcher: Option<Watcher>,
    /// Held as long as this is.
    _lock: File,
}

type Tell = dyn Fn(&[Line]);

/// Told of all lines each time when there is a new one.
pub struct Watcher(Box<Tell>);

impl Watcher {
    /// One that is told by `tell`.
    pub fn new(tell: impl Fn(&[Line]) + 'static) -> Self {
        Self(Box::new(tell))
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// The folder of all that a restore of `project` on `host` must remember, below `data`.
pub fn folder_of(data: &Path, host: &str, project: &str, directory: &Path) -> PathBuf {
    let key = [host.as_bytes(), b"\0", project.as_bytes(), b"\0", directory.as_os_str().as_encoded_bytes()].concat();
    let digits = blake3::hash(&key).to_hex();
    data.join("restores").join(&digits.as_str()[..32])
}

impl Journal {
    /// Begins one in `folder`; `containers` are those that there are.
    ///
    /// # Errors
    /// Another restore works ([`Error::Busy`]), one was not finished ([`Error::Unfinished`]), or
    /// nothing can be written there.
    pub fn begin(folder: &Path, begun: Begun, containers: &[Origin]) -> Result<Self> {
        create_dir_durable(folder).map_err(|source| Error::state("make the folder", folder, source))?;
        let lock = lock(folder)?;
        let path = folder.join(NAME);
        if path.exists() {
            return Err(Error::Unfinished { project: begun.project });
        }
        let made = folder.join(CONTAINERS);
        write_replacing(&made, &encode(&containers, &made)?, PRIVATE_FILE)
            .map_err(|source| Error::state("write", &made, source))?;
        let first = Line::now(Event::Begun(Box::new(begun)));
        let bytes = encode(&first, &path)?;
        write_new(&path, &bytes, PRIVATE_FILE).map_err(|source| Error::state("write", &path, source))?;
        let file = open(&path)?;
        reserve(&file);
        let len = bytes.len() as u64;
        Ok(Self { folder: folder.to_path_buf(), file, len, lines: vec![first], watcher: None, _lock: lock })
    }

    /// Opens the journal that an interrupted restore left in `folder`, if one did.
    ///
    /// # Errors
    /// A restore works ([`Error::Busy`]), or the journal is damaged.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        if !folder.join(LOCK).exists() || !path.exists() {
            return Ok(None);
        }
        let lock = lock(folder)?;
        // It may have been finished while the lock was waited for.
        let Some((lines, len)) = read(&path)? else { return Ok(None) };
        let file = open(&path)?;
        let failed = |source| Error::state("write", &path, source);
        // Half a line would make the next one unreadable.
        file.set_len(len).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        reserve(&file);
        Ok(Some(Self { folder: folder.to_path_buf(), file, len, lines, watcher: None, _lock: lock }))
    }

    /// Whether an interrupted restore left something in `folder`, without taking the lock.
    ///
    /// # Errors
    /// The journal cannot be read or is damaged.
    pub fn left_over(folder: &Path) -> Result<Option<Begun>> {
        let found = read(&folder.join(NAME))?;
        Ok(found.and_then(|(lines, _)| match lines.into_iter().next()?.event {
            Event::Begun(begun) => Some(*begun),
            _ => None,
        }))
    }

    /// Whether a restore is at work on what is in `folder` now, by its lock alone.
    pub fn is_at_work(folder: &Path) -> bool {
        let lock = folder.join(LOCK);
        lock.exists() && matches!(locked(&lock), Err(Error::Busy))
    }

    /// Has each new line told.
    #[must_use]
    pub fn watched_by(self, watcher: Watcher) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// Writes `event` down. It is durable when this returns.
    ///
    /// # Errors
    /// It may not be; what it announces must not be done.
    pub fn append(&mut self, event: Event) -> Result<()> {
        let path = self.folder.join(NAME);
        let line = Line::now(event);
        let bytes = encode(&line, &path)?;
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            // What is there of the line would make the next one unreadable. If this fails too, the
            // next line will be found damaged, and a person asked.
            let _ = self.file.set_len(self.len);
            return Err(Error::state("write", &path, source));
        }
        self.len += bytes.len() as u64;
        self.lines.push(line);
        if let Some(watcher) = &self.watcher {
            (watcher.0)(&self.lines);
        }
        Ok(())
    }

    /// All lines so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// All events so far, the last first.
    fn backwards(&self) -> impl Iterator<Item = &Event> {
        self.lines.iter().rev().map(|line| &line.event)
    }

    /// Whether there is a way back, and a way forward. A decision that could not be written for sure
    /// was not acted upon: the later one counts.
    pub fn decision(&self) -> Option<Decision> {
        self.backwards().find_map(|event| match event {
            Event::Committed => Some(Decision::Forward),
            Event::Undoing { .. } => Some(Decision::Back),
            _ => None,
        })
    }

    /// What it is about.
    ///
    /// # Errors
    /// The journal does not begin as one must.
    pub fn begun(&self) -> Result<&Begun> {
        match self.lines.first().map(|line| &line.event) {
            Some(Event::Begun(begun)) => Ok(begun.as_ref()),
            _ => Err(Error::damaged(&self.folder.join(NAME), "its first line is not the beginning of a restore")),
        }
    }

    /// How the containers of before were made.
    ///
    /// # Errors
    /// The file that says so is not there, or is not what was written.
    pub fn containers(&self) -> Result<Vec<Origin>> {
        let path = self.folder.join(CONTAINERS);
        let bytes = std::fs::read(&path).map_err(|source| Error::state("read", &path, source))?;
        let json = bytes.strip_suffix(b"\n").and_then(intact);
        let found = json.and_then(|json| serde_json::from_slice(json).ok());
        found.ok_or_else(|| Error::damaged(&path, "it is not what was written"))
    }

    /// The swaps, as they were last prepared.
    pub fn swaps(&self) -> &[Swap] {
        let prepared = self.backwards().find_map(|event| match event {
            Event::Prepared { swaps } => Some(swaps.as_slice()),
            _ => None,
        });
        prepared.unwrap_or_default()
    }

    /// All that was announced to be staged.
    pub fn staged(&self) -> Vec<Staged> {
        let each = self.lines.iter().filter_map(|line| match &line.event {
            Event::Staging { staged } => Some(staged.clone()),
            _ => None,
        });
        each.flatten().collect()
    }

    /// The safety snapshot, and whether it is complete.
    pub fn safety(&self) -> Option<(&str, bool)> {
        self.backwards().find_map(|event| match event {
            Event::Safety { snapshot, complete, .. } => Some((snapshot.as_str(), *complete)),
            _ => None,
        })
    }

    /// True if an event of this kind was written.
    pub fn has(&self, is: impl Fn(&Event) -> bool) -> bool {
        self.lines.iter().any(|line| is(&line.event))
    }

    /// The restore is over, one way or the other. The journal is kept under another name until the
    /// next one is over.
    ///
    /// # Errors
    /// It cannot be renamed: it would still count as unfinished.
    pub fn finish(self) -> Result<Vec<Line>> {
        let path = self.folder.join(NAME);
        let renamed = std::fs::rename(&path, self.folder.join(LAST)).and_then(|()| sync_dir(&self.folder));
        renamed.map_err(|source| Error::state("rename", &path, source))?;
        // The next restore replaces what could not be removed.
        let _left = std::fs::remove_file(self.folder.join(CONTAINERS));
        Ok(self.lines)
    }
}

fn open(path: &Path) -> Result<File> {
    File::options().append(true).open(path).map_err(|source| Error::state("open", path, source))
}

fn reserve(file: &File) {
    let len = file.metadata().map_or(0, |found| found.len());
    // Some file systems cannot: then a full disk may need a person.
    let _ = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, len, RESERVED);
}

/// The lock of the restore; also waits for the Compose tool that one that was killed had called.
fn lock(folder: &Path) -> Result<File> {
    let file = locked(&folder.join(LOCK))?;
    let (path, begun) = (folder.join(TOOL), Instant::now());
    while let Err(error) = locked(&path) {
        if !matches!(error, Error::Busy) || begun.elapsed() > TOOL_PATIENCE {
            return Err(error);
        }
        std::thread::sleep(TOOL_STEP);
    }
    Ok(file)
}

/// The lock that the Compose tool holds while it works for the restore whose journal is in `folder`.
///
/// # Errors
/// Another one holds it, or nothing can be written there.
pub fn tool_lock(folder: &Path) -> Result<File> {
    locked(&folder.join(TOOL))
}

fn locked(path: &Path) -> Result<File> {
    let failed = |source| Error::state("lock", path, source);
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy),
        Err(error) => Err(failed(error.into())),
    }
}

fn encode<T: Serialize>(line: &T, path: &Path) -> Result<Vec<u8>> {
    let json = serde_json::to_string(line).map_err(|error| Error::state("write", path, error.into()))?;
    Ok(format!("{} {json}\n", sum(json.as_bytes())).into_bytes())
}

fn sum(json: &[u8]) -> String {
    blake3::hash(json).to_hex().as_str()[..SUM_DIGITS].to_owned()
}

/// The lines of a journal and the length of what is whole of it; `None` where there is none.
fn read(path: &Path) -> Result<Option<(Vec<Line>, u64)>> {
    let bytes = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > BYTES_MAX => return Err(Error::damaged(path, "it is too long to be one")),
        _ => std::fs::read(path).map_err(|source| Error::state("read", path, source))?,
    };
    let mut lines = Vec::new();
    let mut good = 0;
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let Some(line) = parse(&rest[..end]) else {
            // Zeros where a line should be are a torn write too, but nothing may follow them. Without
            // zeros the line was written whole and has been changed since.
            if rest[end + 1..].contains(&b'\n') || !rest[..end].contains(&0) {
                return Err(Error::damaged(path, &format!("line {} is not what was written", lines.len() + 1)));
            }
            break;
        };
        lines.push(line);
        good += end as u64 + 1;
        rest = &rest[end + 1..];
    }
    if lines.is_empty() {
        return Err(Error::damaged(path, "its first line is not what was written"));
    }
    Ok(Some((lines, good)))
}

fn parse(line: &[u8]) -> Option<Line> {
    serde_json::from_slice(intact(line)?).ok()
}

/// What follows its own sum.
fn intact(line: &[u8]) -> Option<&[u8]> {
    let (digits, json) = line.split_at_checked(SUM_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    (digits == sum(json).as_bytes()).then_some(json)
}
