//! A dump on its way into the repository: judged while it streams, and counted only if all agrees.
//!
//! ```text
//! client in the container ──▶ verifier (this thread's helper) ──▶ bounded queue ──▶ cut, hash, compress, seal
//! ```
//!
//! The stream's end is passed on only after the client's exit code and the verifier's verdict: a bad
//! dump makes its capture fail, and what was stored of it is referred to by nothing.

use super::client::Client;
use super::error::{Error, Result};
use super::verify::{Judged, Verdict};
use crate::chunk::Profile;
use crate::docker::Exec;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::entry::{Entry, Meta, Time};
use crate::repo::needs::Needs;
use crate::repo::writer::{PackRef, Session};
use crate::stack::capture::{self, stream};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pieces of at most 64 KiB that wait between the client and the workers.
const QUEUE: usize = 32;

/// Where dumps go.
pub struct Target<'a, 'r> {
    pub repository: &'a Repository,
    pub session: &'a Session<'r>,
    pub workers: usize,
    pub needs: &'a mut Needs<PackRef>,
    /// When the capture began.
    pub time: Time,
    pub monitor: &'a dyn Monitor,
    /// What has been stored so far.
    pub entries: Vec<Entry>,
    pub bytes: u64,
    pub bytes_new: u64,
}

impl Target<'_, '_> {
    /// The attributes of dumps: for their owner alone, since they hold everything.
    pub fn meta(&self, mode: u32) -> Meta {
        Meta { mode, uid: 0, gid: 0, mtime: self.time, xattrs: Vec::new() }
    }

    /// Stores a short text that was made here.
    ///
    /// # Errors
    /// The repository cannot be written.
    pub fn store_text(&mut self, path: &str, text: String) -> Result<()> {
        let content = Box::new(io::Cursor::new(text.into_bytes()));
        let path = path.as_bytes().to_vec();
        let file = stream::StreamFile { path, meta: self.meta(0o600), content, profile: Profile::FINE };
        let stored = stream::capture_stream(self.repository, self.session, file, 1, self.needs, self.monitor)?;
        self.bytes += stored.bytes;
        self.bytes_new += stored.bytes_new;
        self.entries.push(stored.entry);
        Ok(())
    }

    /// Stores what `client` writes as the file `path`; `verify` reads all of it, passes on what is to be
    /// kept, and judges. Gives the verdict of a dump that is whole.
    ///
    /// # Errors
    /// The dump is not whole or the client did not end well: an error of the database. The repository's
    /// own errors concern everything.
    pub fn store<'m, T: Send>(
        &mut self,
        client: &Client<'m>,
        subject: &str,
        path: &str,
        exec: Exec<'m>,
        verify: impl FnOnce(&mut Tee<'_>) -> io::Result<Judged<T>> + Send,
    ) -> Result<T> {
        let (send, receive) = sync_channel(QUEUE);
        let content = Box::new(Pipe { receive, current: Vec::new(), at: 0, ended: false });
        let path = path.as_bytes().to_vec();
        let file = stream::StreamFile { path, meta: self.meta(0o600), content, profile: Profile::FINE };
        let (verdict, stored) = std::thread::scope(|scope| {
            let source = scope.spawn(|| {
                run(client, subject, exec, &send, verify)
                    .inspect_err(|_| {
                        // The other side must not take silence for the end.
                        let _gone = send.send(Piece::Failed);
                    })
                    .inspect(|_| {
                        let _gone = send.send(Piece::End);
                    })
            });
            let stored =
                stream::capture_stream(self.repository, self.session, file, self.workers, self.needs, self.monitor);
            let early = || Err(Error::database(subject, "its reader ended early"));
            (source.join().unwrap_or_else(|_| early()), stored)
        });
        match (verdict, stored) {
            (Ok(found), Ok(stored)) => {
                self.bytes += stored.bytes;
                self.bytes_new += stored.bytes_new;
                self.entries.push(stored.entry);
                Ok(found)
            }
            // The repository's failure made the client fail, not the other way round.
            (_, Err(error @ capture::Error::Repo(_))) => Err(error.into()),
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(error.into()),
        }
    }
}

/// Reads the client to its end and judges it by everything that is known.
fn run<'m, T>(
    client: &Client<'m>,
    subject: &str,
    mut exec: Exec<'m>,
    send: &SyncSender<Piece>,
    verify: impl FnOnce(&mut Tee<'_>) -> io::Result<Judged<T>>,
) -> Result<T> {
    let mut tee = Tee { source: &mut exec, send, bytes: 0, keep_all: true };
    let verdict = verify(&mut tee);
    let bytes = tee.bytes;
    let verdict = verdict.map_err(|error| {
        let cut = super::client::failed(subject, client, error);
        match cut {
            Error::Database { subject, reason } => Error::Database { subject, reason: lost(&reason, bytes) },
            other => other,
        }
    })?;
    let end = exec.finish().map_err(|error| match Error::engine(subject, &error) {
        Error::Database { subject, reason } => Error::Database { subject, reason: lost(&reason, bytes) },
        other => other,
    })?;
    match (verdict, end.exit_code) {
        (Ok(found), 0) => Ok(found),
        (Err(reason), 0) => Err(Error::database(subject, format!("{reason} (after {})", shown(bytes)))),
        // The client's own word says more than what it left undone.
        (_, code) => {
            let failure = client.failure("the dump", code, &end.stderr);
            Err(Error::database(subject, format!("{failure} (after {})", shown(bytes))))
        }
    }
}

fn lost(reason: &str, bytes: u64) -> String {
    format!("dump ended without its trailer (server gone after {}): {reason}", shown(bytes))
}

/// A number of bytes for a sentence.
pub fn shown(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed,
}

/// The client's output; what is read is passed on too.
pub struct Tee<'a> {
    source: &'a mut dyn Read,
    send: &'a SyncSender<Piece>,
    bytes: u64,
    keep_all: bool,
}

impl Tee<'_> {
    /// From now on what is read is not passed on by itself: [`Tee::pass`] does.
    pub fn pass_by_hand(&mut self) -> (&mut dyn Read, impl FnMut(&[u8]) -> io::Result<()>) {
        let (send, bytes) = (self.send, &mut self.bytes);
        self.keep_all = false;
        let pass = move |part: &[u8]| {
            *bytes += part.len() as u64;
            pass(send, part)
        };
        (&mut *self.source, pass)
    }
}

fn pass(send: &SyncSender<Piece>, bytes: &[u8]) -> io::Result<()> {
    send.send(Piece::Bytes(bytes.to_vec())).map_err(|_| io::Error::other("the repository takes no more"))
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if count > 0 {
            self.bytes += count as u64;
            pass(self.send, &buffer[..count])?;
        }
        Ok(count)
    }
}

/// The queue's other end. It ends only when it is told so.
struct Pipe {
    receive: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.receive.recv() {
                Ok(Piece::Bytes(bytes)) => (self.current, self.at) = (bytes, 0),
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed) | Err(_) => return Err(io::Error::other("the dump is not whole")),
            }
        }
        let rest = &self.current[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// A verifier that reads everything.
pub fn following(follower: impl super::verify::Follow) -> impl FnOnce(&mut Tee<'_>) -> io::Result<Verdict> {
    |stream| super::verify::follow(follower, stream)
}
