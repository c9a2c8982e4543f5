//! SQLite databases among the files, captured through SQLite's own online backup.
//!
//! A plain copy of a database that is in use lies: without its write-ahead log it can miss every
//! committed row and still pass for whole, with a log from another moment it is malformed. The
//! backup is one transaction; the log and the journal beside the database are then left out,
//! because what they hold is in it.

use crate::repo::entry::Time;
use crate::stack::files::content::state;
use crate::stack::files::{Found, Stat};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What SQLite appends to the name of a database for the files beside it.
pub const BESIDE: [&[u8]; 3] = [b"-wal", b"-journal", b"-shm"];

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

/// What lies beside the database now: a text that changes whenever its log or journal does. The time
/// of the last change of attributes is not in it: SQLite itself, run by root, sets a log's owner anew
/// whenever it opens it.
pub(super) fn fingerprint(found: &Found) -> Vec<u8> {
    let mut out = String::from("1");
    for suffix in &BESIDE[..2] {
        match stat_beside(found, suffix) {
            Some(stat) => {
                let m = stat.stx_mtime;
                // Writing to a string cannot fail.
                let _ = write!(out, " {}:{}:{}.{}", stat.stx_ino, stat.stx_size, m.tv_sec, m.tv_nsec);
            }
            None => out.push_str(" -"),
        }
    }
    out.into_bytes()
}

/// True if the file's fingerprint is still `before`, and no time in it `is_racy`; a file that was no
/// database has none.
pub(super) fn beside_is_same(found: &Found, before: &[u8], is_racy: &dyn Fn(Time) -> bool) -> bool {
    before.is_empty()
        || (fingerprint(found) == before
            && !BESIDE[..2].iter().any(|suffix| {
                let stat = stat_beside(found, suffix);
                stat.is_some_and(|s| is_racy(Time { seconds: s.stx_mtime.tv_sec, nanos: s.stx_mtime.tv_nsec }))
            }))
}

/// True if a log or a journal with content lies beside the database.
pub(super) fn has_log(found: &Found) -> bool {
    BESIDE[..2].iter().any(|suffix| size_beside(found, suffix).is_some_and(|size| size > 0))
}

/// A finished backup.
pub struct Copy {
    /// Its content; the file has no name any more.
    pub file: File,
    /// What SQLite found wrong with it.
    pub flaw: Option<String>,
}

/// Backs up the database `found` by way of files in `folder`.
///
/// # Errors
/// It cannot be opened, stays locked, or does not stand still where it is read as it lies: one
/// sentence.
pub fn back_up(found: &Found, folder: &Path) -> std::result::Result<Copy, String> {
    let said = |error: rusqlite::Error| error.to_string();
    crate::fs::create_dir_durable(folder).map_err(|e| e.to_string())?;
    let copy = Temporary::new(folder)?;
    let mut target = Connection::open(&copy.0).map_err(said)?;
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;").map_err(said)?;
    let before = whole_state(found)?;
    fill(found, folder, &mut target)?;
    let flaw = match target.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => None,
        Ok(answer) => Some(format!("SQLite finds this database damaged: {}", answer.replace('\n', " "))),
        Err(error) => Some(format!("SQLite finds this database damaged: {error}")),
    };
    drop(target);
    let file = File::options().read(true).write(true).open(&copy.0).map_err(|e| e.to_string())?;
    let bytes = file.metadata().map_err(|e| e.to_string())?.len();
    // Of a file that was cut short SQLite makes one of full length, and finds nothing wrong with that.
    if !has_log(found) && before.1.size != bytes && before == whole_state(found)? {
        return Err(format!("the file has {} bytes, and the database in it {bytes}", before.1.size));
    }
    keep_counters(found, &file).map_err(|e| e.to_string())?;
    Ok(Copy { file, flaw })
}

