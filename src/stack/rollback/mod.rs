//! The restore of an application as a transaction: all of it is new afterwards, or all of it old.
//!
//! Everything that can be made ready is made ready beside what is there ([`journal::Staged`]), with
//! the services running. Then, with a [`Journal`] that is always one step ahead: stop, swap, start,
//! prove, and keep the new state or go back to the old one. Each change is a [`Swap`], of which one
//! can see, after a crash at any moment, whether it was done. The two decisions from which there is
//! no return, `Committed` and `Undoing`, are single lines of the journal.
//!
//! | the journal's last step | what a crash left | `--resume` | `--abort` |
//! |---|---|---|---|
//! | before `Stopping` | things beside the old state | begins anew | removes them |
//! | `Stopping`, `Stopped` | some services stand still | begins anew | starts them |
//! | `Swapping` … `Proved` | some of it swapped | swaps the rest, starts, proves | swaps back, starts the old |
//! | `Undoing`, `Undone` | some of it swapped back | goes back | goes back |
//! | `Committed` | things to remove | removes them | the same, and says so |
//!
//! What acts on files and services is behind [`World`], so that every one of these moments can be
//! tried.

pub mod compose_call;
mod database_files;
mod differences;
mod event;
pub mod hold;
pub mod journal;
pub mod origin;
mod plan_folders;
pub mod plan_services;
pub mod ports;
pub mod prepare;
pub mod probes;
mod raw_path;
pub mod services;
mod stage_databases;
pub mod stage_files;
mod stage_held;
mod stage_images;
mod stage_inputs;
pub mod stage_volumes;
pub mod swap;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod wanted;

pub use journal::{Begun, Event, Journal, Ran, Staged};
pub use stage_databases::failed as database_error;
pub use swap::{Side, Swap};
pub use transaction::{Outcome, Transaction};

use super::health::Proof;
use crate::repo::entry::Meta;
use std::path::{Path, PathBuf};

/// How the names begin of all that a restore puts somewhere for a while.
pub const STAGE_PREFIX: &str = super::files::place::UNFINISHED_PREFIX;

/// What went wrong with a restore as a transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is at work.
    #[error("a restore of this application is in progress")]
    Busy,
    /// One was interrupted.
    #[error("a restore of {project} was interrupted and is not finished")]
    Unfinished {
        /// The project.
        project: String,
    },
    /// The journal, or the folder that it is in.
    #[error("cannot {operation} {}", path.display())]
    State {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journal cannot be believed.
    #[error("the journal {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Something is neither as it was nor as it should become.
    #[error("{} is not what it was when the restore was planned: somebody changed it", path.display())]
    Strange {
        /// Which.
        path: PathBuf,
    },
    /// A tag names neither the old nor the new image.
    #[error("the image tag {tag} does not name what it did when the restore was planned: somebody changed it")]
    StrangeTag {
        /// Which.
        tag: String,
    },
    /// The person's signal.
    #[error("a signal ended it {step}")]
    Signal {
        /// When.
        step: String,
    },
    /// Files.
    #[error(transparent)]
    Files(#[from] super::files::Error),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] crate::repo::Error),
    /// Services, images, volumes: what the engine or Compose said.
    #[error("{subject}: {message}")]
    Engine {
        /// What it is about.
        subject: String,
        /// Why.
        message: String,
    },
}

/// A result of this folder's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl From<super::restore::Error> for Error {
    fn from(error: super::restore::Error) -> Self {
        match error {
            super::restore::Error::Files(error) => Self::Files(error),
            super::restore::Error::Repo(error) => Self::Repo(error),
        }
    }
}

impl Error {
    fn state(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::State { operation, path: path.to_path_buf(), source }
    }

    fn damaged(path: &Path, what: &str) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.to_owned() }
    }
}

/// All that a transaction acts on.
pub trait World {
    /// The inode number at `path`; `None` where nothing is.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn inode(&self, path: &Path) -> Result<Option<u64>>;

    /// Lets two things change places in one step; false where the file system cannot.
    ///
    /// # Errors
    /// The system refuses.
    fn exchange(&self, a: &Path, b: &Path) -> Result<bool>;

    /// Renames to a free name.
    ///
    /// # Errors
    /// It is not free, or the system refuses.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Sets a folder's attributes.
    ///
    /// # Errors
    /// It is not there.
    fn set_attributes(&self, path: &Path, meta: &Meta) -> Result<()>;

    /// Makes the names in the folder of `path` durable.
    ///
    /// # Errors
    /// The disk refuses.
    fn sync_folder_of(&self, path: &Path) -> Result<()>;

    /// Removes a file or a folder with all that is in it; nothing there is no error.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, path: &Path) -> Result<()>;

    /// The image that a tag names.
    ///
    /// # Errors
    /// The engine does not say.
    fn image_of(&self, tag: &str) -> Result<Option<String>>;

    /// Gives an image a tag, which leaves the image that had it.
    ///
    /// # Errors
    /// The engine refuses.
    fn tag(&self, image: &str, tag: &str) -> Result<()>;

    /// Takes a tag away; one that is not there is no error. The image stays.
    ///
    /// # Errors
    /// The engine refuses.
    fn untag(&self, tag: &str) -> Result<()>;

    /// Stops every service, those first that others do not need.
    ///
    /// # Errors
    /// One still runs.
    fn stop(&self) -> Result<()>;

    /// Starts the services of a side: the old ones as they ran, or the new ones.
    ///
    /// # Errors
    /// One could not be started.
    fn start(&self, side: Side) -> Result<()>;

    /// Asks the health gate. For the old side it asks only whether what ran runs.
    fn prove(&self, side: Side) -> Proof;

    /// Removes something that was there only for the restore; nothing there is no error.
    ///
    /// # Errors
    /// It is still there.
    fn discard(&self, staged: &Staged) -> Result<()>;
}
