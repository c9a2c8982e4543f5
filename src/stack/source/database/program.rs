//! Any other program, by the person's own command in the container: its output is the dump.

use super::capture::Found;
use super::client::Client;
use super::detect::Database;
use super::error::{Error, Result};
use super::store::{Target, Tee};
use super::verify::Judged;
use crate::monitor::Warning;
use crate::repo::manifest::Dump;
use std::io::{self, Read};

/// The file that the output becomes.
pub const FILE: &str = "dump";

/// Runs the command by the container's shell.
pub fn capture(client: &Client<'_>, database: &Database, target: &mut Target<'_, '_>) -> Result<Found> {
    let subject = &database.service;
    let Some(command) = &database.dump else {
        return Err(Error::database(subject, "no command says how it is dumped (snap.dump)"));
    };
    let exec = client.start(subject, &["sh", "-c", command], false)?;
    target.store(client, subject, FILE, exec, not_empty)?;
    let message = "its dump is what its command printed: that command's exit code is all that is known of it";
    let dumps = vec![Dump { file: FILE.to_owned(), database: String::new(), tables: Vec::new() }];
    Ok(Found { version: String::new(), dumps, warnings: vec![Warning::note(subject, message)] })
}

fn not_empty(stream: &mut Tee<'_>) -> io::Result<Judged<()>> {
    let (mut buffer, mut seen) = (vec![0; 64 << 10], false);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) if seen => return Ok(Ok(())),
            Ok(0) => return Ok(Err("the dump is empty".to_owned())),
            Ok(_) => seen = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
