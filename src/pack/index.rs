//! Index objects: the footers of one run's packs.
//!
//! ```text
//! "SNIX"  u8 version = 1  u32 packs
//! pack:  32 bytes name  u64 sealed bytes  u32 footer length  footer
//! u32 0
//! ```
//!
//! The whole is one zstd frame, sealed to the index recipient.

use super::footer::{Input, put_u32};
use super::{Error, Footer, Result, damaged};
use crate::id::PackId;
use crate::limits::{FOOTER_BYTES_MAX, INDEX_BYTES_MAX};

const MAGIC: &[u8; 4] = b"SNIX";
const VERSION: u8 = 1;

/// One pack of an index object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPack {
    /// Its name.
    pub id: PackId,
    /// Its size in the store, in bytes.
    pub sealed_bytes: u64,
    /// What it holds.
    pub footer: Footer,
}

/// The plaintext of an index object that lists `packs`.
///
/// # Errors
/// zstd fails, which it does only without memory.
pub fn encode_index(packs: &[IndexedPack]) -> Result<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    put_u32(&mut out, packs.len());
    let mut footer = Vec::new();
    for pack in packs {
        footer.clear();
        pack.footer.encode(&mut footer);
        out.extend_from_slice(&pack.id.0);
        out.extend_from_slice(&pack.sealed_bytes.to_le_bytes());
        put_u32(&mut out, footer.len());
        out.extend_from_slice(&footer);
    }
    put_u32(&mut out, 0);
    zstd::bulk::compress(&out, 1).map_err(Error::Compress)
}

/// The packs that the plaintext of an index object lists. `object` names it in errors.
///
/// # Errors
/// Damaged, or of a newer version.
pub fn decode_index(object: &str, bytes: &[u8]) -> Result<Vec<IndexedPack>> {
    let plain_len = match zstd::zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(len)) if len <= INDEX_BYTES_MAX as u64 => len as usize,
        _ => return Err(damaged(object, "it is not a zstd frame of a possible size")),
    };
    let plain = zstd::bulk::decompress(bytes, plain_len).map_err(|e| damaged(object, e.to_string()))?;
    let mut input = Input { object, rest: &plain };
    if input.take(4)? != MAGIC {
        return Err(damaged(object, "it does not begin as an index"));
    }
    match input.u8()? {
        VERSION => {}
        version => return Err(Error::Newer { object: object.to_owned(), version }),
    }
    let count = input.u32()?;
    let mut packs = Vec::with_capacity(input.at_most(count, 44));
    for _ in 0..count {
        let mut id = [0; 32];
        id.copy_from_slice(input.take(32)?);
        let sealed_bytes = input.u64()?;
        let len = input.u32()? as usize;
        if len > FOOTER_BYTES_MAX {
            return Err(damaged(object, "a footer is larger than any can be"));
        }
        let footer = Footer::decode(object, input.take(len)?)?;
        packs.push(IndexedPack { id: PackId(id), sealed_bytes, footer });
    }
    match (input.u32()?, input.rest.is_empty()) {
        (0, true) => Ok(packs),
        (0, false) => Err(damaged(object, "there is something behind its listing")),
        // Kept for something to come; one who ignored it could miss data.
        _ => Err(Error::Newer { object: object.to_owned(), version: VERSION + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_packs_are_inverse() {
        let pack = |n| IndexedPack {
            id: PackId([n; 32]),
            sealed_bytes: 1000 + u64::from(n),
            footer: super::super::footer::tests::sample(),
        };
        let packs = vec![pack(1), pack(2)];
        let bytes = encode_index(&packs).unwrap();
        assert_eq!(decode_index("i", &bytes).unwrap(), packs);
        for len in 0..bytes.len() {
            assert!(decode_index("i", &bytes[..len]).is_err(), "{len}");
        }
    }
}
