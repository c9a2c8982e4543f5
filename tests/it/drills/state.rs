//! What an application is at a moment, and whether it is that again: files and volumes with owners, modes and times,
//! images and tags, containers as they were set up, every database's content, and that all of it runs and is healthy.

use super::instance::Instance;
use super::rows::{self, Answers};
use crate::compare;
use crate::snap::copy_folder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An application at one moment.
pub struct State {
    room: tempfile::TempDir,
    volumes: BTreeMap<String, Volume>,
    containers: BTreeMap<String, Container>,
    tags: BTreeMap<String, String>,
    rows: Answers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    driver: String,
    labels: Value,
    options: Value,
    owner: (u32, u32, u32),
    path: PathBuf,
}

/// What matters of a container: how it was set up, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Container {
    image: Value,
    image_name: Value,
    environment: Vec<String>,
    mounts: Vec<String>,
    ports: Value,
    addresses: BTreeMap<String, Value>,
    restart: Value,
    config_hash: Value,
    running: Value,
    health: Value,
}

/// How much there is to compare.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// Files, folders and links of the project and of its volumes.
    pub files: usize,
    pub volumes: usize,
    pub containers: usize,
    pub tags: usize,
    /// Tables, each with all its rows.
    pub tables: usize,
    /// What else the servers were asked: columns, indexes, functions, roles, grants.
    pub answers: usize,
}

impl State {
    /// How much of it is compared.
    pub fn compared(&self) -> Compared {
        let tables = self.rows.keys().filter(|what| what.contains("rows of ")).count();
        Compared {
            files: compare::paths(self.room.path()).len(),
            volumes: self.volumes.len(),
            containers: self.containers.len(),
            tags: self.tags.len(),
            tables,
            answers: self.rows.len() - tables,
        }
    }

    /// Writes down how the application is now; the files of it that are no database's are copied.
    pub fn of(instance: &Instance) -> Result<Self, String> {
        let room = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        copy_folder(instance.dir(), &room.path().join("project"))?;
        let volumes = volumes(instance)?;
        for (name, volume) in &volumes {
            if !is_database(instance, name) {
                copy_folder(&volume.path, &room.path().join(name))?;
            }
        }
        Ok(Self { room, volumes, containers: containers(instance)?, tags: instance.tags()?, rows: rows::of(instance)? })
    }

    /// How the application differs now from what it was. Empty: it is the same, and runs.
    pub fn differences(&self, instance: &Instance) -> Vec<String> {
        let mut found = Vec::new();
        self.files(instance, &mut found);
        match volumes(instance) {
            Ok(now) => differ("volume", &self.volumes, &now, &mut found),
            Err(error) => found.push(format!("volumes: {error}")),
        }
        match containers(instance) {
            Ok(now) => differ("container", &self.containers, &now, &mut found),
            Err(error) => found.push(format!("containers: {error}")),
        }
        match instance.tags() {
            Ok(now) => differ("tag", &self.tags, &now, &mut found),
            Err(error) => found.push(format!("tags: {error}")),
        }
        match rows::of(instance) {
            Ok(now) => differ("database", &self.rows, &now, &mut found),
            Err(error) => found.push(format!("database: {error}")),
        }
        found
    }

