//! Content-defined cutting with a gear hash (Xia et al., FastCDC, USENIX ATC 2016), plain variant.
//!
//! The hash after byte `b` is `2·h + G[b]` modulo 2⁶⁴, so it depends on the last 64 bytes alone.
//! A chunk ends behind the first byte, at or after the least length, where the hash is below a
//! threshold; that is true once in 2ⁿ positions, and the average length is the least plus 2ⁿ.
//! Nothing before the least length is looked at except the 64 bytes that the hash remembers.
//!
//! FastCDC's normalisation is left out: with the least at half the average it evens out sizes
//! hardly more, and costs a second loop. The table `G` comes from the repository's secret, so that
//! borders are not the same everywhere; what hides chunk sizes from the storage is not the table
//! but the sealing of whole packs.

use crate::limits::CHUNK_BYTES_MAX;

/// Bytes that a gear hash of 64 bits remembers.
const WINDOW: usize = 64;

/// How long chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Cut by content. `border_bits`: a border falls on one position in 2^`border_bits`.
    Content {
        /// Least length in bytes, at least 64.
        min: usize,
        /// Longest in bytes.
        max: usize,
        /// See above.
        border_bits: u32,
    },
    /// Every chunk has this length, in bytes: for files that are written in pages.
    Fixed(usize),
}

impl Profile {
    /// Files: 128 KiB at least, 256 KiB on average, 1 MiB at most.
    pub const FILES: Profile = Profile::Content { min: 128 << 10, max: 1 << 20, border_bits: 17 };
    /// Dumps and image layers: 32, 64, 256 KiB.
    pub const FINE: Profile = Profile::Content { min: 32 << 10, max: 256 << 10, border_bits: 15 };
    /// Database files written in pages: 64 KiB, never scanned.
    pub const PAGES: Profile = Profile::Fixed(64 << 10);

    /// The longest chunk in bytes.
    pub fn max(&self) -> usize {
        match *self {
            Profile::Content { max, .. } => max,
            Profile::Fixed(len) => len,
        }
    }
}

/// Finds the borders of chunks.
#[derive(Clone)]
pub struct Cutter {
    gear: Box<[u64; 256]>,
}

impl Cutter {
    /// A cutter whose table is the first 2048 bytes of the BLAKE3 output stream keyed by `seed`
    /// over the empty input, read as 256 little-endian numbers.
    pub fn new(seed: &[u8; 32]) -> Self {
        let mut bytes = [0u8; 2048];
        blake3::Hasher::new_keyed(seed).finalize_xof().fill(&mut bytes);
        let mut gear = Box::new([0u64; 256]);
        for (value, raw) in gear.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut number = [0u8; 8];
            number.copy_from_slice(raw);
            *value = u64::from_le_bytes(number);
        }
        Self { gear }
    }

    /// Length in bytes of the first chunk of `data`, 0 for none. `data` holds the rest of the
    /// stream or at least `profile.max()` bytes of it; otherwise the border may be a false one.
    pub fn cut(&self, profile: Profile, data: &[u8]) -> usize {
        match profile {
            Profile::Fixed(len) => len.min(data.len()),
            Profile::Content { min, max, border_bits } => {
                debug_assert!(min >= WINDOW && max <= CHUNK_BYTES_MAX);
                if data.len() <= min { data.len() } else { self.scan(&data[..data.len().min(max)], min, border_bits) }
            }
        }
    }

    fn scan(&self, data: &[u8], min: usize, border_bits: u32) -> usize {
        let gear = &*self.gear;
        let threshold = 1u64 << (64 - border_bits);
        let mut hash = 0u64;
        for byte in &data[min - WINDOW..min] {
            hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        }
        if hash < threshold {
            return min;
        }
        for (at, byte) in data[min..].iter().enumerate() {
            hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
            if hash < threshold {
                return min + at + 1;
            }
        }
        data.len()
    }
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cutter(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths(cutter: &Cutter, profile: Profile, mut data: &[u8]) -> Vec<usize> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let len = cutter.cut(profile, data);
            assert!(len > 0);
            out.push(len);
            data = &data[len..];
        }
        out
    }

    #[test]
    fn lengths_keep_their_bounds_and_their_average() {
        let data = noise(64 << 20, 1);
        let cutter = Cutter::new(&[7; 32]);
        let lens = lengths(&cutter, Profile::FILES, &data);
        let (_, whole) = lens.split_last().unwrap();
        assert!(whole.iter().all(|len| (128 << 10..=1 << 20).contains(len)));
        let average = data.len() / lens.len();
        assert!((220 << 10..290 << 10).contains(&average), "{average}");
    }

    #[test]
    fn an_insertion_changes_only_the_chunks_around_it() {
        let data = noise(16 << 20, 2);
        let mut changed = data.clone();
        changed.splice(5_000_000..5_000_000, *b"inserted");
        let cutter = Cutter::new(&[7; 32]);
        let cut_all = |data: &[u8]| {
            let mut at = 0;
            let mut set = std::collections::HashSet::new();
            for len in lengths(&cutter, Profile::FINE, data) {
                set.insert(blake3::hash(&data[at..at + len]));
                at += len;
            }
            set
        };
        let (before, after) = (cut_all(&data), cut_all(&changed));
        assert!(after.difference(&before).count() <= 3);
    }

    #[test]
    fn borders_depend_on_the_secret() {
        let data = noise(8 << 20, 3);
        let one = lengths(&Cutter::new(&[1; 32]), Profile::FINE, &data);
        let two = lengths(&Cutter::new(&[2; 32]), Profile::FINE, &data);
        assert_ne!(one, two);
    }

    #[test]
    fn the_first_borders_are_frozen() {
        // A change here breaks deduplication with every existing repository.
        let lens = lengths(&Cutter::new(&[9; 32]), Profile::FINE, &noise(1 << 20, 4));
        assert_eq!(&lens[..4], &FROZEN, "{lens:?}");
    }

    const FROZEN: [usize; 4] = [52_295, 157_280, 49_956, 45_948];

    #[test]
    fn constant_data_is_cut_at_the_longest() {
        let cutter = Cutter::new(&[7; 32]);
        assert_eq!(cutter.cut(Profile::FILES, &vec![0; 3 << 20]), 1 << 20);
        assert_eq!(cutter.cut(Profile::FILES, b"short"), 5);
        assert_eq!(cutter.cut(Profile::PAGES, &vec![0; 100_000]), 65_536);
        assert_eq!(cutter.cut(Profile::FILES, b""), 0);
    }
}
