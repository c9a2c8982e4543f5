//! What a manifest says of Compose projects, volumes, images and databases. docs/FORMAT.md §8.
//!
//! All of it is optional: a snapshot of a folder has none.

use super::manifest::Need;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a manifest says of a volume, an image or a database beside its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Detail {
    /// A Docker volume.
    Volume(VolumeDetail),
    /// A Docker image.
    Image(ImageDetail),
    /// A database's dump.
    Database(DatabaseDetail),
}

/// A Docker volume: its tree is its content, root folder included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDetail {
    /// Its name in the engine.
    pub volume: String,
    /// Its driver.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels, by which Compose knows it as its own.
    pub labels: BTreeMap<String, String>,
    /// Services that mount it.
    pub services: Vec<String>,
    /// Where they mount it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<VolumeMount>,
    /// True if it has no name of its own: the container made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

/// Where a service mounts a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The service.
    pub service: String,
    /// The path in its containers.
    pub target: String,
}

/// A Docker image: its tree is one file, `image.tar`, as the engine saves and loads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDetail {
    /// The digest of its configuration, `sha256:…`.
    pub id: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The digests under which registries know it.
    pub digests: Vec<String>,
    /// Operating system and architecture, `linux/amd64`.
    pub platform: String,
    /// Digests of its layers' uncompressed content, bottom first.
    pub layers: Vec<String>,
    /// Services that run it.
    pub services: Vec<String>,
    /// The segments that its tree needs, so that a later snapshot can refer to it without reading it.
    pub needs: Vec<Need>,
}

/// Which copy of a database's content is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The dump.
    Dump,
    /// The volume, or the folder of the host, which was captured while the server was stopped.
    Volume,
}

/// A database's dump: its tree holds the files that the server's own client wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDetail {
    /// postgresql, mariadb, mysql, redis.
    pub engine: String,
    /// The server's version.
    pub version: String,
    /// The service that it runs in.
    pub service: String,
    /// Which copy is restored.
    pub authority: Authority,
    /// The dumps.
    pub dumps: Vec<Dump>,
}

/// One file of a database's dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Its path in the tree.
    pub file: String,
    /// The database; empty for what belongs to the whole server (roles, grants).
    pub database: String,
    /// Its tables.
    pub tables: Vec<DumpedTable>,
}

/// A table in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedTable {
    /// Its name, with its schema where there are schemas.
    pub name: String,
    /// Its rows at the moment of the dump.
    pub rows: u64,
    /// Where its rows begin in the file, in bytes, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How long they are there, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a manifest says of a Compose project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectEntry {
    /// The project's name.
    pub name: String,
    /// Its folder on the host.
    pub directory: String,
    /// Its Compose files, in their order.
    pub files: Vec<String>,
    /// Env files that stood in for `.env`, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_files: Vec<String>,
    /// Profiles that were active.
    pub profiles: Vec<String>,
    /// What the Compose tool is told before its verb to mean this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The Compose tool (`docker compose` or `docker-compose`) and its version; empty if none was there.
    pub compose: String,
    /// The engine and its version.
    pub engine: String,
    /// Its services, in the order in which they start.
    pub services: Vec<ServiceEntry>,
}

/// One service of a project at the moment of capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Its name.
    pub name: String,
    /// The image as the Compose file names it.
    pub image: String,
    /// The image that its containers ran, `sha256:…`; empty if there were none.
    pub image_id: String,
    /// Containers that were running.
    pub running: u32,
    /// Containers that were healthy, of those that say.
    pub healthy: u32,
    /// True if it was stopped for the capture.
    pub stopped: bool,
    /// True if it was paused for the capture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Services that must be there before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Its containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerEntry>,
}

/// One container of a service at the moment of capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEntry {
    /// Its name.
    pub name: String,
    /// `running`, `exited`, …
    pub state: String,
    /// What its healthcheck said, if it has one: `healthy`, `unhealthy`, `starting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Its exit code, if it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The image that it was made from.
    pub image_id: String,
    /// Ports of the host that it publishes, `0.0.0.0:8080/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}
