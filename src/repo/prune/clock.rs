//! What a pruner knows of time by itself.
//!
//! A deletion has to be as old as its delay by the pruner's own knowledge. The counter that runs from
//! a machine's start, through sleep, cannot be set; the calendar's clock can, by years. So within one
//! run of the machine the counter decides. Across a restart there is only the calendar, and where that
//! makes no sense, no more is known than the time since the start. All of it errs to the late side, or
//! where the calendar jumps across a restart, costs the time to change one's mind and nothing else:
//! that a deletion is safe does not rest on any clock (see [`crate::repo`]'s `fence`).

use crate::repo::{Error, Repository, Result};

/// A moment as one machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Which run of the machine.
    pub boot: String,
    /// Seconds since its start, sleep included.
    pub uptime_seconds: i64,
    /// Seconds since 1970 by its calendar.
    pub wall_seconds: i64,
}

/// A calendar that has moved on by more than this is not believed.
const WALL_SECONDS_MAX: i64 = 400 * 86_400;

impl Moment {
    /// Seconds that have passed since `earlier` at the least.
    pub fn seconds_since(&self, earlier: &Moment) -> u64 {
        let passed = if self.boot == earlier.boot {
            self.uptime_seconds - earlier.uptime_seconds
        } else {
            match self.wall_seconds.saturating_sub(earlier.wall_seconds) {
                wall @ 0..=WALL_SECONDS_MAX => wall,
                _ => self.uptime_seconds,
            }
        };
        u64::try_from(passed).unwrap_or(0)
    }

    fn to_text(&self) -> String {
        format!("{} {} {}", self.uptime_seconds, self.wall_seconds, self.boot)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (uptime, wall, boot) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        Some(Self { boot: boot.to_owned(), uptime_seconds: uptime, wall_seconds: wall })
    }
}

/// Where moments come from.
pub trait Clock: Send + Sync {
    /// Now.
    fn moment(&self) -> Moment;
    /// Waits, so that what others wrote before is seen by all.
    fn pause(&self, seconds: u64);
}

/// This machine's.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn moment(&self) -> Moment {
        // Without an id each run counts as another: then the calendar decides.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map(|id| id.trim().to_owned()).unwrap_or_else(|_| std::process::id().to_string());
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment { boot, uptime_seconds: uptime.tv_sec, wall_seconds: jiff::Timestamp::now().as_second() }
    }

    fn pause(&self, seconds: u64) {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
    }
}

impl Repository {
    /// How long, in seconds, this machine has known of `what`; from now on where it has not.
    pub(super) fn known_for(&self, what: &str, now: &Moment) -> Result<u64> {
        let key = format!("known {what}");
        let before = self.catalog.value(&key).map_err(Error::from)?;
        match before.and_then(|bytes| Moment::parse(std::str::from_utf8(&bytes).ok()?)) {
            Some(first) => Ok(now.seconds_since(&first)),
            None => {
                self.catalog.set_value(&key, now.to_text().as_bytes())?;
                Ok(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: &str, uptime_seconds: i64, wall_seconds: i64) -> Moment {
        Moment { boot: boot.to_owned(), uptime_seconds, wall_seconds }
    }

    #[test]
    fn a_clock_that_is_set_makes_no_deletion_older() {
        let first = moment("a", 1000, 1_000_000);
        assert_eq!(moment("a", 1060, 9_000_000).seconds_since(&first), 60);
        assert_eq!(moment("a", 1060, 5).seconds_since(&first), 60);
        assert_eq!(moment("b", 30, 1_086_400).seconds_since(&first), 86_400);
        assert_eq!(moment("b", 30, 5).seconds_since(&first), 30);
        assert_eq!(moment("b", 30, 1_000_000 + 10 * 365 * 86_400).seconds_since(&first), 30);
        assert_eq!(Moment::parse(&first.to_text()), Some(first));
        assert!(SystemClock.moment().uptime_seconds > 0);
    }
}
