//! What a person sees any morning: `status` in one screen.

use super::text::{self, Style};
use crate::commands::status::{Advice, ReplicaStatus, StackStatus, StatusReport};
use std::fmt::Write as _;

/// Columns of a usual terminal.
const WIDTH: usize = 80;

pub(super) fn status(out: &mut String, style: Style, report: &StatusReport) {
    let now = jiff::Timestamp::now().as_second();
    let all = || report.stacks.iter().map(|s| (s.stack.as_str(), s.host.as_str()));
    let name_of = |s: &StackStatus| text::stack_name(&s.stack, &s.host, all());
    let width = report.stacks.iter().map(|s| name_of(s).chars().count()).max().unwrap_or(10).clamp(10, 24);
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<width$}  {text}");
    };
    for stack in &report.stacks {
        line(&name_of(stack), &stack_line(stack));
        let restored = stack.last_restore.map_or_else(|| "never".to_owned(), |at| text::age(now - at));
        line("", &format!("last restored from here: {restored}"));
    }
    line("check", &check_line(style, report, now));
    for replica in &report.replicas {
        line("replica", &format!("{} · {}", replica.name, replica_line(replica, now)));
    }
    let packs = text::count(report.packs, "pack", "packs");
    let stored = text::bytes(report.stored_bytes);
    line("repository", &format!("{} · {stored} in {packs}", report.repository));
    line("key", &format!("“{}”, {}", report.key, report.role));
    for advice in &report.advice {
        advice_lines(out, style, advice);
    }
}

fn stack_line(stack: &StackStatus) -> String {
    let (stored, bytes) = (text::bytes(stack.stored_bytes), text::bytes(stack.bytes));
    let kept = format!("{} kept · {stored} for {bytes}", stack.snapshots);
    match (&stack.newest_complete_time, stack.newest_complete_age_seconds) {
        (Some(time), Some(age)) => format!("newest complete {} ({}) · {kept}", text::local_time(time), text::age(age)),
        _ => format!("no complete snapshot · {kept}"),
    }
}

fn check_line(style: Style, report: &StatusReport, now: i64) -> String {
    let Some(at) = report.last_check else { return "never checked from here".to_owned() };
    let found = if report.last_check_found_damage { style.bad("damage found") } else { "no damage".to_owned() };
    let oldest = report.oldest_reading_seconds.map_or_else(String::new, |s| format!(", oldest {}", text::age(s)));
    let share = text::share(report.share_read);
    format!("{}, {found}, {share} of the bytes read back{oldest}", text::age(now - at))
}

fn replica_line(replica: &ReplicaStatus, now: i64) -> String {
    let lag = match (replica.behind, replica.lag_seconds) {
        (0, _) if replica.lacks > 0 => format!("{} damaged or not copied", replica.lacks),
        (0, _) => "up to date".to_owned(),
        (behind, Some(seconds)) if seconds > 0 => {
            format!("{} behind, newest there {} older", behind, text::seconds(seconds as f64))
        }
        (behind, _) => format!("{behind} behind"),
    };
    let verified = replica.verified.map_or_else(String::new, |at| format!(", read back {}", text::age(now - at)));
    let only =
        if replica.only_there > 0 { format!(", {} of them only there", replica.only_there) } else { String::new() };
    let gone = if replica.is_there { "" } else { " · not there now" };
    format!("{lag} · {} there{only} · {}{verified}{gone}", replica.snapshots, text::age(now - replica.at))
}

/// The command stands behind what is the matter, or below it where both are too long for a line.
fn advice_lines(out: &mut String, style: Style, advice: &Advice) {
    let Advice { urgent, message, command } = advice;
    let shown = if *urgent { style.bad(message) } else { style.warn(message) };
    let mark = if *urgent { style.bad("✗") } else { style.warn("!") };
    match message.chars().count() + command.chars().count() + 7 > WIDTH {
        true => drop(writeln!(out, "{mark} {shown}\n    ← {command}")),
        false => drop(writeln!(out, "{mark} {shown}   ← {command}")),
    }
}
