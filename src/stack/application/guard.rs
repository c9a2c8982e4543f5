//! Stopping what must stand still, and starting it again on every way out.
//!
//! Before the first container is stopped, a durable record says what ran. It is removed when everything runs again:
//! after success, after an error, after Ctrl-C, and, by a hook that works even where a panic ends the program at
//! once, after a panic. Where nothing could be done any more (SIGKILL, a power cut) the record is left, and the next
//! snap command starts what it names: see [`repair`]. Only what ran is started, and only what was stopped here.
//!
//! A lock beside the record tells one that is in use from one that was left.

use super::{Error, Result};
use crate::docker::{Engine, Health, Status};
use crate::fs::{create_dir_durable, sync_dir, write_replacing};
use crate::monitor::{Monitor, Warning, lock};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// How long a service that others need healthy is waited for.
const HEALTHY_WAIT: Duration = Duration::from_secs(90);
const HEALTHY_STEP: Duration = Duration::from_millis(200);

/// A container that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// True if it is paused, false if it is stopped.
    pub pause: bool,
    /// True if others wait until it is healthy.
    #[serde(default)]
    pub is_needed_healthy: bool,
    /// True if a person had paused it: it is paused again when it was started.
    #[serde(default)]
    pub was_paused: bool,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    project: String,
    time: String,
    /// In the order in which they start.
    containers: Vec<Held>,
}

/// How long things stood still.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Downtime {
    /// Services that were stopped, those first that others need; they stop in the other order.
    pub stopped: Vec<String>,
    /// Services that were paused, in the same order.
    pub paused: Vec<String>,
    /// Services that were started or woken again, in that order.
    pub started: Vec<String>,
    /// How long stopping took.
    pub stop_seconds: f64,
    /// From the first stop until all ran again.
    pub down_seconds: f64,
}

/// Containers that stand still, until [`Guard::release`].
struct Guard<'e> {
    engine: &'e Engine,
    record: PathBuf,
    _lock: File,
    containers: Vec<Held>,
    /// How many have been stopped, counted from the end.
    began: Instant,
}

/// Does `work` while `containers`, given in the order in which they start, stand still; `folder` keeps the record.
/// They run again when this returns, whatever `work` gave. Without containers it only does the work.
///
/// # Errors
/// One could not be stopped, or another snap is at work; `work` was not done then. What could not be started again
/// is told as missing.
pub fn held<T>(
    engine: &Engine,
    folder: &Path,
    project: &str,
    containers: Vec<Held>,
    monitor: &dyn Monitor,
    work: impl FnOnce() -> T,
) -> Result<(T, Downtime)> {
    if containers.is_empty() {
        return Ok((work(), Downtime::default()));
    }
    let guard = Guard::arm(engine, folder, project, containers)?;
    let stopped = guard.stop(monitor);
    let stop_seconds = guard.began.elapsed().as_secs_f64();
    let done = stopped.map(|()| work());
    let mut downtime = guard.release(monitor);
    downtime.stop_seconds = stop_seconds;
    Ok((done?, downtime))
}

impl<'e> Guard<'e> {
    fn arm(engine: &'e Engine, folder: &Path, project: &str, containers: Vec<Held>) -> Result<Self> {
        let record = record_path(folder, project);
        let failed = |operation| {
            let path = record.clone();
            move |source: std::io::Error| Error::State { operation, path, source }
        };
        create_dir_durable(folder).map_err(failed("make the folder of"))?;
        let lock = lock_file(&record).map_err(failed("lock"))?;
        let Some(lock) = lock else { return Err(Error::Busy { project: project.to_owned() }) };
        let time = format!("{:.6}", jiff::Timestamp::now());
        let text = serde_json::to_vec(&Record { project: project.to_owned(), time, containers: containers.clone() });
        let text = text.map_err(|error| failed("write")(error.into()))?;
        write_replacing(&record, &text, 0o600).map_err(failed("write"))?;
        arm_panic(engine, &containers);
        Ok(Self { engine, record, _lock: lock, containers, began: Instant::now() })
    }

    /// Those first that others do not need.
    fn stop(&self, monitor: &dyn Monitor) -> Result<()> {
        for held in self.containers.iter().rev() {
            monitor.item(&format!("stopping {}", held.name));
            if held.pause {
                self.engine.pause(&held.id)?;
            } else {
                self.engine.stop(&held.id, None, monitor)?;
            }
            if monitor.cancelled() {
                return Err(crate::docker::Error::Cancelled { operation: "stop", object: held.name.clone() }.into());
            }
        }
        Ok(())
    }

    fn release(self, monitor: &dyn Monitor) -> Downtime {
        let failed = start_all(self.engine, &self.containers, monitor);
        disarm_panic();
        if failed.is_empty() {
            forget(&self.record, monitor);
        }
        let services = |which: &dyn Fn(&Held) -> bool| {
            let mut names: Vec<String> =
                self.containers.iter().filter(|held| which(held)).map(|held| held.service.clone()).collect();
            // Containers of one service stand together.
            names.dedup();
            names
        };
        Downtime {
            stopped: services(&|held| !held.pause),
            paused: services(&|held| held.pause),
            started: services(&|held| !held.was_paused && !failed.contains(&held.id)),
            stop_seconds: 0.0,
            down_seconds: self.began.elapsed().as_secs_f64(),
        }
    }
}

