//! MariaDB and MySQL: each database by the server's own dump client in one transaction, users and grants
//! as the server shows them.
//!
//! Two sessions cannot share a snapshot here. So a third one holds up writers (`FLUSH TABLES WITH READ
//! LOCK`) from before the count's snapshot begins until the dump's first output has come, which is after
//! its own has begun; then both see the same rows. Where that lock is not had within seconds, or the user
//! may not take it, the rows are the dump's own and a warning says so.

use super::capture::{Found, dump_path, dumped};
use super::client::{Client, Talk};
use super::detect::Database;
use super::error::{Error, Result};
use super::store::Target;
use super::verify::{FoundTable, mariadb::Dump as Verifier};
use crate::monitor::Warning;
use crate::repo::manifest::Dump;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Longer than this no writer is kept waiting for the lock.
const LOCK_SECONDS: u32 = 5;
/// Databases that belong to the server.
const OWN: &str = "'information_schema','performance_schema','mysql','sys'";
/// Users that belong to the server.
const OWN_USERS: &str = "'mariadb.sys','mysql.sys','mysql.session','mysql.infoschema'";
/// Storage engines whose tables take part in transactions.
const TRANSACTIONAL: [&str; 4] = ["InnoDB", "ROCKSDB", "TokuDB", "SEQUENCE"];
/// The file of users and grants.
pub const USERS: &str = "users.sql";

/// The programs, and how they are called.
pub struct Tools<'a> {
    client: String,
    dump: String,
    user: &'a str,
    is_mariadb: bool,
}

/// Dumps the whole server.
pub fn capture(client: &Client<'_>, database: &Database, target: &mut Target<'_, '_>) -> Result<Found> {
    let service = &database.service;
    let mut tools = Tools::find(client, &database.user)?;
    let version = tools.query(client, service, "SELECT VERSION()")?.pop().unwrap_or_default();
    tools.is_mariadb &= version.contains("MariaDB");
    let version = version.split('-').next().unwrap_or_default().to_owned();
    let names =
        format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ({OWN}) ORDER BY 1");
    let names = tools.query(client, service, &names)?;
    let mut found = Found { version, dumps: vec![users(client, &tools, target)?], warnings: Vec::new() };
    for name in names {
        let subject = format!("{service}/{name}");
        let dump = one_database(client, &tools, target, &subject, &name, &mut found.warnings)?;
        found.dumps.push(dump);
    }
    Ok(found)
}

impl<'a> Tools<'a> {
    /// Looks for them in the container.
    pub fn find(client: &Client<'_>, user: &'a str) -> Result<Self> {
        let query = client.program(&["mariadb", "mysql"])?;
        let dump = client.program(&["mariadb-dump", "mysqldump"])?;
        let told = client.ask(&[&dump, "--version"], None)?;
        Ok(Self { client: query, dump, user, is_mariadb: told.contains("MariaDB") })
    }

    /// The client that takes statements from its input.
    pub fn query_argv(&self) -> Vec<String> {
        let mut argv = vec![self.client.clone(), format!("--user={}", self.user)];
        let options = ["--batch", "--skip-column-names", "--raw", "--unbuffered", "--skip-reconnect"];
        argv.extend(options.map(str::to_owned));
        argv.push("--default-character-set=utf8mb4".to_owned());
        argv
    }

