//! What an operator says of a service: `snap.…` labels, and the same in `snap.toml`. docs/LABELS.md.
//!
//! A label that nobody understands is not passed over: a mistyped `snap.stpo` must not end in a live copy that was
//! meant to be a stopped one.

use super::{Error, Result};
use std::collections::BTreeMap;

/// With what all of them begin.
pub const PREFIX: &str = "snap.";
/// Those that say what healthy is are read by the health gate.
const HEALTH: &str = "health.";

/// What is said of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceRules {
    /// It is stopped while what it writes to is captured.
    pub stop: bool,
    /// It is paused while what it writes to is captured.
    pub pause: bool,
    /// Nothing of it is captured.
    pub exclude_all: bool,
    /// Mounts that are not captured: paths in the container, or names of volumes.
    pub exclude: Vec<String>,
    /// Mounts that are copied although they are a running database's files.
    pub live: Vec<String>,
    /// Run in its container before it is captured.
    pub hook_pre: Option<String>,
    /// Run in its container afterwards.
    pub hook_post: Option<String>,
    /// Which database it is; `none` if it is none.
    pub database: Option<String>,
    /// More that is said of its database: what follows `snap.database.`, and `snap.dump` and `snap.restore`.
    pub database_options: BTreeMap<String, String>,
}

impl ServiceRules {
    /// Reads the labels of `service`; others than snap's are none of its business.
    ///
    /// # Errors
    /// One of snap's is unknown, or its value is none that it can have.
    pub fn read(service: &str, labels: &BTreeMap<String, String>) -> Result<Self> {
        let mut rules = Self::default();
        for (label, value) in labels {
            let Some(key) = label.strip_prefix(PREFIX).filter(|key| !key.starts_with(HEALTH)) else { continue };
            rules.take(key, value.trim()).map_err(|message| Error::Label {
                service: service.to_owned(),
                label: label.clone(),
                message,
            })?;
        }
        if rules.stop && rules.pause {
            let message = "a service is either stopped or paused (snap.stop)".to_owned();
            return Err(Error::Label { service: service.to_owned(), label: "snap.pause".to_owned(), message });
        }
        Ok(rules)
    }

    fn take(&mut self, key: &str, value: &str) -> std::result::Result<(), String> {
        match key {
            "stop" => self.stop = truth(value)?,
            "pause" => self.pause = truth(value)?,
            "exclude" => match truth(value) {
                Ok(all) => self.exclude_all = all,
                Err(_) => self.exclude = items(value)?,
            },
            "live" => self.live = items(value)?,
            "hook.pre" => self.hook_pre = Some(said(value)?),
            "hook.post" => self.hook_post = Some(said(value)?),
            "database" => self.database = Some(said(value)?.to_lowercase()),
            "dump" | "restore" => {
                self.database_options.insert(key.to_owned(), said(value)?);
            }
            _ => {
                if let Some(option) = key.strip_prefix("database.") {
                    self.database_options.insert(option.to_owned(), value.to_owned());
                } else {
                    return Err("snap knows no such label".to_owned());
                }
            }
        }
        Ok(())
    }

    /// True if the mount at `target`, of the volume `volume` if it is one, is left out.
    pub fn leaves_out(&self, target: &str, volume: Option<&str>) -> bool {
        self.exclude_all || names(&self.exclude, target, volume)
    }

    /// True if the mount is to be copied as it is, whatever it holds.
    pub fn copies_live(&self, target: &str, volume: Option<&str>) -> bool {
        names(&self.live, target, volume)
    }
}

fn names(list: &[String], target: &str, volume: Option<&str>) -> bool {
    list.iter().any(|item| item.trim_end_matches('/') == target.trim_end_matches('/') || volume == Some(item))
}

fn truth(value: &str) -> std::result::Result<bool, String> {
    match value {
        "true" | "yes" | "1" | "on" => Ok(true),
        "false" | "no" | "0" | "off" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

fn said(value: &str) -> std::result::Result<String, String> {
    if value.is_empty() { Err("it says nothing".to_owned()) } else { Ok(value.to_owned()) }
}

fn items(value: &str) -> std::result::Result<Vec<String>, String> {
    let items: Vec<String> = value.split(',').map(str::trim).filter(|i| !i.is_empty()).map(str::to_owned).collect();
    if items.is_empty() { Err("it names nothing".to_owned()) } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&str, &str)]) -> Result<ServiceRules> {
        ServiceRules::read("web", &labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn labels_say_what_is_done_with_a_service() {
        let rules = read(&[
            ("com.example", "x"),
            ("snap.stop", "true"),
            ("snap.exclude", "/cache/, tmpdata"),
            ("snap.hook.pre", "sync"),
            ("snap.database", "PostgreSQL"),
            ("snap.database.user", "app"),
        ])
        .unwrap();
        assert!(rules.stop && !rules.pause && !rules.exclude_all);
        assert!(rules.leaves_out("/cache", None) && rules.leaves_out("/x", Some("tmpdata")));
        assert!(!rules.leaves_out("/data", Some("data")));
        assert_eq!(rules.database.as_deref(), Some("postgresql"));
        assert_eq!(rules.database_options["user"], "app");
        assert!(read(&[("snap.exclude", "true")]).unwrap().leaves_out("/any", None));
    }

    #[test]
    fn what_is_mistyped_is_refused() {
        for (label, value) in [("snap.stpo", "true"), ("snap.stop", "maybe"), ("snap.exclude", "")] {
            assert!(matches!(read(&[(label, value)]), Err(Error::Label { .. })), "{label}={value}");
        }
        assert!(read(&[("snap.stop", "true"), ("snap.pause", "true")]).is_err());
    }
}
