//! PostgreSQL: roles by `pg_dumpall --globals-only`, each database by `pg_dump --create`.
//!
//! For each database a transaction is opened that exports its snapshot and counts the rows of every
//! table; `pg_dump` dumps that very snapshot. Databases have snapshots of their own, a few moments
//! apart: the server cannot share one among them.

use super::capture::{Found, dump_path, dumped};
use super::client::{Client, Talk};
use super::detect::Database;
use super::error::{Error, Result};
use super::store::{Target, following};
use super::verify::{FoundTable, postgresql::Dump as Verifier};
use crate::monitor::Warning;
use crate::repo::manifest::Dump;

/// A lock that is not had in this time ends the dump, which names the table.
const LOCK_WAIT: &str = "60s";
const LOCK_WAIT_MILLISECONDS: &str = "60000";

/// The programs and arguments that all calls share.
pub struct Tools<'a> {
    psql: String,
    pg_dump: String,
    pg_dumpall: String,
    user: &'a str,
    /// `--restrict-key=…`, where the client knows it.
    restrict: Option<String>,
}

/// Dumps the whole server.
pub fn capture(client: &Client<'_>, database: &Database, target: &mut Target<'_, '_>) -> Result<Found> {
    let mut tools = Tools::find(client, &database.user)?;
    let knows = client.ask(&[&tools.pg_dump, "--help"], None)?.contains("--restrict-key");
    tools.restrict = knows.then(|| format!("--restrict-key={}", restrict_key(target, &database.service)));
    let first = first_database(client, &tools, &database.first)?;
    let version = tools.query(client, &first, "SHOW server_version")?;
    let version = version.split(' ').next().unwrap_or_default().trim().to_owned();
    let names = tools.query(
        client,
        &first,
        "SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate",
    )?;
    let names: Vec<String> = serde_json::from_str(&names)
        .map_err(|_| Error::database(&database.service, "the server's list of databases is not understood"))?;
    let mut found = Found { version, dumps: vec![globals(client, &tools, target, &first)?], warnings: Vec::new() };
    if let Some(warning) = other_collation(client, &tools, &first, &database.service) {
        found.warnings.push(warning);
    }
    for name in names {
        let subject = format!("{}/{name}", database.service);
        found.dumps.push(one_database(client, &tools, target, &subject, &name)?);
    }
    Ok(found)
}

/// Stops a dump from giving commands to the psql that loads it: nobody who writes rows or comments can
/// know it, and it is the same for every dump.
fn restrict_key(target: &Target<'_, '_>, service: &str) -> String {
    let key = blake3::derive_key("snap 2026 psql restrict key", &target.repository.secrets().cache_key());
    blake3::keyed_hash(&key, service.as_bytes()).to_hex()[..40].to_owned()
}

impl<'a> Tools<'a> {
    /// Looks for them in the container.
    pub fn find(client: &Client<'_>, user: &'a str) -> Result<Self> {
        let (psql, pg_dump, pg_dumpall) =
            (client.program(&["psql"])?, client.program(&["pg_dump"])?, client.program(&["pg_dumpall"])?);
        Ok(Self { psql, pg_dump, pg_dumpall, user, restrict: None })
    }

    /// What takes a dump in: the first error ends it, and results are not shown.
    pub fn quiet_psql(&self, database: &str) -> Vec<String> {
        let mut argv = self.psql(database);
        argv.extend(["-o", "/dev/null"].map(str::to_owned));
        argv
    }

    fn connection(&self, database: &str) -> [String; 4] {
        let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
        ["--no-password".into(), format!("--username={}", self.user), "--dbname".into(), format!("dbname='{quoted}'")]
    }

