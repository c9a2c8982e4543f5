//! What stood still for a capture runs again, whatever happened to the capture.

use super::{App, output};
use crate::need::{docker, need, program, root};
use crate::snap::exit;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Two services that write, one of which needs the other, one that ran once, one that is only read.
const COMPOSE: &str = "
services:
  db:
    image: IMAGE
    command: sh -c 'while :; do date >> /data/log; sleep 0.1; done'
    volumes: [data:/data]
    stop_grace_period: 0s
  web:
    image: IMAGE
    command: sh -c 'while :; do date >> /media/log; sleep 0.1; done'
    depends_on: [db]
    volumes: [media:/media]
    stop_grace_period: 0s
  reader: {image: IMAGE, command: sleep 1000, volumes: ['media:/media:ro'], stop_grace_period: 0s}
  once: {image: IMAGE, command: 'true'}
volumes: {data: {}, media: {}}
";
const BEFORE: [&str; 4] = ["db running", "once exited", "reader running", "web running"];

fn app(name: &str) -> App {
    let app = App::new(name, COMPOSE);
    app.up();
    wait_until(|| app.states() == BEFORE);
    app
}

fn wait_until(test: impl Fn() -> bool) {
    let started = Instant::now();
    while !test() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not come true");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// When each container was started last.
fn starts(app: &App) -> String {
    let ids = app.compose(&["ps", "-a", "-q"]);
    output(Command::new("docker").args(["inspect", "-f", "{{.Name}} {{.State.StartedAt}}"]).args(ids.lines()))
}

#[test]
fn what_writes_is_stopped_and_started_again_and_nothing_else() {
    need!(docker(), root());
    let app = app("stop");
    let before = starts(&app);
    let report = app.create(&["--stop", "--only", "files", "--only", "volume"], exit::DONE);
    assert_eq!(app.states(), BEFORE);
    assert_eq!(report["downtime"]["stopped"], serde_json::json!(["db", "web"]));
    assert_eq!(report["downtime"]["started"], serde_json::json!(["db", "web"]));
    assert!(report["downtime"]["down_seconds"].as_f64().expect("a number") > 0.0);
    let levels: Vec<_> = report["snapshot"]["sources"].as_array().expect("a list").iter().collect();
    for source in levels.iter().filter(|source| source["kind"] == "volume") {
        assert_eq!(source["level"], "stopped", "{source}");
    }
    let after = starts(&app);
    let same = |service: &str| {
        let line = |text: &str| text.lines().find(|line| line.contains(service)).expect("a line").to_owned();
        line(&before) == line(&after)
    };
    assert!(!same("-db-") && !same("-web-") && same("-reader-") && same("-once-"), "{before}{after}");
}

const PAUSED: &str = "
services:
  idle:
    image: IMAGE
    command: sh -c 'while :; do date >> /data/log; sleep 0.1; done'
    volumes: [idle:/data]
    stop_grace_period: 0s
  cache:
    image: IMAGE
    command: sh -c 'touch /data/dump.rdb; while :; do sleep 0.1; done'
    labels: {snap.database: redis}
    volumes: [cache:/data]
    stop_grace_period: 0s
volumes: {idle: {}, cache: {}}
";

#[test]
fn what_a_person_has_paused_is_paused_afterwards() {
    need!(docker(), root());
    let app = App::new("paused", PAUSED);
    app.up();
    wait_until(|| app.try_exec("cache", "test -e /data/dump.rdb").is_ok());
    app.compose(&["pause"]);
    let paused = ["cache paused", "idle paused"];
    assert_eq!(app.states(), paused);
    let before = starts(&app);
    let line = |text: &str, service: &str| text.lines().find(|line| line.contains(service)).map(str::to_owned);
    // Nobody can ask a server that is paused.
    let report = app.create(&["--only", "volume", "--only", "database"], exit::INCOMPLETE);
    let why = report["warnings"].to_string();
    assert!(why.contains("paused in the middle of its work") && !why.contains("select the database"), "{why}");
    let report = app.create(&["--stop", "--only", "volume", "--only", "database"], exit::DONE);
    assert_eq!(app.states(), paused);
    assert_eq!(line(&starts(&app), "-idle-"), line(&before, "-idle-"), "its files need no stop");
    let level = |name: &str| {
        let mut sources = report["snapshot"]["sources"].as_array().expect("a list").iter();
        sources.find(|source| source["name"] == name).expect("a volume")["level"].clone()
    };
    assert_eq!((level("idle"), level("cache")), ("paused".into(), "stopped".into()), "{report}");
    assert_eq!(report["downtime"]["stopped"], serde_json::json!(["cache"]));
    assert_eq!(report["downtime"]["started"], serde_json::json!([]));
}

#[test]
fn a_person_is_told_what_stood_still_in_which_order_and_the_way_back() {
    need!(docker(), root());
    let app = app("told");
    app.sandbox.init();
    let dir = app.dir.display().to_string();
    let args = ["create", &dir, "--stop", "--only", "files", "--only", "volume"];
    let run = app.sandbox.expect(&args, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let line = run.stdout.lines().find(|line| line.starts_with("  services:")).unwrap_or_else(|| panic!("{run}"));
    assert!(line.contains("stopped web db in ") && line.contains(" · started db web · down "), "{line}");
    // An application goes back as a whole; as plain files it is only looked at.
    let last = run.stdout.lines().last().unwrap_or_else(|| panic!("{run}"));
    let ways = last.strip_prefix("  to go back:  snap restore ").and_then(|ways| ways.split_once(' '));
    let (id, rest) = ways.unwrap_or_else(|| panic!("{run}"));
    assert_eq!(rest.trim(), format!("to look:  snap restore {id} --target DIR"));
    assert!(id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{last}");
    let without = ["create", &dir, "--only", "files"];
    let run = app.sandbox.expect(&without, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    assert!(!run.stdout.contains("services:") && run.stdout.contains("no service was stopped"), "{run}");
}

#[test]
fn a_label_pauses_one_service_alone() {
    need!(docker(), root());
    let app = App::new("pause", &COMPOSE.replace("depends_on: [db]", "labels: {snap.pause: 'true'}"));
    app.up();
    let before = starts(&app);
    let report = app.create(&["--only", "volume"], exit::DONE);
    assert_eq!(report["downtime"]["paused"], serde_json::json!(["web"]));
    assert_eq!(starts(&app), before);
    assert_eq!(app.states(), BEFORE);
    let sources = report["snapshot"]["sources"].as_array().expect("a list");
    let level = |name: &str| sources.iter().find(|source| source["name"] == name).expect("a source")["level"].clone();
    assert_eq!((level("media"), level("data")), ("paused".into(), "live".into()));
}

/// Puts so much into a volume that reading it takes a while.
fn fill(app: &App) {
    let mountpoint = app.mountpoint("media");
    let mut noise = std::fs::File::open("/dev/urandom").expect("noise").take(96 << 20);
    let mut big = std::fs::File::create(mountpoint.join("big")).expect("a file");
    std::io::copy(&mut noise, &mut big).expect("a copy");
}

/// Starts a capture and waits until it has stopped something.
fn interrupted(app: &App, signal: &str) -> std::process::ExitStatus {
    let dir = app.dir.display().to_string();
    let mut command = app.sandbox.snap_command(&["create", &dir, "--stop", "--only", "volume", "--compression", "19"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program");
    wait_until(|| app.states().contains(&"db exited".to_owned()));
    output(Command::new("kill").args([signal, &child.id().to_string()]));
    child.wait().expect("its end")
}

#[test]
fn after_ctrl_c_everything_runs_again() {
    need!(docker(), root());
    let app = app("int");
    app.sandbox.init();
    fill(&app);
    let status = interrupted(&app, "-INT");
    assert_eq!(status.code(), Some(exit::INTERRUPTED));
    assert_eq!(app.states(), BEFORE);
    assert!(app.sandbox.list().is_empty());
}

#[test]
fn after_sigkill_the_next_command_starts_what_was_left() {
    need!(docker(), root());
    let app = app("kill");
    app.sandbox.init();
    fill(&app);
    let status = interrupted(&app, "-KILL");
    assert_eq!(status.signal(), Some(9));
    assert_ne!(app.states(), BEFORE, "it was not killed while they stood still");
    let run = app.sandbox.must("list", exit::DONE);
    assert_eq!(app.states(), BEFORE);
    assert!(run.stderr.contains("started again"), "{run}");
    // It is said once.
    let run = app.sandbox.must("list", exit::DONE);
    assert!(!run.stderr.contains("started again"), "{run}");
}

#[test]
fn after_an_error_everything_runs_again() {
    need!(docker(), root(), program("mount"));
    let app = app("error");
    fill(&app);
    let repo = app.sandbox.repo();
    std::fs::create_dir_all(&repo).expect("a folder");
    output(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&repo));
    let inside = repo.join("in");
    let dir = app.dir.display().to_string();
    let create = |args: &[&str]| {
        let mut command = app.sandbox.snap_command(args);
        command.env("SNAP_REPO", &inside);
        crate::snap::run(command, crate::snap::WATCHDOG)
    };
    let runs = [create(&["init"]), create(&["create", &dir, "--stop", "--only", "volume"])];
    output(Command::new("umount").arg(&repo));
    let [made, run] = runs.map(|run| run.expect("a run"));
    assert_eq!(made.code, exit::DONE, "{made}");
    assert_eq!(run.code, exit::FAILED, "{run}");
    assert_eq!(app.states(), BEFORE);
}
