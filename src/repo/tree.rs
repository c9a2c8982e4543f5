//! Trees: the entries of a source, cut into chunks. docs/FORMAT.md §7.
//!
//! A tree is a stream of records in canonical order. It is cut where the hash of an entry's path
//! says so, never inside a record, so that a change in one place leaves the chunks of all other
//! places as they were. Where the list of those chunks is long it is cut into chunks of ids in the
//! same way, level by level, until a few are left, which the manifest names.
//!
//! ```text
//! tree chunk: u8 version = 1  u8 level   level 0: records   level n: 32-byte ids of level n − 1
//! ```

use super::entry::{Entry, Extent, Node, compare_paths};
use super::record::{EXTENTS_PER_RECORD, Record, put_entry, put_more, take_record};
use super::wire::{Malformed, Wire};
use crate::id::ChunkId;
use crate::limits::{TREE_BYTES_TARGET, TREE_DEPTH_MAX, TREE_ENTRIES_MAX, TREE_ENTRIES_MIN, TREE_ROOTS_MAX};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

const VERSION: u8 = 1;
/// One path in 512 ends a chunk: with at least 256 entries, some 770 on average.
const BORDER_MASK: u32 = 511;
/// One id in 256 ends a chunk of ids.
const LIST_MIN: usize = 64;
const LIST_MAX: usize = 4096;

/// What a manifest says of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TreeRoot {
    /// How many levels of lists stand above the records; 0: `chunks` are chunks of records.
    pub level: u32,
    /// The topmost chunks, in order.
    pub chunks: Vec<ChunkId>,
}

/// Cuts a stream of entries into tree chunks, which `sink` stores and names.
pub struct TreeWriter {
    bytes: Vec<u8>,
    entries: usize,
    previous: Vec<u8>,
    leaves: Vec<ChunkId>,
}

impl Default for TreeWriter {
    fn default() -> Self {
        Self { bytes: vec![VERSION, 0], entries: 0, previous: Vec::new(), leaves: Vec::new() }
    }
}

impl TreeWriter {
    /// Adds an entry, which follows the one before it in canonical order.
    ///
    /// # Errors
    /// What `sink` says.
    pub fn add<E>(&mut self, entry: &Entry, sink: &mut dyn FnMut(&[u8]) -> Result<ChunkId, E>) -> Result<(), E> {
        let previous = if self.entries == 0 { &[][..] } else { &self.previous };
        put_entry(&mut self.bytes, previous, entry);
        self.entries += 1;
        self.previous.clone_from(&entry.path);
        if let Node::File(extents) = &entry.node {
            for more in extents.chunks(EXTENTS_PER_RECORD).skip(1) {
                self.close_if(self.bytes.len() >= TREE_BYTES_TARGET, sink)?;
                let previous = if self.entries == 0 { &[][..] } else { &self.previous };
                put_more(&mut self.bytes, previous, &entry.path, more);
                self.entries += 1;
            }
        }
        let border = self.entries >= TREE_ENTRIES_MIN && is_border(&entry.path);
        let full = self.entries >= TREE_ENTRIES_MAX || self.bytes.len() >= TREE_BYTES_TARGET;
        self.close_if(border || full, sink)
    }

    fn close_if<E>(&mut self, close: bool, sink: &mut dyn FnMut(&[u8]) -> Result<ChunkId, E>) -> Result<(), E> {
        if close && self.entries > 0 {
            self.leaves.push(sink(&self.bytes)?);
            self.bytes.truncate(2);
            self.entries = 0;
        }
        Ok(())
    }

    /// Ends the tree.
    ///
    /// # Errors
    /// What `sink` says.
    pub fn finish<E>(mut self, sink: &mut dyn FnMut(&[u8]) -> Result<ChunkId, E>) -> Result<TreeRoot, E> {
        self.close_if(true, sink)?;
        let mut level = 0;
        let mut chunks = self.leaves;
        while chunks.len() > TREE_ROOTS_MAX {
            level += 1;
            chunks = list_level(&chunks, level, sink)?;
        }
        Ok(TreeRoot { level, chunks })
    }
}

fn is_border(path: &[u8]) -> bool {
    let mut number = [0; 4];
    number.copy_from_slice(&blake3::hash(path).as_bytes()[..4]);
    u32::from_le_bytes(number) & BORDER_MASK == 0
}

