//! Reading a file block by block, each block cut into chunks.
//!
//! A block is some 4 MiB that end on a chunk's border: enough for one segment, small enough that two
//! workers can take turns. Where the borders lie does not depend on the blocks. Archives are cut
//! where the files in them begin and end; what lies between those is gathered, and many such pieces
//! make one chunk, of which each is a slice.
//!
//! Every piece of the file has a number, by which the pieces are put into order again.

use crate::chunk::{Cutter, Piece, Profile, TarSplitter};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes read for one block.
const BLOCK_BYTES: usize = 4 << 20;
/// Pieces between an archive's files are gathered until there are so many bytes, at a border …
const GROUP_BYTES_MIN: usize = 16 << 10;
/// … or so many, at any place.
const GROUP_BYTES_MAX: usize = 256 << 10;

/// A piece of a file that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Zeros that no block of the file system holds.
    Hole {
        /// How many.
        len: u64,
    },
    /// A chunk: these bytes of the block's data.
    Chunk {
        /// The first.
        start: usize,
        /// How many.
        len: usize,
    },
}

/// Pieces of a file that are stored as one chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The chunk.
    pub bytes: Vec<u8>,
    /// Each piece: its number, and its first byte and length in the chunk.
    pub slices: Vec<(u64, u32, u32)>,
}

/// A run of pieces, to be filled again and again.
#[derive(Default)]
pub struct Block {
    /// What was read.
    pub data: Vec<u8>,
    /// The pieces that stand alone, with their numbers.
    pub items: Vec<(u64, Part)>,
    /// The chunks of gathered pieces that have become whole.
    pub groups: Vec<Group>,
}

/// Where content comes from.
enum Input<'s> {
    File(File),
    Stream(Box<dyn Read + Send + 's>),
}

/// Reads the data runs of a file, or a stream, in order.
pub struct BlockReader<'s> {
    input: Input<'s>,
    profile: Profile,
    /// (offset, length) of the runs that hold data, the next one last.
    runs: Vec<(u64, u64)>,
    /// Where the file's extents have got to.
    covered: u64,
    size: u64,
    /// Bytes that were read and not yet cut.
    rest: Vec<u8>,
    number: u64,
    /// Whether the file may be an archive; asked once, at its beginning.
    may_be_archive: bool,
    splitter: Option<TarSplitter>,
    group: Group,
    pieces: Vec<Piece>,
}

impl<'s> BlockReader<'s> {
    /// Reads `runs` of a file of `size` bytes, cutting by `profile`.
    pub fn new(file: File, size: u64, runs: Vec<(u64, u64)>, profile: Profile) -> Self {
        Self::with_input(Input::File(file), size, runs, profile)
    }

    /// Reads a stream to its end.
    pub fn of_stream(stream: Box<dyn Read + Send + 's>, profile: Profile) -> Self {
        Self::with_input(Input::Stream(stream), u64::MAX, vec![(0, u64::MAX)], profile)
    }

    fn with_input(input: Input<'s>, size: u64, mut runs: Vec<(u64, u64)>, profile: Profile) -> Self {
        let may_be_archive = runs == [(0, size)] && matches!(profile, Profile::Content { .. });
        runs.reverse();
        Self {
            input,
            profile,
            runs,
            covered: 0,
            size,
            rest: Vec::new(),
            number: 0,
            may_be_archive,
            splitter: None,
            group: Group::default(),
            pieces: Vec::new(),
        }
    }

    /// Gives the file back; a stream has none.
    pub fn into_file(self) -> Option<File> {
        match self.input {
            Input::File(file) => Some(file),
            Input::Stream(_) => None,
        }
    }

    /// Fills `block` with the next pieces; false at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, cutter: &Cutter, block: &mut Block) -> io::Result<bool> {
        block.items.clear();
        block.groups.clear();
        block.data.clear();
        let Some((start, length)) = self.runs.pop() else {
            self.flush_group(&mut block.groups);
            self.add_hole(self.size.saturating_sub(self.covered), block);
            self.covered = self.size.max(self.covered);
            return Ok(!block.items.is_empty() || !block.groups.is_empty());
        };
        // Between a run's blocks `start` is where reading goes on; what is left over lies before it.
        let first = start - self.rest.len() as u64;
        self.add_hole(first.saturating_sub(self.covered), block);
        std::mem::swap(&mut block.data, &mut self.rest);
        let kept = block.data.len();
        let want = usize::try_from(length).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        block.data.resize(kept + want, 0);
        let got = self.input.read(start, &mut block.data[kept..])?;
        block.data.truncate(kept + got);
        let ends = got < want || want as u64 == length;
        let total = self.cut(cutter, block, ends);
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

    fn add_hole(&mut self, len: u64, block: &mut Block) {
        if len > 0 {
            block.items.push((self.number, Part::Hole { len }));
            self.number += 1;
        }
    }

    /// Cuts as much of the block's data as can be cut for certain, all of it if the run `ends`
    /// there; gives how many bytes that is.
    fn cut(&mut self, cutter: &Cutter, block: &mut Block, ends: bool) -> usize {
        if std::mem::take(&mut self.may_be_archive) {
            self.splitter = TarSplitter::for_content(&block.data);
        }
        if self.splitter.is_some() {
            return self.split(cutter, block, ends);
        }
        let (data, mut at) = (&block.data, 0);
        while at < data.len() && (ends || data.len() - at >= self.profile.max()) {
            let len = cutter.cut(self.profile, &data[at..]);
            block.items.push((self.number, Part::Chunk { start: at, len }));
            self.number += 1;
            at += len;
        }
        at
    }

