//! Opening sealed objects: whole, or any range with the blocks around it.
//!
//! To read a range of a large object: fetch its beginning and [`PayloadKey::parse`] it; ask
//! [`PayloadKey::blocks_for`] which stored bytes the range needs; fetch those;
//! [`PayloadKey::open_blocks`] gives the plaintext, in the same buffer. Every byte that comes out was
//! sealed at that very place of that very object. What a range cannot tell is whether the rest of
//! the object is there; [`open`] can.

use super::header;
use super::keys::DataIdentity;
use super::stream::{BLOCK_BYTES, Layout, SEALED_BLOCK_BYTES, StreamKey, TAG_BYTES};
use super::{Error, Result};
use crate::limits;
use std::fmt;

/// Opens the payload of one sealed object.
pub struct PayloadKey {
    key: StreamKey,
    payload_offset: u64,
}

/// The stored bytes that a range of plaintext needs: whole blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRange {
    /// Number of the first block.
    pub first_block: u64,
    /// Where the first block begins, in bytes from the object's beginning.
    pub sealed_offset: u64,
    /// Bytes to read from there.
    pub sealed_len: usize,
    /// Bytes of plaintext in the first block before the range.
    pub skip: usize,
    /// Bytes of plaintext in the range.
    pub plain_len: usize,
    /// True if the object's last block is among them.
    pub includes_last: bool,
}

impl PayloadKey {
    /// The key of the object that begins with `prefix`: its first
    /// [`limits::AGE_HEADER_BYTES_MAX`] bytes, or fewer if its header ends within them.
    ///
    /// # Errors
    /// [`Error::HeaderCut`] if more of the object is needed, [`Error::WrongKey`] if it is sealed to
    /// others, [`Error::Unsupported`] for an unknown version, [`Error::Damaged`] for anything else.
    pub fn parse(prefix: &[u8], identities: &[DataIdentity]) -> Result<Self> {
        let identities: Vec<&dyn age::Identity> = identities.iter().map(|identity| &identity.0 as _).collect();
        Self::unlock(prefix, &identities)
    }

    /// [`PayloadKey::parse`] with identities of any kind.
    pub(super) fn unlock(prefix: &[u8], identities: &[&dyn age::Identity]) -> Result<Self> {
        let prefix = &prefix[..prefix.len().min(limits::AGE_HEADER_BYTES_MAX)];
        let (key, payload_offset) = header::unlock(prefix, identities)?;
        Ok(Self { key, payload_offset: payload_offset as u64 })
    }

    /// Where the first block begins, in bytes from the object's beginning.
    pub fn payload_offset(&self) -> u64 {
        self.payload_offset
    }

    /// Bytes of plaintext in an object of `sealed_len` bytes.
    ///
    /// # Errors
    /// No object of this key has that length.
    pub fn plain_len(&self, sealed_len: u64) -> Result<u64> {
        Ok(self.layout(sealed_len)?.plain_bytes)
    }

    fn layout(&self, sealed_len: u64) -> Result<Layout> {
        let layout = sealed_len.checked_sub(self.payload_offset).and_then(Layout::of);
        layout.ok_or_else(|| Error::damaged(format!("it is cut: no sealed object has {sealed_len} bytes")))
    }

