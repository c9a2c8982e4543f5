//! Why a database was not captured.

use crate::docker;
use crate::repo;
use crate::repo::sync::Chain;
use crate::stack::capture;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database: it is missing from the snapshot, everything else need not be.
    #[error("{subject}: {reason}")]
    Database {
        /// The service, with the database in it: `billing/shop`.
        subject: String,
        /// What happened, without any secret.
        reason: String,
    },
    /// The repository, which concerns everything.
    #[error(transparent)]
    Capture(#[from] capture::Error),
}

/// A result of working on a database.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn database(subject: &str, reason: impl Into<String>) -> Self {
        Self::Database { subject: subject.to_owned(), reason: reason.into() }
    }

    /// What the engine could not do, about `subject`; stopping is the person's wish and no failure.
    pub(super) fn engine(subject: &str, error: &docker::Error) -> Self {
        if error.is_cancelled() {
            return Self::Capture(repo::Error::Interrupted.into());
        }
        Self::database(subject, Chain(error).to_string())
    }
}

impl From<repo::Error> for Error {
    fn from(error: repo::Error) -> Self {
        Self::Capture(error.into())
    }
}
