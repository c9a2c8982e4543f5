//! What a dump says beside the one before it.
//!
//! A database that has become empty was most likely mounted wrong or wiped: that is not a good snapshot
//! of the application, and must not push older ones out. One that has shrunk by half may be right.

use crate::amount::{count, thousands};
use crate::monitor::Warning;
use crate::repo::manifest::{DatabaseDetail, Dump};

/// Tables with fewer rows than this come and go.
const ROWS_NOTED: u64 = 10;

/// What the person should know of `now`, given the last dump of the same database. What is marked
/// incomplete must make the snapshot incomplete.
pub fn compare(previous: &DatabaseDetail, now: &DatabaseDetail) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for before in &previous.dumps {
        let subject = subject(now, before);
        let Some(after) = now.dumps.iter().find(|dump| dump.database == before.database) else {
            if rows(before) > 0 {
                let message =
                    format!("the database is gone: it had {} rows in the last snapshot", thousands(rows(before)));
                warnings.push(Warning::missing(subject, message));
            }
            continue;
        };
        let (had, has) = (rows(before), rows(after));
        if had >= ROWS_NOTED && has == 0 {
            let message = format!("the database is empty: it had {} rows in the last snapshot", thousands(had));
            warnings.push(Warning::missing(subject, message));
            continue;
        }
        if had >= ROWS_NOTED && has < had / 2 {
            let message =
                format!("it has shrunk by more than half: {} rows, before {}", thousands(has), thousands(had));
            warnings.push(Warning::note(subject.clone(), message));
        }
        for table in before.tables.iter().filter(|table| table.rows >= ROWS_NOTED) {
            let found = after.tables.iter().find(|found| found.name == table.name);
            let name = &table.name;
            let message = match found {
                None => format!("table {name} is gone: it had {} rows", thousands(table.rows)),
                Some(found) if found.rows == 0 => {
                    format!("table {name} is empty: it had {} rows", thousands(table.rows))
                }
                Some(_) => continue,
            };
            warnings.push(Warning::note(subject.clone(), message));
        }
    }
    warnings
}

/// What was dumped, in a few words: `3 tables, 160,001 rows, verified`.
pub fn summary(detail: &DatabaseDetail) -> String {
    let tables: usize = detail.dumps.iter().map(|dump| dump.tables.len()).sum();
    let all: u64 = detail.dumps.iter().map(rows).sum();
    match detail.engine.as_str() {
        "program" => "by its own command".to_owned(),
        "redis" => format!("{}, verified", count(all, "key", "keys")),
        _ => format!("{}, {}, verified", count(tables as u64, "table", "tables"), count(all, "row", "rows")),
    }
}

fn rows(dump: &Dump) -> u64 {
    dump.tables.iter().map(|table| table.rows).sum()
}

fn subject(detail: &DatabaseDetail, dump: &Dump) -> String {
    if dump.database.is_empty() { detail.service.clone() } else { format!("{}/{}", detail.service, dump.database) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::manifest::{Authority, DumpedTable};

    fn detail(databases: &[(&str, &[(&str, u64)])]) -> DatabaseDetail {
        let table =
            |(name, rows): &(&str, u64)| DumpedTable { name: (*name).into(), rows: *rows, offset: None, bytes: None };
        let dumps = databases.iter().map(|(database, tables)| Dump {
            file: format!("{database}.sql"),
            database: (*database).into(),
            tables: tables.iter().map(table).collect(),
        });
        let (engine, version, service) = ("postgresql".into(), "15".into(), "db".into());
        DatabaseDetail { engine, version, service, authority: Authority::Dump, dumps: dumps.collect() }
    }

    #[test]
    fn what_is_empty_now_is_not_complete() {
        let before = detail(&[("clinic", &[("a", 900), ("b", 100)]), ("other", &[("c", 5)])]);
        let empty = compare(&before, &detail(&[("clinic", &[("a", 0)]), ("other", &[("c", 5)])]));
        assert_eq!(
            empty,
            [Warning::missing("db/clinic", "the database is empty: it had 1,000 rows in the last snapshot")]
        );
        let gone = compare(&before, &detail(&[("clinic", &[("a", 900), ("b", 100)])]));
        assert_eq!(gone, [Warning::missing("db/other", "the database is gone: it had 5 rows in the last snapshot")]);
        assert_eq!(compare(&before, &before), []);
    }

    #[test]
    fn what_has_shrunk_is_said() {
        let before = detail(&[("clinic", &[("a", 900), ("b", 100)])]);
        let told = compare(&before, &detail(&[("clinic", &[("a", 499), ("b", 0)])]));
        let texts: Vec<(&str, bool)> = told.iter().map(|w| (w.message.as_str(), w.incomplete)).collect();
        let shrunk = "it has shrunk by more than half: 499 rows, before 1,000";
        assert_eq!(texts, [(shrunk, false), ("table b is empty: it had 100 rows", false)]);
    }

    #[test]
    fn a_summary_is_for_people() {
        let three = detail(&[("", &[]), ("x", &[("a", 160_000), ("b", 1), ("c", 0)])]);
        assert_eq!(summary(&three), "3 tables, 160,001 rows, verified");
        assert_eq!(summary(&detail(&[("x", &[("a", 1)])])), "1 table, 1 row, verified");
    }
}
