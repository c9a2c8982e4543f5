//! The arguments of `snap check`: what is read whole, and for how long.

use crate::commands::settings::{parse_age, parse_bytes};
use crate::commands::{Error, Result};
use crate::repo::check::{Reading, Share};
use clap::Args;
use std::time::{Duration, Instant};

pub(super) const HELP: &str = "Examples: snap check · snap check --read-data · snap check --read-data=10% · snap check --max-age 30d --budget 20m\n\
        Those packs come first that were not read for longest, so a part each night reads everything in the end.\n\
        Exit codes: 0 sound · 3 no damage found, but not all was read within --max-age · 4 damage found, all of it \
        listed · 10 no repository · 11 wrong key · 130 interrupted";

/// See [`super::args::Command::Check`].
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Read packs whole: all, or a share (10%, 5GB), those first that were not read for longest
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    pub read_data: Option<String>,
    /// Read whole the packs that were not read within this time (12h, 30d, 4w)
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<String>,
    /// Begin to read no more packs after this time (20m, 2h), counted from the command's start, or after
    /// so many bytes (5GB)
    #[arg(long, value_name = "TIME|AMOUNT")]
    pub budget: Option<String>,
}

impl CheckArgs {
    /// What is to be read whole; `None` if nothing is.
    pub(super) fn reading(&self) -> Result<Option<Reading>> {
        if self.read_data.is_none() && self.max_age.is_none() && self.budget.is_none() {
            return Ok(None);
        }
        let share = self.read_data.as_deref().map(parse_share).transpose()?.flatten();
        let max_age = self.max_age.as_deref().map(parse_age).transpose()?;
        let mut reading = Reading { share, max_age, ..Reading::default() };
        if let Some(text) = &self.budget {
            match parse_age(text) {
                Ok(seconds) => reading.until = Instant::now().checked_add(Duration::from_secs(seconds)),
                Err(_) => {
                    let wrong = || {
                        Error::usage(
                            format!("“{text}” is no budget"),
                            "give a time such as 20m, or an amount such as 5GB",
                        )
                    };
                    reading.bytes = Some(parse_bytes(text).map_err(|_| wrong())?);
                }
            }
        }
        Ok(Some(reading))
    }
}

fn parse_share(text: &str) -> Result<Option<Share>> {
    let wrong = || Error::usage(format!("“{text}” is no share"), "give a part such as 10%, or an amount such as 5GB");
    if let Some(number) = text.strip_suffix('%') {
        let share: f64 = number.trim().parse().map_err(|_| wrong())?;
        return match share {
            100.0 => Ok(None),
            s if s > 100.0 => Err(wrong()),
            s if s > 0.0 => Ok(Some(Share::Fraction(s / 100.0))),
            _ => Err(wrong()),
        };
    }
    Ok(Some(Share::Bytes(parse_bytes(text).map_err(|_| wrong())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        assert_eq!(parse_share("10%").unwrap(), Some(Share::Fraction(0.1)));
        assert_eq!(parse_share("100%").unwrap(), None);
        assert_eq!(parse_share("5GB").unwrap(), Some(Share::Bytes(5_000_000_000)));
        for wrong in ["", "0%", "-1%", "200%", "100.1%", "x", "5", "5XB", "%"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_budget_is_of_time_or_of_bytes() {
        let reading = |text: &str| {
            let args = CheckArgs { read_data: None, max_age: None, budget: Some(text.to_owned()) };
            args.reading().map(Option::unwrap)
        };
        let (time, bytes) = (reading("20m").unwrap(), reading("5GB").unwrap());
        assert!(time.until.is_some() && time.bytes.is_none());
        assert!(bytes.until.is_none() && bytes.bytes == Some(5_000_000_000));
        for wrong in ["", "20", "m", "5XB", "soon", "-1s"] {
            assert!(reading(wrong).is_err(), "{wrong}");
        }
    }
}
