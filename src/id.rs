//! The names of things: 32-byte identifiers with one type each, so that a pack can never be
//! asked for where a snapshot is meant.
//!
//! A *chunk id* is a keyed BLAKE3 hash of plaintext and tells nothing without the key. Every other
//! id is the plain BLAKE3 hash of an object's sealed bytes: anybody who holds a copy can verify it.

use std::fmt;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{text}” is not an id: 64 hexadecimal digits are expected")]
pub struct ParseIdError {
    text: String,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal text of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// The 32 bytes that 64 lower-case hexadecimal digits spell; `None` for anything else.
pub fn from_hex32(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (hex_digit(pair[0])?, hex_digit(pair[1])?);
        *byte = (high << 4) | low;
    }
    Some(out)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id whose text is `text` (64 lower-case hexadecimal digits).
            ///
            /// # Errors
            /// The text has another length or other characters.
            pub fn parse(text: &str) -> Result<Self, ParseIdError> {
                match from_hex32(text) {
                    Some(bytes) => Ok(Self(bytes)),
                    None => Err(ParseIdError { text: text.chars().take(80).collect() }),
                }
            }

            /// The first eight digits: what people read and type.
            pub fn short(&self) -> String {
                to_hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&to_hex(&self.0))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// Keyed BLAKE3-256 of a chunk's plaintext.
    ChunkId
);
id_type!(
    /// BLAKE3-256 of a pack's sealed bytes: its name in the store.
    PackId
);
id_type!(
    /// BLAKE3-256 of an index object's sealed bytes: its name in the store.
    IndexId
);
id_type!(
    /// BLAKE3-256 of a manifest's sealed bytes: the snapshot's id and its name in the store.
    SnapshotId
);
id_type!(
    /// BLAKE3-256 of a mark's sealed bytes: its name in the store.
    MarkId
);
id_type!(
    /// BLAKE3-256 of the sealed bytes of a record of a removal: its name in the store.
    RemovalId
);
id_type!(
    /// BLAKE3-256 of a record's sealed bytes: its name in the store.
    LogId
);
id_type!(
    /// The random identity of a repository, made at `init`.
    RepositoryId
);

/// The name of an object: BLAKE3-256 of its sealed bytes.
pub fn object_name(sealed: &[u8]) -> [u8; 32] {
    *blake3::hash(sealed).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_inverse() {
        let id = ChunkId(std::array::from_fn(|i| (i * 7) as u8));
        assert_eq!(ChunkId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.short().len(), 8);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "7f3a", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
            assert!(ChunkId::parse(text).is_err(), "{text:?}");
        }
    }
}
