//! Progress on the terminal, events on a pipe, and Ctrl-C.
//!
//! On a terminal one line for the running phase is redrawn. Elsewhere long work says now and then in a plain
//! line how far it is, or with `--json` in a line of JSON at most once a second, on standard error.

use super::text::{self, Style};
use crate::monitor::{Monitor, Unit, Warning, lock};
use crate::repo::sync::without_number;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How much is shown.
#[derive(Debug, Clone, Copy)]
pub struct Show {
    /// A line that is redrawn.
    pub bar: bool,
    /// Lines of JSON.
    pub events: bool,
    /// Steps as they are done, on standard output; as events with `events`.
    pub steps: bool,
    /// Warnings as they come.
    pub warnings: bool,
    /// Of them, what makes the result incomplete: where the answer lists it, it is not said twice.
    pub losses: bool,
    /// Of them, what is as it should be.
    pub expected: bool,
}

/// The terminal as a monitor.
pub struct Progress {
    show: Show,
    bar: ProgressBar,
    /// Nobody sees a line that is redrawn.
    plain: bool,
    events: Mutex<Events>,
    done: AtomicU64,
    interrupted: Arc<AtomicBool>,
}

struct Events {
    phase: String,
    unit: Unit,
    total: Option<u64>,
    last: Instant,
}

impl Progress {
    /// A monitor; `interrupted` is set by a signal.
    pub fn new(show: Show, interrupted: Arc<AtomicBool>) -> Self {
        let bar = ProgressBar::hidden();
        let plain = show.bar && !show.events && !std::io::stderr().is_terminal();
        if show.bar && !plain {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        let events = Events { phase: String::new(), unit: Unit::Items, total: None, last: Instant::now() };
        Self { show, bar, plain, events: Mutex::new(events), done: AtomicU64::new(0), interrupted }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn event(&self, done: bool) {
        if !self.show.events && (!self.plain || done) {
            return;
        }
        let mut events = lock(&self.events);
        let pause = if self.plain { LINE_EVERY } else { Duration::from_secs(1) };
        if events.phase.is_empty() || (!done && events.last.elapsed() < pause) {
            return;
        }
        if self.plain {
            events.last = Instant::now();
            let line = plain_line(&events.phase, events.unit, self.done.load(Ordering::Relaxed), events.total);
            return text::tell(&line);
        }
        events.last = Instant::now();
        let unit = if events.unit == Unit::Bytes { "bytes" } else { "items" };
        let line = serde_json::json!({
            "event": "progress", "phase": events.phase, "unit": unit,
            "done": self.done.load(Ordering::Relaxed), "total": events.total,
        });
        text::tell(&line.to_string());
    }
}

/// How far a phase is, for a log.
fn plain_line(phase: &str, unit: Unit, done: u64, total: Option<u64>) -> String {
    let amount = |number: u64| match unit {
        Unit::Bytes => text::bytes(number),
        Unit::Items => text::thousands(number),
    };
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = (u128::from(done.min(total)) * 100) / u128::from(total);
            format!("{phase}: {percent} %, {} of {}", amount(done), amount(total))
        }
        None => format!("{phase}: {}", amount(done)),
    }
}

/// Columns that the longest line takes.
const COLUMNS: u16 = 100;
/// Columns that a line without a bar takes.
const COLUMNS_NO_BAR: u16 = 64;

fn style_of(unit: Unit, total: Option<u64>) -> ProgressStyle {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col);
    let columns = if columns == 0 { COLUMNS } else { columns };
    // The templates are constants; a bad one would show as indicatif's default.
    let style = ProgressStyle::with_template(template(unit, total.is_some(), columns));
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// What a terminal of so many columns shows in one line: one that is wrapped could not be drawn over.
fn template(unit: Unit, has_total: bool, columns: u16) -> &'static str {
    match (unit, has_total) {
        (_, true) if columns < COLUMNS_NO_BAR => "{msg} {percent} %",
        (_, false) if columns < COLUMNS_NO_BAR => "{msg} {spinner}",
        (Unit::Bytes, true) if columns < COLUMNS => {
            "{msg:<14} {percent:>3} %  {decimal_bytes}  {decimal_bytes_per_sec}  {eta} left"
        }
        (Unit::Bytes, true) => {
            "{msg:<14} {bar:30} {percent:>3} %  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left"
        }
        (Unit::Bytes, false) => "{msg:<14} {spinner} {decimal_bytes}  {decimal_bytes_per_sec}",
        (Unit::Items, true) if columns < COLUMNS => "{msg:<14} {percent:>3} %  {human_pos}/{human_len}",
        (Unit::Items, true) => "{msg:<14} {bar:30} {percent:>3} %  {human_pos}/{human_len}",
        (Unit::Items, false) => "{msg:<14} {spinner}",
    }
}

