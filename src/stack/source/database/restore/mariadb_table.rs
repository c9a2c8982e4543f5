//! What MariaDB's and MySQL's clients are told around the rows of one table.
//!
//! They know no condition outside of routines. So what must hold is made an entry of a temporary table: where it does not,
//! the entry is there already, the client ends at that error, and the server undoes the transaction.

use super::super::client::Client;
use super::super::error::{Error, Result};
use super::super::mariadb::{Tools, is_transactional};
use super::mariadb_made;
use super::table::{Table, Words};
use crate::repo::Repository;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The first of the entries; no row of anybody's is likely to look like it.
const CODE: u64 = 7_236_400_000;

/// The storage engine of the table in the server; `None` if it is not there.
pub(super) fn engine_of(
    client: &Client<'_>,
    tools: &Tools<'_>,
    wanted: &Table<'_>,
    subject: &str,
) -> Result<Option<String>> {
    let (database, table) = (escaped(&wanted.dump.database), escaped(&wanted.table.name));
    let sql = format!(
        "SELECT COALESCE(engine, '') FROM information_schema.tables WHERE table_schema = '{database}' AND table_name = '{table}'"
    );
    Ok(tools.query(client, subject, &sql)?.into_iter().next())
}

/// What the client is told before and after the rows.
pub(super) fn words(
    client: &Client<'_>,
    tools: &Tools<'_>,
    repository: &Repository,
    wanted: &Table<'_>,
    subject: &str,
) -> Result<Words> {
    let refused = |reason: &str| Err(Error::database(subject, reason));
    let (database, table) = (wanted.dump.database.as_str(), wanted.table.name.as_str());
    match engine_of(client, tools, wanted, subject)? {
        None => return mariadb_made::words(client, tools, repository, wanted, subject),
        Some(engine) if !is_transactional(&engine) => {
            return refused("it knows no transactions: it comes back with its database (--only db:NAME)");
        }
        Some(_) => {}
    }
    let triggers = format!(
        "SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_schema = '{}' AND event_object_table = '{}'",
        escaped(database),
        escaped(table)
    );
    if tools.query(client, subject, &triggers)?.first().map(String::as_str) != Some("0") {
        return refused("its triggers would change other tables: it comes back with its database (--only db:NAME)");
    }
    let mut keys = keys_of(client, tools, subject, database, table, Side::Child)?;
    keys.extend(keys_of(client, tools, subject, database, table, Side::Parent)?);
    let name = format!("{}.{}", quoted(database), quoted(table));
    let (prepared, checked) = conditions(wanted, table, keys.iter().map(|key| key.broken(database, table, table)));
    let before = format!("{}{prepared}START TRANSACTION;\nDELETE FROM {name};\n", settings(database));
    let after = format!("\n{checked}COMMIT;\n");
    let argv = tools.query_argv();
    Ok(Words { argv, before: before.into(), after: after.into(), renamed: None })
}

/// What is said first of all.
pub(super) fn settings(database: &str) -> String {
    format!(
        "SET NAMES utf8mb4;\nSET time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0, \
         lock_wait_timeout = 60;\nUSE {};\n",
        quoted(database)
    )
}

/// Says before the rows, and asks after them, what must not be: another number of rows in `place`, where the rows of the
/// wanted table are, and `broken`.
pub(super) fn conditions(wanted: &Table<'_>, place: &str, broken: impl Iterator<Item = String>) -> (String, String) {
    let (database, place) = (quoted(&wanted.dump.database), quoted(place));
    let checks = format!("{database}.`snap_restore_checks`");
    let count = format!("(SELECT COUNT(*) FROM {database}.{place}) <> {}", wanted.table.rows);
    let mut before = format!("CREATE TEMPORARY TABLE {checks} (code BIGINT PRIMARY KEY);\n");
    let mut after = String::new();
    for (number, condition) in std::iter::once(count).chain(broken).enumerate() {
        let code = CODE + number as u64;
        // Writing to a text cannot fail.
        let _ = writeln!(before, "INSERT INTO {checks} VALUES ({code});");
        let _ = writeln!(after, "INSERT INTO {checks} SELECT {code} FROM DUAL WHERE {condition};");
    }
    (before, after)
}

