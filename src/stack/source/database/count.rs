//! Asking a running server for the rows of every table of a dump.

use super::client::Client;
use super::detect::{Database, Kind};
use super::error::{Error, Result};
use super::mariadb::{self, counted_tables};
use super::postgresql::{self, counted_rows};
use super::restore::redis::keyspace;
use crate::amount;
use crate::docker::Engine;
use crate::monitor::Monitor;
use crate::repo::manifest::DatabaseDetail;
use std::collections::BTreeMap;

/// Rows of tables: by the database, empty for Redis' own, and the table's name as in a manifest.
pub type Counts = BTreeMap<(String, String), u64>;

/// How many rows the tables have now that `detail` names; one that is not there is not in the answer.
///
/// # Errors
/// The server does not answer.
pub fn count(
    engine: &Engine,
    container: &str,
    database: &Database,
    detail: &DatabaseDetail,
    monitor: &dyn Monitor,
) -> Result<Counts> {
    let client = Client::new(engine, container, database, monitor)?;
    let mut counts = Counts::new();
    let service = &database.service;
    match database.kind {
        Kind::Postgresql => {
            let tools = postgresql::Tools::find(&client, &database.user)?;
            for dump in detail.dumps.iter().filter(|dump| !dump.tables.is_empty()) {
                let rows = counted_rows(&client, &tools, &format!("{service}/{}", dump.database), &dump.database)?;
                let named = rows.into_iter().map(|(schema, table, rows)| (format!("{schema}.{table}"), rows));
                counts.extend(named.map(|(table, rows)| ((dump.database.clone(), table), rows)));
            }
        }
        Kind::Mariadb | Kind::Mysql => {
            let tools = mariadb::Tools::find(&client, &database.user)?;
            for dump in detail.dumps.iter().filter(|dump| !dump.tables.is_empty()) {
                let rows = counted_tables(&client, &tools, &format!("{service}/{}", dump.database), dump)?;
                counts.extend(rows.into_iter().map(|(table, rows)| ((dump.database.clone(), table), rows)));
            }
        }
        Kind::Redis => {
            let cli = client.program(&["redis-cli", "valkey-cli", "keydb-cli"])?;
            if !client.ask(&[cli.as_str(), "INFO", "persistence"], None)?.contains("loading:0") {
                return Err(Error::database(service, "the server is still loading its data"));
            }
            let keys = keyspace(&client.ask(&[cli.as_str(), "INFO", "keyspace"], None)?);
            counts.extend(keys.into_iter().map(|(table, rows)| ((String::new(), table), rows)));
        }
        Kind::Program => return Err(Error::database(service, "only its own command knows what it holds")),
    }
    Ok(counts)
}

/// What `found` means beside `detail`: a sentence, or what is missing.
///
/// # Errors
/// A table is not there, or has fewer rows than it had, where `detail` tells for sure.
pub fn judge(detail: &DatabaseDetail, found: &Counts) -> std::result::Result<String, String> {
    use crate::repo::manifest::Authority;
    let is_redis = Kind::from_word(&detail.engine) == Some(Kind::Redis);
    // Keys end by themselves; and files that were captured after the dump are younger than its counts.
    let exact = !is_redis && detail.authority == Authority::Dump;
    let (mut tables, mut rows, mut captured) = (0u64, 0u64, 0u64);
    for dump in &detail.dumps {
        for table in &dump.tables {
            let has = found.get(&(dump.database.clone(), table.name.clone())).copied();
            match has {
                None if !is_redis => return Err(format!("table {} of {} is not there", table.name, dump.database)),
                Some(has) if exact && has < table.rows => {
                    return Err(format!(
                        "table {} of {} has {has} rows, captured were {}",
                        table.name, dump.database, table.rows
                    ));
                }
                _ => {}
            }
            tables += 1;
            rows += has.unwrap_or(0);
            captured += table.rows;
        }
    }
    let found = match is_redis {
        true => amount::count(rows, "key", "keys"),
        false => format!("{}, {}", amount::count(tables, "table", "tables"), amount::count(rows, "row", "rows")),
    };
    Ok(match rows == captured {
        true => format!("{found}, as captured"),
        // The application has begun to work.
        false => format!("{found}, captured were {}", amount::thousands(captured)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::manifest::{Authority, Dump, DumpedTable};

    fn detail(engine: &str, authority: Authority) -> DatabaseDetail {
        let table = |name: &str, rows| DumpedTable { name: name.to_owned(), rows, offset: None, bytes: None };
        let dump = Dump {
            file: "f".to_owned(),
            database: "shop".to_owned(),
            tables: vec![table("public.a", 10), table("public.b", 0)],
        };
        let (engine, version, service) = (engine.to_owned(), "15".to_owned(), "db".to_owned());
        DatabaseDetail { engine, version, service, authority, dumps: vec![dump] }
    }

    fn found(rows: &[(&str, u64)]) -> Counts {
        rows.iter().map(|(table, rows)| (("shop".to_owned(), (*table).to_owned()), *rows)).collect()
    }

    #[test]
    fn fewer_rows_than_were_captured_are_no_proof() {
        let dump = detail("postgresql", Authority::Dump);
        assert_eq!(
            judge(&dump, &found(&[("public.a", 10), ("public.b", 0)])).unwrap(),
            "2 tables, 10 rows, as captured"
        );
        let more = judge(&dump, &found(&[("public.a", 12), ("public.b", 1)])).unwrap();
        assert_eq!(more, "2 tables, 13 rows, captured were 10");
        let fewer = judge(&dump, &found(&[("public.a", 9), ("public.b", 5)])).unwrap_err();
        assert_eq!(fewer, "table public.a of shop has 9 rows, captured were 10");
        let gone = judge(&dump, &found(&[("public.a", 10)])).unwrap_err();
        assert_eq!(gone, "table public.b of shop is not there");
    }

    #[test]
    fn a_volume_is_younger_than_its_counts_and_keys_end_by_themselves() {
        let volume = detail("mariadb", Authority::Volume);
        assert!(judge(&volume, &found(&[("public.a", 9), ("public.b", 0)])).is_ok());
        assert!(judge(&volume, &found(&[("public.a", 9)])).is_err());
        let mut redis = detail("redis", Authority::Dump);
        redis.dumps[0].database.clear();
        assert_eq!(judge(&redis, &Counts::new()).unwrap(), "0 keys, captured were 10");
    }
}
