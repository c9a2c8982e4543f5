//! The verbs that keep a repository in order: their arguments, their calls, their answers.

use super::args::ScopeArgs;
use super::exit::Exit;
use super::render::Output;
use super::run::{scope, with_repository};
use super::screens::short;
use super::text::{self, Style};
use crate::commands::forget::{ForgetOptions, ForgetReport, JudgedStack, UndeleteReport};
use crate::commands::prune::PruneOptions;
use crate::commands::settings::{self, parse_age};
use crate::commands::{self, Env, Error, Result};
use crate::repo::prune::{Deletion, PruneReport};
use crate::repo::retention::Policy;
use clap::Args;
use std::fmt::Write as _;
use std::path::Path;

pub(super) const FORGET_HELP: &str = "Examples: snap forget --keep-daily 14 --keep-monthly 12 --dry-run · snap forget --prune · snap forget 7f3a9c21\n\
        The policy of [retention] in snap.toml counts where no --keep-… is given. What is forgotten is there until\n\
        snap prune removes it; snap undelete takes it back until then. With --prune, one line a night does both; \
        where something looks wrong, nothing is pruned.\n\
        Exit codes: 0 done · 1 something looks wrong and nothing was forgotten there, or prune refused (--yes confirms) · \
        2 no policy, no such snapshot, or the last complete one · 11 only an owner can forget";

pub(super) const PRUNE_HELP: &str = "Examples: snap prune --dry-run · snap prune · snap prune --repack-below 80%\n\
        Run it every day: each run deletes what an earlier one has marked. Captures may run meanwhile, here and elsewhere.\n\
        What is needed of packs that are mostly unneeded, and of many small packs, is copied into new ones first; then\n\
        the old ones are marked.\n\
        Exit codes: 0 done · 1 nothing was deleted: not everything is known that has to be, something that is needed is \
        lost, or so much is to go that --yes is needed · 4 an index object is damaged · 11 only an owner can prune · 130 interrupted, and the next run goes on";

/// See [`super::args::Command::Forget`].
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// Forget these; without a policy
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// What stays.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Only say what would be forgotten, and why
    #[arg(long)]
    pub dry_run: bool,
    /// What looks wrong has been looked at: forget all the same
    #[arg(long)]
    pub yes: bool,
    /// Then prune, as snap prune does; --yes counts for both
    #[arg(long)]
    pub prune: bool,
}

/// Rules of retention, for each host and stack; a snapshot stays if any of them keeps it.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Keep the newest N
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_last: u32,
    /// Keep the newest of each of the last N hours that have any
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_hourly: u32,
    /// The same for days
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_daily: u32,
    /// The same for weeks
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_weekly: u32,
    /// The same for months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_monthly: u32,
    /// The same for years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_yearly: u32,
    /// Keep all that are not older (12h, 30d, 4w)
    #[arg(long, value_name = "AGE")]
    pub keep_within: Option<String>,
    /// Keep all with this tag; may be given several times
    #[arg(long, value_name = "T")]
    pub keep_tag: Vec<String>,
}

/// See [`super::args::Command::Prune`].
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only say what would be marked and deleted
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what was marked this long ago; less only takes away the time to change one's mind
    #[arg(long, value_name = "AGE", default_value = "1d")]
    pub delay: String,
    /// Copy what is needed out of packs of which less than this share is, so that the rest goes; 0% copies nothing
    #[arg(long, value_name = "SHARE", default_value = "50%")]
    pub repack_below: String,
    /// Go on although more than half of what is stored is to go
    #[arg(long)]
    pub yes: bool,
    /// Go on although packs that snapshots need are missing or damaged; all that holds their content stays
    #[arg(long)]
    pub despite_damage: bool,
}

impl PolicyArgs {
    /// The policy that was typed; `snap.toml`'s where none was.
    fn policy(&self, by_name: bool) -> Result<Policy> {
        let typed = Policy {
            keep_last: self.keep_last,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_yearly: self.keep_yearly,
            keep_within: self.keep_within.as_deref().map(parse_age).transpose()?.unwrap_or(0),
            keep_tag: self.keep_tag.clone(),
        };
        match settings::read(Path::new("."))?.retention {
            Some(retention) if typed.is_empty() && !by_name => retention.policy(),
            _ => Ok(typed),
        }
    }
}

pub(super) fn forget(env: &Env, args: &ForgetArgs, output: Output) -> Result<Exit> {
    let options = ForgetOptions {
        ids: args.ids.clone(),
        scope: scope(&args.scope),
        policy: args.policy.policy(!args.ids.is_empty())?,
        dry_run: args.dry_run,
        confirmed: args.yes,
        prune: args.prune.then_some(PruneOptions { confirmed: args.yes, ..PruneOptions::default() }),
    };
    with_repository(env, |repository| {
        let report = commands::forget::forget(env, repository, &options)?;
        let held = report.stacks.iter().any(|stack| stack.held);
        if let Some(why) = held_because(&report) {
            env.about.say(why);
        }
        let refused = report.prune.as_ref().is_some_and(|prune| prune.refused);
        let exit = if held || refused { Exit::Failed } else { Exit::Done };
        Ok(output.give(&report, exit, |out, style| forget_text(out, style, &report, args.prune)))
    })
}

pub(super) fn undelete(env: &Env, ids: &[String], output: Output) -> Result<Exit> {
    with_repository(env, |repository| {
        let report = commands::forget::undelete(repository, ids)?;
        Ok(output.give(&report, Exit::Done, |out, style| undelete_text(out, style, &report)))
    })
}

