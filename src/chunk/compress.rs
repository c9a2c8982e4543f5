//! Compressing one segment as one zstd frame (RFC 8878).
//!
//! The frame holds its content size and no checksum: the seal around it and the chunk ids inside
//! say more than a checksum could. Content that does not shrink is stored as it is.

use std::io;

/// How a segment's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// The codec that `byte` stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// A reusable zstd compressor; its tables are made once for each worker.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Compressor {
    /// A compressor of the given zstd level (1 is fast, 3 the default, 19 small).
    ///
    /// # Errors
    /// The level does not exist.
    pub fn new(level: i32) -> io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(level)?;
        zstd.include_checksum(false)?;
        zstd.include_contentsize(true)?;
        Ok(Self { zstd })
    }

    /// Appends the stored form of `plain` to `out` and says which it is.
    ///
    /// # Errors
    /// zstd fails, which it does only without memory.
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<Codec> {
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
        let len = self.zstd.compress_to_buffer(plain, &mut out[start..])?;
        // One part in 64 saved is the least that pays for decoding it again.
        if len + plain.len() / 64 < plain.len() {
            out.truncate(start + len);
            return Ok(Codec::Zstd);
        }
        out.truncate(start);
        out.extend_from_slice(plain);
        Ok(Codec::Raw)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

/// The `plain_len` bytes that `stored` holds. The frame is not trusted: it must give exactly that
/// many bytes, and no more memory than that is reserved.
///
/// # Errors
/// The frame is damaged or has another length.
pub fn decompress(codec: Codec, stored: &[u8], plain_len: usize) -> io::Result<Vec<u8>> {
    let wrong = |found: usize| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{found} bytes where {plain_len} are expected"))
    };
    match codec {
        Codec::Raw if stored.len() == plain_len => Ok(stored.to_vec()),
        Codec::Raw => Err(wrong(stored.len())),
        Codec::Zstd => {
            let plain = zstd::bulk::decompress(stored, plain_len)?;
            if plain.len() == plain_len { Ok(plain) } else { Err(wrong(plain.len())) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_codecs_give_back_what_they_got() {
        let mut noise = vec![0u8; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let text = b"the same line again and again\n".repeat(3000);
        let mut compressor = Compressor::new(3).unwrap();
        for (plain, codec) in [(&noise, Codec::Raw), (&text, Codec::Zstd)] {
            let mut stored = b"before".to_vec();
            assert_eq!(compressor.compress(plain, &mut stored).unwrap(), codec);
            assert_eq!(&decompress(codec, &stored[6..], plain.len()).unwrap(), plain);
        }
    }

    /// Whatever the level, and whatever version of the library is built in.
    #[test]
    fn every_level_gives_back_what_it_got() {
        let mut noise = vec![0u8; 200_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let text = b"the same line, nearly, again and again\n".repeat(5000);
        let mixed: Vec<u8> = noise.chunks(1000).flat_map(|part| [part, &text[..700]].concat()).collect();
        let sparse: Vec<u8> = noise.iter().map(|byte| if byte % 16 == 0 { *byte } else { 0 }).collect();
        for level in 1..=22 {
            let mut compressor = Compressor::new(level).unwrap();
            for plain in [&[][..], &[7], &noise, &text, &mixed, &sparse, &vec![0; 1 << 20]] {
                let mut stored = Vec::new();
                let codec = compressor.compress(plain, &mut stored).unwrap();
                assert_eq!(decompress(codec, &stored, plain.len()).unwrap(), plain, "level {level}");
            }
        }
    }

    #[test]
    fn a_frame_of_another_length_is_refused() {
        let mut stored = Vec::new();
        Compressor::new(3).unwrap().compress(&[0; 5000], &mut stored).unwrap();
        assert!(decompress(Codec::Zstd, &stored, 4999).is_err());
        assert!(decompress(Codec::Zstd, &stored, 5001).is_err());
        assert!(decompress(Codec::Raw, &stored, 5000).is_err());
        assert!(decompress(Codec::Zstd, b"not a frame", 5000).is_err());
    }
}
