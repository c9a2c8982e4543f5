//! `[notify]` in `snap.toml`: who is told how a command went.
//!
//! Telling is not the work: it takes a bounded time, and whatever becomes of it changes nothing about how the
//! command ends. Addresses and tokens are secrets, and stand in no message.

use super::env::host_name;
use super::folders::SetPath;
use super::runs::Run;
use super::settings::{self, parse_age};
use super::{Error, Result};
use crate::monitor::Warning;
use crate::web::{self, Post};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::Duration;

/// The commands that are told of.
pub const COMMANDS: [&str; 6] = ["create", "check", "replicate", "forget", "prune", "restore"];
/// For each message, unless the settings say otherwise.
const TIMEOUT_SECONDS: u64 = 10;
const TIMEOUT_SECONDS_MAX: u64 = 120;
/// What servers of pings take of a message, in bytes.
const BODY_BYTES_MAX: usize = 10_000;

/// `[notify]`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Only of these commands; of all if empty.
    commands: Vec<String>,
    /// How long each message may take, such as `10s`.
    timeout: Option<String>,
    webhook: Option<Webhook>,
    ntfy: Option<Ntfy>,
    ping: BTreeMap<String, String>,
}

/// `[notify.webhook]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Webhook {
    url: String,
    #[serde(default)]
    only_failures: bool,
}

/// `[notify.ntfy]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Ntfy {
    url: String,
    token_file: Option<SetPath>,
    #[serde(default = "yes")]
    only_failures: bool,
}

fn yes() -> bool {
    true
}

/// It may hold secrets.
impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}

impl Notify {
    fn timeout(&self) -> Result<Duration> {
        let seconds = self.timeout.as_deref().map_or(Ok(TIMEOUT_SECONDS), parse_age)?;
        Ok(Duration::from_secs(seconds.clamp(1, TIMEOUT_SECONDS_MAX)))
    }

    fn concerns(&self, command: &str) -> bool {
        COMMANDS.contains(&command) && (self.commands.is_empty() || self.commands.iter().any(|one| one == command))
    }

    /// Refuses what could never be told.
    ///
    /// # Errors
    /// A command is none, or a time is none.
    pub fn check(&self) -> Result<()> {
        self.timeout()?;
        match self.commands.iter().chain(self.ping.keys()).find(|name| !COMMANDS.contains(&name.as_str())) {
            Some(name) => Err(Error::usage(
                format!("[notify] names “{name}”, of which nothing is told"),
                format!("there are {}", COMMANDS.join(", ")),
            )),
            None => Ok(()),
        }
    }
}

/// How a run ended, in a word.
pub fn result_word(run: &Run) -> &'static str {
    match run.exit_code {
        0 => "ok",
        3 => "incomplete",
        4 => "damage",
        5 => "in-the-way",
        6 => "put-back",
        7 => "needs-person",
        130 => "interrupted",
        _ => "failed",
    }
}

/// True if somebody should look. A check whose budget ended before all was read has done its part.
fn is_failure(run: &Run) -> bool {
    !(run.is_good() || (run.command == "check" && run.exit_code == 3))
}

/// What a webhook is told.
#[derive(Serialize)]
struct Told<'a> {
    event: &'static str,
    command: &'a str,
    subject: &'a str,
    host: String,
    repository: &'a str,
    directory: &'a Path,
    time: i64,
    seconds: u64,
    result: &'static str,
    exit_code: u8,
    message: &'a str,
    tool: &'static str,
}

