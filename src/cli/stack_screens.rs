//! What a person sees of an application: the plan, and the snapshot that was made of it.

use super::text::{self, Style};
use crate::commands::application::PlanReport;
use crate::commands::create::{CreateReport, CreatedSource};
use crate::commands::runnable::word;
use crate::monitor::Warning;
use crate::repo::manifest::{Coverage, Detail, Level, Manifest, SourceKind};
use crate::stack::application::guard::{Downtime, Repaired};
use std::fmt::Write as _;

/// The kinds of line in the order in which they are shown.
const KINDS: [&str; 6] = ["files", "bind", "image", "database", "volume", "sqlite"];

pub(super) fn plan(out: &mut String, style: Style, report: &PlanReport) {
    let _ = writeln!(out, "{} · {} · nothing is changed by this\n", report.stack, report.directory);
    table(out, style, &report.coverage);
    let _ = writeln!(out);
    match (report.stops.is_empty(), report.pauses.is_empty()) {
        (true, true) => {
            let _ = writeln!(out, "no service would be stopped");
        }
        _ => {
            for (word, services) in [("stopped", &report.stops), ("paused", &report.pauses)] {
                if !services.is_empty() {
                    let _ = writeln!(out, "would be {word} for a while: {}", services.join(" "));
                }
            }
        }
    }
    for warning in &report.warnings {
        let mark = if warning.incomplete { style.bad("missing") } else { style.warn("note") };
        let _ = writeln!(out, "{mark}: {}: {}", warning.subject, warning.message);
    }
}

/// One line for each thing, what goes together beside each other.
pub(super) fn table(out: &mut String, style: Style, coverage: &[Coverage]) {
    let rank = |line: &&Coverage| KINDS.iter().position(|kind| *kind == line.kind).unwrap_or(KINDS.len());
    let mut lines: Vec<&Coverage> = coverage.iter().collect();
    lines.sort_by_key(rank);
    let width = lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0).clamp(8, 40);
    for line in lines {
        // Padded before it is coloured: a terminal's codes have no width.
        let state = format!("{:<13}", line.state);
        let state = match line.state.as_str() {
            "captured" => style.good(&state),
            "not protected" => style.bad(&state),
            _ => state,
        };
        let _ = writeln!(out, "  {:<12} {:<width$}  {state} {}", line.kind, line.what, line.reason);
    }
}

pub(super) fn create(out: &mut String, style: Style, report: &CreateReport, limit: usize) {
    let (snapshot, stats) = (&report.snapshot, &report.stats);
    let last = super::screens::predecessor(report);
    let running = report.services_running.unwrap_or(0);
    let services = text::count(running, "service", "services");
    let _ = writeln!(out, "{} · {services} running · {last}\n", snapshot.stack);
    let width = snapshot.sources.iter().map(|source| source.name.chars().count()).max().unwrap_or(0).clamp(16, 36);
    for source in &snapshot.sources {
        source_line(out, source, width);
    }
    for line in report.coverage.iter().filter(|line| line.kind == "sqlite") {
        let _ = writeln!(out, "  {:<10} {:<width$} online backup", "sqlite", line.what);
    }
    not_kept(out, style, report);
    let missing: Vec<_> = report.warnings.iter().filter(|warning| warning.incomplete).collect();
    // What has its line among the unprotected is not said twice.
    let told =
        |warning: &Warning| report.coverage.iter().any(|l| l.state == "not protected" && l.reason == warning.message);
    for warning in missing.iter().filter(|warning| !told(warning)).take(limit) {
        let _ = writeln!(out, "  missing    {}: {}", warning.subject, warning.message);
    }
    if missing.len() > limit {
        let _ = writeln!(out, "  … and {} more (-v shows them all)", missing.len() - limit);
    }
    let id = super::screens::short(&snapshot.id);
    let seen = text::bytes(snapshot.sources.iter().map(|source| source.bytes).sum());
    let (new, stored) = (text::bytes(stats.bytes_new), text::bytes(stats.bytes_stored));
    let cost =
        format!("{seen} seen, {new} new, {stored} stored · {} · {}", text::seconds(stats.seconds), downtime(report));
    let _ = writeln!(out);
    if snapshot.complete {
        let _ = writeln!(out, "{} {id}  complete · {cost}", style.good("✓"));
    } else {
        let what = match missing.as_slice() {
            [one] => format!("INCOMPLETE: {}", one.subject),
            several => format!("INCOMPLETE: {} things are missing", several.len()),
        };
        let _ = writeln!(out, "{} {id}  {what} · {cost}", style.bad("!"));
    }
    if let Some(services) = report.downtime.as_ref().and_then(services_line) {
        let _ = writeln!(out, "  services:    {services}");
    }
    let ways = format!("  to go back:  snap restore {id}     to look:  snap restore {id} --target DIR");
    let _ = writeln!(out, "{}", text::runnable(&ways));
}

