//! Bringing large files to the disk while they are still being written.
//!
//! A restore ends when everything is durable. Where that is left to one sync at the end, the disk
//! stands still while chunks are decoded, and then the processors while the disk works. So one
//! thread syncs what large files have so far, whenever it has ended the last of these syncs; small
//! files, whose names and times cost more than their bytes, are left to the one at the end.

use crate::monitor::lock;
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Bytes of a file that are worth a sync of their own: some 20 ms of a fast disk.
pub(super) const STEP: u64 = 32 << 20;

/// The thread that syncs, begun with the first large file.
#[derive(Debug, Default)]
pub(super) struct WriteOut {
    ahead: Mutex<Option<Ahead>>,
}

#[derive(Debug)]
struct Ahead {
    sender: SyncSender<Arc<File>>,
    thread: JoinHandle<io::Result<()>>,
}

impl WriteOut {
    /// Has what `file` has so far brought to the disk, unless the disk is busy with an earlier part.
    pub(super) fn offer(&self, file: &Arc<File>) {
        let mut ahead = lock(&self.ahead);
        if ahead.is_none() {
            let (sender, receiver) = sync_channel(1);
            // Without a thread the sync at the end does it all.
            let thread = std::thread::Builder::new().name("write-out".to_owned()).spawn(move || sync_each(&receiver));
            *ahead = thread.ok().map(|thread| Ahead { sender, thread });
        }
        if let Some(ahead) = &*ahead {
            let _ = ahead.sender.try_send(Arc::clone(file));
        }
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// A disk has refused what a file held: it must be taken for lost, whatever a later sync says.
    pub(super) fn finish(&self) -> io::Result<()> {
        let Some(Ahead { sender, thread }) = lock(&self.ahead).take() else { return Ok(()) };
        drop(sender);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes out has failed")))
    }
}

fn sync_each(files: &Receiver<Arc<File>>) -> io::Result<()> {
    let mut outcome = Ok(());
    for file in files {
        let synced = file.sync_data();
        outcome = outcome.and(synced);
    }
    outcome
}
