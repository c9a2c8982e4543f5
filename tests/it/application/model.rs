//! Both Compose tools, and reading without either, tell the same of a project.

use super::{App, coverage, output};
use crate::need::{docker, need, program, root};
use crate::snap::exit;
use snap::stack::compose::{Model, Selection, Tool, ToolChoice, fallback};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const BASE: &str = "
version: '3.8'
services:
  web:
    extends: {file: parts/base.yaml, service: base}
    depends_on: [db, worker]
    env_file: [web.env]
    volumes: ['media:/media', './conf:/conf:ro', /cache]
    secrets: [pw]
    container_name: model-web
    healthcheck: {test: [CMD, 'true'], interval: 5s}
    labels: {snap.stop: 'true'}
  db: {image: 'db:${TAG:-1}', volumes: ['data:/data', 'shared:/shared'], tmpfs: /run, restart: always}
  worker: {image: 'worker:1', network_mode: 'service:db', scale: 2}
  debug: {image: 'debug:1', profiles: [debug], volumes: ['media:/media']}
volumes:
  media: {driver_opts: {type: tmpfs, device: tmpfs}, labels: {a: b}}
  data: {}
  shared: {external: true, name: model-shared}
networks: {default: {external: true, name: model-net}}
secrets: {pw: {file: ./pw.txt}}
";

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    std::fs::write(path, text).expect("a file");
}

/// What the tools are known to tell differently and nothing depends on.
fn comparable(mut model: Model) -> Model {
    for service in model.services.values_mut() {
        service.environment.clear();
        service.restart.clear();
    }
    // The newer tool names the project's own network although nobody has declared it.
    model.networks.retain(|_, network| network.external);
    model
}

#[test]
fn both_tools_and_reading_give_the_same_model() {
    need!(program("docker"), program("docker-compose"));
    let dir = tempfile::tempdir().expect("a folder");
    let root = std::fs::canonicalize(dir.path()).expect("a folder").join("model");
    write(&root, "docker-compose.yml", BASE);
    write(&root, "docker-compose.override.yml", "version: '3.8'\nservices: {db: {labels: {extra: '1'}}}\n");
    write(
        &root,
        "parts/base.yaml",
        "version: '3.8'\nservices: {base: {image: 'web:${TAG}', volumes: ['./base:/base']}}\n",
    );
    write(&root, ".env", "TAG=7\n");
    write(&root, "web.env", "A=1\n");
    write(&root, "pw.txt", "secret\n");
    for profiles in [vec![], vec!["debug".to_owned()]] {
        let selection = Selection { directory: root.clone(), profiles: profiles.clone(), ..Selection::default() };
        let selection = selection.complete(|_| None);
        assert_eq!(selection.files.len(), 2);
        let of = |choice| comparable(Tool::find(choice).expect("a tool").model(&selection).expect("a model"));
        let (plugin, mut older) = (of(ToolChoice::Plugin), of(ToolChoice::Program));
        // The older tool shows what no profile activates; a capture leaves it out.
        if profiles.is_empty() {
            assert!(!plugin.services.contains_key("debug"));
            older.services.remove("debug");
        }
        let read = comparable(fallback::model(&selection).expect("a model"));
        assert_eq!(plugin, older);
        assert_eq!(plugin, read);
        let web = &plugin.services["web"];
        assert_eq!((web.image.as_str(), web.container_name.as_deref()), ("web:7", Some("model-web")));
        assert!(plugin.volumes["shared"].external && plugin.volumes["media"].name == "model_media");
        assert_eq!(plugin.services["worker"].replicas, 2);
    }
}

#[test]
fn what_a_project_includes_is_told_alike_by_the_tool_and_by_reading() {
    need!(program("docker"));
    let dir = tempfile::tempdir().expect("a folder");
    let root = std::fs::canonicalize(dir.path()).expect("a folder").join("including");
    let web = "web: {image: 'web:1', configs: [c], volumes: ['./conf:/conf', 'vol:/v'], depends_on: [inner]}";
    write(
        &root,
        "compose.yaml",
        &format!("include: [sub/inc.yaml]\nservices: {{{web}}}\nconfigs: {{c: {{file: ./c.conf}}}}\n"),
    );
    write(
        &root,
        "sub/inc.yaml",
        "services: {inner: {image: 'inner:1', volumes: ['./data:/data', 'vol:/v']}}\nvolumes: {vol: {}}\n",
    );
    write(&root, "c.conf", "x\n");
    let selection = Selection { directory: root.clone(), ..Selection::default() }.complete(|_| None);
    let told = comparable(Tool::find(ToolChoice::Plugin).expect("a tool").model(&selection).expect("a model"));
    assert_eq!(told, comparable(fallback::model(&selection).expect("a model")));
    let mounts = &told.services["inner"].mounts;
    assert!(
        mounts.iter().any(|mount| mount.target == "/data") && told.volumes["vol"].name == "including_vol",
        "{mounts:?}"
    );
}

/// A project with every kind of thing, some of it in the folder `elsewhere`.
fn every_kind_of_thing(elsewhere: &str) -> String {
    format!(
        "
services:
  web:
    image: IMAGE
    command: sleep 1000
    stop_grace_period: 0s
    scale: 2
    env_file: [web.env, {{path: maybe.env, required: false}}]
    volumes:
      - media:/media
      - /anonymous
      - ./conf:/conf
      - {elsewhere}/data:/out
      - {elsewhere}/single.conf:/single.conf:ro
      - /etc/localtime:/etc/localtime:ro
      - never:/never
      - cache:/cache
    tmpfs: /run
    secrets: [pw, env]
    labels: {{snap.exclude: cache}}
  once: {{image: IMAGE, command: 'true'}}
  never: {{image: 'stack-it/none:1', profiles: [never], volumes: ['media:/media']}}
volumes: {{media: {{}}, never: {{}}, cache: {{}}}}
secrets: {{pw: {{file: ./pw.txt}}, env: {{environment: SOME_SECRET}}}}
"
    )
}

