//! Any other program: the person's own command takes the dump back, in a container like the captured one.
//!
//! Whether its server listens already only the command itself can tell: it is tried again until it ends well or its
//! time is over, so it must replace what is there.

use super::{Fresh, Load, READY_LIMIT, READY_STEP};
use crate::docker::Engine;
use crate::repo::manifest::SourceEntry;
use crate::stack::source::database::client::Client;
use crate::stack::source::database::detect::{Database, Kind, Password};
use crate::stack::source::database::error::{Error, Result};
use crate::stack::source::database::program::FILE;
use std::time::Instant;

/// The program in a container that runs already.
pub fn known(subject: &str, fresh: &Fresh) -> Database {
    Database {
        kind: Kind::Program,
        service: subject.to_owned(),
        user: String::new(),
        password: Password::None,
        first: String::new(),
        data: Default::default(),
        mounts: Vec::new(),
        dump: fresh.settings.dump.clone(),
        restore: fresh.settings.restore.clone(),
    }
}

/// Gives the dump to the command.
pub fn load(load: &Load<'_>) -> Result<u64> {
    let subject = load.source.name.as_str();
    let command = load.database.restore.as_deref().ok_or_else(|| without_command(load.source))?;
    let argv = ["sh", "-c", command].map(str::to_owned);
    let begun = Instant::now();
    loop {
        match load.feed(subject, &argv, &mut load.content(FILE)?) {
            Ok(()) => return Ok(0),
            Err(Error::Database { subject, reason }) => {
                let is_up = is_up(load.client)?;
                if !is_up || begun.elapsed() > limit() {
                    let what = if is_up { "" } else { "its container has ended; " };
                    return Err(Error::Database { subject, reason: format!("{what}{reason}") });
                }
            }
            Err(other) => return Err(other),
        }
        if load.client.monitor.cancelled() {
            return Err(crate::repo::Error::Interrupted.into());
        }
        std::thread::sleep(READY_STEP);
    }
}

/// A command that never works is not waited for as long as a server that fills its folder.
fn limit() -> std::time::Duration {
    READY_LIMIT / 10
}

fn is_up(client: &Client<'_>) -> Result<bool> {
    let engine: &Engine = client.engine;
    let container = engine.container(client.container).map_err(|error| Error::engine(client.service, &error))?;
    Ok(container.state.is_up())
}

fn without_command(source: &SourceEntry) -> Error {
    Error::database(&source.name, "no command says how its dump is taken back (snap.restore)")
}
