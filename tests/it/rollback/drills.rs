//! Failures as operators fear them, and what `snap restore` makes of them.

use super::*;
use crate::need::{need, root};
use crate::snap::exit;
use std::path::PathBuf;

#[test]
fn a_broken_application_comes_back_as_it_was() {
    need!(root(), crate::need::docker());
    let app = application("whole");
    snapshot(&app, "good");
    let good = looks(&app);
    break_it(&app);
    let broken = looks(&app);
    assert_ne!(good, broken);

    let plan = restore(&app, "good --plan", exit::DONE);
    let changes = plan["changes"].to_string();
    for wanted in ["/.env", "conf/app.ini", "goes aside", "compose.override.yaml", "media is replaced"] {
        assert!(changes.contains(wanted), "no {wanted} in {changes}");
    }
    // Nobody is there to agree.
    app.sandbox.must("restore good", exit::USAGE);
    assert_eq!(looks(&app), broken, "planning or refusing has changed something");

    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(looks(&app), good);
    assert_eq!((report["ending"].as_str(), report["verdict"].as_str()), (Some("done"), Some("healthy")));
    for took in ["stop_seconds", "down_seconds"] {
        assert!(report[took].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    }
    let services = |what: &str| serde_json::from_value::<Vec<String>>(report[what].clone()).expect("a list");
    assert_eq!(services("stopped"), ["web", "back"]);
    assert_eq!(services("started"), ["back", "web"]);
    let safety = report["safety"].as_str().expect("a safety snapshot").to_owned();

    let log = app.sandbox.json("log --last");
    let entry = &log["entries"][0];
    assert_eq!((entry["action"].as_str(), entry["ending"].as_str()), (Some("restore"), Some("done")));
    assert_eq!(entry["safety"], safety.as_str());
    assert!(entry["evidence"].as_array().is_some_and(|evidence| evidence.len() >= 3), "{entry}");
    let text = app.sandbox.must("log --markdown", exit::DONE).stdout;
    assert!(text.contains("| Health | healthy |") && text.contains("services stopped"), "{text}");

    // A restore can itself be undone: the state before it was kept.
    let run = app.sandbox.expect(&["restore", &safety, "--yes", "--json"], &[6]).expect("the broken state is refused");
    assert!(run.json()["reason"].to_string().contains("does not contain"), "{run}");
    assert_eq!(looks(&app), good, "what failed to restore was not put back");
}

#[test]
fn an_application_that_fails_its_check_afterwards_is_put_back() {
    need!(root(), crate::need::docker());
    let app = application("unhealthy");
    app.write(".env", "GREETING=a state that was never healthy\n");
    app.up();
    snapshot(&app, "bad");
    app.write(".env", "GREETING=hello again\n");
    app.up();
    // What stands still because somebody wants it to does so again.
    app.compose(&["pause", "back"]);
    let before = looks(&app);
    let report = restore(&app, "bad --yes", 6);
    assert_eq!(looks(&app), before);
    assert_eq!((report["ending"].as_str(), report["verdict"].as_str()), (Some("put-back"), Some("failed")));
    assert_eq!(staged(&app), Vec::<String>::new());
    let log = app.sandbox.json("log --last");
    assert_eq!(log["entries"][0]["ending"], "put-back");
}

/// A program in a service's container, whatever the project's files say.
fn inside(app: &App, service: &str, script: &str) -> String {
    let id = container(app, service);
    crate::application::output(std::process::Command::new("docker").args(["exec", &id, "sh", "-c", script]))
}

fn container(app: &App, service: &str) -> String {
    let labels = [("project", app.name.as_str()), ("service", service)];
    let labels = labels.map(|(name, value)| format!("label=com.docker.compose.{name}={value}"));
    let words = ["ps", "-q", "--no-trunc", "--filter", &labels[0], "--filter", &labels[1]];
    crate::application::output(std::process::Command::new("docker").args(words)).trim().to_owned()
}

#[test]
fn what_ran_runs_as_it_was_made_whatever_its_files_say_since() {
    need!(root(), crate::need::docker());
    let app = application("origin");
    app.write(".env", "GREETING=a state that was never healthy\n");
    app.up();
    snapshot(&app, "bad");
    app.write(".env", "GREETING=hello again\n");
    let made_with = "services:\n  web:\n    hostname: web.example.org\n    environment: {X: \"${SOME_SECRET}\"}\n    \
                     volumes: [/cache]\n    networks: {default: {aliases: [other]}}\n";
    app.write("compose.override.yaml", made_with);
    app.up();
    inside(&app, "web", "echo kept > /cache/x");
    let ask = "hostname; env | grep -e ^X= -e ^GREETING=; cat /w/index.html /cache/x";
    let before = inside(&app, "web", ask);
    assert!(before.contains("canary-2718") && before.contains("kept"), "{before}");
    let (states, back) = (app.states(), container(&app, "back"));
    // Edited since, and wrong.
    app.write("compose.override.yaml", "services: {web: [\n");
    app.write(".env", "GREETING=edited\n");
    let report = restore(&app, "bad --yes", 6);
    assert_eq!(report["trouble"], "", "{report}");
    assert_eq!(inside(&app, "web", ask), before);
    let format = "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}";
    let web = container(&app, "web");
    let aliases =
        crate::application::output(std::process::Command::new("docker").args(["inspect", "-f", format, &web]));
    assert!(aliases.contains("other") && aliases.contains("web"), "{aliases}");
    assert_eq!((app.states(), container(&app, "back")), (states, back));
    let read = |name: &str| std::fs::read_to_string(app.dir.join(name)).expect("a file");
    assert_eq!(
        (read(".env").as_str(), read("compose.override.yaml").as_str()),
        ("GREETING=edited\n", "services: {web: [\n")
    );
    assert_eq!(secrets(&app), Vec::<PathBuf>::new(), "how containers were made is kept no longer than it is needed");
    // Compose takes it for its own, with nothing to be changed.
    app.write("compose.override.yaml", made_with);
    app.write(".env", "GREETING=hello again\n");
    app.up();
    assert_eq!(container(&app, "web"), web);
}

/// The files of snap's own folders in which a variable of the application stands.
fn secrets(app: &App) -> Vec<PathBuf> {
    let root = app.sandbox.home().join(".local/share/snap/restores");
    let files = crate::compare::paths(&root).into_iter().map(|path| root.join(path)).filter(|path| path.is_file());
    files.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("canary-2718"))).collect()
}

