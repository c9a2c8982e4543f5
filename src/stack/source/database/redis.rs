//! Redis and Valkey: a fresh RDB of one moment, as a replica would get it.
//!
//! The server forks and streams what it had at that moment; nothing is written to its disk, and the age
//! of its last save does not matter.

use super::capture::{Found, dumped};
use super::client::Client;
use super::detect::Database;
use super::error::{Error, Result};
use super::store::Target;
use super::verify::redis::{verdict, walk};
use crate::repo::manifest::Dump;

/// The file that the dump becomes, as the server itself names it.
pub const FILE: &str = "dump.rdb";

/// Asks the server for its keys.
pub fn capture(client: &Client<'_>, database: &Database, target: &mut Target<'_, '_>) -> Result<Found> {
    let subject = &database.service;
    let cli = client.program(&["redis-cli", "valkey-cli", "keydb-cli"])?;
    let info = client.ask(&[cli.as_str(), "INFO"], None)?;
    let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    // Errors of the server come with exit code 0.
    let Some(version) = field("redis_version") else {
        let told = client.told(&info);
        return Err(Error::database(subject, format!("the server does not say what it is: {told}")));
    };
    if field("loading").is_some_and(|loading| loading != "0") {
        return Err(Error::database(subject, "the server is still loading its data"));
    }
    let exec = client.start(subject, &[cli.as_str(), "--rdb", "-"], false)?;
    let tables = target.store(client, subject, FILE, exec, |stream| {
        let (source, mut pass) = stream.pass_by_hand();
        Ok(verdict(walk(source, &mut pass)?))
    })?;
    let tables = tables.iter().map(dumped).collect();
    let dumps = vec![Dump { file: FILE.to_owned(), database: String::new(), tables }];
    Ok(Found { version: version.to_owned(), dumps, warnings: Vec::new() })
}