fn list_level<E>(
    ids: &[ChunkId],
    level: u32,
    sink: &mut dyn FnMut(&[u8]) -> Result<ChunkId, E>,
) -> Result<Vec<ChunkId>, E> {
    let mut out = Vec::new();
    let mut bytes = vec![VERSION, u8::try_from(level).unwrap_or(u8::MAX)];
    let mut count = 0;
    for (at, id) in ids.iter().enumerate() {
        bytes.extend_from_slice(&id.0);
        count += 1;
        let border = count >= LIST_MIN && id.0[0] == 0;
        if border || count >= LIST_MAX || at + 1 == ids.len() {
            out.push(sink(&bytes)?);
            bytes.truncate(2);
            count = 0;
        }
    }
    Ok(out)
}

/// What a tree chunk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeChunk {
    /// Records.
    Records(Vec<Record>),
    /// Chunks of the next lower level.
    List(Vec<ChunkId>),
}

/// Decodes a chunk that stands at `level` of its tree.
///
/// # Errors
/// The bytes are not such a chunk.
pub fn decode_tree_chunk(bytes: &[u8], level: u32) -> Result<TreeChunk, Malformed> {
    let mut wire = Wire::new(bytes);
    if wire.byte()? != VERSION {
        return Err("a tree of a version that this snap does not know");
    }
    if u32::from(wire.byte()?) != level || level > TREE_DEPTH_MAX {
        return Err("a tree's chunk stands at the wrong level");
    }
    if level > 0 {
        let mut ids = Vec::new();
        while !wire.is_at_end() {
            ids.push(ChunkId(wire.array32()?));
        }
        return Ok(TreeChunk::List(ids));
    }
    let mut records: Vec<Record> = Vec::new();
    let mut previous = Vec::new();
    while !wire.is_at_end() {
        let record = take_record(&mut wire, &previous)?;
        previous = match &record {
            Record::Entry(entry) => entry.path.clone(),
            Record::More(path, _) => path.clone(),
        };
        records.push(record);
    }
    Ok(TreeChunk::Records(records))
}

/// Puts records together again and checks what no single record shows: canonical order, no path
/// twice, every entry below a folder.
#[derive(Debug, Default)]
pub struct TreeAssembler {
    pending: Option<Entry>,
    /// The folders that the newest entry lies in, outermost first.
    folders: Vec<Vec<u8>>,
    last: Option<Vec<u8>>,
    /// True once a chunk is missing: then folders may be missing too.
    gap: bool,
}

impl TreeAssembler {
    /// Takes the next record; gives the entry before it if that is now whole.
    ///
    /// # Errors
    /// The record cannot follow those before it.
    pub fn push(&mut self, record: Record) -> Result<Option<Entry>, Malformed> {
        match record {
            Record::More(path, more) => match &mut self.pending {
                Some(Entry { path: open, node: Node::File(extents), .. }) if *open == path => {
                    extents.extend(more);
                    Ok(None)
                }
                _ => Err("extents belong to no file"),
            },
            Record::Entry(entry) => {
                self.check_place(&entry)?;
                Ok(self.pending.replace(entry))
            }
        }
    }

    /// Says that the next chunk of the tree is missing; gives the entry before the gap, which may
    /// have lost its last extents only if it is a file: then it is withheld.
    pub fn gap(&mut self) -> Option<Entry> {
        self.gap = true;
        self.pending.take().filter(|entry| match &entry.node {
            Node::File(extents) => extents.is_empty() || extents.len() % EXTENTS_PER_RECORD != 0,
            _ => true,
        })
    }

    /// Gives the last entry.
    pub fn finish(&mut self) -> Option<Entry> {
        self.pending.take()
    }

    fn check_place(&mut self, entry: &Entry) -> Result<(), Malformed> {
        match &self.last {
            None if !entry.path.is_empty() && !self.gap => return Err("a tree does not begin with its root"),
            Some(last) if compare_paths(last, &entry.path) != Ordering::Less => {
                return Err("a tree's entries are not in order");
            }
            _ => {}
        }
        let parent = match entry.path.iter().rposition(|b| *b == b'/') {
            Some(at) => &entry.path[..at],
            None => &[][..],
        };
        while self.folders.last().is_some_and(|folder| folder != parent) {
            self.folders.pop();
        }
        if self.folders.is_empty() && !entry.path.is_empty() && !self.gap {
            return Err("an entry lies in no folder");
        }
        if matches!(entry.node, Node::Dir) {
            self.folders.push(entry.path.clone());
        }
        self.last = Some(entry.path.clone());
        Ok(())
    }
}