    fn psql(&self, database: &str) -> Vec<String> {
        let mut argv = vec![self.psql.clone()];
        argv.extend(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"].map(str::to_owned));
        argv.extend(self.connection(database));
        argv
    }

    /// What a statement gives.
    pub fn query(&self, client: &Client<'_>, database: &str, sql: &str) -> Result<String> {
        let argv = self.psql(database);
        Ok(client.ask(&argv, Some(&format!("SET client_encoding = 'UTF8';\n{sql};\n")))?.trim().to_owned())
    }
}

/// The database that the environment names may have been dropped since.
fn first_database(client: &Client<'_>, tools: &Tools<'_>, named: &str) -> Result<String> {
    let mut failure = None;
    for name in [named, "postgres", "template1"] {
        match tools.query(client, name, "SELECT 1") {
            Ok(_) => return Ok(name.to_owned()),
            Err(error @ Error::Database { .. }) => failure = failure.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::database(client.service, "the server has no database")))
}

fn globals(client: &Client<'_>, tools: &Tools<'_>, target: &mut Target<'_, '_>, first: &str) -> Result<Dump> {
    let subject = format!("{} (roles)", client.service);
    let mut argv = vec![tools.pg_dumpall.clone(), "--globals-only".to_owned(), "--no-tablespaces".to_owned()];
    argv.extend(tools.restrict.clone());
    argv.extend(tools.connection(first));
    let exec = client.start(&subject, &argv, false)?;
    target.store(client, &subject, "globals.sql", exec, following(Verifier::of_globals()))?;
    Ok(Dump { file: "globals.sql".to_owned(), database: String::new(), tables: Vec::new() })
}

fn one_database(
    client: &Client<'_>,
    tools: &Tools<'_>,
    target: &mut Target<'_, '_>,
    subject: &str,
    name: &str,
) -> Result<Dump> {
    client.monitor.item(subject);
    let mut talk = Talk::begin(client, subject, &tools.psql(name))?;
    let begin = format!(
        "SET client_encoding = 'UTF8';\nSET lock_timeout = '{LOCK_WAIT}';\nSET statement_timeout = 0;\n\
         SET idle_in_transaction_session_timeout = 0;\nSET row_security = off;\nSET search_path = pg_catalog;\n\
         BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\nSELECT pg_export_snapshot();\nSELECT '!snapshot';\n"
    );
    let snapshot = talk.ask(client, &begin, "!snapshot")?.pop().unwrap_or_default();
    let counted = count_rows(client, &mut talk, subject)?;
    let mut argv = vec![tools.pg_dump.clone()];
    argv.extend(["--format=plain", "--create", "--no-tablespaces"].map(str::to_owned));
    argv.push(format!("--lock-wait-timeout={LOCK_WAIT_MILLISECONDS}"));
    argv.push(format!("--snapshot={snapshot}"));
    argv.extend(tools.restrict.clone());
    argv.extend(tools.connection(name));
    let exec = client.start(subject, &argv, false)?;
    let file = dump_path(name, "sql");
    let tables = target.store(client, subject, &file, exec, |stream| {
        let verdict = following(Verifier::of_database())(stream)?;
        Ok(verdict.and_then(|tables| agrees(&tables, &counted).map(|()| tables)))
    })?;
    talk.ask(client, "COMMIT;\nSELECT '!end';\n", "!end")?;
    talk.end(client)?;
    Ok(Dump { file, database: name.to_owned(), tables: tables.iter().map(dumped).collect() })
}

/// Every table that a dump holds: not those that an extension makes.
const COUNT: &str = "SELECT format('SELECT json_build_array(%L::text, %L::text, count(*)) FROM ONLY %I.%I', \
    n.nspname, c.relname, n.nspname, c.relname) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_' \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
    AND d.deptype = 'e') ORDER BY c.oid \\gexec\nSELECT '!counted';\n";

fn count_rows(client: &Client<'_>, talk: &mut Talk<'_>, subject: &str) -> Result<Vec<(String, String, u64)>> {
    let lines = talk.ask(client, COUNT, "!counted")?;
    let parsed = lines.iter().map(|line| serde_json::from_str(line));
    parsed
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::database(subject, "the server's count of rows is not understood"))
}

/// The rows of every table of a database now.
pub fn counted_rows(
    client: &Client<'_>,
    tools: &Tools<'_>,
    subject: &str,
    database: &str,
) -> Result<Vec<(String, String, u64)>> {
    let mut talk = Talk::begin(client, subject, &tools.psql(database))?;
    let begin =
        "SET client_encoding = 'UTF8';\nSET row_security = off;\nSET search_path = pg_catalog;\nSELECT '!begun';\n";
    talk.ask(client, begin, "!begun")?;
    let rows = count_rows(client, &mut talk, subject)?;
    talk.end(client)?;
    Ok(rows)
}

/// The dump has every table that was counted, with as many rows.
fn agrees(tables: &[FoundTable], counted: &[(String, String, u64)]) -> std::result::Result<(), String> {
    for (schema, name, rows) in counted {
        let found = tables.iter().find(|table| table.schema == *schema && table.name == *name);
        match found {
            None => return Err(format!("table {schema}.{name} is not in the dump")),
            Some(table) if table.rows != *rows => {
                return Err(format!(
                    "table {schema}.{name} has {rows} rows, and {} of them are in the dump",
                    table.rows
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A server whose system sorts texts otherwise than when the data was written has indexes that lie.
fn other_collation(client: &Client<'_>, tools: &Tools<'_>, first: &str, service: &str) -> Option<Warning> {
    let sql = "SELECT count(*) FROM pg_database WHERE datallowconn AND datcollversion IS NOT NULL \
               AND datcollversion <> pg_database_collation_actual_version(oid)";
    // Servers before 15 do not know this.
    let differing = tools.query(client, first, sql).ok()?;
    (differing != "0").then(|| {
        let message = "its texts were sorted by another version of the system's rules: indexes on texts may be wrong";
        Warning::note(service, message)
    })
}
