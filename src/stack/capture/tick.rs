//! The clock that stamps files, and what its ticks can hide.
//!
//! The kernel stamps files with the time of its last tick, some milliseconds ago; some file systems
//! keep whole seconds. Two contents of the same tick have the same time. So a file whose time is not
//! clearly older than a capture's beginning is read again by the next one; and a file that was
//! changed a moment ago is read only when the clock has moved on, because a change during the reading
//! would not show otherwise.

use crate::repo::entry::{Meta, Time};
use crate::stack::files::content::open_file;
use crate::stack::files::{Error, Found, Stat};
use std::fs::File;
use std::time::Duration;

/// The grain of the kernel's clock, with some room.
const GRAIN_NANOS: i128 = 20_000_000;
/// The grain of file systems that keep whole seconds, or pairs of them.
const COARSE_GRAIN_NANOS: i128 = 2_100_000_000;

/// The time of the clock that stamps files.
pub(super) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time { seconds: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or(0) }
}

fn nanos(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

fn grain(time: Time) -> i128 {
    if time.nanos == 0 { COARSE_GRAIN_NANOS } else { GRAIN_NANOS }
}

/// True if something that happened at `time` may be later than what a capture that began at
/// `start` saw.
pub(super) fn is_racy(time: Time, start: Time) -> bool {
    nanos(time) + grain(time) >= nanos(start)
}

/// How long until a change at `now` would have another time than `ctime`; none if it has already.
/// A time in the future says that the clock was set back: waiting does not help there.
fn wait_for(ctime: Time, now: Time) -> Option<Duration> {
    let left = nanos(ctime) + grain(ctime) - nanos(now);
    if left <= 0 || nanos(ctime) > nanos(now) + grain(ctime) {
        return None;
    }
    u64::try_from(left).ok().map(Duration::from_nanos)
}

/// Opens a found file as [`open_file`] does, once a change from now on would show in its times.
///
/// # Errors
/// It is gone, may not be read, or is no regular file any more.
pub(super) fn open_settled(found: &Found) -> Result<(File, Stat, Meta), Error> {
    let opened = open_file(found)?;
    match wait_for(opened.1.ctime, now()) {
        None => Ok(opened),
        Some(wait) => {
            drop(opened);
            std::thread::sleep(wait);
            open_file(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: u32) -> Time {
        Time { seconds, nanos }
    }

    #[test]
    fn what_came_within_a_tick_of_the_last_capture_is_racy() {
        let start = at(1000, 500_000_000);
        assert!(is_racy(at(1000, 490_000_000), start));
        assert!(is_racy(at(1001, 1), start));
        assert!(!is_racy(at(1000, 400_000_000), start));
        // Whole seconds: the file system may know no others.
        assert!(is_racy(at(999, 0), start));
        assert!(!is_racy(at(990, 0), start));
    }

    #[test]
    fn only_what_changed_a_moment_ago_is_waited_for() {
        assert_eq!(wait_for(at(1000, 1_000_000), at(1000, 1_000_000)), Some(Duration::from_millis(20)));
        assert_eq!(wait_for(at(1000, 1_000_000), at(1000, 16_000_000)), Some(Duration::from_millis(5)));
        assert_eq!(wait_for(at(1000, 1_000_000), at(1000, 30_000_000)), None);
        assert_eq!(wait_for(at(1000, 0), at(1003, 0)), None);
        // The clock was set back by an hour.
        assert_eq!(wait_for(at(4600, 1), at(1000, 1)), None);
    }
}