pub(super) fn prune(env: &Env, args: &PruneArgs, output: Output) -> Result<Exit> {
    let options = PruneOptions {
        dry_run: args.dry_run,
        delay_seconds: parse_age(&args.delay)?,
        confirmed: args.yes,
        despite_damage: args.despite_damage,
        repack_below: parse_percentage(&args.repack_below)?,
    };
    with_repository(env, |repository| {
        let report = commands::prune::prune(env, repository, &options, &[])?;
        let exit = if report.refused { Exit::Failed } else { Exit::Done };
        Ok(output.give(&report, exit, |out, style| prune_text(out, style, &report)))
    })
}

/// A part between 0 and 1, from `50%`.
fn parse_percentage(text: &str) -> Result<f64> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number.filter(|number| (0.0..=100.0).contains(number)) {
        Some(number) => Ok(number / 100.0),
        None => Err(Error::usage(format!("“{text}” is no share"), "give a part such as 50%; 0% copies nothing")),
    }
}

fn deletion_text(deletion: &Deletion) -> String {
    let snapshots = text::count(deletion.snapshots, "snapshot", "snapshots");
    let packs = text::count(deletion.packs, "pack", "packs");
    format!("{snapshots}, {packs}, {}", text::bytes(deletion.bytes))
}

fn prune_text(out: &mut String, style: Style, report: &PruneReport) {
    let none = Deletion::default();
    let would = if report.dry_run { "would be " } else { "" };
    if report.deleted != none {
        let _ = writeln!(out, "{} {would}deleted: {}", style.good("✓"), deletion_text(&report.deleted));
    }
    let repacked = &report.repacked;
    if repacked.packs > 0 {
        let packs = text::count(repacked.packs, "pack", "packs");
        let (bytes, copied) = (text::bytes(repacked.bytes), text::bytes(repacked.bytes_copied));
        let _ = writeln!(out, "{} {would}copied: {copied} out of {packs} with {bytes}, which then go", style.good("✓"));
    }
    if report.marked != none {
        let _ = writeln!(out, "{} {would}marked: {}", style.good("✓"), deletion_text(&report.marked));
        let back = text::runnable("snap undelete ID");
        let _ = writeln!(out, "  a prune a day from now deletes it; until then {back} takes a snapshot back");
    }
    if report.waiting != none {
        let _ = writeln!(out, "  marked before, and not a day old: {}", deletion_text(&report.waiting));
    }
    if report.young != none {
        let young = text::count(report.young.packs, "pack", "packs");
        let _ = writeln!(
            out,
            "  {young} that no snapshot needs ({}) may be of a capture that still runs",
            text::bytes(report.young.bytes)
        );
    }
    if report.indexes_merged > 0 {
        let _ = writeln!(out, "  {} merged", text::count(report.indexes_merged, "index object", "index objects"));
    }
    if report.refused {
        let _ =
            writeln!(out, "{} more than half of what is stored would go: nothing was done   ← --yes", style.bad("✗"));
    } else if report.deleted == none && report.marked == none && repacked.packs == 0 {
        let all = text::count(report.packs, "pack", "packs");
        let _ = writeln!(out, "{} nothing to delete in {all}, {}", style.good("✓"), text::bytes(report.bytes));
    }
}

fn forget_text(out: &mut String, style: Style, report: &ForgetReport, wants_prune: bool) {
    for stack in &report.stacks {
        stack_text(out, style, stack);
    }
    let count = text::count(report.forgotten, "snapshot", "snapshots");
    match (report.dry_run, report.forgotten) {
        (true, _) => {
            let _ = writeln!(out, "{count} would be forgotten; nothing was done");
        }
        (false, 0) if report.stacks.iter().any(|stack| stack.held) => {
            let _ = writeln!(out, "{} nothing was forgotten: something looks wrong", style.bad("✗"));
        }
        (false, 0) => {
            let _ = writeln!(out, "{} nothing was forgotten", style.good("✓"));
        }
        (false, _) => {
            let _ = writeln!(out, "{} {count} forgotten", style.good("✓"));
            let _ = writeln!(out, "  to take one back:  {}", text::runnable("snap undelete ID"));
        }
    }
    match &report.prune {
        Some(prune) => prune_text(out, style, prune),
        None if wants_prune => {
            let _ = writeln!(out, "  nothing was pruned: something looks wrong");
        }
        None => {}
    }
}

/// Why a policy was held back; `None` if it was not.
fn held_because(report: &ForgetReport) -> Option<String> {
    let held = report.stacks.iter().find(|stack| stack.held)?;
    let (first, more) = held.suspects.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
    Some(format!("{} was held back: {}: {}{more}", held.stack, short(&first.id), first.what))
}

fn stack_text(out: &mut String, style: Style, stack: &JudgedStack) {
    let _ = writeln!(out, "{} on {}", stack.stack, stack.host);
    for one in &stack.snapshots {
        let mark = if one.keep { style.good("keep  ") } else { style.warn("forget") };
        let time = text::local_time(&one.snapshot.time);
        let _ = writeln!(out, "  {mark}  {}  {time:<16}  {}", short(&one.snapshot.id), one.reasons.join(", "));
    }
    for suspect in &stack.suspects {
        let _ = writeln!(out, "  {} {}: {}", style.bad("looks wrong:"), short(&suspect.id), suspect.what);
    }
    if stack.held {
        let _ = writeln!(out, "  nothing of it is forgotten until somebody has looked   ← --yes, or type its name");
    }
}

fn undelete_text(out: &mut String, style: Style, report: &UndeleteReport) {
    for snapshot in &report.snapshots {
        let time = text::local_time(&snapshot.time);
        let _ = writeln!(out, "{} {} is back: {} of {time}", style.good("✓"), short(&snapshot.id), snapshot.stack);
    }
}
