//! `snap init`: makes a repository and its first key.

use super::env::now_text;
use super::{Env, Error, Result};
use crate::crypto;
use crate::crypto::keyfile::SCRYPT_LOG_N;
use crate::crypto::people::{PersonIdentity, PersonRecipient, generate_identity_file};
use crate::fs::create_dir_durable;
use crate::repo;
use crate::store::{Kind, Store};
use std::path::{Path, PathBuf};

/// How a repository is made.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Seal the key to a passphrase.
    pub passphrase: bool,
    /// Seal the key to these recipients.
    pub recipients: Vec<String>,
    /// The key's name; by default user@host.
    pub key_name: Option<String>,
    /// Nobody else ever writes to it: a store that keeps no first object of a name will do.
    pub single_writer: bool,
}

/// What was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct InitReport {
    /// Where the repository is.
    pub repository: String,
    /// Its identity.
    pub id: String,
    /// The key's name.
    pub key: String,
    /// To whom the key is sealed.
    pub recipients: Vec<String>,
    /// The identity file that opens it, where one is at hand.
    pub identity: Option<PathBuf>,
    /// True if that file was made now.
    pub identity_made: bool,
    /// True if the repository was there, and only its `config` was written again.
    pub healed: bool,
}

/// Makes a repository.
///
/// # Errors
/// One is there already, the folder has other content, or it cannot be written.
pub fn init(env: &Env, options: &InitOptions) -> Result<InitReport> {
    let store = env.store()?;
    refuse_foreign(&*store)?;
    if let Some(report) = heal(env, &*store)? {
        return Ok(report);
    }
    if store.size(&crate::store::Key::Config)?.is_some() {
        return Err(repo::Error::Exists { address: store.address() }.into());
    }
    let mut identity = None;
    let mut identity_made = false;
    let recipients = if options.passphrase {
        let what = format!("new passphrase for the repository at {}", store.address());
        vec![PersonRecipient::Passphrase(env.new_passphrase(&what)?)]
    } else if !options.recipients.is_empty() {
        options.recipients.iter().map(|text| Ok(PersonRecipient::parse(text)?)).collect::<Result<_>>()?
    } else {
        let (recipient, path, made) = default_identity(env)?;
        identity = Some(path);
        identity_made = made;
        vec![recipient]
    };
    let name = match &options.key_name {
        Some(name) => name.clone(),
        None => default_key_name(),
    };
    repo::keys::check_name(&name)?;
    store.prepare()?;
    let _alone = env.location()?.folder().map(alone).transpose()?;
    let first = repo::keys::NewKey {
        name: &name,
        recipients: &recipients,
        log_n: SCRYPT_LOG_N,
        created: &now_text(),
        strict: !options.single_writer,
    };
    let secrets = repo::initialise(&*store, &first)?;
    Ok(InitReport {
        repository: store.address(),
        id: secrets.repository().to_string(),
        key: name,
        recipients: recipients.iter().map(PersonRecipient::describe).collect(),
        identity,
        identity_made,
        healed: false,
    })
}

/// A repository that has something in it and whose `config` is lost or altered gets it again; `None` where
/// that is not so. What an interrupted `init` left has nothing in it.
fn heal(env: &Env, store: &dyn Store) -> Result<Option<InitReport>> {
    let config = repo::read_config_bytes(store);
    let lost = match config.and_then(|bytes| repo::config::Config::decode(&store.address(), &bytes)) {
        Ok(_) => false,
        Err(error) => repo::is_lost_config(&error),
    };
    // Whether one that can be read is genuine is known only with a key.
    let has_objects = Kind::ALL.iter().any(|kind| store.list(*kind).is_ok_and(|found| !found.objects.is_empty()));
    if !has_objects || (!lost && env.identities.is_empty() && !env.folders.identity().exists()) {
        return Ok(None);
    }
    let repository = match env.open() {
        Ok(repository) => repository,
        Err(error) if lost => return Err(error),
        Err(_) => return Ok(None),
    };
    if !repository.heal_config()? {
        return Ok(None);
    }
    let keys = repo::keys::read_keys(store)?;
    let card = keys.iter().find(|key| key.name == repository.key_name()).and_then(repo::keys::KeyFile::card);
    Ok(Some(InitReport {
        repository: store.address(),
        id: repository.id().to_string(),
        key: repository.key_name().to_owned(),
        recipients: card.map(|card| card.recipients).unwrap_or_default(),
        identity: None,
        identity_made: false,
        healed: true,
    }))
}

/// Keeps a second `init` waiting: it would take the first one's key for what an interrupted one left.
fn alone(root: &Path) -> Result<std::fs::File> {
    let folder = std::fs::File::open(root).map_err(|source| Error::Path {
        operation: "open the folder",
        path: root.to_path_buf(),
        source,
    })?;
    // A file system without locks has at least the order of writes.
    let _ = rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive);
    Ok(folder)
}

/// A place with something in it is not taken over; what an interrupted `init` left is.
fn refuse_foreign(store: &dyn Store) -> Result<()> {
    match store.stranger()? {
        None => Ok(()),
        Some(name) => Err(Error::usage(
            format!("{} is not empty: it has {name}", store.address()),
            "give an empty place, or one that does not exist yet",
        )),
    }
}

fn default_identity(env: &Env) -> Result<(PersonRecipient, PathBuf, bool)> {
    let named = env.identities.first().cloned();
    let path = named.clone().unwrap_or_else(|| env.folders.identity());
    if path.exists() {
        return Ok((recipient_of(env, &path)?, path, false));
    }
    if named.is_some() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(Error::Identity(crypto::Error::Io { operation: "read", path, source }));
    }
    let folder = crate::fs::parent_of(&path);
    create_dir_durable(&folder).map_err(|source| Error::Path {
        operation: "make the folder",
        path: folder.clone(),
        source,
    })?;
    match generate_identity_file(&path) {
        Ok(recipient) => Ok((recipient, path, true)),
        // Another process has made it a moment ago.
        Err(crypto::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok((recipient_of(env, &path)?, path, false))
        }
        Err(error) => Err(error.into()),
    }
}

fn recipient_of(env: &Env, path: &Path) -> Result<PersonRecipient> {
    let identities = env.load_identity(path)?;
    identities.iter().find_map(PersonIdentity::recipient).ok_or_else(|| {
        let message = format!("{} holds no identity whose recipient can be told", path.display());
        Error::usage(message, "name the recipient: snap init --recipient R")
    })
}

/// `user@host`, as far as a key's name allows.
fn default_key_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let user = if user.is_empty() { "owner".to_owned() } else { user };
    let fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let clean = |text: &str| text.chars().filter(fine).take(30).collect::<String>();
    let name = format!("{}@{}", clean(&user), clean(&super::env::host_name()));
    name.trim_start_matches(['.', '@']).to_owned()
}
