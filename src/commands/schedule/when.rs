//! How often something is done, in words: `hourly`, `every 6h`, `daily 02:30`, `weekly sun 03:00`, `monthly 04:00`.

use crate::commands::{Error, Result};

const HOUR_SECONDS: i64 = 3600;
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Each so many minutes, a part of an hour.
    Minutes(u32),
    /// Each so many hours, a part of a day, at this minute.
    Hours {
        /// How many.
        each: u32,
        /// The minute.
        minute: u32,
    },
    /// Each day at this time.
    Daily(Clock),
    /// Each week on this day, 0 for Monday.
    Weekly(usize, Clock),
    /// The first day of each month.
    Monthly(Clock),
}

/// A time of day, local.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    hour: u32,
    minute: u32,
}

impl When {
    /// Understands `text`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let parsed = match words.as_slice() {
            ["hourly"] => Some(Self::Hours { each: 1, minute: 0 }),
            ["hourly", minute] => {
                minute.strip_prefix(':').and_then(minute_of).map(|minute| Self::Hours { each: 1, minute })
            }
            ["every", each] => every(each),
            ["daily"] => Some(Self::Daily(Clock { hour: 0, minute: 0 })),
            ["daily", clock] => clock_of(clock).map(Self::Daily),
            ["weekly"] => Some(Self::Weekly(0, Clock { hour: 0, minute: 0 })),
            ["weekly", day, clock] => {
                DAYS.iter().position(|known| known == day).zip(clock_of(clock)).map(|(d, c)| Self::Weekly(d, c))
            }
            ["monthly"] => Some(Self::Monthly(Clock { hour: 0, minute: 0 })),
            ["monthly", clock] => clock_of(clock).map(Self::Monthly),
            _ => None,
        };
        parsed.ok_or_else(|| {
            Error::usage(
                format!("“{text}” says no times"),
                "give hourly, hourly :20, every 15min, every 6h, daily 02:30, weekly sun 03:00 or monthly 04:00",
            )
        })
    }

    /// The same for systemd's `OnCalendar=`.
    pub fn calendar(self) -> String {
        let clock = |clock: Clock| format!("{:02}:{:02}:00", clock.hour, clock.minute);
        match self {
            Self::Minutes(each) => format!("*-*-* *:00/{each}:00"),
            Self::Hours { each: 1, minute } => format!("*-*-* *:{minute:02}:00"),
            Self::Hours { each, minute } => format!("*-*-* 00/{each}:{minute:02}:00"),
            Self::Daily(time) => format!("*-*-* {}", clock(time)),
            Self::Weekly(day, time) => format!("{} *-*-* {}", DAYS.get(day).copied().unwrap_or("mon"), clock(time)),
            Self::Monthly(time) => format!("*-*-01 {}", clock(time)),
        }
    }

    /// The longest time between two, in seconds.
    pub fn interval_seconds(self) -> i64 {
        match self {
            Self::Minutes(each) => i64::from(each) * 60,
            Self::Hours { each, .. } => i64::from(each) * HOUR_SECONDS,
            Self::Daily(_) => DAY_SECONDS,
            Self::Weekly(..) => 7 * DAY_SECONDS,
            Self::Monthly(_) => 31 * DAY_SECONDS,
        }
    }
}

/// Parts of an hour or of a day only: others would come at uneven times.
fn every(text: &str) -> Option<When> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().ok().filter(|number| *number > 0)?;
    match &text[digits.len()..] {
        "min" | "m" if number < 60 && 60 % number == 0 => Some(When::Minutes(number)),
        "h" if number < 24 && 24 % number == 0 => Some(When::Hours { each: number, minute: 0 }),
        _ => None,
    }
}

fn minute_of(text: &str) -> Option<u32> {
    text.parse().ok().filter(|minute| *minute < 60 && text.len() == 2)
}

fn clock_of(text: &str) -> Option<Clock> {
    let (hour, minute) = text.split_once(':')?;
    let hour = hour.parse().ok().filter(|hour| *hour < 24)?;
    Some(Clock { hour, minute: minute_of(minute)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_times_of_systemd() {
        let cases = [
            ("hourly", "*-*-* *:00:00", 3600),
            ("Hourly :20", "*-*-* *:20:00", 3600),
            ("every 15min", "*-*-* *:00/15:00", 900),
            ("every 6h", "*-*-* 00/6:00:00", 21_600),
            ("every 1h", "*-*-* *:00:00", 3600),
            ("daily 2:30", "*-*-* 02:30:00", 86_400),
            ("daily", "*-*-* 00:00:00", 86_400),
            ("weekly sun 03:00", "sun *-*-* 03:00:00", 604_800),
            ("monthly 04:00", "*-*-01 04:00:00", 2_678_400),
        ];
        for (text, calendar, seconds) in cases {
            let when = When::parse(text).unwrap();
            assert_eq!((when.calendar().as_str(), when.interval_seconds()), (calendar, seconds), "{text}");
        }
        for wrong in [
            "",
            "often",
            "every 7h",
            "every 0min",
            "every 45min",
            "daily 25:00",
            "daily 2:5",
            "daily 12:60",
            "weekly 03:00",
            "hourly 20",
            "daily 02:00\n[Service]",
        ] {
            assert!(When::parse(wrong).is_err(), "{wrong}");
        }
    }
}
