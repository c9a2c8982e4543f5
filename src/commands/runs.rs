//! How commands last ended on this machine, for `status` and for whoever is told of it.
//!
//! One small file for each repository, command and subject, below the person's data folder: a cache can be
//! thrown away, and this should not go with it. Nothing depends on it; where it cannot be written, nothing
//! is remembered.

use super::Env;
use crate::fs::{PRIVATE_FILE, create_dir_durable, random_hex};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest remembered message, in bytes.
const MESSAGE_BYTES_MAX: usize = 2000;
/// Larger files are not ours.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// One command that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The verb.
    pub command: String,
    /// The stack or replica that it was about; empty for the whole repository.
    pub subject: String,
    /// Where the repository is.
    pub repository: String,
    /// In which folder it was given, or which folder it captured.
    pub directory: PathBuf,
    /// When it ended, in seconds since 1970.
    pub at: i64,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// The exit code.
    pub exit_code: u8,
    /// Why it did not end with 0, for people; empty if it did.
    pub message: String,
    /// When it last ended with 0, in seconds since 1970.
    pub last_good: Option<i64>,
}

impl Run {
    /// True if it did all that was asked.
    pub fn is_good(&self) -> bool {
        self.exit_code == 0
    }
}

fn folder(env: &Env) -> PathBuf {
    env.folders.data.join("runs")
}

fn name_of(repository: &str, command: &str, subject: &str) -> String {
    blake3::hash([repository, command, subject].join("\0").as_bytes()).to_hex().as_str()[..32].to_owned()
}

/// Remembers a run.
pub fn note(env: &Env, mut run: Run) {
    let path = folder(env).join(name_of(&run.repository, &run.command, &run.subject));
    let before = read(&path);
    run.last_good = if run.is_good() { Some(run.at) } else { before.and_then(|before| before.last_good) };
    let mut end = run.message.len().min(MESSAGE_BYTES_MAX);
    while !run.message.is_char_boundary(end) {
        end -= 1;
    }
    run.message.truncate(end);
    // What cannot be remembered is not told by `status`; the command is over all the same.
    let _ = write(&path, &run);
}

/// A reader sees the old file or the new one. It is not worth a wait for the disk.
fn write(path: &Path, run: &Run) -> std::io::Result<()> {
    use std::io::Write;
    create_dir_durable(&crate::fs::parent_of(path))?;
    let staged = path.with_extension(random_hex()?);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(&staged)?;
    let written = file.write_all(&serde_json::to_vec(run)?).and_then(|()| std::fs::rename(&staged, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    written
}

/// Remembers nothing any more of a command and subject; true if anything was.
pub(super) fn forget(env: &Env, repository: &str, command: &str, subject: &str) -> bool {
    std::fs::remove_file(folder(env).join(name_of(repository, command, subject))).is_ok()
}

fn read(path: &Path) -> Option<Run> {
    let sane = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES_MAX);
    sane.then(|| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).flatten()
}

/// The last run of each command and subject on the repository at `address`, by command and subject.
pub fn all(env: &Env, address: &str) -> Vec<Run> {
    let files = std::fs::read_dir(folder(env)).into_iter().flatten().flatten();
    let mut runs: Vec<Run> = files.filter_map(|entry| read(&entry.path())).collect();
    runs.retain(|run| run.repository == address);
    runs.sort_by(|a, b| (&a.command, &a.subject).cmp(&(&b.command, &b.subject)));
    runs
}