#[test]
fn a_compose_file_that_cannot_be_read_is_no_obstacle() {
    need!(root(), crate::need::docker());
    let app = application("compose");
    snapshot(&app, "good");
    let good = looks(&app);
    app.write("compose.yaml", "services:\n  web: [this is no service\n");
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(report["verdict"], "healthy");
    assert_eq!(looks(&app), good);
    // Compose refused the present, so that no snapshot could hold all of it: it is kept.
    let kept = report["kept"].as_array().expect("a list");
    let file = kept.iter().filter_map(Value::as_str).find(|path| path.ends_with("compose.yaml")).expect("the bad file");
    assert!(std::fs::read_to_string(file).expect("the bad file").contains("no service"));
    let lacks = report["lacks"].to_string();
    assert!(lacks.contains("Compose refuses") && report["kept_bytes"].as_u64() > Some(0), "{report}");
    // What a person is told to give once all is well leaves nothing behind.
    for command in report["discard"].as_array().expect("a list").iter().filter_map(Value::as_str) {
        crate::application::output(std::process::Command::new("sh").args(["-c", command]));
    }
    assert_eq!(staged(&app), Vec::<String>::new(), "{report}");
    assert_eq!(looks(&app), good);
    // That such a snapshot lacks something was to be expected.
    let status = app.sandbox.json("status");
    assert!(!status["advice"].to_string().contains("is incomplete"), "{status}");
}

#[test]
fn parts_come_back_alone() {
    need!(root(), crate::need::docker());
    let app = application("parts");
    snapshot(&app, "good");
    app.write(".env", "GREETING=hello, but other\n");
    app.write("conf/app.ini", "a = 2\n");
    let media = app.mountpoint("media");
    std::fs::write(media.join("new"), "new").expect("a file");
    app.up();
    restore(&app, "good --only env --yes", exit::DONE);
    let read = |name: &str| std::fs::read_to_string(app.dir.join(name)).expect("a file");
    assert_eq!((read(".env").as_str(), read("conf/app.ini").as_str()), ("GREETING=hello\n", "a = 2\n"));
    assert!(media.join("new").exists());
    assert_eq!(app.exec("web", "cat /w/index.html").trim(), "hello");
    restore(&app, "good --only file:conf/app.ini --yes", exit::DONE);
    assert_eq!(read("conf/app.ini"), "a = 1\n");
    let run = app.sandbox.must("restore good --only volume:media --yes", exit::DONE);
    assert!(run.stdout.contains("  stopped web back in ") && run.stdout.contains(" · started back web\n"), "{run}");
    assert!(!media.join("new").exists() && media.join("a/picture").exists());
    for (line, says) in [
        ("good --only volume:none --yes", "no volume none"),
        ("good --only nonsense --yes", "means nothing"),
        ("good --only db:web/t --yes", "db:SERVICE/TABLE"),
        ("", "snap list"),
        ("--resume --plan", "--abort"),
        ("latest --stack nope", "no snapshot is of a stack “nope”"),
    ] {
        let run = app.sandbox.must(&format!("restore {line}"), exit::USAGE);
        assert!(run.stderr.contains(says), "{line}: {run}");
    }
}

