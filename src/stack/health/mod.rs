//! The health gate: proves that an application works again, or says that nobody knows.
//!
//! Every check is asked again and again until it passes or its time is over, each in a thread of
//! its own, so that a server that hangs holds up no other check. A service must also *stay* up: its
//! containers run, and do not restart for a while; once all else has passed, that is looked at a
//! last time. That a container runs is no proof that it works: with nothing but that, the verdict
//! is *not verified*.
//!
//! The engine is behind [`Containers`], so that the gate can be tried against containers that lie.

mod ask;
mod http;
mod settings;
#[cfg(test)]
mod tests;

pub use crate::repo::evidence::{Evidence, Verdict};
pub use http::Statuses;
pub use settings::{CheckSetting, ROWS, SettingError, checks_of_labels, checks_of_settings};

use crate::monitor::{Monitor, Unit, lock};
use crate::repo::manifest::DatabaseDetail;
use crate::stack::source::database::Counts;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a check may take until it passes, if nobody says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a service must run without a restart.
pub const STEADY: Duration = Duration::from_secs(5);
/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The pause between two questions, at first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];
/// Characters of an answer that are kept.
const ANSWER_CHARS: usize = 200;

/// What a container says of its own health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerHealth {
    /// Its healthcheck has not passed yet.
    Starting,
    /// Its healthcheck passes.
    Healthy,
    /// Its healthcheck failed too often.
    Unhealthy,
}

/// One container of a service, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// It runs, and is not about to be restarted.
    pub running: bool,
    /// What its healthcheck says, if it has one.
    pub health: Option<ContainerHealth>,
    /// How often the engine restarted it.
    pub restarts: u64,
    /// Its exit code, where it has ended.
    pub exit_code: Option<i64>,
    /// When it was started, as the engine writes it.
    pub started: String,
}

/// The end of a command in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i64,
    /// What it wrote, both streams.
    pub output: String,
}

/// What the gate asks the engine. Every answer comes within `limit` or is an error; an error is a
/// sentence for a person.
pub trait Containers: Sync {
    /// The containers of a service, running or not.
    ///
    /// # Errors
    /// The engine does not say.
    fn states(&self, service: &str) -> Result<Vec<ContainerState>, String>;

    /// An address at which a container of the service can be reached from here.
    ///
    /// # Errors
    /// It has none.
    fn address(&self, service: &str) -> Result<IpAddr, String>;

    /// Runs a command in a container of the service.
    ///
    /// # Errors
    /// It cannot be run, or does not end in time.
    fn execute(&self, service: &str, command: &[String], limit: Duration) -> Result<Executed, String>;

    /// The first column of the first row of a query, asked with the server's own client.
    ///
    /// # Errors
    /// The server does not answer it.
    fn query(&self, service: &str, database: Option<&str>, query: &str, limit: Duration) -> Result<String, String>;

    /// The rows of every table of a dump, as a server has them now.
    ///
    /// # Errors
    /// The server does not say.
    fn counts(&self, service: &str, detail: &DatabaseDetail) -> Result<Counts, String>;

    /// True if a container of the service has something at `path`.
    ///
    /// # Errors
    /// The engine does not say.
    fn has_file(&self, service: &str, path: &str) -> Result<bool, String>;
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A host; the service's own container if absent.
    pub host: Option<String>,
    /// A port.
    pub port: u16,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The containers run and do not restart for so long.
    Steady(Duration),
    /// The containers' own healthchecks pass.
    Container,
    /// A web server answers.
    Http {
        /// Where.
        place: Place,
        /// The `Host` that is asked for.
        host: Option<String>,
        /// Path and query.
        path: String,
        /// Which answers are right.
        status: Statuses,
        /// What the page must contain.
        contains: Option<String>,
    },
    /// Something accepts connections.
    Tcp(Place),
    /// A database answers.
    Sql {
        /// Which database; the server's default if absent.
        database: Option<String>,
        /// The query.
        query: String,
        /// The answer: a text, or a comparison such as `>= 5`.
        expect: Option<String>,
    },
    /// Every table has as many rows as when it was captured, or more.
    Rows(Box<DatabaseDetail>),
    /// A command in the container ends with 0.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// What it must write.
        contains: Option<String>,
    },
    /// A file is there.
    File(String),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What a person calls it.
    pub name: String,
    /// The service.
    pub service: String,
    /// What is asked.
    pub question: Question,
    /// How long it may take until it passes.
    pub timeout: Duration,
}

