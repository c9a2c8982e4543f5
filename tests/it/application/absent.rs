//! What a project names and nobody has is said, and is never shown as kept.

use super::{App, coverage};
use crate::need::{docker, images, need, root};
use crate::snap::exit;
use serde_json::Value;
use std::time::{Duration, Instant};

fn has(report: &Value, app: &App, line: &str) {
    let lines = coverage(report, &app.dir);
    assert!(lines.contains(&line.to_owned()), "no {line:?} in {lines:?}");
}

fn reason(report: &Value, kind: &str, what: &str) -> String {
    let lines = report["coverage"].as_array().expect("a list");
    let line = lines.iter().find(|line| line["kind"] == kind && line["what"] == what);
    line.unwrap_or_else(|| panic!("no line for {kind} {what}: {report}"))["reason"].as_str().expect("a text").to_owned()
}

#[test]
fn a_project_whose_image_and_volume_nobody_has_is_no_complete_snapshot() {
    need!(docker(), root());
    // Both were skipped without a word at the end, and the snapshot was called complete.
    let compose = "
services:
  web: {image: 'snap-it-nobody-has:1', volumes: ['media:/media']}
volumes: {media: {}}
";
    let app = App::new("absent", compose);
    for more in [["--plan"].as_slice(), &[]] {
        let report = app.create(more, exit::INCOMPLETE);
        for line in ["files . captured", "image snap-it-nobody-has:1 not protected", "volume media not protected"] {
            has(&report, &app, line);
        }
    }
    let dir = app.dir.display().to_string();
    let run = app.sandbox.expect(&["create", &dir], &[exit::INCOMPLETE]).unwrap_or_else(|text| panic!("{text}"));
    for words in
        ["NOT PROTECTED image snap-it-nobody-has:1: it is not there", "NOT PROTECTED volume media: it is not there"]
    {
        assert!(run.stdout.contains(words), "no {words:?}: {run}");
    }
    assert!(run.stdout.contains("INCOMPLETE: 2 things are missing"), "{run}");
    // What nobody selected is not missed.
    let report = app.create(&["--only", "files"], exit::DONE);
    has(&report, &app, "image snap-it-nobody-has:1 skipped");
}

#[test]
fn a_running_redis_is_not_copied_wherever_it_keeps_its_data() {
    need!(docker(), images(), root());
    // Redis leaves nothing in its folder until it saves for the first time: nothing tells the folder as one.
    let compose = "
services:
  plain: {image: 'snap-test/redis:7', volumes: ['plain:/data'], stop_grace_period: 5s}
  conf:
    image: snap-test/redis:7
    command: [redis-server, /etc/redis.conf]
    volumes: ['conf:/var/lib/redis', './redis.conf:/etc/redis.conf', 'socket:/run/redis']
    stop_grace_period: 5s
volumes: {plain: {}, conf: {}, socket: {}}
";
    let app = App::new("redis", compose);
    app.write("redis.conf", "# Its data.\ndir /data\nsave 900 1\ndir \"/var/lib/redis\"\n");
    app.up();
    let began = Instant::now();
    for service in ["plain", "conf"] {
        while app.try_exec(service, "redis-cli set greeting hello | grep OK").is_err() {
            assert!(began.elapsed() < Duration::from_secs(90), "the server does not answer");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let report = app.create(&["--plan"], exit::DONE);
    for line in ["database plain captured", "database conf captured", "volume socket captured"] {
        has(&report, &app, line);
    }
    for (volume, dump) in
        [("plain", "the dump of plain is the authority"), ("conf", "the dump of conf is the authority")]
    {
        has(&report, &app, &format!("volume {volume} skipped"));
        assert_eq!(reason(&report, "volume", volume), dump);
    }
    // Without the dumps nothing of them would be kept.
    let report = app.create(&["--plan", "--only", "volume"], exit::INCOMPLETE);
    for volume in ["plain", "conf"] {
        has(&report, &app, &format!("volume {volume} not protected"));
        assert!(reason(&report, "volume", volume).contains("its dump is not selected"), "{report}");
    }
    // By name, or while they stand still.
    let report = app.create(&["--plan", "--only", "volume:conf"], exit::DONE);
    assert!(reason(&report, "volume", "conf").contains("as asked"), "{report}");
    let report = app.create(&["--only", "volume", "--stop"], exit::DONE);
    for volume in ["plain", "conf"] {
        assert_eq!(reason(&report, "volume", volume), "stopped meanwhile");
    }
    assert_eq!(app.states(), ["conf running", "plain running"]);
}
