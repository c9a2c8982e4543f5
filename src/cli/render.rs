//! Reports as text for people or as one JSON document.

use super::exit::Exit;
use super::listing::Listing;
use super::text::{self, Style};
use crate::commands;
use crate::commands::application::PlanReport;
use crate::commands::create::CreateReport;
use crate::commands::diff::{Change, DiffReport};
use crate::commands::export::ExportReport;
use crate::commands::init::InitReport;
use crate::commands::key::{ExportedKey, KeyReport};
use crate::commands::list::ListReport;
use crate::commands::log::LogReport;
use crate::commands::restore::RestoreReport;
use crate::commands::show::ShowReport;
use crate::commands::status::StatusReport;
use crate::repo::check::CheckReport;
use crate::stack::application::guard::Repaired;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// How answers are given.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// As JSON.
    pub json: bool,
    /// Only what went wrong.
    pub quiet: bool,
    /// More.
    pub verbose: u8,
}

/// More lines of one kind than this are summed up, unless asked for.
const LINES_MAX: usize = 20;

impl Output {
    pub(super) fn give<T: Serialize>(self, report: &T, exit: Exit, text: impl FnOnce(&mut String, Style)) -> Exit {
        let mut out = String::new();
        if self.json {
            match serde_json::to_string(report) {
                Ok(document) => out = document + "\n",
                Err(error) => {
                    text::tell(&format!("error: cannot write the answer as JSON: {error}"));
                    return Exit::Failed;
                }
            }
        } else if !self.quiet || exit != Exit::Done {
            text(&mut out, Style::for_stdout());
        }
        self.raw_with(out.as_bytes(), exit)
    }

    fn raw_with(self, bytes: &[u8], exit: Exit) -> Exit {
        match std::io::stdout().lock().write_all(bytes) {
            Ok(()) => exit,
            // Whoever reads has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => exit,
            Err(error) => {
                text::tell(&format!("error: cannot write to standard output: {error}"));
                Exit::Failed
            }
        }
    }

    /// Bytes as they are.
    pub fn raw(self, bytes: &[u8]) -> Exit {
        self.raw_with(bytes, Exit::Done)
    }

    pub(super) fn limit(self) -> usize {
        if self.verbose > 0 { usize::MAX } else { LINES_MAX }
    }

    /// What `init` made.
    pub fn init(self, report: &InitReport) -> Exit {
        self.give(report, Exit::Done, |out, style| init_text(out, style, report))
    }

    /// What the first `create` made on its way; never on standard output, which is for its answer.
    pub fn first_init(self, report: &InitReport) {
        if !self.quiet {
            let mut out = String::new();
            init_text(&mut out, Style::for_stderr(), report);
            text::tell(&out);
        }
    }

    /// A snapshot.
    pub fn create(self, report: &CreateReport) -> Exit {
        let exit = if report.snapshot.complete { Exit::Done } else { Exit::Incomplete };
        let given = self.give(report, exit, |out, style| super::screens::create(out, style, report, self.limit()));
        if given == Exit::Failed {
            text::tell(&format!("the snapshot is stored all the same: {}", report.snapshot.id));
        }
        given
    }

    /// What a capture would do.
    pub fn plan(self, report: &PlanReport) -> Exit {
        let exit = if report.warnings.iter().any(|w| w.incomplete) { Exit::Incomplete } else { Exit::Done };
        self.give(report, exit, |out, style| super::stack_screens::plan(out, style, report))
    }

    /// What an interrupted capture had left standing still, and the applications whose restore was interrupted.
    pub fn repaired(self, repaired: &[Repaired], unfinished: &[String]) -> Exit {
        let exit = match repaired.iter().all(|one| one.done) {
            false => Exit::Failed,
            true if unfinished.is_empty() => Exit::Done,
            true => Exit::Damage,
        };
        let document = serde_json::json!({ "repaired": repaired, "unfinished_restores": unfinished });
        self.give(&document, exit, |out, style| super::stack_screens::repaired(out, style, repaired, unfinished))
    }

    /// The snapshots.
    pub fn list(self, report: &ListReport, forgotten: bool, filter: &str) -> Exit {
        let exit = match (report.unreadable.iter().any(|one| !one.newer), report.unreadable.is_empty()) {
            (true, _) => Exit::Damage,
            _ if !report.vanished.is_empty() => Exit::Damage,
            (false, false) => Exit::Failed,
            (false, true) => Exit::Done,
        };
        self.give(report, exit, |out, style| super::screens::list(out, style, report, forgotten, filter))
    }

    /// What was done.
    pub fn log(self, report: &LogReport, markdown: bool) -> Exit {
        let exit = match report.unreadable.iter().map(|one| !one.newer).max() {
            None => Exit::Done,
            Some(false) => Exit::Failed,
            Some(true) => Exit::Damage,
        };
        match report.entries.last().filter(|_| markdown) {
            Some(entry) => self.raw_with(commands::log::markdown(entry).as_bytes(), exit),
            None => self.give(report, exit, |out, style| super::screens::log(out, style, report)),
        }
    }

    /// One snapshot.
    pub fn show(self, report: &ShowReport) -> Exit {
        self.give(report, Exit::Done, |out, style| super::screens::show(out, style, report, self.limit()))
    }

