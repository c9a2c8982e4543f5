//! Volumes whose content lies where no folder can take another's place: with options of the local driver.

use super::kills::{journal, killed_at};
use super::{patiently, restore, snapshot};
use crate::application::{App, coverage, output};
use crate::need::{docker, need, program, root};
use crate::snap::exit;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const SERVICES: &str = "services:
  web:
    image: IMAGE
    command: ['sh', '-c', 'while :; do sleep 0.2; done']
    volumes: ['odd:/odd', 'mem:/mem']
    stop_grace_period: 1s
";

/// A file system of its own in a file, as a device.
struct Device {
    _file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Device {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(16 << 20).expect("a length");
        output(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(file.path()));
        let path = output(Command::new("losetup").args(["--find", "--show"]).arg(file.path()));
        Self { _file: file, path: path.trim().into() }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _gone = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn app(name: &str, kind: &str, device: &Path) -> App {
    let options = format!(
        "{{type: {kind}, o: '{}', device: '{}'}}",
        if kind == "none" { "bind" } else { "noatime" },
        device.display()
    );
    let volumes = format!(
        "volumes:\n  odd: {{driver_opts: {options}, labels: {{who: operator}}}}\n  mem: {{driver_opts: {{type: tmpfs, device: tmpfs}}}}\n"
    );
    let app = App::new(&format!("roll-{name}"), &format!("{SERVICES}{volumes}"));
    app.write(".env", "GREETING=hello\n");
    app.up();
    app.exec(
        "web",
        "mkdir -p /odd/sub/deep && echo kept > /odd/file && echo two > /odd/sub/two && ln -s two /odd/sub/link",
    );
    app.exec("web", "chown -R 33:34 /odd/sub && chmod 2751 /odd/sub && chown 12:13 /odd && ln /odd/file /odd/sub/hard");
    app.exec("web", "touch -d '2020-02-03 04:05:06' /odd/file /odd/sub /odd; echo x > /mem/x");
    app.sandbox.init();
    app
}

/// All that can be seen of the volume where it is used.
fn looks(app: &App) -> String {
    let tell = "cd /odd && find . | sort | while read -r f; do stat -c '%n %F %a %u:%g %Y %h' \"$f\"; done; cat file; cat sub/two || true";
    format!("{}{:?}", app.exec("web", tell), app.states())
}

fn volume(app: &App, name: &str) -> Value {
    let told = output(Command::new("docker").args(["volume", "inspect", &format!("{}_{name}", app.name)]));
    let mut told: Value = serde_json::from_str(&told).expect("a document");
    told[0]["CreatedAt"] = Value::Null;
    told[0].take()
}

/// Containers that a restore makes for a while.
fn temporary(app: &App) -> String {
    let label = format!("label=snap.restore-of={}", app.name);
    output(Command::new("docker").args(["ps", "-a", "-q", "--filter", &label]))
}

fn break_it(app: &App) {
    app.exec(
        "web",
        "echo changed > /odd/file; rm -r /odd/sub; mkdir -p /odd/new/er; echo n > /odd/new/er/n; chmod 700 /odd",
    );
    app.write(".env", "GREETING=other\n");
}

/// Brings the volume back where it is, anew, and after kills.
fn comes_back(app: &App, kills: &[(&str, &str)], empty: &dyn Fn()) {
    snapshot(app, "good");
    let plan = app.create(&["--plan"], exit::DONE);
    assert!(coverage(&plan, &app.dir).contains(&"volume mem skipped".to_owned()), "{plan}");
    let (good, inspected) = (looks(app), volume(app, "odd"));
    break_it(app);
    let broken = looks(app);
    let plan = restore(app, "good --plan", exit::DONE);
    assert!(plan["changes"].to_string().contains("_odd is changed in place"), "{plan}");
    assert_eq!(looks(app), broken);
    let report = restore(app, "good --yes", exit::DONE);
    assert_eq!(looks(app), good, "{report}");
    assert_eq!((temporary(app), &report["kept"]), (String::new(), &serde_json::json!([])), "{report}");

    for (step, go_on) in kills.iter().copied() {
        break_it(app);
        let broken = looks(app);
        killed_at(app, step);
        assert!(journal(app).is_some(), "{step}");
        patiently(app, &format!("restore {go_on}"), exit::DONE);
        let now = looks(app);
        assert_eq!(now, if go_on == "--abort" { broken } else { good.clone() }, "{step}, then {go_on}");
        assert_eq!(temporary(app), "", "{step}, then {go_on}");
    }

    // Compose has removed the volume, and somebody what was in it.
    app.compose(&["down", "-v", "-t", "1"]);
    empty();
    let plan = restore(app, "good --plan", exit::DONE);
    assert!(plan["changes"].to_string().contains("_odd is made anew"), "{plan}");
    restore(app, "good --yes", exit::DONE);
    assert_eq!((looks(app), volume(app, "odd")), (good, inspected));
    let up =
        app.sandbox.command("docker").args(["compose", "up", "-d"]).current_dir(&app.dir).output().expect("docker");
    let told = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(up.status.success() && !told.contains("created") && !told.contains("Recreate"), "{told}");
}

#[test]
fn a_volume_that_is_a_folder_of_the_host_comes_back_in_place_and_anew() {
    need!(root(), docker());
    let place = tempfile::tempdir().expect("a folder");
    let app = app("bound", "none", place.path());
    let kills = [("prepared", "--abort"), ("swapped", "--abort"), ("swapping", "--resume")];
    comes_back(&app, &kills, &|| {
        for entry in std::fs::read_dir(place.path()).expect("a folder").flatten() {
            output(Command::new("rm").arg("-rf").arg(entry.path()));
        }
    });
    let left = crate::compare::paths(place.path());
    assert!(!left.iter().any(|path| path.to_string_lossy().contains("snap-")), "{left:?}");
}

#[test]
fn a_volume_on_a_device_of_its_own_comes_back_in_place_and_anew() {
    need!(root(), docker(), program("mkfs.ext4"), program("losetup"));
    let device = Device::new();
    let app = app("device", "ext4", &device.path);
    comes_back(&app, &[], &|| {});

    // While nobody uses it, it is read through a container made for it.
    app.compose(&["down", "-t", "1"]);
    let report = app.create(&["--only", "volume"], exit::DONE);
    let line =
        report["coverage"].as_array().expect("a list").iter().find(|line| line["what"] == "odd").expect("a line");
    assert!(line["reason"].as_str().is_some_and(|text| text.contains("a container made for it")), "{line}");
    let id = report["snapshot"]["id"].as_str().expect("an id");
    let text = app.sandbox.must(&format!("show {id}:volumes/odd/sub/two"), exit::DONE).stdout;
    assert_eq!(text, "two\n");
    assert_eq!(output(Command::new("docker").args(["ps", "-aq", "--filter", "label=snap.reads"])), "");
}

#[test]
fn a_volume_that_has_become_another_is_refused() {
    need!(root(), docker());
    let place = tempfile::tempdir().expect("a folder");
    let app = app("another", "none", place.path());
    snapshot(&app, "good");
    app.compose(&["down", "-v", "-t", "1"]);
    let other = format!("{}_odd", app.name);
    output(Command::new("docker").args(["volume", "create", &other]));
    let run = app.sandbox.snap(&["restore", "good", "--yes"]);
    output(Command::new("docker").args(["volume", "rm", &other]));
    assert_eq!(run.code, exit::FAILED, "{run}");
    assert!(run.stderr.contains("another driver or other options") && run.stderr.contains("--only"), "{run}");
}
