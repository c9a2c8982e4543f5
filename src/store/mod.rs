//! The object space under a repository: named bytes, written once, never changed.
//!
//! A store knows nothing of keys, packs or snapshots. Its promises, which every implementation
//! keeps and which the rest of the program builds on:
//!
//! - `put` makes an object visible whole or not at all, and returns only when it is durable.
//! - `put` of a name that exists leaves the object as it is and says [`Put::Existed`].
//! - objects given to a [`Batch`] are durable when [`Batch::commit`] returns; each becomes visible whole, some
//!   perhaps before.
//! - `list` is complete or an error; it never returns a part.
//! - reads return exactly the bytes asked for, or an error.

mod key;
mod local;
mod location;
mod s3;

pub use key::{Key, Kind};
pub use local::LocalStore;
pub use location::{BUCKET_SCHEME, Bucket, Location};
pub use s3::{PATIENCE, PATIENCE_VARIABLE, S3Store};

use crate::monitor::Monitor;
use std::io;
use std::sync::Arc;

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
    /// A server did not do it.
    #[error("cannot {operation} {object} in {place}: {trouble}{}",
        if said.is_empty() { String::new() } else { format!(" ({said})") })]
    Remote {
        /// The verb: read, write, list, remove.
        operation: &'static str,
        /// The object, or what was to be listed.
        object: String,
        /// The bucket and the prefix in it.
        place: String,
        /// Why.
        trouble: Trouble,
        /// What the server or the network said.
        said: String,
    },
    /// What is stored under a name is not what was put there.
    #[error("{object} is stored there with other bytes, which do not fit its name")]
    Altered {
        /// Its path below the repository's root.
        object: String,
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

impl Error {
    /// True if nothing is known of the object: who must tell damage from an outage asks this.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The bucket does not exist.
    #[error("there is no such bucket")]
    NoBucket,
    /// Whoever asks may not.
    #[error("access is denied")]
    Denied,
    /// Nobody said who asks.
    #[error("there are no credentials")]
    NoCredentials,
    /// The credentials are wrong, or no longer right.
    #[error("the credentials are not accepted")]
    BadCredentials,
    /// The server's time is another.
    #[error("the clock of this machine differs from the server's")]
    Clock,
    /// The bucket is elsewhere.
    #[error("the bucket is in another region, or at another endpoint")]
    Region,
    /// No connection, or no answer.
    #[error("the server cannot be reached or does not answer")]
    Unreachable,
    /// The server says that it cannot now.
    #[error("the server fails again and again")]
    Busy,
    /// The server does not know what is asked of it.
    #[error("the server does not do that")]
    Unable,
    /// What came back is no answer.
    #[error("the answer makes no sense")]
    Answer,
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

    /// What was read of the object was wrong: the next reading must come from where it is stored.
    fn read_anew(&self, key: &Key) {
        let _ = key;
    }

    /// How many reads at once are of use; 0 where it is the processors that count.
    fn reads_at_once(&self) -> usize {
        0
    }

    /// Something right below the root that is no part of a repository, if there is such a thing.
    ///
    /// # Errors
    /// The store does not answer.
    fn stranger(&self) -> Result<Option<String>> {
        Ok(None)
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
    fn batch(&self) -> Box<dyn Batch>;

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

    /// Keeps a second copy of what is there under `key` in the folder `damaged`, where no repository looks, and
    /// says under which path.
    ///
    /// # Errors
    /// Nothing is there, or no copy can be made.
    fn keep_aside(&self, key: &Key) -> Result<String> {
        Err(Error::Address { address: self.address(), reason: format!("no copy of {key} can be kept there") })
    }

    /// Puts `bytes` in the place of what is there, whole: whoever reads sees one or the other. For what does
    /// not fit its name, after [`Store::keep_aside`].
    ///
    /// # Errors
    /// The old object is still there.
    fn overwrite(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.len();
        let reason = format!("{key} cannot be replaced there by {bytes} bytes");
        Err(Error::Address { address: self.address(), reason })
    }

    /// Makes what has to be there before the first object is put.
    ///
    /// # Errors
    /// It cannot be made.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// True if a second object under a name that is taken is refused, as `put` promises. `key` is there and
    /// has `bytes`: nothing changes, whatever the answer is.
    ///
    /// # Errors
    /// The store does not answer.
    fn keeps_first(&self, key: &Key, bytes: &[u8]) -> Result<bool> {
        let (_, _) = (key, bytes);
        Ok(true)
    }
}

/// The store at a place. Whether anything is there is not looked at; `monitor` is told when a server is waited for.
///
/// # Errors
/// What the surroundings say of it makes no sense.
pub fn open(location: &Location, monitor: &Arc<dyn Monitor>) -> Result<Arc<dyn Store>> {
    Ok(match location {
        Location::Folder(path) => Arc::new(LocalStore::at(path)),
        Location::Bucket(bucket) => Arc::new(S3Store::at(bucket, Arc::clone(monitor))?),
    })
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
