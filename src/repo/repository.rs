//! An open repository, and making a new one.

use super::config::Config;
use super::fence::Fence;
use super::keys::{self, NewKey};
use super::{Error, Result};
use crate::catalog::{Catalog, Place};
use crate::chunk::{Cutter, Namer};
use crate::crypto::secrets::{Role, Secrets};
use crate::id::RepositoryId;
use crate::store::{Key, Put, ReadStore, Store};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A repository whose secrets are at hand.
pub struct Repository {
    pub(super) store: Arc<dyn Store>,
    pub(super) secrets: Secrets,
    pub(super) config: Config,
    /// What is wrong with the object `config`, if something is: then [`Self::config`] is what it should say.
    pub(super) config_problem: Option<String>,
    pub(super) catalog: Catalog,
    /// The name of the key that opened it.
    pub(super) key_name: String,
    pub(super) namer: Namer,
    pub(super) cutter: Cutter,
    /// The deletions that were known when the catalog was last synced for writing.
    pub(super) fence: Mutex<Option<Fence>>,
}

impl Repository {
    /// Opens the repository in `store` with `secrets`, which the key `key_name` gave. Its catalog
    /// lies in a folder of its own below `cache`.
    ///
    /// # Errors
    /// The store does not answer, `config` is of a newer version, or the catalog cannot be used. That `config`
    /// is lost or not of these secrets is no error: nothing in it is needed.
    pub fn open(store: Arc<dyn Store>, secrets: Secrets, key_name: &str, cache: &Path) -> Result<Self> {
        let (config, config_problem) = match authentic_config(&*store, &secrets) {
            Ok(config) => (config, None),
            Err(error) if is_lost_config(&error) => {
                let created = keys::oldest(&keys::read_keys(&*store)?, &secrets);
                (Config::new(&secrets, created), Some(problem_of(&error)))
            }
            Err(error) => return Err(error),
        };
        let place = Place { address: store.address(), bytes: store.body() };
        let catalog = Catalog::open(&cache.join(config.repository.to_string()), config.repository, place)?;
        let namer = Namer::new(secrets.chunk_id_key());
        let cutter = Cutter::new(&secrets.gear_seed());
        Ok(Self {
            store,
            secrets,
            config,
            config_problem,
            catalog,
            key_name: key_name.to_owned(),
            namer,
            cutter,
            fence: Mutex::default(),
        })
    }

    /// The store, for reading.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The local cache.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The repository's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is wrong with the object `config`, if something is.
    pub fn config_problem(&self) -> Option<&str> {
        self.config_problem.as_deref()
    }

    /// Writes `config` again where it is lost or altered; false if it is as it should be.
    ///
    /// # Errors
    /// The key at hand is a writer's, or the store refuses.
    pub fn heal_config(&self) -> Result<bool> {
        if self.config_problem.is_none() {
            return Ok(false);
        }
        self.require_owner("write the repository's config again")?;
        let bytes = self.config.encode(&self.secrets)?;
        // Between the two there is none, which is no worse than one that is not genuine.
        self.store.remove(&Key::Config)?;
        self.store.put(&Key::Config, &bytes)?;
        Ok(true)
    }

    /// Its identity.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// The secrets at hand.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The name of the key that opened it.
    pub fn key_name(&self) -> &str {
        &self.key_name
    }

    /// Cuts content.
    pub fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    /// Fails unless the key at hand may open content.
    ///
    /// # Errors
    /// It is a writer's; `operation` completes “but not …”.
    pub fn require_owner(&self, operation: &'static str) -> Result<()> {
        match self.secrets.role() {
            Role::Owner => Ok(()),
            Role::Writer => Err(Error::NotOwner { key: self.key_name.clone(), operation }),
        }
    }
}

