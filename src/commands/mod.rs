//! One file for each verb: options in, report out. Nothing here knows of arguments or terminals.

pub mod application;
pub mod check;
pub mod compose_settings;
pub mod create;
pub mod diff;
pub mod env;
mod error;
pub mod export;
pub mod forget;
pub mod init;
pub mod key;
pub mod list;
pub mod log;
pub mod notify;
pub mod project;
pub mod prune;
pub mod repair;
pub mod replicate;
pub mod restore;
mod restore_parts;
pub mod rollback;
pub mod rollback_report;
pub mod rollback_resume;
mod rollback_table;
mod rollback_world;
pub mod runs;
pub mod schedule;
pub mod settings;
pub mod show;
pub mod status;
mod status_advice;
pub mod status_metrics;

pub use env::{Env, Prompt};
pub use error::{Error, Result};
