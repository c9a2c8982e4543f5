//! One table alone, from its place in the dump, into the server that runs: in one transaction of the server, so that the
//! table has exactly its captured rows afterwards or is as it was. No other table is touched: neither triggers nor
//! foreign keys act, and where rows of one table would then refer to rows that are not there, nothing is done.
//!
//! A table that is gone, or has other columns by now, cannot be filled; it comes back with its database.

use super::super::client::Client;
use super::super::detect::{Database, Kind};
use super::super::error::{Error, Result};
use super::super::{mariadb, postgresql};
use super::mariadb_table;
use crate::docker::Engine;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::manifest::{Dump, DumpedTable, SourceEntry};
use crate::stack::source::content::FileContent;
use std::io::Read;

/// The line before the rows is looked for in so many bytes.
const HEAD_BYTES: u64 = 256 << 10;
/// What a dump says of itself comes in its first bytes.
const SETTINGS_BYTES: u64 = 16 << 10;

/// A table on its way back.
pub struct Table<'a> {
    /// The source that holds the dump.
    pub source: &'a SourceEntry,
    /// The dump.
    pub dump: &'a Dump,
    /// The table in it.
    pub table: &'a DumpedTable,
}

/// Puts the rows of a table in place of those that it has in the running server; gives how many there are now.
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
    let subject = format!("{}/{}/{}", wanted.source.name, wanted.dump.database, wanted.table.name);
    let (argv, before, after) = match database.kind {
        Kind::Postgresql => {
            let tools = postgresql::Tools::find(&client, &database.user)?;
            let (before, after) = postgresql_words(repository, wanted, &subject)?;
            (tools.quiet_psql(&wanted.dump.database), before, after)
        }
        Kind::Mariadb | Kind::Mysql => {
            let tools = mariadb::Tools::find(&client, &database.user)?;
            let (before, after) = mariadb_table::words(&client, &tools, wanted, &subject)?;
            (tools.query_argv(), before, after)
        }
        Kind::Redis | Kind::Program => return Err(Error::database(&subject, "it has no tables that come back alone")),
    };
    let rows = place(repository, wanted)?;
    let mut input = before.as_bytes().chain(rows).chain(after.as_bytes());
    let output = engine.run(container, &client.spec(&argv), Some(&mut input), monitor);
    let output = output.map_err(|error| Error::engine(&subject, &error))?;
    if output.exit_code != 0 {
        let told = client.failure(argv.first().map_or("", String::as_str), output.exit_code, &output.stderr);
        return Err(Error::database(&subject, format!("{}; the table is as it was", mariadb_table::explained(told))));
    }
    Ok(wanted.table.rows)
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

fn text(repository: &Repository, wanted: &Table<'_>, offset: u64, bytes: u64) -> Result<String> {
    let mut found = Vec::new();
    from(repository, wanted, offset)?.take(bytes).read_to_end(&mut found).map_err(|error| unread(wanted, &error))?;
    Ok(String::from_utf8_lossy(&found).into_owned())
}

fn unread(wanted: &Table<'_>, error: &std::io::Error) -> Error {
    Error::database(&wanted.source.name, format!("{} cannot be read: {error}", wanted.dump.file))
}

/// What psql is told before and after the rows.
fn postgresql_words(repository: &Repository, wanted: &Table<'_>, subject: &str) -> Result<(String, String)> {
    let head = text(repository, wanted, 0, SETTINGS_BYTES)?;
    let encoding = head.lines().find_map(|line| line.strip_prefix("SET client_encoding = ")).unwrap_or("'UTF8';");
    let (name, copy) = match wanted.table.offset {
        None => {
            let (schema, table) = wanted.table.name.split_once('.').unwrap_or(("public", &wanted.table.name));
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            (format!("{}.{}", quoted(schema), quoted(table)), String::new())
        }
        Some(offset) => {
            let start = offset.saturating_sub(HEAD_BYTES);
            let before = text(repository, wanted, start, offset - start)?;
            let line = before.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default();
            let name = line.strip_prefix("COPY ").map(copied_name).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| Error::database(subject, "its place in the dump is not understood"))?;
            (name.to_owned(), format!("{line}\n"))
        }
    };
    let before = format!(
        "SET client_encoding = {encoding}\nSET lock_timeout = '60s';\nSET statement_timeout = 0;\n\
         SET idle_in_transaction_session_timeout = 0;\nSET row_security = off;\nSET search_path = pg_catalog;\n\
         SET session_replication_role = replica;\nBEGIN;\nLOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE;\n\
         DELETE FROM ONLY {name};\n{copy}"
    );
    let end = if copy.is_empty() { "" } else { "\\.\n" };
    let (rows, literal) = (wanted.table.rows, name.replace('\'', "''"));
    let check = CHECK.replace("ROWS", &rows.to_string()).replace("LITERAL", &literal).replace("NAME", &name);
    Ok((before, format!("{end}{check}COMMIT;\n")))
}

/// The table's name in `COPY name (columns) FROM stdin;`, quoted as it is there.
fn copied_name(rest: &str) -> &str {
    let mut quoted = false;
    let end = rest.find(|c: char| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    });
    &rest[..end.unwrap_or(0)]
}

/// Has the table the rows that it must have, and does every row that refers to another find it?
const CHECK: &str = r"DO $snap$
DECLARE found bigint; key record;
BEGIN
  SELECT count(*) INTO found FROM ONLY NAME;
  IF found <> ROWS THEN RAISE EXCEPTION 'it has % rows after loading, and had ROWS', found; END IF;
  FOR key IN SELECT c.conname, c.conrelid::regclass AS child, c.confrelid::regclass AS parent,
      (SELECT string_agg(format('p.%I = c.%I', f.attname, a.attname), ' AND ')
        FROM unnest(c.conkey, c.confkey) AS k(here, there)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here
        JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.there) AS same,
      (SELECT string_agg(format('c.%I IS NOT NULL', a.attname), ' AND ')
        FROM unnest(c.conkey) AS k(here) JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here) AS given
      FROM pg_constraint c WHERE c.contype = 'f' AND c.convalidated
      AND 'LITERAL'::regclass IN (c.conrelid, c.confrelid)
  LOOP
    EXECUTE format('SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)',
      key.child, key.given, key.parent, key.same) INTO found;
    IF found > 0 THEN
      RAISE EXCEPTION '% rows of % would refer to rows of % that are not there', found, key.child, key.parent;
    END IF;
  END LOOP;
END $snap$;
";

#[cfg(test)]
mod tests {
    use super::copied_name;

    #[test]
    fn a_name_is_taken_as_it_is_quoted() {
        assert_eq!(copied_name("public.users (id, name) FROM stdin;"), "public.users");
        assert_eq!(
            copied_name("public.\"Weird \"\"name; x\" (a, \"b c\") FROM stdin;"),
            "public.\"Weird \"\"name; x\""
        );
        assert_eq!(copied_name("nothing"), "");
    }
}