/// A backup counts as a change of the copy: SQLite raises the counters in its header. Where nothing
/// but those tells it from the database as it lies, it gets the counters of the database (SQLite file
/// format, §1.3: bytes 24–27, 40–43, 92–99), and a restored database is the same file again.
fn keep_counters(found: &Found, copy: &File) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    if has_log(found) {
        return Ok(());
    }
    let (mut ours, mut theirs) = ([0u8; 100], [0u8; 100]);
    copy.read_exact_at(&mut ours, 0)?;
    open_beside(found, b"")?.read_exact_at(&mut theirs, 0)?;
    const COUNTERS: [std::ops::Range<usize>; 3] = [24..28, 40..44, 92..100];
    let mut joined = ours;
    for range in COUNTERS {
        joined[range.clone()].copy_from_slice(&theirs[range]);
    }
    if joined == theirs { copy.write_all_at(&theirs, 0) } else { Ok(()) }
}

/// Fills `target` in the way that the state of the database asks for.
fn fill(found: &Found, folder: &Path, target: &mut Connection) -> std::result::Result<(), String> {
    if is_at_rest(found)? {
        // Opening a database in WAL mode makes its log and index files. Where there are none, nobody
        // has it open, and it is read as it lies, so that no trace is left in the folder.
        let before = whole_state(found)?;
        let read = run_backup(&open_source(found, true)?, target);
        if before == whole_state(found)? {
            return read;
        }
        // Somebody has begun to use it meanwhile.
    }
    match run_backup(&open_source(found, false)?, target) {
        Err(_) if has_journal(found) => run_backup(&recovered(found, folder)?.1, target),
        other => other,
    }
}

/// A private copy of a database whose last transaction was cut off by a crash, with that transaction
/// rolled back: SQLite would have to write into the original for that.
fn recovered(found: &Found, folder: &Path) -> std::result::Result<(Temporary, Connection), String> {
    let copy = Temporary::new(folder)?;
    let before = whole_state(found)?;
    for suffix in [b"".as_slice(), b"-journal"] {
        let mut from = open_beside(found, suffix).map_err(|e| e.to_string())?;
        let mut path = copy.0.as_os_str().to_owned();
        path.push(std::ffi::OsStr::from_bytes(suffix));
        let mut to = File::create_new(path).map_err(|e| e.to_string())?;
        std::io::copy(&mut from, &mut to).map_err(|e| e.to_string())?;
    }
    if before != whole_state(found)? {
        return Err("it changed while it was copied".to_owned());
    }
    let connection = Connection::open(&copy.0).map_err(|e| e.to_string())?;
    Ok((copy, connection))
}

/// The file of the database, or one beside it.
fn open_beside(found: &Found, suffix: &[u8]) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = [found.name(), suffix].concat();
    Ok(File::from(rustix::fs::openat(&*found.parent, name.as_slice(), flags, Mode::empty())?))
}

/// What changes whenever the database or what lies beside it does.
fn whole_state(found: &Found) -> std::result::Result<(Vec<u8>, Stat), String> {
    let file = open_beside(found, b"").map_err(|e| e.to_string())?;
    let stat = state(&file, &found.path).map_err(|e| e.to_string())?;
    Ok((fingerprint(found), stat))
}

/// True if the database is in WAL mode and has no log: nobody has it open.
fn is_at_rest(found: &Found) -> std::result::Result<bool, String> {
    use std::os::unix::fs::FileExt;
    let mut header = [0; 20];
    open_beside(found, b"").and_then(|file| file.read_exact_at(&mut header, 0)).map_err(|e| e.to_string())?;
    Ok(header[18..] == [2, 2] && size_beside(found, BESIDE[0]).is_none())
}

fn has_journal(found: &Found) -> bool {
    size_beside(found, BESIDE[1]).is_some_and(|size| size > 0)
}

fn size_beside(found: &Found, suffix: &[u8]) -> Option<u64> {
    stat_beside(found, suffix).map(|stat| stat.stx_size)
}

fn stat_beside(found: &Found, suffix: &[u8]) -> Option<Statx> {
    let name = [found.name(), suffix].concat();
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(&*found.parent, name.as_slice(), flags, StatxFlags::BASIC_STATS).ok()
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

fn open_source(found: &Found, untouched: bool) -> std::result::Result<Connection, String> {
    let mut path = format!("/proc/self/fd/{}/", found.parent.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(found.name());
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

impl Temporary {
    fn new(folder: &Path) -> std::result::Result<Self, String> {
        let name = crate::fs::random_hex().map_err(|e| e.to_string())?;
        Ok(Self(folder.join(format!("{}-{name}.db", std::process::id()))))
    }
}

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
