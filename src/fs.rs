//! Durable files on a local disk: what is written here survives a power cut once a call returns.
//!
//! The steps are those that every file system needs: write a file that has no name yet, fsync it,
//! give it its name, fsync the folder; a new folder is itself fsynced in its parent.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Access for the owner alone.
pub const PRIVATE_FILE: u32 = 0o600;
/// Access for the owner alone.
pub const PRIVATE_DIR: u32 = 0o700;

/// Forces the folder's entries to disk.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    let handle = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fsync(&handle)?;
    Ok(())
}

/// Makes `dir` and its missing parents with mode 0700, each durable in its parent.
///
/// # Errors
/// A folder cannot be made or synced, or a part of the path is not a folder.
pub fn create_dir_durable(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    create_dir_durable(&parent)?;
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(PRIVATE_DIR)) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) if dir.is_dir() => {}
        Err(error) => return Err(error.into()),
    }
    sync_dir(&parent)
}

/// Most bytes of a file with settings or variables.
pub const TEXT_BYTES_MAX: u64 = 8 << 20;

/// The text in the file `path`, which somebody else may have put there: a named pipe is not waited for, a device
/// not read, and of an endless file there is an end.
///
/// # Errors
/// It cannot be read, is no regular file, has more than [`TEXT_BYTES_MAX`], or is no UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path.as_ref(), flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The folder that holds `path`'s last component; `.` for a bare name.
pub fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// The path with the links of its existing part resolved.
pub fn real_path(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut at = path;
    loop {
        if let Ok(real) = std::fs::canonicalize(at) {
            return rest.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (at.file_name(), at.parent()) {
            (Some(name), Some(parent)) => {
                rest.push(name.to_owned());
                at = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

/// A file that is written before it has its name. Dropped without [`StagedFile::publish`], it
/// leaves nothing behind, also when the process is killed (except on the file systems without
/// `O_TMPFILE`, where a hidden file `.snap-tmp-…` may stay).
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    /// The hidden name, where the file system has no nameless files.
    hidden: Option<PathBuf>,
}

impl StagedFile {
    /// A new empty file on the file system of `dir`, with `mode`.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(dir: &Path, mode: u32) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::from_raw_mode(mode)) {
            Ok(handle) => Ok(Self { file: File::from(handle), hidden: None }),
            Err(error) if no_tmpfile(error) => Self::new_hidden(dir, mode),
            Err(error) => Err(error.into()),
        }
    }

    fn new_hidden(dir: &Path, mode: u32) -> io::Result<Self> {
        let path = dir.join(format!(".snap-tmp-{}", random_hex()?));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::from_raw_mode(mode))?;
        Ok(Self { file: File::from(handle), hidden: Some(path) })
    }

    /// The file, to write into.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Forces the content to disk.
    ///
    /// # Errors
    /// The disk refuses; the content must then be taken for lost.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Writes `bytes` durably and gives the file the name `path`, if no file has it.
    ///
    /// # Errors
    /// As [`StagedFile::publish`].
    pub fn write_as(mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sync()?;
        self.publish(path)?;
        sync_dir(&parent_of(path))
    }

    /// Gives the synced file the name `path`, if no file has it. The caller syncs the folder.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; otherwise what the file system says.
    pub fn publish(mut self, path: &Path) -> io::Result<()> {
        match self.hidden.take() {
            None => link_nameless(&self.file, path),
            Some(hidden) => {
                let linked = rustix::fs::linkat(CWD, &hidden, CWD, path, AtFlags::empty());
                let removed = rustix::fs::unlink(&hidden);
                linked?;
                removed?;
                Ok(())
            }
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(hidden) = self.hidden.take() {
            // Nothing can be done about a failure here, and the name says what the file is.
            let _ = rustix::fs::unlink(hidden);
        }
    }
}

fn no_tmpfile(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS)
}

fn link_nameless(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let by_number = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::linkat(CWD, by_number, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// Writes `bytes` durably as the new file `path` with `mode`; never replaces a file.
///
/// # Errors
/// `AlreadyExists` if the name is taken; otherwise what the file system says.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    StagedFile::new(&parent_of(path), mode)?.write_as(path, bytes)
}

/// Writes `bytes` durably as `path` with `mode`, in place of a file that may be there. A reader
/// sees the old content or the new, whole.
///
/// # Errors
/// What the file system says; the old content is then still there.
pub fn write_replacing(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = parent_of(path);
    let mut staged = StagedFile::new_hidden(&dir, mode)?;
    staged.file().write_all(bytes)?;
    staged.sync()?;
    if let Some(hidden) = &staged.hidden {
        rustix::fs::rename(hidden, path)?;
    }
    staged.hidden = None;
    sync_dir(&dir)
}

/// Sixteen random hexadecimal digits.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0u8; 8];
    fill_random(&mut bytes)?;
    Ok(crate::id::to_hex(&bytes))
}

/// Fills `bytes` from the kernel's generator.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// True if another file system is mounted at `path`.
pub fn is_mount_point(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let wanted = path.display().to_string().replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_never_replaces_one() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        write_new(&path, b"one", PRIVATE_FILE)?;
        let error = write_new(&path, b"two", PRIVATE_FILE).err().map(|e| e.kind());
        assert_eq!(error, Some(io::ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read(&path)?, b"one");
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        Ok(())
    }

    #[test]
    fn replacing_leaves_no_hidden_file() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x");
        write_replacing(&path, b"one", PRIVATE_FILE)?;
        write_replacing(&path, b"two", PRIVATE_FILE)?;
        assert_eq!(std::fs::read(&path)?, b"two");
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_dropped_file_leaves_nothing() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut staged = StagedFile::new_hidden(dir.path(), PRIVATE_FILE)?;
        staged.file().write_all(b"half")?;
        drop(staged);
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
        Ok(())
    }
}
