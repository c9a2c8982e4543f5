//! The record: who did what, when, and how it ended.

use crate::snap::{Sandbox, exit, id_of};
use std::path::PathBuf;

fn stack(sandbox: &Sandbox) -> PathBuf {
    let source = sandbox.path("clinic");
    std::fs::create_dir_all(source.join("conf")).expect("a folder");
    std::fs::write(source.join("conf/app.ini"), "a = 1\n").expect("a file");
    source
}

#[test]
fn every_create_is_recorded() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let source = stack(&sandbox);
    let first = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    std::fs::write(source.join("conf/app.ini"), "a = 2\n").expect("a file");
    sandbox.create(&source);
    let mut command = sandbox.snap_command(&["create", "nowhere", "--json"]);
    command.env("USER", "alice");
    crate::snap::run(command, crate::snap::WATCHDOG).expect("a run").expect(&[exit::USAGE]).expect("a refusal");

    let document = sandbox.json("log");
    let entries = document["entries"].as_array().expect("a list");
    assert_eq!(entries.len(), 2, "what never reached the repository is not in it: {document}");
    assert_eq!(entries[0]["snapshot"], first.as_str());
    for entry in entries {
        assert_eq!((entry["action"].as_str(), entry["ending"].as_str()), (Some("create"), Some("done")));
        assert_eq!(entry["stack"], "clinic");
        assert!(entry["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{entry}");
        for member in ["time", "host", "user", "key", "tool"] {
            assert!(entry[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {entry}");
        }
    }
    let found = sandbox.json(&format!("log {}", &first[..10]));
    assert_eq!(found["entries"].as_array().map(Vec::len), Some(1));
    let last = sandbox.json("log --last --stack clinic");
    assert_eq!(last["entries"][0]["id"], entries[1]["id"]);
    sandbox.must("log ffffffff", exit::USAGE);
    let text = sandbox.must("log", exit::DONE).stdout;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains(&first[..8]) && text.contains("create") && text.contains("done"), "{text}");
}

#[test]
fn a_create_that_fails_or_lacks_something_is_recorded_too() {
    crate::need::need!(crate::need::root());
    let sandbox = Sandbox::new();
    sandbox.init();
    let source = stack(&sandbox);
    std::fs::write(source.join("compose.yaml"), "services: {}\n").expect("a file");
    // The repository itself cannot be captured into itself.
    let repo = sandbox.repo();
    sandbox.expect(&["create".as_ref(), repo.as_os_str()], &[exit::USAGE]).expect("a refusal");
    let document = sandbox.json("log --last");
    let entry = &document["entries"][0];
    assert_eq!(entry["ending"], "failed");
    assert!(entry["message"].as_str().is_some_and(|text| text.contains("is the repository itself")), "{entry}");
    assert!(entry["snapshot"].is_null());
}

#[test]
fn a_report_has_what_the_handbooks_ask_for() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let source = stack(&sandbox);
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    let report = sandbox.must(&format!("log {} --markdown", &id[..8]), exit::DONE).stdout;
    for wanted in [
        "# Incident report: clinic create",
        "| Executed by |",
        &format!("| Snapshot | {} |", &id[..8]),
        "| Result | done |",
        "## Summary",
        "## Impact",
        "## Timeline",
        "## Verification",
        "not verified",
        "## Root cause",
        "## Follow-up actions",
        "## Lessons learned",
        "## Sign-off",
        "Verified by:",
    ] {
        assert!(report.contains(wanted), "no {wanted:?} in {report}");
    }
}

#[test]
fn a_damaged_record_is_found_and_harms_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.init();
    let source = stack(&sandbox);
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    sandbox.checks_clean().expect("sound");
    let name = sandbox.objects().into_iter().find(|path| path.starts_with("log")).expect("a record");
    let path = sandbox.repo().join(&name);
    let mut bytes = std::fs::read(&path).expect("a record");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    std::fs::write(&path, &bytes).expect("a record");
    let run = sandbox.must("check --json", exit::DAMAGE);
    assert!(run.problems().expect("problems").iter().any(|line| line.contains(&name.display().to_string())), "{run}");
    let run = sandbox.must("log --json", exit::DAMAGE);
    assert_eq!(run.json()["unreadable"][0]["object"], name.display().to_string());
    sandbox.restores_to(&id, &source).expect("the snapshot");
    // A record under another name, or from another repository, is no record.
    std::fs::remove_file(&path).expect("a record");
    let other = Sandbox::new();
    other.init();
    other.create(&stack(&other));
    let foreign = other.objects().into_iter().find(|path| path.starts_with("log")).expect("a record");
    std::fs::copy(other.repo().join(&foreign), sandbox.repo().join(&foreign)).expect("a copy");
    sandbox.must("check", exit::DAMAGE);
    std::fs::remove_file(sandbox.repo().join(&foreign)).expect("a record");
    // Without the folder, as older versions made repositories, nothing is missing.
    std::fs::remove_dir(sandbox.repo().join("log")).expect("an empty folder");
    sandbox.checks_clean().expect("sound");
    sandbox.create(&source);
    assert_eq!(sandbox.json("log")["entries"].as_array().map(Vec::len), Some(1));
}
