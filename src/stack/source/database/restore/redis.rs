//! Redis: its dump is put into the folder, and a server that reads nothing else proves it.
//!
//! A server that appends every write to a log reads only that log and ignores the dump: so if the service does that,
//! the log is made from the dump before the folder is handed over.

use super::super::client::Client;
use super::super::error::{Error, Result};
use super::super::redis::FILE;
use super::super::verify::redis::walk;
use super::{Fresh, begin, create, end, known, wait_until};
use crate::docker::Engine;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::manifest::{DatabaseDetail, SourceEntry};
use crate::stack::source::content::FileContent;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Loads the dump, and gives the keys.
pub fn load(
    engine: &Engine,
    repository: &Repository,
    source: &SourceEntry,
    detail: &DatabaseDetail,
    fresh: &Fresh,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let subject = source.name.as_str();
    // Keys with a time to live may be gone by the time they are counted.
    let mut content = FileContent::of(repository, &source.tree, FILE.as_bytes(), 1)?;
    let mut bytes = 0;
    let judged = walk(&mut content, &mut |part| {
        bytes += part.len() as u64;
        Ok(())
    });
    let keys = judged
        .map_err(|error| Error::database(subject, format!("its dump cannot be read: {error}")))?
        .map_err(|reason| Error::database(subject, reason))?;
    let appends = appends(engine, subject, detail, fresh, monitor)?;
    let database = {
        create(engine, subject, fresh, &[])?;
        known(engine, subject, detail, fresh)?
    };
    let folder = database.data.display().to_string();
    let dump = FileContent::of(repository, &source.tree, FILE.as_bytes(), 1)?;
    let mut archive = archive(bytes, dump).map_err(|error| Error::database(subject, error.to_string()))?;
    engine
        .write_archive(&fresh.name, &folder, &mut archive, monitor)
        .map_err(|error| Error::engine(subject, &error))?;
    let words = ["redis-server", "--dir", &folder, "--dbfilename", FILE, "--appendonly", "no", "--save", ""];
    let command: Vec<String> = words.map(str::to_owned).to_vec();
    let running = begin(engine, subject, fresh, &command)?;
    let mut database = known(engine, subject, detail, fresh)?;
    // This server asks nobody for a password.
    database.password = super::super::detect::Password::None;
    let client = Client::new(engine, &fresh.name, &database, monitor)?;
    let cli = client.program(&["redis-cli", "valkey-cli", "keydb-cli"])?;
    let ask = |words: &[&str]| {
        let argv: Vec<&str> = std::iter::once(cli.as_str()).chain(words.iter().copied()).collect();
        client.ask(&argv, None)
    };
    wait_until(&client, || Ok(ask(&["INFO", "persistence"])?.contains("loading:0")))?;
    let found = keyspace(&ask(&["INFO", "keyspace"])?);
    let mut all = 0;
    for table in &keys.tables {
        let has = found.get(&table.name).copied().unwrap_or(0);
        let least = table.rows - keys.volatile.get(&table.name).copied().unwrap_or(0).min(table.rows);
        if has < least || has > table.rows {
            let reason = format!("{} has {has} keys after loading, and had {}", table.name, table.rows);
            return Err(Error::database(subject, reason));
        }
        all += has;
    }
    if appends {
        ask(&["CONFIG", "SET", "appendonly", "yes"])?;
        wait_until(&client, || {
            let state = ask(&["INFO", "persistence"])?;
            Ok(state.contains("aof_rewrite_in_progress:0") && state.contains("aof_rewrite_scheduled:0"))
        })?;
    }
    end(engine, subject, fresh, monitor)?;
    drop(running);
    Ok(all)
}

/// How many keys each of the server's databases has, by what it says of them.
pub fn keyspace(text: &str) -> BTreeMap<String, u64> {
    let count = |line: &str| {
        let (name, rest) = line.trim().split_once(":keys=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    text.lines().filter_map(count).collect()
}

/// Whether the service's own server keeps a log of its writes.
fn appends(
    engine: &Engine,
    subject: &str,
    detail: &DatabaseDetail,
    fresh: &Fresh,
    monitor: &dyn Monitor,
) -> Result<bool> {
    // In a folder of its own, so that nothing is left in the new one.
    let own = Fresh { binds: Vec::new(), ..fresh.clone() };
    let running = begin(engine, subject, &own, &fresh.command)?;
    let database = known(engine, subject, detail, fresh)?;
    let client = Client::new(engine, &fresh.name, &database, monitor)?;
    let cli = client.program(&["redis-cli", "valkey-cli", "keydb-cli"])?;
    wait_until(&client, || Ok(client.ask(&[cli.as_str(), "PING"], None)?.contains("PONG")))?;
    let answer = client.ask(&[cli.as_str(), "CONFIG", "GET", "appendonly"], None)?;
    drop(running);
    Ok(answer.lines().any(|line| line.trim() == "yes"))
}

/// An archive with the dump alone.
fn archive<'a>(bytes: u64, dump: FileContent<'a>) -> io::Result<impl Read + 'a> {
    let mut header = tar::Header::new_ustar();
    header.set_path(FILE)?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let padding = (512 - bytes % 512) % 512 + 1024;
    let head = io::Cursor::new(header.as_bytes().to_vec());
    Ok(head.chain(dump).chain(io::repeat(0).take(padding)))
}
