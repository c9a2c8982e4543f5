//! Reading from a pack: its footer, or one segment, without reading the rest.

use super::writer::END_MAGIC;
use super::{Error, Footer, Result, Segment, damaged};
use crate::chunk::{Codec, decompress};
use crate::crypto::open::PayloadKey;
use crate::crypto::{self, DataIdentity};
use crate::id::PackId;
use crate::limits::{AGE_HEADER_BYTES_MAX, FOOTER_BYTES_MAX, PACK_BYTES_MAX};
use crate::store::{Key, ReadStore};

/// Where a segment lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How it is stored.
    pub codec: Codec,
    /// Offset in the pack's plaintext, in bytes.
    pub offset: u64,
    /// Bytes it takes there.
    pub stored_len: u32,
    /// Bytes it decodes to.
    pub plain_len: u32,
}

impl From<&Segment> for Place {
    fn from(segment: &Segment) -> Self {
        let Segment { codec, offset, stored_len, plain_len, .. } = *segment;
        Self { codec, offset, stored_len, plain_len }
    }
}

/// A pack whose header has been opened.
#[derive(Debug)]
pub struct PackReader {
    key: Key,
    payload: PayloadKey,
    sealed_bytes: u64,
    plain_bytes: u64,
}

/// A header with one recipient takes some 200 bytes; a first read of this size nearly always has it.
const HEADER_GUESS: u64 = 4096;

impl PackReader {
    /// Opens the header of pack `id`.
    ///
    /// # Errors
    /// The pack is missing, damaged, or sealed to none of `identities`.
    pub fn open(store: &dyn ReadStore, id: PackId, identities: &[DataIdentity]) -> Result<Self> {
        let key = Key::from(id);
        let object = key.path();
        let sealed_bytes = store.size(&key)?.ok_or_else(|| crate::store::Error::NotFound { object: object.clone() })?;
        if sealed_bytes > PACK_BYTES_MAX {
            return Err(damaged(object, "it is larger than any pack can be"));
        }
        let mut want = HEADER_GUESS.min(sealed_bytes);
        let mut again = true;
        loop {
            let mut prefix = vec![0; usize::try_from(want).unwrap_or(usize::MAX)];
            store.get_range(&key, 0, &mut prefix)?;
            match PayloadKey::parse(&prefix, identities) {
                Ok(payload) => {
                    let plain_bytes =
                        payload.plain_len(sealed_bytes).map_err(|source| Error::Crypto { object, source })?;
                    return Ok(Self { key, payload, sealed_bytes, plain_bytes });
                }
                Err(crypto::Error::HeaderCut { .. }) if want < sealed_bytes && want < AGE_HEADER_BYTES_MAX as u64 => {
                    want = sealed_bytes.min(AGE_HEADER_BYTES_MAX as u64);
                }
                // A slip on the way here is not damage; what is so twice is.
                Err(crypto::Error::Damaged { .. } | crypto::Error::HeaderCut { .. }) if again => {
                    again = false;
                    store.read_anew(&key);
                }
                Err(source) => return Err(Error::Crypto { object, source }),
            }
        }
    }

    /// Reads the pack's plaintext from `offset` on into `buffer` and gives the `len` bytes of it.
    fn read<'b>(&self, store: &dyn ReadStore, offset: u64, len: usize, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        let failed = |source| Error::Crypto { object: self.key.path(), source };
        let range = self.payload.blocks_for(self.sealed_bytes, offset, len as u64).map_err(failed)?;
        buffer.resize(range.sealed_len, 0);
        store.get_range(&self.key, range.sealed_offset, buffer)?;
        let mut opened = self.payload.open_blocks(&range, buffer).map(|plain| plain.len());
        if opened.is_err() {
            // A slip on the way here is not damage; what is so twice is.
            store.read_anew(&self.key);
            store.get_range(&self.key, range.sealed_offset, buffer)?;
            opened = self.payload.open_blocks(&range, buffer).map(|plain| plain.len());
        }
        let plain_len = opened.map_err(failed)?;
        Ok(buffer.get(range.skip..range.skip + plain_len).unwrap_or_default())
    }

    /// The segment at `place` as it is stored, and its plaintext.
    ///
    /// # Errors
    /// Missing or damaged.
    pub fn stored_and_plain(&self, store: &dyn ReadStore, place: Place) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut buffer = Vec::new();
        let stored = self.read(store, place.offset, place.stored_len as usize, &mut buffer)?.to_vec();
        let plain = decompress(place.codec, &stored, place.plain_len as usize)
            .map_err(|error| damaged(self.key.path(), format!("a segment does not decode: {error}")))?;
        Ok((stored, plain))
    }

    /// The plaintext of the segment at `place`.
    ///
    /// # Errors
    /// Missing or damaged.
    pub fn segment(&self, store: &dyn ReadStore, place: Place) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        let stored = self.read(store, place.offset, place.stored_len as usize, &mut buffer)?;
        decompress(place.codec, stored, place.plain_len as usize)
            .map_err(|error| damaged(self.key.path(), format!("a segment does not decode: {error}")))
    }

    /// The pack's own footer.
    ///
    /// # Errors
    /// Missing, damaged, or of a newer version.
    pub fn footer(&self, store: &dyn ReadStore) -> Result<Footer> {
        let object = self.key.path();
        let Some(tail_at) = self.plain_bytes.checked_sub(8) else {
            return Err(damaged(object, "it is too short to be a pack"));
        };
        let mut buffer = Vec::new();
        let tail = self.read(store, tail_at, 8, &mut buffer)?;
        let (len, magic) = tail.split_at(4);
        if magic != END_MAGIC {
            return Err(damaged(object, "it does not end as a pack"));
        }
        let mut number = [0; 4];
        number.copy_from_slice(len);
        let len = u32::from_le_bytes(number) as usize;
        match tail_at.checked_sub(len as u64) {
            Some(at) if len <= FOOTER_BYTES_MAX => Footer::decode(&object, self.read(store, at, len, &mut buffer)?),
            _ => Err(damaged(object, "its footer is longer than the pack")),
        }
    }
}
