//! Opening the repository with what lies at hand, or with what the person answers.

use super::{Env, Result};
use crate::crypto::people::PersonIdentity;
use crate::monitor::Warning;
use crate::repo::config::Config;
use crate::repo::keys::{KeyFile, read_keys, unlock};
use crate::repo::{self, Repository};
use crate::store::{Kind, Store};
use std::sync::Arc;

impl Env {
    /// Opens the repository.
    ///
    /// # Errors
    /// There is none, or nothing at hand opens it.
    pub fn open(&self) -> Result<Repository> {
        let store = self.store()?;
        // Before anything is asked: is there a repository, and one that this version knows? Its config may be
        // lost: whatever has keys is one.
        let config = repo::read_config_bytes(&*store);
        let config = config.and_then(|bytes| Config::decode(&store.address(), &bytes));
        let keys = match config {
            Ok(_) => read_keys(&*store)?,
            Err(error) if repo::is_lost_config(&error) => match read_keys(&*store) {
                Ok(keys) if !keys.is_empty() => keys,
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        self.open_by(store, &keys)
    }

    /// Opens the repository with the key files of a replica, its own being damaged or gone.
    ///
    /// # Errors
    /// Nothing at hand opens them, or they are not of this repository.
    pub fn open_with(&self, keys: &[KeyFile]) -> Result<Repository> {
        let store = self.store()?;
        let other = || repo::Error::OtherRepository { address: store.address() };
        let config = repo::read_config_bytes(&*store).and_then(|bytes| Config::decode(&store.address(), &bytes));
        if config.is_err() && store.list(Kind::Snapshot)?.objects.is_empty() {
            return Err(repo::Error::NoRepository { address: store.address() }.into());
        }
        let repository = self.open_by(Arc::clone(&store), keys)?;
        // Other secrets would make another repository of it.
        let is_own = match config {
            Ok(config) => config.repository == repository.id(),
            Err(_) => !repository.snapshots()?.snapshots.is_empty(),
        };
        if is_own { Ok(repository) } else { Err(other().into()) }
    }

    fn open_by(&self, store: Arc<dyn Store>, keys: &[KeyFile]) -> Result<Repository> {
        let (identities, tried) = self.identity_files(keys)?;
        let (secrets, name) = match unlock(&store.address(), keys, &identities, &tried) {
            Err(error) => {
                let by_passphrase: Vec<_> = keys.iter().filter(|key| key.wants_passphrase()).cloned().collect();
                let asked = if by_passphrase.is_empty() { None } else { self.ask_passphrase(&store.address())? };
                let Some(passphrase) = asked else { return Err(error.into()) };
                let identity = [PersonIdentity::from_passphrase(passphrase)];
                unlock(&store.address(), &by_passphrase, &identity, "the passphrase was tried")?
            }
            found => found?,
        };
        let cache = self.cache_folder(secrets.repository())?;
        let repository = Repository::open(store, secrets, &name, &cache)?;
        if let Some(problem) = repository.config_problem() {
            let message = format!("{problem}; nothing in it is needed, and an owner's `snap init` writes it again");
            self.monitor.warn(&Warning::note("config", message));
        }
        Ok(repository)
    }

    /// Opens the repository in `store` with what lies at hand, and asks nobody for anything.
    ///
    /// # Errors
    /// There is none, or nothing that needs no answer opens it.
    pub fn open_silently(&self, store: &Arc<dyn Store>) -> Result<Repository> {
        let keys = read_keys(&**store)?;
        let default = [self.folders.identity()];
        let files = if self.identities.is_empty() { default.as_slice() } else { &self.identities };
        let loaded = files.iter().filter_map(|file| PersonIdentity::load(file, None).ok());
        let (secrets, name) =
            unlock(&store.address(), &keys, &loaded.flatten().collect::<Vec<_>>(), "nobody was asked")?;
        let cache = self.cache_folder(secrets.repository())?;
        Ok(Repository::open(Arc::clone(store), secrets, &name, &cache)?)
    }

    /// Opens the repository with a catalog elsewhere, because there is no room where it should lie.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_elsewhere(&self) -> Result<Repository> {
        let folder = self.spare.path()?;
        let message = format!("this folder for caches is full: {} is used instead this time", folder.display());
        self.monitor.warn(&Warning::note(self.folders.cache.display().to_string(), message));
        self.open()
    }
}
