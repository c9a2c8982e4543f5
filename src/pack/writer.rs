//! Writing one pack: chunks into segments, segments through the seal into the store.
//!
//! The sealed bytes leave as soon as they exist, so a pack in the making costs one segment of
//! memory and not a whole pack.

use super::footer::put_u32;
use super::{Error, Footer, IndexedPack, Origin, PackKind, Result, Segment, SegmentChunk};
use crate::chunk::Compressor;
use crate::crypto::Recipient;
use crate::crypto::seal::Sealer;
use crate::id::{ChunkId, PackId};
use crate::limits::{
    PACK_BYTES_TARGET, PACK_CHUNKS_TARGET, PACK_SEGMENTS_TARGET, SEGMENT_BYTES_TARGET, SEGMENT_CHUNKS_TARGET,
};
use crate::store::{Store, Upload};

/// The last bytes of every pack's plaintext.
pub(super) const END_MAGIC: &[u8; 4] = b"snap";

/// A pack that is whole; it is durable once its upload has been committed under its name.
pub struct FinishedPack {
    /// Its entry for the index.
    pub indexed: IndexedPack,
    /// Its bytes, not yet published.
    pub upload: Box<dyn Upload>,
}

/// A pack in the making.
pub struct PackWriter {
    sealer: Sealer,
    hasher: blake3::Hasher,
    upload: Box<dyn Upload>,
    sealed_bytes: u64,
    footer: Footer,
    /// Plaintext bytes of the closed segments.
    offset: u64,
    /// Chunks of the closed segments.
    closed_chunks: usize,
    plain: Vec<u8>,
    chunks: Vec<SegmentChunk>,
    stored: Vec<u8>,
    sealed: Vec<u8>,
}

impl PackWriter {
    /// An empty pack sealed to `recipient`.
    ///
    /// # Errors
    /// The store or the system's random generator fails.
    pub fn new(store: &dyn Store, recipient: &Recipient, kind: PackKind) -> Result<Self> {
        let (sealer, header) = Sealer::new(std::slice::from_ref(recipient)).map_err(seal_error)?;
        let mut pack = Self {
            sealer,
            hasher: blake3::Hasher::new(),
            upload: store.upload()?,
            sealed_bytes: 0,
            footer: Footer { kind, segments: Vec::new() },
            offset: 0,
            closed_chunks: 0,
            plain: Vec::with_capacity(SEGMENT_BYTES_TARGET + SEGMENT_BYTES_TARGET / 4),
            chunks: Vec::new(),
            stored: Vec::new(),
            sealed: header,
        };
        pack.flush()?;
        Ok(pack)
    }

    /// The number of the segment that the next chunk goes into.
    pub fn segment(&self) -> u32 {
        u32::try_from(self.footer.segments.len()).unwrap_or(u32::MAX)
    }

    /// Adds a chunk to the open segment.
    pub fn add(&mut self, id: ChunkId, plain: &[u8]) {
        self.plain.extend_from_slice(plain);
        self.chunks.push(SegmentChunk { id, len: u32::try_from(plain.len()).unwrap_or(u32::MAX) });
    }

    /// True when the open segment has reached its size.
    pub fn segment_is_full(&self) -> bool {
        self.plain.len() >= SEGMENT_BYTES_TARGET || self.chunks.len() >= SEGMENT_CHUNKS_TARGET
    }

    /// True when the pack has reached its size and should be finished.
    pub fn is_full(&self) -> bool {
        self.offset >= PACK_BYTES_TARGET as u64
            || self.footer.segments.len() >= PACK_SEGMENTS_TARGET
            || self.closed_chunks >= PACK_CHUNKS_TARGET
    }