    /// The lines that a statement gives.
    pub fn query(&self, client: &Client<'_>, subject: &str, sql: &str) -> Result<Vec<String>> {
        let text = client.ask_about(subject, &self.query_argv(), Some(&format!("{sql};\n")))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn dump_argv(&self, database: &str) -> Vec<String> {
        let mut argv = vec![self.dump.clone(), format!("--user={}", self.user)];
        let options = [
            "--single-transaction",
            "--quick",
            "--skip-dump-date",
            "--order-by-primary",
            "--routines",
            "--events",
            "--triggers",
            "--hex-blob",
            "--no-tablespaces",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
        ];
        argv.extend(options.map(str::to_owned));
        if !self.is_mariadb {
            argv.push("--set-gtid-purged=OFF".to_owned());
        }
        argv.extend(["--databases".to_owned(), "--".to_owned(), database.to_owned()]);
        argv
    }
}

/// Users, roles and grants as statements that can be given again.
fn users(client: &Client<'_>, tools: &Tools<'_>, target: &mut Target<'_, '_>) -> Result<Dump> {
    let subject = format!("{} (users)", client.service);
    let ask = |sql: &str| tools.query(client, &subject, sql);
    let quoted = "CONCAT(QUOTE(user), '@', QUOTE(host))";
    let roles = if tools.is_mariadb {
        ask("SELECT QUOTE(user) FROM mysql.user WHERE is_role = 'Y' ORDER BY 1")?
    } else {
        Vec::new()
    };
    let person = if tools.is_mariadb { "is_role = 'N' AND " } else { "" };
    let users = ask(&format!("SELECT {quoted} FROM mysql.user WHERE {person}user NOT IN ({OWN_USERS}) ORDER BY 1"))?;
    let mut text = "-- Users, roles and grants\n".to_owned();
    for role in &roles {
        text.push_str(&format!("CREATE ROLE IF NOT EXISTS {role};\n"));
    }
    // Hashes of MySQL hold bytes that are no text.
    let hex = if tools.is_mariadb { "" } else { "SET print_identified_with_as_hex = ON;\n" };
    for user in &users {
        for line in ask(&format!("{hex}SHOW CREATE USER {user}"))? {
            if let Some(rest) = line.strip_prefix("CREATE USER ") {
                text.push_str(&format!("CREATE USER IF NOT EXISTS {rest};\nALTER USER {rest};\n"));
            }
        }
    }
    for name in roles.iter().chain(&users) {
        for line in ask(&format!("SHOW GRANTS FOR {name}"))? {
            text.push_str(&format!("{line};\n"));
        }
    }
    text.push_str("-- Dump completed\n");
    target.store_text(USERS, text)?;
    Ok(Dump { file: USERS.to_owned(), database: String::new(), tables: Vec::new() })
}

/// The sessions that see one moment.
struct Moment<'a> {
    lock: Talk<'a>,
    count: Talk<'a>,
}

fn one_database(
    client: &Client<'_>,
    tools: &Tools<'_>,
    target: &mut Target<'_, '_>,
    subject: &str,
    name: &str,
    warnings: &mut Vec<Warning>,
) -> Result<Dump> {
    client.monitor.item(subject);
    let literal = name.replace('\\', "\\\\").replace('\'', "\\'");
    let list = format!(
        "SELECT table_name, COALESCE(engine, '') FROM information_schema.tables \
         WHERE table_schema = '{literal}' AND table_type = 'BASE TABLE' ORDER BY table_name"
    );
    let tables: BTreeMap<String, String> = tools
        .query(client, subject, &list)?
        .iter()
        .filter_map(|line| line.rsplit_once('\t'))
        .map(|(table, engine)| (table.to_owned(), engine.to_owned()))
        .collect();
    let apart: Vec<&str> =
        tables.iter().filter(|(_, engine)| !is_transactional(engine)).map(|(table, _)| table.as_str()).collect();
    if !apart.is_empty() {
        let message = format!("tables that know no transactions may be of other moments: {}", apart.join(", "));
        warnings.push(Warning::note(subject, message));
    }
    let mut moment = match one_moment(client, tools, subject) {
        Ok(moment) => Some(moment),
        Err(Error::Database { reason, .. }) => {
            let message = format!("its rows could not be counted at the moment of the dump: {reason}");
            warnings.push(Warning::note(subject, message));
            None
        }
        Err(other) => return Err(other),
    };
    let exec = client.start(subject, &tools.dump_argv(name), false)?;
    let file = dump_path(name, "sql");
    let counted = tables.into_iter().filter(|(_, engine)| is_transactional(engine)).map(|(table, _)| table);
    let counted: Vec<String> = counted.collect();
    let found = target.store(client, subject, &file, exec, |stream| {
        let (first, ended) = first_output(stream)?;
        let rows = match moment.take() {
            Some(moment) => match count_rows(client, moment, name, &counted) {
                Ok(rows) => Some(rows),
                Err(error) => return Ok(Err(reason(error))),
            },
            None => None,
        };
        let mut whole = first.as_slice().chain(stream.take(if ended { 0 } else { u64::MAX }));
        let verdict = super::verify::follow(Verifier::default(), &mut whole)?;
        Ok(verdict.and_then(|tables| agrees(&tables, rows.as_ref()).map(|()| tables)))
    })?;
    Ok(Dump { file, database: name.to_owned(), tables: found.iter().map(dumped).collect() })
}