impl Check {
    /// The check that a service runs and does not restart.
    pub fn steady(service: &str, steady: Duration) -> Self {
        let name = format!("runs for {} s without a restart", steady.as_secs_f64());
        Self { name, service: service.to_owned(), question: Question::Steady(steady), timeout: TIMEOUT + steady }
    }

    /// The check of a service's own healthcheck, which may take until `timeout` to say something.
    pub fn container(service: &str, timeout: Duration) -> Self {
        let name = "container healthcheck".to_owned();
        Self { name, service: service.to_owned(), question: Question::Container, timeout }
    }

    /// The check that a database has the rows that it had.
    pub fn rows(detail: &DatabaseDetail, timeout: Duration) -> Self {
        let (name, service) = ("rows as captured".to_owned(), detail.service.clone());
        Self { name, service, question: Question::Rows(Box::new(detail.clone())), timeout }
    }
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// All checks together.
    pub verdict: Verdict,
    /// Each of them.
    pub evidence: Vec<Evidence>,
    /// True if the person stopped it: then the verdict says nothing.
    pub stopped: bool,
}

/// Asks all `checks` until each has passed or its time is over.
pub fn prove(checks: &[Check], containers: &dyn Containers, monitor: &dyn Monitor) -> Proof {
    monitor.phase("proving", Unit::Items, Some(checks.len() as u64));
    let found: Vec<Mutex<Option<Evidence>>> = checks.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for (check, slot) in checks.iter().zip(&found) {
            scope.spawn(move || {
                let evidence = ask_until_passed(check, containers, monitor);
                monitor.advance(1);
                *lock(slot) = Some(evidence);
            });
        }
    });
    let mut evidence: Vec<Evidence> = found.iter().filter_map(|slot| lock(slot).take()).collect();
    if evidence.iter().all(|found| found.passed) {
        look_again(checks, &mut evidence, containers);
    }
    Proof { verdict: Verdict::of(&evidence), evidence, stopped: monitor.cancelled() }
}

/// What one question brought.
struct Answer {
    passed: bool,
    /// Asking again cannot change it.
    is_final: bool,
    text: String,
}

fn ask_until_passed(check: &Check, containers: &dyn Containers, monitor: &dyn Monitor) -> Evidence {
    let started = Instant::now();
    let deadline = started + check.timeout;
    let mut asker = ask::Asker::new(check, containers);
    let (mut attempts, mut pause) = (0, PAUSE[0]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        attempts += 1;
        let answer = asker.ask(left.clamp(PAUSE[0], ANSWER));
        let is_over = Instant::now() + pause >= deadline || monitor.cancelled();
        if answer.passed || answer.is_final || is_over {
            return evidence(check, &answer, attempts, started);
        }
        wait(pause, monitor);
        pause = (pause * 3 / 2).min(PAUSE[1]);
    }
}

/// Sleeps, but not longer than until the person stops the work.
fn wait(pause: Duration, monitor: &dyn Monitor) {
    let until = Instant::now() + pause;
    while !monitor.cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn evidence(check: &Check, answer: &Answer, attempts: u32, started: Instant) -> Evidence {
    Evidence {
        check: check.name.clone(),
        service: check.service.clone(),
        passed: answer.passed,
        proves: !matches!(check.question, Question::Steady(_)),
        attempts,
        answer: shortened(&answer.text),
        time: format!("{:.6}", jiff::Timestamp::now()),
        seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    }
}

/// One line of an answer, of bounded length.
fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    match line.char_indices().nth(ANSWER_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// While one check waited, the service of another may have fallen over: each is looked at once
/// more, now that all have passed.
fn look_again(checks: &[Check], evidence: &mut [Evidence], containers: &dyn Containers) {
    for (check, found) in checks.iter().zip(evidence) {
        let wanted = match &check.question {
            Question::Steady(_) => Question::Steady(Duration::ZERO),
            Question::Container => Question::Container,
            _ => continue,
        };
        let again = Check { question: wanted, ..check.clone() };
        let answer = ask::Asker::new(&again, containers).ask(ANSWER);
        if !answer.passed {
            found.passed = false;
            found.attempts += 1;
            found.answer = shortened(&format!("after it had passed: {}", answer.text));
            found.time = format!("{:.6}", jiff::Timestamp::now());
        }
    }
}
