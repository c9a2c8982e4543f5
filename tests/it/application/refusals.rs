//! What cannot be captured is refused or said, and nothing is changed.

use super::{App, coverage};
use crate::need::{docker, need, program, root};
use crate::snap::exit;

const COMPOSE: &str = "
services:
  web: {image: IMAGE, command: sleep 1000, volumes: ['media:/media', './conf:/conf'], stop_grace_period: 0s}
volumes: {media: {}}
";

/// Ends with `code`, says `words`, and makes no repository.
#[track_caller]
fn refused(app: &App, more: &[&str], code: i32, words: &[&str]) {
    let dir = app.dir.display().to_string();
    let args: Vec<&str> = ["create", &dir].into_iter().chain(more.iter().copied()).collect();
    let run = app.sandbox.expect(&args, &[code]).unwrap_or_else(|text| panic!("{text}"));
    for word in words {
        assert!(run.stderr.contains(word), "{word}: {run}");
    }
    assert!(!app.sandbox.repo().exists(), "a repository was made: {run}");
}

#[test]
fn a_project_that_compose_refuses_is_not_captured() {
    need!(docker());
    let app = App::new("bad", COMPOSE);
    for (text, word) in [
        ("services: {web: {command: x}}\n", "image"),
        ("services: [\n", "yaml"),
        ("services: {web: {image: x, nonsense: 1}}\n", "nonsense"),
    ] {
        app.write("compose.yaml", text);
        refused(&app, &[], exit::FAILED, &["refuses the project", word, "--files-only"]);
    }
    // Its folder alone can be had all the same.
    let report = app.create(&["--files-only"], exit::DONE);
    assert_eq!(report["snapshot"]["sources"].as_array().map(Vec::len), Some(1));
}

#[test]
fn labels_and_selectors_that_mean_nothing_are_refused() {
    need!(docker());
    let app = App::new("labels", &COMPOSE.replace("command:", "labels: {snap.stpo: 'true'}, command:"));
    refused(&app, &[], exit::USAGE, &["snap.stpo", "web"]);
    app.write("compose.yaml", &COMPOSE.replace("IMAGE", "x"));
    refused(&app, &["--only", "table:x"], exit::USAGE, &["table:x"]);
    refused(&app, &["--only", "volume:none"], exit::USAGE, &["volume:none", "volume:media"]);
    app.write("snap.toml", "[services.web]\nstop = 'perhaps'\n");
    refused(&app, &[], exit::USAGE, &["snap.stop", "true or false"]);
}

#[test]
fn without_an_engine_files_are_captured_and_the_rest_is_said_to_be_unprotected() {
    need!(program("docker"));
    let app = App::new("noengine", COMPOSE);
    app.write("conf/a", "x");
    let dir = app.dir.display().to_string();
    app.sandbox.init();
    let mut command = app.sandbox.snap_command(&["create", &dir, "--json"]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let run = crate::snap::run(command, crate::snap::WATCHDOG).expect("a run");
    assert_eq!(run.code, exit::INCOMPLETE, "{run}");
    let report = run.json();
    let lines = coverage(&report, &app.dir);
    for line in ["files . captured", "bind conf captured", "volume media not protected"] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    let warning = &report["warnings"][0];
    assert_eq!((&warning["incomplete"], &warning["subject"]), (&true.into(), &"images, volumes and databases".into()));
    let message = warning["message"].as_str().expect("a text");
    assert!(
        message.contains("/nowhere/docker.sock") && message.contains("name its socket with DOCKER_HOST"),
        "{message}"
    );
}

#[test]
fn a_restore_without_an_engine_names_the_way_out() {
    need!(docker(), root());
    let app = App::new("deadengine", COMPOSE);
    app.write("conf/a", "x");
    app.up();
    app.create(&["--only", "files", "--only", "volume"], exit::DONE);
    let socket = app.sandbox.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket that nobody answers at"));
    let dead = format!("unix://{}", socket.display());
    let cases = [("unix:///nowhere/docker.sock", "install and start Docker"), (&dead, "systemctl start docker")];
    for (host, way) in cases {
        let mut command = app.sandbox.snap_command(&["restore", "latest", "--yes"]);
        command.env("DOCKER_HOST", host);
        let run = crate::snap::run(command, crate::snap::WATCHDOG).expect("a run");
        assert_eq!(run.code, exit::FAILED, "{run}");
        assert!(run.stderr.contains(way), "{run}");
    }
    assert_eq!(app.states(), ["web running"]);
}

#[test]
fn a_user_who_may_not_use_the_engine_is_told_so() {
    need!(docker(), root(), program("setpriv"));
    let app = App::new("permission", COMPOSE);
    app.write("conf/a", "x");
    let root = app.sandbox.path("");
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    super::output(std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(&root));
    let snap = |args: &[&str]| {
        let mut command = app.sandbox.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(crate::snap::program()).args(args);
        crate::snap::run(command, crate::snap::WATCHDOG).expect("a run")
    };
    let made = snap(&["init"]);
    assert_eq!(made.code, exit::DONE, "{made}");
    let run = snap(&["create", &app.dir.display().to_string(), "--json"]);
    assert_eq!(run.code, exit::INCOMPLETE, "{run}");
    let report = run.json();
    let message = report["warnings"][0]["message"].as_str().expect("a text");
    for words in ["no permission to use the Docker engine", "run snap as root"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(coverage(&report, &app.dir).contains(&"bind conf captured".to_owned()), "{report}");
}

#[test]
fn a_folder_without_compose_never_asks_the_engine() {
    need!(root(), crate::need::strace());
    let sandbox = crate::snap::Sandbox::new();
    sandbox.init();
    std::fs::create_dir(sandbox.path("plain")).expect("a folder");
    std::fs::write(sandbox.path("plain/a"), "x").expect("a file");
    let log = sandbox.path("trace");
    let mut command = sandbox.command("strace");
    let words = ["-f", "-e", "trace=connect,execve", "-o"];
    command.args(words).arg(&log).arg(crate::snap::program()).args(["create", "plain"]);
    let done = command.output().expect("strace");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let log = std::fs::read_to_string(log).expect("a trace");
    assert!(!log.contains("docker") && log.matches("execve(").count() == 1, "{log}");
}
