//! What MariaDB's and MySQL's clients are told around the rows of one table.
//!
//! They know no condition outside of routines. So what must hold is made an entry of a temporary table: where it does not,
//! the entry is there already, the client ends at that error, and the server undoes the transaction.

use super::super::client::Client;
use super::super::error::{Error, Result};
use super::super::mariadb::{Tools, is_transactional};
use super::table::Table;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The first of the entries; no row of anybody's is likely to look like it.
const CODE: u64 = 7_236_400_000;

/// What the client is told before and after the rows.
pub(super) fn words(
    client: &Client<'_>,
    tools: &Tools<'_>,
    wanted: &Table<'_>,
    subject: &str,
) -> Result<(String, String)> {
    let refused = |reason: &str| Err(Error::database(subject, reason));
    let (database, table) = (wanted.dump.database.as_str(), wanted.table.name.as_str());
    let literals = format!("'{}' AND table_name = '{}'", escaped(database), escaped(table));
    let engine = tools.query(
        client,
        subject,
        &format!("SELECT COALESCE(engine, '') FROM information_schema.tables WHERE table_schema = {literals}"),
    )?;
    match engine.first() {
        None => return refused("it is not there: a table that is gone comes back with its database (--only db:NAME)"),
        Some(engine) if !is_transactional(engine) => {
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
    let name = format!("{}.{}", quoted(database), quoted(table));
    let checks = format!("{}.`snap_restore_checks`", quoted(database));
    let mut must = vec![format!("(SELECT COUNT(*) FROM {name}) <> {}", wanted.table.rows)];
    must.extend(orphans(client, tools, subject, database, table)?);
    let mut before = format!(
        "SET NAMES utf8mb4;\nSET time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0, \
         lock_wait_timeout = 60;\nUSE {};\nCREATE TEMPORARY TABLE {checks} (code BIGINT PRIMARY KEY);\n",
        quoted(database)
    );
    let mut after = String::new();
    for (number, condition) in must.iter().enumerate() {
        let code = CODE + number as u64;
        // Writing to a text cannot fail.
        let _ = writeln!(before, "INSERT INTO {checks} VALUES ({code});");
        let _ = writeln!(after, "INSERT INTO {checks} SELECT {code} FROM DUAL WHERE {condition};");
    }
    let _ = write!(before, "START TRANSACTION;\nDELETE FROM {name};\n");
    Ok((before, format!("\n{after}COMMIT;\n")))
}

/// What holds where a row refers to one that is not there, for each foreign key of the table and to it.
fn orphans(client: &Client<'_>, tools: &Tools<'_>, subject: &str, database: &str, table: &str) -> Result<Vec<String>> {
    let (database, table) = (escaped(database), escaped(table));
    let sql = format!(
        "SELECT constraint_name, table_schema, table_name, column_name, referenced_table_schema, referenced_table_name, \
         referenced_column_name FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL AND \
         ((table_schema = '{database}' AND table_name = '{table}') OR (referenced_table_schema = '{database}' AND \
         referenced_table_name = '{table}')) ORDER BY table_schema, table_name, constraint_name, ordinal_position"
    );
    let mut keys: BTreeMap<[String; 5], Vec<(String, String)>> = BTreeMap::new();
    for line in tools.query(client, subject, &sql)? {
        let parts: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let Ok([constraint, schema, child, column, there, parent, key]) = <[String; 7]>::try_from(parts) else {
            return Err(Error::database(subject, "its foreign keys are not understood"));
        };
        keys.entry([constraint, schema, child, there, parent]).or_default().push((column, key));
    }
    let condition = |([_, schema, child, there, parent], columns): (&[String; 5], &Vec<(String, String)>)| {
        let given: Vec<String> =
            columns.iter().map(|(column, _)| format!("c.{} IS NOT NULL", quoted(column))).collect();
        let same: Vec<String> =
            columns.iter().map(|(column, key)| format!("p.{} = c.{}", quoted(key), quoted(column))).collect();
        format!(
            "EXISTS (SELECT 1 FROM {}.{} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {}.{} p WHERE {}))",
            quoted(schema),
            quoted(child),
            given.join(" AND "),
            quoted(there),
            quoted(parent),
            same.join(" AND ")
        )
    };
    Ok(keys.iter().map(condition).collect())
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

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn escaped(text: &str) -> String {
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
