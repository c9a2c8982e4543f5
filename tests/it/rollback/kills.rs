//! SIGKILL at the steps of the journal; then `--resume`, and in another run `--abort`: all old or all new.

use super::*;
use crate::need::{need, root};
use crate::snap::exit;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The steps that are tried each time; all of them with `SNAP_KILLS=all`.
const SHARE: [&str; 3] = ["prepared", "swapping", "started"];
const ALL: [&str; 11] = [
    "begun", "staging", "safety", "prepared", "stopping", "stopped", "swapping", "swapped", "starting", "started",
    "proved",
];

fn steps() -> &'static [&'static str] {
    if std::env::var_os("SNAP_KILLS").is_some_and(|value| value == "all") { &ALL } else { &SHARE }
}

pub(super) fn journal(app: &App) -> Option<PathBuf> {
    let folder = app.sandbox.home().join(".local/share/snap/restores");
    let mut entries = std::fs::read_dir(folder).ok()?;
    entries.find_map(|entry| Some(entry.ok()?.path().join("journal")).filter(|path| path.exists()))
}

/// Begins a restore and kills it as soon as its journal has the step.
pub(super) fn killed_at(app: &App, step: &str) {
    let mut command = app.sandbox.snap_command(&["restore", "good", "--yes"]);
    let steps = std::fs::File::create(app.sandbox.path("steps")).expect("a file");
    command.stdout(steps).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program");
    let wanted = format!("\"event\":\"{step}\"");
    let started = Instant::now();
    loop {
        let text = journal(app).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        if text.contains(&wanted) || started.elapsed() > Duration::from_secs(60) {
            break;
        }
        if child.try_wait().expect("the program").is_some() {
            panic!("it ended before {step}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("a kill");
    child.wait().expect("the program");
}

fn journalled(app: &App, step: &str) -> bool {
    let text = journal(app).and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    text.contains(&format!("\"event\":\"{step}\""))
}

fn sweep(name: &str, go_on: &str) {
    let app = application(name);
    snapshot(&app, "good");
    let good = looks(&app);
    for step in steps() {
        break_it(&app);
        let broken = looks(&app);
        killed_at(&app, step);
        // Whoever reads along knows what has been done so far.
        let told = std::fs::read_to_string(app.sandbox.path("steps")).expect("a file");
        assert!(told.contains("the present is kept as ") || !journalled(&app, "prepared"), "{step}: {told}");
        if journal(&app).is_some() {
            // Nothing else begins before it is ended.
            let dir = app.dir.display().to_string();
            let run = app.sandbox.expect(&["create", &dir], &[5]).unwrap_or_else(|text| panic!("{step}: {text}"));
            assert!(run.stderr.contains("--resume") && run.stderr.contains("--abort"), "{run}");
            let run = app.sandbox.must("status --repair", exit::DAMAGE);
            assert!(run.stdout.contains("--resume") && run.stdout.contains("--abort"), "{run}");
            app.sandbox
                .expect(&["restore", go_on], &[exit::DONE])
                .unwrap_or_else(|text| panic!("killed at {step}, then {go_on}: {text}"));
        }
        if go_on == "--abort" {
            let entry = app.sandbox.json("log --last")["entries"][0].clone();
            assert!(entry["action"] != "abort" || entry["ending"] == "done", "what was asked for failed: {entry}");
        }
        let now = looks(&app);
        assert!(now == good || now == broken, "killed at {step}, then {go_on}: neither:\n{now}\n{good}\n{broken}");
        assert!(go_on != "--resume" || now == good, "killed at {step}: --resume has not gone on");
        assert!(journal(&app).is_none(), "{step}: the journal stayed");
    }
}

#[test]
fn a_killed_restore_is_resumed_to_its_end() {
    need!(root(), crate::need::docker());
    sweep("resume", "--resume");
}

#[test]
fn a_signal_ends_a_restore_and_is_told_as_one() {
    need!(root(), crate::need::docker());
    let app = application("signal");
    snapshot(&app, "good");
    break_it(&app);
    let broken = looks(&app);
    let mut command = app.sandbox.snap_command(&["restore", "good", "--yes", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program");
    let began = Instant::now();
    while !journalled(&app, "starting") {
        assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().expect("the program").is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    let done = child.wait_with_output().expect("the program");
    let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
    assert_eq!(done.status.code(), Some(6), "{report}");
    assert!(report["reason"].as_str().expect("a text").starts_with("a signal ended it"), "{report}");
    assert_eq!(looks(&app), broken);
}

#[test]
fn a_killed_restore_is_put_back() {
    need!(root(), crate::need::docker());
    sweep("abort", "--abort");
}

/// How many moments are tried each time, and with `SNAP_KILLS=all`.
const MOMENTS: [u64; 2] = [3, 40];

/// Kills a restore wherever it is after a while; some of the journals also lose the line that was being written.
fn at_random_moments(name: &str, go_on: &str) {
    let app = application(name);
    snapshot(&app, "good");
    let good = looks(&app);
    break_it(&app);
    let started = Instant::now();
    restore(&app, "good --yes", exit::DONE);
    let whole = started.elapsed();
    let all = std::env::var_os("SNAP_KILLS").is_some_and(|value| value == "all");
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let (mut killed, mut torn) = (0, 0);
    let moments = MOMENTS[usize::from(all)];
    while killed < moments {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        break_it(&app);
        let broken = looks(&app);
        let mut command = app.sandbox.snap_command(&["restore", "good", "--yes"]);
        let steps = std::fs::File::create(app.sandbox.path("steps")).expect("a file");
        command.stdout(steps).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program");
        std::thread::sleep(whole.mul_f64((random % 1000) as f64 / 1000.0));
        let _too_late = child.kill();
        if child.wait().expect("the program").success() {
            assert_eq!(looks(&app), good);
            continue;
        }
        killed += 1;
        if let Some(path) = journal(&app) {
            if random.is_multiple_of(3) {
                // A power cut in the middle of a line.
                let mut file = std::fs::File::options().append(true).open(&path).expect("the journal");
                std::io::Write::write_all(&mut file, b"0123456789abcdef {\"time\":\"2026-").expect("half a line");
                torn += 1;
            }
            app.sandbox
                .expect(&["restore", go_on], &[exit::DONE])
                .unwrap_or_else(|text| panic!("moment {killed}, then {go_on}: {text}"));
        }
        let now = looks(&app);
        assert!(now == good || now == broken, "moment {killed}, then {go_on}: neither:\n{now}\n{good}\n{broken}");
        assert!(journal(&app).is_none(), "moment {killed}: the journal stayed");
        assert_eq!(staged(&app), Vec::<String>::new(), "moment {killed}");
    }
    assert!(!all || torn > 5, "only {torn} journals were torn");
}

#[test]
fn a_restore_that_is_killed_at_any_moment_is_resumed() {
    need!(root(), crate::need::docker());
    at_random_moments("moment-resume", "--resume");
}

#[test]
fn a_restore_that_is_killed_at_any_moment_is_put_back() {
    need!(root(), crate::need::docker());
    at_random_moments("moment-abort", "--abort");
}

#[test]
fn there_must_be_something_to_go_on_with() {
    let sandbox = crate::snap::Sandbox::new();
    sandbox.init();
    for go_on in ["--resume", "--abort"] {
        let run = sandbox.must(&format!("restore {go_on}"), exit::USAGE);
        assert!(run.stderr.contains("no restore is unfinished"), "{run}");
    }
}
