//! What a snapshot of an application holds.

use super::{App, coverage, output};
use crate::need::{docker, need, program, root};
use crate::snap::exit;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

const COMPOSE: &str = "
services:
  web:
    image: IMAGE
    command: sleep 1000
    volumes: ['media:/media', './conf:/conf']
    stop_grace_period: 0s
    labels: {snap.hook.pre: 'echo pre >> /media/hooks', snap.hook.post: 'echo post >> /media/hooks'}
volumes: {media: {labels: {who: operator}}}
";
const WHAT: [&str; 4] = ["--only", "files", "--only", "volume"];

fn app(name: &str) -> App {
    let app = App::new(name, COMPOSE);
    app.write("conf/app.ini", "x=1\n");
    app.up();
    app.exec(
        "web",
        "mkdir -p /media/sub && echo hello > /media/sub/a && ln -s a /media/sub/l && ln /media/sub/a /media/h",
    );
    app.exec("web", "chown -R 33:33 /media/sub && chmod 751 /media && chown 33:34 /media && chmod 4755 /media/sub/a");
    app
}

fn manifest(app: &App, report: &Value) -> Value {
    let id = report["snapshot"]["id"].as_str().expect("an id");
    app.sandbox.json(&format!("show {id}"))["manifest"].clone()
}

#[test]
fn a_volume_is_captured_with_all_that_makes_it_the_projects_own() {
    need!(docker(), root());
    let app = app("volume");
    let report = app.create(&WHAT, exit::DONE);
    let manifest = manifest(&app, &report);
    let source = &manifest["sources"][1];
    assert_eq!(
        (&source["kind"], &source["name"], &source["level"]),
        (&"volume".into(), &"media".into(), &"live".into())
    );
    let detail = &source["detail"];
    assert_eq!(detail["volume"], format!("{}_media", app.name));
    assert_eq!(detail["labels"]["who"], "operator");
    assert_eq!(detail["labels"]["com.docker.compose.volume"], "media");
    assert_eq!(detail["mounts"], serde_json::json!([{"service": "web", "target": "/media"}]));
    assert_eq!(app.exec("web", "cat /media/hooks"), "pre\npost\n");
    let project = &manifest["project"];
    assert_eq!(project["name"], app.name.as_str());
    assert!(project["engine"].as_str().is_some_and(|text| text.starts_with("Docker ")), "{project}");
    let web = &project["services"][0];
    assert_eq!(
        (&web["name"], &web["running"], &web["containers"][0]["state"]),
        (&"web".into(), &1.into(), &"running".into())
    );
    // What the project is told by brings Compose to it from anywhere.
    let words: Vec<String> = serde_json::from_value(project["arguments"].clone()).expect("words");
    let services =
        output(Command::new("docker").arg("compose").args(words).args(["config", "--services"]).current_dir("/"));
    assert_eq!(services, "web\n");
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    need!(docker(), root());
    let app = App::new(
        "again",
        &COMPOSE.replace(
            "    labels: {snap.hook.pre: 'echo pre >> /media/hooks', snap.hook.post: 'echo post >> /media/hooks'}\n",
            "",
        ),
    );
    app.write("conf/app.ini", "x=1\n");
    app.up();
    app.exec("web", "echo hello > /media/a");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let first = app.create(&WHAT, exit::DONE);
    assert!(first["stats"]["files_changed"].as_u64().is_some_and(|n| n >= 3), "{first}");
    let second = app.create(&WHAT, exit::DONE);
    assert_eq!((&second["stats"]["files_changed"], &second["stats"]["bytes_read"]), (&0.into(), &0.into()), "{second}");
}

#[test]
fn a_running_databases_folder_is_not_copied_unless_it_is_asked_for() {
    need!(docker(), root());
    let app = app("dbdir");
    app.exec("web", "mkdir /media/deep && echo 15 > /media/deep/PG_VERSION");
    let report = app.create(&["--only", "volume"], exit::INCOMPLETE);
    assert!(coverage(&report, &app.dir).contains(&"volume media not protected".to_owned()), "{report}");
    assert_eq!(report["snapshot"]["sources"], serde_json::json!([]));
    for (args, level) in [(["--only", "volume:media"].as_slice(), "live"), (&["--only", "volume", "--stop"], "stopped")]
    {
        let report = app.create(args, exit::DONE);
        assert_eq!(report["snapshot"]["sources"][0]["level"], level, "{report}");
    }
}

