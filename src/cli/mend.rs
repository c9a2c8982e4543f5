//! `snap repair`: its arguments, its question, its answer.

use super::exit::Exit;
use super::render::Output;
use super::run::with_open;
use super::text::{self, Style};
use crate::commands::repair::RepairOptions;
use crate::commands::{self, Env, Result};
use crate::repo::check::Severity;
use crate::repo::repair::{Mended, RepairReport, State};
use crate::repo::sync::about;
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;

pub(super) const HELP: &str = "Examples: snap repair · snap repair --from s3://vault/clinic --yes · snap repair --from-source /srv/clinic --yes\n\
        Without --yes it says what it would do and asks. Nothing is deleted: what is replaced stays under damaged/ in the \
        repository. Let a check read everything before, or give --read-data. It can be stopped at any time.\n\
        Exit codes: 0 sound · 4 something is damaged still, and it is listed · 2 --from is another repository · \
        11 only an owner can repair · 130 interrupted, the next run goes on";

/// Files that a person may lose are named up to this number.
const LINES_MAX: usize = 40;
/// The same as long as nothing was done.
const LINES_BEFORE_MAX: usize = 5;

/// See [`super::args::Command::Repair`].
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// A replica that what is damaged or missing is taken from: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub from: Option<String>,
    /// A live folder: content of it that has been lost in the repository is stored again
    #[arg(long, value_name = "DIR")]
    pub from_source: Option<PathBuf>,
    /// Read all packs whole first
    #[arg(long)]
    pub read_data: bool,
    /// Only say what would be done
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
}

pub(super) fn repair(env: &Env, args: &RepairArgs, output: Output) -> Result<Exit> {
    let options = |dry_run, read_data| RepairOptions {
        dry_run,
        from: args.from.clone(),
        from_source: args.from_source.clone(),
        read_data,
    };
    let opened = commands::repair::open(env, args.from.as_deref());
    with_open(env, opened, |repository| {
        let planned = commands::repair::repair(env, repository, &options(true, args.read_data))?;
        // What chunks of trees name is known only when they are back.
        let can_recapture = args.from_source.is_some() && planned.chunks_lost > 0;
        let wanted = (planned.has_work() || can_recapture) && !args.dry_run;
        if !wanted || !(args.yes || env.prompt.confirm(&question(&planned), "repair")) {
            return Ok(output.give(&planned, exit_of(&planned), |out, style| report_text(out, style, &planned)));
        }
        // What there was to be found by reading has been found.
        let done = commands::repair::repair(env, repository, &options(false, false))?;
        Ok(output.give(&done, exit_of(&done), |out, style| report_text(out, style, &done)))
    })
}

fn exit_of(report: &RepairReport) -> Exit {
    if report.is_damaged() { Exit::Damage } else { Exit::Done }
}

fn question(planned: &RepairReport) -> String {
    let mut out = String::new();
    objects(&mut out, planned);
    out.push_str("type repair to do it");
    out
}

fn objects(out: &mut String, report: &RepairReport) {
    for one in report.objects.iter().take(LINES_MAX) {
        let Mended { object, problem, state, reason, aside } = one;
        let aside = aside.as_ref().map(|path| format!("; what was there is {path}")).unwrap_or_default();
        let state = match (state, reason) {
            (State::Fetched, _) => format!("taken from the replica{aside}"),
            (State::Written, _) => format!("written again{aside}"),
            (State::CanBeWritten, _) => "it can be written again as it was".to_owned(),
            (State::CanBeFetched, _) => "the replica has it".to_owned(),
            (State::SetAside, _) => format!("not needed any more{aside}"),
            (State::CanBeSetAside, _) => "the packs themselves say what it listed".to_owned(),
            (State::Left, Some(reason)) => format!("left as it is: {reason}"),
            (State::Left, None) => "left as it is".to_owned(),
        };
        let _ = writeln!(out, "  {}\n      {state}", about(object, problem));
    }
    if let Some(more) = report.objects.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {more} more");
    }
    if report.relisted > 0 {
        let verb = if report.dry_run { "can be" } else { "are" };
        let _ = writeln!(out, "  {} packs that no index lists {verb} listed again", report.relisted);
    }
    if report.chunks_lost > 0 && report.dry_run && report.chunks_stored > 0 {
        let _ = writeln!(
            out,
            "  of {} chunks that are lost, live files still hold {}, which can be stored again",
            report.chunks_lost, report.chunks_stored
        );
    } else if report.chunks_stored > 0 {
        let _ = writeln!(out, "  {} chunks of live files are stored again", report.chunks_stored);
    }
}

fn report_text(out: &mut String, style: Style, report: &RepairReport) {
    objects(out, report);
    let damage: Vec<_> = report.problems.iter().filter(|problem| problem.severity == Severity::Damage).collect();
    let wants = report.dry_run && report.has_work();
    // Before anything is done it matters what can be, and most of the rest may go with it.
    let lines = if wants { LINES_BEFORE_MAX } else { LINES_MAX };
    for problem in damage.iter().take(lines) {
        let _ = writeln!(out, "{} {}", style.bad("✗"), about(&problem.object, &problem.message));
    }
    if let Some(more) = damage.len().checked_sub(lines).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {more} more are damaged now   ← {}", text::runnable("snap check"));
    }
    match (damage.is_empty(), wants) {
        (true, true) => drop(writeln!(out, "nothing was changed; --yes does it")),
        (true, false) => drop(writeln!(out, "{} nothing is damaged", style.good("✓"))),
        (false, true) => drop(writeln!(out, "nothing was changed; --yes does what can be done")),
        (false, false) => {
            let undone = if report.dry_run { "nothing was changed, and nothing at hand helps; " } else { "" };
            let _ = writeln!(
                out,
                "{undone}to save more: --from a replica that has it, or --from-source a folder that still holds the files"
            );
        }
    }
}
