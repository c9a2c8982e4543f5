//! The larger answers: what a person sees after `create`, `list`, `show` and `restore`.

use super::text::{self, Style};
use crate::commands::create::CreateReport;
use crate::commands::list::{ListReport, ListedSnapshot};
use crate::commands::log::{LogReport, LoggedEntry};
use crate::commands::restore::RestoreReport;
use crate::commands::show::ShowReport;
use crate::repo::log::Ending;
use std::collections::BTreeSet;
use std::fmt::Write as _;

pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// What the new snapshot comes after.
pub(super) fn predecessor(report: &CreateReport) -> String {
    match (report.previous.as_deref(), report.snapshot.complete) {
        (Some(time), _) => format!("last complete snapshot {}", text::local_time(time)),
        (None, true) => "the first complete snapshot of it".to_owned(),
        (None, false) => "no complete snapshot of it yet".to_owned(),
    }
}

pub(super) fn create(out: &mut String, style: Style, report: &CreateReport, limit: usize) {
    if report.downtime.is_some() {
        return super::stack_screens::create(out, style, report, limit);
    }
    let (snapshot, stats) = (&report.snapshot, &report.stats);
    let last = predecessor(report);
    let _ = writeln!(out, "{} · {last}\n", snapshot.stack);
    for source in &snapshot.sources {
        let changed = match stats.files_changed {
            0 => "unchanged".to_owned(),
            n => format!("{} read", text::thousands(n)),
        };
        let files = text::count(source.files, "file", "files");
        let (kind, bytes) = (source.kind.word(), text::bytes(source.bytes));
        let _ = writeln!(out, "  {kind:<9} {:<24} {bytes:>9}  {files}, {changed}", source.name);
    }
    for line in report.coverage.iter().skip(1) {
        let kind = if line.state == "captured" { "sqlite" } else { "not kept" };
        let _ = writeln!(out, "  {kind:<9} {:<24} {}", line.what, line.reason);
    }
    let missing: Vec<_> = report.warnings.iter().filter(|warning| warning.incomplete).collect();
    if !missing.is_empty() {
        let _ = writeln!(out);
        for warning in missing.iter().take(limit) {
            let _ = writeln!(out, "  missing   {}: {}", warning.subject, warning.message);
        }
        if missing.len() > limit {
            let _ = writeln!(out, "  … and {} more (-v shows them all)", missing.len() - limit);
        }
    }
    let id = short(&snapshot.id);
    let (seen, new) = (snapshot.sources.iter().map(|s| s.bytes).sum(), text::bytes(stats.bytes_new));
    let cost = format!(
        "{} seen, {new} new, {} stored · {}",
        text::bytes(seen),
        text::bytes(stats.bytes_stored),
        text::seconds(stats.seconds)
    );
    let _ = writeln!(out);
    if snapshot.complete {
        let _ = writeln!(out, "{} {id}  complete · {cost}", style.good("✓"));
    } else {
        let what = format!("INCOMPLETE: {} missing", text::count(missing.len() as u64, "thing is", "things are"));
        let _ = writeln!(out, "{} {id}  {what} · {cost}", style.bad("!"));
    }
    let ways = format!("  to go back:  snap restore {id} --in-place     to look:  snap restore {id} --target DIR");
    let _ = writeln!(out, "{}", text::runnable(&ways));
}

