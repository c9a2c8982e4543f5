//! Applications that are brought back: real containers, real failures, killed at every step.

mod binds;
mod databases;
mod drills;
mod kills;
mod loading;
mod refusals;
mod tables;
mod volumes;

use crate::application::App;
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const COMPOSE: &str = r#"services:
  web:
    image: IMAGE
    environment: {GREETING: "${GREETING}"}
    command: ["sh", "-c", "mkdir -p /w; echo $$GREETING > /w/index.html; exec httpd -f -p 8000 -h /w"]
    volumes: ["media:/media", "./conf:/conf"]
    depends_on: [back]
    stop_grace_period: 1s
    labels:
      snap.health.http: ":8000/index.html"
      snap.health.contains: "hello"
      snap.health.timeout: "6s"
  back:
    image: IMAGE
    command: ["sh", "-c", "while :; do sleep 0.2; done"]
    stop_grace_period: 1s
volumes:
  media: {}
"#;

/// What a snapshot may end with: without images it lacks them.
const STORED: [i32; 2] = [0, 3];

/// An application that runs, and whose `media` belongs to somebody.
fn application(name: &str) -> App {
    let app = App::new(&format!("roll-{name}"), COMPOSE);
    app.write(".env", "GREETING=hello\n");
    app.write("conf/app.ini", "a = 1\n");
    app.up();
    let media = app.mountpoint("media");
    std::fs::create_dir_all(media.join("a")).expect("a folder");
    std::fs::write(media.join("a/picture"), "pixels").expect("a file");
    std::os::unix::fs::chown(media.join("a/picture"), Some(33), Some(33)).expect("an owner");
    app.sandbox.init();
    app
}

/// Everything goes wrong: a bad `.env`, a lost setting, a foreign override, a wiped volume.
fn break_it(app: &App) {
    app.write(".env", "GREETING=oh no\n");
    app.write("conf/app.ini", "a = 2\n");
    app.write("compose.override.yaml", "services: {web: {environment: {X: \"1\"}}}\n");
    let media = app.mountpoint("media");
    if media.join("a").exists() {
        std::fs::remove_dir_all(media.join("a")).expect("a folder");
    }
    std::fs::write(media.join("new"), "new").expect("a file");
    app.up();
}

/// Makes a snapshot with a tag.
#[track_caller]
fn snapshot(app: &App, tag: &str) {
    let dir = app.dir.display().to_string();
    app.sandbox.expect(&["create", &dir, "--tag", tag], &STORED).unwrap_or_else(|text| panic!("{text}"));
}

/// Runs `snap restore` with the words of `line`; it must end with `code`.
#[track_caller]
fn restore(app: &App, line: &str, code: i32) -> Value {
    patiently(app, &format!("restore {line} --json"), code).json()
}

/// Runs snap with the words of `line`; it must end with `code`. Databases and images take their time on a slow machine.
#[track_caller]
fn patiently(app: &App, line: &str, code: i32) -> crate::snap::Run {
    let words: Vec<&str> = line.split_whitespace().collect();
    let run = crate::snap::run(app.sandbox.snap_command(&words), std::time::Duration::from_secs(1200));
    run.and_then(|run| run.expect(&[code])).unwrap_or_else(|text| panic!("{text}"))
}

/// All that a person could tell two states of the application by.
fn looks(app: &App) -> String {
    let mut out = String::new();
    for root in [app.dir.clone(), app.mountpoint("media")] {
        let mut paths = crate::compare::paths(&root);
        paths.sort();
        for path in paths {
            let full = root.join(&path);
            let found = std::fs::symlink_metadata(&full).expect("an entry");
            let content = if found.is_file() { std::fs::read(&full).expect("a file") } else { Vec::new() };
            let content = String::from_utf8_lossy(&content).into_owned();
            let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
            writeln!(out, "{} {mode:o} {uid}:{gid} {} {content:?}", path.display(), found.mtime()).expect("a text");
        }
    }
    writeln!(out, "{:?}", app.states()).expect("a text");
    writeln!(out, "{}", app.exec("web", "wget -q -O - http://127.0.0.1:8000/index.html; env | grep ^X= || true"))
        .expect("a text");
    out
}

/// What a restore has put somewhere for a while and is still there.
fn staged(app: &App) -> Vec<String> {
    staged_of(app, "media")
}

/// The same, beside the volume of this name.
fn staged_of(app: &App, volume: &str) -> Vec<String> {
    let volume = app.mountpoint(volume);
    [staged_beside(app), staged_in(&[volume.parent().expect("a folder")])].concat()
}

/// The same, in the project's folder and beside it.
fn staged_beside(app: &App) -> Vec<String> {
    staged_in(&[app.dir.parent().expect("a folder"), app.dir.as_path()])
}

fn staged_in(folders: &[&Path]) -> Vec<String> {
    let names = folders.iter().flat_map(|folder: &&Path| std::fs::read_dir(folder).expect("a folder"));
    let names = names.map(|entry| entry.expect("an entry").path().display().to_string());
    names.filter(|name| name.contains(".snap-restore-")).collect()
}

/// Changes a bit in the middle of every pack.
fn damage_packs(app: &App) {
    use std::os::unix::fs::PermissionsExt;
    for object in app.sandbox.objects().into_iter().filter(|path| path.starts_with("packs")) {
        let path = app.sandbox.repo().join(object);
        let mut bytes = std::fs::read(&path).expect("a pack");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        std::fs::write(&path, bytes).expect("a pack");
    }
}
