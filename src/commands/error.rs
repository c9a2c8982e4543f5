//! What a command can fail with.

use crate::stack::application::take::TakeError;
use crate::stack::{application, capture, files, restore, rollback};
use crate::{crypto, repo, store};
use std::path::PathBuf;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense, or would do harm.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// A file or folder of the person's.
    #[error("cannot {operation} {}", path.display())]
    Path {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `snap.toml`.
    #[error("cannot understand {}: {message}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// What the person holds to open a repository cannot be used.
    #[error(transparent)]
    Identity(crypto::Error),
    /// A restore as a transaction.
    #[error(transparent)]
    Rollback(#[from] rollback::Error),
    /// Keys.
    #[error(transparent)]
    Crypto(#[from] crypto::Error),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] repo::Error),
    /// Files.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// An application.
    #[error(transparent)]
    Application(#[from] application::Error),
    /// A stream.
    #[error("cannot read {path}")]
    Stream {
        /// What it was to become.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file-state cache.
    #[error("cannot write the file-state cache {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A command's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A usage error with a way out.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// True if the same once more would do: a deletion came in between.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Error::Repo(error) if error.is_overtaken())
    }

    /// True if the local catalog should be thrown away and the command tried once more.
    pub fn is_catalog_damage(&self) -> bool {
        matches!(self, Error::Repo(error) if error.is_catalog_damage())
    }

    /// True if there is no room for the local catalog.
    pub fn is_catalog_full(&self) -> bool {
        matches!(self, Error::Repo(repo::Error::Catalog(error)) if error.is_full())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Repo(error.into())
    }
}

impl From<crate::catalog::Error> for Error {
    fn from(error: crate::catalog::Error) -> Self {
        Self::Repo(error.into())
    }
}

impl From<TakeError> for Error {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Application(error) => Self::Application(error),
            TakeError::Capture(error) => error.into(),
        }
    }
}

impl From<capture::Error> for Error {
    fn from(error: capture::Error) -> Self {
        match error {
            capture::Error::Files(error) => Self::Files(error),
            capture::Error::Repo(error) => Self::Repo(error),
            capture::Error::Stream { path, source } => Self::Stream { path, source },
            capture::Error::State { path, source } => Self::State { path, source },
        }
    }
}

impl From<restore::Error> for Error {
    fn from(error: restore::Error) -> Self {
        match error {
            restore::Error::Files(error) => Self::Files(error),
            restore::Error::Repo(error) => Self::Repo(error),
        }
    }
}
