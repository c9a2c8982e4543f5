//! Checks as people write them: labels of a service, or `[[health]]` in `snap.toml`.
//!
//! `snap.health.http`, `snap.health.tcp`, `snap.health.sql`, `snap.health.command`,
//! `snap.health.file` each name a check; `snap.health.NAME.http` a further one. What belongs to it
//! stands beside it: `snap.health.NAME.status`, `.contains`, `.expect`, `.database`, `.host`,
//! `.timeout`. A word that is not known is an error: a check that is not asked because of a typing
//! mistake would be worse than none.

use super::{Check, Place, Question, Statuses, TIMEOUT};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The beginning of all labels that say what healthy is.
pub const PREFIX: &str = "snap.health.";

/// The label by which rows are not compared after a restore: `false`.
pub const ROWS: &str = "snap.health.rows";

/// A check that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SettingError {
    /// The label, or the check in `snap.toml`.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

/// One check as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSetting {
    /// What a person calls it.
    pub name: Option<String>,
    /// The service it is about.
    pub service: Option<String>,
    /// `http://host:port/path`, or `:port/path` of the service's own container.
    pub http: Option<String>,
    /// Status codes that are right: `200`, `2xx`, `200-399`.
    pub status: Option<String>,
    /// What the page, or the command's output, must contain.
    pub contains: Option<String>,
    /// The `Host` that is asked for.
    pub host: Option<String>,
    /// `host:port`, or `:port` of the service's own container.
    pub tcp: Option<String>,
    /// A query.
    pub sql: Option<String>,
    /// The database that is asked.
    pub database: Option<String>,
    /// The answer, or a comparison such as `>= 5`.
    pub expect: Option<String>,
    /// A command for the container's shell.
    pub command: Option<String>,
    /// A file in the container.
    pub file: Option<String>,
    /// How long until it must have passed: `90s`, `2m`.
    pub timeout: Option<String>,
}

/// The checks that the labels of `service` name.
///
/// # Errors
/// A label is not known or cannot be understood.
pub fn checks_of_labels(service: &str, labels: &BTreeMap<String, String>) -> Result<Vec<Check>, SettingError> {
    let mut settings: BTreeMap<String, CheckSetting> = BTreeMap::new();
    for (label, value) in labels {
        let Some(rest) = label.strip_prefix(PREFIX) else { continue };
        if label == ROWS {
            match value.as_str() {
                "true" | "false" => continue,
                _ => {
                    let place = format!("label {label} of service {service}");
                    return Err(SettingError { place, message: format!("“{value}” is neither true nor false") });
                }
            }
        }
        let (name, field) = rest.rsplit_once('.').unwrap_or(("", rest));
        let setting = settings.entry(name.to_owned()).or_default();
        let known = set(setting, field, value);
        if !known {
            let message = "there is no such setting of a check (docs/LABELS.md lists them)".to_owned();
            return Err(SettingError { place: format!("label {label} of service {service}"), message });
        }
    }
    if let Some(error) = misplaced(service, labels, &settings) {
        return Err(error);
    }
    let mut checks = Vec::new();
    for (name, setting) in settings {
        let place = match name.as_str() {
            "" => format!("label {PREFIX}* of service {service}"),
            name => format!("label {PREFIX}{name}.* of service {service}"),
        };
        let name = Some(name).filter(|name| !name.is_empty());
        checks.extend(setting.checks(name.as_deref(), service, &place)?);
    }
    Ok(checks)
}

/// `snap.health.http.timeout` reads as if it belonged to `snap.health.http`, and would be one of a check called “http”.
fn misplaced(
    service: &str,
    labels: &BTreeMap<String, String>,
    settings: &BTreeMap<String, CheckSetting>,
) -> Option<SettingError> {
    let asks = |s: &CheckSetting| [&s.http, &s.tcp, &s.sql, &s.command, &s.file].iter().any(|asked| asked.is_some());
    let (kind, label, field) = labels.keys().find_map(|label| {
        let (kind, field) = label.strip_prefix(PREFIX)?.split_once('.')?;
        let is_kind = ["http", "tcp", "sql", "command", "file"].contains(&kind);
        (is_kind && settings.get(kind).is_some_and(|setting| !asks(setting))).then_some((kind, label, field))
    })?;
    let message = format!(
        "it stands beside {PREFIX}{kind}: write {PREFIX}{field}; or give the check a name: {PREFIX}NAME.{kind} and \
         {PREFIX}NAME.{field}"
    );
    Some(SettingError { place: format!("label {label} of service {service}"), message })
}

fn set(setting: &mut CheckSetting, field: &str, value: &str) -> bool {
    let slot = match field {
        "http" => &mut setting.http,
        "status" => &mut setting.status,
        "contains" => &mut setting.contains,
        "host" => &mut setting.host,
        "tcp" => &mut setting.tcp,
        "sql" => &mut setting.sql,
        "database" => &mut setting.database,
        "expect" => &mut setting.expect,
        "command" => &mut setting.command,
        "file" => &mut setting.file,
        "timeout" => &mut setting.timeout,
        _ => return false,
    };
    *slot = Some(value.to_owned());
    true
}

