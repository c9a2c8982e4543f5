//! `snap check`: proves the repository.

use super::{Env, Error, Result};
use crate::monitor::Warning;
use crate::repo::check::{self, CheckReport, Problem, Reading, Severity};
use crate::repo::sync::Chain;
use crate::repo::{self, Repository};

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
    let finding = if report.is_damaged() { "damaged" } else { "sound" };
    let text = format!("{now} {finding}");
    let catalog = repository.catalog();
    match catalog.set_value(&catalog.key_here("last_check"), text.as_bytes()) {
        Err(error) if error.is_damage() => return Err(crate::repo::Error::from(error).into()),
        // The answer is worth more than the note that it was given.
        Err(error) => env.monitor.warn(&Warning::note("catalog", Chain(&error).to_string())),
        Ok(()) => {}
    }
    Ok(report)
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
