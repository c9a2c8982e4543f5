//! The footer of a pack: which chunk is where in which segment.
//!
//! ```text
//! "SNPF"  u8 version  u8 kind (0 data, 1 tree)  u32 segments
//! segment: u8 codec  u32 stored bytes  u32 plain bytes  u32 chunks
//!   chunk: 32 bytes id  u32 plain bytes
//!   in version 2: u32 origins
//!   origin: 32 bytes pack  u32 segment
//! ```
//!
//! Version 2 is that of packs into which segments were copied from others, so that those can go:
//! manifests name packs and segments and are never changed, and a segment's origins are all the names
//! that it has had.
//!
//! Numbers are little-endian. Segments lie one after the other from the pack's first plaintext
//! byte on, and chunks from their segment's first, so no offset is stored that could disagree.

use super::{Error, Result, damaged};
use crate::chunk::Codec;
use crate::id::{ChunkId, PackId};
use crate::limits::{CHUNK_BYTES_MAX, SEGMENT_BYTES_MAX};

const MAGIC: &[u8; 4] = b"SNPF";
/// Without and with origins.
const VERSIONS: [u8; 2] = [1, 2];

/// What a pack's chunks are pieces of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PackKind {
    /// Content.
    Data = 0,
    /// Trees.
    Tree = 1,
}

/// One chunk of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentChunk {
    /// Its name.
    pub id: ChunkId,
    /// Its plaintext length in bytes.
    pub len: u32,
}

/// A place that a segment was copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The pack.
    pub pack: PackId,
    /// Which segment of it.
    pub segment: u32,
}

/// One segment of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// How it is stored.
    pub codec: Codec,
    /// Where it begins in the pack's plaintext, in bytes.
    pub offset: u64,
    /// Bytes it takes there.
    pub stored_len: u32,
    /// Bytes it decodes to.
    pub plain_len: u32,
    /// Its chunks, in order.
    pub chunks: Vec<SegmentChunk>,
    /// Where it was before, the first place first; what a manifest needs of these, this has.
    pub origins: Vec<Origin>,
}

impl Segment {
    /// Its chunks, each with its first byte's offset in the segment's plaintext.
    pub fn placed(&self) -> impl Iterator<Item = (u32, &SegmentChunk)> {
        self.chunks.iter().scan(0, |next, chunk| {
            let offset = *next;
            *next += chunk.len;
            Some((offset, chunk))
        })
    }
}

/// The footer of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// What the chunks are pieces of.
    pub kind: PackKind,
    /// The segments, in order.
    pub segments: Vec<Segment>,
}

impl Footer {
    /// Appends the footer's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        let moved = self.segments.iter().any(|segment| !segment.origins.is_empty());
        out.extend_from_slice(&[VERSIONS[usize::from(moved)], self.kind as u8]);
        put_u32(out, self.segments.len());
        for segment in &self.segments {
            out.push(segment.codec as u8);
            out.extend_from_slice(&segment.stored_len.to_le_bytes());
            out.extend_from_slice(&segment.plain_len.to_le_bytes());
            put_u32(out, segment.chunks.len());
            for chunk in &segment.chunks {
                out.extend_from_slice(&chunk.id.0);
                out.extend_from_slice(&chunk.len.to_le_bytes());
            }
            if moved {
                put_u32(out, segment.origins.len());
                for origin in &segment.origins {
                    out.extend_from_slice(&origin.pack.0);
                    out.extend_from_slice(&origin.segment.to_le_bytes());
                }
            }
        }
    }

    /// The footer that `bytes` are, whole. `object` names the pack in errors.
    ///
    /// # Errors
    /// Damaged, or of a newer version.
    pub fn decode(object: &str, bytes: &[u8]) -> Result<Self> {
        let mut input = Input { object, rest: bytes };
        if input.take(4)? != MAGIC {
            return Err(damaged(object, "its footer does not begin as one"));
        }
        let version = input.u8()?;
        if !VERSIONS.contains(&version) {
            return Err(Error::Newer { object: object.to_owned(), version });
        }
        let kind = match input.u8()? {
            0 => PackKind::Data,
            1 => PackKind::Tree,
            other => return Err(damaged(object, format!("a pack of kind {other} does not exist"))),
        };
        let count = input.u32()?;
        let mut segments = Vec::with_capacity(input.at_most(count, 13));
        let mut offset = 0u64;
        for _ in 0..count {
            let mut segment = decode_segment(&mut input, offset)?;
            if version == VERSIONS[1] {
                segment.origins = decode_origins(&mut input)?;
            }
            offset += u64::from(segment.stored_len);
            segments.push(segment);
        }
        if !input.rest.is_empty() {
            return Err(damaged(object, "there is something behind its footer"));
        }
        Ok(Self { kind, segments })
    }

    /// Chunks in all segments.
    pub fn chunk_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.chunks.len()).sum()
    }
}

