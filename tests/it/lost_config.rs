//! A repository whose `config` is lost or altered: nothing in it is needed by who has a key.

use crate::compare::assert_same;
use crate::need::{self, need};
use crate::snap::{self, Sandbox, WATCHDOG, exit};
use crate::trees::source_tree;
use std::fs;

/// A repository with a snapshot, whose config is lost, no JSON, altered, or of another repository.
fn cases() -> Vec<(&'static str, Sandbox, String)> {
    let mut out = Vec::new();
    for case in ["missing", "garbage", "altered", "another"] {
        let sandbox = Sandbox::new();
        source_tree(&sandbox.path("source"), 5, 1);
        sandbox.init();
        sandbox.create(&sandbox.path("source"));
        let config = sandbox.repo().join("config");
        let text = fs::read_to_string(&config).expect("config");
        fs::remove_file(&config).expect("config");
        match case {
            "garbage" => fs::write(&config, "{\"format\":").expect("config"),
            "altered" => fs::write(&config, text.replace("\"created\":\"2", "\"created\":\"3")).expect("config"),
            "another" => {
                sandbox.must("init --repo second", exit::DONE);
                fs::copy(sandbox.path("second/config"), &config).map(|_| ()).expect("config");
            }
            _ => {}
        }
        out.push((case, sandbox, text));
    }
    out
}

#[test]
fn with_a_key_all_is_read_without_a_config_and_damage_is_named() {
    for (case, sandbox, _) in cases() {
        for line in ["list", "show latest", "show latest --files", "diff latest source", "status", "key list"] {
            let run = sandbox.snap(&line.split_whitespace().collect::<Vec<_>>());
            assert!(run.code == exit::DONE || line == "status", "{case}: {run}");
            assert!(run.stderr.contains("config") && run.stderr.contains("snap init"), "{case}: {run}");
        }
        sandbox.must("restore latest --target target", exit::DONE);
        assert_same(&sandbox.path("source"), &sandbox.path("target"));
        sandbox.must("export latest out.tar", exit::DONE);
        let run = sandbox.must("check --json", exit::DAMAGE);
        let problems = run.problems().expect("problems");
        assert!(problems.len() == 1 && problems[0].contains("config"), "{case}: {problems:?}");
    }
}

#[test]
fn an_owner_writes_it_again_as_it_was() {
    for (case, sandbox, text) in cases() {
        let line = if case == "garbage" { "create source" } else { "init" };
        let run = sandbox.must(line, exit::DONE);
        assert!(line == "create source" || run.stdout.contains("written again"), "{case}: {run}");
        let now = fs::read_to_string(sandbox.repo().join("config")).expect("config");
        let created = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["created"].clone();
        assert_eq!(created(&now), created(&text), "{case}");
        assert_eq!(now, text, "{case}: not the same bytes");
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{case}: {text}"));
        sandbox.must("init", exit::FAILED);
    }
}

#[test]
fn recovery_needs_no_config_and_ends_in_words() {
    need!(need::program("age"), need::program("zstd"), need::program("python3"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recover.py");
    for (case, sandbox, _) in cases() {
        let python = |args: &[&str]| {
            let mut command = sandbox.command("python3");
            command.arg(script).arg(sandbox.repo()).args(args);
            snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
        };
        let identity = sandbox.identity();
        let run = python(&[identity.to_str().expect("text"), "latest", "target"]);
        assert_eq!(run.code, 0, "{case}: {run}");
        assert_same(&sandbox.path("source"), &sandbox.path("target"));
        let run = python(&["no-such-file", "list"]);
        assert!(run.code == 1 && run.stderr.contains("no-such-file"), "{run}");
        assert!(!run.stderr.contains("Traceback"), "{run}");
    }
}
