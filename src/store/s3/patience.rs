//! How long a request may take, how often it is made again, and when it is given up.
//!
//! A request is made again while what kept it from succeeding may pass, with pauses that grow and are
//! never the same for two clients, until the patience is used up. Once a server has used up all of it,
//! each further request gets two tries: a work of many requests then ends soon, and says why. The first
//! success gives the patience back.

use super::trouble::Failure;
use crate::monitor::Monitor;
use crate::store::Trouble;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a request is repeated before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// The variable that says another number of seconds.
pub const PATIENCE_VARIABLE: &str = "SNAP_S3_PATIENCE";

/// The slowest line on which a large request still ends in time, in bytes a second.
const SLOWEST: u64 = 64 << 10;
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Somebody who looks on wonders after so long what is the matter.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The patience with one server.
pub(super) struct Patience {
    total: Duration,
    used_up: AtomicBool,
    /// Whom to tell, once, that it is waited for.
    monitor: Arc<dyn Monitor>,
    told: AtomicBool,
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("total", &self.total).field("used_up", &self.used_up).finish_non_exhaustive()
    }
}

/// What a series of tries ended with, when it failed.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub failure: Failure,
    /// How often it was tried.
    pub tries: u32,
}

impl Patience {
    pub fn new(total: Duration, monitor: Arc<dyn Monitor>) -> Self {
        Self { total, used_up: AtomicBool::new(false), monitor, told: AtomicBool::new(false) }
    }

