//! The model of a Compose project: plain data, the same whichever tool told it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A Compose project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its active services by name.
    pub services: BTreeMap<String, Service>,
    /// Its declared volumes by key.
    pub volumes: BTreeMap<String, Volume>,
    /// Its declared networks by key.
    pub networks: BTreeMap<String, Network>,
    /// Its configs by key.
    pub configs: BTreeMap<String, Resource>,
    /// Its secrets by key.
    pub secrets: BTreeMap<String, Resource>,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// The image as it is named; empty if the tool names it (`project-service`).
    pub image: String,
    /// The folder from which the image is built, and its Dockerfile.
    pub build: Option<Build>,
    /// The fixed name of its container.
    pub container_name: Option<String>,
    /// Services that must be there before it.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Profiles that activate it; none for always.
    pub profiles: BTreeSet<String>,
    /// Labels of its containers.
    pub labels: BTreeMap<String, String>,
    /// Names of its environment variables.
    pub environment: BTreeSet<String>,
    /// True if it has a healthcheck of its own.
    pub healthcheck: bool,
    /// How many containers it wants.
    pub replicas: u32,
    /// When its containers are started again: `no`, `always`, …
    pub restart: String,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Keys of the configs that it uses.
    pub configs: BTreeSet<String>,
    /// Keys of the secrets that it uses.
    pub secrets: BTreeSet<String>,
    /// Services whose mounts it takes over (`volumes_from`).
    pub volumes_from: BTreeSet<String>,
}

/// From what an image is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The folder.
    pub context: String,
    /// The Dockerfile, relative to it; empty for the usual one.
    pub dockerfile: String,
}

/// How a service depends on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// `service_started`, `service_healthy` or `service_completed_successfully`.
    pub condition: String,
    /// False if it may be missing.
    pub required: bool,
}

impl Default for Dependency {
    fn default() -> Self {
        Self { condition: "service_started".to_owned(), required: true }
    }
}

/// One mount of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Where it is seen in the container.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// True if the service cannot write to it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountKind {
    /// A declared volume, by its key.
    Volume(String),
    /// A volume without a name, new for each container.
    Anonymous,
    /// A file or folder of the host.
    Bind(PathBuf),
    /// Memory.
    Tmpfs,
    /// Something else (`npipe`, `cluster`, `image`).
    Other(String),
}

/// A declared volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the engine.
    pub name: String,
    /// True if it is not the project's own.
    pub external: bool,
    /// Its driver; empty for the default.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A declared network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Its name in the engine.
    pub name: String,
    /// True if it is not the project's own.
    pub external: bool,
}

/// A config or a secret: where its content comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// The file.
    pub file: Option<PathBuf>,
    /// The variable of the environment in which Compose runs.
    pub environment: Option<String>,
    /// True if the content stands in the Compose file itself.
    pub inline: bool,
    /// True if the engine (Swarm) keeps it.
    pub external: bool,
}
