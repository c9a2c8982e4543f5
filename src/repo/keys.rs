//! The repository's key files: who can open it, and as what. docs/FORMAT.md §4.
//!
//! `keys/<name>.age` seals the secrets to one person. Beside it `keys/<name>.json` says in plain,
//! with a MAC, which role that is and to whom it is sealed, so that keys can be listed without
//! opening them. The sealed file is put last and removed first: it alone is the key.

use super::signed::{sign, verify};
use super::{Error, OpenedBy, Repository, Result};
use crate::crypto;
use crate::crypto::keyfile::{open_secrets, seal_secrets, wants_passphrase};
use crate::crypto::people::{PersonIdentity, PersonRecipient};
use crate::crypto::secrets::{Role, Secrets};
use crate::id::to_hex;
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use crate::store::{Key, Put, ReadStore, Store};
use serde::{Deserialize, Serialize};

const DOMAIN: &str = "key";

/// What is wrong with an object that is not there.
pub(super) const MISSING: &str = "it is missing";
/// What is wrong with a file of a key whose bytes are others.
pub(super) const ALTERED: &str = "it is not the file that was put there";

/// What the file beside a key says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCard {
    /// Its name.
    pub name: String,
    /// What it can do.
    pub role: Role,
    /// To whom it is sealed, for people.
    pub recipients: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// BLAKE3-256 of the sealed file, in hexadecimal.
    pub sealed: String,
}

/// One key of a repository.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// Its name.
    pub name: String,
    /// Its sealed bytes.
    pub sealed: Vec<u8>,
    /// The card's bytes, if there is one.
    pub card: Option<Vec<u8>>,
}

impl KeyFile {
    /// What its card says; unproven as long as no secrets check it.
    pub fn card(&self) -> Option<KeyCard> {
        serde_json::from_slice(self.card.as_deref()?).ok()
    }

    /// True if the card was written with `secrets`.
    pub fn card_is_genuine(&self, secrets: &Secrets) -> bool {
        self.card.as_deref().is_some_and(|bytes| verify(bytes, &secrets.mac_key(), DOMAIN))
    }

    /// True if `card` speaks of this file, and of no other that has its name.
    pub fn is_meant_by(&self, card: &KeyCard) -> bool {
        card.name == self.name && card.sealed == to_hex(blake3::hash(&self.sealed).as_bytes())
    }

    /// Which of its two files is not as it was put there, by its path, and what is wrong with it; `None` if both are.
    pub fn fault(&self, secrets: &Secrets) -> Option<(Key, &'static str)> {
        let card = card_key(&self.name);
        let Some(says) = self.card() else {
            let what = if self.card.is_none() { MISSING } else { "it is damaged: it is no card of a key" };
            return Some((card, what));
        };
        if !self.card_is_genuine(secrets) {
            return Some((card, "it was not written with this repository's secrets: it is forged or damaged"));
        }
        if says.name != self.name {
            return Some((card, "it is the card of another key"));
        }
        (!self.is_meant_by(&says)).then(|| (sealed_key(&self.name), ALTERED))
    }

    /// Its files: the card, if there is one, and the sealed secrets.
    pub(super) fn files(&self) -> impl Iterator<Item = (Key, &[u8])> {
        let card = self.card.as_deref().map(|bytes| (card_key(&self.name), bytes));
        card.into_iter().chain([(sealed_key(&self.name), self.sealed.as_slice())])
    }

    /// True if a passphrase opens it.
    pub fn wants_passphrase(&self) -> bool {
        wants_passphrase(&self.sealed)
    }
}

fn sealed_key(name: &str) -> Key {
    Key::KeyFile(format!("{name}.age"))
}

fn card_key(name: &str) -> Key {
    Key::KeyFile(format!("{name}.json"))
}

/// A name that a key may have: 1–64 letters, digits, `.`, `-`, `_`, `@`, not starting with a dot.
///
/// # Errors
/// It is another.
pub fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fine) {
        let problem = "is not a name: use up to 64 letters, digits and . - _ @".to_owned();
        return Err(Error::Key { name: name.escape_default().to_string(), problem });
    }
    Ok(())
}

/// All keys, by name.
///
/// # Errors
/// The store does not answer.
pub fn read_keys(store: &dyn ReadStore) -> Result<Vec<KeyFile>> {
    let files = store.list_keys()?;
    let mut out = Vec::new();
    for file in &files {
        let Some(name) = file.strip_suffix(".age") else { continue };
        if store.size(&sealed_key(name))?.is_none_or(|bytes| bytes > SMALL_OBJECT_BYTES_MAX as u64) {
            continue;
        }
        let sealed = store.get(&sealed_key(name))?;
        let card_file = format!("{name}.json");
        let card = if files.contains(&card_file) { Some(store.get(&card_key(name))?) } else { None };
        out.push(KeyFile { name: name.to_owned(), sealed, card });
    }
    Ok(out)
}

/// When the oldest of `keys` was made whose card is genuine, RFC 3339; empty if none is.
pub(super) fn oldest(keys: &[KeyFile], secrets: &Secrets) -> String {
    let genuine = keys.iter().filter(|key| key.card_is_genuine(secrets));
    genuine.filter_map(|key| Some(key.card()?.created)).min().unwrap_or_default()
}