/// The checks of `snap.toml`.
///
/// # Errors
/// One cannot be understood.
pub fn checks_of_settings(settings: &[CheckSetting]) -> Result<Vec<Check>, SettingError> {
    let mut checks = Vec::new();
    for (number, setting) in settings.iter().enumerate() {
        let place = match &setting.name {
            Some(name) => format!("check “{name}” in snap.toml"),
            None => format!("check {} in snap.toml", number + 1),
        };
        let Some(service) = &setting.service else {
            return Err(SettingError { place, message: "it names no service".to_owned() });
        };
        checks.extend(setting.checks(setting.name.as_deref(), service, &place)?);
    }
    Ok(checks)
}

impl CheckSetting {
    fn checks(&self, name: Option<&str>, service: &str, place: &str) -> Result<Vec<Check>, SettingError> {
        let wrong = |message: String| SettingError { place: place.to_owned(), message };
        let timeout = match self.timeout.as_deref() {
            None => TIMEOUT,
            Some(text) => seconds(text).ok_or_else(|| wrong(format!("“{text}” is no time; write 90s or 2m")))?,
        };
        self.refuse_orphans().map_err(wrong)?;
        let questions = self.questions().map_err(wrong)?;
        if questions.is_empty() {
            return Err(wrong("it asks nothing: none of http, tcp, sql, command, file is there".to_owned()));
        }
        let check = |(told, question)| {
            let name = name.map_or(told, str::to_owned);
            Check { name, service: service.to_owned(), question, timeout }
        };
        Ok(questions.into_iter().map(check).collect())
    }

    /// What belongs to a question that is not asked was meant for another.
    fn refuse_orphans(&self) -> Result<(), String> {
        let orphans = [
            ("status", self.status.is_some() && self.http.is_none()),
            ("host", self.host.is_some() && self.http.is_none()),
            ("contains", self.contains.is_some() && self.http.is_none() && self.command.is_none()),
            ("expect", self.expect.is_some() && self.sql.is_none()),
            ("database", self.database.is_some() && self.sql.is_none()),
        ];
        match orphans.iter().find(|(_, orphan)| *orphan) {
            Some((field, _)) => Err(format!("{field} belongs to nothing that is asked here")),
            None => Ok(()),
        }
    }

    fn questions(&self) -> Result<Vec<(String, Question)>, String> {
        let mut asked = Vec::new();
        if let Some(url) = &self.http {
            let (place, path) = parse_http(url)?;
            let status = match self.status.as_deref() {
                None => Statuses::SUCCESS,
                Some(text) => {
                    Statuses::parse(text).ok_or_else(|| format!("“{text}” is no status; write 200, 2xx or 200-399"))?
                }
            };
            if self.host.as_deref().is_some_and(|host| !is_plain(host)) {
                return Err("host has a space or a control character in it".to_owned());
            }
            let (host, contains) = (self.host.clone(), self.contains.clone());
            asked.push((format!("GET {url}"), Question::Http { place, host, path, status, contains }));
        }
        if let Some(address) = &self.tcp {
            asked.push((format!("TCP {address}"), Question::Tcp(parse_place(address)?)));
        }
        if let Some(query) = &self.sql {
            let (database, expect) = (self.database.clone(), self.expect.clone());
            let expect = expect.map(|text| text.trim().to_owned());
            asked.push(("SQL query".to_owned(), Question::Sql { database, query: query.clone(), expect }));
        }
        if let Some(command) = &self.command {
            let command = ["sh", "-c", command].map(str::to_owned).to_vec();
            asked.push(("command".to_owned(), Question::Command { command, contains: self.contains.clone() }));
        }
        if let Some(file) = &self.file {
            if !file.starts_with('/') {
                return Err(format!("the file {file} has no path from the root of the container"));
            }
            asked.push((format!("file {file}"), Question::File(file.clone())));
        }
        Ok(asked)
    }
}

fn parse_http(url: &str) -> Result<(Place, String), String> {
    if url.starts_with("https://") {
        let message = "https is not spoken here; ask the server behind the proxy, or use a command (curl)";
        return Err(message.to_owned());
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    if rest.len() == url.len() && !url.starts_with(':') {
        return Err(format!("“{url}” is no address; write http://host:port/path, or :port/path"));
    }
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.contains('@') {
        return Err("names and passwords do not belong into an address; use a command".to_owned());
    }
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if !is_plain(&path) {
        return Err("the path has a space or a control character in it; write %20".to_owned());
    }
    let has_port = authority.rfind(':').is_some_and(|at| !authority[at..].contains(']'));
    let place = if has_port { parse_place(authority)? } else { parse_place(&format!("{authority}:80"))? };
    Ok((place, path))
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

fn parse_place(text: &str) -> Result<Place, String> {
    let wrong = || format!("“{text}” is no address; write host:port, or :port for the service's container");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.contains(['/', ' ']) {
        return Err(wrong());
    }
    Ok(Place { host: Some(host.to_owned()).filter(|host| !host.is_empty()), port })
}

fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0)?;
    number.checked_mul(unit).filter(|seconds| *seconds <= 86_400).map(Duration::from_secs)
}
