//! Numbers, times and colours as people read them.

pub use crate::amount::{bytes, count, thousands};
use crate::commands::runnable::Given;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

/// Says something to the person, on standard error. Nobody may be there to hear it (a terminal that
/// was closed, a full disk behind a redirection): that never ends the work.
pub fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// What was typed that the commands which are shown repeat.
static TYPED: OnceLock<Given> = OnceLock::new();

/// Has commands that are shown repeat what was typed.
pub fn will_repeat(given: Given) {
    // A program has one command line.
    let _ = TYPED.set(given);
}

/// `text` with its commands of snap as they have to be typed after this one.
pub fn runnable(text: &str) -> String {
    TYPED.get().map_or_else(|| text.to_owned(), |given| given.put_into(text))
}

/// Says a line on standard output, at once. Nobody may be there to hear it.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}

/// Seconds as people say them.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1} s"),
        v if v < 120.0 => format!("{v:.0} s"),
        v if v < 7200.0 => format!("{:.0} min", v / 60.0),
        v => format!("{:.0} h", v / 3600.0),
    }
}

/// A share between 0 and 1 in percent; rounded down, so that 100 % is all.
pub fn share(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

/// An age in seconds, roughly.
pub fn age(seconds: i64) -> String {
    match seconds {
        s if s < 60 => "just now".to_owned(),
        s if s < 3600 => format!("{} min ago", s / 60),
        s if s < 48 * 3600 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// An RFC 3339 time in the local zone, to the minute; today and yesterday by name.
pub fn local_time(text: &str) -> String {
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return text.to_owned() };
    let zone = jiff::tz::TimeZone::system();
    let (then, now) = (time.to_zoned_datetime(zone.clone()), jiff::Timestamp::now().to_zoned_datetime(zone));
    let clock = then.strftime("%H:%M");
    if then.date() == now.date() {
        format!("today {clock}")
    } else if now.date().yesterday().is_ok_and(|day| day == then.date()) {
        format!("yesterday {clock}")
    } else {
        then.strftime("%Y-%m-%d %H:%M").to_string()
    }
}

/// Whether and how to colour.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Coloured on a terminal, unless `NO_COLOR` is set.
    pub fn for_stdout() -> Self {
        Self { colour: allowed() && std::io::stdout().is_terminal() }
    }

    /// The same for standard error.
    pub fn for_stderr() -> Self {
        Self { colour: allowed() && std::io::stderr().is_terminal() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Look here.
    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Something is wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

fn allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How a stack is shown beside `all`, each a stack and its host: with its host where another has one of that name.
pub fn stack_name<'a>(stack: &str, host: &str, mut all: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    match all.any(|(other, on)| other == stack && on != host) {
        true => format!("{stack}@{host}"),
        false => stack.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(seconds(1.84), "1.8 s");
        assert_eq!(age(7200), "2 h ago");
    }
}
