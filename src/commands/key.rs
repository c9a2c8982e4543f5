//! `snap key`: who can open the repository.

use super::env::now_text;
use super::{Env, Error, Result};
use crate::crypto::keyfile::SCRYPT_LOG_N;
use crate::crypto::people::PersonRecipient;
use crate::crypto::secrets::Role;
use crate::fs::{PRIVATE_FILE, write_new};
use crate::repo::Repository;
use crate::repo::keys::{KeyFile, read_keys};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One key in a list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedKey {
    /// Its name.
    pub name: String,
    /// What it can do; unknown where its card cannot be trusted.
    pub role: Option<Role>,
    /// To whom it is sealed.
    pub recipients: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// True for the key that opened the repository now.
    pub current: bool,
}

/// What `key list` says.
#[derive(Debug, Clone, Serialize)]
pub struct KeyReport {
    /// The keys, by name.
    pub keys: Vec<ListedKey>,
}

/// Who is added.
#[derive(Debug, Clone)]
pub struct AddOptions {
    /// The key's name.
    pub name: String,
    /// A writer can create, list and check structure, but not read history.
    pub writer: bool,
    /// To whom it is sealed.
    pub recipients: Vec<String>,
    /// Seal it to a passphrase.
    pub passphrase: bool,
}

/// Lists the keys.
///
/// # Errors
/// The store does not answer.
pub fn list(_: &Env, repository: &Repository) -> Result<KeyReport> {
    let keys = read_keys(repository.store())?;
    let listed = |key: &KeyFile| {
        let card = key.card().filter(|card| key.card_is_genuine(repository.secrets()) && key.is_meant_by(card));
        ListedKey {
            name: key.name.clone(),
            role: card.as_ref().map(|card| card.role),
            recipients: card.as_ref().map(|card| card.recipients.clone()).unwrap_or_default(),
            created: card.map(|card| card.created),
            current: key.name == repository.key_name(),
        }
    };
    Ok(KeyReport { keys: keys.iter().map(listed).collect() })
}

/// Adds a key.
///
/// # Errors
/// The key at hand is a writer's; the name is taken; a recipient is none.
pub fn add(env: &Env, repository: &Repository, options: &AddOptions) -> Result<KeyReport> {
    repository.require_owner("add keys")?;
    crate::repo::keys::check_name(&options.name)?;
    let recipients = match (options.passphrase, options.recipients.is_empty()) {
        (true, true) => {
            let what = format!("new passphrase for the key “{}”", options.name);
            vec![PersonRecipient::Passphrase(env.new_passphrase(&what)?)]
        }
        (false, false) => {
            options.recipients.iter().map(|text| Ok(PersonRecipient::parse(text)?)).collect::<Result<_>>()?
        }
        (true, false) => {
            return Err(Error::usage("a passphrase must stand alone", "add the recipients as a key of their own"));
        }
        (false, true) => {
            return Err(Error::usage("whose key?", "give --recipient R (age1…, ssh-ed25519 …) or --passphrase"));
        }
    };
    let role = if options.writer { Role::Writer } else { Role::Owner };
    // A key and what is said of it are two objects: who adds another of the same name waits, and is refused.
    let alone = repository.catalog().alone();
    repository.add_key(&options.name, role, &recipients, SCRYPT_LOG_N, &now_text())?;
    drop(alone);
    list(env, repository)
}

/// Removes a key.
///
/// # Errors
/// There is none of that name, or it is the last owner's.
pub fn remove(env: &Env, repository: &Repository, name: &str) -> Result<KeyReport> {
    repository.remove_key(name)?;
    list(env, repository)
}

/// What `key export` says.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedKey {
    /// The file that was written.
    pub file: PathBuf,
}

/// Writes the repository's own identities as an age identity file, mode 0600: with it, `age` and
/// `zstd` alone open everything, without snap and without any key file.
///
/// # Errors
/// The key at hand is a writer's, or the file exists.
pub fn export(_: &Env, repository: &Repository, file: &Path) -> Result<ExportedKey> {
    repository.require_owner("export the repository's identities")?;
    let secrets = repository.secrets();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# snap repository {}", repository.id());
    let _ = writeln!(text, "# whoever has this file can read every snapshot: keep it apart from the repository");
    let _ = writeln!(text, "# index objects and manifests");
    let _ = writeln!(text, "{}", secrets.index_identity().to_text().as_str());
    for epoch in secrets.epochs() {
        if let Some(identity) = &epoch.identity {
            let _ = writeln!(text, "# packs of epoch {}", epoch.number);
            let _ = writeln!(text, "{}", identity.to_text().as_str());
        }
    }
    let written = write_new(file, text.as_bytes(), PRIVATE_FILE);
    zeroize::Zeroize::zeroize(&mut text);
    written.map_err(|source| Error::Path { operation: "write", path: file.to_path_buf(), source })?;
    Ok(ExportedKey { file: file.to_path_buf() })
}
