//! What an operator says of a service: `snap.…` labels, and the same in `snap.toml`. docs/LABELS.md.
//!
//! A label that nobody understands is not passed over: a mistyped `snap.stpo` must not end in a live copy that was
//! meant to be a stopped one.

use super::{Error, Result};
use std::collections::BTreeMap;

/// With what all of them begin.
pub const PREFIX: &str = "snap.";

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
    /// More that is said of its database, by what follows `snap.database.`.
    pub database_options: BTreeMap<String, String>,
    /// How it is seen that it works.
    pub health: Vec<HealthCheck>,
}

/// How it is seen that a service works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// An answer over HTTP, seen from the host.
    Http {
        /// The address.
        url: String,
        /// The status that is expected; none for 200 to 399.
        status: Option<u16>,
        /// What the answer contains.
        contains: Option<String>,
    },
    /// A port that takes connections, seen from the host.
    Tcp {
        /// `HOST:PORT`.
        address: String,
    },
    /// A query's first value.
    Sql {
        /// The query.
        query: String,
        /// What it must be.
        expected: Expected,
    },
    /// A command in the container that ends with 0.
    Command {
        /// For `sh -c`.
        command: String,
    },
    /// A file that is there in the container.
    File {
        /// Its path.
        path: String,
    },
}

/// What a query's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any at all: the query works.
    Any,
    /// This text.
    Text(String),
    /// A number of at least this.
    AtLeast(i64),
    /// A number of at most this.
    AtMost(i64),
}

impl Expected {
    fn read(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<i64>().ok();
        if let Some(rest) = text.strip_prefix(">=") {
            return number(rest).map(Self::AtLeast);
        }
        if let Some(rest) = text.strip_prefix("<=") {
            return number(rest).map(Self::AtMost);
        }
        if let Some(rest) = text.strip_prefix('>') {
            return number(rest)?.checked_add(1).map(Self::AtLeast);
        }
        if let Some(rest) = text.strip_prefix('<') {
            return number(rest)?.checked_sub(1).map(Self::AtMost);
        }
        Some(Self::Text(text.to_owned()))
    }

    /// True if `value` is what is expected.
    pub fn is_met(&self, value: &str) -> bool {
        let number = || value.trim().parse::<i64>().ok();
        match self {
            Self::Any => true,
            Self::Text(text) => value.trim() == text,
            Self::AtLeast(least) => number().is_some_and(|n| n >= *least),
            Self::AtMost(most) => number().is_some_and(|n| n <= *most),
        }
    }
}

impl ServiceRules {
    /// Reads the labels of `service`; others than snap's are none of its business.
    ///
    /// # Errors
    /// One of snap's is unknown, or its value is none that it can have.
    pub fn read(service: &str, labels: &BTreeMap<String, String>) -> Result<Self> {
        let mut rules = Self::default();
        for (label, value) in labels {
            let Some(key) = label.strip_prefix(PREFIX) else { continue };
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
            _ => {
                if let Some(option) = key.strip_prefix("database.") {
                    self.database_options.insert(option.to_owned(), value.to_owned());
                } else if let Some(kind) = key.strip_prefix("health.") {
                    let kind = kind.split('.').next().unwrap_or_default();
                    self.health.extend(health(kind, value)?);
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

/// Reads the checks of one label.
fn health(kind: &str, value: &str) -> std::result::Result<Vec<HealthCheck>, String> {
    let value = said(value)?;
    Ok(match kind {
        "http" => vec![http(&value)?],
        "tcp" => {
            let addresses = items(&value)?;
            if let Some(bad) =
                addresses.iter().find(|a| a.rsplit_once(':').is_none_or(|(_, p)| p.parse::<u16>().is_err()))
            {
                return Err(format!("{bad} is not HOST:PORT"));
            }
            addresses.into_iter().map(|address| HealthCheck::Tcp { address }).collect()
        }
        "sql" => vec![match value.rsplit_once(" => ") {
            Some((query, expected)) => {
                let wrong = || format!("{expected} is nothing that a value can be compared with");
                let expected = Expected::read(expected.trim()).ok_or_else(wrong)?;
                HealthCheck::Sql { query: query.trim().to_owned(), expected }
            }
            None => HealthCheck::Sql { query: value, expected: Expected::Any },
        }],
        "command" => vec![HealthCheck::Command { command: value }],
        "file" => items(&value)?.into_iter().map(|path| HealthCheck::File { path }).collect(),
        _ => return Err("the kinds of check are http, tcp, sql, command and file".to_owned()),
    })
}

/// `URL [STATUS] [contains TEXT]`.
fn http(value: &str) -> std::result::Result<HealthCheck, String> {
    let (url, mut rest) = value.split_once(char::is_whitespace).map_or((value, ""), |(url, rest)| (url, rest.trim()));
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("{url} is no address such as http://localhost:8080/health"));
    }
    let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let status = word.parse::<u16>().ok().filter(|status| (100..600).contains(status));
    if status.is_some() {
        rest = after.trim();
    }
    let contains = match rest.strip_prefix("contains ") {
        Some(text) => Some(text.trim().trim_matches('"').to_owned()),
        None if rest.is_empty() => None,
        None => return Err(format!("“{rest}” is neither a status nor contains TEXT")),
    };
    Ok(HealthCheck::Http { url: url.to_owned(), status, contains })
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
    fn checks_are_read() {
        let rules = read(&[
            ("snap.health.http", "http://localhost:80/health 200 contains \"all is well\""),
            ("snap.health.http.second", "https://x/"),
            ("snap.health.tcp", "localhost:587, localhost:993"),
            ("snap.health.sql", "SELECT count(*) FROM users => >0"),
            ("snap.health.file", "/app/manifest.json"),
            ("snap.health.command", "manage.py check"),
        ])
        .unwrap();
        assert_eq!(rules.health.len(), 7);
        let sql = rules.health.iter().find_map(|check| match check {
            HealthCheck::Sql { query, expected } => Some((query.as_str(), expected)),
            _ => None,
        });
        let (query, expected) = sql.unwrap();
        assert_eq!(query, "SELECT count(*) FROM users");
        assert!(expected.is_met("1\n") && !expected.is_met("0") && !expected.is_met("x"));
        assert!(rules.health.contains(&HealthCheck::Http { url: "https://x/".into(), status: None, contains: None }));
    }

    #[test]
    fn what_is_mistyped_is_refused() {
        for (label, value) in [
            ("snap.stpo", "true"),
            ("snap.stop", "maybe"),
            ("snap.exclude", ""),
            ("snap.health.htpp", "x"),
            ("snap.health.http", "localhost/health"),
            ("snap.health.http", "http://x 20O"),
            ("snap.health.tcp", "localhost"),
            ("snap.health.sql", "SELECT 1 => >x"),
        ] {
            assert!(matches!(read(&[(label, value)]), Err(Error::Label { .. })), "{label}={value}");
        }
        assert!(read(&[("snap.stop", "true"), ("snap.pause", "true")]).is_err());
    }
}
