//! What a journal can say: one event a line.

use super::compose_call::Call;
use super::services::NewService;
use super::swap::Swap;
use crate::repo::evidence::{Evidence, Verdict};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A service that ran before, and how many containers of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ran {
    /// The service.
    pub service: String,
    /// Its containers that ran, by id.
    pub containers: Vec<String>,
    /// How they were started, if their labels say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
}

/// What a restore is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Random digits that name this restore, and everything that it puts somewhere for a while.
    pub restore: String,
    /// The snapshot that is brought back.
    pub snapshot: String,
    /// The project's name.
    pub project: String,
    /// Its folder.
    #[serde(with = "super::raw_path")]
    pub directory: PathBuf,
    /// What was chosen of it; all if empty.
    pub only: Vec<String>,
    /// True if what the snapshot does not have goes.
    #[serde(default)]
    pub exact: bool,
    /// When, RFC 3339.
    pub began: String,
    /// What ran, in the order in which it is started.
    pub ran: Vec<Ran>,
    /// How the Compose tool is called for the state of now.
    pub old_call: Call,
    /// How it is called for the state of then.
    pub new_call: Call,
    /// What is started of the new state.
    pub new_services: Vec<NewService>,
    /// All services in the order in which they start.
    pub order: Vec<String>,
}

/// Something that is there only for the restore and goes when that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Staged {
    /// A file or folder.
    Path(#[serde(with = "super::raw_path")] PathBuf),
    /// A volume that did not exist before.
    Volume(String),
    /// A container.
    Container(String),
    /// A tag of an image.
    Tag(String),
    /// Volumes that are mounted as long as a restore is at work ([`super::hold`]).
    Held(Vec<String>),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// It begins. Nothing of the application is touched before `Stopping`.
    Begun(Box<Begun>),
    /// These things are going to be made.
    Staging {
        /// What is to be removed if it goes no further.
        staged: Vec<Staged>,
    },
    /// The present is kept as this snapshot.
    Safety {
        /// Its id.
        snapshot: String,
        /// True if nothing of the present is missing in it.
        complete: bool,
        /// What is, for people.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lacks: Vec<String>,
    },
    /// All is ready. Written anew where something changed until the services stood still.
    Prepared {
        /// What is done in this order, and undone in the other.
        swaps: Vec<Swap>,
    },
    /// Services are going to be stopped.
    Stopping,
    /// They stand still.
    Stopped,
    /// The swaps begin: from here on a resumed restore goes on.
    Swapping,
    /// All swaps are done and durable.
    Swapped,
    /// Services are going to be started with the new state.
    Starting,
    /// They were.
    Started,
    /// What the health gate found.
    Proved {
        /// All together.
        verdict: Verdict,
        /// Each check.
        evidence: Vec<Evidence>,
    },
    /// The new state stays: from here on there is no way back but another restore.
    Committed,
    /// The old state comes back: from here on there is no way forward.
    Undoing {
        /// Why.
        reason: String,
    },
    /// All swaps are undone and durable.
    Undone,
}

/// An event and when it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, RFC 3339.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    pub(super) fn now(event: Event) -> Self {
        Self { time: format!("{:.6}", jiff::Timestamp::now()), event }
    }
}