    fn split(&mut self, cutter: &Cutter, block: &mut Block, ends: bool) -> usize {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        let Some(splitter) = &mut self.splitter else { return 0 };
        let total = splitter.split(cutter, self.profile, &block.data, ends, &mut pieces);
        let mut at = 0;
        for piece in &pieces {
            match *piece {
                Piece::Content { len } => {
                    block.items.push((self.number, Part::Chunk { start: at, len }));
                    self.number += 1;
                    at += len;
                }
                Piece::Between { len, border } => {
                    self.gather(&block.data[at..at + len], &mut block.groups);
                    at += len;
                    if border && self.group.bytes.len() >= GROUP_BYTES_MIN {
                        self.flush_group(&mut block.groups);
                    }
                }
            }
        }
        self.pieces = pieces;
        total
    }

    /// Adds a piece to the open group, joined with the one before it if that is its neighbour. A
    /// group that is full becomes one of `groups`: no chunk is longer than that, whatever the piece.
    fn gather(&mut self, bytes: &[u8], groups: &mut Vec<Group>) {
        let len = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut rest = bytes;
        while !rest.is_empty() {
            let from = len(self.group.bytes.len());
            let (part, behind) = rest.split_at(rest.len().min(GROUP_BYTES_MAX - self.group.bytes.len()));
            rest = behind;
            self.group.bytes.extend_from_slice(part);
            match self.group.slices.last_mut() {
                Some((number, start, sum)) if *number + 1 == self.number && *start + *sum == from => {
                    *sum += len(part.len());
                }
                _ => {
                    self.group.slices.push((self.number, from, len(part.len())));
                    self.number += 1;
                }
            }
            if self.group.bytes.len() >= GROUP_BYTES_MAX {
                self.flush_group(groups);
            }
        }
    }

    fn flush_group(&mut self, groups: &mut Vec<Group>) {
        if !self.group.bytes.is_empty() {
            groups.push(std::mem::take(&mut self.group));
        }
    }
}

impl Input<'_> {
    /// Fills `buffer` from `offset` on as far as there is content; a stream is always there already.
    fn read(&mut self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len();
        while !buffer.is_empty() {
            let got = match self {
                Input::File(file) => file.read_at(buffer, offset),
                Input::Stream(stream) => stream.read(buffer),
            };
            match got {
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
            for (_, item) in &block.items {
                match *item {
                    Part::Hole { len } => holes.push(len),
                    Part::Chunk { start, len } => pieces.push(block.data[start..start + len].to_vec()),
                }
            }
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

    /// What belongs to a header can be of any length, and can begin in a group that has something.
    #[test]
    fn no_chunk_of_an_archive_is_too_long() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |kind, name: &str, size: usize| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size as u64);
            tar.append_data(&mut header, name, vec![7; size].as_slice()).unwrap();
        };
        add(tar::EntryType::Regular, "large", BLOCK_BYTES - 30 * 512);
        (0..20).for_each(|at| add(tar::EntryType::Regular, &format!("small-{at}"), 0));
        add(tar::EntryType::XHeader, "headers", 9 << 20);
        let archive = tar.into_inner().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();
        let size = archive.len() as u64;
        let mut reader = BlockReader::new(file, size, vec![(0, size)], Profile::FILES);
        let (cutter, mut block, mut bytes) = (Cutter::new(&[3; 32]), Block::default(), 0);
        while reader.next(&cutter, &mut block).unwrap() {
            assert!(block.groups.iter().all(|group| group.bytes.len() <= GROUP_BYTES_MAX));
            bytes += block.groups.iter().flat_map(|g| &g.slices).map(|(_, _, len)| u64::from(*len)).sum::<u64>();
            bytes += block
                .items
                .iter()
                .map(|(_, item)| match *item {
                    Part::Hole { len } => len,
                    Part::Chunk { len, .. } => len as u64,
                })
                .sum::<u64>();
        }
        assert_eq!(bytes, size);
    }

    #[test]
    fn an_archive_comes_together_from_its_pieces() {
        let mut tar = tar::Builder::new(Vec::new());
        for at in 0..900usize {
            let mut content = vec![0; (at * 6007) % 50_000];
            blake3::Hasher::new().update(&at.to_le_bytes()).finalize_xof().fill(&mut content);
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, format!("folder/{at}"), content.as_slice()).unwrap();
        }
        let archive = tar.into_inner().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();
        let size = archive.len() as u64;
        let mut reader = BlockReader::new(file, size, vec![(0, size)], Profile::FILES);
        let (cutter, mut block) = (Cutter::new(&[3; 32]), Block::default());
        let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut groups = 0;
        while reader.next(&cutter, &mut block).unwrap() {
            for (number, item) in &block.items {
                let Part::Chunk { start, len } = *item else { panic!("a hole in {item:?}") };
                parts.push((*number, block.data[start..start + len].to_vec()));
            }
            for group in &block.groups {
                groups += 1;
                for (number, from, len) in &group.slices {
                    parts.push((*number, group.bytes[*from as usize..(*from + *len) as usize].to_vec()));
                }
            }
        }
        parts.sort();
        assert!(parts.iter().enumerate().all(|(at, (number, _))| at as u64 == *number));
        let joined: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert!(joined == archive);
        assert!((2..60).contains(&groups), "{groups}");
    }
}
