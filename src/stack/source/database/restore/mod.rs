//! Loading a dump into a server of its own, in an empty data folder, before anything of the application is touched.
//!
//! A temporary container of the captured image, without a network, initialises the folder as the image does, takes
//! the dump, is asked for the rows of every table, and is stopped cleanly. Only then is the folder fit to take the
//! old one's place. Whatever fails leaves nothing but the folder that was to be thrown away anyway; done again it
//! needs an empty one.

mod mariadb;
mod mariadb_made;
mod mariadb_table;
mod postgresql;
mod postgresql_parts;
mod postgresql_table;
mod program;
pub(super) mod redis;
pub mod table;

use super::client::Client;
use super::detect::{Database, Kind, find};
use super::error::{Error, Result};
use super::settings::Settings;
use crate::docker::Engine;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::manifest::{DatabaseDetail, Detail, Dump, SourceEntry};
use crate::stack::source::content::FileContent;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

/// A server that initialises an empty folder may take this long.
const READY_LIMIT: Duration = Duration::from_secs(600);
const READY_STEP: Duration = Duration::from_millis(500);
/// A server that has just taken a dump may take this long to write it down.
const STOP_GRACE: Duration = Duration::from_secs(300);
/// Roles and grants of more bytes are not believed.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// The container that takes the dump.
#[derive(Clone, Default)]
pub struct Fresh {
    /// Its name: it is removed first if it is there, from a run that was interrupted.
    pub name: String,
    /// The captured image.
    pub image: String,
    /// The service's own environment, `NAME=value`, by which the image initialises the folder.
    pub env: Vec<String>,
    /// The service's own command; empty for the image's.
    pub command: Vec<String>,
    /// The service's own entrypoint; empty for the image's.
    pub entrypoint: Vec<String>,
    /// The user that it runs as; empty for the image's.
    pub user: String,
    /// Bytes of its shared memory; 0 for the engine's default.
    pub shm_bytes: u64,
    /// Seconds that a program that is not known here is given to stop; the engine's default if absent.
    pub stop_seconds: Option<u64>,
    /// What is mounted, as the engine takes it: the empty data folder, files with secrets.
    pub binds: Vec<String>,
    /// Labels by which it is known.
    pub labels: BTreeMap<String, String>,
    /// What the person says of the database.
    pub settings: Settings,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("binds", &self.binds)
            .finish()
    }
}

/// Removes the container on every way out.
struct Running<'a> {
    engine: &'a Engine,
    name: &'a str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Whoever comes next removes it first.
        let _left = self.engine.remove_container(self.name, true, true);
    }
}

/// Loads the dump of `source` into the empty data folder that `fresh` mounts, and proves it. Gives how many rows were
/// found, all tables together.
///
/// # Errors
/// The server does not start, the dump does not load whole, or a table has other rows than the manifest says: the
/// folder is of no use then.
pub fn load_fresh(
    engine: &Engine,
    repository: &Repository,
    source: &SourceEntry,
    fresh: &Fresh,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let subject = source.name.as_str();
    let Some(Detail::Database(detail)) = &source.detail else {
        return Err(Error::database(subject, "the snapshot holds no dump of it"));
    };
    if Kind::from_word(&detail.engine) == Some(Kind::Redis) {
        return redis::load(engine, repository, source, detail, fresh, monitor);
    }
    let running = begin(engine, subject, fresh, &fresh.command)?;
    let is_program = Kind::from_word(&detail.engine) == Some(Kind::Program);
    let database = if is_program { program::known(subject, fresh) } else { known(engine, subject, detail, fresh)? };
    let client = Client::new(engine, &fresh.name, &database, monitor)?;
    let load = Load { client: &client, repository, source, detail, database: &database };
    let rows = match database.kind {
        Kind::Postgresql => postgresql::load(&load),
        Kind::Mariadb | Kind::Mysql => mariadb::load(&load),
        Kind::Program => program::load(&load),
        Kind::Redis => Err(Error::database(subject, "it is loaded in another way")),
    }?;
    if is_program {
        // How it ends when it is stopped, nobody knows.
        let grace = fresh.stop_seconds.map(Duration::from_secs);
        engine.stop(&fresh.name, grace, monitor).map_err(|error| Error::engine(subject, &error))?;
    } else {
        end(engine, subject, fresh, monitor)?;
    }
    drop(running);
    Ok(rows)
}

/// Starts the container, after one that an interrupted run has left was removed.
fn begin<'a>(engine: &'a Engine, subject: &str, fresh: &'a Fresh, command: &[String]) -> Result<Running<'a>> {
    create(engine, subject, fresh, command)?;
    let running = Running { engine, name: &fresh.name };
    engine.start(&fresh.name).map_err(|error| Error::engine(subject, &error))?;
    Ok(running)
}

