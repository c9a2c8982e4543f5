//! How the server of a dump was run: beside the dump, so that one like it can take the dump back.
//!
//! It holds the container's variables, passwords among them, and so it lies in the tree, sealed for owners as the dump
//! is, and not in the manifest. Nothing of it changes from one capture to the next.

use super::error::{Error, Result};
use super::settings::Settings;
use super::store::Target;
use crate::docker::{Container, Engine};
use crate::repo::Repository;
use crate::repo::manifest::{DatabaseDetail, SourceEntry};
use crate::stack::source::content::FileContent;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file in the tree.
pub const FILE: &str = "container.json";
/// A description of more bytes is not believed.
const BYTES_MAX: u64 = 16 << 20;
/// Scripts here fill a new server with what the dump holds anyway.
const SCRIPTS: &str = "/docker-entrypoint-initdb.d";

/// How a server was run.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// The id of its image.
    pub image: String,
    /// Its variables, `NAME=value`.
    pub env: Vec<String>,
    /// Its command.
    pub command: Vec<String>,
    /// Its entrypoint.
    pub entrypoint: Vec<String>,
    /// The user that it ran as; empty for the image's.
    pub user: String,
    /// Bytes of its shared memory; 0 for the engine's default.
    pub shm_bytes: u64,
    /// Seconds that it is given to stop, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_seconds: Option<u64>,
    /// The folder in the container in which it keeps its data.
    pub data: PathBuf,
    /// What was mounted in it.
    pub mounts: Vec<ServerMount>,
    /// What is said of it to snap.
    pub labels: BTreeMap<String, String>,
}

/// Something that was mounted in a server's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMount {
    /// `volume`, `bind` …
    pub kind: String,
    /// The volume's name.
    pub name: String,
    /// Where it was on the host.
    pub source: PathBuf,
    /// Where it was in the container.
    pub target: PathBuf,
    /// False if the container could only read it.
    pub writable: bool,
    /// The volume's driver, options and labels.
    pub driver: String,
    /// See `driver`.
    pub options: BTreeMap<String, String>,
    /// See `driver`.
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("image", &self.image).field("data", &self.data).finish_non_exhaustive()
    }
}

impl Server {
    /// How the server in `container` is run, which keeps its data in `data`.
    pub fn of(engine: &Engine, container: &Container, data: &Path) -> Self {
        let mount = |found: &crate::docker::Mount| {
            // Nobody needs more than its name to find a volume that is still there.
            let volume = (found.kind == "volume").then(|| engine.volume(&found.name).ok()).flatten();
            let (driver, options, labels) = volume.map(|v| (v.driver, v.options, v.labels)).unwrap_or_default();
            ServerMount {
                kind: found.kind.clone(),
                name: found.name.clone(),
                source: found.source.clone(),
                target: found.destination.clone(),
                writable: found.writable,
                driver,
                options,
                labels,
            }
        };
        let mut mounts: Vec<ServerMount> = container.mounts.iter().map(mount).collect();
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        let labels = container.labels.iter().filter(|(name, _)| name.starts_with("snap."));
        Self {
            image: container.image_id.clone(),
            env: container.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            command: container.cmd.clone(),
            entrypoint: container.entrypoint.clone(),
            user: container.user.clone(),
            shm_bytes: container.host_config.0["ShmSize"].as_u64().unwrap_or(0),
            stop_seconds: container.config.0["StopTimeout"].as_u64(),
            data: data.to_path_buf(),
            mounts,
            labels: labels.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    pub(super) fn store(&self, subject: &str, target: &mut Target<'_, '_>) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::database(subject, error.to_string()))?;
        target.store_text(FILE, format!("{text}\n"))
    }

    /// What a snapshot says of it; `None` where it says nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(repository: &Repository, source: &SourceEntry, detail: &DatabaseDetail) -> Result<Option<Self>> {
        if source.files <= detail.dumps.len() as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let content = FileContent::of(repository, &source.tree, FILE.as_bytes(), 1)?;
        let unread = |error: String| Error::database(&source.name, format!("{FILE} cannot be read: {error}"));
        content.take(BYTES_MAX).read_to_end(&mut bytes).map_err(|error| unread(error.to_string()))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| unread(error.to_string()))
    }

    /// The mount that holds its data, and where in it that is.
    pub fn data_mount(&self) -> Option<(&ServerMount, &Path)> {
        let holds = |mount: &&ServerMount| !self.data.as_os_str().is_empty() && self.data.starts_with(&mount.target);
        let nearest = self.mounts.iter().filter(holds).max_by_key(|mount| mount.target.components().count())?;
        Some((nearest, self.data.strip_prefix(&nearest.target).ok()?))
    }

    /// Files and folders of the host that another server like it needs: secrets, settings.
    pub fn inputs(&self) -> impl Iterator<Item = &ServerMount> {
        let data = self.data_mount().map(|(mount, _)| mount.target.clone());
        self.mounts.iter().filter(move |mount| {
            mount.kind == "bind" && Some(&mount.target) != data.as_ref() && !mount.target.starts_with(SCRIPTS)
        })
    }

    /// For a program that nobody knows: where it keeps its data is where it writes, if that is one place.
    ///
    /// # Errors
    /// How many places there are.
    pub fn with_only_data(mut self) -> std::result::Result<Self, usize> {
        let places: Vec<&ServerMount> = self
            .mounts
            .iter()
            .filter(|mount| mount.writable && matches!(mount.kind.as_str(), "volume" | "bind"))
            .collect();
        let [place] = places.as_slice() else { return Err(places.len()) };
        self.data = place.target.clone();
        Ok(self)
    }

    /// What is said of it to snap.
    pub fn settings(&self) -> Settings {
        Settings::from_labels(&self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, target: &str) -> ServerMount {
        ServerMount { kind: kind.to_owned(), target: target.into(), ..ServerMount::default() }
    }

    #[test]
    fn the_mount_of_the_data_is_the_nearest_one() {
        let all = ["/", "/var/lib/postgresql", "/run/secrets/pw", "/docker-entrypoint-initdb.d"];
        let mounts = all.map(|target| mount(if target.contains("lib") { "volume" } else { "bind" }, target));
        let server =
            Server { data: "/var/lib/postgresql/18/docker".into(), mounts: mounts.into(), ..Server::default() };
        let (found, rest) = server.data_mount().unwrap();
        assert_eq!((found.target.as_path(), rest), (Path::new("/var/lib/postgresql"), Path::new("18/docker")));
        let inputs: Vec<&Path> = server.inputs().map(|mount| mount.target.as_path()).collect();
        assert_eq!(inputs, [Path::new("/"), Path::new("/run/secrets/pw")]);
        assert_eq!(Server::default().data_mount(), None);
    }

    #[test]
    fn a_description_is_not_shown() {
        let server = Server { env: vec!["PASSWORD=canary".to_owned()], ..Server::default() };
        assert!(!format!("{server:?}").contains("canary"));
    }
}
