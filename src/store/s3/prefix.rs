//! The beginnings of packs, which come with the packs' sizes in one request.
//!
//! Whoever opens a pack asks for its size, its header and then a part of it or its listing. A small pack
//! is whole with the first of these; of a large one the header is. Packs never change, so what was read
//! serves again; a reader that finds it wrong has it forgotten and asks anew.

use crate::store::Key;
use std::collections::HashMap;

/// Bytes of a pack that are read with its size.
pub(super) const PREFIX_BYTES: u64 = 256 << 10;
/// Bytes that are kept of all packs together.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// What is known of the beginnings of packs.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    kept: HashMap<Key, (Vec<u8>, u64)>,
    bytes: usize,
}

impl Prefixes {
    /// Keeps the first `bytes` of a pack of `size` bytes.
    pub fn keep(&mut self, key: &Key, bytes: Vec<u8>, size: u64) {
        self.forget(key);
        if self.bytes + bytes.len() > KEPT_BYTES_MAX {
            self.kept.clear();
            self.bytes = 0;
        }
        self.bytes += bytes.len();
        self.kept.insert(key.clone(), (bytes, size));
    }

    /// The pack's size.
    pub fn size(&self, key: &Key) -> Option<u64> {
        self.kept.get(key).map(|(_, size)| *size)
    }

    /// Fills `buffer` from byte `offset` of the pack on; false if not all of that is known.
    pub fn fill(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> bool {
        let part = self.kept.get(key).and_then(|(bytes, _)| {
            let from = usize::try_from(offset).ok()?;
            bytes.get(from..from.checked_add(buffer.len())?)
        });
        match part {
            Some(part) => {
                buffer.copy_from_slice(part);
                true
            }
            None => false,
        }
    }

    /// Forgets a pack.
    pub fn forget(&mut self, key: &Key) {
        if let Some((bytes, _)) = self.kept.remove(key) {
            self.bytes -= bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    #[test]
    fn what_is_known_serves_and_what_is_kept_is_bounded() {
        let key = |number: u8| Key::Object(Kind::Pack, [number; 32]);
        let mut prefixes = Prefixes::default();
        prefixes.keep(&key(1), vec![7; 100], 1000);
        let mut buffer = [0; 40];
        assert!(prefixes.fill(&key(1), 60, &mut buffer) && buffer == [7; 40]);
        assert!(!prefixes.fill(&key(1), 61, &mut buffer));
        assert!(!prefixes.fill(&key(1), u64::MAX, &mut buffer));
        assert_eq!((prefixes.size(&key(1)), prefixes.size(&key(2))), (Some(1000), None));
        prefixes.keep(&key(1), vec![8; 100], 1000);
        assert_eq!(prefixes.bytes, 100);
        prefixes.forget(&key(1));
        assert_eq!((prefixes.bytes, prefixes.size(&key(1))), (0, None));
        for number in 0..100 {
            prefixes.keep(&key(number), vec![0; 1 << 20], 1 << 20);
            assert!(prefixes.bytes <= KEPT_BYTES_MAX);
        }
    }
}