    /// From the surroundings.
    pub fn from_environment(monitor: Arc<dyn Monitor>) -> Self {
        let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok());
        Self::new(seconds.map_or(PATIENCE, Duration::from_secs), monitor)
    }

    /// How long nothing is said of a request that moves so many bytes.
    fn silence(&self, bytes: u64) -> Duration {
        SILENCE_MAX.min(self.total / 6) + Duration::from_secs(bytes / SLOWEST)
    }

    /// Says, once, that the server is waited for.
    fn tell(&self, why: &str) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let limit = match self.total.as_secs() {
            seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} min", seconds / 60),
            seconds => format!("{seconds} s"),
        };
        self.monitor.waiting(&format!("{why}: trying for up to {limit}; {PATIENCE_VARIABLE} sets that"));
    }

    /// The longest that one try may take which moves so many bytes.
    pub fn one_try(&self, bytes: u64) -> Duration {
        let still = (self.total / 6).clamp(Duration::from_millis(500), Duration::from_secs(30));
        still + Duration::from_secs(bytes / SLOWEST)
    }

    /// The pause before try number `tries` + 1.
    pub fn pause(&self, tries: u32) -> Duration {
        let first = PAUSE_FIRST.min(self.total / 60);
        let grown = first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(PAUSE_MAX);
        // Between half of it and one and a half.
        let random = RandomState::new().hash_one(tries) % 1000;
        grown.mul_f64(0.5 + random as f64 / 1000.0)
    }

    /// Does `attempt` until it succeeds, fails for good, or the patience is used up.
    pub async fn repeat<T, F, Try>(&self, bytes: u64, mut attempt: F) -> Result<T, GivenUp>
    where
        F: FnMut() -> Try,
        Try: Future<Output = object_store::Result<T>>,
    {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let limit = self.one_try(bytes);
            let mut answer = std::pin::pin!(tokio::time::timeout(limit, attempt()));
            let silence = self.silence(bytes).saturating_sub(begun.elapsed());
            let answer = match tokio::time::timeout(silence, &mut answer).await {
                Ok(answer) => answer,
                // A slow answer is no reason to stop it.
                Err(_) => {
                    self.tell("the server does not answer");
                    answer.await
                }
            };
            let failure = match answer {
                Ok(Ok(done)) => {
                    self.used_up.store(false, Ordering::Relaxed);
                    return Ok(done);
                }
                Ok(Err(error)) => Failure::from(error),
                Err(_) => {
                    let said = format!("no answer within {} s", limit.as_secs().max(1));
                    Failure::passing(Trouble::Unreachable, said)
                }
            };
            if !failure.may_pass() {
                return Err(GivenUp { failure, tries });
            }
            let pause = self.pause(tries);
            let over = begun.elapsed() + pause > self.total || self.used_up.load(Ordering::Relaxed);
            if tries >= 2 && over {
                self.used_up.store(true, Ordering::Relaxed);
                return Err(GivenUp { failure, tries });
            }
            if let Failure::Trouble { trouble, said, .. } = &failure
                && begun.elapsed() + pause > self.silence(0)
            {
                self.tell(&if said.is_empty() { trouble.to_string() } else { format!("{trouble} ({said})") });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::lock;
    use std::cell::Cell;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Ear(Mutex<Vec<String>>);

    impl Monitor for Ear {
        fn waiting(&self, for_what: &str) {
            lock(&self.0).push(for_what.to_owned());
        }
    }

    fn patience(total: Duration) -> Patience {
        Patience::new(total, Arc::new(Ear::default()))
    }

    #[test]
    fn who_waits_is_told_once_for_what() {
        let ear = Arc::new(Ear::default());
        let patience = Patience::new(Duration::from_secs(2), Arc::clone(&ear) as Arc<dyn Monitor>);
        let hung = run(patience.repeat::<(), _, _>(0, std::future::pending));
        assert!(hung.is_err() && run(patience.repeat::<(), _, _>(0, || async { Err(busy()) })).is_err());
        let said = "the server does not answer: trying for up to 2 s; SNAP_S3_PATIENCE sets that";
        assert_eq!(*lock(&ear.0), [said]);
        let patience = Patience::new(Duration::from_millis(600), Arc::clone(&ear) as Arc<dyn Monitor>);
        let failed = run(patience.repeat::<(), _, _>(0, || async { Err(busy()) }));
        assert!(failed.is_err() && lock(&ear.0)[1].starts_with("the server fails again and again (status 503)"));
        assert_eq!(lock(&ear.0).len(), 2);
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    fn busy() -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: "status code: 503 Slow".into() }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        let patience = patience(Duration::from_secs(60));
        let count = Cell::new(0);
        let done = run(patience.repeat(0, || async {
            count.set(count.get() + 1);
            if count.get() < 3 { Err(busy()) } else { Ok(7) }
        }));
        assert_eq!((done.unwrap(), count.get()), (7, 3));
        let denied = run(patience.repeat::<(), _, _>(0, || async {
            Err(object_store::Error::PermissionDenied { path: String::new(), source: "status code: 403".into() })
        }));
        assert_eq!(denied.unwrap_err().tries, 1);
    }

    #[test]
    fn patience_ends_and_then_requests_end_soon() {
        let patience = patience(Duration::from_millis(300));
        let first = run(patience.repeat::<(), _, _>(0, || async { Err(busy()) })).unwrap_err();
        assert!(first.tries > 2, "{first:?}");
        let second = run(patience.repeat::<(), _, _>(0, || async { Err(busy()) })).unwrap_err();
        assert_eq!(second.tries, 2);
        assert!(run(patience.repeat(0, || async { Ok(()) })).is_ok());
        assert!(run(patience.repeat::<(), _, _>(0, || async { Err(busy()) })).unwrap_err().tries > 2);
    }

    #[test]
    fn a_request_that_hangs_is_given_up() {
        let patience = patience(Duration::from_millis(10));
        let hung = run(patience.repeat::<(), _, _>(0, std::future::pending)).unwrap_err();
        assert!(matches!(hung.failure, Failure::Trouble { trouble: Trouble::Unreachable, .. }), "{hung:?}");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let patience = patience(PATIENCE);
        assert!(patience.pause(1) < patience.pause(4));
        assert!(patience.pause(60) <= PAUSE_MAX * 2);
        assert!(patience.one_try(64 << 20) > Duration::from_secs(1000));
    }
}
