//! What is known of a container.

use super::json::nullable;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A container's environment. It holds passwords, so its values are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Names and values in the container's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl From<Vec<String>> for Environment {
    fn from(pairs: Vec<String>) -> Self {
        let split = |pair: String| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair, String::new()),
        };
        Self(pairs.into_iter().map(split).collect())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| format!("{name}=…"))).finish()
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default().into())
    }
}

/// JSON as the engine gave it, which may hold secrets and is not shown.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub Value);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// A container's state in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made and not started.
    Created,
    /// Running.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and is being started again.
    Restarting,
    /// It is being removed.
    Removing,
    /// Ended.
    Exited,
    /// Its end failed.
    Dead,
    /// Something this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a container's own health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not known yet.
    Starting,
    /// The check passes.
    Healthy,
    /// The check fails.
    Unhealthy,
    /// There is no check, or its answer is not known here.
    #[serde(other)]
    None,
}

/// A container's state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// In a word.
    #[serde(default)]
    pub status: Status,
    /// Its health check's verdict; `None` without a check.
    #[serde(default, deserialize_with = "health")]
    pub health: Option<Health>,
    /// The exit code of its last end.
    #[serde(default)]
    pub exit_code: i64,
    /// True if the system ended it for want of memory.
    #[serde(default, rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Its first process on the engine's host; 0 if it does not run.
    #[serde(default)]
    pub pid: u32,
    /// When it was started last, RFC 3339.
    #[serde(default)]
    pub started_at: String,
    /// When it ended last, RFC 3339.
    #[serde(default)]
    pub finished_at: String,
    /// What went wrong at its last start.
    #[serde(default)]
    pub error: String,
}

impl State {
    /// True if its processes exist: running or paused.
    pub fn is_up(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }
}

fn health<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Health>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        status: Health,
    }
    let answer = Option::<Answer>::deserialize(deserializer)?;
    Ok(answer.map(|answer| answer.status).filter(|health| *health != Health::None))
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs` …
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// The volume's name; empty for the others.
    #[serde(default)]
    pub name: String,
    /// Where it is on the engine's host.
    #[serde(default)]
    pub source: PathBuf,
    /// Where it is in the container.
    #[serde(default)]
    pub destination: PathBuf,
    /// The volume's driver.
    #[serde(default)]
    pub driver: String,
    /// False if the container may only read it.
    #[serde(rename = "RW", default)]
    pub writable: bool,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub struct Attachment {
    /// The network's id.
    #[serde(rename = "NetworkID", default)]
    pub network_id: String,
    /// Names it has there.
    #[serde(default, deserialize_with = "nullable")]
    pub aliases: Vec<String>,
    /// Its address there; empty if it does not run.
    #[serde(rename = "IPAddress", default)]
    pub ip_address: String,
}

/// A line of the list of containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// Its id.
    pub id: String,
    /// Its names, without the slash that the engine puts before them.
    #[serde(default, deserialize_with = "names")]
    pub names: Vec<String>,
    /// The image as it was named when it was made.
    #[serde(default)]
    pub image: String,
    /// The image's id.
    #[serde(rename = "ImageID", default)]
    pub image_id: String,
    /// Its labels.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Its state.
    #[serde(rename = "State", default)]
    pub status: Status,
    /// What is mounted in it.
    #[serde(default, deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub created: i64,
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(names.into_iter().map(|name| name.trim_start_matches('/').to_owned()).collect())
}

/// What the engine knows of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of its image.
    pub image_id: String,
    /// The image as it was named when the container was made.
    pub image: String,
    /// Its state.
    pub state: State,
    /// How often the engine has started it again.
    pub restart_count: u64,
    /// Its environment.
    pub env: Environment,
    /// Arguments, or the whole command without an entrypoint.
    pub cmd: Vec<String>,
    /// What is run.
    pub entrypoint: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// The folder that it runs in.
    pub workdir: String,
    /// True if it has a terminal: its output is not in frames then.
    pub tty: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted in it.
    pub mounts: Vec<Mount>,
    /// Its networks, by name.
    pub networks: BTreeMap<String, Attachment>,
    /// Ports that it listens on, `5432/tcp`.
    pub exposed_ports: Vec<String>,
    /// Its configuration as the engine gave it: what a like one is made from.
    pub config: Hidden,
    /// The part of it that concerns the host.
    pub host_config: Hidden,
}

/// The ports of the host that a container's configuration publishes, `0.0.0.0:8080/tcp`; not those that the engine chooses.
pub fn published_ports(host_config: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (inside, places) in host_config["PortBindings"].as_object().into_iter().flatten() {
        let protocol = inside.rsplit('/').next().filter(|_| inside.contains('/')).unwrap_or("tcp");
        for place in places.as_array().into_iter().flatten() {
            let (ip, port) =
                (place["HostIp"].as_str().unwrap_or_default(), place["HostPort"].as_str().unwrap_or_default());
            if !matches!(port, "" | "0") {
                let ip = if ip.is_empty() { "0.0.0.0" } else { ip };
                out.push(format!("{ip}:{port}/{protocol}"));
            }
        }
    }
    out.sort();
    out
}

/// The engine's answer, as it is shaped.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerAnswer {
    id: String,
    name: String,
    image: String,
    state: State,
    #[serde(default)]
    restart_count: u64,
    config: Hidden,
    #[serde(default)]
    host_config: Hidden,
    #[serde(default, deserialize_with = "nullable")]
    mounts: Vec<Mount>,
    #[serde(default, deserialize_with = "nullable")]
    network_settings: NetworkSettings,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default, deserialize_with = "nullable")]
    networks: BTreeMap<String, Attachment>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct ConfigPart {
    #[serde(default)]
    image: String,
    #[serde(default)]
    env: Environment,
    #[serde(default, deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    working_dir: String,
    #[serde(default)]
    tty: bool,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    exposed_ports: BTreeMap<String, Value>,
}

impl TryFrom<ContainerAnswer> for Container {
    type Error = serde_json::Error;

    fn try_from(answer: ContainerAnswer) -> Result<Self, serde_json::Error> {
        let config = ConfigPart::deserialize(&answer.config.0)?;
        Ok(Self {
            id: answer.id,
            name: answer.name.trim_start_matches('/').to_owned(),
            image_id: answer.image,
            image: config.image,
            state: answer.state,
            restart_count: answer.restart_count,
            env: config.env,
            cmd: config.cmd,
            entrypoint: config.entrypoint,
            user: config.user,
            workdir: config.working_dir,
            tty: config.tty,
            labels: config.labels,
            mounts: answer.mounts,
            networks: answer.network_settings.networks,
            exposed_ports: config.exposed_ports.into_keys().collect(),
            config: answer.config,
            host_config: answer.host_config,
        })
    }
}
