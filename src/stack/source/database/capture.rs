//! Capturing one database as a source of a snapshot.

use super::client::Client;
use super::detect::{Database, Kind};
use super::error::{Error, Result};
use super::store::Target;
use super::{Server, mariadb, postgresql, program, redis};
use crate::docker::{Container, Engine, Status};
use crate::monitor::{Monitor, Warning};
use crate::repo::Repository;
use crate::repo::entry::Time;
use crate::repo::manifest::{Authority, DatabaseDetail, Detail, Dump, DumpedTable, Level, SourceEntry, SourceKind};
use crate::repo::needs::Needs;
use crate::repo::writer::{PackRef, Session};
use crate::stack::capture::stream::store_tree;

/// Where a dump goes, and how.
pub struct Into<'a, 'r> {
    /// The repository.
    pub repository: &'a Repository,
    /// The run that adds to it.
    pub session: &'a Session<'r>,
    /// Threads that compress.
    pub workers: usize,
    /// When the capture began.
    pub time: Time,
}

/// A database's dump in the repository.
#[derive(Debug)]
pub struct Captured {
    /// The source for the manifest.
    pub source: SourceEntry,
    /// What the person should know; none of it makes the snapshot incomplete.
    pub warnings: Vec<Warning>,
}

/// What an engine's own capture found.
pub struct Found {
    pub version: String,
    pub dumps: Vec<Dump>,
    pub warnings: Vec<Warning>,
}

/// Dumps the database of a running container into the session, and adds the segments it needs to
/// `needs` once all of it is whole.
///
/// # Errors
/// [`Error::Database`]: nothing of it is in the snapshot, which is then incomplete; the rest may go on.
/// Any other concerns the repository, or the person wants to stop.
pub fn capture(
    engine: &Engine,
    container: &Container,
    database: &Database,
    into: &Into<'_, '_>,
    needs: &mut Needs<PackRef>,
    monitor: &dyn Monitor,
) -> Result<Captured> {
    let service = &database.service;
    match container.state.status {
        Status::Running => {}
        Status::Paused => return Err(Error::database(service, "its container is paused: the server cannot answer")),
        _ => return Err(Error::database(service, "its container does not run")),
    }
    let client = Client::new(engine, &container.id, database, monitor)?;
    let mut own = Needs::default();
    let mut target = Target {
        repository: into.repository,
        session: into.session,
        workers: into.workers,
        needs: &mut own,
        time: into.time,
        monitor,
        entries: Vec::new(),
        bytes: 0,
        bytes_new: 0,
    };
    let found = match database.kind {
        Kind::Postgresql => postgresql::capture(&client, database, &mut target),
        Kind::Mariadb | Kind::Mysql => mariadb::capture(&client, database, &mut target),
        Kind::Redis => redis::capture(&client, database, &mut target),
        Kind::Program => program::capture(&client, database, &mut target),
    }?;
    Server::of(engine, container, &database.data).store(service, &mut target)?;
    let (bytes, new_bytes, entries, folder) =
        (target.bytes, target.bytes_new, std::mem::take(&mut target.entries), target.meta(0o700));
    let files = entries.len() as u64;
    let (tree, entries) = store_tree(into.session, entries, &folder, &mut own)?;
    needs.absorb(&own, |pack| pack);
    let detail = DatabaseDetail {
        engine: database.kind.word().to_owned(),
        version: found.version,
        service: service.clone(),
        authority: Authority::Dump,
        dumps: found.dumps,
    };
    let source = SourceEntry {
        kind: SourceKind::Database,
        name: service.clone(),
        root: container.name.clone(),
        level: Level::Dump,
        tree,
        entries,
        files,
        bytes,
        new_bytes,
        sqlite: Vec::new(),
        rules: None,
        detail: Some(Detail::Database(detail)),
    };
    Ok(Captured { source, warnings: found.warnings })
}

/// A table for the manifest.
pub fn dumped(table: &super::verify::FoundTable) -> DumpedTable {
    let place = table.bytes > 0;
    DumpedTable {
        name: table.full_name(),
        rows: table.rows,
        offset: place.then_some(table.offset),
        bytes: place.then_some(table.bytes),
    }
}

/// The path of a database's dump in the tree: what a file's name cannot hold is written as `%41`.
pub fn dump_path(database: &str, extension: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || byte >= 0x80;
    let mut name = Vec::new();
    for (at, byte) in database.bytes().enumerate() {
        if plain(byte) || (byte == b'.' && at > 0) {
            name.push(byte);
        } else {
            name.extend(format!("%{byte:02X}").bytes());
        }
    }
    format!("databases/{}.{extension}", String::from_utf8_lossy(&name))
}
