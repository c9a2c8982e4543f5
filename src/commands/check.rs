//! `snap check`: proves the repository.

use super::{Env, Result};
use crate::repo::Repository;
use crate::repo::check::{self, CheckReport, Reading};

/// Checks the repository, reading packs whole as `read` says.
///
/// # Errors
/// The repository cannot be listed, or the person stopped it. Damage is in the report.
pub fn check(env: &Env, repository: &Repository, read: Option<Reading>) -> Result<CheckReport> {
    let now = jiff::Timestamp::now().as_second();
    let report = check::check(repository, &check::CheckOptions { read, now }, &*env.monitor)?;
    let finding = if report.is_damaged() { "damaged" } else { "sound" };
    let text = format!("{now} {finding}");
    repository.catalog().set_value("last_check", text.as_bytes())?;
    Ok(report)
}