pub(super) fn list(out: &mut String, style: Style, report: &ListReport, forgotten: bool, filter: &str) {
    let nothing = report.snapshots.is_empty() && report.unreadable.is_empty() && report.vanished.is_empty();
    if nothing && report.forgotten.is_empty() {
        let _ = match filter {
            "" => writeln!(out, "no snapshots in {}", report.repository),
            filter => writeln!(out, "no snapshot in {} fits {filter}", report.repository),
        };
        return;
    }
    let all = || report.snapshots.iter().chain(&report.forgotten).map(|s| (s.stack.as_str(), s.host.as_str()));
    let lineages: BTreeSet<(&str, &str)> = all().collect();
    let name = |s: &ListedSnapshot| text::stack_name(&s.stack, &s.host, lineages.iter().copied());
    let width = report.snapshots.iter().map(|s| name(s).chars().count()).max().unwrap_or(5).clamp(5, 24);
    let _ = writeln!(
        out,
        "{:<8}  {:<16}  {:<width$}  {:>9} {:>9} {:>9}  tags",
        "id", "time", "stack", "read", "new", "stored"
    );
    for snapshot in &report.snapshots {
        let _ = writeln!(out, "{}", list_line(snapshot, &name(snapshot), style, width));
    }
    for snapshot in report.forgotten.iter().filter(|_| forgotten) {
        let _ = writeln!(out, "{}  {}", list_line(snapshot, &name(snapshot), style, width), style.warn("forgotten"));
    }
    if !forgotten && !report.forgotten.is_empty() {
        let count = text::count(report.forgotten.len() as u64, "snapshot is", "snapshots are");
        let _ =
            writeln!(out, "  {count} forgotten and not removed yet   ← {}", text::runnable("snap list --forgotten"));
    }
    for gone in &report.vanished {
        let line = format!(
            "{}  {}  of {} was here before and is gone",
            short(&gone.id),
            text::local_time(&gone.time),
            gone.stack
        );
        let _ = writeln!(out, "{}", style.bad(&line));
    }
    for id in &report.damaged {
        let check = text::runnable("snap check");
        let line = format!("{}  was found damaged by the last check   ← {check}", short(id));
        let _ = writeln!(out, "{}", style.bad(&line));
    }
    for unreadable in &report.unreadable {
        let _ = writeln!(
            out,
            "{}",
            style.bad(&format!("{}  cannot be read: {}", short(&unreadable.id), unreadable.message))
        );
    }
}

/// What was done, a line each.
pub(super) fn log(out: &mut String, style: Style, report: &LogReport) {
    if report.entries.is_empty() && report.unreadable.is_empty() {
        let _ = writeln!(out, "nothing was recorded yet");
    }
    for LoggedEntry { id, entry } in &report.entries {
        let mark = match entry.ending {
            Ending::Done => style.good("✓"),
            Ending::Incomplete | Ending::PutBack | Ending::Interrupted => style.warn("!"),
            _ => style.bad("✗"),
        };
        let snapshot = entry.snapshot.map(|id| id.short()).unwrap_or_else(|| "—".to_owned());
        let health = entry.verdict.map(|verdict| format!(" · {}", verdict.words())).unwrap_or_default();
        let down = entry.down_seconds.filter(|seconds| *seconds > 0.0);
        let down = down.map(|seconds| format!(" · down {}", text::seconds(seconds))).unwrap_or_default();
        let _ = writeln!(
            out,
            "{}  {:<16}  {:<8} {:<16} {snapshot:<8} {mark} {} · {}{down}{health} · {}",
            short(id),
            text::local_time(&entry.time),
            entry.action,
            entry.stack,
            entry.ending.words(),
            text::seconds(entry.seconds),
            entry.user,
        );
        if !entry.message.is_empty() {
            let _ = writeln!(out, "          {}", entry.message);
        }
    }
    for one in &report.unreadable {
        let _ = writeln!(out, "{}", style.bad(&format!("{}  cannot be read: {}", one.object, one.message)));
    }
}

fn list_line(snapshot: &ListedSnapshot, name: &str, style: Style, width: usize) -> String {
    let stats = &snapshot.stats;
    let mut tail = snapshot.tags.join(",");
    if !snapshot.complete {
        tail = format!("{} {tail}", style.warn("INCOMPLETE"));
    }
    if !snapshot.note.is_empty() {
        tail = format!("{tail}  {}", snapshot.note);
    }
    let line = format!(
        "{}  {:<16}  {:<width$}  {:>9} {:>9} {:>9}  {tail}",
        short(&snapshot.id),
        text::local_time(&snapshot.time),
        name,
        text::bytes(snapshot.bytes),
        text::bytes(stats.bytes_new),
        text::bytes(stats.bytes_stored),
    );
    line.trim_end().to_owned()
}

