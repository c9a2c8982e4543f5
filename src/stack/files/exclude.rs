//! What is left out by rule: patterns of the command line, `.snapignore` files, tagged caches.
//!
//! Patterns are those of gitignore(5), relative to the scanned root or to the folder of the file
//! that holds them. The command line decides first, then the deepest `.snapignore` with an opinion.
//! As with git, what is below an excluded folder cannot be taken in again. `.snapignore` files and
//! cache tags count only when asked for: a volume's own content must not decide what is saved of it.

use super::handle::{DirHandle, open_quietly};
use super::{Error, Result};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The file that holds a folder's patterns.
pub const IGNORE_FILE: &[u8] = b".snapignore";
/// The file that marks a cache (bford.info/cachedir).
pub const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// Largest `.snapignore` that is read, in bytes.
const IGNORE_BYTES_MAX: u64 = 1 << 20;

/// The rules of one scan. The default excludes nothing.
#[derive(Debug, Clone)]
pub struct Excludes {
    patterns: Gitignore,
    ignore_files: bool,
    cache_tags: bool,
}

impl Default for Excludes {
    fn default() -> Self {
        Self { patterns: Gitignore::empty(), ignore_files: false, cache_tags: false }
    }
}

impl Excludes {
    /// Excludes what `patterns` match, in gitignore syntax relative to the scanned root; a later
    /// one overrules an earlier one.
    ///
    /// # Errors
    /// A pattern is not valid, or is a comment or empty and so would exclude nothing.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self> {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let invalid = |reason: String| Error::Pattern { pattern: pattern.to_owned(), reason };
            if pattern.trim().is_empty() || pattern.starts_with('#') || pattern.contains('\n') {
                return Err(invalid("it matches nothing".to_owned()));
            }
            builder.add_line(None, pattern).map_err(|error| invalid(error.to_string()))?;
        }
        let patterns = builder.build().map_err(|error| Error::Pattern {
            pattern: patterns.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("`, `"),
            reason: error.to_string(),
        })?;
        Ok(Self { patterns, ..Self::default() })
    }

    /// Whether `.snapignore` files count.
    #[must_use]
    pub fn ignore_files(self, ignore_files: bool) -> Self {
        Self { ignore_files, ..self }
    }

    /// Whether the content of a folder with a valid `CACHEDIR.TAG` is left out; the folder and its
    /// tag are kept.
    #[must_use]
    pub fn cache_tags(self, cache_tags: bool) -> Self {
        Self { cache_tags, ..self }
    }

    pub(super) fn wants_ignore_files(&self) -> bool {
        self.ignore_files
    }

    pub(super) fn wants_cache_tags(&self) -> bool {
        self.cache_tags
    }

    /// True if there are no patterns.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// True if the patterns leave out the folder `path`, or one above it.
    pub fn leaves_out_folder(&self, path: &Path) -> bool {
        path.ancestors().any(|part| self.verdict(part.as_os_str().as_bytes(), true) == Some(true))
    }

    /// What the patterns say: `Some(true)` leave out, `Some(false)` take in, `None` nothing.
    pub(super) fn verdict(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        verdict(&self.patterns, path, is_dir)
    }
}

fn verdict(rules: &Gitignore, path: &[u8], is_dir: bool) -> Option<bool> {
    match rules.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
        ignore::Match::None => None,
        ignore::Match::Ignore(_) => Some(true),
        ignore::Match::Whitelist(_) => Some(false),
    }
}

/// The rules of one folder's `.snapignore`.
#[derive(Debug)]
pub(super) struct FolderRules(Gitignore);

impl FolderRules {
    /// Reads `dir`'s file. Lines that are not valid are named in the second part; the others count.
    pub(super) fn read(dir: &DirHandle) -> io::Result<(Option<Self>, Vec<String>)> {
        let text = read_start(dir, IGNORE_FILE, IGNORE_BYTES_MAX + 1)?;
        if text.len() as u64 > IGNORE_BYTES_MAX {
            return Err(io::Error::other("larger than a MiB"));
        }
        let mut builder = GitignoreBuilder::new("");
        let mut complaints = Vec::new();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let problem = match std::str::from_utf8(line) {
                Ok(line) => builder.add_line(None, line).err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            complaints.extend(problem.map(|problem| format!("line {}: {problem}", index + 1)));
        }
        match builder.build() {
            Ok(rules) if rules.is_empty() => Ok((None, complaints)),
            Ok(rules) => Ok((Some(Self(rules)), complaints)),
            Err(error) => {
                complaints.push(error.to_string());
                Ok((None, complaints))
            }
        }
    }

    /// As [`Excludes::verdict`], of a path relative to the folder.
    pub(super) fn verdict(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        verdict(&self.0, path, is_dir)
    }
}

/// True if `dir`'s `CACHEDIR.TAG` is one: many programs leave files of that name that are not.
pub(super) fn is_tagged_cache(dir: &DirHandle) -> bool {
    read_start(dir, CACHE_TAG, CACHE_SIGNATURE.len() as u64).is_ok_and(|start| start == CACHE_SIGNATURE)
}

/// At most `most` bytes from the start of the regular file `name`.
fn read_start(dir: &DirHandle, name: &[u8], most: u64) -> io::Result<Vec<u8>> {
    // Not to wait for a writer, should it be a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open_quietly(dir, name, flags)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