/// The secrets that one of `identities` gets out of one of `keys`, and that key's name. The key
/// with the most rights wins.
///
/// # Errors
/// None fits (`WrongKey`), or the one that fits is damaged.
pub fn unlock(
    address: &str,
    keys: &[KeyFile],
    identities: &[PersonIdentity],
    tried: &str,
) -> Result<(Secrets, String)> {
    if keys.is_empty() {
        let what = "there is no key file, and nothing else opens the repository".to_owned();
        return Err(Error::Damaged { object: "keys".to_owned(), what });
    }
    let mut writer = None;
    let mut failure = None;
    for key in keys {
        match open_secrets(&key.sealed, identities) {
            Ok(secrets) if secrets.role() == Role::Owner => return Ok((secrets, key.name.clone())),
            Ok(secrets) => writer = Some((secrets, key.name.clone())),
            Err(crypto::Error::WrongKey { .. }) => {}
            Err(crypto::Error::Damaged { reason, .. }) => {
                failure = Some(Error::Damaged { object: sealed_key(&key.name).path(), what: reason });
            }
            Err(source) => {
                let object = format!("cannot open the key “{}”", key.name);
                failure = Some(Error::Crypto { object, source });
            }
        }
    }
    if failure.is_none() {
        // One that was altered may be the one that the identity opened.
        let altered = keys.iter().find(|key| key.card().is_some_and(|card| !key.is_meant_by(&card)));
        failure = altered.map(|key| Error::Damaged { object: sealed_key(&key.name).path(), what: ALTERED.to_owned() });
    }
    match (writer, failure) {
        (Some(found), _) => Ok(found),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::WrongKey {
            address: address.to_owned(),
            tried: tried.to_owned(),
            keys: keys.iter().map(|key| format!("“{}”", key.name)).collect(),
            by: opened_by(keys),
        }),
    }
}

fn opened_by(keys: &[KeyFile]) -> OpenedBy {
    let by_passphrase = keys.iter().filter(|key| key.wants_passphrase()).count();
    match by_passphrase {
        0 => OpenedBy::Identity,
        all if all == keys.len() => OpenedBy::Passphrase,
        _ => OpenedBy::Either,
    }
}

/// What a new key is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// Its name.
    pub name: &'a str,
    /// To whom it is sealed.
    pub recipients: &'a [PersonRecipient],
    /// The work factor of passphrases.
    pub log_n: u8,
    /// The present, RFC 3339.
    pub created: &'a str,
    /// Before there is a key, the store must show that it keeps what came first under a name.
    pub strict: bool,
}

/// Seals `secrets` as a new key, with a card under the MAC key of `signer`.
///
/// # Errors
/// The name is taken or no name; the store refuses, or lets a second object take the place of the first.
pub fn put_key(store: &dyn Store, signer: &Secrets, secrets: &Secrets, new: &NewKey<'_>) -> Result<()> {
    let NewKey { name, recipients, log_n, created, strict } = *new;
    check_name(name)?;
    let taken = || Error::Key { name: name.to_owned(), problem: "exists already".to_owned() };
    if store.size(&sealed_key(name))?.is_some() {
        return Err(taken());
    }
    let sealed = seal_secrets(secrets, recipients, log_n)
        .map_err(|source| Error::Crypto { object: format!("cannot seal the key “{name}”"), source })?;
    let card = KeyCard {
        name: name.to_owned(),
        role: secrets.role(),
        recipients: recipients.iter().map(PersonRecipient::describe).collect(),
        created: created.to_owned(),
        sealed: to_hex(blake3::hash(&sealed).as_bytes()),
    };
    let card = sign(&card, &signer.mac_key(), DOMAIN)
        .map_err(|source| Error::Json { object: format!("the card of key “{name}”"), source })?;
    // A card without its key is what an interrupted run left; it says nothing of ours.
    if store.size(&card_key(name))?.is_some() {
        store.remove(&card_key(name))?;
    }
    store.put(&card_key(name), &card)?;
    if strict && !store.keeps_first(&card_key(name), &card)? {
        return Err(Error::Overwrites { address: store.address() });
    }
    match store.put(&sealed_key(name), &sealed)? {
        Put::Created => Ok(()),
        Put::Existed => Err(taken()),
    }
}

impl Repository {
    /// Adds a person.
    ///
    /// # Errors
    /// The key at hand is a writer's; the name is taken; the store refuses.
    pub fn add_key(
        &self,
        name: &str,
        role: Role,
        recipients: &[PersonRecipient],
        log_n: u8,
        created: &str,
    ) -> Result<()> {
        self.require_owner("add keys")?;
        let writer;
        let secrets = match role {
            Role::Owner => &self.secrets,
            Role::Writer => {
                writer = self.secrets.writer();
                &writer
            }
        };
        let new = NewKey { name, recipients, log_n, created, strict: false };
        put_key(&*self.store, &self.secrets, secrets, &new)
    }

    /// Removes a person's key. Who has used it may have kept the secrets: that takes a new epoch.
    ///
    /// # Errors
    /// There is none of that name, or it is the key in use: whoever removes a key keeps one that is
    /// known to open everything.
    pub fn remove_key(&self, name: &str) -> Result<()> {
        self.require_owner("remove keys")?;
        let keys = read_keys(&*self.store)?;
        let fault = |problem: &str| Error::Key { name: name.to_owned(), problem: problem.to_owned() };
        if !keys.iter().any(|key| key.name == name) {
            return Err(fault("does not exist"));
        }
        // A writer could sign an owner's card; the key in use has proven that it is one.
        if name == self.key_name {
            let another = keys.iter().any(|key| {
                let card = key.card().filter(|_| key.card_is_genuine(&self.secrets));
                key.name != name && card.is_some_and(|card| card.role == Role::Owner)
            });
            return Err(fault(match another {
                true => "is the key in use: open the repository with another owner's key to remove it",
                false => "is the last owner's key: without it nothing could be restored",
            }));
        }
        self.store.remove(&sealed_key(name))?;
        self.store.remove(&card_key(name))?;
        Ok(())
    }
}
