//! What was asked of an application after a restore, and what it answered.
//!
//! The gate that asks stands in `stack`; its answers are kept in the repository, in the record of
//! what was done, so their shape is known here.

use serde::{Deserialize, Serialize};

/// One check and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was checked, as a person names it: `GET :8000/health`.
    pub check: String,
    /// The service that it is about.
    pub service: String,
    /// True if it answered as it must.
    pub passed: bool,
    /// True if passing proves that the service works; false for one that merely runs.
    pub proves: bool,
    /// How often it was asked.
    pub attempts: u32,
    /// The last answer, shortened; never a secret, never a page.
    pub answer: String,
    /// When the last answer came, RFC 3339.
    pub time: String,
    /// How long it took from the first question to the last answer.
    pub seconds: f64,
}

/// What all checks together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All passed, and one at least proves something.
    Healthy,
    /// Nothing failed, and nothing was proven: nobody said what healthy is.
    NotVerified,
    /// At least one failed.
    Failed,
}

impl Verdict {
    /// What `evidence` says. Without any it is not verified.
    pub fn of(evidence: &[Evidence]) -> Self {
        if evidence.iter().any(|found| !found.passed) {
            Self::Failed
        } else if evidence.iter().any(|found| found.proves) {
            Self::Healthy
        } else {
            Self::NotVerified
        }
    }

    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::NotVerified => "not verified",
            Self::Failed => "not healthy",
        }
    }
}
