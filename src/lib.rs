//! `snap` captures whole Docker Compose applications as deduplicated, compressed, encrypted
//! snapshots, proves that they are intact, and brings them back.
//!
//! The folders are layers, and a module uses only what stands below it in this list
//! (docs/ARCHITECTURE.md; a test holds the code to it):
//!
//! - [`cli`]: arguments, texts, progress, exit codes: the only place that prints.
//! - [`commands`]: one file per verb, options in, report out.
//! - [`stack`]: what is captured and how it is put back.
//! - [`repo`]: snapshots, trees, the order of writes, reading back, checking.
//! - [`catalog`]: the local cache of what the repository holds.
//! - [`pack`], [`chunk`]: sealed packs of compressed segments; cutting and hashing.
//! - [`store`], [`crypto`], [`docker`], [`web`]: named bytes; sealing and keys; the Docker engine's API; messages
//!   to web servers. They do not know each other.
//! - [`id`], [`limits`], [`monitor`], [`fs`]: what all of them need.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::dbg_macro)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod amount;
pub mod catalog;
pub mod chunk;
pub mod cli;
pub mod commands;
pub mod crypto;
pub mod docker;
pub mod fs;
pub mod id;
pub mod limits;
pub mod monitor;
pub mod pack;
pub mod repo;
pub mod stack;
pub mod store;
pub mod web;
