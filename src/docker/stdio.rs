//! A running program's input and output, over one connection.
//!
//! An input ends only if whoever writes it says so. Given up before, for whatever reason, it must not
//! look ended to the program: a database's client would commit the part that it has. So then nothing
//! is closed, the output fails, and the program is killed first.

use super::error::as_io;
use super::link::{Halt, Link};
use crate::monitor::Monitor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

#[derive(Clone)]
pub(super) struct Shared<'m> {
    pub link: Arc<Link>,
    pub monitor: &'m dyn Monitor,
    pub flags: Arc<Flags>,
    pub object: String,
}

impl Shared<'_> {
    fn error(&self, halt: Halt) -> io::Error {
        as_io(halt.into_error("run", &self.object))
    }
}

#[derive(Default)]
pub(super) struct Flags {
    /// The program has ended or was killed: nothing need be written any more.
    pub over: AtomicBool,
    /// Its input was given up before its end: nothing good can come any more.
    pub abandoned: AtomicBool,
}

pub(super) struct Outputs<'m> {
    pub half: ReadHalf<TokioIo<Upgraded>>,
    pub shared: Shared<'m>,
    pub begun: Instant,
    pub limit: Option<Duration>,
}

impl Read for Outputs<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Shared { link, monitor, flags, .. } = &self.shared;
        let left = self.limit.map(|limit| limit.saturating_sub(self.begun.elapsed()));
        let stop = Either(*monitor, &flags.abandoned);
        match (link.wait(left, Some(&stop), self.half.read(buffer)), self.limit) {
            (Ok(read), _) => read,
            (Err(Halt::Timeout { .. }), Some(limit)) => {
                Err(self.shared.error(Halt::Timeout { seconds: limit.as_secs() }))
            }
            (Err(Halt::Cancelled), _) if !monitor.cancelled() => Err(io::Error::other("its input was given up")),
            (Err(halt), _) => Err(self.shared.error(halt)),
        }
    }
}

/// The person wants to stop, or a flag is set.
struct Either<'a>(&'a dyn Monitor, &'a AtomicBool);

impl Monitor for Either<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled() || self.1.load(Ordering::Relaxed)
    }
}

/// A program's input. It ends only by [`ExecStdin::close`]: dropped before, the program does not see
/// an end, and reading its output fails, so that it never takes a part for the whole.
pub struct ExecStdin<'m> {
    pub(super) half: WriteHalf<TokioIo<Upgraded>>,
    pub(super) shared: Shared<'m>,
    pub(super) closed: bool,
}

impl ExecStdin<'_> {
    /// Ends the input.
    ///
    /// # Errors
    /// The program may not have seen all of it.
    pub fn close(mut self) -> io::Result<()> {
        self.closed = true;
        let Shared { link, monitor, flags, .. } = &self.shared;
        let stop = Either(*monitor, &flags.over);
        link.wait(None, Some(&stop), self.half.shutdown()).map_err(|halt| self.shared.error(halt))?
    }
}

impl Write for ExecStdin<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Shared { link, monitor, flags, .. } = &self.shared;
        let stop = Either(*monitor, &flags.over);
        link.wait(None, Some(&stop), self.half.write(bytes)).map_err(|halt| self.shared.error(halt))?
    }

    fn flush(&mut self) -> io::Result<()> {
        let Shared { link, monitor, flags, .. } = &self.shared;
        let stop = Either(*monitor, &flags.over);
        link.wait(None, Some(&stop), self.half.flush()).map_err(|halt| self.shared.error(halt))?
    }
}

impl Drop for ExecStdin<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.shared.flags.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    All,
    /// The program closed its input before.
    Part,
}

/// Gives all of `input` to a program.
pub(super) fn feed(mut stdin: ExecStdin<'_>, input: &mut (dyn Read + Send)) -> io::Result<Fed> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let written = if count == 0 { stdin.flush() } else { stdin.write_all(&buffer[..count]) };
        match written {
            Ok(()) if count == 0 => {
                let closed = stdin.close();
                return Ok(if closed.is_ok() { Fed::All } else { Fed::Part });
            }
            Ok(()) => {}
            Err(error) if is_closed(&error) || stdin.shared.flags.over.load(Ordering::Relaxed) => {
                let _closed_already = stdin.close();
                return Ok(Fed::Part);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}
