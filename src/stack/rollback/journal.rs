//! What a restore was about to do, written down before it does it.
//!
//! One line for each event: sixteen digits of the BLAKE3 of the rest, a space, JSON. A line is
//! durable when [`Journal::append`] returns. A power cut may leave half a last line, which then
//! says nothing; a damaged line before the last is damage and ends all guessing.
//!
//! Beside the journal lies a file that is locked as long as a restore works, so that two never meet;
//! the kernel drops the lock with the process, so that nobody needs to unlock anything. Room for the
//! journal is reserved at its beginning: a disk that fills up must not keep a restore from saying
//! that it goes back.

use super::compose_call::Call;
use super::services::NewService;
use super::swap::Swap;
use super::{Error, Result};
use crate::fs::{PRIVATE_FILE, create_dir_durable, sync_dir, write_new};
use crate::repo::evidence::{Evidence, Verdict};
use rustix::fs::{FallocateFlags, FlockOperation};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

const NAME: &str = "journal";
const LAST: &str = "last";
const LOCK: &str = "lock";
/// Bytes that are reserved behind what is written.
const RESERVED: u64 = 1 << 20;
/// Longest journal that is read.
const BYTES_MAX: u64 = 1 << 30;
const SUM_DIGITS: usize = 16;

/// A service that ran before, and how many containers of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ran {
    /// The service.
    pub service: String,
    /// Its containers that ran, by id.
    pub containers: Vec<String>,
}

/// What a restore is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Random digits that name this restore, and everything that it puts somewhere for a while.
    pub restore: String,
    /// The snapshot that is brought back.
    pub snapshot: String,
    /// The project's name.
    pub project: String,
    /// Its folder.
    #[serde(with = "super::raw_path")]
    pub directory: PathBuf,
    /// What was chosen of it; all if empty.
    pub only: Vec<String>,
    /// When, RFC 3339.
    pub began: String,
    /// What ran, in the order in which it is started.
    pub ran: Vec<Ran>,
    /// How the Compose tool is called for the state of now.
    pub old_call: Call,
    /// How it is called for the state of then.
    pub new_call: Call,
    /// What is started of the new state.
    pub new_services: Vec<NewService>,
    /// All services in the order in which they start.
    pub order: Vec<String>,
}

/// Something that is there only for the restore and goes when that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Staged {
    /// A file or folder.
    Path(#[serde(with = "super::raw_path")] PathBuf),
    /// A volume that did not exist before.
    Volume(String),
    /// A container.
    Container(String),
    /// A tag of an image.
    Tag(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// It begins. Nothing of the application is touched before `Stopping`.
    Begun(Box<Begun>),
    /// These things are going to be made.
    Staging {
        /// What is to be removed if it goes no further.
        staged: Vec<Staged>,
    },
    /// The present is kept as this snapshot.
    Safety {
        /// Its id.
        snapshot: String,
        /// True if nothing of the present is missing in it.
        complete: bool,
    },
    /// All is ready. Written anew where something changed until the services stood still.
    Prepared {
        /// What is done in this order, and undone in the other.
        swaps: Vec<Swap>,
    },
    /// Services are going to be stopped.
    Stopping,
    /// They stand still.
    Stopped,
    /// The swaps begin: from here on a resumed restore goes on.
    Swapping,
    /// All swaps are done and durable.
    Swapped,
    /// Services are going to be started with the new state.
    Starting,
    /// They were.
    Started,
    /// What the health gate found.
    Proved {
        /// All together.
        verdict: Verdict,
        /// Each check.
        evidence: Vec<Evidence>,
    },
    /// The new state stays: from here on there is no way back but another restore.
    Committed,
    /// The old state comes back: from here on there is no way forward.
    Undoing {
        /// Why.
        reason: String,
    },
    /// All swaps are undone and durable.
    Undone,
}

/// An event and when it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, RFC 3339.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    fn now(event: Event) -> Self {
        Self { time: format!("{:.6}", jiff::Timestamp::now()), event }
    }
}

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
    /// Held as long as this is.
    _lock: File,
}

/// The folder of all that a restore of `project` on `host` must remember, below `data`.
pub fn folder_of(data: &Path, host: &str, project: &str, directory: &Path) -> PathBuf {
    let key = [host.as_bytes(), b"\0", project.as_bytes(), b"\0", directory.as_os_str().as_encoded_bytes()].concat();
    let digits = blake3::hash(&key).to_hex();
    data.join("restores").join(&digits.as_str()[..32])
}

impl Journal {
    /// Begins one in `folder`.
    ///
    /// # Errors
    /// Another restore works ([`Error::Busy`]), one was not finished ([`Error::Unfinished`]), or
    /// nothing can be written there.
    pub fn begin(folder: &Path, begun: Begun) -> Result<Self> {
        create_dir_durable(folder).map_err(|source| Error::state("make the folder", folder, source))?;
        let lock = lock(folder)?;
        let path = folder.join(NAME);
        if path.exists() {
            return Err(Error::Unfinished { project: begun.project });
        }
        let first = Line::now(Event::Begun(Box::new(begun)));
        let bytes = encode(&first, &path)?;
        write_new(&path, &bytes, PRIVATE_FILE).map_err(|source| Error::state("write", &path, source))?;
        let file = open(&path)?;
        reserve(&file);
        let len = bytes.len() as u64;
        Ok(Self { folder: folder.to_path_buf(), file, len, lines: vec![first], _lock: lock })
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
        Ok(Some(Self { folder: folder.to_path_buf(), file, len, lines, _lock: lock }))
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
            Event::Safety { snapshot, complete } => Some((snapshot.as_str(), *complete)),
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

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let failed = |source| Error::state("lock", &path, source);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy),
        Err(error) => Err(failed(error.into())),
    }
}

fn encode(line: &Line, path: &Path) -> Result<Vec<u8>> {
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
    let (digits, json) = line.split_at_checked(SUM_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if digits != sum(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}
