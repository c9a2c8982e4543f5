//! What a tree says of one file, folder, link or device.
//!
//! Paths are bytes, relative to the source's root, parts joined by `/`; the root itself has the
//! empty path. Canonical order is the order of a walk that visits a folder, then its entries
//! sorted by the bytes of their names, each followed by what is below it.

use crate::id::ChunkId;
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use std::cmp::Ordering;

/// A moment of the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds within the second, below 10⁹.
    pub nanos: u32,
}

/// Attributes that every entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky (the low twelve bits of `st_mode`).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Extended attributes, sorted by name; ACLs and file capabilities are among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A run of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The chunk `id`, `len` bytes.
    Chunk {
        /// Which chunk.
        id: ChunkId,
        /// Its plaintext length in bytes.
        len: u32,
    },
    /// `len` bytes of the chunk `id` from its byte `from` on: small pieces that are stored together,
    /// such as the headers of an archive.
    Slice {
        /// Which chunk.
        id: ChunkId,
        /// The first byte of it.
        from: u32,
        /// How many bytes.
        len: u32,
    },
    /// `len` bytes that no block of the file system holds; they read as zeros.
    Hole {
        /// Length in bytes.
        len: u64,
    },
}

impl Extent {
    /// How many bytes of the file it covers.
    pub fn len(&self) -> u64 {
        match self {
            Extent::Chunk { len, .. } | Extent::Slice { len, .. } => u64::from(*len),
            Extent::Hole { len } => *len,
        }
    }

    /// Bytes that are stored for it: none for a hole.
    pub fn data_len(&self) -> u64 {
        if self.chunk().is_some() { self.len() } else { 0 }
    }

    /// The chunk that holds it; none for a hole.
    pub fn chunk(&self) -> Option<&ChunkId> {
        match self {
            Extent::Chunk { id, .. } | Extent::Slice { id, .. } => Some(id),
            Extent::Hole { .. } => None,
        }
    }

    /// Where in its chunk it begins, in bytes.
    pub fn from(&self) -> u32 {
        match self {
            Extent::Slice { from, .. } => *from,
            Extent::Chunk { .. } | Extent::Hole { .. } => 0,
        }
    }

    /// True for a run of no bytes, which no valid tree holds.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Dir,
    /// A regular file: the sum of its extents is its size.
    File(Vec<Extent>),
    /// A symbolic link and the bytes it holds.
    Symlink(Vec<u8>),
    /// Another name of the regular file that stands earlier in the tree under this path.
    Hardlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative path; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// Its attributes.
    pub meta: Meta,
}

impl Entry {
    /// Size of a regular file in bytes; 0 for everything else.
    pub fn size(&self) -> u64 {
        match &self.node {
            Node::File(extents) => extents.iter().map(Extent::len).sum(),
            _ => 0,
        }
    }

    /// The path for people: bytes that are not printable text are escaped.
    pub fn shown_path(&self) -> String {
        shown(&self.path)
    }
}

/// `path` as printable text; control characters (a terminal would obey them) and invalid UTF-8
/// are escaped.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let mut out = String::with_capacity(path.len());
    for part in path.utf8_chunks() {
        for c in part.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in part.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Canonical order of two relative paths: by the bytes of their parts, a folder before what is in it.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    // A `/` sorts before every other byte, because the shorter name is the folder's.
    let rank = |byte: &u8| if *byte == b'/' { 0u16 } else { u16::from(*byte) + 1 };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// True if `path` is one that a tree may hold: relative, no empty part, no `.` or `..`, no NUL,
/// within the limits. The root's empty path is valid.
pub fn is_valid_path(path: &[u8]) -> bool {
    path.is_empty()
        || (path.len() <= PATH_BYTES_MAX
            && path.split(|b| *b == b'/').all(|part| {
                !part.is_empty() && part.len() <= NAME_BYTES_MAX && part != b"." && part != b".." && !part.contains(&0)
            }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_before_its_content_and_before_longer_names() {
        let mut paths: Vec<&[u8]> = vec![b"a.txt", b"a/b", b"", b"a", b"a-b", b"a/b/c", b"B"];
        paths.sort_by(|a, b| compare_paths(a, b));
        let expected: Vec<&[u8]> = vec![b"", b"B", b"a", b"a/b", b"a/b/c", b"a-b", b"a.txt"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn paths_that_leave_the_root_are_not_valid() {
        for bad in [&b"/etc"[..], b"../x", b"a/../b", b"a//b", b"a/", b".", b"a\0b"] {
            assert!(!is_valid_path(bad), "{}", shown(bad));
        }
        assert!(is_valid_path(b"a/b c/\xff"));
        assert!(!is_valid_path(&[b'x'; 256]));
    }

    #[test]
    fn shown_paths_cannot_drive_a_terminal() {
        assert_eq!(shown(b"a\x1b[2J\n\xff"), "a\\u{1b}[2J\\n\\xff");
    }
}