    /// Compresses, seals and writes the open segment.
    ///
    /// # Errors
    /// The store is full or refuses.
    pub fn close_segment(&mut self, compressor: &mut Compressor) -> Result<()> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        self.stored.clear();
        let codec = compressor.compress(&self.plain, &mut self.stored).map_err(Error::Compress)?;
        let len = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.closed_chunks += self.chunks.len();
        self.footer.segments.push(Segment {
            codec,
            offset: self.offset,
            stored_len: len(self.stored.len()),
            plain_len: len(self.plain.len()),
            chunks: std::mem::take(&mut self.chunks),
            origins: Vec::new(),
        });
        self.offset += self.stored.len() as u64;
        self.plain.clear();
        self.sealer.update(&self.stored, &mut self.sealed).map_err(seal_error)?;
        self.flush()
    }

    /// Adds a segment as it lies in the pack `from`, without decoding it: nothing can change on the way.
    /// No chunk has been added by itself.
    ///
    /// # Errors
    /// The store is full or refuses.
    pub fn copy_segment(&mut self, from: Origin, segment: Segment, stored: &[u8]) -> Result<()> {
        let mut origins = segment.origins;
        origins.push(from);
        self.closed_chunks += segment.chunks.len();
        self.footer.segments.push(Segment { offset: self.offset, origins, ..segment });
        self.offset += stored.len() as u64;
        self.sealer.update(stored, &mut self.sealed).map_err(seal_error)?;
        self.flush()
    }

    /// Closes the pack: the last segment, padding, footer, seal.
    ///
    /// # Errors
    /// The store is full or refuses.
    pub fn finish(mut self, compressor: &mut Compressor) -> Result<FinishedPack> {
        self.close_segment(compressor)?;
        let mut footer = Vec::new();
        self.footer.encode(&mut footer);
        let mut tail = vec![0; padding(self.offset + footer.len() as u64 + 8)];
        tail.extend_from_slice(&footer);
        put_u32(&mut tail, footer.len());
        tail.extend_from_slice(END_MAGIC);
        self.sealer.update(&tail, &mut self.sealed).map_err(seal_error)?;
        self.flush()?;
        let Self { sealer, mut hasher, mut upload, mut sealed_bytes, footer, mut sealed, .. } = self;
        sealer.finish(&mut sealed).map_err(seal_error)?;
        hasher.update(&sealed);
        upload.write(&sealed)?;
        sealed_bytes += sealed.len() as u64;
        let id = PackId(*hasher.finalize().as_bytes());
        Ok(FinishedPack { indexed: IndexedPack { id, sealed_bytes, footer }, upload })
    }

    fn flush(&mut self) -> Result<()> {
        self.hasher.update(&self.sealed);
        self.upload.write(&self.sealed)?;
        self.sealed_bytes += self.sealed.len() as u64;
        self.sealed.clear();
        Ok(())
    }
}

fn seal_error(source: crate::crypto::Error) -> Error {
    Error::Crypto { object: "a new pack".to_owned(), source }
}

/// Bytes that bring `len` to the next PADMÉ length (Nikitin et al., PURBs, PETS 2019): the
/// storage learns of a pack's size only its order of magnitude. At most 12 %, 3 % from 32 MiB on.
fn padding(len: u64) -> usize {
    if len < 2 {
        return 0;
    }
    let exponent = 63 - len.leading_zeros();
    let kept = 32 - exponent.leading_zeros();
    let mask = (1u64 << exponent.saturating_sub(kept)) - 1;
    let padded = (len + mask) & !mask;
    usize::try_from(padded - len).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limits::FOOTER_BYTES_MAX;
    use crate::store::LocalStore;

    /// Millions of tiny files that compress well: the footer that lists them must stay one that can be read.
    #[test]
    fn however_small_the_chunks_a_footer_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::at(dir.path().join("repo"));
        store.create_layout().unwrap();
        let recipient = crate::crypto::DataIdentity::generate().recipient();
        let mut pack = PackWriter::new(&store, &recipient, PackKind::Data).unwrap();
        let mut compressor = Compressor::new(1).unwrap();
        let mut number = 0u64;
        while !pack.is_full() {
            while !pack.segment_is_full() {
                pack.add(ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes()), b"abc");
                number += 1;
            }
            pack.close_segment(&mut compressor).unwrap();
        }
        let finished = pack.finish(&mut compressor).unwrap();
        let mut footer = Vec::new();
        finished.indexed.footer.encode(&mut footer);
        assert!(footer.len() < FOOTER_BYTES_MAX / 8, "{} bytes for {number} chunks", footer.len());
    }

    #[test]
    fn padding_hides_the_low_bits_and_stays_small() {
        for len in [1u64, 2, 9, 200, 1000, 65_536, 1_000_000, 33_554_433] {
            let padded = len + padding(len) as u64;
            assert!(padded >= len && padded <= len + len / 8 + 1, "{len} {padded}");
            assert_eq!(padding(padded), 0, "{len} {padded}");
        }
    }
}