#[test]
fn through_the_engine_a_volume_is_captured_as_it_is_on_disk() {
    need!(docker(), root(), program("setpriv"));
    let app = app("archive");
    app.exec("web", "dd if=/dev/urandom of=/media/big bs=1k count=3000 2>/dev/null; : > /media/empty");
    let disk = app.create(&["--only", "volume"], exit::DONE);
    // A user who may use the engine and not read its files.
    let other = crate::snap::Sandbox::new();
    for path in [other.path(""), app.sandbox.path("")] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    output(Command::new("chown").args(["-R", "65534:65534"]).arg(other.path("")));
    let group = std::fs::metadata("/var/run/docker.sock").expect("the socket").gid().to_string();
    let mut command = other.command("setpriv");
    command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups"]);
    let dir = app.dir.display().to_string();
    command.arg(crate::snap::program()).args(["--repo", "mine", "create", &dir, "--only", "volume", "--json"]);
    command.env_remove("SNAP_REPO");
    let init = {
        let mut command = other.command("setpriv");
        command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups"]);
        command.arg(crate::snap::program()).args(["--repo", "mine", "init"]);
        command
    };
    let made = crate::snap::run(init, crate::snap::WATCHDOG).expect("a run");
    assert_eq!(made.code, exit::DONE, "{made}");
    let run = crate::snap::run(command, crate::snap::WATCHDOG).expect("a run");
    assert_eq!(run.code, exit::DONE, "{run}");
    let archive = run.json();
    let reason = archive["coverage"].as_array().expect("a list").iter().find(|line| line["kind"] == "volume");
    assert!(reason.expect("a line")["reason"].as_str().is_some_and(|text| text.contains("archive API")), "{archive}");
    let files = |sandbox: &crate::snap::Sandbox, report: &Value, repo: Option<&str>| {
        let id = report["snapshot"]["id"].as_str().expect("an id").to_owned();
        let more = repo.map(|repo| format!("--repo {repo} ")).unwrap_or_default();
        let mut entries = sandbox.json(&format!("{more}show {id} --files"))["entries"].clone();
        for entry in entries.as_array_mut().expect("a list") {
            // Hooks write between the two.
            if entry["path"].as_str().is_some_and(|path| path.ends_with("hooks")) {
                entry["size"] = 0.into();
                entry["mtime"] = 0.into();
            }
        }
        entries
    };
    assert_eq!(files(&app.sandbox, &disk, None), files(&other, &archive, Some("mine")));
}

/// Lets an engine's socket be reached by TCP, as an engine on another host is; gives the address.
fn from_afar() -> String {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = UnixStream::connect("/var/run/docker.sock").expect("the engine");
            let (mut from, mut to) = (near.try_clone().expect("a stream"), far.try_clone().expect("a stream"));
            let (mut back, mut home) = (far, near);
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut from, &mut to);
                let _closed = to.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut back, &mut home);
                let _closed = home.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    format!("tcp://{address}")
}