fn create(engine: &Engine, subject: &str, fresh: &Fresh, command: &[String]) -> Result<()> {
    let failed = |error| Error::engine(subject, &error);
    match engine.remove_container(&fresh.name, true, true) {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(failed(error)),
    }
    let mut description = json!({
        "Image": fresh.image, "Env": fresh.env, "Labels": fresh.labels,
        "HostConfig": { "NetworkMode": "none", "Binds": fresh.binds, "RestartPolicy": { "Name": "no" } },
    });
    if !command.is_empty() {
        description["Cmd"] = json!(command);
    }
    if !fresh.entrypoint.is_empty() {
        description["Entrypoint"] = json!(fresh.entrypoint);
    }
    if !fresh.user.is_empty() {
        description["User"] = json!(fresh.user);
    }
    if fresh.shm_bytes > 0 {
        description["HostConfig"]["ShmSize"] = json!(fresh.shm_bytes);
    }
    engine.create_container(&fresh.name, &description).map(drop).map_err(failed)
}

/// How the server in the container is entered.
fn known(engine: &Engine, subject: &str, detail: &DatabaseDetail, fresh: &Fresh) -> Result<Database> {
    let container = engine.container(&fresh.name).map_err(|error| Error::engine(subject, &error))?;
    let settings = Settings { database: Some(detail.engine.clone()), dump: None, ..fresh.settings.clone() };
    match find(&container, &settings) {
        Ok(Some(mut database)) => {
            database.service = subject.to_owned();
            Ok(database)
        }
        Ok(None) => Err(Error::database(subject, "it is no database that is known here")),
        Err(reason) => Err(Error::database(subject, reason)),
    }
}

/// Waits until `ready` says so. The server may be started twice: first to initialise its folder, without listening.
fn wait_until(client: &Client<'_>, ready: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    let mut last = String::new();
    loop {
        match ready() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(Error::Database { reason, .. }) => last = reason,
            Err(other) => return Err(other),
        }
        let container = client.engine.container(client.container);
        let container = container.map_err(|error| Error::engine(client.service, &error))?;
        if !container.state.is_up() || begun.elapsed() > READY_LIMIT {
            let log = client.engine.logs(client.container, 5, client.monitor).unwrap_or_default();
            let what = if container.state.is_up() { "does not answer" } else { "does not start" };
            let told = client.told(&log);
            return Err(Error::database(client.service, format!("the new server {what}: {last}; its log: {told}")));
        }
        std::thread::sleep(READY_STEP);
    }
}

/// Stops the server, which must end well: what it holds is on its disk then.
fn end(engine: &Engine, subject: &str, fresh: &Fresh, monitor: &dyn Monitor) -> Result<()> {
    let failed = |error| Error::engine(subject, &error);
    engine.stop(&fresh.name, Some(STOP_GRACE), monitor).map_err(failed)?;
    let code = engine.wait(&fresh.name, Some(STOP_GRACE), monitor).map_err(failed)?;
    if code != 0 {
        return Err(Error::database(subject, format!("the new server did not end well (exit code {code})")));
    }
    Ok(())
}

/// One dump on its way into a new server.
struct Load<'a> {
    client: &'a Client<'a>,
    repository: &'a Repository,
    source: &'a SourceEntry,
    detail: &'a DatabaseDetail,
    database: &'a Database,
}

impl Load<'_> {
    fn subject(&self, dump: &Dump) -> String {
        if dump.database.is_empty() {
            self.source.name.clone()
        } else {
            format!("{}/{}", self.source.name, dump.database)
        }
    }

    fn content(&self, file: &str) -> Result<FileContent<'_>> {
        Ok(FileContent::of(self.repository, &self.source.tree, file.as_bytes(), 1)?)
    }

    /// A short file as a text.
    fn text(&self, file: &str) -> Result<String> {
        let mut text = String::new();
        let read = self.content(file)?.take(TEXT_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| Error::database(&self.source.name, format!("{file} cannot be read: {error}")))?;
        Ok(text)
    }

    /// Gives a whole input to a client, which must take all of it and end well.
    fn feed(&self, subject: &str, argv: &[String], input: &mut (dyn Read + Send)) -> Result<()> {
        let output =
            self.client.engine.run(self.client.container, &self.client.spec(argv), Some(input), self.client.monitor);
        let output = output.map_err(|error| Error::engine(subject, &error))?;
        if output.exit_code != 0 {
            let program = argv.first().map_or("", String::as_str);
            return Err(Error::database(subject, self.client.failure(program, output.exit_code, &output.stderr)));
        }
        Ok(())
    }
}

/// Every table has as many rows as the manifest says; gives all of them.
fn prove(subject: &str, dump: &Dump, found: &BTreeMap<String, u64>) -> Result<u64> {
    for table in &dump.tables {
        match found.get(&table.name) {
            Some(rows) if *rows == table.rows => {}
            Some(rows) => {
                let reason = format!("table {} has {rows} rows after loading, and had {}", table.name, table.rows);
                return Err(Error::database(subject, reason));
            }
            None => return Err(Error::database(subject, format!("table {} is not there after loading", table.name))),
        }
    }
    Ok(dump.tables.iter().map(|table| table.rows).sum())
}
