//! The text of systemd's units: pure.
//!
//! For each job a timer and a service, and for all of them one template that tells of a service that failed in a
//! way that snap itself could not tell of (killed, out of memory, not there). A service says nothing secret: it
//! works in the project's folder, where `snap.toml` is, and names files.

use super::when::When;
use std::path::{Path, PathBuf};

/// In each unit's first line, before the folder that it is for.
const MARK: &str = "# Made by snap schedule install for ";

/// What a unit is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The stack's name.
    pub stack: String,
    /// Its folder.
    pub directory: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// For the system's manager, not for a person's.
    pub system: bool,
    /// Variables that name the repository and what opens it.
    pub variables: Vec<(&'static str, String)>,
    /// A file with further variables, secret ones.
    pub environment_file: Option<PathBuf>,
    /// What is done, and when.
    pub jobs: Vec<Job>,
}

/// One thing that is done by itself.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// `create`, `check`, `replicate`, `prune`.
    pub name: &'static str,
    pub when: When,
    /// The arguments of each call, one after the other.
    pub calls: Vec<Vec<String>>,
}

/// A file and its text.
pub(super) type Unit = (String, String);

/// The names that all units of a stack begin with.
pub(super) fn prefix(stack: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '_' };
    format!("snap-{}", stack.chars().map(plain).collect::<String>())
}

/// The names that a stack's units have, whatever is planned: what removal looks for.
pub(super) fn names(stack: &str) -> Vec<String> {
    let prefix = prefix(stack);
    let jobs = super::JOBS.iter().flat_map(|job| ["service", "timer"].map(|kind| format!("{prefix}-{job}.{kind}")));
    jobs.chain([format!("{prefix}-failed@.service")]).collect()
}

/// The folder that a unit was made for; `None` if it is somebody else's.
pub(super) fn made_for(text: &str) -> Option<&Path> {
    text.lines().next()?.strip_prefix(MARK).map(Path::new)
}

pub(super) fn units(plan: &Plan) -> Vec<Unit> {
    let prefix = prefix(&plan.stack);
    let mut out = vec![(format!("{prefix}-failed@.service"), failed(plan))];
    for job in &plan.jobs {
        out.push((format!("{prefix}-{}.service", job.name), service(plan, job)));
        out.push((format!("{prefix}-{}.timer", job.name), timer(plan, job)));
    }
    out
}

fn head(plan: &Plan, what: &str) -> String {
    let directory = plan.directory.display();
    let description = specified(&format!("snap: {what} of {} in {directory}", plan.stack));
    format!("{MARK}{directory}\n[Unit]\nDescription={description}\n")
}

/// What all services have. Without the file with secrets none of them starts, but the one that tells of it.
fn base(plan: &Plan, needs_file: bool) -> String {
    let mut out =
        format!("\n[Service]\nType=oneshot\nWorkingDirectory={}\n", specified(&plan.directory.display().to_string()));
    for (name, value) in &plan.variables {
        out.push_str(&format!("Environment={}\n", quoted(&format!("{name}={value}"))));
    }
    if let Some(file) = &plan.environment_file {
        // It may hold what opens a bucket; the unit only names it.
        out.push_str(&format!(
            "EnvironmentFile={}{}\n",
            if needs_file { "" } else { "-" },
            specified(&file.display().to_string())
        ));
    }
    out
}

fn exec(plan: &Plan, key: &str, arguments: &[String]) -> String {
    let arguments = arguments.iter().map(|text| quoted(&text.replace('$', "$$")));
    let words: Vec<String> = [quoted(&plan.program.display().to_string())].into_iter().chain(arguments).collect();
    format!("{key}={}\n", words.join(" "))
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn service(plan: &Plan, job: &Job) -> String {
    let mut out = head(plan, job.name);
    if plan.system {
        out.push_str("Wants=network-online.target\nAfter=network-online.target docker.service\n");
    }
    out.push_str(&format!("OnFailure={}-failed@%n.service\n", prefix(&plan.stack)));
    out.push_str(&base(plan, true));
    out.push_str("Nice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\n");
    // Services that were stopped for a capture are started again first.
    out.push_str("TimeoutStopSec=10min\n");
    if job.name == "create" {
        // It is left out, and that is no failure, while a restore of the same application is at work.
        out.push_str(&exec(plan, "ExecCondition", &words("schedule may-create")));
    }
    if job.name == "check" {
        // The budget ended before all was read: the next night goes on.
        out.push_str("SuccessExitStatus=3\n");
    }
    for call in &job.calls {
        out.push_str(&exec(plan, "ExecStart", call));
    }
    out
}

fn timer(plan: &Plan, job: &Job) -> String {
    let mut out = head(plan, &format!("time for {}", job.name));
    out.push_str(&format!("\n[Timer]\nOnCalendar={}\nPersistent=true\n", job.when.calendar()));
    out.push_str("\n[Install]\nWantedBy=timers.target\n");
    out
}

fn failed(plan: &Plan) -> String {
    let mut out = head(plan, "failure of %i");
    out = out.replace("failure of %%i", "failure of %i");
    out.push_str(&base(plan, false));
    let mut arguments = words("schedule failed");
    arguments.push("UNIT".to_owned());
    out.push_str(&exec(plan, "ExecStart", &arguments).replace("\"UNIT\"", "%i"));
    out
}

/// `%` begins what systemd fills in.
fn specified(text: &str) -> String {
    text.replace('%', "%%")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", specified(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}