    /// Differences.
    pub fn diff(self, report: &DiffReport) -> Exit {
        let exit = if report.problems.is_empty() { Exit::Done } else { Exit::Failed };
        self.give(report, exit, |out, style| diff_text(out, style, report))
    }

    /// A restore.
    pub fn restore(self, report: &RestoreReport) -> Exit {
        let exit = match report.lost.iter().map(|lost| lost.damage).max() {
            Some(true) => Exit::Damage,
            Some(false) => Exit::Failed,
            None => Exit::Done,
        };
        self.give(report, exit, |out, style| super::screens::restore(out, style, report, self.limit()))
    }

    /// A check.
    pub fn check(self, report: &CheckReport) -> Exit {
        let exit = match (report.is_damaged(), report.is_unknown()) {
            (true, _) => Exit::Damage,
            (false, true) => Exit::Failed,
            (false, false) if report.packs_overdue > 0 => Exit::Incomplete,
            (false, false) => Exit::Done,
        };
        self.give(report, exit, |out, style| super::check_screen::check(out, style, report))
    }

    /// The state of things.
    pub fn status(self, mut report: StatusReport) -> Exit {
        for advice in &mut report.advice {
            advice.command = text::runnable(&advice.command);
        }
        let report = &report;
        let exit = if report.advice.iter().any(|advice| advice.urgent) { Exit::Damage } else { Exit::Done };
        self.give(report, exit, |out, style| super::status_screen::status(out, style, report))
    }

    /// The keys.
    pub fn keys(self, report: &KeyReport) -> Exit {
        self.give(report, Exit::Done, |out, _| keys_text(out, report))
    }

    /// Exported identities.
    pub fn key_export(self, report: &ExportedKey) -> Exit {
        self.give(report, Exit::Done, |out, style| {
            let file = report.file.display();
            let _ = writeln!(out, "{} written: {file}", style.good("✓"));
            let _ = writeln!(out, "  whoever has it can read every snapshot: keep it apart from the repository");
        })
    }

    /// A tar.
    pub fn export(self, report: &ExportReport) -> Exit {
        self.give(report, Exit::Done, |out, style| {
            let (entries, bytes) = (text::count(report.entries, "entry", "entries"), text::bytes(report.bytes));
            let _ = writeln!(out, "{} written: {} · {entries} · {bytes}", style.good("✓"), report.file.display());
            let _ = writeln!(out, "  it is not encrypted");
        })
    }

    /// Manual pages.
    pub fn man(self, pages: usize, dir: &Path) -> Exit {
        let document = serde_json::json!({ "pages": pages, "dir": dir });
        self.give(&document, Exit::Done, |out, _| {
            let _ = writeln!(out, "{pages} manual pages are in {}", dir.display());
        })
    }

    /// A listing of entries, written as they come.
    pub fn listing(self) -> Listing {
        Listing::new(self)
    }
}

fn init_text(out: &mut String, style: Style, report: &InitReport) {
    if report.healed {
        let _ = writeln!(out, "{} config of the repository at {} written again", style.good("✓"), report.repository);
        return;
    }
    let _ = writeln!(out, "{} repository made at {}", style.good("✓"), report.repository);
    let _ = writeln!(out, "  key “{}”, sealed to {}", report.key, report.recipients.join(", "));
    match &report.identity {
        Some(path) if report.identity_made => {
            let _ = writeln!(out, "  your identity was made at {}", path.display());
            let _ = writeln!(out, "  without it nothing can be restored. Keep a copy on another machine or on paper:");
            let _ = writeln!(out, "    cp {} /somewhere/else/", path.display());
        }
        Some(path) => {
            let _ = writeln!(out, "  opened by {}", path.display());
        }
        None => {}
    }
}

fn diff_text(out: &mut String, style: Style, report: &DiffReport) {
    for line in &report.differences {
        let (mark, size) = match line.change {
            Change::Added => (style.good("+"), text::bytes(line.bytes_after)),
            Change::Removed => (style.bad("-"), text::bytes(line.bytes_before)),
            Change::Changed if line.bytes_before == line.bytes_after => {
                (style.warn("M"), text::bytes(line.bytes_after))
            }
            Change::Changed => {
                let sizes = format!("{} → {}", text::bytes(line.bytes_before), text::bytes(line.bytes_after));
                (style.warn("M"), sizes)
            }
        };
        let what = if line.what.is_empty() { String::new() } else { format!("  {}", line.what.join(", ")) };
        let _ = writeln!(out, "{mark} {}  {size}{what}", line.path);
    }
    for problem in &report.problems {
        let _ = writeln!(out, "{}: {problem}", style.bad("not compared"));
    }
    let (added, removed, changed) =
        (report.count(Change::Added), report.count(Change::Removed), report.count(Change::Changed));
    let _ = writeln!(out, "{added} added, {removed} removed, {changed} changed");
}

fn keys_text(out: &mut String, report: &KeyReport) {
    for key in &report.keys {
        let role = key.role.map_or_else(|| "unknown role".to_owned(), |role| role.to_string());
        let created = key.created.as_deref().map(text::local_time).unwrap_or_default();
        let current = if key.current { "  (in use)" } else { "" };
        let _ = writeln!(out, "{:<24} {role:<8} {}  {created}{current}", key.name, key.recipients.join(", "));
    }
}
