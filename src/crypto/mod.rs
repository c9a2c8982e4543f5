//! Sealing, opening and keys: everything between plaintext and the bytes that a store may see.
//!
//! Every sealed thing is one standard age v1 file (<https://c2sp.org/age>): the program `age` opens
//! what is made here, and what it makes is opened here. The `age` crate writes and checks the
//! headers; the payload, which is nearly all of the bytes, is done by `stream` with aws-lc, at
//! several times the speed of the crate and without copies.
//!
//! - [`keys`]: the repository's own recipients and identities (age X25519).
//! - [`seal`], [`open`]: objects, whole, piece by piece, or any range of one.
//! - [`secrets`]: what a repository knows, and what is derived from it.
//! - [`people`]: what a person holds: identity files, ssh keys, plugins, passphrases.
//! - [`keyfile`]: the secrets, sealed to a person.
//!
//! No store is read or written here; the only files are a person's own.

mod header;
pub mod keyfile;
pub mod keys;
pub mod open;
pub mod people;
pub mod seal;
pub mod secrets;
mod stream;
#[cfg(test)]
mod tests;

pub use keys::{DataIdentity, Recipient};

use std::io;
use std::path::PathBuf;

/// What could not be done, and with what. No text in here holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes at hand end inside the object's header: read more of it and try again.
    #[error("cannot open a sealed object: its header is longer than the {have} bytes at hand")]
    HeaderCut {
        /// Bytes that were at hand.
        have: usize,
    },
    /// The bytes are not what was sealed: changed, cut, moved or never sealed.
    #[error("cannot open {object}: it is damaged: {reason}")]
    Damaged {
        /// What it is.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The plaintext is longer than what the caller takes.
    #[error("cannot open a sealed object: it holds {bytes} bytes, and at most {limit} are expected")]
    TooLarge {
        /// Bytes of plaintext.
        bytes: u64,
        /// Most bytes that the caller takes.
        limit: u64,
    },
    /// Whole, as far as can be told, but of a version or kind that this program does not know.
    #[error("cannot use {object}: {reason}")]
    Unsupported {
        /// What it is.
        object: String,
        /// What is not known about it.
        reason: String,
    },
    /// None of the identities (or the passphrase) opens it.
    #[error("cannot open {object}: none of the identities given fits")]
    WrongKey {
        /// What it is.
        object: String,
    },
    /// The rules forbid it.
    #[error("cannot {operation} {object}: {reason}")]
    Refused {
        /// The verb.
        operation: &'static str,
        /// What it should have been done to.
        object: String,
        /// Why not.
        reason: String,
    },
    /// A text is not what it should be. The text itself is not told: it may be a secret.
    #[error("cannot read {object}: {reason}")]
    Text {
        /// What it should be.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with secrets that others than its owner can get at.
    #[error("cannot use {}: others can get at it (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    WideMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A locked ssh key, and no passphrase for it.
    #[error("cannot use {}: it is locked with a passphrase, and none is given", path.display())]
    NeedsPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The system refused an operation on a person's file.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The verb: read, write.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// This layer's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A sealed object is not what was sealed.
    fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { object: "a sealed object".to_owned(), reason: reason.into() }
    }
}
