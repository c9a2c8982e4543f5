//! Ending a program that was started in a container.
//!
//! The engine can start programs and not end them, and the number that it gives belongs to its own
//! host. So every program gets a mark, a random word in its environment, which its children inherit.
//! Where the engine runs on this host the marked processes are found in `/proc` here, otherwise by a
//! shell in the container. All are stopped first, so that no parent goes on when its child ends and
//! no new child escapes; then they are asked to end, parents before children, and after two seconds
//! they are killed. The first process of a container, and of a host, has no mark and is left alone.

use super::exec::ExecSpec;
use super::{Engine, Error, Result};
use crate::monitor::Quiet;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

const VARIABLE: &str = "SNAP_EXEC";
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(50);

/// A new mark, `NAME=value`.
pub(super) fn new_mark() -> Result<String> {
    let mut bytes = [0u8; 16];
    let system = |source: io::Error| Error::System { source };
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|error| system(error.into()))?;
    let word: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{VARIABLE}={word}"))
}

/// Ends all processes that carry `mark`, and sees that the engine knows it.
pub(super) fn kill_marked(engine: &Engine, container: &str, id: &str, mark: &str) -> Result<()> {
    if marked_here(mark).is_empty() {
        // Elsewhere, or already gone, or not started yet.
        if engine.exec_state(id, container).is_ok_and(|state| state.running) {
            kill_inside(engine, container, mark);
        }
    } else {
        kill_here(mark);
    }
    let begun = Instant::now();
    loop {
        match engine.exec_state(id, container) {
            Ok(state) if !state.running => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) if begun.elapsed() > PATIENCE => {
                let problem = "a program that was given up still runs".to_owned();
                return Err(Error::Answer { operation: "end", object: format!("container {container}"), problem });
            }
            Ok(_) => std::thread::sleep(STEP),
        }
    }
}

fn kill_here(mark: &str) {
    // Until no process has come up since the last look.
    let mut stopped = BTreeSet::new();
    loop {
        let found = marked_here(mark);
        let new: Vec<&Process> = found.iter().filter(|process| stopped.insert((process.pid, process.begun))).collect();
        if new.is_empty() {
            break;
        }
        new.into_iter().for_each(|process| send(process, Signal::STOP));
    }
    for signal in [Signal::TERM, Signal::CONT] {
        marked_here(mark).iter().for_each(|process| send(process, signal));
    }
    let begun = Instant::now();
    while !marked_here(mark).is_empty() {
        if begun.elapsed() > PATIENCE {
            marked_here(mark).iter().for_each(|process| send(process, Signal::KILL));
            return;
        }
        std::thread::sleep(STEP);
    }
}

/// A process of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// Its start, in the system's ticks: another process with the same number has another.
    begun: u64,
}

/// The marked processes and their descendants, parents before children.
fn marked_here(mark: &str) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let processes: BTreeMap<u32, Process> = pids.filter_map(|pid| Some((pid, read_process(pid)?))).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut queue: Vec<Process> = processes.values().filter(|process| is_marked(process.pid, mark)).copied().collect();
    let roots: BTreeSet<u32> = queue.iter().map(|process| process.pid).collect();
    queue.retain(|process| !roots.contains(&process.parent));
    while !queue.is_empty() {
        let above: BTreeSet<u32> = queue.iter().map(|process| process.pid).collect();
        found.append(&mut queue);
        queue.extend(processes.values().filter(|process| above.contains(&process.parent)));
    }
    found.retain(|process| process.pid > 1);
    found
}

fn is_marked(pid: u32, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes())
}

/// `None` for what is gone or only waits for its parent to notice its end.
fn read_process(pid: u32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, begun: fields.get(19)?.parse().ok()? })
}

fn send(process: &Process, signal: Signal) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // The handle is held, so the number cannot go to another process after this look.
    if read_process(process.pid).is_some_and(|now| now.begun == process.begun) {
        let _gone = pidfd_send_signal(handle, signal);
    }
}

const SCRIPT: &str = r#"
list() { for p in /proc/[0-9]*; do grep -q "$1" "$p/environ" 2>/dev/null && echo "${p#/proc/}"; done; }
send() { for p in $(list "$1"); do [ "$p" = 1 ] || kill "-$2" "$p" 2>/dev/null; done; }
send "$1" STOP; send "$1" STOP; send "$1" TERM; send "$1" CONT
i=0; while [ "$i" -lt 20 ] && [ -n "$(list "$1")" ]; do sleep 0.1 || sleep 1; i=$((i+1)); done
send "$1" KILL
"#;

/// Whether it worked is seen from the engine's answer afterwards.
fn kill_inside(engine: &Engine, container: &str, mark: &str) {
    let mut spec = ExecSpec::new(["sh", "-c", SCRIPT, "sh", mark]);
    spec.user = Some("0".to_owned());
    spec.limit = Some(PATIENCE * 6);
    let monitor = Quiet::default();
    if let Ok(exec) = engine.exec_marked(container, &spec, None, &monitor) {
        let _ended = exec.finish();
    }
}
