//! One running copy of an example stack (`fixtures/stacks/operate`), which goes when it is dropped.

use crate::snap::{Run, run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest run of one verb of `operate`, or of one command in a container.
const LIMIT: Duration = Duration::from_secs(300);

/// The failures that a handbook fears, as `operate … break` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    Env,
    Compose,
    Image,
    Migration,
    Volume,
    Database,
    All,
    /// Nothing is broken, but what the older version's health depends on is no longer there.
    Newer,
}

impl Break {
    /// All of them, in the order of the handbooks' letters.
    pub const ALL: [Self; 8] =
        [Self::Env, Self::Compose, Self::Image, Self::Migration, Self::Volume, Self::Database, Self::All, Self::Newer];

    /// Its letter, its word for `operate`, and what it does.
    pub fn told(self) -> (char, &'static str, &'static str) {
        match self {
            Self::Env => ('a', "env", "bad `.env`"),
            Self::Compose => ('b', "compose", "bad compose file, half saved"),
            Self::Image => ('c', "image", "broken new image under the same tag, the old one pruned"),
            Self::Migration => ('d', "migration", "a migration drops a column and half the rows"),
            Self::Volume => ('e', "volume", "static volume wiped, given to root"),
            Self::Database => ('f', "database", "database damaged on disk, the server does not start"),
            Self::All => ('g', "all", "everything at once"),
            Self::Newer => ('h', "newer", "what was restored fails its health check"),
        }
    }
}

/// A running copy of a stack.
pub struct Instance {
    pub stack: &'static str,
    dir: PathBuf,
    facts: BTreeMap<String, String>,
    _room: tempfile::TempDir,
}

impl Instance {
    /// Brings up a copy of `stack` under a project name of its own, filled and valid.
    pub fn up(stack: &'static str) -> Result<Self, String> {
        let room = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let unique = blake3::hash(room.path().as_os_str().as_encoded_bytes()).to_hex();
        let dir = room.path().join(format!("drill-{stack}-{}", &unique[..6]));
        let mut instance = Self { stack, dir, facts: BTreeMap::new(), _room: room };
        instance.operate(&["make"])?;
        let facts = instance.operate(&["facts"])?.stdout;
        let pairs = facts.lines().filter_map(|line| line.split_once('='));
        instance.facts = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        instance.operate(&["up"])?;
        instance.operate(&["await"])?;
        Ok(instance)
    }

    /// The project's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `stack.sh` says of it; empty where it says nothing.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("", String::as_str)
    }

    /// Runs a verb of `fixtures/stacks/operate`, which must succeed.
    pub fn operate(&self, verb: &[&str]) -> Result<Run, String> {
        let mut command = Command::new(root().join("fixtures/stacks/operate"));
        command.arg(self.stack).arg(&self.dir).args(verb).stdin(Stdio::null());
        run(command, LIMIT)?.expect(&[0])
    }

    /// The handbook's own checks: `Err` with what failed.
    pub fn validate(&self) -> Result<(), String> {
        self.operate(&["validate"]).map(|_| ())
    }

    /// Waits until the handbook's checks pass.
    pub fn becomes_valid(&self) -> Result<(), String> {
        self.operate(&["await"]).map(|_| ())
    }

    /// Breaks it; the handbook's checks must then fail, or this does.
    pub fn break_it(&self, how: Break) -> Result<(), String> {
        self.operate(&["break", how.told().1])?;
        if how == Break::Newer {
            return self.becomes_valid();
        }
        // Containers notice within some intervals of their healthchecks.
        for _ in 0..60 {
            if self.validate().is_err() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Err(format!("{}: {} breaks nothing that `validate` sees", self.stack, how.told().1))
    }

    /// The containers of the project, by service, running or not.
    pub fn containers(&self) -> Result<Vec<serde_json::Value>, String> {
        let filter = format!("label=com.docker.compose.project={}", self.fact("PROJECT"));
        let ids = docker(&["ps", "-aq", "--filter", &filter])?;
        inspect("container", &ids)
    }

    /// The volumes of the project.
    pub fn volumes(&self) -> Result<Vec<serde_json::Value>, String> {
        let filter = format!("label=com.docker.compose.project={}", self.fact("PROJECT"));
        inspect("volume", &docker(&["volume", "ls", "-q", "--filter", &filter])?)
    }

    /// Each tag of an image that belongs to the project, with the image's id.
    pub fn tags(&self) -> Result<BTreeMap<String, String>, String> {
        let list = docker(&["image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"])?;
        let own = format!("{}-", self.fact("PROJECT"));
        let pairs = list.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.filter(|(tag, _)| tag.starts_with(&own)).map(|(tag, id)| (tag.to_owned(), id.to_owned())).collect())
    }

    /// What a command in the running container of `service` writes.
    pub fn exec(&self, service: &str, command: &[&str]) -> Result<String, String> {
        let project = format!("label=com.docker.compose.project={}", self.fact("PROJECT"));
        let service = format!("label=com.docker.compose.service={service}");
        let id = docker(&["ps", "-q", "--filter", &project, "--filter", &service])?;
        let id = id.lines().next().ok_or_else(|| format!("no running container with {service}"))?;
        docker(&[&["exec", id], command].concat())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::env::var_os("SNAP_DRILL_KEEP").is_none()
            && let Err(error) = self.operate(&["down"])
        {
            eprintln!("{} is not gone: {error}", self.dir.display());
        }
    }
}

/// What `docker` with `args` writes; it must succeed.
pub fn docker(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(args).stdin(Stdio::null());
    Ok(run(command, LIMIT)?.expect(&[0])?.stdout)
}

fn inspect(kind: &str, ids: &str) -> Result<Vec<serde_json::Value>, String> {
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = docker(&[&["inspect", "--type", kind], ids.as_slice()].concat())?;
    serde_json::from_str(&found).map_err(|error| format!("docker inspect: {error}"))
}

/// The repository's folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
