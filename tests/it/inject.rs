//! Faults at a chosen system call, by strace.
//!
//! strace counts the calls that it injects into per thread and per call name: `when=3` is the third
//! `fsync` of each thread on its own. So a place in a run is named by thread, call and number, and
//! the main thread is watched alone (without `-f`, where no other thread's call can be hit first),
//! while the other threads are watched together. `--seccomp-bpf` is not used: strace 6.1 then
//! silently injects nothing.

use crate::snap::{Run, Sandbox, WATCHDOG, copy_folder, program, run};
use crate::work::{assert_none, on_two, sample, sweeps_all};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Calls that change what is on the disk, or make it durable. A `?` lets an architecture lack one.
pub const CALLS: [&str; 31] = [
    "fsync",
    "fdatasync",
    "syncfs",
    "sync_file_range",
    "linkat",
    "link",
    "renameat2",
    "renameat",
    "rename",
    "unlink",
    "unlinkat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "open",
    "openat",
    "creat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "ftruncate",
    "truncate",
    "fallocate",
    "copy_file_range",
    "fchmod",
    "fchmodat",
    "chmod",
    "symlinkat",
    "sendfile",
];

/// One call of a recorded run.
#[derive(Debug, Clone)]
pub struct Call {
    /// 0 for the main thread, then by first appearance.
    pub thread: usize,
    /// The call's name.
    pub name: String,
    /// Its number among the thread's calls of that name, from 1.
    pub number: usize,
    /// As strace shows it.
    pub text: String,
}

impl Call {
    /// The call changes something: reading is not what the sweeps are about.
    fn changes(&self) -> bool {
        let opens = ["open", "openat", "creat"].contains(&self.name.as_str());
        let for_writing = ["O_CREAT", "O_TMPFILE", "O_WRONLY", "O_RDWR"].iter().any(|flag| self.text.contains(flag));
        (!opens || for_writing) && !self.text.contains("/dev/null")
    }
}

/// Which threads a fault may hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Threads {
    /// The main one alone.
    Main,
    /// Whichever comes first to the given number.
    Any,
}

/// A place in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub threads: Threads,
    pub name: String,
    pub number: usize,
    /// What the recorded run called there.
    pub text: String,
}

/// The arguments of strace that watch `threads`.
fn strace(sandbox: &Sandbox, threads: Threads, log: Option<&Path>) -> Command {
    let mut command = sandbox.command("strace");
    if threads == Threads::Any {
        command.arg("-f");
    }
    command.args(["-qq", "-y", "-s", "0", "-e", "signal=SIGSTOP"]);
    if let Some(log) = log {
        command.arg("-o").arg(log);
    }
    command
}

/// Runs the program to its end and lists its calls. It must end with 0.
pub fn record(sandbox: &Sandbox, args: &[OsString]) -> Result<(Run, Vec<Call>), String> {
    let log = sandbox.path("strace-record");
    let mut command = strace(sandbox, Threads::Any, Some(&log));
    let names: Vec<String> = CALLS.iter().map(|name| format!("?{name}")).collect();
    command.args(["-e", &format!("trace=execve,{}", names.join(","))]).arg(program()).args(args);
    let run = run(command, WATCHDOG)?.expect(&[0])?;
    let text = std::fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    Ok((run, calls(&String::from_utf8_lossy(&text))))
}

