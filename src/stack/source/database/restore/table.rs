//! One table alone, from its place in the dump, into the server that runs, so that the table has exactly its captured
//! rows afterwards or is as it was. No other table is touched: neither triggers nor foreign keys act, and where rows of one
//! table would then refer to rows that are not there, nothing is done.
//!
//! A table that is there is filled, in one transaction of the server. One that is gone is made again as the dump makes it,
//! with its indexes, conditions, triggers, sequences, owner and grants: by PostgreSQL in the same transaction; by MariaDB and
//! MySQL, whose transactions cannot make tables, under another name, which the table has until all is proven.
//!
//! A table that has other columns by now cannot be filled; it comes back with its database.

use super::super::client::Client;
use super::super::detect::{Database, Kind};
use super::super::error::{Error, Result};
use super::super::{mariadb, postgresql};
use super::{TEXT_BYTES_MAX, mariadb_made, mariadb_table, postgresql_table};
use crate::docker::Engine;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::manifest::{Dump, DumpedTable, SourceEntry};
use crate::stack::source::content::FileContent;
use std::io::Read;

/// What a dump has beside rows is not believed to be longer.
const OUTLINE_BYTES_MAX: u64 = TEXT_BYTES_MAX;

/// A table on its way back.
pub struct Table<'a> {
    /// The source that holds the dump.
    pub source: &'a SourceEntry,
    /// The dump.
    pub dump: &'a Dump,
    /// The table in it.
    pub table: &'a DumpedTable,
}

/// What is said around the rows, and who takes it in.
pub(super) struct Words {
    /// The client; its name is the last word that begins with a slash.
    pub argv: Vec<String>,
    /// Before the rows.
    pub before: Vec<u8>,
    /// After them.
    pub after: Vec<u8>,
    /// The table into which MariaDB's rows go instead of the one that their statements name.
    pub renamed: Option<(String, String)>,
}

/// True if the running server has the table.
///
/// # Errors
/// The server does not answer, or has no tables that come back alone.
pub fn is_there(
    engine: &Engine,
    container: &str,
    database: &Database,
    wanted: &Table<'_>,
    monitor: &dyn Monitor,
) -> Result<bool> {
    let client = Client::new(engine, container, database, monitor)?;
    let subject = wanted.subject();
    match database.kind {
        Kind::Postgresql => {
            let tools = postgresql::Tools::find(&client, &database.user)?;
            postgresql_table::is_there(&client, &tools, wanted)
        }
        Kind::Mariadb | Kind::Mysql => {
            let tools = mariadb::Tools::find(&client, &database.user)?;
            Ok(mariadb_table::engine_of(&client, &tools, wanted, &subject)?.is_some())
        }
        Kind::Redis | Kind::Program => Err(Error::database(&subject, "it has no tables that come back alone")),
    }
}

/// Puts the rows of a table in place of those that it has in the running server, or makes the table again; gives how many
/// rows there are now.
///
/// # Errors
/// The table is as it was: the dump cannot be read, the server refuses, or rows would refer to others that are not there.
pub fn load_table(
    engine: &Engine,
    container: &str,
    repository: &Repository,
    database: &Database,
    wanted: &Table<'_>,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let client = Client::new(engine, container, database, monitor)?;
    let subject = wanted.subject();
    let words = match database.kind {
        Kind::Postgresql => {
            let tools = postgresql::Tools::find(&client, &database.user)?;
            postgresql_table::words(&client, &tools, repository, wanted, &subject)?
        }
        Kind::Mariadb | Kind::Mysql => {
            let tools = mariadb::Tools::find(&client, &database.user)?;
            mariadb_table::words(&client, &tools, repository, wanted, &subject)?
        }
        Kind::Redis | Kind::Program => return Err(Error::database(&subject, "it has no tables that come back alone")),
    };
    let rows = place(repository, wanted)?;
    let rows: Box<dyn Read + Send + '_> = match &words.renamed {
        Some((from, to)) => Box::new(mariadb_made::Renamed::new(rows, from, to)),
        None => rows,
    };
    let mut input = words.before.as_slice().chain(rows).chain(words.after.as_slice());
    let output = engine.run(container, &client.spec(&words.argv), Some(&mut input), monitor);
    let output = output.map_err(|error| Error::engine(&subject, &error))?;
    if output.exit_code != 0 {
        let program = words.argv.iter().rev().find(|word| word.starts_with('/')).map_or("", String::as_str);
        let told = client.failure(program, output.exit_code, &output.stderr);
        return Err(Error::database(&subject, format!("{}; the table is as it was", mariadb_table::explained(told))));
    }
    Ok(wanted.table.rows)
}

impl Table<'_> {
    fn subject(&self) -> String {
        format!("{}/{}/{}", self.source.name, self.dump.database, self.table.name)
    }
}

/// A part of a dump.
pub(super) enum Part<'a> {
    /// What is no row.
    Bytes(&'a [u8]),
    /// Here the rows of the wanted table are.
    Rows,
}

/// Reads what a dump has beside its rows.
pub(super) fn outline(repository: &Repository, wanted: &Table<'_>, take: &mut dyn FnMut(Part<'_>)) -> Result<()> {
    let mut content = from(repository, wanted, 0)?;
    let mut places: Vec<(u64, u64)> =
        wanted.dump.tables.iter().filter_map(|table| Some((table.offset?, table.bytes?))).collect();
    places.sort_unstable();
    let (mut at, mut taken) = (0, 0);
    for (offset, bytes) in places.into_iter().map(Some).chain([None]).map(|place| place.unwrap_or((u64::MAX, 0))) {
        let mut part = (&mut content).take(offset.saturating_sub(at));
        let mut buffer = vec![0; 64 << 10];
        loop {
            match part.read(&mut buffer).map_err(|error| unread(wanted, &error))? {
                0 => break,
                count => take(Part::Bytes(&buffer[..count])),
            }
            taken += buffer.len() as u64;
            if taken > OUTLINE_BYTES_MAX {
                return Err(Error::database(&wanted.source.name, "its dump has too much beside its rows"));
            }
        }
        if offset == u64::MAX {
            break;
        }
        if wanted.table.offset == Some(offset) {
            take(Part::Rows);
        }
        content.skip(bytes).map_err(|error| unread(wanted, &error))?;
        at = offset + bytes;
    }
    Ok(())
}

/// The rows as they are in the dump.
fn place<'r>(repository: &'r Repository, wanted: &Table<'_>) -> Result<Box<dyn Read + Send + 'r>> {
    let (Some(offset), Some(bytes)) = (wanted.table.offset, wanted.table.bytes) else {
        return Ok(Box::new(std::io::empty()));
    };
    Ok(Box::new(from(repository, wanted, offset)?.take(bytes)))
}

fn from<'r>(repository: &'r Repository, wanted: &Table<'_>, offset: u64) -> Result<FileContent<'r>> {
    let mut content = FileContent::of(repository, &wanted.source.tree, wanted.dump.file.as_bytes(), 1)?;
    content.skip(offset).map_err(|error| unread(wanted, &error))?;
    Ok(content)
}

/// A short part of the dump as a text.
pub(super) fn text(repository: &Repository, wanted: &Table<'_>, offset: u64, bytes: u64) -> Result<String> {
    let mut found = Vec::new();
    from(repository, wanted, offset)?.take(bytes).read_to_end(&mut found).map_err(|error| unread(wanted, &error))?;
    Ok(String::from_utf8_lossy(&found).into_owned())
}

fn unread(wanted: &Table<'_>, error: &std::io::Error) -> Error {
    Error::database(&wanted.source.name, format!("{} cannot be read: {error}", wanted.dump.file))
}
