//! The record of what was done: one small object for each create, restore and abort. docs/FORMAT.md §8.2.
//!
//! It says who did what, when, for how long, with which result, and what the application answered
//! afterwards. It is sealed as manifests are, carries the same MAC, and is written once. Nothing
//! depends on it: a snapshot is as good without its record.

use super::evidence::{Evidence, Verdict};
use super::printable;
use super::signed::{sign, verify};
use super::{Error, Repository, Result};
use crate::crypto;
use crate::id::{LogId, RepositoryId, SnapshotId, object_name};
use crate::limits::LOG_BYTES_MAX;
use crate::store::{Key, Kind};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
const DOMAIN: &str = "log";

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// As it should.
    Done,
    /// A snapshot was stored that lacks something.
    Incomplete,
    /// It failed, and nothing was changed.
    Failed,
    /// A person stopped it, and nothing was changed.
    Interrupted,
    /// A restore failed, and the old state is back.
    PutBack,
    /// A restore failed, and a person must look.
    NeedsPerson,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Ending {
    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed, nothing changed",
            Self::Interrupted => "interrupted, nothing changed",
            Self::PutBack => "failed, everything was put back",
            Self::NeedsPerson => "failed, needs a person",
            Self::Unknown => "ended in a way that only a newer snap knows",
        }
    }
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, RFC 3339.
    pub time: String,
    /// What, in one line.
    #[serde(deserialize_with = "printable::text")]
    pub what: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    version: u32,
    #[serde(default)]
    requires: Vec<String>,
    repository: RepositoryId,
    /// `create`, `restore`, `abort`, `resume`.
    #[serde(deserialize_with = "printable::line")]
    pub action: String,
    /// When it began, RFC 3339.
    pub time: String,
    /// How long it took.
    pub seconds: f64,
    /// The host.
    #[serde(deserialize_with = "printable::line")]
    pub host: String,
    /// Who, as the host knows him.
    #[serde(deserialize_with = "printable::line")]
    pub user: String,
    /// With which key.
    #[serde(deserialize_with = "printable::line")]
    pub key: String,
    /// Program and version.
    #[serde(deserialize_with = "printable::line")]
    pub tool: String,
    /// The stack.
    #[serde(deserialize_with = "printable::line")]
    pub stack: String,
    /// The snapshot that was made or brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// The snapshot of the state before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety: Option<SnapshotId>,
    /// What was chosen of it; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "printable::lines")]
    pub only: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// Why, where it did not end as it should.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "printable::text")]
    pub message: String,
    /// What it changed, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "printable::lines")]
    pub changes: Vec<String>,
    /// Its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// How long services were down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_seconds: Option<f64>,
    /// What the application said of its health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Each check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadLog {
    /// Its path in the repository.
    pub object: String,
    /// Why.
    pub message: String,
    /// True if a newer snap wrote it.
    pub newer: bool,
}

/// All records.
#[derive(Debug, Default)]
pub struct Log {
    /// Those that can be read, oldest first by their own clocks.
    pub entries: Vec<(LogId, LogEntry)>,
    /// The others.
    pub unread: Vec<UnreadLog>,
}

impl LogEntry {
    /// One for `repository` of something that began at `time` and has not ended yet.
    pub fn begin(repository: &Repository, action: &str, time: String, host: String, user: String) -> Self {
        Self {
            version: VERSION,
            requires: Vec::new(),
            repository: repository.id(),
            action: action.to_owned(),
            time,
            seconds: 0.0,
            host,
            user,
            key: repository.key_name().to_owned(),
            tool: concat!("snap ", env!("CARGO_PKG_VERSION")).to_owned(),
            stack: String::new(),
            snapshot: None,
            safety: None,
            only: Vec::new(),
            ending: Ending::Failed,
            message: String::new(),
            changes: Vec::new(),
            steps: Vec::new(),
            down_seconds: None,
            verdict: None,
            evidence: Vec::new(),
        }
    }
}

impl Repository {
    /// Puts a record. It is durable when this returns.
    ///
    /// # Errors
    /// It is too large, or the store refuses.
    pub fn put_log(&self, entry: &LogEntry) -> Result<LogId> {
        let failed = |source| Error::Json { object: "a new record".to_owned(), source };
        let document = sign(entry, &self.secrets.mac_key(), DOMAIN).map_err(failed)?;
        if document.len() > LOG_BYTES_MAX {
            let what = format!("it has {} bytes, and none may have more than {LOG_BYTES_MAX}", document.len());
            return Err(Error::Damaged { object: "a new record".to_owned(), what });
        }
        let sealed = crypto::seal::seal(&[self.secrets.index_recipient()], &document)
            .map_err(|source| Error::Crypto { object: "cannot seal the record".to_owned(), source })?;
        let id = LogId(object_name(&sealed));
        self.store.put(&Key::from(id), &sealed)?;
        Ok(id)
    }

    /// Reads and authenticates a record.
    ///
    /// # Errors
    /// It is damaged, forged, of another repository, or of a newer version.
    pub fn read_log(&self, id: LogId) -> Result<LogEntry> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            #[serde(default)]
            requires: Vec<String>,
            repository: RepositoryId,
        }
        let key = Key::from(id);
        let object = key.path();
        let document = self.open_sealed(&key, &id.0, LOG_BYTES_MAX)?;
        if !verify(&document, &self.secrets.mac_key(), DOMAIN) {
            return Err(Error::Forged { object });
        }
        let damaged = |error: serde_json::Error| Error::Damaged { object: object.clone(), what: error.to_string() };
        let head: Head = serde_json::from_slice(&document).map_err(damaged)?;
        if head.version > VERSION || !head.requires.is_empty() {
            return Err(Error::Newer { object });
        }
        if head.repository != self.id() {
            return Err(Error::Forged { object });
        }
        serde_json::from_slice(&document).map_err(damaged)
    }

    /// The ids of all records.
    ///
    /// # Errors
    /// The listing fails.
    pub fn log_ids(&self) -> Result<Vec<LogId>> {
        let ids = self.store.list(Kind::Log)?.objects.into_iter().filter_map(|object| match object.key {
            Key::Object(Kind::Log, name) => Some(LogId(name)),
            _ => None,
        });
        Ok(ids.collect())
    }

    /// All records.
    ///
    /// # Errors
    /// The listing fails. One that cannot be read is in the result.
    pub fn log(&self) -> Result<Log> {
        let mut log = Log::default();
        for id in self.log_ids()? {
            match self.read_log(id) {
                Ok(entry) => log.entries.push((id, entry)),
                Err(error) => log.unread.push(UnreadLog {
                    object: Key::from(id).path(),
                    newer: matches!(error, Error::Newer { .. }),
                    message: super::sync::Chain(&error).to_string(),
                }),
            }
        }
        log.entries.sort_by(|a, b| (&a.1.time, a.0).cmp(&(&b.1.time, b.0)));
        Ok(log)
    }
}