    /// The blocks that hold `plain_len` bytes of plaintext from `plain_offset` on, in an object of
    /// `sealed_len` bytes. There is always at least one, so that an empty object is proven too.
    ///
    /// # Errors
    /// The object has not that many bytes, or no object has `sealed_len`.
    pub fn blocks_for(&self, sealed_len: u64, plain_offset: u64, plain_len: u64) -> Result<SealedRange> {
        let layout = self.layout(sealed_len)?;
        let end = plain_offset.checked_add(plain_len).filter(|&end| end <= layout.plain_bytes);
        let outside = || {
            let holds = layout.plain_bytes;
            Error::damaged(format!("{plain_len} bytes from {plain_offset} on should be in it, and it holds {holds}"))
        };
        let end = end.ok_or_else(outside)?;
        let last = end.saturating_sub(1) / BLOCK_BYTES as u64;
        let first_block = (plain_offset / BLOCK_BYTES as u64).min(last);
        let includes_last = last == layout.last_block;
        let sealed_offset = self.payload_offset + first_block * SEALED_BLOCK_BYTES as u64;
        let sealed_end = match includes_last {
            true => sealed_len,
            false => self.payload_offset + (last + 1) * SEALED_BLOCK_BYTES as u64,
        };
        let small = |bytes: u64| usize::try_from(bytes).map_err(|_| outside());
        Ok(SealedRange {
            first_block,
            sealed_offset,
            sealed_len: small(sealed_end - sealed_offset)?,
            skip: small(plain_offset - first_block * BLOCK_BYTES as u64)?,
            plain_len: small(plain_len)?,
            includes_last,
        })
    }

    /// Opens the blocks of `range`, which `sealed` holds, and gives the plaintext of the range. The
    /// work is done inside `sealed`; on an error nothing in there is to be used.
    ///
    /// # Errors
    /// A block is missing, changed, or not in its place.
    pub fn open_blocks<'a>(&self, range: &SealedRange, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        if sealed.len() != range.sealed_len {
            let (wanted, found) = (range.sealed_len, sealed.len());
            return Err(Error::damaged(format!("{wanted} bytes of it are needed, and {found} are there")));
        }
        let (mut at, mut filled) = (0, 0);
        let mut number = range.first_block;
        while at < sealed.len() {
            let end = sealed.len().min(at + SEALED_BLOCK_BYTES);
            let last = range.includes_last && end == sealed.len();
            self.key.open(number, last, &mut sealed[at..end])?;
            let plain_end = end - TAG_BYTES;
            // The first block is where it belongs; the others close up over the tags before them.
            if at != filled {
                sealed.copy_within(at..plain_end, filled);
            }
            filled += plain_end - at;
            (at, number) = (end, number + 1);
        }
        let asked = range.skip..range.skip.saturating_add(range.plain_len);
        sealed[..filled].get_mut(asked).ok_or_else(|| Error::damaged("it ends before the bytes that should be in it"))
    }

    /// The plaintext of the whole object `sealed`, at most `limit` bytes of it.
    pub(super) fn open_whole(&self, sealed: &[u8], limit: usize) -> Result<Vec<u8>> {
        let sealed_len = sealed.len() as u64;
        let plain_len = self.plain_len(sealed_len)?;
        if plain_len > limit as u64 {
            return Err(Error::TooLarge { bytes: plain_len, limit: limit as u64 });
        }
        let range = self.blocks_for(sealed_len, 0, plain_len)?;
        let mut plain = sealed.get(sealed.len() - range.sealed_len..).unwrap_or_default().to_vec();
        let opened = self.open_blocks(&range, &mut plain)?.len();
        plain.truncate(opened);
        Ok(plain)
    }
}

impl fmt::Debug for PayloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadKey").field("payload_offset", &self.payload_offset).finish_non_exhaustive()
    }
}

/// The plaintext of the whole object `sealed`; the object is proven to be whole.
///
/// # Errors
/// [`Error::TooLarge`] if it holds more than `limit` bytes; otherwise as [`PayloadKey::parse`].
pub fn open(identities: &[DataIdentity], sealed: &[u8], limit: usize) -> Result<Vec<u8>> {
    PayloadKey::parse(sealed, identities).map_err(whole)?.open_whole(sealed, limit)
}

/// The error for an object that is all there is: where more would be needed, it is cut.
pub(super) fn whole(error: Error) -> Error {
    match error {
        Error::HeaderCut { have } => Error::damaged(format!("it is cut: it ends in its header, after {have} bytes")),
        other => other,
    }
}