/// Starts what stands still, in order; gives the containers that could not be.
fn start_all(engine: &Engine, containers: &[Held], monitor: &dyn Monitor) -> Vec<String> {
    let mut failed = Vec::new();
    for held in containers {
        monitor.item(&format!("starting {}", held.name));
        match start(engine, held) {
            Ok(()) if held.is_needed_healthy && !held.was_paused && !is_healthy_in_time(engine, held) => {
                let message = format!(
                    "it is not healthy after {} s; what needs it was started all the same",
                    HEALTHY_WAIT.as_secs()
                );
                monitor.warn(&Warning::note(&held.service, message));
            }
            Ok(()) => {}
            Err(error) if error.is_not_found() => {
                let message = format!("its container {} has been removed meanwhile", held.name);
                monitor.warn(&Warning::note(&held.service, message));
            }
            Err(error) => {
                failed.push(held.id.clone());
                let message = format!("it was stopped for the capture and does not start again: {error}");
                monitor.warn(&Warning::missing(&held.service, message));
            }
        }
    }
    failed
}

fn start(engine: &Engine, held: &Held) -> crate::docker::Result<()> {
    if held.was_paused {
        // It may not have come to be stopped.
        if engine.container(&held.id)?.state.status != Status::Paused {
            engine.start(&held.id)?;
            engine.pause(&held.id)?;
        }
        return Ok(());
    }
    if !held.pause {
        return engine.start(&held.id).map(drop);
    }
    match engine.unpause(&held.id) {
        // It is not paused: it never was, or somebody was faster. One that ended while it was paused is started.
        Err(error) if !error.is_not_found() => engine.start(&held.id).map(drop),
        other => other,
    }
}

fn is_healthy_in_time(engine: &Engine, held: &Held) -> bool {
    let started = Instant::now();
    loop {
        match engine.container(&held.id) {
            Ok(found) if found.state.health.is_none_or(|health| health == Health::Healthy) => return true,
            Err(_) => return false,
            Ok(_) if started.elapsed() > HEALTHY_WAIT => return false,
            Ok(_) => std::thread::sleep(HEALTHY_STEP),
        }
    }
}

fn record_path(folder: &Path, project: &str) -> PathBuf {
    let name = blake3::hash(project.as_bytes()).to_hex();
    folder.join(format!("{}.json", &name.as_str()[..16]))
}

/// The lock beside a record; `None` if somebody has it.
fn lock_file(record: &Path) -> std::io::Result<Option<File>> {
    let path = record.with_extension("lock");
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a record that has done its work.
fn forget(record: &Path, monitor: &dyn Monitor) {
    let removed = std::fs::remove_file(record).and_then(|()| record.parent().map_or(Ok(()), sync_dir));
    if let Err(error) = removed {
        monitor.warn(&Warning::note(record.display().to_string(), format!("this record cannot be removed: {error}")));
    }
}

/// What a panic would have to start.
static ARMED: Mutex<Option<(Engine, Vec<Held>)>> = Mutex::new(None);

fn arm_panic(engine: &Engine, containers: &[Held]) {
    static HOOK: Once = Once::new();
    *lock(&ARMED) = Some((engine.clone(), containers.to_vec()));
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |what| {
            usual(what);
            if let Some((engine, containers)) = ARMED.try_lock().ok().and_then(|mut armed| armed.take()) {
                // The record stays: the next command sees whether all of them run.
                start_all(&engine, &containers, &crate::monitor::Quiet::default());
            }
        }));
    });
}

fn disarm_panic() {
    *lock(&ARMED) = None;
}

/// Services that an interrupted capture had left standing still, and what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The project.
    pub project: String,
    /// When it was stopped, RFC 3339.
    pub time: String,
    /// Containers that were started.
    pub started: Vec<String>,
    /// False if some could not be started; it is tried again by the next command.
    pub done: bool,
}

/// Starts what interrupted captures have left standing still, as the records in `folder` say. Those of captures that
/// are at work are left alone.
pub fn repair(folder: &Path, monitor: &dyn Monitor) -> Vec<Repaired> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let records = entries.flatten().map(|entry| entry.path());
    let records = records.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    records.filter_map(|record| repair_one(&record, monitor)).collect()
}

fn repair_one(path: &Path, monitor: &dyn Monitor) -> Option<Repaired> {
    let subject = path.display().to_string();
    let _lock = lock_file(path).ok()??;
    // Whoever had the lock a moment ago may have removed it.
    let bytes = std::fs::read(path).ok()?;
    let record: Record = match serde_json::from_slice(&bytes) {
        Ok(record) => record,
        Err(error) => {
            monitor.warn(&Warning::note(
                subject,
                format!("this record of stopped services cannot be understood: {error}"),
            ));
            return None;
        }
    };
    let names = record.containers.iter().map(|held| held.name.as_str()).collect::<Vec<_>>().join(", ");
    let engine = match Engine::from_env() {
        Ok(engine) => engine,
        Err(error) => {
            let message = format!(
                "an interrupted capture has stopped {names}, and they cannot be started: {}",
                error.with_hint()
            );
            monitor.warn(&Warning::note(&record.project, message));
            return Some(Repaired { project: record.project, time: record.time, started: Vec::new(), done: false });
        }
    };
    let stands = |held: &&Held| {
        engine.container(&held.id).is_ok_and(|found| match (held.pause, held.was_paused) {
            (true, _) => found.state.status == Status::Paused,
            (false, true) => found.state.status != Status::Paused,
            (false, false) => !super::observe::is_active(found.state.status),
        })
    };
    let standing: Vec<Held> = record.containers.iter().filter(stands).cloned().collect();
    let done = start_all(&engine, &standing, monitor).is_empty();
    let started: Vec<String> = standing.into_iter().map(|held| held.name).collect();
    if done {
        forget(path, monitor);
    }
    let message = match started.is_empty() {
        true => format!("an interrupted capture had stopped {names}; all of them run already"),
        false => format!("an interrupted capture had left {} standing still: started again", started.join(", ")),
    };
    monitor.warn(&Warning::note(&record.project, message));
    Some(Repaired { project: record.project, time: record.time, started, done })
}
