//! What psql is told around the rows of one table: all of it in one transaction, tables are made in transactions too.
//!
//! A table that is gone is made by the statements of the dump that are about it ([`super::postgresql_parts`]).

use super::super::client::Client;
use super::super::error::{Error, Result};
use super::super::postgresql::Tools;
use super::super::verify::Follow;
use super::super::verify::postgresql::Dump as Statements;
use super::postgresql_parts::{Name, chosen};
use super::table::{Part, Table, Words, outline, text};
use crate::repo::Repository;

/// The line before the rows is looked for in so many bytes.
const HEAD_BYTES: u64 = 256 << 10;
/// What a dump says of itself comes in its first bytes.
const SETTINGS_BYTES: u64 = 16 << 10;

/// True if the server has the table.
pub(super) fn is_there(client: &Client<'_>, tools: &Tools<'_>, wanted: &Table<'_>) -> Result<bool> {
    let (schema, table) = named(wanted);
    let sql = format!(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
        literal(schema),
        literal(table)
    );
    Ok(tools.query(client, &wanted.dump.database, &sql)? != "0")
}

/// What is said around the rows.
pub(super) fn words(
    client: &Client<'_>,
    tools: &Tools<'_>,
    repository: &Repository,
    wanted: &Table<'_>,
    subject: &str,
) -> Result<Words> {
    let head = text(repository, wanted, 0, SETTINGS_BYTES)?;
    let encoding = head.lines().find_map(|line| line.strip_prefix("SET client_encoding = ")).unwrap_or("'UTF8';");
    let (name, copy) = copy_line(repository, wanted, subject)?;
    let begin = format!(
        "SET client_encoding = {encoding}\nSET lock_timeout = '60s';\nSET statement_timeout = 0;\n\
         SET idle_in_transaction_session_timeout = 0;\nSET row_security = off;\nSET search_path = pg_catalog;\n\
         SET check_function_bodies = off;\nSET session_replication_role = replica;\nBEGIN;\n"
    );
    let (first, last) = if is_there(client, tools, wanted)? {
        let empty = format!("LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE;\nDELETE FROM ONLY {name};\n");
        (empty.into_bytes(), Vec::new())
    } else {
        made(repository, wanted, subject)?
    };
    let end = if copy.is_empty() { "" } else { "\\.\n" };
    let check = CHECK
        .replace("ROWS", &wanted.table.rows.to_string())
        .replace("LITERAL", &name.replace('\'', "''"))
        .replace("NAME", &name);
    Ok(Words {
        argv: tools.quiet_psql(&wanted.dump.database),
        before: [begin.as_bytes(), &first, copy.as_bytes()].concat(),
        after: [end.as_bytes(), &last, check.as_bytes(), b"COMMIT;\n"].concat(),
        renamed: None,
    })
}

/// The statements that make the table, before and after its rows.
fn made(repository: &Repository, wanted: &Table<'_>, subject: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut dump = Statements::keeping_statements();
    let mut split = None;
    outline(repository, wanted, &mut |part| match part {
        Part::Bytes(bytes) => dump.push(bytes),
        Part::Rows => split = Some(dump.statements().len()),
    })?;
    let (schema, table) = named(wanted);
    let table = Name { schema: schema.to_owned(), name: table.to_owned() };
    let all = dump.statements();
    chosen(all, split.unwrap_or(all.len()), &table).map_err(|reason| Error::database(subject, reason))
}

/// The table's name as the dump quotes it, and the line after which its rows come; that is empty where there are none.
fn copy_line(repository: &Repository, wanted: &Table<'_>, subject: &str) -> Result<(String, String)> {
    let Some(offset) = wanted.table.offset else {
        let (schema, table) = named(wanted);
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        return Ok((format!("{}.{}", quoted(schema), quoted(table)), String::new()));
    };
    let start = offset.saturating_sub(HEAD_BYTES);
    let before = text(repository, wanted, start, offset - start)?;
    let line = before.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default();
    let name = line.strip_prefix("COPY ").map(copied_name).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Error::database(subject, "its place in the dump is not understood"))?;
    Ok((name.to_owned(), format!("{line}\n")))
}

fn named<'t>(wanted: &'t Table<'_>) -> (&'t str, &'t str) {
    wanted.table.name.split_once('.').unwrap_or(("public", &wanted.table.name))
}

/// A text as it is written in a statement.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
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