/// The calls in a log that `strace -f` wrote.
fn calls(log: &str) -> Vec<Call> {
    let mut threads: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbers: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let mut found = Vec::new();
    for line in log.lines() {
        let Some((id, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        let Some((name, _)) = text.split_once('(') else { continue };
        // The second half of a call, a signal or an end.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let next = threads.len();
        let thread = *threads.entry(id).or_insert(next);
        let number = numbers.entry((thread, name)).or_default();
        *number += 1;
        found.push(Call { thread, name: name.to_owned(), number: *number, text: text.to_owned() });
    }
    found
}

/// The places where a fault is worth its while: each changing call of the main thread, and each
/// number that a changing call of another thread has.
pub fn points(calls: &[Call]) -> Vec<Point> {
    let mut found = Vec::new();
    for call in calls.iter().filter(|call| call.changes() && call.name != "execve") {
        let threads = if call.thread == 0 { Threads::Main } else { Threads::Any };
        let point = Point { threads, name: call.name.clone(), number: call.number, text: call.text.clone() };
        let same = |p: &Point| (p.threads, &p.name, p.number) == (point.threads, &point.name, point.number);
        if !found.iter().any(same) {
            found.push(point);
        }
    }
    found
}

/// The command that runs the program with `fault` (`signal=SIGKILL`, `error=EIO`, …) at `point`.
/// Without a log strace writes to standard error, among the program's own lines.
pub fn injecting(sandbox: &Sandbox, args: &[OsString], point: &Point, fault: &str, log: Option<&Path>) -> Command {
    let Point { threads, name, number, .. } = point;
    let mut command = strace(sandbox, *threads, log);
    command.args(["-e", &format!("trace={name}"), "-e", &format!("inject={name}:{fault}:when={number}")]);
    command.arg(program()).args(args);
    command
}

/// Runs the program with `fault` at `point`: what it did, and the call that was hit. None was hit
/// where the threads shared the work in another way than when it was recorded.
pub fn inject(
    sandbox: &Sandbox,
    args: &[OsString],
    point: &Point,
    fault: &str,
) -> Result<(Run, Option<String>), String> {
    let log = sandbox.path("strace-inject");
    let run = run(injecting(sandbox, args, point, fault, Some(&log)), WATCHDOG)?;
    let text = std::fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let hit = if fault.starts_with("signal=SIGKILL") {
        (run.code == 137).then(|| text.lines().rfind(|line| line.contains(&point.name)).unwrap_or_default().to_owned())
    } else {
        text.lines().find(|line| line.ends_with("(INJECTED)")).map(str::to_owned)
    };
    Ok((run, hit))
}

/// Runs the program with `args` in copies of `sandbox`, and ends it at an even share of its calls (at all of them
/// with `SNAP_SWEEP=all`) by SIGKILL or by EIO: each time what `holds` says of the copy must hold.
#[track_caller]
pub fn ends_anywhere(sandbox: &Sandbox, args: &[OsString], holds: impl Fn(&Sandbox) -> Result<(), String> + Sync) {
    let dir = crate::need::fast_tempdir();
    let template = dir.path().join("template");
    copy_folder(&sandbox.path(""), &template).expect("a copy");
    let recorded = dir.path().join("recorded");
    copy_folder(&template, &recorded).expect("a copy");
    let (_, calls) = record(&Sandbox::at(&recorded), args).unwrap_or_else(|text| panic!("{text}"));
    let all: Vec<_> = points(&calls)
        .into_iter()
        .flat_map(|point| ["signal=SIGKILL", "error=EIO"].map(|fault| (point.clone(), fault)))
        .collect();
    let cases = if sweeps_all() { all } else { sample(&all, 60) };
    let failures = on_two(
        &cases,
        |worker| dir.path().join(format!("work-{worker}")),
        |work, _, (point, fault)| {
            let _ = std::fs::remove_dir_all(&*work);
            copy_folder(&template, work)?;
            let sandbox = Sandbox::at(work);
            let (run, _) = inject(&sandbox, args, point, fault)?;
            holds(&sandbox).map_err(|text| format!("{fault} at {point:?}: {text}\nafter {run}"))
        },
    );
    assert_none(&failures, cases.len());
}

/// The steps that the order of writes is made of: no sample leaves one of them out.
pub fn is_a_step(point: &Point) -> bool {
    let steps = ["link", "rename", "sync", "unlink"];
    point.threads == Threads::Main && steps.iter().any(|step| point.name.contains(step))
}

#[test]
fn a_log_of_several_threads_is_read_rightly() {
    let log = "11 execve(\"/bin/x\", [\"x\"], 0x7 /* 3 vars */) = 0\n\
        11 openat(AT_FDCWD</a>, \"b\", O_RDONLY) = 3</a/b>\n\
        11 openat(AT_FDCWD</a>, \"c\", O_RDWR|O_TMPFILE, 0600) = 3</a/#1>\n\
        12 write(4</r/p>, \"\"..., 9 <unfinished ...>\n\
        13 write(5</r/q>, \"\"..., 9) = 9\n\
        12 <... write resumed>) = 9\n\
        12 write(4</r/p>, \"\"..., 9) = 9\n\
        11 fsync(3</a/#1>) = 0\n\
        12 +++ exited with 0 +++\n";
    let read = calls(log);
    let brief: Vec<(usize, &str, usize)> = read.iter().map(|c| (c.thread, c.name.as_str(), c.number)).collect();
    let expected = [
        (0, "execve", 1),
        (0, "openat", 1),
        (0, "openat", 2),
        (1, "write", 1),
        (2, "write", 1),
        (1, "write", 2),
        (0, "fsync", 1),
    ];
    assert_eq!(brief, expected);
    let brief: Vec<(Threads, String, usize)> =
        points(&read).into_iter().map(|p| (p.threads, p.name, p.number)).collect();
    let expected = [
        (Threads::Main, "openat", 2),
        (Threads::Any, "write", 1),
        (Threads::Any, "write", 2),
        (Threads::Main, "fsync", 1),
    ];
    assert_eq!(brief, expected.map(|(threads, name, number)| (threads, name.to_owned(), number)));
}
