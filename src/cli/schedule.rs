//! `snap schedule`: its arguments, its calls, its answers.

use super::exit::Exit;
use super::render::Output;
use super::text::{self, Style};
use crate::commands::schedule::{self, ScheduleOptions, ScheduleReport, ScheduledJob};
use crate::commands::{Env, Result};
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// See [`super::args::Command::Schedule`].
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Make timers and services of systemd from [schedule] in snap.toml, or bring them up to date
    #[command(after_help = "Examples: snap schedule install /srv/clinic · snap schedule install --user\n\
        What is done, and when: docs/SCHEDULE.md. Given again it changes only what is no longer as snap.toml says.\n\
        Exit codes: 0 they are there · 1 a file cannot be written, or systemd refused · 2 snap.toml says nothing \
        to be done, or a name is taken")]
    Install(ScheduleArgs),
    /// Say when each will start next, and how it last ended
    #[command(after_help = "Example: snap schedule show /srv/clinic\n\
        Exit codes: 0 shown · 2 snap.toml cannot be understood")]
    Show(ScheduleArgs),
    /// Take the timers and services away
    #[command(after_help = "Example: snap schedule remove /srv/clinic\n\
        Exit codes: 0 nothing of them is left · 1 a file cannot be removed, or systemd refused · 2 a name is somebody else's")]
    Remove(ScheduleArgs),
    /// End with 0 unless a restore of the application in this folder is at work, for the condition of a service
    #[command(hide = true)]
    MayCreate,
    /// Tell that a unit has failed that could not tell of it itself
    #[command(hide = true)]
    Failed {
        /// The unit's name
        unit: String,
    },
}

/// Whose, and where.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// The project's folder, with snap.toml
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// For your own systemd instead of the system's
    #[arg(long)]
    pub user: bool,
    /// Put the units into this folder, for a machine that is made elsewhere; no systemd is told
    #[arg(long, value_name = "DIR")]
    pub unit_dir: Option<PathBuf>,
}

impl ScheduleArgs {
    fn options(&self) -> ScheduleOptions {
        ScheduleOptions { dir: self.dir.clone(), user: self.user, folder: self.unit_dir.clone() }
    }
}

impl ScheduleCommand {
    /// The folder whose `snap.toml` counts.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Install(args) | Self::Show(args) | Self::Remove(args) => &args.dir,
            Self::MayCreate | Self::Failed { .. } => Path::new("."),
        }
    }
}

pub(super) fn schedule(env: &Env, command: &ScheduleCommand, output: Output) -> Result<Exit> {
    let (report, verb) = match command {
        ScheduleCommand::Install(args) => (schedule::install(env, &args.options())?, "written"),
        ScheduleCommand::Remove(args) => (schedule::uninstall(env, &args.options())?, "removed"),
        ScheduleCommand::Show(args) => (schedule::show(env, &args.options())?, ""),
        ScheduleCommand::MayCreate => {
            let may = schedule::may_create(env, Path::new("."))?;
            // Any other code but 255 says to systemd that the service is left out.
            return Ok(if may { Exit::Done } else { Exit::InTheWay });
        }
        ScheduleCommand::Failed { unit } => {
            for problem in schedule::failed(env, Path::new("."), unit)? {
                text::tell(&format!("{}: {}", problem.subject, problem.message));
            }
            return Ok(Exit::Done);
        }
    };
    let exit = if report.refused.is_empty() { Exit::Done } else { Exit::Failed };
    Ok(output.give(&report, exit, |out, style| told(out, style, &report, verb)))
}

fn told(out: &mut String, style: Style, report: &ScheduleReport, verb: &str) {
    if !verb.is_empty() {
        let files = text::count(report.changed.len() as u64, "file", "files");
        match report.changed.is_empty() {
            true => drop(writeln!(out, "{} nothing to change in {}", style.good("✓"), report.units.display())),
            false => drop(writeln!(out, "{} {files} {verb} in {}", style.good("✓"), report.units.display())),
        }
    }
    for order in &report.refused {
        let _ = writeln!(out, "{} systemd refused: {order}", style.bad("✗"));
    }
    for job in &report.jobs {
        job_line(out, style, job, report.running);
    }
    if report.jobs.is_empty() && verb != "removed" {
        let _ = writeln!(
            out,
            "nothing is scheduled for {}   ← [schedule] in snap.toml, then {}",
            report.stack,
            text::runnable("snap schedule install")
        );
    }
    if !report.running && !report.jobs.is_empty() {
        let _ = writeln!(
            out,
            "{}",
            style.warn("no systemd that would start them was reached: nothing runs by itself from here")
        );
    }
}

fn job_line(out: &mut String, style: Style, job: &ScheduledJob, running: bool) {
    let now = jiff::Timestamp::now().as_second();
    let when = job.when.as_deref().unwrap_or("no longer in snap.toml");
    let next = match (job.installed, job.next) {
        (false, _) => style.warn(&format!("not installed   ← {}", text::runnable("snap schedule install"))),
        (true, Some(at)) => {
            let time = jiff::Timestamp::from_second(at).map(|time| text::local_time(&time.to_string()));
            format!("next {}", time.unwrap_or_default())
        }
        (true, None) if running => "systemd does not say when it comes next".to_owned(),
        (true, None) => "installed".to_owned(),
    };
    let _ = writeln!(out, "{:<10} {when:<18} {next}", job.job);
    let result = job.result.as_deref().map_or_else(String::new, |result| format!(" · systemd: {result}"));
    let _ = match &job.last {
        None => writeln!(out, "           never ended here{result}"),
        Some(run) if run.is_good() => writeln!(out, "           last {}: done{result}", text::age(now - run.at)),
        Some(run) => writeln!(out, "           last {}: {}{result}", text::age(now - run.at), style.bad(&run.message)),
    };
}