fn decode_segment(input: &mut Input<'_>, offset: u64) -> Result<Segment> {
    let object = input.object;
    let codec = input.u8()?;
    let codec = Codec::from_byte(codec).ok_or_else(|| damaged(object, format!("codec {codec} does not exist")))?;
    let (stored_len, plain_len, count) = (input.u32()?, input.u32()?, input.u32()?);
    if plain_len as usize > SEGMENT_BYTES_MAX || stored_len as usize > SEGMENT_BYTES_MAX + SEGMENT_BYTES_MAX / 8 {
        return Err(damaged(object, "a segment is larger than any can be"));
    }
    let mut chunks = Vec::with_capacity(input.at_most(count, 36));
    let mut sum = 0u64;
    for _ in 0..count {
        let mut id = [0; 32];
        id.copy_from_slice(input.take(32)?);
        let len = input.u32()?;
        if len as usize > CHUNK_BYTES_MAX {
            return Err(damaged(object, "a chunk is larger than any can be"));
        }
        sum += u64::from(len);
        chunks.push(SegmentChunk { id: ChunkId(id), len });
    }
    if sum != u64::from(plain_len) {
        return Err(damaged(object, "a segment's chunks are not as long as the segment"));
    }
    Ok(Segment { codec, offset, stored_len, plain_len, chunks, origins: Vec::new() })
}

fn decode_origins(input: &mut Input<'_>) -> Result<Vec<Origin>> {
    let count = input.u32()?;
    let mut origins = Vec::with_capacity(input.at_most(count, 36));
    for _ in 0..count {
        let mut id = [0; 32];
        id.copy_from_slice(input.take(32)?);
        origins.push(Origin { pack: PackId(id), segment: input.u32()? });
    }
    Ok(origins)
}

pub(super) fn put_u32(out: &mut Vec<u8>, number: usize) {
    // Every caller's number is bounded far below 2³² by `limits`.
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// A cursor over untrusted bytes.
pub(super) struct Input<'a> {
    pub(super) object: &'a str,
    pub(super) rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(damaged(self.object, "its listing is cut short")),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// `count`, or less if the rest cannot hold that many items of `bytes_each`.
    pub(super) fn at_most(&self, count: u32, bytes_each: usize) -> usize {
        (count as usize).min(self.rest.len() / bytes_each)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn sample() -> Footer {
        let chunk = |n: u8, len| SegmentChunk { id: ChunkId([n; 32]), len };
        Footer {
            kind: PackKind::Data,
            segments: vec![
                Segment {
                    codec: Codec::Zstd,
                    offset: 0,
                    stored_len: 70,
                    plain_len: 300,
                    chunks: vec![chunk(1, 100), chunk(2, 200)],
                    origins: Vec::new(),
                },
                Segment {
                    codec: Codec::Raw,
                    offset: 70,
                    stored_len: 5,
                    plain_len: 5,
                    chunks: vec![chunk(3, 5)],
                    origins: Vec::new(),
                },
            ],
        }
    }

    fn copied() -> Footer {
        let mut footer = sample();
        let origin = |n: u8| Origin { pack: PackId([n; 32]), segment: u32::from(n) };
        footer.segments[1].origins = vec![origin(7), origin(8)];
        footer
    }

    #[test]
    fn bytes_and_footer_are_inverse() {
        for (footer, version) in [(sample(), 1), (copied(), 2)] {
            let mut bytes = Vec::new();
            footer.encode(&mut bytes);
            assert_eq!((Footer::decode("p", &bytes).unwrap(), bytes[4]), (footer, version));
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_noticed() {
        for footer in [sample(), copied()] {
            let mut bytes = Vec::new();
            footer.encode(&mut bytes);
            for len in 0..bytes.len() {
                assert!(Footer::decode("p", &bytes[..len]).is_err(), "{len}");
            }
            bytes.push(0);
            assert!(Footer::decode("p", &bytes).is_err());
        }
    }

    #[test]
    fn a_newer_version_is_not_called_damage() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        bytes[4] = 3;
        assert!(matches!(Footer::decode("p", &bytes), Err(Error::Newer { version: 3, .. })));
    }

    #[test]
    fn huge_counts_reserve_no_memory() {
        let mut bytes = b"SNPF\x01\x00".to_vec();
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(Footer::decode("p", &bytes).is_err());
    }
}
