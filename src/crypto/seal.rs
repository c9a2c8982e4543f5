//! Making sealed objects, whole or piece by piece.
//!
//! A block can be sealed only when it is known whether it is the last one, so [`Sealer`] keeps back
//! the newest block, also a full one, until more comes or the end. All other blocks are sealed where
//! they are put, in the caller's buffer.

use super::Result;
use super::header;
use super::keys::Recipient;
use super::stream::{self, BLOCK_BYTES, StreamKey, TAG_BYTES};

/// Writes one age file piece by piece.
pub struct Sealer {
    blocks: BlockSealer,
    /// Plaintext of the block that is not sealed yet; full, it waits for the next byte or the end.
    kept: Vec<u8>,
}

impl Sealer {
    /// Starts a file that each of `recipients` can open. The second value is how the file begins:
    /// its header and nonce.
    ///
    /// # Errors
    /// There is no recipient.
    pub fn new(recipients: &[Recipient]) -> Result<(Self, Vec<u8>)> {
        let (key, begin) = start(recipients)?;
        let blocks = BlockSealer { key, next: 0 };
        Ok((Self { blocks, kept: Vec::new() }, begin))
    }

    /// Takes `plain` and appends the blocks that are complete by now to `out`.
    ///
    /// # Errors
    /// The cipher refuses; what has been made must be thrown away.
    pub fn update(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if plain.is_empty() {
            return Ok(());
        }
        out.reserve(stream::payload_bytes(self.kept.len() + plain.len()));
        if !self.kept.is_empty() {
            let (fills, rest) = plain.split_at(plain.len().min(BLOCK_BYTES - self.kept.len()));
            self.kept.extend_from_slice(fills);
            plain = rest;
            if plain.is_empty() {
                return Ok(());
            }
            self.blocks.append(&self.kept, false, out)?;
            self.kept.clear();
        }
        while plain.len() > BLOCK_BYTES {
            let (block, rest) = plain.split_at(BLOCK_BYTES);
            self.blocks.append(block, false, out)?;
            plain = rest;
        }
        self.kept.reserve_exact(BLOCK_BYTES);
        self.kept.extend_from_slice(plain);
        Ok(())
    }

    /// Appends the last block to `out`: only now the file is one.
    ///
    /// # Errors
    /// The cipher refuses; what has been made must be thrown away.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        self.blocks.append(&self.kept, true, out)
    }
}

/// An age file that holds `plain` and that each of `recipients` can open.
///
/// # Errors
/// There is no recipient.
pub fn seal(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>> {
    let (key, begin) = start(recipients)?;
    seal_whole(key, begin, plain)
}

/// The file that begins with `begin`, its header and nonce, and holds `plain`.
pub(super) fn seal_whole(key: StreamKey, begin: Vec<u8>, plain: &[u8]) -> Result<Vec<u8>> {
    let mut out = begin;
    out.reserve_exact(stream::payload_bytes(plain.len()));
    let mut blocks = BlockSealer { key, next: 0 };
    let mut rest = plain;
    while rest.len() > BLOCK_BYTES {
        let (block, after) = rest.split_at(BLOCK_BYTES);
        blocks.append(block, false, &mut out)?;
        rest = after;
    }
    blocks.append(rest, true, &mut out)?;
    Ok(out)
}

fn start(recipients: &[Recipient]) -> Result<(StreamKey, Vec<u8>)> {
    let recipients: Vec<&dyn age::Recipient> = recipients.iter().map(|recipient| &recipient.0 as _).collect();
    let (begin, key) = header::start(&recipients)?;
    Ok((key, begin))
}

struct BlockSealer {
    key: StreamKey,
    /// Number of the next block.
    next: u64,
}

impl BlockSealer {
    /// Appends `block`, sealed, to `out`.
    fn append(&mut self, block: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
        let at = out.len();
        out.reserve(block.len() + TAG_BYTES);
        out.extend_from_slice(block);
        let tag = self.key.seal(self.next, last, &mut out[at..])?;
        out.extend_from_slice(tag.as_ref());
        self.next += 1;
        Ok(())
    }
}
