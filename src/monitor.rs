//! How long work tells the outside what it does, and how the outside tells it to stop.
//!
//! Work calls a [`Monitor`]; only `cli` knows how to show it. A monitor never fails and never
//! blocks for long, and it may be called from several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something the person should know although the work goes on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// What it is about: a path, an object, a service.
    pub subject: String,
    /// What happened, in one sentence.
    pub message: String,
    /// True if it makes the result incomplete: the exit code must not be 0.
    pub incomplete: bool,
    /// True if it is as it should be and is said all the same, so that nobody wonders.
    #[serde(skip)]
    pub expected: bool,
}

impl Warning {
    /// A remark that leaves the result complete.
    pub fn note(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), message: message.into(), incomplete: false, expected: false }
    }

    /// A remark on what is as it should be.
    pub fn expected(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { expected: true, ..Self::note(subject, message) }
    }

    /// Something selected is missing from the result.
    pub fn missing(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), message: message.into(), incomplete: true, expected: false }
    }
}

/// What a phase counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown with a rate.
    Bytes,
    /// Things: files, packs, snapshots.
    Items,
}

/// Told of progress by long work.
pub trait Monitor: Send + Sync {
    /// A phase begins; `total` is how much of `unit` it will do, if that is known.
    fn phase(&self, _name: &str, _unit: Unit, _total: Option<u64>) {}
    /// The total of the running phase has become known, or has grown.
    fn total(&self, _total: u64) {}
    /// So much more of the running phase is done.
    fn advance(&self, _amount: u64) {}
    /// The thing that is being worked on now.
    fn item(&self, _name: &str) {}
    /// A step of a restore is done, the `number`th.
    fn step(&self, _number: usize, _text: &str) {}
    /// Something the person should know.
    fn warn(&self, _warning: &Warning) {}
    /// The work waits for something that may come or not.
    fn waiting(&self, _for_what: &str) {}
    /// True when the person wants the work to stop at the next safe point.
    fn cancelled(&self) -> bool {
        false
    }
}

/// A monitor that shows nothing, keeps the warnings, and can be cancelled.
#[derive(Debug, Default)]
pub struct Quiet {
    warnings: Mutex<Vec<Warning>>,
    stop: AtomicBool,
}

impl Quiet {
    /// Makes [`Monitor::cancelled`] true from now on.
    pub fn cancel(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<Warning> {
        lock(&self.warnings).clone()
    }
}

impl Monitor for Quiet {
    fn warn(&self, warning: &Warning) {
        lock(&self.warnings).push(warning.clone());
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Locks `mutex`; a panic of another holder does not make the data unusable here, because every
/// holder leaves it whole between two calls.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