/// The tables of databases, as `--only` names them, with their rows; at most `limit`.
pub(super) fn tables(out: &mut String, manifest: &Manifest, limit: usize) {
    let mut lines = Vec::new();
    for source in &manifest.sources {
        let Some(Detail::Database(detail)) = &source.detail else { continue };
        for dump in detail.dumps.iter().filter(|dump| !dump.database.is_empty()) {
            for table in &dump.tables {
                // The service says which server; where that has several tables of the name, the database says which.
                let alike = detail.dumps.iter().flat_map(|dump| &dump.tables).filter(|other| other.name == table.name);
                let name = if alike.count() > 1 { &dump.database } else { &detail.service };
                let rows = text::count(table.rows, "row", "rows");
                lines.push(format!("db:{name}/{}  {rows} of {}", table.name, dump.database));
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\ntables (snap restore ID --only db:NAME/TABLE brings one back)");
    for line in lines.iter().take(limit) {
        let _ = writeln!(out, "  {line}");
    }
    if lines.len() > limit {
        let _ = writeln!(out, "  … and {} more (-v shows them all)", lines.len() - limit);
    }
}

pub(super) fn repaired(out: &mut String, style: Style, repaired: &[Repaired], unfinished: &[String]) {
    if repaired.is_empty() {
        let _ = writeln!(out, "no capture has left anything standing still");
    }
    for project in unfinished {
        let what = format!("a restore of {project} was interrupted, and its services may stand still");
        let project = word(project);
        let _ = writeln!(out, "{} {}", style.bad("✗"), what);
        let _ = writeln!(out, "    ← snap restore --resume --stack {project} goes on, --abort puts the old state back");
    }
    for one in repaired {
        let mark = if one.done { style.good("✓") } else { style.bad("!") };
        let what = match (one.done, one.started.is_empty()) {
            (true, true) => "all of it ran already".to_owned(),
            (true, false) => format!("started again: {}", one.started.join(" ")),
            (false, _) => "it could not be started; the next command tries again".to_owned(),
        };
        let _ = writeln!(out, "{mark} {} (a capture of {}): {what}", one.project, text::local_time(&one.time));
    }
}

fn source_line(out: &mut String, source: &CreatedSource, width: usize) {
    let level = match (source.kind, source.level) {
        (SourceKind::Image, _) => "",
        (_, Level::Stopped) => "stopped",
        (_, Level::Dump) => "dumped",
        (_, Level::Paused) => "paused",
        (_, Level::Live) => "live",
    };
    let new = match source.new_bytes {
        0 if source.kind == SourceKind::Image => "known".to_owned(),
        0 => "nothing new".to_owned(),
        bytes => format!("{} new", text::bytes(bytes)),
    };
    let files = match source.kind {
        SourceKind::Files | SourceKind::Volume => format!("{}, {new}", text::count(source.files, "file", "files")),
        SourceKind::Image => format!("{}, {new}", source.about),
        SourceKind::Database => source.about.clone(),
    };
    let (kind, bytes) = (source.kind.word(), text::bytes(source.bytes));
    let _ = writeln!(out, "  {kind:<10} {:<width$} {level:<8} {bytes:>9}  {files}", source.name);
}

/// What a person might believe to be in it and is not.
fn not_kept(out: &mut String, style: Style, report: &CreateReport) {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    let wanted =
        |line: &&Coverage| line.state == "skipped" && matches!(line.kind.as_str(), "volume" | "image" | "bind");
    for line in report.coverage.iter().filter(wanted) {
        match reasons.iter_mut().find(|(reason, _)| *reason == line.reason) {
            Some((_, names)) => names.push(&line.what),
            None => reasons.push((&line.reason, vec![&line.what])),
        }
    }
    for (reason, names) in reasons {
        let _ = writeln!(out, "  {:<10} {:<16} {reason}", "not kept", names.join(", "));
    }
    for line in report.coverage.iter().filter(|line| line.state == "not protected") {
        let _ = writeln!(out, "  {} {} {}: {}", style.bad("NOT PROTECTED"), line.kind, line.what, line.reason);
    }
}

/// In which order services stopped and started, and for how long; `None` if none did.
fn services_line(down: &Downtime) -> Option<String> {
    let reversed = |services: &[String]| services.iter().rev().cloned().collect::<Vec<_>>();
    let mut parts = Vec::new();
    for (word, services) in [("stopped", reversed(&down.stopped)), ("paused", reversed(&down.paused))] {
        if !services.is_empty() {
            parts.push(format!("{word} {}", services.join(" ")));
        }
    }
    let last = parts.last_mut()?;
    last.push_str(&format!(" in {}", text::seconds(down.stop_seconds)));
    let again = down.started.join(" ");
    Some(format!("{} · started {again} · down {}", parts.join(", "), text::seconds(down.down_seconds)))
}

fn downtime(report: &CreateReport) -> String {
    let Some(down) = &report.downtime else { return "no service was stopped".to_owned() };
    let mut parts = Vec::new();
    for (word, services) in [("stopped", &down.stopped), ("paused", &down.paused)] {
        if !services.is_empty() {
            parts.push(format!("{} {word} for {}", services.join(" "), text::seconds(down.down_seconds)));
        }
    }
    if parts.is_empty() { "no service was stopped".to_owned() } else { parts.join(", ") }
}
