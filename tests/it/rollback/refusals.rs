//! What cannot go well is told before anything stops, with a reason, and nothing has changed then.

use super::*;
use crate::application::output;
use crate::need::{docker, need, program, root};
use crate::snap::exit;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

/// The containers and when each was started, and the content of the project's files.
fn state(app: &App) -> String {
    let label = format!("label=com.docker.compose.project={}", app.name);
    let ids = output(Command::new("docker").args(["ps", "-a", "-q", "--no-trunc", "--filter", &label]));
    let format = "{{.Id}} {{.State.Status}} {{.State.StartedAt}}";
    let mut out = output(Command::new("docker").args(["inspect", "-f", format]).args(ids.lines()));
    let mut paths = crate::compare::paths(&app.dir);
    paths.sort();
    for path in paths {
        let full = app.dir.join(&path);
        let content = if full.is_file() { std::fs::read(&full).expect("a file") } else { Vec::new() };
        writeln!(out, "{} {:x?}", path.display(), blake3::hash(&content)).expect("a text");
    }
    out
}

/// A restore that must be refused with `code` and these words, and leaves everything as it was.
#[track_caller]
fn refused(app: &App, line: &str, code: i32, words: &[&str]) {
    let before = state(app);
    for line in [format!("restore {line} --plan"), format!("restore {line} --yes")] {
        let run = patiently(app, &line, code);
        for word in words {
            assert!(run.stderr.contains(word), "{line}: no {word:?} in {run}");
        }
    }
    assert_eq!(state(app), before);
    let left = app.sandbox.home().join(".local/share/snap/restores");
    let all = if left.is_dir() { crate::compare::paths(&left) } else { Vec::new() };
    let journals = all.into_iter().filter(|path| path.ends_with("journal"));
    assert_eq!(journals.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "a journal was begun");
}

fn started(name: &str, compose: &str) -> App {
    let app = App::new(&format!("roll-{name}"), compose);
    app.write(".env", "GREETING=hello\n");
    app.up();
    app.sandbox.init();
    app
}

const SLEEP: &str = "command: ['sh', '-c', 'while :; do sleep 0.2; done'], stop_grace_period: 1s";

/// A port that the system gives to nobody by itself, so that none of the other tests has it in between.
fn port_of_its_own() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the system's own ports");
    let first: u32 = range.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
    let last = u16::try_from(first.saturating_sub(1)).expect("a port");
    let tried = (10_000..=last).rev().skip(std::process::id() as usize % 1000);
    tried.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

#[test]
fn a_port_that_another_program_has_taken() {
    need!(root(), docker());
    let number = port_of_its_own();
    let compose = format!("services: {{web: {{image: IMAGE, {SLEEP}, ports: ['127.0.0.1:{number}:80']}}}}\n");
    let app = started("port", &compose);
    snapshot(&app, "good");
    // Its own container has it: that is no obstacle.
    app.write(".env", "GREETING=other\n");
    restore(&app, "good --yes", exit::DONE);
    app.compose(&["stop", "-t", "0"]);
    app.write(".env", "GREETING=other\n");
    let taken = TcpListener::bind(("127.0.0.1", number)).expect("the port");
    let port = format!("127.0.0.1:{number}/tcp");
    refused(&app, "good", exit::FAILED, &["service web", &port, "is taken by another program"]);
    drop(taken);
    restore(&app, "good --yes", exit::DONE);
    assert_eq!(app.states(), ["web running"]);
}

