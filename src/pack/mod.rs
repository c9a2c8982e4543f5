//! Packs: immutable objects of many chunks. docs/FORMAT.md §5 owns the bytes; in short
//!
//! ```text
//! age( segment ‖ segment ‖ … ‖ padding ‖ footer ‖ u32 footer length ‖ "snap" )
//! ```
//!
//! A *segment* is a group of chunks compressed as one zstd frame; the footer says which chunks lie
//! in which segment, in order, so that their places follow from their lengths. The same footers,
//! those of one run together, are an *index object*, sealed to another key: a host that may only
//! write learns from it which chunks exist, and cannot open a pack.

mod footer;
mod index;
mod reader;
mod writer;

pub use footer::{Footer, Origin, PackKind, Segment, SegmentChunk};
pub use index::{IndexedPack, decode_index, encode_index};
pub use reader::{PackReader, Place};
pub use writer::{FinishedPack, PackWriter};

use crate::{crypto, store};

/// What went wrong with a pack or an index object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not what was written.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// The object's path below the repository's root, or what is being decoded.
        object: String,
        /// What does not fit.
        what: String,
    },
    /// Made by a newer snap.
    #[error("{object} has format version {version}, which this snap does not know: use a newer snap")]
    Newer {
        /// The object.
        object: String,
        /// Its version.
        version: u8,
    },
    /// Compression failed.
    #[error("cannot compress a segment")]
    Compress(#[source] std::io::Error),
    /// Sealing or opening failed.
    #[error("cannot open or seal {object}")]
    Crypto {
        /// The object.
        object: String,
        /// Why.
        source: crypto::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A result of this layer.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn damaged(object: impl Into<String>, what: impl Into<String>) -> Error {
    Error::Damaged { object: object.into(), what: what.into() }
}
