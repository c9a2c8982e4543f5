//! A repository whose `config` or key files are lost or altered: nothing in `config` is needed by who has a key, and
//! keys come back from a replica.

use crate::compare::assert_same;
use crate::keys::new_identity;
use crate::need::{self, need};
use crate::snap::{self, Sandbox, WATCHDOG, exit};
use crate::trees::source_tree;
use std::fs;
use std::path::{Path, PathBuf};

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

#[test]
fn a_repair_writes_it_again() {
    for (case, sandbox, text) in cases() {
        let run = sandbox.must("repair --dry-run", exit::DAMAGE);
        assert!(run.stdout.contains("config") && run.stdout.contains("can be written again"), "{case}: {run}");
        let run = sandbox.must("repair --yes", exit::DONE);
        assert!(run.stdout.contains("written again"), "{case}: {run}");
        assert_eq!(fs::read_to_string(sandbox.repo().join("config")).expect("config"), text, "{case}");
        sandbox.must("check", exit::DONE);
    }
}

#[test]
fn keys_come_back_from_a_replica() {
    need!(need::program("age-keygen"));
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 3, 1);
    sandbox.init();
    sandbox.create(&sandbox.path("source"));
    let recipient = new_identity(&sandbox, "second.txt");
    sandbox.must(&format!("key add second --recipient {recipient}"), exit::DONE);
    sandbox.must("replicate replica", exit::DONE);
    let keys = sandbox.repo().join("keys");
    let files: Vec<PathBuf> = fs::read_dir(&keys).expect("keys").flatten().map(|entry| entry.path()).collect();
    let own = |end: &str| {
        let fits =
            |path: &&PathBuf| path.to_string_lossy().ends_with(end) && !path.to_string_lossy().contains("second");
        files.iter().find(fits).expect("a key").clone()
    };
    let sound: Vec<(PathBuf, Vec<u8>)> =
        files.iter().map(|path| (path.clone(), fs::read(path).expect("a key"))).collect();
    let whole = |case: &str| {
        for (path, bytes) in &sound {
            assert_eq!(&fs::read(path).expect("a key"), bytes, "{case}");
        }
        sandbox.must("check", exit::DONE);
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).expect("a key");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(path).and_then(|()| fs::write(path, bytes)).expect("a key");
    };
    // A card: the repository opens, and the check names the file that is damaged.
    flip(&own(".json"));
    let run = sandbox.must("check --json", exit::DAMAGE);
    let problems = run.problems().expect("problems");
    assert!(problems.len() == 1 && problems[0].contains(".json"), "{problems:?}");
    assert!(sandbox.must("check", exit::DAMAGE).stdout.contains("snap repair --from"), "{run}");
    sandbox.must("repair --yes", exit::DAMAGE);
    sandbox.must("repair --from replica --yes", exit::DONE);
    whole("card");
    // The key file: nothing opens the repository but a copy of it.
    flip(&own(".age"));
    for line in ["list", "check", "repair --yes"] {
        let run = sandbox.must(line, exit::DAMAGE);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("snap repair --from") && said.contains(".age"), "{run}");
    }
    let run = sandbox.must("repair --from replica --yes", exit::DONE);
    assert!(run.stdout.contains("taken from the replica; what was there is damaged/"), "{run}");
    whole("key file");
    // All of them.
    files.iter().for_each(|path| fs::remove_file(path).expect("a key"));
    let run = sandbox.must("list", exit::DAMAGE);
    assert!(run.stderr.contains("snap repair --from") && !run.stderr.contains("--identity"), "{run}");
    let run = sandbox.must("repair --from replica --yes", exit::DONE);
    assert!(!run.stdout.contains("what was there"), "{run}");
    whole("all");
    // One that was removed does not come back.
    sandbox.must("key remove second", exit::DONE);
    sandbox.must("repair --from replica --yes", exit::DONE);
    assert_eq!(fs::read_dir(&keys).expect("keys").count(), 2);
    // Another repository is no replica, even where the same identity opens it.
    sandbox.must("init --repo other", exit::DONE);
    fs::remove_dir_all(&keys).and_then(|()| fs::create_dir(&keys)).expect("keys");
    let run = sandbox.snap(&["repair", "--from", "other", "--yes"]);
    assert!(run.code != exit::DONE && fs::read_dir(&keys).expect("keys").count() == 0, "{run}");
}