/// True if tables of the storage engine take part in transactions.
pub fn is_transactional(engine: &str) -> bool {
    TRANSACTIONAL.iter().any(|known| known.eq_ignore_ascii_case(engine))
}

/// Holds up writers, and begins the snapshot in which rows are counted.
fn one_moment<'a>(client: &Client<'a>, tools: &Tools<'_>, subject: &str) -> Result<Moment<'a>> {
    let argv = tools.query_argv();
    let mut lock = Talk::begin(client, subject, &argv)?;
    let mut count = Talk::begin(client, subject, &argv)?;
    let hold =
        format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS};\nFLUSH TABLES WITH READ LOCK;\nSELECT '!held';\n");
    lock.ask(client, &hold, "!held")?;
    let begin = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n\
                 START TRANSACTION WITH CONSISTENT SNAPSHOT;\nSELECT '!begun';\n";
    count.ask(client, begin, "!begun")?;
    Ok(Moment { lock, count })
}

/// The dump's first output: it comes when more has been written than the words before the transaction.
fn first_output(stream: &mut dyn Read) -> io::Result<(Vec<u8>, bool)> {
    let mut buffer = vec![0; 64 << 10];
    let mut first = Vec::new();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((first, true)),
            Ok(count) => {
                first.extend_from_slice(&buffer[..count]);
                if memchr::memmem::find(&first, b"\nUSE `").is_some() || first.len() > 1 << 20 {
                    return Ok((first, false));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lets writers go on, and counts.
fn count_rows(
    client: &Client<'_>,
    moment: Moment<'_>,
    database: &str,
    tables: &[String],
) -> Result<BTreeMap<String, u64>> {
    let Moment { mut lock, mut count } = moment;
    lock.ask(client, "UNLOCK TABLES;\nSELECT '!free';\n", "!free")?;
    lock.end(client)?;
    let mut rows = BTreeMap::new();
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    for table in tables {
        let sql = format!("SELECT COUNT(*) FROM {}.{};\nSELECT '!counted';\n", quoted(database), quoted(table));
        let lines = count.ask(client, &sql, "!counted")?;
        let number = lines.last().and_then(|line| line.trim().parse().ok());
        let number = number.ok_or_else(|| Error::database(database, "the count of rows is not understood"))?;
        rows.insert(table.clone(), number);
    }
    count.end(client)?;
    Ok(rows)
}

/// The rows that the tables of a dump have now; those that are not there are left out.
pub fn counted_tables(
    client: &Client<'_>,
    tools: &Tools<'_>,
    subject: &str,
    dump: &Dump,
) -> Result<BTreeMap<String, u64>> {
    let literal = dump.database.replace('\\', "\\\\").replace('\'', "\\'");
    let list = format!("SELECT table_name FROM information_schema.tables WHERE table_schema = '{literal}'");
    let there = tools.query(client, subject, &list)?;
    let tables: Vec<&str> = dump
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .filter(|name| there.iter().any(|line| line == name))
        .collect();
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let one = |table: &&str| format!("SELECT COUNT(*) FROM {}.{}", quoted(&dump.database), quoted(table));
    let questions: Vec<String> = tables.iter().map(one).collect();
    let lines = if questions.is_empty() { Vec::new() } else { tools.query(client, subject, &questions.join(";\n"))? };
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line.trim().parse().ok()).collect();
    if numbers.len() != tables.len() {
        return Err(Error::database(subject, "the count of rows is not understood"));
    }
    Ok(tables.into_iter().map(str::to_owned).zip(numbers).collect())
}

fn reason(error: Error) -> String {
    match error {
        Error::Database { reason, .. } => reason,
        other => other.to_string(),
    }
}

/// The dump has every table that was counted, with as many rows.
fn agrees(tables: &[FoundTable], counted: Option<&BTreeMap<String, u64>>) -> std::result::Result<(), String> {
    for (name, rows) in counted.into_iter().flatten() {
        match tables.iter().find(|table| table.name == *name) {
            None => return Err(format!("table {name} is not in the dump")),
            Some(table) if table.rows != *rows => {
                return Err(format!("table {name} has {rows} rows, and {} of them are in the dump", table.rows));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