#[test]
fn an_engine_on_another_host_gives_its_volumes_through_its_archive_api() {
    need!(docker(), root());
    let app = app("afar");
    // A volume of the project that no container has.
    struct Loose(String);
    impl Drop for Loose {
        fn drop(&mut self) {
            let _gone = Command::new("docker").args(["volume", "rm", "-f", &self.0]).output();
        }
    }
    let volume = Loose(format!("{}_loose", app.name));
    let label = format!("com.docker.compose.project={}", app.name);
    let loose = ["volume", "create", "--label", &label, "--label", "com.docker.compose.volume=loose"];
    output(Command::new("docker").args(loose).arg(&volume.0));
    app.sandbox.init();
    let dir = app.dir.display().to_string();
    let address = from_afar();
    let afar = |args: &[&str]| {
        let mut command = app.sandbox.snap_command(&[&["create", &dir, "--json", "--only", "volume"], args].concat());
        command.env("DOCKER_HOST", &address);
        let run = crate::snap::run(command, crate::snap::WATCHDOG).expect("a run");
        assert_eq!(run.code, exit::DONE, "{run}");
        run.json()
    };
    let reason = |report: &Value, what: &str| {
        let line = report["coverage"].as_array().expect("a list").iter().find(|line| line["what"] == what);
        line.unwrap_or_else(|| panic!("no {what} in {report}"))["reason"].as_str().expect("a text").to_owned()
    };
    let report = afar(&["--plan"]);
    assert!(reason(&report, "media").ends_with("through the engine's archive API"), "{report}");
    assert!(reason(&report, "loose").ends_with("archive API, from a container made for it"), "{report}");
    let report = afar(&[]);
    let id = report["snapshot"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(app.sandbox.must(&format!("show {id}:volumes/media/sub/a"), exit::DONE).stdout, "hello\n");
    let levels: Vec<&Value> =
        report["snapshot"]["sources"].as_array().expect("a list").iter().map(|s| &s["name"]).collect();
    assert_eq!(levels, ["loose", "media"]);
    // Where its files are not, nothing is brought back.
    let mut command = app.sandbox.snap_command(&["restore", &id, "--yes"]);
    command.env("DOCKER_HOST", &address);
    let run = crate::snap::run(command, crate::snap::WATCHDOG).expect("a run");
    assert!(run.code == exit::USAGE && run.stderr.contains("on the host of its engine"), "{run}");
}

#[test]
fn an_application_comes_back_as_plain_files() {
    need!(docker(), root());
    let outside = tempfile::tempdir_in("/tmp").expect("a folder");
    let elsewhere = std::fs::canonicalize(outside.path()).expect("a folder");
    std::fs::create_dir(elsewhere.join("data")).expect("a folder");
    std::fs::write(elsewhere.join("data/b"), "bind\n").expect("a file");
    std::fs::write(elsewhere.join("one.env"), "A=1\n").expect("a file");
    std::fs::write(elsewhere.join("two.env"), "not of the project\n").expect("a file");
    let more = format!("volumes: ['{0}/data:/bind', 'media:/media',", elsewhere.display());
    let more = format!("env_file: ['{}/one.env']\n    {more}", elsewhere.display());
    let app = App::new("plain", &COMPOSE.replace("volumes: ['media:/media',", &more));
    app.write("conf/app.ini", "x=1\n");
    app.up();
    app.exec(
        "web",
        "mkdir -p /media/sub && echo hello > /media/sub/a && ln /media/sub/a /media/h && chown -R 33:33 /media",
    );
    let report = app.create(&WHAT, exit::DONE);
    let id = report["snapshot"]["id"].as_str().expect("an id").to_owned();
    let target = app.sandbox.path("target");
    app.sandbox.restore(&id, &target);
    let same =
        |a: &std::path::Path, b: &str| crate::compare::same(a, &target.join(b)).unwrap_or_else(|text| panic!("{text}"));
    same(&app.dir, "files");
    let inner = elsewhere.strip_prefix("/").expect("a full path").display().to_string();
    same(&elsewhere.join("data"), &format!("outside/{inner}/data"));
    let names = std::fs::read_dir(target.join("outside").join(&inner)).expect("a folder").flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().expect("a name")).collect();
    names.sort();
    assert_eq!(names, ["data", "one.env"]);
    // The hook after the capture has written to the volume since.
    let hooks = target.join("volumes/media/hooks");
    assert_eq!(std::fs::read_to_string(&hooks).expect("a file"), "pre\n");
    assert_eq!(std::fs::read_to_string(target.join("volumes/media/sub/a")).expect("a file"), "hello\n");
    let stat = std::fs::metadata(target.join("volumes/media")).expect("a folder");
    assert_eq!((stat.uid(), stat.gid()), (33, 33));

    // Parts of it, and what is looked at in it.
    app.sandbox.must(&format!("restore {id} --only volume:media --target part"), exit::DONE);
    assert!(!app.sandbox.path("part/files").exists() && app.sandbox.path("part/volumes/media/h").exists());
    app.sandbox.must(&format!("restore {id} --target path volumes/media/sub"), exit::DONE);
    assert!(
        app.sandbox.path("path/volumes/media/sub/a").exists() && !app.sandbox.path("path/volumes/media/h").exists()
    );
    app.sandbox.must(&format!("restore {id} --only volume:none --target none"), exit::USAGE);
    assert!(!app.sandbox.path("none").exists());
    assert_eq!(app.sandbox.must(&format!("show {id}:volumes/media/h"), exit::DONE).stdout, "hello\n");
    assert_eq!(app.sandbox.must(&format!("show {id}:conf/app.ini"), exit::DONE).stdout, "x=1\n");
    let diff = app.sandbox.json(&format!("diff {id} {}", app.dir.display()));
    assert_eq!((&diff["differences"], &diff["problems"]), (&serde_json::json!([]), &serde_json::json!([])));
    app.sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn an_application_comes_back_without_snap() {
    need!(docker(), root(), program("python3"), program("age"), program("zstd"));
    let app = app("recover");
    app.create(&WHAT, exit::DONE);
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recover.py");
    let (repo, identity, target) = (app.sandbox.repo(), app.sandbox.identity(), app.sandbox.path("back"));
    let mut command = app.sandbox.command("python3");
    output(command.arg(script).args([&repo, &identity]).arg("latest").arg(&target));
    crate::compare::same(&app.dir, &target.join("files")).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(std::fs::read_to_string(target.join("volumes/media/sub/a")).expect("a file"), "hello\n");
    let stat = std::fs::metadata(target.join("volumes/media")).expect("a folder");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (33, 34, 0o751));
}
