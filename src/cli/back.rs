//! `snap restore`: which of its ways is meant, and what a person sees of an application that comes back.

use super::exit::Exit;
use super::render::Output;
use super::restore_args::RestoreArgs;
use super::run::{file_at_home, scope, with_repository};
use super::text::{self, Style};
use crate::commands::rollback::{Answer, RollbackOptions, is_application, rollback};
use crate::commands::rollback_report::{RollbackPlan, RollbackReport};
use crate::commands::rollback_resume::go_on;
use crate::commands::{self, Env, Error, Result};
use crate::repo::log::Ending;
use std::fmt::Write as _;

/// Restores files, or an application.
///
/// # Errors
/// As the command that is meant.
pub fn restore(env: &Env, args: &RestoreArgs, output: Output) -> Result<Exit> {
    if args.plan && (args.resume || args.abort) {
        let hint = "snap status says which restore is unfinished; --resume makes the rest of its changes, or begins anew if \
                    none was made; --abort puts the old state back";
        return Err(Error::usage("what was begun cannot be planned anew", hint));
    }
    if args.id.is_empty() && !args.resume && !args.abort {
        return Err(Error::usage(
            "which snapshot is to be restored is not said",
            "snap list shows what there is, and latest is the newest: snap restore latest --plan",
        ));
    }
    if args.resume || args.abort {
        let stack = args.scope.stack.clone();
        return with_repository(env, |repository| {
            let report = go_on(env, repository, stack.as_deref(), args.abort)?;
            Ok(done(output, &report, args.abort))
        });
    }
    let scope = scope(&args.scope);
    with_repository(env, |repository| {
        let files_alone = args.target.is_some() || args.in_place || !args.paths.is_empty();
        if !files_alone && is_application(repository, &scope, &args.id)? {
            let options = RollbackOptions {
                id: args.id.clone(),
                scope: scope.clone(),
                only: args.only.clone(),
                exact: args.exact,
                plan: args.plan,
                yes: args.yes,
                workers: args.threads,
            };
            return Ok(match rollback(env, repository, &options)? {
                Answer::Plan(plan) => planned(output, &plan),
                Answer::Done(report) => done(output, &report, false),
            });
        }
        if args.plan || args.yes || (!args.only.is_empty() && !files_alone) {
            let message = "the snapshot is of a folder, and --plan, --yes and --only are for applications";
            return Err(Error::usage(message, "give --in-place or --target DIR, and single paths behind the id"));
        }
        let options = commands::restore::RestoreOptions {
            id: args.id.clone(),
            scope: scope.clone(),
            target: args.target.as_deref().map(file_at_home).transpose()?,
            in_place: args.in_place,
            exact: args.exact,
            paths: args.paths.clone(),
            only: args.only.clone(),
            unprivileged: args.unprivileged,
            workers: args.threads,
        };
        Ok(output.restore(&commands::restore::restore(env, repository, &options)?))
    })
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn planned(output: Output, plan: &RollbackPlan) -> Exit {
    output.give(plan, Exit::Done, |out, _| {
        let tags = if plan.tags.is_empty() { String::new() } else { format!(" · tag {}", plan.tags.join(", ")) };
        let _ = writeln!(
            out,
            "{} back to {} · {}{tags}\n",
            plan.project,
            short(&plan.snapshot),
            text::local_time(&plan.time)
        );
        for line in plan.lines() {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(out, "  needs {} beside what is there", text::bytes(plan.bytes));
        let _ = writeln!(out, "  the present is kept first, as a snapshot with the tag before-restore");
    })
}

/// `asked` if the person asked for the old state.
fn done(output: Output, report: &RollbackReport, asked: bool) -> Exit {
    let exit = match report.ending {
        Ending::Done => Exit::Done,
        Ending::PutBack if asked => Exit::Done,
        Ending::PutBack => Exit::PutBack,
        _ => Exit::NeedsPerson,
    };
    output.give(report, exit, |out, style| told(out, style, report, asked))
}

fn told(out: &mut String, style: Style, report: &RollbackReport, asked: bool) {
    // The steps were said as they were done.
    for found in &report.evidence {
        let mark = if found.passed { style.good("✓") } else { style.bad("✗") };
        let _ = writeln!(out, "   {mark} {}: {}: {}", found.service, found.check, found.answer);
    }
    let _ = writeln!(out);
    let down = text::seconds(report.down_seconds);
    match report.ending {
        Ending::Done => {
            let health = match report.verdict {
                _ if !report.steps.is_empty() && report.started.is_empty() => "nothing is started",
                verdict => verdict.map_or("not verified", |verdict| verdict.words()),
            };
            let _ = writeln!(
                out,
                "{} {} is back at {} · {health} · down {down} · {}",
                style.good("✓"),
                report.project,
                short(&report.snapshot),
                text::seconds(report.seconds)
            );
        }
        Ending::PutBack if asked => {
            let _ = writeln!(
                out,
                "{} the old state is back: {} runs as before the restore · down {down}",
                style.good("✓"),
                report.project
            );
        }
        Ending::PutBack => {
            let _ = writeln!(out, "{} {}", style.bad("✗"), report.reason);
            let _ =
                writeln!(out, "  everything was put back: {} runs as before the restore · down {down}", report.project);
        }
        _ => {
            let _ = writeln!(out, "{} {} needs a person: {}", style.bad("✗"), report.project, report.reason);
            let _ = writeln!(out, "  {}", report.trouble);
        }
    }
    if !report.stopped.is_empty() || !report.started.is_empty() {
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(" ") };
        let (stopped, seconds) = (list(&report.stopped), text::seconds(report.stop_seconds));
        let _ = writeln!(out, "  stopped {stopped} in {seconds} · started {}", list(&report.started));
    }
    if let (Some(safety), Ending::Done) = (&report.safety, report.ending) {
        let _ = writeln!(out, "  to undo this:  {}", text::runnable(&format!("snap restore {}", short(safety))));
    }
    kept(out, report);
    for left in &report.left {
        let _ = writeln!(out, "  could not be removed: {left}");
    }
}

/// What of the old state is there still, why, and how it goes.
fn kept(out: &mut String, report: &RollbackReport) {
    if report.kept.is_empty() {
        return;
    }
    let why = match (&report.safety, report.lacks.is_empty()) {
        (Some(safety), false) => format!("the snapshot {} of it lacks {}", short(safety), report.lacks.join("; ")),
        _ => "no snapshot holds all of it".to_owned(),
    };
    let _ = writeln!(out, "  the state before is kept, {}, because {why}:", text::bytes(report.kept_bytes));
    for kept in &report.kept {
        let _ = writeln!(out, "    {kept}");
    }
    let _ = writeln!(out, "  when the application is seen to be well, it can go:");
    for command in &report.discard {
        let _ = writeln!(out, "    {command}");
    }
}
