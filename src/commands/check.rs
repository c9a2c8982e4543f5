//! `snap check`: proves the repository.

use super::{Env, Error, Result};
use crate::id::SnapshotId;
use crate::monitor::Warning;
use crate::repo::check::{self, CheckReport, Problem, Reading, Severity};
use crate::repo::sync::Chain;
use crate::repo::{self, Repository};
use crate::store::Kind;
use std::collections::BTreeSet;

/// When the last check was, and whether it found damage.
pub(super) const LAST_CHECK: &str = "last_check";
/// The snapshots that it found damaged.
const DAMAGED: &str = "found_damaged";

/// Checks the repository, reading packs whole as `read` says.
///
/// # Errors
/// The repository cannot be listed, or the person stopped it. Damage is in the report.
pub fn check(env: &Env, repository: &Repository, read: Option<Reading>) -> Result<CheckReport> {
    let now = jiff::Timestamp::now().as_second();
    let mut report = check::check(repository, &check::CheckOptions { read, now }, &*env.monitor)?;
    report.problems.extend(repository.config_problem().map(|problem| {
        let message = format!("{problem}; nothing else depends on it, and an owner's `snap init` writes it again");
        Problem { severity: Severity::Damage, object: "config".to_owned(), message }
    }));
    note(env, repository, now, &report.problems)?;
    Ok(report)
}

/// Remembers what a check has found, and which snapshots it has found damaged.
fn note(env: &Env, repository: &Repository, now: i64, problems: &[Problem]) -> Result<()> {
    let damage = || problems.iter().filter(|problem| problem.severity == Severity::Damage);
    let finding = if damage().next().is_some() { "damaged" } else { "sound" };
    let prefix = format!("{}/", Kind::Snapshot.folder());
    let damaged: BTreeSet<&str> = damage().filter_map(|problem| problem.object.strip_prefix(&prefix)).collect();
    let damaged: Vec<&str> = damaged.into_iter().collect();
    let values = [(LAST_CHECK, format!("{now} {finding}")), (DAMAGED, damaged.join(" "))];
    let catalog = repository.catalog();
    for (key, text) in values {
        match catalog.set_value(&catalog.key_here(key), text.as_bytes()) {
            Err(error) if error.is_damage() => return Err(crate::repo::Error::from(error).into()),
            // The answer is worth more than the note that it was given.
            Err(error) => env.monitor.warn(&Warning::note("catalog", Chain(&error).to_string())),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The snapshots that the last check on this machine found damaged, themselves or what they need.
pub(super) fn found_damaged(repository: &Repository) -> Result<BTreeSet<SnapshotId>> {
    let catalog = repository.catalog();
    let text = catalog.value(&catalog.key_here(DAMAGED)).map_err(repo::Error::from)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.split(' ').filter_map(|id| SnapshotId::parse(id).ok()).collect())
}

/// The report on a repository that is so damaged that it cannot be opened; `None` for an error that
/// is something else.
pub fn unopened(error: &Error) -> Option<CheckReport> {
    let Error::Repo(inner) = error else { return None };
    inner.is_damage().then(|| {
        let (object, message) = match inner {
            repo::Error::Damaged { object, what } => (object.clone(), what.clone()),
            repo::Error::Forged { object } => (object.clone(), inner.to_string()),
            other => ("repository".to_owned(), Chain(other).to_string()),
        };
        let problem = Problem { severity: Severity::Damage, object, message };
        CheckReport { problems: vec![problem], ..CheckReport::default() }
    })
}
