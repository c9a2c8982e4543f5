//! `snap log`: who did what, when, for how long, with which result; and the report of an incident.
//!
//! Writing a record is the last thing of a command and never its failure: what was done is done.

use super::application::Prepared;
use super::create::{CreateOptions, CreateReport, create};
use super::env::{host_name, now_text};
use super::{Env, Error, Result};
use crate::id::{LogId, SnapshotId};
use crate::monitor::Warning;
use crate::repo::log::{Ending, LogEntry, UnreadLog};
use crate::repo::select::Scope;
use crate::repo::{self, Repository, sync::Chain};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Instant;

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The beginning of a record's or a snapshot's id.
    pub id: Option<String>,
    /// Only of this stack.
    pub stack: Option<String>,
    /// Only of this host.
    pub host: Option<String>,
    /// Only the newest.
    pub last: bool,
}

/// One record.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedEntry {
    /// Its id.
    pub id: String,
    /// What it says.
    #[serde(flatten)]
    pub entry: LogEntry,
}

/// What `log` says.
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// The records, oldest first.
    pub entries: Vec<LoggedEntry>,
    /// Those that cannot be read.
    pub unreadable: Vec<UnreadLog>,
}

/// Lists records.
///
/// # Errors
/// The repository cannot be read, or nothing fits the id.
pub fn log(repository: &Repository, options: &LogOptions) -> Result<LogReport> {
    let found = repository.log()?;
    let scope = Scope { host: options.host.clone(), stack: options.stack.clone() };
    let fits = |id: &LogId, entry: &LogEntry| {
        let begins = |text: &str| {
            let of_snapshot =
                [entry.snapshot, entry.safety].iter().flatten().any(|id| id.to_string().starts_with(text));
            id.to_string().starts_with(text) || of_snapshot
        };
        options.id.as_deref().is_none_or(begins) && scope.fits(&entry.host, &entry.stack)
    };
    let wanted = found.entries.into_iter().filter(|(id, entry)| fits(id, entry));
    let mut entries: Vec<LoggedEntry> = wanted.map(|(id, entry)| LoggedEntry { id: id.to_string(), entry }).collect();
    if options.last {
        entries.drain(..entries.len().saturating_sub(1));
    }
    match &options.id {
        Some(id) if entries.is_empty() => {
            Err(Error::usage(format!("no record fits “{id}”"), "snap log lists what there is"))
        }
        _ => Ok(LogReport { entries, unreadable: found.unread }),
    }
}

/// Who runs this, as the host knows him.
pub fn user_name() -> String {
    let said =
        |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty() && !text.contains(char::is_control));
    let own = said("USER").or_else(|| said("LOGNAME"));
    let own = own.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    match said("SUDO_USER").filter(|user| *user != own) {
        Some(user) => format!("{user} as {own}"),
        None => own,
    }
}

/// A record of something that begins now.
pub fn begin(repository: &Repository, action: &str) -> LogEntry {
    LogEntry::begin(repository, action, now_text(), host_name(), user_name())
}

/// Ends a record and puts it.
pub fn put(env: &Env, repository: &Repository, mut entry: LogEntry, started: Instant) {
    entry.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    if let Err(error) = repository.put_log(&entry) {
        let message = format!("what was done could not be recorded ({})", Chain(&error));
        env.monitor.warn(&Warning::note("snap log", message));
    }
}

/// [`create`], with a record of it.
///
/// # Errors
/// As [`create`].
pub fn create_and_log(
    env: &Env,
    repository: &Repository,
    options: &CreateOptions,
    prepared: Option<&Prepared>,
) -> Result<CreateReport> {
    let started = Instant::now();
    let mut entry = begin(repository, "create");
    let result = create(env, repository, options, prepared);
    match &result {
        Ok(report) => {
            entry.stack.clone_from(&report.snapshot.stack);
            entry.snapshot = SnapshotId::parse(&report.snapshot.id).ok();
            entry.ending = if report.snapshot.complete { Ending::Done } else { Ending::Incomplete };
            let missing = report.warnings.iter().filter(|warning| warning.incomplete);
            let missing: Vec<String> = missing.map(|w| format!("{}: {}", w.subject, w.message)).take(20).collect();
            entry.message = missing.join("; ");
        }
        // The command is run once more with another catalog.
        Err(error) if error.is_catalog_damage() || error.is_catalog_full() => return result,
        Err(error) => {
            let folder = || super::project::Project::look(&options.dir).map(|project| project.name).unwrap_or_default();
            entry.stack = prepared.map_or_else(folder, |prepared| prepared.stack().to_owned());
            entry.stack = options.stack.clone().unwrap_or(entry.stack);
            (entry.ending, entry.message) = failure(error);
        }
    }
    put(env, repository, entry, started);
    result
}

