//! What a repository knows: made once at `init`, sealed to persons, never stored in the clear.
//!
//! From the *dedup secret* the keys for chunk ids, cut points and MACs are derived. The *index
//! identity* opens what describes snapshots; the *data identities*, one an epoch, open packs. An
//! owner has all of them. A writer has everything but the data identities: it can create, compare,
//! list and replicate, and cannot read one byte of history.
//!
//! The stable form is JSON, so that `age -d keys/NAME.age` shows it:
//!
//! ```json
//! {"repository":"<64 hex>","role":"owner","dedup":"<64 hex>","index_identity":"AGE-SECRET-KEY-1…",
//!  "epochs":[{"epoch":1,"recipient":"age1…","identity":"AGE-SECRET-KEY-1…"}]}
//! ```
//!
//! Epochs are in rising order; a writer's `identity` is `null`.

use super::keys::{DataIdentity, Recipient};
use super::{Error, Result};
use crate::id::{self, RepositoryId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What a holder of secrets can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything but reading what is in files, volumes, images and databases.
    Writer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Writer => "writer",
        })
    }
}

/// One generation of the key that packs are sealed to.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Its number; the newest has the highest.
    pub number: u32,
    /// What packs are sealed to.
    pub recipient: Recipient,
    /// What opens them; a writer has none.
    pub identity: Option<DataIdentity>,
}

/// The secrets of a repository, as far as their holder's role goes. Wiped when they are dropped.
#[derive(Clone)]
pub struct Secrets {
    repository: RepositoryId,
    role: Role,
    dedup: Zeroizing<[u8; 32]>,
    index_identity: DataIdentity,
    /// In rising order, never empty.
    epochs: Vec<Epoch>,
    /// The newest epoch's.
    data_recipient: Recipient,
}

impl Secrets {
    /// New secrets for a new repository, for its owner.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn generate(repository: RepositoryId) -> Result<Self> {
        let mut dedup = Zeroizing::new([0u8; 32]);
        crate::fs::fill_random(dedup.as_mut_slice())
            .map_err(|source| refused("make", "secrets", &source.to_string()))?;
        let identity = DataIdentity::generate();
        let data_recipient = identity.recipient();
        let epoch = Epoch { number: 1, recipient: data_recipient.clone(), identity: Some(identity) };
        let index_identity = DataIdentity::generate();
        Ok(Self { repository, role: Role::Owner, dedup, index_identity, epochs: vec![epoch], data_recipient })
    }

    /// The same secrets for a writer: without the data identities.
    pub fn writer(&self) -> Self {
        let mut writer = self.clone();
        writer.role = Role::Writer;
        for epoch in &mut writer.epochs {
            epoch.identity = None;
        }
        writer
    }

    /// Starts a new epoch and gives its number: new packs are sealed to a new identity.
    ///
    /// # Errors
    /// A writer cannot: it would have to hold the new identity.
    pub fn rotate_data(&mut self) -> Result<u32> {
        let newest = self.epochs.last().map_or(0, |epoch| epoch.number);
        let number = match (self.role, newest.checked_add(1)) {
            (Role::Writer, _) => return Err(refused("rotate", "the data identity", "only an owner can")),
            (Role::Owner, None) => return Err(refused("rotate", "the data identity", "no number is left")),
            (Role::Owner, Some(number)) => number,
        };
        let identity = DataIdentity::generate();
        self.data_recipient = identity.recipient();
        self.epochs.push(Epoch { number, recipient: self.data_recipient.clone(), identity: Some(identity) });
        Ok(number)
    }

    /// The repository that they belong to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// What their holder can do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// All epochs, in rising order.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The key of chunk ids (keyed BLAKE3 of plaintext).
    pub fn chunk_id_key(&self) -> [u8; 32] {
        self.derive("snap 2026-11 chunk id")
    }

    /// The seed of the chunker's gear table: without it, cut points cannot be foretold.
    pub fn gear_seed(&self) -> [u8; 32] {
        self.derive("snap 2026-11 gear table")
    }

    /// The key for [`mac`] over `config` and manifests.
    pub fn mac_key(&self) -> [u8; 32] {
        self.derive("snap 2026-11 manifest mac")
    }

    /// The key under which this machine keeps its caches: never used for what is in the repository.
    pub fn cache_key(&self) -> [u8; 32] {
        self.derive("snap 2026-11 local cache")
    }

    /// The key under which owners prove to each other what writers must not be able to ask for; a writer
    /// has none. It comes from the first epoch's identity, which every owner holds for good.
    pub fn owner_key(&self) -> Option<[u8; 32]> {
        let identity = self.epochs.first()?.identity.as_ref()?;
        Some(blake3::derive_key("snap 2026-11 owner mac", identity.to_text().as_bytes()))
    }

    fn derive(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, self.dedup.as_slice())
    }

    /// What new packs are sealed to.
    pub fn data_recipient(&self) -> &Recipient {
        &self.data_recipient
    }

    /// What opens packs, the newest epoch's first; none for a writer.
    pub fn data_identities(&self) -> Vec<DataIdentity> {
        self.epochs.iter().rev().filter_map(|epoch| epoch.identity.clone()).collect()
    }

    /// What index objects and manifests are sealed to.
    pub fn index_recipient(&self) -> Recipient {
        self.index_identity.recipient()
    }

    /// What opens index objects and manifests.
    pub fn index_identity(&self) -> &DataIdentity {
        &self.index_identity
    }

    /// The stable form: JSON, without a line end.
    ///
    /// # Errors
    /// None is known.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let epochs = self.epochs.iter().map(|epoch| WireEpoch {
            epoch: epoch.number,
            recipient: epoch.recipient.to_string(),
            identity: epoch.identity.as_ref().map(|identity| identity.to_text().to_string()),
        });
        let wire = Wire {
            repository: self.repository,
            role: self.role,
            dedup: id::to_hex(self.dedup.as_slice()),
            index_identity: self.index_identity.to_text().to_string(),
            epochs: epochs.collect(),
        };
        // Room for all of it at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(512 + 256 * wire.epochs.len()));
        match serde_json::to_writer(&mut *bytes, &wire) {
            Ok(()) => Ok(bytes),
            Err(_) => Err(refused("write", "the secrets", "they have no JSON form")),
        }
    }

    /// The secrets whose stable form is `bytes`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for fields of a newer version, [`Error::Damaged`] if anything is
    /// missing or does not fit together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| not_secrets(bytes, &error))?;
        let secret = id::from_hex32(&wire.dedup).ok_or_else(|| damaged("the dedup secret is no 64 digits"))?;
        let dedup = Zeroizing::new(secret);
        let index_identity = read_identity(&wire.index_identity)?;
        let epochs = wire.epochs.iter().map(WireEpoch::read).collect::<Result<Vec<_>>>()?;
        if epochs.windows(2).any(|pair| pair[0].number >= pair[1].number) {
            return Err(damaged("the epochs are not in rising order"));
        }
        let held = epochs.iter().filter(|epoch| epoch.identity.is_some()).count();
        match wire.role {
            Role::Owner if held < epochs.len() => return Err(damaged("an owner's data identity is missing")),
            Role::Writer if held > 0 => return Err(damaged("a writer holds a data identity")),
            _ => {}
        }
        let newest = epochs.last().ok_or_else(|| damaged("there is no epoch"))?;
        let data_recipient = newest.recipient.clone();
        Ok(Self { repository: wire.repository, role: wire.role, dedup, index_identity, epochs, data_recipient })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Secrets");
        shown.field("repository", &self.repository).field("role", &self.role);
        shown.field("epochs", &self.epochs.len()).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[zeroize(skip)]
    repository: RepositoryId,
    #[zeroize(skip)]
    role: Role,
    dedup: String,
    index_identity: String,
    #[zeroize(skip)] // each wipes itself
    epochs: Vec<WireEpoch>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct WireEpoch {
    epoch: u32,
    recipient: String,
    identity: Option<String>,
}

