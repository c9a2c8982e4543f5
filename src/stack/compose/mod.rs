//! What a Compose project is made of.
//!
//! The model comes from the tool that runs the project, `docker compose` or the older `docker-compose`:
//! nobody else knows all rules of merging, interpolation and profiles. [`tool`] asks it, [`parse`] reads the
//! answer of either into the same [`Model`]. What the answer does not tell, which files took part, is found by
//! reading them ([`files`]), and that reading also stands in where no tool is at hand ([`fallback`]).
//! [`labels`] are what an operator says of a service; [`order`] is the order in which services start.
//!
//! The values of environment variables are often secrets: the model keeps only their names.

pub mod fallback;
pub mod files;
pub mod labels;
pub mod model;
pub mod order;
pub mod parse;
pub mod selection;
pub mod tool;
pub mod yaml;

pub use labels::ServiceRules;
pub use model::{Dependency, Model, Mount, MountKind, Network, Resource, Service, Volume};
pub use selection::Selection;
pub use tool::{Tool, ToolChoice};

use std::path::PathBuf;

/// Why a Compose project cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool refuses the project.
    #[error("{tool} refuses the project in {}: {message}", directory.display())]
    Refused {
        /// `docker compose` or `docker-compose`.
        tool: &'static str,
        /// The project's folder.
        directory: PathBuf,
        /// What the tool says.
        message: String,
    },
    /// The tool could not be run, or did not end.
    #[error("cannot run {tool}: {message}")]
    Tool {
        /// Which one.
        tool: &'static str,
        /// Why.
        message: String,
    },
    /// Neither tool is there.
    #[error("neither `docker compose` nor `docker-compose` is installed")]
    NoTool,
    /// Something in the model is not what it must be.
    #[error("cannot understand {what} of the Compose project: {message}")]
    Model {
        /// Which part.
        what: String,
        /// Why.
        message: String,
    },
    /// A Compose file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A Compose file is no YAML.
    #[error("cannot understand {}: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A label says something that it cannot say.
    #[error("the label {label} of the service {service} is wrong: {message}")]
    Label {
        /// The service.
        service: String,
        /// The label.
        label: String,
        /// What is wrong.
        message: String,
    },
}

/// A result of this folder's functions.
pub type Result<T> = std::result::Result<T, Error>;
