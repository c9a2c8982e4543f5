//! Snapshots, trees, the order of writes, reading back, checking.
//!
//! [`writer`] is the only place that knows the order of writes, [`reader`] the only one that turns
//! packs back into content. Nothing here knows of Docker, of terminals, or of where a store is.

pub mod check;
pub mod config;
mod detail;
pub mod entry;
mod error;
pub mod evidence;
mod fence;
pub mod forget;
pub mod keys;
pub mod leave_out;
pub mod log;
pub mod manifest;
pub mod mark;
mod mend_keys;
mod moved;
pub mod needs;
mod pace;
pub mod printable;
mod proof;
pub mod prune;
pub mod reader;
pub mod record;
mod relist;
pub mod repair;
mod replica_keys;
pub mod replicate;
mod repository;
pub mod retention;
pub mod select;
pub mod signed;
pub mod state;
pub mod sync;
pub mod tree;
pub mod walk;
pub mod wire;
pub mod writer;

pub use error::{Error, OpenedBy, Result};
pub use repository::{Repository, initialise, is_lost_config, read_config_bytes};
pub use sync::{Snapshot, SnapshotSet};
