//! The Docker engine's API, as much of it as snapshots need.
//!
//! A small client of our own: HTTP by hyper over the engine's socket, the version of the API
//! negotiated, every stream checked for its end. The facade is synchronous; what is asynchronous stays
//! inside. Environments and bodies are never logged and never in errors: they hold passwords.
//!
//! - `endpoint`: where the engine is; `link`, `body`: connections, requests, waiting; what they carry.
//! - `engine`: [`Engine`], versions, what the engine says of itself; `local`: whether its files are here.
//! - `container`, `image`, `volume`, `archive`: the objects; `exec`, `stdio`, `frames`, `kill`:
//!   programs in containers.

mod archive;
mod body;
mod container;
mod containers;
mod endpoint;
mod engine;
mod error;
mod exec;
mod frames;
mod hold;
mod idle;
mod image;
mod json;
mod kill;
mod link;
mod local;
mod stdio;
#[cfg(test)]
mod tests;
mod volume;

pub use body::Body;
pub use container::{
    Attachment, Container, ContainerSummary, Environment, Health, Hidden, Mount, State, Status, published_ports,
};
pub use endpoint::Endpoint;
pub use engine::{Engine, Info};
pub use error::{Error, Result};
pub use exec::{Exec, ExecEnd, ExecSpec, Output};
pub use hold::Hold;
pub use idle::Idle;
pub use image::{Image, Loaded};
pub use stdio::ExecStdin;
pub use volume::{Network, NewVolume, Volume};
