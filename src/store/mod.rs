//! The object space under a repository: named bytes, written once, never changed.
//!
//! A store knows nothing of keys, packs or snapshots. Its promises, which every implementation
//! keeps and which the rest of the program builds on:
//!
//! - `put` makes an object visible whole or not at all, and returns only when it is durable.
//! - `put` of a name that exists leaves the object as it is and says [`Put::Existed`].
//! - objects given to a [`Batch`] are neither visible nor durable before [`Batch::commit`] returns.
//! - `list` is complete or an error; it never returns a part.
//! - reads return exactly the bytes asked for, or an error.

mod key;
mod local;

pub use key::{Key, Kind};
pub use local::LocalStore;

use std::io;

/// What the store could not do, and on which object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is not there.
    #[error("{object} is not in the repository")]
    NotFound {
        /// Its path below the repository's root.
        object: String,
    },
    /// The object is shorter than what was asked for.
    #[error("{object} is cut short: {wanted} bytes are expected, {found} are there")]
    Short {
        /// Its path below the repository's root.
        object: String,
        /// Bytes expected.
        wanted: u64,
        /// Bytes there.
        found: u64,
    },
    /// The system refused an operation.
    #[error("cannot {operation} {object}")]
    Io {
        /// The verb: read, write, list, remove.
        operation: &'static str,
        /// The object, or the place.
        object: String,
        /// What the system says.
        source: io::Error,
    },
    /// An address that is no place for a repository.
    #[error("{address}: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A store's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What a `put` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Created,
    /// An object of that name was there and was left alone.
    Existed,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The object's name.
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A listing: the objects of a kind, and the names that are none (left alone, reported by `check`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects, by name.
    pub objects: Vec<Listed>,
    /// Paths below the repository's root that no object of the kind can have.
    pub foreign: Vec<String>,
}

/// Reading from a store: what every command may do.
pub trait ReadStore: Send + Sync {
    /// The whole object.
    ///
    /// # Errors
    /// It is not there, or cannot be read whole.
    fn get(&self, key: &Key) -> Result<Vec<u8>>;

    /// `buffer.len()` bytes from byte `offset` on.
    ///
    /// # Errors
    /// It is not there, is shorter, or cannot be read.
    fn get_range(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The object's size in bytes, or `None` where it is not there.
    ///
    /// # Errors
    /// The store does not answer.
    fn size(&self, key: &Key) -> Result<Option<u64>>;

    /// All objects of a kind.
    ///
    /// # Errors
    /// The listing is not complete.
    fn list(&self, kind: Kind) -> Result<Listing>;

    /// The file names under `keys/`, sorted.
    ///
    /// # Errors
    /// The listing is not complete.
    fn list_keys(&self) -> Result<Vec<String>>;

    /// Where the store is, for messages.
    fn address(&self) -> String;

    /// What tells this store from another one that may be put at the same address: readings of one are
    /// none of the other.
    fn body(&self) -> String {
        self.address()
    }

    /// By how many seconds a listing may lag behind what others have put or removed. What this process
    /// itself has done is always in it.
    fn listing_lag_seconds(&self) -> u64 {
        0
    }
}

/// Writing to a store.
pub trait Store: ReadStore {
    /// Stores `bytes` under `key` if nothing is there; durable on return.
    ///
    /// # Errors
    /// The object is not stored; nothing of it is visible.
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put>;

    /// Starts a set of objects that become durable together.
    fn batch(&self) -> Box<dyn Batch + '_>;

    /// Starts one object whose name is known only when its last byte is.
    ///
    /// # Errors
    /// Nothing can be written.
    fn upload(&self) -> Result<Box<dyn Upload>>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The object is still there.
    fn remove(&self, key: &Key) -> Result<()>;
}

/// An object that is being written; dropped, it is gone.
pub trait Upload: Send {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// The store is full or refuses.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// For the store's own use when it takes the upload back into a batch.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// Objects that become durable and visible together, with a few barriers for all of them.
pub trait Batch: Send {
    /// Adds a written object under its name.
    ///
    /// # Errors
    /// The upload belongs to another store, or the store refuses.
    fn add(&mut self, key: Key, upload: Box<dyn Upload>) -> Result<()>;

    /// Makes all of them durable, then visible. On an error some may be visible, each whole.
    ///
    /// # Errors
    /// Not all are durable.
    fn commit(self: Box<Self>) -> Result<()>;
}
