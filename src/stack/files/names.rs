//! The names in one folder, sorted: one arena and one table for each level of a scan.
//!
//! A level's memory is used again for the next folder of that depth, so that a scan allocates per
//! level and not per folder.

use super::handle::DirHandle;
use rustix::fs::{FileType, RawDir};
use rustix::io::Result;
use std::ffi::CStr;

/// How much of a folder the kernel hands over at once, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// The names in one folder.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names one after the other, each with its NUL, as system calls want them.
    arena: Vec<u8>,
    table: Vec<Name>,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    /// The first eight bytes, so that sorting seldom touches the arena. No name holds a NUL, hence
    /// padding with zeros keeps the order.
    prefix: u64,
    start: usize,
    /// Without the NUL.
    len: usize,
    kind: FileType,
}

impl Names {
    /// Replaces the names by those in `dir`. On an error those read so far are kept.
    pub(super) fn read(&mut self, dir: &DirHandle, buffer: &mut Vec<u8>) -> Result<()> {
        self.arena.clear();
        self.table.clear();
        buffer.clear();
        buffer.reserve(BUFFER_BYTES);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut result = Ok(());
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => self.push(entry.file_name(), entry.file_type()),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.sort();
        result
    }

    fn push(&mut self, name: &CStr, kind: FileType) {
        let bytes = name.to_bytes();
        if bytes == b"." || bytes == b".." {
            return;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(name.to_bytes_with_nul());
        self.table.push(Name { prefix: prefix(bytes), start, len: bytes.len(), kind });
    }

    fn sort(&mut self) {
        let Self { arena, table } = self;
        let bytes = |name: &Name| arena.get(name.start..name.start + name.len).unwrap_or_default();
        table.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| bytes(a).cmp(bytes(b))));
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The name at `index` and what the folder says it is, which may be unknown.
    pub(super) fn get(&self, index: usize) -> Option<(&CStr, FileType)> {
        let name = self.table.get(index)?;
        let with_nul = self.arena.get(name.start..=name.start + name.len)?;
        Some((CStr::from_bytes_with_nul(with_nul).ok()?, name.kind))
    }

    /// Each name and what the folder says it is.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&CStr, FileType)> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// True if `wanted` is there.
    pub(super) fn contains(&self, wanted: &[u8]) -> bool {
        self.position(wanted).is_some()
    }

    /// Drops all names but `wanted`.
    pub(super) fn keep_only(&mut self, wanted: &[u8]) {
        let kept = self.position(wanted).and_then(|index| self.table.get(index).copied());
        self.table.clear();
        self.table.extend(kept);
    }

    fn position(&self, wanted: &[u8]) -> Option<usize> {
        let bytes = |name: &Name| self.arena.get(name.start..name.start + name.len).unwrap_or_default();
        self.table.binary_search_by(|name| bytes(name).cmp(wanted)).ok()
    }
}

fn prefix(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(name) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}
