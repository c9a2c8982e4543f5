//! The payload of an age file: blocks of 64 KiB, each sealed on its own.
//!
//! This is age's STREAM (<https://c2sp.org/age#payload>): every block is sealed with
//! ChaCha20-Poly1305 under one key, and its nonce is its number (11 bytes, big endian) and one byte
//! that is 1 for the last block and 0 for all others. So a block opens only in its own place, and an
//! object that was cut at a block's edge has no last block. The last block may be full; it may be
//! empty only if it is the only one.

use super::{Error, Result};
use age_core::primitives::hkdf;
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

/// Plaintext of every block but the last, in bytes.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// What sealing adds to a block, in bytes.
pub(super) const TAG_BYTES: usize = 16;
/// A full block as it is stored, in bytes.
pub(super) const SEALED_BLOCK_BYTES: usize = BLOCK_BYTES + TAG_BYTES;
/// The random bytes between header and payload.
pub(super) const NONCE_BYTES: usize = 16;
/// The key that a header wraps.
pub(super) type FileKey = Zeroizing<[u8; 16]>;

/// Seals and opens the blocks of one payload. The cipher's state is wiped when it is dropped.
pub(super) struct StreamKey(LessSafeKey);

impl StreamKey {
    /// The payload's key: HKDF-SHA-256 of the file key, salted with the payload's `nonce`.
    pub(super) fn derive(file_key: &FileKey, nonce: &[u8]) -> Result<Self> {
        let bytes = Zeroizing::new(hkdf(nonce, b"payload", file_key.as_slice()));
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.as_slice()).map_err(|_| cipher_failed())?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals `block` in place, as block `number`, and gives its tag.
    pub(super) fn seal(&self, number: u64, last: bool, block: &mut [u8]) -> Result<Tag> {
        self.0.seal_in_place_separate_tag(block_nonce(number, last), Aad::empty(), block).map_err(|_| cipher_failed())
    }

    /// Opens `sealed`, block `number` with its tag, in place; the plaintext is all but the last
    /// [`TAG_BYTES`].
    pub(super) fn open(&self, number: u64, last: bool, sealed: &mut [u8]) -> Result<()> {
        match self.0.open_in_place(block_nonce(number, last), Aad::empty(), sealed) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::damaged(format!("block {number} is not what was sealed there"))),
        }
    }
}

fn cipher_failed() -> Error {
    Error::Refused { operation: "seal", object: "a block".to_owned(), reason: "the cipher refuses".to_owned() }
}

fn block_nonce(number: u64, last: bool) -> Nonce {
    let mut bytes = [0u8; NONCE_LEN];
    bytes[3..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// How a payload of some length is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Number of the last block.
    pub(super) last_block: u64,
    /// Bytes of plaintext.
    pub(super) plain_bytes: u64,
}

impl Layout {
    /// The layout of a stored payload of `payload_bytes`; `None` if no payload has that length.
    pub(super) fn of(payload_bytes: u64) -> Option<Self> {
        let last_block = payload_bytes.div_ceil(SEALED_BLOCK_BYTES as u64).checked_sub(1)?;
        let last_bytes = payload_bytes - last_block * SEALED_BLOCK_BYTES as u64;
        let least = TAG_BYTES as u64 + u64::from(last_block > 0);
        if last_bytes < least {
            return None;
        }
        Some(Self { last_block, plain_bytes: payload_bytes - (last_block + 1) * TAG_BYTES as u64 })
    }
}

/// Stored bytes of a payload that holds `plain_bytes`.
pub(super) fn payload_bytes(plain_bytes: usize) -> usize {
    plain_bytes + plain_bytes.div_ceil(BLOCK_BYTES).max(1) * TAG_BYTES
}
