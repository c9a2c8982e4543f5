//! The names of things that are not finished: what a restore leaves behind that was killed.
//!
//! They are never captured, and the next restore into the same folder removes them. Only names of exactly these
//! forms count: whatever else begins like one belongs to somebody else.

use super::handle::DirHandle;
use super::names::Names;
use super::remove::remove_tree;
use super::{Error, Placer, Result};
use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;

/// How the names begin.
pub const UNFINISHED_PREFIX: &str = ".snap-restore-";
/// How the name of a folder begins in which a whole tree is made.
pub(super) const TREE_PREFIX: &str = ".snap-restore-tree-";
/// Digits of the number of a run.
const RUN_DIGITS: usize = 16;
/// Digits of the longest number of a thing.
const THING_DIGITS: usize = 20;

/// True for the name of an unfinished thing: `.snap-restore-`, 16 hexadecimal digits, `-`, a number.
pub fn is_unfinished(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(UNFINISHED_PREFIX.as_bytes()) else { return false };
    let Some((run, number)) = rest.split_at_checked(RUN_DIGITS) else { return false };
    let Some(number) = number.strip_prefix(b"-") else { return false };
    is_run(run) && (1..=THING_DIGITS).contains(&number.len()) && number.iter().all(u8::is_ascii_digit)
}

/// True for the name of a folder in which a whole tree is made: `.snap-restore-tree-`, 16 hexadecimal digits.
/// There is one at most, in the folder that is restored into.
pub fn is_unfinished_tree(name: &[u8]) -> bool {
    name.strip_prefix(TREE_PREFIX.as_bytes()).is_some_and(is_run)
}

/// True for the number of a run.
fn is_run(digits: &[u8]) -> bool {
    digits.len() == RUN_DIGITS && digits.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
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
        let mut names = Names::default();
        names.read(&dir, &mut Vec::new()).map_err(failed)?;
        let mut removed = 0;
        for (name, kind) in names.iter() {
            // A thing that is no folder never has the one name, and a folder never the other.
            let gone = if path.is_empty() && is_unfinished_tree(name.to_bytes()) {
                remove_tree(&dir, name)
            } else if is_unfinished(name.to_bytes()) && kind != FileType::Directory {
                unlinkat(&dir, name, AtFlags::empty())
            } else {
                continue;
            };
            match gone {
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
    use super::{is_unfinished, is_unfinished_tree};

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

    #[test]
    fn only_folders_of_exactly_this_form_are_taken_for_unfinished_trees() {
        assert!(is_unfinished_tree(b".snap-restore-tree-0123456789abcdef"));
        for name in [
            ".snap-restore-tree-0123456789abcde",
            ".snap-restore-tree-0123456789abcdef0",
            ".snap-restore-tree-0123456789abcdeF",
            ".snap-restore-0123456789abcdef-0",
            ".snap-restore-tree",
        ] {
            assert!(!is_unfinished_tree(name.as_bytes()), "{name}");
        }
    }
}
