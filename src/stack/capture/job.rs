//! What goes between the threads of a capture, and the threads themselves.

use super::assemble::Assembler;
use super::big::BigFile;
use super::work::Worker;
use super::{FolderOptions, Result, scan};
use crate::monitor::{Monitor, Unit, Warning, lock};
use crate::pack::PackKind;
use crate::repo::state::StateRecord;
use crate::repo::writer::Session;
use crate::repo::{self, Repository};
use crate::stack::files::Found;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// Batches that wait for a worker. With the files of each kept open by their folders alone, this
/// bounds memory and open folders.
const QUEUE: usize = 8;

/// One thing on its way into the tree.
pub(super) enum Item {
    /// As the last capture saw it.
    Unchanged(Box<StateRecord>),
    /// To be read.
    Changed(Box<Found>),
    /// Another name of a file that came before.
    Link(Box<Found>, Vec<u8>),
}

/// Work for a worker.
pub(super) enum Job {
    /// Things that stand together.
    Batch(u64, Vec<Item>),
    /// A share in a large file; one for each worker.
    Big(Arc<BigFile>),
}

/// What became of one thing.
pub(super) enum Outcome {
    /// It is in the tree.
    Kept(Box<Kept>),
    /// It is not, and the person is told why.
    Lost(Vec<u8>, Warning),
}

/// Something for the tree.
pub(super) struct Kept {
    /// Its record.
    pub record: StateRecord,
    /// True if it was read now.
    pub read: bool,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes of them that the repository did not have.
    pub bytes_new: u64,
    /// A remark, or a flaw that makes the capture incomplete.
    pub warning: Option<Warning>,
    /// True for a database that went through SQLite's own backup.
    pub sqlite: bool,
}

/// The results of a batch, which stands at this place in the order.
pub(super) type Done = (u64, Vec<Outcome>);

pub(super) fn run(
    repository: &Repository,
    session: &Session<'_>,
    root: &Path,
    options: &FolderOptions,
    assembler: &mut Assembler<'_, '_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    monitor.phase("reading", Unit::Bytes, None);
    let (jobs, waiting) = sync_channel::<Job>(QUEUE);
    let (done, results) = sync_channel::<Done>(QUEUE * 4);
    let waiting = Mutex::new(waiting);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers.max(1))
            .map(|_| {
                let done = done.clone();
                let (waiting, stop) = (&waiting, &stop);
                scope.spawn(move || {
                    let result = work(repository, session, waiting, &done, stop, monitor);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                        // The scanner may be waiting to hand over a batch, and sees the flag only then.
                        while lock(waiting).recv().is_ok() {}
                    }
                    result
                })
            })
            .collect();
        let scanner = scope.spawn({
            let stop = &stop;
            move || scan::scan(repository, root, options, scan::Out { jobs, done }, stop, monitor)
        });
        let assembled = assembler.take_all(&results, &stop);
        drop(results);
        let scanned = scanner.join().unwrap_or(Err(unfinished("the scan")));
        let mut worked = Ok(());
        for worker in workers {
            worked = worked.and(worker.join().unwrap_or(Err(unfinished("a worker"))));
        }
        // The assembler's own failure explains the others, which then only find their ways closed.
        assembled.map_err(|error| error.at(&options.state)).and(worked).and(scanned)
    })?;
    if monitor.cancelled() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
}

fn unfinished(what: &'static str) -> super::Error {
    repo::Error::Unfinished { what }.into()
}

fn work(
    repository: &Repository,
    session: &Session<'_>,
    waiting: &Mutex<Receiver<Job>>,
    done: &SyncSender<Done>,
    stop: &AtomicBool,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut worker = Worker::new(repository, session.sink(PackKind::Data)?, monitor);
    loop {
        // Held only while waiting; whoever holds it is the next to get a job.
        let job = lock(waiting).recv();
        let Ok(job) = job else { break };
        if stop.load(Ordering::Relaxed) || monitor.cancelled() {
            // Drain, so that the scanner is not left waiting.
            continue;
        }
        let result = match job {
            Job::Batch(number, items) => worker.batch(items).map(|outcomes| Some((number, outcomes))),
            Job::Big(file) => worker.share(&file),
        };
        match result {
            Ok(Some(result)) => {
                if done.send(result).is_err() {
                    break;
                }
            }
            // Not to lose the open pack: what is left is drained.
            Ok(None) | Err(super::Error::Repo(repo::Error::Interrupted)) => {}
            Err(error) => return Err(error),
        }
    }
    // Also when the person stops the work: what is stored need not be stored again next time.
    Ok(worker.finish()?)
}
