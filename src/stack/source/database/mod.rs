//! Databases: captured by the server's own client inside its container, proven while they stream by.
//!
//! `detect` says which containers are databases and how they are entered; `capture` dumps one; a
//! dump counts only if the client's exit code is 0 and `verify` finds it whole, with as many rows in
//! each table as the server counted in the same snapshot. Passwords come from the container itself and
//! go back into it by the environment of the client: they are in no argument, message or manifest.
//!
//! What "the same snapshot" means: PostgreSQL's dump runs in the transaction's exported snapshot in which
//! the rows are counted. MariaDB and MySQL cannot share one, so writers are held up for the moment in
//! which both the dump's and the count's snapshots begin; where the user may not do that, or the tables
//! know no transactions, the rows are the dump's own. Redis' rows are the keys in the dump.

mod capture;
mod client;
mod compare;
mod count;
mod detect;
mod error;
mod mariadb;
mod postgresql;
mod program;
mod redis;
pub mod restore;
mod server;
mod settings;
mod store;
pub mod verify;

pub use capture::{Captured, Into, capture};
pub use compare::{compare, summary};
pub use count::{Counts, count, judge};
pub use detect::{Database, Kind, find};
pub use error::{Error, Result};
pub use server::{Server, ServerMount};
pub use settings::Settings;
