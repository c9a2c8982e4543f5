//! A whole application: a real server, its image, its volumes and its files in one snapshot.

use super::{App, coverage};
use crate::need::{docker, images, need, root};
use crate::snap::exit;
use serde_json::Value;
use std::time::{Duration, Instant};

const COMPOSE: &str = "
services:
  db:
    image: snap-test/postgres:15
    environment: {POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: /run/secrets/pw, POSTGRES_DB: shop}
    secrets: [pw]
    volumes: ['pgdata:/var/lib/postgresql/data']
    stop_grace_period: 20s
    healthcheck: {test: [CMD, pg_isready, -U, app, -d, shop], interval: 1s, retries: 90}
  web:
    image: IMAGE
    command: sh -c 'while :; do date >> /media/log; sleep 1; done'
    depends_on: {db: {condition: service_healthy}}
    volumes: ['media:/media']
    stop_grace_period: 0s
volumes: {pgdata: {}, media: {}}
secrets: {pw: {file: ./pw.txt}}
";

fn app(name: &str) -> App {
    let app = App::new(name, COMPOSE);
    app.write("pw.txt", "canary-whole-42\n");
    app.up();
    let sql = "CREATE TABLE goods(id int PRIMARY KEY, name text); INSERT INTO goods SELECT i, 'thing ' || i FROM generate_series(1, 1234) i";
    let command = format!("psql -q -U app -d shop -c \"{sql}\"");
    let began = Instant::now();
    while app.try_exec("db", &command).is_err() {
        assert!(began.elapsed() < Duration::from_secs(90), "the server does not answer");
        std::thread::sleep(Duration::from_millis(500));
    }
    app
}

fn source<'r>(report: &'r Value, kind: &str, name: &str) -> Option<&'r Value> {
    report["snapshot"]["sources"].as_array()?.iter().find(|source| source["kind"] == kind && source["name"] == name)
}

#[test]
fn one_command_keeps_all_of_an_application() {
    need!(docker(), images(), root());
    let app = app("whole");
    let first = app.create(&[], exit::DONE);
    let lines = coverage(&first, &app.dir);
    for line in [
        "database db captured",
        "image snap-test/postgres:15 captured",
        "volume media captured",
        "volume pgdata skipped",
        "secret pw.txt captured",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    assert!(source(&first, "volume", "pgdata").is_none());
    let database = source(&first, "database", "db").expect("the dump");
    assert!(database["about"].as_str().is_some_and(|text| text.contains("1,234 rows")), "{database}");
    let id = first["snapshot"]["id"].as_str().expect("an id").to_owned();
    let manifest = app.sandbox.json(&format!("show {id}"))["manifest"].clone();
    let project = &manifest["project"];
    let order: Vec<&str> =
        project["services"].as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(order, ["db", "web"]);
    assert_eq!(project["services"][0]["containers"][0]["health"], "healthy");
    // The secret is in the snapshot's files and in nothing that is said of it.
    assert!(!manifest.to_string().contains("canary-whole-42") && !first.to_string().contains("canary-whole-42"));

    let second = app.create(&[], exit::DONE);
    for image in second["snapshot"]["sources"].as_array().expect("a list").iter().filter(|s| s["kind"] == "image") {
        assert_eq!(image["new_bytes"], 0, "{image}");
    }
    let read = second["stats"]["bytes_read"].as_u64().expect("a number");
    assert!(read < 2 << 20, "an image was read again: {read}");

    let target = app.sandbox.path("plain");
    app.sandbox.must(&format!("restore {id} --target plain"), exit::DONE);
    let dumps = crate::compare::paths(&target.join("databases/db"));
    let dump =
        dumps.iter().map(|path| std::fs::read_to_string(target.join("databases/db").join(path)).unwrap_or_default());
    assert!(dump.into_iter().any(|text| text.contains("thing 1234")), "{dumps:?}");
    let tar = target.join("images/snap-test_postgres_15.tar");
    let mut archive = tar::Archive::new(std::fs::File::open(&tar).expect("an image"));
    let names: Vec<String> = archive
        .entries()
        .expect("entries")
        .map(|e| e.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert!(names.contains(&"manifest.json".to_owned()), "{names:?}");
    app.sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_stopped_servers_files_are_the_authority() {
    need!(docker(), images(), root());
    let app = app("cold");
    let report = app.create(&["--stop", "--only", "volume", "--only", "database"], exit::DONE);
    assert_eq!(report["downtime"]["stopped"], serde_json::json!(["db", "web"]));
    let volume = source(&report, "volume", "pgdata").expect("the volume");
    assert_eq!(volume["level"], "stopped");
    let id = report["snapshot"]["id"].as_str().expect("an id");
    let manifest = app.sandbox.json(&format!("show {id}"))["manifest"].clone();
    let sources = manifest["sources"].as_array().expect("a list");
    let database = sources.iter().find(|source| source["kind"] == "database").expect("the dump");
    assert_eq!(database["detail"]["authority"], "volume");
    // Started in order, and healthy before what needs it.
    assert_eq!(app.states(), ["db running", "web running"]);
    assert!(app.try_exec("db", "pg_isready -U app -d shop").is_ok());
}