/// On which side of a foreign key a table is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It refers.
    Child,
    /// It is referred to.
    Parent,
}

/// A foreign key: two tables, each with its database, and pairs of columns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Who refers.
    pub child: (String, String),
    /// Who is referred to.
    pub parent: (String, String),
    /// Columns, and those that they refer to.
    pub columns: Vec<(String, String)>,
}

impl Key {
    /// What holds where a row refers to one that is not there; the rows of the `table` of `database` are in `place`.
    pub(super) fn broken(&self, database: &str, table: &str, place: &str) -> String {
        let at = |(schema, name): &(String, String)| {
            let is_it = schema == database && name == table;
            format!("{}.{}", quoted(schema), quoted(if is_it { place } else { name }))
        };
        let given: Vec<String> =
            self.columns.iter().map(|(column, _)| format!("c.{} IS NOT NULL", quoted(column))).collect();
        let same: Vec<String> =
            self.columns.iter().map(|(column, key)| format!("p.{} = c.{}", quoted(key), quoted(column))).collect();
        format!(
            "EXISTS (SELECT 1 FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {}))",
            at(&self.child),
            given.join(" AND "),
            at(&self.parent),
            same.join(" AND ")
        )
    }
}

/// The foreign keys of the server in which the table is on that side. One that refers to itself is a child's.
pub(super) fn keys_of(
    client: &Client<'_>,
    tools: &Tools<'_>,
    subject: &str,
    database: &str,
    table: &str,
    side: Side,
) -> Result<Vec<Key>> {
    let (schema, name) = (escaped(database), escaped(table));
    let is = |prefix: &str| format!("({prefix}table_schema = '{schema}' AND {prefix}table_name = '{name}')");
    let which = match side {
        Side::Child => is(""),
        Side::Parent => format!("{} AND NOT {}", is("referenced_"), is("")),
    };
    let sql = format!(
        "SELECT constraint_name, table_schema, table_name, column_name, referenced_table_schema, referenced_table_name, \
         referenced_column_name FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL AND {which} \
         ORDER BY table_schema, table_name, constraint_name, ordinal_position"
    );
    let mut keys: BTreeMap<[String; 5], Vec<(String, String)>> = BTreeMap::new();
    for line in tools.query(client, subject, &sql)? {
        let parts: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let Ok([constraint, schema, child, column, there, parent, key]) = <[String; 7]>::try_from(parts) else {
            return Err(Error::database(subject, "its foreign keys are not understood"));
        };
        keys.entry([constraint, schema, child, there, parent]).or_default().push((column, key));
    }
    type Found = ([String; 5], Vec<(String, String)>);
    let key = |([_, schema, child, there, parent], columns): Found| Key {
        child: (schema, child),
        parent: (there, parent),
        columns,
    };
    Ok(keys.into_iter().map(key).collect())
}

/// What a client says, in words that mean something to a person.
pub(super) fn explained(told: String) -> String {
    if told.contains(&format!("Duplicate entry '{CODE}'")) {
        return "it has other rows after loading than it had".to_owned();
    }
    match told.contains(&format!("Duplicate entry '{}", &CODE.to_string()[..6])) {
        true => "rows would refer to others that are not there".to_owned(),
        false => told,
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::{CODE, explained};

    #[test]
    fn an_entry_that_is_there_already_says_which_condition_failed() {
        let told = |code: u64| explained(format!("ERROR 1062 (23000) at line 9: Duplicate entry '{code}' for key"));
        assert!(told(CODE).contains("other rows") && told(CODE + 3).contains("refer to others"));
        assert!(told(5).contains("Duplicate entry '5'"));
    }
}
