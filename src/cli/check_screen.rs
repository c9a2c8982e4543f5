//! What a person sees after `check`.

use super::text::{self, Style};
use crate::repo::check::{CheckReport, Problem, Severity};
use crate::repo::sync::about;
use std::fmt::Write as _;

/// What helps against the damage found, one line for each kind of it.
fn ways_out(problems: &[Problem]) -> Vec<&'static str> {
    let damage = || problems.iter().filter(|p| p.severity == Severity::Damage);
    let content =
        |p: &Problem| p.object.starts_with("packs/") || p.object.starts_with("index/") || p.message.contains(" pack ");
    let gone = |p: &Problem| p.message.contains("nobody has forgotten it");
    let mut out = Vec::new();
    if damage().any(content) {
        out.push("what is still in its folder is stored again by the next snapshot   ← snap create, then snap check");
    }
    if damage().any(gone) {
        out.push("if somebody removed the snapshot on purpose, say so                ← snap forget ID");
    }
    let opens = |p: &Problem| p.object.starts_with("keys") || p.object == "config";
    if damage().any(|p| !opens(p)) {
        out.push("what a replica still has whole comes back from it                  ← snap repair --from REPLICA");
    }
    if damage().any(|p| p.object == "config") {
        out.push("config is written again as it was                                  ← snap repair");
    }
    if damage().any(|p| p.object.starts_with("keys")) {
        out.push("a key comes back from a replica, or put a copy of the named file in its place ← snap repair --from REPLICA");
    }
    out
}

pub(super) fn check(out: &mut String, style: Style, report: &CheckReport) {
    for problem in &report.problems {
        let mark = match problem.severity {
            Severity::Damage => style.bad("damage"),
            Severity::Unknown => style.bad("unknown"),
            Severity::Note => style.warn("note"),
        };
        let _ = writeln!(out, "{mark}: {}", about(&problem.object, &problem.message));
    }
    let read = match (report.packs_read, report.opened) {
        (0, _) => "no pack was read whole".to_owned(),
        (n, true) => {
            let packs = text::count(n, "pack", "packs");
            format!("{packs} read whole, every chunk hashed ({})", text::bytes(report.bytes_read))
        }
        (n, false) => {
            let packs = text::count(n, "pack", "packs");
            format!("{packs} hashed as they lie ({})", text::bytes(report.bytes_read))
        }
    };
    let found = format!(
        "{}, {}; {read}",
        text::count(report.snapshots, "snapshot", "snapshots"),
        text::count(report.packs, "pack", "packs")
    );
    if report.is_damaged() {
        let damage = report.problems.iter().filter(|p| p.severity == Severity::Damage).count();
        let _ = writeln!(out, "{} {damage} damaged · {found}", style.bad("✗"));
        for line in ways_out(&report.problems) {
            let _ = writeln!(out, "  {}", text::runnable(line));
        }
    } else if report.is_unknown() {
        let _ =
            writeln!(out, "{} not all of it can be judged by this snap: use a newer one · {found}", style.warn("!"));
    } else {
        let _ = writeln!(out, "{} no damage found · {found}", style.good("✓"));
    }
    unread(out, style, report);
    if !report.trees_walked {
        let _ = writeln!(out, "  this key cannot open content: trees were not walked");
    }
}

/// How much is proven, and how long ago.
fn unread(out: &mut String, style: Style, report: &CheckReport) {
    if report.packs == 0 {
        return;
    }
    let share = text::share(report.share_read);
    let oldest = match report.oldest_unread_seconds {
        Some(age) => format!("the oldest reading: {}", text::age(i64::try_from(age).unwrap_or(i64::MAX))),
        None => {
            format!("{} never read whole from here", text::count(report.packs_never_read, "pack was", "packs were"))
        }
    };
    if report.packs_overdue > 0 {
        let packs = text::count(report.packs_overdue, "pack is", "packs are");
        let share = format!("{packs} overdue: {share} of the bytes were read in time");
        let _ = writeln!(out, "  {}, {oldest}   ← the next check goes on with them", style.warn(&share));
    } else {
        let help = if report.packs_never_read > 0 { "   ← snap check --read-data" } else { "" };
        let _ = writeln!(out, "  {share} of the bytes were read whole from here; {oldest}{help}");
    }
}
