//! Asking for a passphrase on the terminal.

use crate::commands::{Error, Prompt, Result};
use crate::crypto::people::Passphrase;
use crate::repo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

/// No passphrase is longer than a terminal's line.
const LINE_BYTES_MAX: usize = 4096;

/// How long a typed Ctrl-C may go unnoticed that came between two looks.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Asks on the terminal; nobody, where there is none.
pub struct Terminal {
    /// Set by a signal: the question is then given up.
    pub interrupted: Arc<AtomicBool>,
}

impl Prompt for Terminal {
    fn passphrase(&self, what: &str, twice: bool) -> Option<Result<Passphrase>> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        Some(ask(what, twice, &self.interrupted))
    }

    fn confirm(&self, question: &str, word: &str) -> bool {
        if !std::io::stdin().is_terminal() {
            return false;
        }
        let answer = || -> std::io::Result<String> {
            let terminal = File::options().read(true).write(true).open("/dev/tty")?;
            (&terminal).write_all(format!("{question}\n  type “{word}” to go on: ").as_bytes())?;
            let line = read_line(&terminal, &self.interrupted)?;
            Ok(line.map(|line| line.trim().to_owned()).unwrap_or_default())
        };
        answer().is_ok_and(|typed| typed == word)
    }
}

fn ask(what: &str, twice: bool, interrupted: &AtomicBool) -> Result<Passphrase> {
    let first = read(&format!("{what}: "), interrupted)?;
    let passphrase = Passphrase::new(first)?;
    if twice {
        let again = Passphrase::new(read("the same again: ", interrupted)?)?;
        if !passphrase.equals(&again) {
            return Err(Error::usage("the two passphrases are not the same", "try again"));
        }
    }
    Ok(passphrase)
}

/// Asks on the terminal. What is typed is not shown, from before the question appears: somebody may
/// answer faster than a prompt that hides the answer only afterwards.
fn read(prompt: &str, interrupted: &AtomicBool) -> Result<Zeroizing<String>> {
    let failed = |source: std::io::Error| Error::Path {
        operation: "read a passphrase from",
        path: "the terminal".into(),
        source,
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let hidden = Hidden::new(&terminal).map_err(|error| failed(error.into()))?;
    let mut open = &terminal;
    let answer = open.write_all(prompt.as_bytes()).and_then(|()| read_line(open, interrupted));
    drop(hidden);
    // The end of the typed line was not shown either.
    let shown = open.write_all(b"\n");
    let answer = answer.map_err(failed)?;
    shown.map_err(failed)?;
    answer.ok_or(Error::Repo(repo::Error::Interrupted))
}

/// A typed line; `None` if a signal came first. A signal alone would not end the reading, which the
/// system takes up again behind it.
fn read_line(mut terminal: &File, interrupted: &AtomicBool) -> std::io::Result<Option<Zeroizing<String>>> {
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // The terminal gives a line whole.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut byte = [0];
    while line.len() < LINE_BYTES_MAX && terminal.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    let text = std::str::from_utf8(&line).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
    Ok(Some(Zeroizing::new(text.trim_end_matches('\r').to_owned())))
}

/// A terminal that does not show what is typed; as it was before once this is gone.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // What was typed ahead was meant for something else.
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