/// How an error reads in a record.
pub fn failure(error: &Error) -> (Ending, String) {
    let ending = match error {
        Error::Repo(repo::Error::Interrupted) => Ending::Interrupted,
        _ => Ending::Failed,
    };
    (ending, Chain(error).to_string())
}

/// The report of what a record tells, in Markdown: facts are filled in, what only people know is left
/// to them.
pub fn markdown(logged: &LoggedEntry) -> String {
    let entry = &logged.entry;
    let mut out = String::new();
    let short = |id: &SnapshotId| id.short();
    let what = match entry.action.as_str() {
        "create" => "Snapshot",
        _ => "Rollback",
    };
    let _ = writeln!(out, "# Incident report: {} {} of {}\n", entry.stack, entry.action, clock(&entry.time));
    let _ = writeln!(out, "| | |\n|---|---|");
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "| {name} | {} |", cell(value));
        }
    };
    row("Date", &clock(&entry.time));
    row("Application", &format!("{} on {}", entry.stack, entry.host));
    row("Executed by", &format!("{} (key {})", entry.user, entry.key));
    row("Severity", "to be filled in");
    row("Result", entry.ending.words());
    row("Snapshot", &entry.snapshot.as_ref().map(short).unwrap_or_default());
    row("State before, kept as", &entry.safety.as_ref().map(short).unwrap_or_default());
    row("Chosen parts", &entry.only.join(", "));
    row("Duration", &format!("{:.1} s", entry.seconds));
    row("Services down", &entry.down_seconds.map(|seconds| format!("{seconds:.1} s")).unwrap_or_default());
    row("Health", entry.verdict.map_or("", |verdict| verdict.words()));
    row("Record", &logged.id);
    row("Tool", &entry.tool);
    let _ = writeln!(out, "\n## Summary\n\n{what} {}.", entry.ending.words());
    if !entry.message.is_empty() {
        let _ = writeln!(out, "{}", cell(&entry.message));
    }
    let _ =
        writeln!(out, "\n## Impact\n\n_Who was affected, what could not be used: to be filled in._\n\n## Timeline\n");
    let _ = writeln!(out, "- {}: {} begun", clock(&entry.time), entry.action);
    for step in &entry.steps {
        let _ = writeln!(out, "- {}: {}", clock(&step.time), cell(&step.what));
    }
    if !entry.changes.is_empty() {
        let _ = writeln!(out, "\n## What was changed\n");
        entry.changes.iter().for_each(|line| {
            let _ = writeln!(out, "- {}", cell(line));
        });
    }
    let _ = writeln!(out, "\n## Verification\n");
    if entry.evidence.is_empty() {
        let _ = writeln!(out, "Nothing was checked: the health of the application is not verified.");
    } else {
        let _ = writeln!(out, "| service | check | passed | answer | asked | after |\n|---|---|---|---|---|---|");
    }
    for found in &entry.evidence {
        let passed = if found.passed { "yes" } else { "**no**" };
        let _ = writeln!(
            out,
            "| {} | {} | {passed} | {} | {}× | {:.1} s |",
            cell(&found.service),
            cell(&found.check),
            cell(&found.answer),
            found.attempts,
            found.seconds
        );
    }
    let rest = "\n## Root cause\n\n_To be filled in._\n\n## Follow-up actions\n\n- [ ] _to be filled in_\n\n\
        ## Lessons learned\n\n_To be filled in._\n\n## Sign-off\n\n";
    let _ = writeln!(out, "{rest}Executed by: {}  \nDate/Time: {}  \nVerified by: ", entry.user, clock(&entry.time));
    out
}

/// A time to the second, in UTC.
fn clock(time: &str) -> String {
    let text = time.parse::<jiff::Timestamp>().map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    text.unwrap_or_else(|_| time.to_owned())
}

/// Text that stays one line and one cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
