//! Bringing what is written to the disk while more is written.
//!
//! A restore ends when everything is durable. Where that is left to one sync at the end, the disk
//! stands still while chunks are decoded, and then the processors while the disk works. So one
//! thread syncs what there is so far each time that some more has come.

use crate::monitor::lock;
use rustix::io::Result as SysResult;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Bytes that are worth a sync of their own: some 40 ms of a fast disk.
const STEP: u64 = 64 << 20;

/// The thread that syncs, begun when there is something to sync.
#[derive(Debug)]
pub(super) struct WriteOut {
    /// A folder on the file system that is synced.
    root: Arc<OwnedFd>,
    written: AtomicU64,
    ahead: Mutex<Option<Ahead>>,
}

#[derive(Debug)]
struct Ahead {
    sender: SyncSender<()>,
    thread: JoinHandle<SysResult<()>>,
}

impl WriteOut {
    pub(super) fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, written: AtomicU64::new(0), ahead: Mutex::default() }
    }

    /// Counts so many bytes as written. Enough of them are synced, unless an earlier part is waiting for that.
    pub(super) fn count(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP == (before + bytes) / STEP {
            return;
        }
        let mut ahead = lock(&self.ahead);
        if ahead.is_none() {
            let (sender, receiver) = sync_channel(1);
            let root = Arc::clone(&self.root);
            let thread = std::thread::Builder::new().name("write-out".to_owned());
            // Without a thread the sync at the end does it all.
            *ahead = thread.spawn(move || sync_each(&root, &receiver)).ok().map(|thread| Ahead { sender, thread });
        }
        if let Some(ahead) = &*ahead {
            let _ = ahead.sender.try_send(());
        }
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// A disk has refused something: it must be taken for lost, whatever a later sync says.
    pub(super) fn finish(&self) -> SysResult<()> {
        let Some(Ahead { sender, thread }) = lock(&self.ahead).take() else { return Ok(()) };
        drop(sender);
        thread.join().unwrap_or(Err(rustix::io::Errno::IO))
    }
}

fn sync_each(root: &OwnedFd, parts: &Receiver<()>) -> SysResult<()> {
    let mut outcome = Ok(());
    for () in parts {
        outcome = outcome.and(rustix::fs::syncfs(root));
    }
    outcome
}