/// The length that a file's extents add up to, or an error where they exceed 63 bits: no file
/// system holds such a file.
///
/// # Errors
/// The sum is too large.
pub fn checked_size(extents: &[Extent]) -> Result<u64, Malformed> {
    let mut sum = 0u64;
    for extent in extents {
        sum = sum.checked_add(extent.len()).filter(|n| *n <= i64::MAX as u64).ok_or("a file is too large")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::entry::Meta;
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    #[derive(Default)]
    struct Chunks(HashMap<ChunkId, Vec<u8>>);

    impl Chunks {
        fn store(&mut self, entries: &[Entry]) -> TreeRoot {
            let mut sink = |bytes: &[u8]| -> Result<ChunkId, Infallible> {
                let id = ChunkId(*blake3::hash(bytes).as_bytes());
                self.0.insert(id, bytes.to_vec());
                Ok(id)
            };
            let mut writer = TreeWriter::default();
            for entry in entries {
                writer.add(entry, &mut sink).unwrap();
            }
            writer.finish(&mut sink).unwrap()
        }

        fn load(&self, root: &TreeRoot) -> Vec<Entry> {
            let mut out = Vec::new();
            let mut assembler = TreeAssembler::default();
            for id in &root.chunks {
                self.walk(*id, root.level, &mut |record| out.extend(assembler.push(record).unwrap()));
            }
            out.extend(assembler.finish());
            out
        }

        fn walk(&self, id: ChunkId, level: u32, visit: &mut dyn FnMut(Record)) {
            match decode_tree_chunk(&self.0[&id], level).unwrap() {
                TreeChunk::Records(records) => records.into_iter().for_each(visit),
                TreeChunk::List(ids) => ids.into_iter().for_each(|id| self.walk(id, level - 1, visit)),
            }
        }
    }

    fn entry(path: String, node: Node) -> Entry {
        Entry { path: path.into_bytes(), node, meta: Meta::default() }
    }

    fn many(count: usize) -> Vec<Entry> {
        let mut out = vec![entry(String::new(), Node::Dir)];
        for at in 0..count {
            if at % 100 == 0 {
                out.push(entry(format!("d{:06}", at / 100), Node::Dir));
            }
            let id = ChunkId(*blake3::hash(&at.to_le_bytes()).as_bytes());
            out.push(entry(format!("d{:06}/f{at:07}", at / 100), Node::File(vec![Extent::Chunk { id, len: 5 }])));
        }
        out
    }

    #[test]
    fn a_large_tree_comes_back_and_a_change_costs_one_path_of_chunks() {
        let mut chunks = Chunks::default();
        let mut entries = many(100_000);
        let root = chunks.store(&entries);
        assert!(root.level >= 1 && root.chunks.len() <= TREE_ROOTS_MAX);
        assert_eq!(chunks.load(&root), entries);
        let before = chunks.0.len();
        entries[50_000].meta.uid = 7;
        let second = chunks.store(&entries);
        assert_ne!(root, second);
        assert!(chunks.0.len() - before <= 1 + second.level as usize);
    }

    #[test]
    fn a_file_of_many_extents_goes_over_several_records() {
        let extents = (0..20_000u32).map(|n| Extent::Chunk { id: ChunkId([n as u8; 32]), len: n + 1 }).collect();
        let entries = vec![entry(String::new(), Node::Dir), entry("big".to_owned(), Node::File(extents))];
        let mut chunks = Chunks::default();
        let root = chunks.store(&entries);
        assert_eq!(chunks.load(&root), entries);
    }

    #[test]
    fn order_and_folders_are_checked() {
        let dir = |path: &str| Record::Entry(entry(path.to_owned(), Node::Dir));
        let file = |path: &str| Record::Entry(entry(path.to_owned(), Node::File(vec![])));
        for bad in [
            vec![dir("a")],
            vec![dir(""), dir("b"), dir("a")],
            vec![dir(""), dir("a"), dir("a")],
            vec![dir(""), file("a"), file("a/b")],
            vec![dir(""), file("a/b")],
            vec![dir(""), dir("a"), Record::More(b"a".to_vec(), vec![])],
        ] {
            let mut assembler = TreeAssembler::default();
            assert!(bad.into_iter().any(|record| assembler.push(record).is_err()));
        }
    }
}
