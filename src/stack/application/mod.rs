//! An application: a Compose project as it runs, and what of it is captured how.
//!
//! [`project`] puts together what Compose, the files and the engine say; [`plan`] decides, without touching
//! anything, what becomes of every mount, file, secret, image and database, and says so for each; [`guard`] stops
//! what must stand still, and starts it again on every way out; [`take`](mod@take) captures by the plan.

pub mod binds;
mod contents;
pub mod dbdir;
pub mod describe;
mod folders;
pub mod guard;
mod helper;
pub mod images;
pub mod observe;
pub mod plan;
pub mod project;
pub mod select;
pub mod take;
pub mod take_engine;
pub mod volumes;

pub use observe::Observed;
pub use plan::{FolderItem, ImageItem, Plan, VolumeItem, Way};
pub use project::{Choice, Project, load};
pub use select::{Only, Stops};

use super::compose;
use crate::docker;
use std::path::PathBuf;

/// Why an application cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Compose project.
    #[error(transparent)]
    Compose(#[from] compose::Error),
    /// The engine.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// A check that a label or a setting names.
    #[error(transparent)]
    Health(#[from] super::health::SettingError),
    /// The record of what is stopped.
    #[error("cannot {operation} {}", path.display())]
    State {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another capture has stopped services of this project and is still at work.
    #[error("another snap has stopped services of {project} and is at work")]
    Busy {
        /// The project.
        project: String,
    },
    /// What was to be selected is not there.
    #[error("{selector} selects nothing: the project has {there}")]
    NothingSelected {
        /// As it was given.
        selector: String,
        /// What could be selected.
        there: String,
    },
}

/// A result of this folder's functions.
pub type Result<T> = std::result::Result<T, Error>;
