//! The names of things that are not finished: what a restore leaves behind that was killed.
//!
//! They are never captured, and the next restore into the same folder removes them. Only names of exactly this
//! form count: whatever else begins like one belongs to somebody else.

use super::handle::DirHandle;
use super::{Error, Placer, Result};
use rustix::fs::{AtFlags, FileType, RawDir};
use rustix::io::Errno;

/// How the names begin.
pub const UNFINISHED_PREFIX: &str = ".snap-restore-";
/// Digits of the number of a run.
const RUN_DIGITS: usize = 16;
/// Digits of the longest number of a thing.
const THING_DIGITS: usize = 20;
const BUFFER_BYTES: usize = 32 << 10;

/// True for the name of an unfinished thing: `.snap-restore-`, 16 hexadecimal digits, `-`, a number.
pub fn is_unfinished(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(UNFINISHED_PREFIX.as_bytes()) else { return false };
    let Some((run, number)) = rest.split_at_checked(RUN_DIGITS) else { return false };
    let Some(number) = number.strip_prefix(b"-") else { return false };
    run.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        && (1..=THING_DIGITS).contains(&number.len())
        && number.iter().all(u8::is_ascii_digit)
}

impl Placer {
    /// Removes what an earlier run has left unfinished in the folder `path`, and says how many things that were.
    ///
    /// # Errors
    /// The path leads to no folder, or something cannot be removed.
    pub fn remove_unfinished(&self, path: &[u8]) -> Result<u64> {
        let dir = self.beneath.folder(path)?;
        let failed = |error: Errno| Error::io("look into", path, error);
        let dir = DirHandle::again(&*dir).map_err(failed)?;
        let (mut buffer, mut names) = (Vec::with_capacity(BUFFER_BYTES), Vec::new());
        let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            // A folder never has such a name from here.
            if is_unfinished(entry.file_name().to_bytes()) && entry.file_type() != FileType::Directory {
                names.push(entry.file_name().to_owned());
            }
        }
        let mut removed = 0;
        for name in names {
            match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
                Ok(()) => removed += 1,
                Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(error) => return Err(Error::io("remove what is unfinished in", path, error)),
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::is_unfinished;

    #[test]
    fn only_names_of_exactly_this_form_are_taken_for_unfinished() {
        for name in [".snap-restore-0123456789abcdef-0", ".snap-restore-ffffffffffffffff-18446744073709551615"] {
            assert!(is_unfinished(name.as_bytes()), "{name}");
        }
        for name in [
            ".snap-restore-",
            ".snap-restore-notes",
            ".snap-restore-0123456789abcdef",
            ".snap-restore-0123456789abcdef-",
            ".snap-restore-0123456789ABCDEF-1",
            ".snap-restore-0123456789abcdef-1x",
            ".snap-restore-0123456789abcdef-184467440737095516150",
            "x.snap-restore-0123456789abcdef-1",
        ] {
            assert!(!is_unfinished(name.as_bytes()), "{name}");
        }
    }
}