/// Something to be sent, and what warnings call it.
type Message = (&'static str, Post);

fn title(run: &Run) -> String {
    let of = if run.subject.is_empty() { String::new() } else { format!(" of {}", run.subject) };
    let how = match result_word(run) {
        "ok" => "done",
        "incomplete" => "not complete",
        "damage" => "found damage",
        "in-the-way" => "was in the way of another operation",
        "put-back" => "failed, the old state is back",
        "needs-person" => "failed and needs a person",
        "interrupted" => "interrupted",
        _ => "failed",
    };
    format!("snap {}{of} on {}: {how}", run.command, host_name())
}

/// What is sent when a command begins.
fn at_begin(notify: &Notify, command: &str) -> Vec<Message> {
    let ping = notify.ping.get(command).filter(|_| notify.concerns(command));
    let post = |url: &String| Post { url: with_path(url, "/start"), headers: Vec::new(), body: Vec::new() };
    ping.map(|url| ("ping", post(url))).into_iter().collect()
}

/// What is sent when it has ended.
fn at_end(notify: &Notify, run: &Run, token: Option<String>) -> Vec<Message> {
    let mut out = Vec::new();
    if !notify.concerns(&run.command) {
        return out;
    }
    let failure = is_failure(run);
    let mut text = title(run);
    if !run.message.is_empty() {
        text = format!("{text}\n{}", run.message);
    }
    let mut end = text.len().min(BODY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if let Some(url) = notify.ping.get(&run.command) {
        let url = if failure { with_path(url, "/fail") } else { url.clone() };
        out.push(("ping", Post { url, headers: Vec::new(), body: text.clone().into_bytes() }));
    }
    if let Some(webhook) = notify.webhook.as_ref().filter(|webhook| failure || !webhook.only_failures) {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        out.push(("webhook", Post { url: webhook.url.clone(), headers, body: told(run) }));
    }
    if let Some(ntfy) = notify.ntfy.as_ref().filter(|ntfy| failure || !ntfy.only_failures) {
        let (priority, tag) = if failure { ("high", "warning") } else { ("default", "white_check_mark") };
        let title: String = title(run).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut headers = vec![("Title", title), ("Priority", priority.to_owned()), ("Tags", tag.to_owned())];
        headers.extend(token.map(|token| ("Authorization", format!("Bearer {token}"))));
        out.push(("ntfy", Post { url: ntfy.url.clone(), headers, body: text.into_bytes() }));
    }
    out
}

fn told(run: &Run) -> Vec<u8> {
    let told = Told {
        event: "end",
        command: &run.command,
        subject: &run.subject,
        host: host_name(),
        repository: &run.repository,
        directory: &run.directory,
        time: run.at,
        seconds: run.seconds,
        result: result_word(run),
        exit_code: run.exit_code,
        message: &run.message,
        tool: concat!("snap ", env!("CARGO_PKG_VERSION")),
    };
    // A path that is no text is left out with all the rest: what went wrong is still told by the others.
    serde_json::to_vec(&told).unwrap_or_default()
}

/// `path` behind an address, before what may stand behind a question mark.
fn with_path(url: &str, path: &str) -> String {
    let (place, query) =
        url.split_once('?').map_or((url, String::new()), |(place, query)| (place, format!("?{query}")));
    format!("{}{path}{query}", place.trim_end_matches('/'))
}

/// Who is told of a command that runs.
pub struct Notifier {
    notify: Notify,
    timeout: Duration,
    token: Option<String>,
    /// What is on its way while the command works.
    sent: Vec<(&'static str, Receiver<std::result::Result<(), web::Error>>)>,
    /// What was not delivered.
    problems: Vec<Warning>,
}

/// Looking up a name of a server has a time limit of its own, and cannot be stopped: it is not waited for longer.
const SLACK: Duration = Duration::from_secs(1);

impl Notifier {
    /// Tells that `command`, given in `dir`, begins. Nothing is waited for.
    pub fn begin(dir: &Path, command: &str) -> Self {
        let mut notifier = Self::quiet(dir);
        notifier.send(at_begin(&notifier.notify, command));
        notifier
    }

    /// One that has told nothing yet.
    pub fn quiet(dir: &Path) -> Self {
        let read = settings::read(dir).and_then(|settings| {
            settings.notify.check()?;
            let timeout = settings.notify.timeout()?;
            let file = settings.notify.ntfy.as_ref().and_then(|ntfy| ntfy.token_file.as_ref());
            let token = file.map(|file| read_token(&file.below(dir))).transpose()?;
            Ok((settings.notify, timeout, token))
        });
        let mut problems = Vec::new();
        let (notify, timeout, token) = read.unwrap_or_else(|error| {
            let message = format!("nobody is told of this: {}", crate::repo::sync::Chain(&error));
            problems.push(Warning::note("[notify]", message));
            Default::default()
        });
        Self { notify, timeout, token, sent: Vec::new(), problems }
    }

    /// Tells how it ended, and waits until that is delivered, or not: what was not is in the result.
    pub fn end(mut self, run: &Run) -> Vec<Warning> {
        // A server must not hear of the end before the beginning.
        self.wait();
        self.send(at_end(&self.notify, run, self.token.clone()));
        self.wait();
        self.problems
    }

    fn send(&mut self, messages: Vec<Message>) {
        let timeout = self.timeout;
        self.sent.extend(messages.into_iter().map(|(name, post)| {
            let (sender, receiver) = channel();
            // Nobody listens any more if it took too long.
            spawn(move || drop(sender.send(web::send(&post, timeout))));
            (name, receiver)
        }));
    }

    fn wait(&mut self) {
        for (name, sent) in self.sent.drain(..) {
            let late = web::Error::Late { seconds: self.timeout.as_secs() };
            if let Err(error) = sent.recv_timeout(self.timeout + SLACK).unwrap_or(Err(late)) {
                let message = format!("could not be told: {error}");
                self.problems.push(Warning::note(format!("[notify] {name}"), message));
            }
        }
    }
}

fn read_token(path: &Path) -> Result<String> {
    let failed = |source| Error::Path { operation: "read", path: path.to_path_buf(), source };
    let text = crate::fs::read_text(path).map_err(failed)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(exit_code: u8) -> Run {
        Run {
            command: "create".to_owned(),
            subject: "clinic".to_owned(),
            repository: "/r".to_owned(),
            directory: "/srv/clinic".into(),
            at: 7,
            seconds: 3,
            exit_code,
            message: String::new(),
            last_good: None,
        }
    }

    fn notify(text: &str) -> Notify {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn paths_stand_before_questions() {
        assert_eq!(with_path("https://h/x", "/fail"), "https://h/x/fail");
        assert_eq!(with_path("https://h/x/?create=1", "/start"), "https://h/x/start?create=1");
    }

    #[test]
    fn each_is_told_what_it_asked_for() {
        let all =
            notify("ping.create = \"https://p/1\"\nwebhook.url = \"https://w\"\nntfy = { url = \"https://n/t\" }");
        let urls = |messages: Vec<Message>| messages.into_iter().map(|(_, post)| post.url).collect::<Vec<_>>();
        assert_eq!(urls(at_begin(&all, "create")), ["https://p/1/start"]);
        assert!(at_begin(&all, "check").is_empty());
        assert_eq!(urls(at_end(&all, &run(0), None)), ["https://p/1", "https://w"]);
        assert_eq!(urls(at_end(&all, &run(3), None)), ["https://p/1/fail", "https://w", "https://n/t"]);
        let others = notify("commands = [\"check\"]\nwebhook.url = \"https://w\"");
        assert!(at_end(&others, &run(1), None).is_empty());
        let unread = Run { command: "check".to_owned(), ..run(3) };
        assert_eq!(urls(at_end(&notify("ping.check = \"https://p\""), &unread, None)), ["https://p"]);
        assert!(notify("commands = [\"list\"]").check().is_err());
        assert!(notify("timeout = \"soon\"").check().is_err());
        assert!(!format!("{all:?}").contains("https"));
    }
}