#[test]
fn a_volume_that_is_gone_is_made_anew_and_one_that_others_use_is_not_touched() {
    need!(root(), crate::need::docker());
    let app = application("gone");
    snapshot(&app, "good");
    let good = looks(&app);
    app.compose(&["down", "-v", "-t", "0"]);
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(looks(&app), good);
    // The state before had no such volume, and so its snapshot has none.
    let safety = app.sandbox.json(&format!("show {}", report["safety"].as_str().expect("an id")));
    let sources = safety["manifest"]["sources"].as_array().expect("a list").iter();
    assert!(sources.clone().count() > 0 && sources.clone().all(|source| source["kind"] != "volume"), "{safety}");
    let warned = app.compose(&["up", "-d"]);
    assert!(!warned.contains("not created by"), "Compose does not know its volume: {warned}");

    let foreign = format!("{}-foreign", app.name);
    let volume = format!("{}_media:/x", app.name);
    let image = crate::docker::busybox_image();
    let words = ["run", "-d", "--rm", "--network", "none", "--name", &foreign, "-v", &volume, image, "sleep", "300"];
    crate::application::output(std::process::Command::new("docker").args(words));
    let run = app.sandbox.must("restore good --yes", exit::FAILED);
    crate::application::output(std::process::Command::new("docker").args(["rm", "-f", &foreign]));
    assert!(run.stderr.contains("of another project uses it") && run.stderr.contains("changed nothing"), "{run}");
    let entry = app.sandbox.json("log --last")["entries"][0].clone();
    assert_eq!((&entry["action"], &entry["ending"]), (&"restore".into(), &"failed".into()), "{entry}");
    assert_eq!(looks(&app), good);
    assert_eq!(staged(&app), Vec::<String>::new());
}

#[test]
fn a_damaged_snapshot_stops_nothing() {
    need!(root(), crate::need::docker());
    let app = application("damage");
    let media = app.mountpoint("media");
    let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(media.join("noise"), noise).expect("a file");
    snapshot(&app, "good");
    break_it(&app);
    let before = looks(&app);
    damage_packs(&app);
    app.sandbox.must("restore good --yes", exit::DAMAGE);
    assert_eq!(looks(&app), before);
    assert_eq!(staged(&app), Vec::<String>::new());
}

#[test]
fn what_becomes_of_services_and_what_others_must_have_made_is_told_first() {
    need!(root(), crate::need::docker());
    let app = App::new("roll-services", SERVICES);
    let network = format!("{}-shared", app.name);
    let docker = |words: &[&str]| crate::application::output(std::process::Command::new("docker").args(words));
    app.write("compose.yaml", &SERVICES.replace("IMAGE", crate::docker::busybox_image()).replace("SHARED", &network));
    docker(&["network", "create", &network]);
    app.sandbox.init();
    app.compose(&["up", "-d", "--scale", "many=3", "many", "one"]);
    snapshot(&app, "good");
    app.write(
        "compose.yaml",
        &std::fs::read_to_string(app.dir.join("compose.yaml")).expect("a file").replace("-first", "-second"),
    );
    app.compose(&["up", "-d", "--scale", "many=1", "many", "one", "late"]);
    let plan = restore(&app, "good --plan", exit::DONE)["changes"].to_string();
    let renamed = format!("its container {0}-second is called {0}-first afterwards", app.name);
    for wanted in ["service many: 1 of its containers run now, 3 afterwards", "service late stays stopped", &renamed] {
        assert!(plan.contains(wanted), "no {wanted} in {plan}");
    }
    app.compose(&["down", "-t", "0"]);
    docker(&["network", "rm", &network]);
    let run = app.sandbox.must("restore good --yes", exit::FAILED);
    assert!(run.stderr.contains(&format!("docker network create {network}")), "{run}");
}

const SERVICES: &str = "services:
  many: {image: IMAGE, command: sleep 1000, stop_grace_period: 0s}
  one:
    image: IMAGE
    command: sleep 1000
    container_name: stack-it-roll-services-first
    networks: [shared]
    stop_grace_period: 0s
  late: {image: IMAGE, command: sleep 1000, stop_grace_period: 0s}
networks: {shared: {external: true, name: SHARED}}
";