#[test]
fn the_plan_names_every_thing_and_changes_nothing() {
    need!(docker(), root());
    let outside = tempfile::tempdir_in("/tmp").expect("a folder");
    let elsewhere = std::fs::canonicalize(outside.path()).expect("a folder").display().to_string();
    std::fs::create_dir(outside.path().join("data")).expect("a folder");
    std::fs::write(outside.path().join("single.conf"), "x").expect("a file");
    let app = App::new("plan", &every_kind_of_thing(&elsewhere));
    app.write("web.env", "A=1\n");
    app.write("pw.txt", "canary-3141\n");
    app.write("conf/a", "x");
    app.write(".env", "");
    app.up();
    app.compose(&["run", "--rm", "-d", "web", "sleep", "100"]);
    let before = app.states();
    let dir = app.dir.display().to_string();
    let run =
        app.sandbox.expect(&["create", &dir, "--plan", "--json"], &[exit::DONE, exit::INCOMPLETE]).expect("a plan");
    assert_eq!(app.states(), before);
    assert!(!app.sandbox.repo().exists());
    assert!(!run.stdout.contains("canary"), "{run}");
    let report = run.json();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for line in coverage(&report, &app.dir) {
        *found.entry(line.replace(&elsewhere, "OUT")).or_default() += 1;
    }
    let expected = [
        "files . captured",
        "bind conf captured",
        "bind OUT/data captured",
        "bind OUT/single.conf captured",
        "bind /etc/localtime skipped",
        "compose file compose.yaml captured",
        "env file .env captured",
        "env file web.env captured",
        "env file maybe.env skipped",
        "secret pw.txt captured",
        "secret env not protected",
        "tmpfs web:/run skipped",
        "volume media captured",
        "volume never captured",
        "volume cache skipped",
        "volume web:/anonymous captured",
        "volume web-2:/anonymous captured",
    ];
    for line in expected {
        assert_eq!(found.get(line), Some(&1), "{line}: {found:#?}");
    }
}

#[test]
fn a_running_project_tells_how_it_was_started() {
    need!(docker(), root());
    let app = App::new("adopt", "services: {}\n");
    std::fs::remove_file(app.dir.join("compose.yaml")).expect("removed");
    let service = |extra: &str| {
        let image = crate::docker::busybox_image();
        format!("services: {{web: {{image: '{image}', command: sleep 1000, stop_grace_period: 0s{extra}}}}}\n")
    };
    let volume = service(", volumes: ['media:/media']") + "volumes: {media: {}}\n";
    app.write("docker-compose.prod.yml", &volume);
    app.write("docker-compose.more.yml", &service(", labels: {snap.pause: 'true'}"));
    app.write("prod.env", "A=1\n");
    app.compose(&[
        "-p",
        &app.name,
        "--env-file",
        "prod.env",
        "-f",
        "docker-compose.prod.yml",
        "-f",
        "docker-compose.more.yml",
        "up",
        "-d",
    ]);
    let report = app.create(&["--plan"], exit::DONE);
    let lines = coverage(&report, &app.dir);
    for line in [
        "compose file docker-compose.prod.yml captured",
        "compose file docker-compose.more.yml captured",
        "volume media captured",
        "env file prod.env captured",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    assert_eq!(report["pauses"], serde_json::json!(["web"]));
    assert_eq!(report["stack"], app.name.as_str());
    let label = format!("label=com.docker.compose.project={}", app.name);
    let ids = output(Command::new("docker").args(["ps", "-aq", "--filter", &label]));
    output(Command::new("docker").args(["rm", "-f"]).args(ids.lines()));
    // Without containers it is a folder: nothing says that these files are a project.
    let report = app.create(&["--plan"], exit::DONE);
    assert_eq!(report["coverage"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_the_older_tool_runs_is_captured_by_it() {
    need!(docker(), root(), program("docker-compose"));
    let compose = "version: '3.8'\nservices:\n  web:\n    image: IMAGE\n    command: sleep 1000\n    volumes: ['media:/media']\n    stop_grace_period: 0s\nvolumes: {media: {}}\n";
    let app = App::new("older", compose);
    output(app.sandbox.command("docker-compose").args(["up", "-d"]).current_dir(&app.dir));
    let report = app.create(&["--stop", "--only", "volume", "--only", "files"], exit::DONE);
    assert_eq!(report["downtime"]["stopped"], serde_json::json!(["web"]));
    let id = report["snapshot"]["id"].as_str().expect("an id");
    let project = app.sandbox.json(&format!("show {id}"))["manifest"]["project"].clone();
    assert!(project["compose"].as_str().is_some_and(|text| text.starts_with("docker-compose 1.")), "{project}");
    assert_eq!(project["services"][0]["containers"][0]["name"], format!("{}_web_1", app.name));
    let words: Vec<String> = serde_json::from_value(project["arguments"].clone()).expect("words");
    let services =
        output(app.sandbox.command("docker-compose").args(words).args(["config", "--services"]).current_dir("/"));
    assert_eq!(services, "web\n");
    // The same by setting, whatever runs.
    app.write("snap.toml", "[compose]\ntool = \"docker compose\"\n");
    let report = app.create(&["--only", "volume"], exit::DONE);
    let id = report["snapshot"]["id"].as_str().expect("an id");
    let project = app.sandbox.json(&format!("show {id}"))["manifest"]["project"].clone();
    assert!(project["compose"].as_str().is_some_and(|text| text.starts_with("docker compose 2.")), "{project}");
    assert_eq!(app.states(), ["web running"]);
}
