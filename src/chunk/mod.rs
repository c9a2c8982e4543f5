//! Cutting plaintext into chunks, naming them, compressing groups of them.
//!
//! A chunk is the unit of deduplication: where its borders lie depends on the bytes around them
//! alone, so the same content gives the same chunks wherever it stands.

mod compress;
mod cut;
mod tar;

pub use compress::{Codec, Compressor, decompress};
pub use cut::{Cutter, Profile};
pub use tar::{Piece, TarSplitter};

use crate::id::ChunkId;

/// Names chunks: keyed BLAKE3-256 of the plaintext. Without the key a name tells nothing of the
/// content.
#[derive(Clone)]
pub struct Namer {
    key: [u8; 32],
}

impl Namer {
    /// Names under `key`.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The id of the chunk `plain`.
    pub fn name(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.key, plain).as_bytes())
    }
}

impl std::fmt::Debug for Namer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Namer(…)")
    }
}
