//! `config`: what anybody may know of a repository. docs/FORMAT.md §3.
//!
//! It is plain, so that a key is not needed to see what a folder is; and nothing in it is believed
//! that matters: recipients come from the sealed key file, and the MAC is checked as soon as the
//! secrets are at hand. So it can be lost: whoever has a key knows all that it says.

use super::signed::{sign, verify};
use super::{Error, Result};
use crate::crypto::secrets::Secrets;
use crate::id::RepositoryId;
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// What `format` says in a repository of this kind.
pub const FORMAT: &str = "snap repository";
/// The version that this snap reads and writes.
pub const VERSION: u32 = 1;

const DOMAIN: &str = "config";

/// The content of `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Always [`FORMAT`].
    pub format: String,
    /// The format's version.
    pub version: u32,
    /// Features without whose knowledge the repository must not be read. None exist yet.
    pub requires: Vec<String>,
    /// The repository's identity.
    pub repository: RepositoryId,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The chunk lengths of its making, in bytes, for information.
    pub chunks: ChunkLengths,
    /// To whom packs are sealed, for information.
    pub data_recipients: Vec<String>,
    /// To whom index objects and manifests are sealed, for information.
    pub index_recipient: String,
}

/// Chunk lengths in bytes: least, average, longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkLengths {
    /// For files.
    pub files: [u32; 3],
    /// For dumps and image layers.
    pub fine: [u32; 3],
    /// For database files written in pages.
    pub pages: u32,
}

impl Config {
    /// The configuration of a new repository.
    pub fn new(secrets: &Secrets, created: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            requires: Vec::new(),
            repository: secrets.repository(),
            created,
            chunks: ChunkLengths {
                files: [128 << 10, 256 << 10, 1 << 20],
                fine: [32 << 10, 64 << 10, 256 << 10],
                pages: 64 << 10,
            },
            data_recipients: vec![secrets.data_recipient().to_string()],
            index_recipient: secrets.index_recipient().to_string(),
        }
    }

    /// Its bytes, with their MAC.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn encode(&self, secrets: &Secrets) -> Result<Vec<u8>> {
        sign(self, &secrets.mac_key(), DOMAIN).map_err(|source| Error::Json { object: "config".to_owned(), source })
    }

    /// Reads `config` without a key.
    ///
    /// # Errors
    /// It is no configuration of a snap repository, or of one that this snap does not know.
    pub fn decode(address: &str, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
            #[serde(default)]
            requires: Vec<String>,
        }
        let foreign = || Error::NotARepository { address: address.to_owned() };
        if bytes.len() > SMALL_OBJECT_BYTES_MAX {
            return Err(foreign());
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|_| foreign())?;
        if head.format != FORMAT {
            return Err(foreign());
        }
        if head.version > VERSION || !head.requires.is_empty() {
            return Err(Error::NewerRepository {
                address: address.to_owned(),
                version: head.version,
                features: head.requires,
            });
        }
        serde_json::from_slice(bytes).map_err(|_| foreign())
    }

    /// Checks the MAC over `bytes`, the object's own.
    ///
    /// # Errors
    /// `config` was changed by somebody who does not hold the secrets.
    pub fn authenticate(bytes: &[u8], secrets: &Secrets) -> Result<()> {
        if verify(bytes, &secrets.mac_key(), DOMAIN) {
            Ok(())
        } else {
            Err(Error::Forged { object: "config".to_owned() })
        }
    }
}
