//! A limit of bytes a second.

use std::time::{Duration, Instant};

/// Keeps to a number of bytes a second.
pub(super) struct Pace {
    begun: Instant,
    bytes_per_second: Option<u64>,
    done: u64,
}

impl Pace {
    /// One that begins now; without a limit if there is none.
    pub fn of(bytes_per_second: Option<u64>) -> Self {
        Self { begun: Instant::now(), bytes_per_second, done: 0 }
    }

    /// Waits until so many bytes more are due.
    pub fn wait_for(&mut self, bytes: u64) {
        self.done += bytes;
        let Some(limit) = self.bytes_per_second.filter(|limit| *limit > 0) else { return };
        let due = Duration::from_secs_f64(self.done as f64 / limit as f64);
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
    }
}
