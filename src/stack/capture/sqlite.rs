//! SQLite databases among the files, captured through SQLite's own online backup.
//!
//! A plain copy of a database that is in use lies: without its write-ahead log it can miss every
//! committed row and still pass for whole, with a log from another moment it is malformed. The
//! backup is one transaction; the log and the journal beside the database are then left out,
//! because what they hold is in it.

use crate::stack::files::Found;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BESIDE: [&[u8]; 3] = [b"-wal", b"-journal", b"-shm"];

/// How long a writer may keep the database locked before the backup gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The path of the database that `path` would belong to, if it were its log, index or journal.
pub(super) fn database_of(path: &[u8]) -> Option<&[u8]> {
    BESIDE.iter().find_map(|suffix| path.strip_suffix(*suffix)).filter(|base| !base.is_empty() && !base.ends_with(b"/"))
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// True if the file `base` in the same folder as `found` is an SQLite database.
pub(super) fn is_database_beside(found: &Found, base: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(&*found.parent, name_of(base), flags, Mode::empty()) else { return false };
    let mut header = [0; 16];
    use std::os::unix::fs::FileExt;
    File::from(fd).read_exact_at(&mut header, 0).is_ok() && crate::stack::files::content::is_sqlite(&header)
}

/// What lies beside the database now: a text that changes whenever its log or journal does.
pub(super) fn fingerprint(found: &Found) -> Vec<u8> {
    let mut out = String::from("1");
    for suffix in &BESIDE[..2] {
        let name = [found.name(), suffix].concat();
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::statx(&*found.parent, name.as_slice(), flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => {
                let (m, c) = (stat.stx_mtime, stat.stx_ctime);
                // Writing to a string cannot fail.
                let _ = write!(
                    out,
                    " {}:{}:{}.{}:{}.{}",
                    stat.stx_ino, stat.stx_size, m.tv_sec, m.tv_nsec, c.tv_sec, c.tv_nsec
                );
            }
            Err(_) => out.push_str(" -"),
        }
    }
    out.into_bytes()
}

/// True if the file's fingerprint is still `before`; a file that was no database has none.
pub(super) fn beside_is_same(found: &Found, before: &[u8]) -> bool {
    before.is_empty() || fingerprint(found) == before
}

/// True if a log or a journal with content lies beside the database.
pub(super) fn has_log(found: &Found) -> bool {
    BESIDE[..2].iter().any(|suffix| {
        let name = [found.name(), suffix].concat();
        let stat = rustix::fs::statx(&*found.parent, name.as_slice(), AtFlags::empty(), StatxFlags::SIZE);
        stat.is_ok_and(|stat| stat.stx_size > 0)
    })
}

/// A finished backup.
pub(super) struct Copy {
    /// Its content; the file has no name any more.
    pub file: File,
    /// What SQLite found wrong with it.
    pub flaw: Option<String>,
}

/// Backs up the database `found`, whose first bytes are `header`, by way of a file in `folder`.
/// An error is one sentence.
pub(super) fn back_up(found: &Found, header: &[u8], folder: &Path) -> std::result::Result<Copy, String> {
    let said = |error: rusqlite::Error| error.to_string();
    crate::fs::create_dir_durable(folder).map_err(|e| e.to_string())?;
    let random = crate::fs::random_hex().map_err(|e| e.to_string())?;
    let copy = Temporary(folder.join(format!("{}-{random}.db", std::process::id())));
    let source = open_source(found, header)?;
    let mut target = Connection::open(&copy.0).map_err(said)?;
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;").map_err(said)?;
    run_backup(&source, &mut target)?;
    let flaw = match target.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => None,
        Ok(answer) => Some(format!("SQLite finds this database damaged: {}", answer.replace('\n', " "))),
        Err(error) => Some(format!("SQLite finds this database damaged: {error}")),
    };
    drop(target);
    let file = File::open(&copy.0).map_err(|e| e.to_string())?;
    Ok(Copy { file, flaw })
}

fn run_backup(source: &Connection, target: &mut Connection) -> std::result::Result<(), String> {
    let backup = Backup::new(source, target).map_err(|e| e.to_string())?;
    let start = Instant::now();
    loop {
        // All pages in one step: one read transaction, so a writer cannot make it begin again.
        match backup.step(-1).map_err(|e| e.to_string())? {
            StepResult::Done => return Ok(()),
            _ if start.elapsed() > PATIENCE => return Err("it stays locked".to_owned()),
            _ => std::thread::yield_now(),
        }
    }
}

fn open_source(found: &Found, header: &[u8]) -> std::result::Result<Connection, String> {
    let mut path = format!("/proc/self/fd/{}/", found.parent.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(found.name());
    let is_wal = header.get(18..20) == Some(&[2, 2]);
    let wal = [found.name(), BESIDE[0]].concat();
    let has_wal = rustix::fs::statx(&*found.parent, wal.as_slice(), AtFlags::empty(), StatxFlags::SIZE).is_ok();
    // Opening a database in WAL mode makes its log and index files. Where there are none, nobody
    // has it open, and it is read as it lies, so that no trace is left in the folder.
    let untouched = is_wal && !has_wal;
    let mut uri = String::from("file:");
    for byte in &path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    if untouched {
        uri.push_str("?immutable=1");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(PathBuf::from(std::ffi::OsStr::from_bytes(uri.as_bytes())), flags)
        .map_err(|e| e.to_string())?;
    connection.busy_timeout(PATIENCE).map_err(|e| e.to_string())?;
    Ok(connection)
}

/// Removes the copies of databases that killed runs have left in `folder`: their names begin with
/// the number of their process.
pub(super) fn remove_left_copies(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // One that cannot be removed now is tried again next time.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A file that is gone when this is, with what SQLite puts beside it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.as_os_str().to_owned();
            path.push(suffix);
            // Most of them do not exist.
            let _ = std::fs::remove_file(path);
        }
    }
}
