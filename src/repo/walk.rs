//! Walking a tree: its entries in order, chunk by chunk, past whatever is damaged.

use super::Result;
use super::entry::Entry;
use super::reader::Reader;
use super::sync::Chain;
use super::tree::{TreeAssembler, TreeChunk, TreeRoot, decode_tree_chunk};
use crate::id::ChunkId;

/// A place in a tree.
pub struct TreeWalker {
    /// The lists on the way down and what is left of each, with their level.
    stack: Vec<(std::vec::IntoIter<ChunkId>, u32)>,
    assembler: TreeAssembler,
    lost: Vec<String>,
}

impl TreeWalker {
    /// Before the first entry of `root`.
    pub fn new(root: &TreeRoot) -> Self {
        let stack = vec![(root.chunks.clone().into_iter(), root.level)];
        Self { stack, assembler: TreeAssembler::default(), lost: Vec::new() }
    }

    /// Appends the next entries to `out`, at least `count` of them unless the tree ends; false when
    /// it has ended. What cannot be read is passed over and told by [`Self::lost`].
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn next(&mut self, reader: &mut Reader<'_>, out: &mut Vec<Entry>, count: usize) -> Result<bool> {
        let goal = out.len() + count;
        while out.len() < goal {
            let Some((ids, level)) = self.stack.last_mut() else {
                out.extend(self.assembler.finish());
                return Ok(false);
            };
            let level = *level;
            match ids.next() {
                Some(id) => self.chunk(reader, &id, level, out)?,
                None => drop(self.stack.pop()),
            }
        }
        Ok(true)
    }

    fn chunk(&mut self, reader: &mut Reader<'_>, id: &ChunkId, level: u32, out: &mut Vec<Entry>) -> Result<()> {
        let decoded = match reader.chunk(id) {
            Ok(bytes) => decode_tree_chunk(&bytes, level).map_err(|what| format!("a tree is damaged: {what}")),
            Err(error) if error.is_catalog_damage() || error.is_outage() => return Err(error),
            Err(error) => Err(Chain(&error).to_string()),
        };
        match decoded {
            Ok(TreeChunk::List(ids)) => self.stack.push((ids.into_iter(), level - 1)),
            Ok(TreeChunk::Records(records)) => {
                for record in records {
                    match self.assembler.push(record) {
                        Ok(entry) => out.extend(entry),
                        Err(what) => self.lost.push(format!("a tree is damaged: {what}")),
                    }
                }
            }
            Err(message) => {
                out.extend(self.assembler.gap());
                self.lost.push(format!("some entries cannot be told: {message}"));
            }
        }
        Ok(())
    }

    /// What could not be read since the last call, and why.
    pub fn lost(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lost)
    }
}