pub(super) fn show(out: &mut String, style: Style, report: &ShowReport, limit: usize) {
    let m = &report.manifest;
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<12} {value}");
        }
    };
    line("snapshot", &report.id);
    line("stack", &format!("{} on {}", m.stack, m.host));
    line("time", &format!("{} ({})", text::local_time(&m.time), m.time));
    line("complete", &if m.complete { style.good("yes") } else { style.bad("no") });
    line("tags", &m.tags.join(", "));
    line("note", &m.note);
    line("git commit", m.git.as_deref().unwrap_or_default());
    line("made by", &m.tool);
    let follows: Vec<String> = m.predecessors.iter().map(crate::id::SnapshotId::short).collect();
    line("follows", &follows.join(", "));
    let s = &m.stats;
    let cost = format!(
        "{} read, {} new, {} stored · {}",
        text::bytes(s.bytes_read),
        text::bytes(s.bytes_new),
        text::bytes(s.bytes_stored),
        text::seconds(s.seconds)
    );
    line("cost", &cost);
    line("needs", &text::count(m.needs.len() as u64, "pack", "packs"));
    for source in &m.sources {
        let files = text::count(source.files, "file", "files");
        line(
            source.kind.word(),
            &format!("{} · {} · {files} · {}", source.name, source.root, text::bytes(source.bytes)),
        );
    }
    if m.project.is_none() {
        for coverage in &m.coverage {
            line(&coverage.state, &format!("{}: {}", coverage.what, coverage.reason));
        }
    }
    for warning in &m.warnings {
        line(if warning.incomplete { "missing" } else { "note" }, &format!("{}: {}", warning.subject, warning.message));
    }
    if m.project.is_some() {
        let _ = writeln!(out);
        super::stack_screens::table(out, style, &m.coverage);
        super::stack_screens::tables(out, m, limit);
    }
}

pub(super) fn restore(out: &mut String, style: Style, report: &RestoreReport, limit: usize) {
    for difference in report.differences.iter().take(limit) {
        let path = crate::repo::entry::shown(&difference.path);
        let _ = writeln!(out, "{}: {path}: {}: {}", style.warn("differs"), difference.attribute, difference.message);
    }
    if report.differences.len() > limit {
        let _ = writeln!(out, "… and {} more (-v shows them all)", report.differences.len() - limit);
    }
    for lost in report.lost.iter().take(limit) {
        let mark = if lost.damage { style.bad("damaged") } else { style.bad("failed") };
        let _ = writeln!(out, "{mark}: {}: {}", lost.path, lost.message);
    }
    if report.lost.len() > limit {
        let _ = writeln!(out, "… and {} more (-v shows them all)", report.lost.len() - limit);
    }
    let mut what = format!("{} at {}", text::count(report.files, "file", "files"), report.target.display());
    if report.unchanged > 0 {
        let _ = write!(what, ", {} right already", text::count(report.unchanged, "was", "were"));
    }
    if report.removed > 0 {
        let _ = write!(what, ", {} removed", text::thousands(report.removed));
    }
    let rate = super::progress::rate(report.bytes, report.seconds);
    let cost = format!("{} written · {} · {rate}", text::bytes(report.bytes), text::seconds(report.seconds));
    let id = short(&report.snapshot);
    match (report.lost.is_empty(), report.differences.is_empty()) {
        (true, true) => {
            let _ = writeln!(out, "{} {id} restored: {what} · {cost}", style.good("✓"));
        }
        (true, false) => {
            let count = text::count(report.differences.len() as u64, "attribute", "attributes");
            let _ = writeln!(out, "{} {id} restored: {what} · {cost} · {count} not as captured", style.warn("!"));
        }
        (false, _) => {
            let count = text::count(report.lost.len() as u64, "thing is", "things are");
            let _ = writeln!(out, "{} {id} restored in part: {what} · {cost} · {count} not there", style.bad("✗"));
        }
    }
    if !report.complete {
        let show = text::runnable(&format!("snap show {id}"));
        let _ = writeln!(out, "  the snapshot itself is incomplete: {show} says what it lacks");
    }
}