impl Monitor for Progress {
    fn phase(&self, name: &str, unit: Unit, total: Option<u64>) {
        self.event(true);
        self.done.store(0, Ordering::Relaxed);
        {
            let mut events = lock(&self.events);
            events.phase = name.to_owned();
            (events.unit, events.total) = (unit, total);
        }
        self.bar.set_style(style_of(unit, total));
        self.bar.set_position(0);
        self.bar.set_length(total.unwrap_or(0));
        self.bar.reset();
        self.bar.set_message(name.to_owned());
    }

    fn total(&self, total: u64) {
        let was = {
            let mut events = lock(&self.events);
            events.total.replace(total)
        };
        if was.is_none() {
            let unit = lock(&self.events).unit;
            self.bar.set_style(style_of(unit, Some(total)));
        }
        self.bar.set_length(total);
    }

    fn advance(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
        self.bar.inc(amount);
        self.event(false);
    }

    fn step(&self, number: usize, text: &str) {
        if self.show.events {
            text::tell(&serde_json::json!({ "event": "step", "number": number, "text": text }).to_string());
        } else if self.show.steps {
            self.bar.suspend(|| text::say(&format!("{number:>2} {text}")));
        }
    }

    fn warn(&self, warning: &Warning) {
        if !self.show.warnings || (warning.incomplete && !self.show.losses) || (warning.expected && !self.show.expected)
        {
            return;
        }
        let style = Style::for_stderr();
        let mark = if warning.incomplete { style.bad("missing") } else { style.warn("note") };
        self.bar.suspend(|| text::tell(&format!("{mark}: {}: {}", warning.subject, text::runnable(&warning.message))));
    }

    fn waiting(&self, for_what: &str) {
        let for_what = without_number(for_what);
        if self.show.events {
            let line = serde_json::json!({ "event": "waiting", "message": for_what });
            text::tell(&line.to_string());
        } else if self.show.warnings && self.show.expected {
            let mark = Style::for_stderr().warn("note");
            self.bar.suspend(|| text::tell(&format!("{mark}: {for_what}")));
        }
    }

    fn cancelled(&self) -> bool {
        static TOLD: OnceLock<()> = OnceLock::new();
        let stop = self.interrupted.load(Ordering::Relaxed);
        if stop && TOLD.set(()).is_ok() {
            self.bar.suspend(|| text::tell("stopping…"));
        }
        stop
    }
}

/// A flag that SIGINT, SIGTERM and SIGHUP set, the last unless it is ignored, as `nohup` does; a second one
/// ends the program at once.
pub fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let hangs_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangs_up) {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// True if whoever started this program has it ignore the signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Bytes a second, as the last line of long work says it.
pub fn rate(bytes: u64, seconds: f64) -> String {
    if seconds < 0.001 { String::new() } else { format!("{}/s", text::bytes((bytes as f64 / seconds) as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_how_far_it_is() {
        assert_eq!(
            plain_line("reading", Unit::Bytes, 500_000_000, Some(2_000_000_000)),
            "reading: 25 %, 500 MB of 2.0 GB"
        );
        assert_eq!(plain_line("checking", Unit::Items, 1200, None), "checking: 1,200");
        assert_eq!(plain_line("checking", Unit::Items, 7, Some(0)), "checking: 7");
    }

    #[test]
    fn a_line_of_progress_fits_the_terminal() {
        // The longest that each part comes to.
        let parts = [
            ("{msg:<14}", "reading packs  "),
            ("{msg}", "reading packs  "),
            ("{bar:30}", "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━"),
            ("{percent:>3}", "100"),
            ("{percent}", "100"),
            ("{decimal_bytes}", "999.99 GB"),
            ("{decimal_total_bytes}", "999.99 GB"),
            ("{decimal_bytes_per_sec}", "999.99 MB/s"),
            ("{eta}", "59m"),
            ("{human_pos}", "99,999,999"),
            ("{human_len}", "99,999,999"),
            ("{spinner}", "⠁"),
        ];
        for columns in [40, 63, 64, 80, 99, 100, 140] {
            for (unit, has_total) in
                [(Unit::Bytes, true), (Unit::Bytes, false), (Unit::Items, true), (Unit::Items, false)]
            {
                let line = parts.iter().fold(template(unit, has_total, columns).to_owned(), |line, (part, shown)| {
                    line.replace(part, shown)
                });
                assert!(!line.contains('{') && line.chars().count() <= usize::from(columns), "{columns}: {line}");
            }
        }
    }
}
