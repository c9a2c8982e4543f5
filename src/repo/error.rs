//! What goes wrong in a repository.

use crate::{catalog, crypto, pack, store};

/// What opens the keys of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    /// Identities alone.
    Identity,
    /// Passphrases alone.
    Passphrase,
    /// Some of them identities, some passphrases.
    Either,
}

/// The operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("there is no repository at {address}")]
    NoRepository {
        /// Where it was looked for.
        address: String,
    },
    /// Something else is there.
    #[error("what is at {address} is not a snap repository")]
    NotARepository {
        /// Where.
        address: String,
    },
    /// `init` where one is already.
    #[error("there is a repository at {address} already")]
    Exists {
        /// Where.
        address: String,
    },
    /// A store that lets a second object take the place of a first one.
    #[error(
        "the server of {address} lets a second object take the place of one that is there: two who make keys at \
             the same time would lose one"
    )]
    Overwrites {
        /// Where.
        address: String,
    },
    /// A replica of another repository.
    #[error("the repository at {address} is another one")]
    OtherRepository {
        /// Where.
        address: String,
    },
    /// Made by a newer snap.
    #[error("the repository at {address} has format version {version}{}, which this snap does not know: use a newer snap",
            if features.is_empty() { String::new() } else { format!(" and needs {}", features.join(", ")) })]
    NewerRepository {
        /// Where.
        address: String,
        /// Its version.
        version: u32,
        /// Features it needs.
        features: Vec<String>,
    },
    /// One object was made by a newer snap.
    #[error("{object} was written by a newer snap, and this one cannot read it: use a newer snap")]
    Newer {
        /// The object.
        object: String,
    },
    /// No identity at hand opens any key.
    #[error("none of the identities at hand opens the repository at {address}: {tried}; it has {}",
        if keys.is_empty() { "no key file that can be used".to_owned() } else { format!("the keys {}", keys.join(", ")) })]
    WrongKey {
        /// Where.
        address: String,
        /// What was tried.
        tried: String,
        /// The keys that exist.
        keys: Vec<String>,
        /// What would open them: a passphrase, an identity, or either of them.
        by: OpenedBy,
    },
    /// The role at hand does not suffice.
    #[error("the key “{key}” is a writer's: it can create, list and check structure, but not {operation}")]
    NotOwner {
        /// The key in use.
        key: String,
        /// What was asked for.
        operation: &'static str,
    },
    /// An object's MAC or name does not fit.
    #[error("{object} was not written with this repository's secrets: it is forged or damaged")]
    Forged {
        /// The object.
        object: String,
    },
    /// A deletion that no owner has written.
    #[error("{object} was not written by an owner: it deletes nothing")]
    NotByOwner {
        /// The object.
        object: String,
    },
    /// The last complete snapshot of a stack stays.
    #[error("{id} is the last complete snapshot of {stack} on {host}: it stays")]
    LastComplete {
        /// The snapshot.
        id: String,
        /// Its stack.
        stack: String,
        /// Its host.
        host: String,
    },
    /// A prune deletes what a new snapshot builds on.
    #[error("a prune that runs at the same time deletes what is needed: {packs} packs")]
    Overtaken {
        /// How many packs.
        packs: usize,
    },
    /// Nothing is deleted, because not all is known that would have to be.
    #[error("nothing was deleted: {reason}")]
    NotSafe {
        /// What is not known.
        reason: String,
    },
    /// An object's bytes are not what was written.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// The object.
        object: String,
        /// What does not fit.
        what: String,
    },
    /// Something cannot be written as JSON.
    #[error("cannot encode {object}")]
    Json {
        /// What.
        object: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Compression failed.
    #[error("cannot compress a manifest")]
    Compress {
        /// Why.
        source: std::io::Error,
    },
    /// No snapshot fits a text.
    #[error("no snapshot fits “{text}”{hint}")]
    NoSnapshot {
        /// As it was given.
        text: String,
        /// What there is instead.
        hint: String,
    },
    /// Several snapshots fit a text.
    #[error("“{text}” fits {} snapshots: {}", ids.len(), ids.join(", "))]
    Ambiguous {
        /// As it was given.
        text: String,
        /// Their ids.
        ids: Vec<String>,
    },
    /// A key of that name exists, or does not, or must stay.
    #[error("the key “{name}” {problem}")]
    Key {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A local file failed.
    #[error("cannot {operation} {}", path.display())]
    Local {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The person stopped the work.
    #[error("interrupted")]
    Interrupted,
    /// A part of the program ended without its result.
    #[error("{what} ended before its work was done")]
    Unfinished {
        /// Which part.
        what: &'static str,
    },
    /// Sealing or keys.
    #[error("{object}")]
    Crypto {
        /// The operation and its object.
        object: String,
        /// Why.
        source: crypto::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Packs and index objects.
    #[error(transparent)]
    Pack(#[from] pack::Error),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
}

/// A repository's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// True if the same once more would do: a deletion came in between.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Error::Overtaken { .. })
    }

    /// True if the local catalog should be thrown away and the operation tried once more.
    pub fn is_catalog_damage(&self) -> bool {
        matches!(self, Error::Catalog(error) if error.is_damage())
    }

    /// True if an object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Error::Store(crate::store::Error::NotFound { .. })
                | Error::Pack(pack::Error::Store(crate::store::Error::NotFound { .. }))
        )
    }

    /// True if a newer snap wrote what could not be read: nothing is wrong with it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Error::NewerRepository { .. } | Error::Newer { .. } | Error::Pack(pack::Error::Newer { .. }))
    }

    /// True if the repository's own bytes are at fault.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Error::Forged { .. }
                | Error::NotByOwner { .. }
                | Error::Damaged { .. }
                | Error::Pack(pack::Error::Damaged { .. } | pack::Error::Crypto { .. })
                | Error::Store(
                    store::Error::NotFound { .. } | store::Error::Short { .. } | store::Error::Altered { .. }
                )
                | Error::Pack(pack::Error::Store(store::Error::NotFound { .. } | store::Error::Short { .. }))
        )
    }

    /// True if a server did not do what it was asked, so that nothing is known of what was asked for.
    pub fn is_outage(&self) -> bool {
        match self {
            Error::Store(error) | Error::Pack(pack::Error::Store(error)) => error.is_outage(),
            _ => false,
        }
    }
}