fn authentic_config(store: &dyn Store, secrets: &Secrets) -> Result<Config> {
    let bytes = read_config_bytes(store)?;
    let config = Config::decode(&store.address(), &bytes)?;
    Config::authenticate(&bytes, secrets)?;
    if config.repository == secrets.repository() {
        Ok(config)
    } else {
        Err(Error::Forged { object: "config".to_owned() })
    }
}

/// True if `config` is not what it should be: lost, no configuration, or not of the secrets at hand.
pub fn is_lost_config(error: &Error) -> bool {
    matches!(error, Error::NotARepository { .. } | Error::Damaged { .. } | Error::Forged { .. })
}

fn problem_of(error: &Error) -> String {
    match error {
        Error::Damaged { what, .. } => what.clone(),
        Error::Forged { .. } => "it was not written with this repository's secrets: it is forged or damaged".to_owned(),
        _ => "it is damaged: it is no configuration of a repository".to_owned(),
    }
}

/// The bytes of `config`.
///
/// # Errors
/// There is no repository, or it cannot be read.
pub fn read_config_bytes(store: &dyn ReadStore) -> Result<Vec<u8>> {
    match store.get(&Key::Config) {
        Ok(bytes) => Ok(bytes),
        Err(crate::store::Error::NotFound { .. }) => {
            // A folder with something in it that is no repository deserves another word.
            match store.list_keys() {
                Ok(names) if !names.is_empty() => {
                    Err(Error::Damaged { object: "config".to_owned(), what: "it is missing".to_owned() })
                }
                _ => Err(Error::NoRepository { address: store.address() }),
            }
        }
        Err(crate::store::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Error::NotARepository { address: store.address() })
        }
        Err(crate::store::Error::Io { operation, source, .. }) => {
            let object = format!("{}/config", store.address());
            Err(crate::store::Error::Io { operation, object, source }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a repository in `store`, whose layout exists and is empty, and gives its owner's secrets,
/// sealed as its first key, `first`.
///
/// The key comes first and `config` last: a repository that has `config` can be opened.
///
/// # Errors
/// One is there already, the store refuses, or it lets a second object take the place of the first.
pub fn initialise(store: &dyn Store, first: &NewKey<'_>) -> Result<Secrets> {
    match store.size(&Key::Config)? {
        None => {}
        Some(_) => return Err(Error::Exists { address: store.address() }),
    }
    let mut id = [0; 32];
    crate::fs::fill_random(&mut id).map_err(|source| Error::Local {
        operation: "read random bytes from",
        path: "/dev/urandom".into(),
        source,
    })?;
    let secrets = Secrets::generate(RepositoryId(id))
        .map_err(|source| Error::Crypto { object: "cannot make the repository's secrets".to_owned(), source })?;
    remove_unfinished(store)?;
    keys::put_key(store, &secrets, &secrets, first)?;
    let config = Config::new(&secrets, first.created.to_owned()).encode(&secrets)?;
    if store.put(&Key::Config, &config)? == Put::Existed {
        return Err(Error::Exists { address: store.address() });
    }
    // Another `init` may have taken it for what an interrupted one left.
    let key = Key::KeyFile(format!("{}.age", first.name));
    match store.size(&key)? {
        Some(_) => Ok(secrets),
        None => Err(Error::Damaged { object: key.path(), what: "another `snap init` has removed it".to_owned() }),
    }
}

/// Key files without a `config` are what an interrupted `init` left: nothing was ever sealed to
/// them.
fn remove_unfinished(store: &dyn Store) -> Result<()> {
    let empty = crate::store::Kind::ALL
        .iter()
        .try_fold(true, |empty, kind| store.list(*kind).map(|listing| empty && listing.objects.is_empty()))?;
    if !empty {
        return Err(Error::Damaged {
            object: "config".to_owned(),
            what: "it is missing although there are packs or snapshots".to_owned(),
        });
    }
    for file in store.list_keys()? {
        store.remove(&Key::KeyFile(file))?;
    }
    Ok(())
}