#[test]
fn an_image_of_another_architecture() {
    need!(root(), docker());
    let (here, other) = if cfg!(target_arch = "x86_64") { ("amd64", "arm64") } else { ("arm64", "amd64") };
    let image = format!("snap-it/other-{}:1", std::process::id());
    // The same image, said to be of another processor.
    output(Command::new("docker").args(["tag", crate::docker::busybox_image(), &image]));
    let mut archive = Command::new("docker").args(["save", &image]).output().expect("docker save").stdout;
    output(Command::new("docker").args(["rmi", &image]));
    let (from, to) = (format!("\"architecture\":\"{here}\""), format!("\"architecture\":\"{other}\""));
    // Layers have descriptions too, and which is first depends on their names.
    let places: Vec<usize> = (0..archive.len()).filter(|at| archive[*at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "no architecture");
    for at in places {
        archive[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    let mut load = Command::new("docker")
        .args(["load", "-q"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("docker");
    std::io::Write::write_all(&mut load.stdin.take().expect("its input"), &archive).expect("an archive");
    assert!(load.wait().expect("docker load").success());
    let compose = format!("services: {{web: {{image: IMAGE, {SLEEP}}}, never: {{image: '{image}', profiles: [x]}}}}\n");
    let app = App::new("roll-arch", &compose);
    app.up();
    app.sandbox.init();
    let line = format!("create {} --profile x --tag good --only image:{image}", app.dir.display());
    patiently(&app, &line, exit::DONE);
    output(Command::new("docker").args(["rmi", &image]));
    refused(&app, "good", exit::FAILED, &["image", &format!("linux/{other}"), "this host is"]);
}

/// A small file system over a folder, gone when dropped.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_without_room_for_what_is_made_ready() {
    need!(root(), docker(), program("mount"));
    let app = App::new("roll-room", "services: {}\n");
    output(Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "none"]).arg(&app.dir));
    let small = Small(app.dir.clone());
    let image = crate::docker::busybox_image();
    app.write("compose.yaml", &format!("services: {{web: {{image: '{image}', {SLEEP}}}}}\n"));
    let noise = |seed: u32| {
        let byte = |n: u32| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8;
        (0..4_000_000u32).map(byte).collect::<Vec<u8>>()
    };
    std::fs::write(app.dir.join("big"), noise(1)).expect("a file");
    app.up();
    app.sandbox.init();
    snapshot(&app, "good");
    std::fs::write(app.dir.join("big"), noise(2)).expect("a file");
    refused(&app, "good", exit::FAILED, &["staging needs", "are free"]);
    app.compose(&["down", "-t", "0"]);
    drop(small);
}

#[test]
fn what_the_older_tool_has_started_it_starts_again() {
    need!(root(), docker(), program("docker-compose"));
    let app = App::new("roll-older", COMPOSE);
    let older = |args: &[&str]| {
        let mut command = app.sandbox.command("docker-compose");
        output(command.args(["-p", &app.name, "-f", "compose.yaml"]).args(args).current_dir(&app.dir))
    };
    let version = || {
        let label = format!("label=com.docker.compose.project={}", app.name);
        let format = "{{.Label \"com.docker.compose.service\"}} {{.Label \"com.docker.compose.version\"}}";
        let mut lines: Vec<String> =
            output(Command::new("docker").args(["ps", "--filter", &label, "--format", format]))
                .lines()
                .map(str::to_owned)
                .collect();
        lines.sort();
        lines
    };
    app.write(".env", "GREETING=hello\n");
    app.write("conf/app.ini", "a = 1\n");
    older(&["up", "-d"]);
    app.sandbox.init();
    snapshot(&app, "good");
    let (good, by) = (looks(&app), version());
    assert!(by.len() == 2 && by.iter().all(|line| line.contains(" 1.")), "{by:?}");
    app.write(".env", "GREETING=never healthy\n");
    older(&["up", "-d"]);
    snapshot(&app, "bad");
    let bad = looks(&app);
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!((looks(&app), version()), (good.clone(), by.clone()), "{report}");
    assert_eq!(report["verdict"], "healthy");
    // And back, where the new state does not prove itself.
    let report = restore(&app, "bad --yes", 6);
    assert_eq!((looks(&app), version()), (good, by), "{report}");
    assert_ne!(looks(&app), bad);
}
