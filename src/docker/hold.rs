//! Keeping a container's volumes mounted without running anything in it.
//!
//! Volumes with options, and those of other drivers, are mounted only while a container uses them. The engine mounts all
//! volumes of a container, whether it runs or not, for as long as it unpacks an archive into it: so an archive is given to
//! it whose end comes when the volumes are no longer needed. It holds one file of zeros, in the container's own layer. That
//! the engine has taken more of it than any buffer on the way can hold shows that it is unpacking, and has mounted all.

use super::{Engine, Error, Result};
use crate::monitor::Quiet;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Length of the file.
const BYTES: u64 = 16 << 20;
/// No buffer between here and the engine holds so much.
const BUFFERED_MAX: u64 = 12 << 20;
/// An archive ends with two blocks of zeros.
const END: u64 = 1024;

/// The volumes of a container, mounted until this is dropped.
#[derive(Debug)]
pub struct Hold {
    /// Nobody says anything here: its end is the word.
    release: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Engine {
    /// Has the volumes of `container`, which need not run, mounted. Until this is dropped the engine answers nothing else
    /// about that container.
    ///
    /// # Errors
    /// The container is not there, or a volume cannot be mounted.
    pub fn hold_volumes(&self, container: &str) -> Result<Hold> {
        let (release, released) = channel();
        let (ready, mounted) = channel();
        let (engine, name) = (self.clone(), container.to_owned());
        let thread = std::thread::spawn(move || {
            let head = header().map_err(|source| Error::Input {
                operation: "mount the volumes of",
                object: format!("container {name}"),
                source,
            })?;
            let mut archive = Archive { head, at: 0, ready: Some(ready), released };
            engine.write_archive(&name, "/", &mut archive, &Quiet::default())
        });
        let mut hold = Hold { release: Some(release), thread: Some(thread) };
        if mounted.recv().is_ok() {
            return Ok(hold);
        }
        hold.release = None;
        let ended = hold.thread.take().and_then(|thread| thread.join().ok());
        let problem = "it ended at once".to_owned();
        ended.unwrap_or(Ok(())).and_then(|()| {
            let object = format!("container {container}");
            Err(Error::Answer { operation: "mount the volumes of", object, problem })
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release = None;
        // That the archive was unpacked or not does not matter to anybody.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn header() -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path("snap-hold")?;
    header.set_size(BYTES);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

struct Archive {
    head: Vec<u8>,
    /// Bytes that were given.
    at: u64,
    ready: Option<Sender<()>>,
    released: Receiver<()>,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = self.head.len() as u64;
        if self.at < head {
            let rest = self.head.get(self.at as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.at += count as u64;
            return Ok(count);
        }
        if self.at >= head + BUFFERED_MAX
            && let Some(ready) = self.ready.take()
        {
            // Whoever waits may have gone; then the other end of the second channel has, too.
            let _gone = ready.send(());
            let _released = self.released.recv();
        }
        let left = (head + BYTES + END).saturating_sub(self.at);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        buffer[..count].fill(0);
        self.at += count as u64;
        Ok(count)
    }
}
