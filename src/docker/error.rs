//! What can go wrong between snap and the engine, told apart so that each has its own way out.
//!
//! The engine's own words are kept, but the values of environment variables that were sent are taken
//! out of them: they hold passwords.

use std::io;
use std::path::PathBuf;

/// What the engine could not do, on which object, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address of an engine that is not understood or not served.
    #[error("the Docker engine's address {address}: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing is where the engine's socket should be.
    #[error("no Docker engine: there is no socket {}", path.display())]
    NoSocket {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The place is there and nobody answers.
    #[error("the Docker engine does not run: nobody answers at {address}")]
    NotRunning {
        /// Where it was called.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// This user may not talk to the engine.
    #[error("no permission to use the Docker engine at {}", path.display())]
    NoPermission {
        /// Its socket.
        path: PathBuf,
    },
    /// The engine and snap have no version of the API in common.
    #[error("the Docker engine speaks versions {least} to {most} of its API, and snap {ours}")]
    ApiVersion {
        /// The engine's oldest.
        least: String,
        /// The engine's newest.
        most: String,
        /// Those that snap speaks.
        ours: String,
    },
    /// The engine refused.
    #[error("cannot {operation} {object}: {message} (status {status})")]
    Refused {
        /// The verb.
        operation: &'static str,
        /// On what.
        object: String,
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The connection failed or was cut.
    #[error("cannot {operation} {object}: the connection to the Docker engine failed")]
    Connection {
        /// The verb.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine's answer makes no sense.
    #[error("cannot {operation} {object}: the Docker engine's answer is not understood: {problem}")]
    Answer {
        /// The verb.
        operation: &'static str,
        /// On what.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No answer in time.
    #[error("cannot {operation} {object}: no answer in {seconds} s")]
    Timeout {
        /// The verb.
        operation: &'static str,
        /// On what.
        object: String,
        /// How long it was waited.
        seconds: u64,
    },
    /// What was to be sent could not be read.
    #[error("cannot {operation} {object}: what is sent cannot be read")]
    Input {
        /// The verb.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// The person stopped it.
    #[error("stopped: {operation} {object}")]
    Cancelled {
        /// The verb.
        operation: &'static str,
        /// On what.
        object: String,
    },
    /// The system gives no thread or no connection.
    #[error("cannot prepare the way to the Docker engine")]
    System {
        /// What it says.
        source: io::Error,
    },
}

/// A result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The HTTP status, if the engine refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The object's state forbids it: in use, not running, name taken.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// There is nothing to do: it is so already.
    pub fn is_not_modified(&self) -> bool {
        self.status() == Some(304)
    }

    /// The person stopped it.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// No engine can be used at all, as opposed to one that refused something.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Address { .. }
                | Self::NoSocket { .. }
                | Self::NotRunning { .. }
                | Self::NoPermission { .. }
                | Self::ApiVersion { .. }
        )
    }

    /// A way out, where one is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSocket { .. } => Some("install and start Docker, or name its socket with DOCKER_HOST"),
            Self::NotRunning { .. } => Some("start it: `systemctl start docker`"),
            Self::NoPermission { .. } => {
                Some("run snap as root, or let this user join the group docker: `usermod -aG docker USER`")
            }
            Self::ApiVersion { .. } => Some("use a Docker engine from 19.03 on, and the newest snap"),
            _ => None,
        }
    }

    /// What went wrong, with the way out where one is known: where it is told as a part of something else.
    pub fn with_hint(&self) -> String {
        self.hint().map_or_else(|| self.to_string(), |hint| format!("{self}; {hint}"))
    }
}

/// The engine's error in an I/O error, as streams give it.
pub(super) fn as_io(error: Error) -> io::Error {
    io::Error::other(error)
}

/// The engine's error out of an I/O error, or one of the connection.
pub(super) fn from_io(operation: &'static str, object: &str, source: io::Error) -> Error {
    source.downcast::<Error>().unwrap_or_else(|source| Error::Connection {
        operation,
        object: object.to_owned(),
        source: source.into(),
    })
}
