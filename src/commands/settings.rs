//! `snap.toml`: what is the same each time, beside the stack or where the command is given.

use super::compose_settings::ComposeSettings;
use super::folders::SetPath;
use super::notify::Notify;
use super::replicate::Target;
use super::schedule::Schedule;
use super::{Error, Result};
use crate::repo::retention::Policy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The file's name.
pub const FILE: &str = "snap.toml";

/// What the file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The repository: a path, from the file's own folder on if it is relative.
    pub repository: Option<SetPath>,
    /// The server of buckets, such as `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// Which snapshots to keep.
    pub retention: Option<Retention>,
    /// Which Compose project it is.
    pub compose: ComposeSettings,
    /// What labels would say of each service.
    pub services: BTreeMap<String, toml::Table>,
    /// Places for copies of the repository.
    pub replica: BTreeMap<String, ReplicaSettings>,
    /// Who is told how commands end.
    pub notify: Notify,
    /// What is done by itself, and when.
    pub schedule: Option<Schedule>,
}

/// `[replica.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaSettings {
    /// Its address.
    url: SetPath,
    /// The server of the bucket there.
    endpoint: Option<String>,
    /// At most so much a second, such as `5MB`.
    limit: Option<String>,
    /// Read back what is copied.
    #[serde(default)]
    verify: bool,
}

impl Settings {
    /// True if there is any replica.
    pub fn has_replicas(&self) -> bool {
        !self.replica.is_empty()
    }

    /// The replicas, by name, of the settings in `dir`.
    ///
    /// # Errors
    /// A limit is none.
    pub fn replicas(&self, dir: &Path) -> Result<Vec<Target>> {
        let one = |(name, settings): (&String, &ReplicaSettings)| {
            let bytes_per_second = settings.limit.as_deref().map(parse_bytes).transpose()?;
            Ok(Target {
                name: name.clone(),
                address: address_from(dir, settings.url.as_str()),
                endpoint: settings.endpoint.clone(),
                bytes_per_second,
                verify: settings.verify,
                named: true,
            })
        };
        self.replica.iter().map(one).collect()
    }
}

/// `[retention]`: as [`Policy`], with an age as people write it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Retention {
    keep_last: u32,
    keep_hourly: u32,
    keep_daily: u32,
    keep_weekly: u32,
    keep_monthly: u32,
    keep_yearly: u32,
    keep_within: Option<String>,
    keep_tag: Vec<String>,
}

impl Retention {
    /// The policy.
    ///
    /// # Errors
    /// An age is none.
    pub fn policy(&self) -> Result<Policy> {
        Ok(Policy {
            keep_last: self.keep_last,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_yearly: self.keep_yearly,
            keep_within: self.keep_within.as_deref().map(parse_age).transpose()?.unwrap_or(0),
            keep_tag: self.keep_tag.clone(),
        })
    }
}

/// The settings in `dir`; none where there is no file.
///
/// # Errors
/// The file is there and cannot be understood.
pub fn read(dir: &Path) -> Result<Settings> {
    let path = dir.join(FILE);
    let text = match crate::fs::read_text(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Settings::default());
        }
        Err(source) => return Err(Error::Path { operation: "read", path, source }),
    };
    toml::from_str(&text).map_err(|error| Error::Settings { path, message: explained(&text, &error) })
}

/// The address `text` that the settings in `dir` name: a relative path is meant from there on.
pub fn address_from(dir: &Path, text: &str) -> String {
    match Path::new(text).is_absolute() || text.contains("://") {
        true => text.to_owned(),
        false => dir.join(text).to_string_lossy().into_owned(),
    }
}

/// What is wrong, in which line, and of which table and key.
fn explained(text: &str, error: &toml::de::Error) -> String {
    let message = without_addresses(error.message().trim_end());
    let Some(span) = error.span() else { return message };
    let before = text.get(..span.start).unwrap_or_default();
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    let is_header = |line: &&str| line.starts_with('[') && line.ends_with(']');
    let table = text.lines().take(number + 1).map(str::trim).filter(is_header).last().unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|_| !line.starts_with('['));
    let place =
        [Some(table).filter(|table| !table.is_empty()), key].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let place = if place.is_empty() { String::new() } else { format!(", {place}") };
    format!("line {}{place}: {message}", number + 1)
}

/// Addresses in this file may be secrets: a message about them says only that there was one.
fn without_addresses(message: &str) -> String {
    let words = message.split(' ').map(|word| if word.contains("://") { "an address" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Seconds in a text such as `30d`.
///
/// # Errors
/// It is none.
pub fn parse_age(text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("“{text}” is no age"), "give one such as 12h, 30d or 4w");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        "y" => 31_536_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    Ok(number.saturating_mul(unit))
}

/// Bytes in a text such as `5GB`.
///
/// # Errors
/// It is none.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let wrong = || Error::usage(format!("“{text}” is no amount"), "give one such as 500MB or 5GB");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" | "k" => 1000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        "tb" | "t" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    Ok(number.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_a_typing_mistake_is_not_passed_over() {
        let read = |text: &str| toml::from_str::<Settings>(text);
        let settings = read("[retention]\nkeep-daily = 7\nkeep-within = \"2d\"\nkeep-tag = [\"pre-2.4\"]\n").unwrap();
        let policy = settings.retention.unwrap().policy().unwrap();
        let expected = Policy { keep_daily: 7, keep_within: 172_800, ..Policy::default() };
        assert_eq!(policy, Policy { keep_tag: vec!["pre-2.4".to_owned()], ..expected });
        for wrong in ["[retention]\nkeep_daily = 7", "[retention]\nkeep-daily = -1", "retension = 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let age = read("[retention]\nkeep-within = \"2 fortnights\"").unwrap();
        assert!(age.retention.unwrap().policy().is_err());
    }

    #[test]
    fn no_address_is_told() {
        let error = toml::from_str::<Settings>("[notify]\nwebhook = \"https://hooks.example/SECRET\"").unwrap_err();
        assert!(error.message().contains("SECRET"), "{}", error.message());
        assert!(!without_addresses(error.message()).contains("SECRET"));
    }

    #[test]
    fn a_mistake_is_told_with_its_line_table_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let told = |text: &str| {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            read(dir.path()).unwrap_err().to_string()
        };
        let text = told("endpoint = \"x\"\n\n[replica.far]\nverify = true\n\n[retention]\n");
        assert!(text.contains("snap.toml: line 3, [replica.far]: missing field `url`"), "{text}");
        let text = told("[retention]\nkeep-last = 2\nkeep-daily = -1\n");
        assert!(text.contains("line 3, [retention] keep-daily: ") && text.contains("`-1`"), "{text}");
        assert!(told("repository = \"~bob/x\"\n").contains("line 1, repository: “~bob/x”"));
        assert!(!told("[notify]\nwebhook = \"https://hooks.example/SECRET\"").contains("SECRET"));
    }

    #[test]
    fn ages_are_read() {
        assert_eq!(parse_age("30d").unwrap(), 2_592_000);
        for wrong in ["", "d", "30", "30x", "-1d"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