    fn files(&self, instance: &Instance, found: &mut Vec<String>) {
        let database = instance.fact("DB_FILE");
        for difference in compare::compare(&self.room.path().join("project"), instance.dir()) {
            // What a database's file holds is compared by SQL; the time of the project's own folder changes with every
            // file that is put beside another.
            let by_sql = !database.is_empty()
                && difference.path == database
                && ["content", "size", "mtime", "sparse"].contains(&difference.what);
            if !by_sql && (difference.path.as_str(), difference.what) != (".", "mtime") {
                found.push(format!("file {difference}"));
            }
        }
        for (name, volume) in self.volumes.iter().filter(|(name, _)| !is_database(instance, name)) {
            let differences = compare::compare(&self.room.path().join(name), &volume.path);
            found.extend(differences.iter().map(|difference| format!("volume {name}: {difference}")));
        }
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(
    what: &str,
    then: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    found: &mut Vec<String>,
) {
    for (name, was) in then {
        match now.get(name) {
            None => found.push(format!("{what} {name}: is gone")),
            Some(is) if is != was => found.push(format!("{what} {name}:\n    was {was:?}\n    is  {is:?}")),
            Some(_) => {}
        }
    }
    found.extend(
        now.keys().filter(|name| !then.contains_key(*name)).map(|name| format!("{what} {name}: was not there")),
    );
}

/// The files of a server's volume are its own business: what they hold is asked by SQL.
fn is_database(instance: &Instance, volume: &str) -> bool {
    let own = instance.fact("DB_VOLUME");
    (!own.is_empty() && volume.ends_with(own)) || volume.ends_with("redis_data")
}

fn volumes(instance: &Instance) -> Result<BTreeMap<String, Volume>, String> {
    let mut found = BTreeMap::new();
    for volume in instance.volumes()? {
        let text = |field: &str| volume[field].as_str().unwrap_or_default().to_owned();
        let path = PathBuf::from(text("Mountpoint"));
        let owner = owner(&path)?;
        let facts = Volume {
            driver: text("Driver"),
            labels: volume["Labels"].clone(),
            options: volume["Options"].clone(),
            owner,
            path,
        };
        found.insert(text("Name"), facts);
    }
    Ok(found)
}

fn owner(path: &Path) -> Result<(u32, u32, u32), String> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((found.uid(), found.gid(), found.mode() & 0o7777))
}

fn containers(instance: &Instance) -> Result<BTreeMap<String, Container>, String> {
    let mut found = BTreeMap::new();
    for container in instance.containers()? {
        let name = container["Name"].as_str().unwrap_or_default().to_owned();
        found.insert(name, facts(&container));
    }
    Ok(found)
}

fn facts(container: &Value) -> Container {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let labels = &container["Config"]["Labels"];
    // Version 1 of Compose tells a Swarm which container it recreated: no setting of the application's.
    let by_v1 = labels["com.docker.compose.version"].as_str().is_some_and(|version| version.starts_with("1."));
    let environment = list(&container["Config"]["Env"]);
    let environment = environment.iter().map(|line| line.as_str().unwrap_or_default().to_owned());
    let mut environment: Vec<String> =
        environment.filter(|line| !(by_v1 && line.starts_with("affinity:container=="))).collect();
    environment.sort();
    let mount =
        |mount: &Value| format!("{} {} {} {}", mount["Type"], mount["Source"], mount["Destination"], mount["RW"]);
    let mut mounts: Vec<String> = list(&container["Mounts"]).iter().map(mount).collect();
    mounts.sort();
    let networks = container["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
    // An address that nobody chose may be another. That nobody chose one is written as nothing, or as a choice of
    // nothing.
    let chosen = |network: &Value| match &network["IPAMConfig"] {
        Value::Object(fields) if fields.is_empty() => Value::Null,
        chosen => chosen.clone(),
    };
    let addresses = networks.into_iter().map(|(name, network)| (name, chosen(&network))).collect();
    Container {
        image: container["Image"].clone(),
        image_name: container["Config"]["Image"].clone(),
        environment,
        mounts,
        ports: container["HostConfig"]["PortBindings"].clone(),
        addresses,
        restart: container["HostConfig"]["RestartPolicy"].clone(),
        config_hash: labels["com.docker.compose.config-hash"].clone(),
        running: container["State"]["Running"].clone(),
        health: container["State"]["Health"]["Status"].clone(),
    }
}

#[test]
fn how_compose_recreates_a_container_is_no_difference_and_what_it_is_set_up_with_is() {
    use serde_json::json;
    let container = |version: &str, environment: &[&str], network: Value| {
        facts(&json!({
            "Config": { "Env": environment, "Labels": { "com.docker.compose.version": version } },
            "NetworkSettings": { "Networks": { "app_default": { "IPAMConfig": network } } },
        }))
    };
    let affinity = "affinity:container==0b5c1d";
    let first = container("1.29.2", &["PASSWORD=x"], json!({}));
    assert_eq!(first, container("1.29.2", &["PASSWORD=x", affinity], Value::Null));
    assert_ne!(first, container("1.29.2", &["PASSWORD=y", affinity], Value::Null));
    assert_ne!(first, container("1.29.2", &["PASSWORD=x", "affinity:label==disk=ssd"], Value::Null));
    assert_ne!(first, container("2.26.1", &["PASSWORD=x", affinity], Value::Null));
    let chosen = |address: &str| container("1.29.2", &["PASSWORD=x"], json!({ "IPv4Address": address }));
    assert_ne!(first, chosen("172.30.20.60"));
    assert_ne!(chosen("172.30.20.61"), chosen("172.30.20.60"));
}