impl WireEpoch {
    fn read(&self) -> Result<Epoch> {
        let recipient = Recipient::parse(&self.recipient).map_err(|_| damaged("a data recipient is none"))?;
        let identity = self.identity.as_deref().map(read_identity).transpose()?;
        if identity.as_ref().is_some_and(|identity| identity.recipient() != recipient) {
            return Err(damaged("a data identity does not belong to its recipient"));
        }
        Ok(Epoch { number: self.epoch, recipient, identity })
    }
}

fn read_identity(text: &str) -> Result<DataIdentity> {
    DataIdentity::parse(text).map_err(|_| damaged("an identity is none"))
}

const FIELDS: [&str; 5] = ["repository", "role", "dedup", "index_identity", "epochs"];

/// Why `bytes` are no secrets. The parser's own words are not passed on: they quote values.
fn not_secrets(bytes: &[u8], error: &serde_json::Error) -> Error {
    let fields: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(bytes).unwrap_or_default();
    if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        let reason = format!("their field “{field}” is not known to this version");
        return Error::Unsupported { object: "the secrets".to_owned(), reason };
    }
    damaged(&format!("they are not in the form expected (line {}, column {})", error.line(), error.column()))
}

fn damaged(reason: &str) -> Error {
    Error::Damaged { object: "the secrets".to_owned(), reason: reason.to_owned() }
}

fn refused(operation: &'static str, object: &str, reason: &str) -> Error {
    Error::Refused { operation, object: object.to_owned(), reason: reason.to_owned() }
}

/// Keyed BLAKE3-256 over `domain` ‖ 0 ‖ `bytes`. The domain, which must not hold a zero byte, keeps
/// a MAC of one kind of thing from being one of another.
pub fn mac(key: &[u8; 32], domain: &str, bytes: &[u8]) -> [u8; 32] {
    *tag(key, domain, bytes).as_bytes()
}

/// True if `expected` is the [`mac`] of the rest; in constant time.
pub fn verify_mac(key: &[u8; 32], domain: &str, bytes: &[u8], expected: &[u8; 32]) -> bool {
    // The comparison of two `Hash`es takes the same time for all values.
    tag(key, domain, bytes) == blake3::Hash::from_bytes(*expected)
}

fn tag(key: &[u8; 32], domain: &str, bytes: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(domain.as_bytes()).update(&[0]).update(bytes).finalize()
}
