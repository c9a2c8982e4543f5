//! Reading a file block by block, each block cut into chunks.
//!
//! A block is some 4 MiB that end on a chunk's border: enough for one segment, small enough that two
//! workers can take turns. Where the borders lie does not depend on the blocks.

use crate::chunk::{Cutter, Profile};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read for one block.
const BLOCK_BYTES: usize = 4 << 20;

/// A run of chunks, to be filled again and again.
#[derive(Default)]
pub struct Block {
    /// Zeros before the data that no block of the file system holds.
    pub hole: u64,
    /// The chunks, one after the other.
    pub data: Vec<u8>,
    /// Their lengths.
    pub cuts: Vec<usize>,
}

/// Reads the data runs of a file in order.
pub struct BlockReader {
    file: File,
    profile: Profile,
    /// (offset, length) of the runs that hold data, the next one last.
    runs: Vec<(u64, u64)>,
    /// Where the file's extents have got to.
    covered: u64,
    size: u64,
    /// Bytes that were read and not yet cut.
    rest: Vec<u8>,
}

impl BlockReader {
    /// Reads `runs` of a file of `size` bytes, cutting by `profile`.
    pub fn new(file: File, size: u64, mut runs: Vec<(u64, u64)>, profile: Profile) -> Self {
        runs.reverse();
        Self { file, profile, runs, covered: 0, size, rest: Vec::new() }
    }

    /// Gives the file back.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Fills `block` with the next chunks; false at the end. The last block may be a hole alone.
    pub fn next(&mut self, cutter: &Cutter, block: &mut Block) -> io::Result<bool> {
        block.cuts.clear();
        block.data.clear();
        block.hole = 0;
        let Some((start, length)) = self.runs.pop() else {
            block.hole = self.size.saturating_sub(self.covered);
            self.covered = self.size.max(self.covered);
            return Ok(block.hole > 0);
        };
        // Between a run's blocks `start` is where reading goes on; what is left over lies before it.
        let first = start - self.rest.len() as u64;
        block.hole = first.saturating_sub(self.covered);
        std::mem::swap(&mut block.data, &mut self.rest);
        let kept = block.data.len();
        let want = usize::try_from(length).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        block.data.resize(kept + want, 0);
        let got = read_full(&self.file, start, &mut block.data[kept..])?;
        block.data.truncate(kept + got);
        let ends = got < want || want as u64 == length;
        let total = cut_all(cutter, self.profile, &block.data, ends, &mut block.cuts);
        self.rest.clear();
        self.rest.extend_from_slice(&block.data[total..]);
        block.data.truncate(total);
        self.covered = first + total as u64;
        if !ends {
            self.runs.push((start + got as u64, length - got as u64));
        } else if got < want {
            // The file has become shorter; its state will show that.
            self.runs.clear();
            self.size = self.covered;
        }
        Ok(true)
    }
}

/// Cuts as much of `data` as can be cut for certain, all of it if the run `ends` there.
fn cut_all(cutter: &Cutter, profile: Profile, data: &[u8], ends: bool, cuts: &mut Vec<usize>) -> usize {
    let mut at = 0;
    while at < data.len() && (ends || data.len() - at >= profile.max()) {
        let len = cutter.cut(profile, &data[at..]);
        cuts.push(len);
        at += len;
    }
    at
}

fn read_full(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
    let want = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(got) => {
                buffer = &mut buffer[got..];
                offset += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(want - buffer.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn blocks_cut_as_one_piece_would_and_holes_stay() {
        let mut content = vec![0u8; 13 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.set_len(20 << 20).unwrap();
        let cutter = Cutter::new(&[3; 32]);
        let runs = vec![(0, 1 << 20), (2 << 20, 11 << 20)];
        let mut reader = BlockReader::new(file, 20 << 20, runs, Profile::FINE);
        let (mut block, mut pieces) = (Block::default(), Vec::new());
        let mut holes = Vec::new();
        while reader.next(&cutter, &mut block).unwrap() {
            holes.extend((block.hole > 0).then_some(block.hole));
            let mut at = 0;
            for len in &block.cuts {
                pieces.push(block.data[at..at + len].to_vec());
                at += len;
            }
            assert_eq!(at, block.data.len());
        }
        assert_eq!(holes, vec![1 << 20, 7 << 20]);
        let mut whole = Vec::new();
        for run in [&content[..1 << 20], &content[2 << 20..]] {
            let mut rest = run;
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(cutter.cut(Profile::FINE, rest));
                whole.push(piece.to_vec());
                rest = behind;
            }
        }
        assert_eq!(pieces.len(), whole.len());
        assert!(pieces == whole);
    }
}
