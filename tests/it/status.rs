//! Any morning: one screen, one document, one file of metrics say the same, and the truth.

use crate::forget::{capture, history};
use crate::snap::{Sandbox, exit};
use ::snap::crypto::keyfile::open_secrets;
use ::snap::crypto::people::PersonIdentity;
use ::snap::id::SnapshotId;
use ::snap::repo::Repository;
use ::snap::repo::writer::Session;
use ::snap::store::LocalStore;
use serde_json::Value;
use std::fs;
use std::sync::Arc;

fn advice(status: &Value) -> Vec<(bool, String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let one = |value: &Value| (value["urgent"] == true, text(&value["message"]), text(&value["command"]));
    status["advice"].as_array().expect("advice").iter().map(one).collect()
}

fn advises(status: &Value, text: &str) -> bool {
    advice(status).iter().any(|(_, message, _)| message.contains(text))
}

#[test]
fn a_morning_is_told_in_one_screen_and_each_worry_has_its_command() {
    let (sandbox, ids) = history(2);
    let status = sandbox.json("status");
    let stack = &status["stacks"][0];
    assert_eq!((&stack["snapshots"], &stack["newest_complete"]), (&2.into(), &ids[1].as_str().into()), "{status}");
    assert_eq!(stack["stored_bytes"], status["stored_bytes"], "{status}");
    assert!(stack["last_restore"].is_null() && status["last_check"].is_null(), "{status}");
    for worry in ["never checked", "same file system", "one key alone", "never restored from here: source"] {
        assert!(advises(&status, worry), "{worry}: {status}");
    }
    assert!(advice(&status).iter().all(|(urgent, _, command)| !urgent && command.starts_with("snap ")), "{status}");
    let screen = sandbox.must("status", exit::DONE).stdout;
    assert!(screen.lines().filter(|line| line.contains("← snap ")).count() == 4, "{screen}");
    assert!(screen.lines().count() <= 14, "{screen}");
    // What is done is no worry any more.
    sandbox.must("check --read-data", exit::DONE);
    sandbox.must("key export exported", exit::DONE);
    sandbox.must("restore latest --target t", exit::DONE);
    sandbox.must("replicate replica --verify", exit::DONE);
    let status = sandbox.json("status");
    assert_eq!(advice(&status), [], "{status}");
    assert!(status["stacks"][0]["last_restore"].is_number() && status["share_read"] == 1.0, "{status}");
    let replica = &status["replicas"][0];
    assert_eq!((&replica["behind"], &replica["lag_seconds"]), (&0.into(), &0.into()), "{status}");
    assert!(replica["verified"].is_number() && replica["newest_there"] == replica["newest_here"], "{status}");
    assert!(sandbox.must("status", exit::DONE).stdout.contains("up to date"));
}

#[test]
fn a_replica_that_lags_says_by_how_much() {
    let (sandbox, _) = history(1);
    let first = sandbox.json("replicate replica");
    assert!(first[0]["newest_here"].is_string() && first[0]["newest_here"] == first[0]["newest_there"], "{first}");
    capture(&sandbox, 5);
    let status = sandbox.json("status");
    let replica = &status["replicas"][0];
    assert_eq!((&replica["behind"], &replica["snapshots"]), (&1.into(), &1.into()), "{status}");
    assert!(replica["lag_seconds"].as_i64().is_some_and(|lag| lag >= 0), "{status}");
    assert!(replica["newest_here"].as_str() > replica["newest_there"].as_str(), "{status}");
    assert!(sandbox.must("status", exit::DONE).stdout.contains("1 behind"));
    // Times are sealed: a machine that has no key, and has never read them, says that it does not know.
    let _ = fs::remove_dir_all(sandbox.cache());
    fs::rename(sandbox.identity(), sandbox.path("away")).expect("an identity");
    let report = sandbox.json("replicate replica");
    assert_eq!((&report[0]["snapshots"], &report[0]["newest_here"]), (&1.into(), &Value::Null), "{report}");
}

#[test]
fn what_fails_at_night_is_told_in_the_morning_until_it_works_again() {
    let (sandbox, _) = history(1);
    let source = sandbox.path("source");
    let away = sandbox.path("away");
    // The repository is not there for a night.
    fs::rename(sandbox.repo(), &away).expect("a folder");
    sandbox.must("create source", exit::NO_REPOSITORY);
    sandbox.must("check", exit::NO_REPOSITORY);
    fs::rename(&away, sandbox.repo()).expect("a folder");
    let run = sandbox.must("status --json", exit::DAMAGE);
    let status = run.json();
    let urgent: Vec<_> = advice(&status).into_iter().filter(|one| one.0).collect();
    assert_eq!(urgent.len(), 2, "{status}");
    assert!(urgent[0].1.contains("the last check failed") && urgent[0].1.contains("no repository"), "{status}");
    assert!(urgent[1].1.contains("the last create of source failed"), "{status}");
    assert_eq!(urgent[1].2, format!("snap create {}", source.canonicalize().expect("a folder").display()));
    let run = &status["runs"].as_array().expect("runs").iter().find(|run| run["command"] == "create").expect("a run");
    assert_eq!((&run["exit_code"], &run["subject"]), (&exit::NO_REPOSITORY.into(), &"source".into()), "{status}");
    assert!(run["last_good"].is_number(), "{status}");
    sandbox.must("create source", exit::DONE);
    sandbox.must("check", exit::DONE);
    let status = sandbox.json("status");
    assert!(!advises(&status, "failed"), "{status}");
    // A slip of the fingers is no failure of the night, nor is what only looks.
    sandbox.must("create nowhere", exit::USAGE);
    sandbox.must("restore zzzz --target t", exit::USAGE);
    sandbox.must("prune --dry-run", exit::DONE);
    let verbs: Vec<String> =
        sandbox.json("status")["runs"].as_array().expect("runs").iter().map(|run| run["command"].to_string()).collect();
    assert_eq!(verbs, ["\"check\"", "\"create\""]);
    // Another way to spell the place is the same place.
    assert_eq!(sandbox.json("status --repo source/../repo")["runs"].as_array().map(Vec::len), Some(2));
    // Another repository's failures are none of this one's.
    sandbox.must("check --repo elsewhere", exit::NO_REPOSITORY);
    assert_eq!(sandbox.json("status")["runs"].as_array().map(Vec::len), Some(2));
    // A memory that is damaged is none.
    for entry in fs::read_dir(sandbox.home().join(".local/share/snap/runs")).expect("a folder") {
        fs::write(entry.expect("a file").path(), "{").expect("a file");
    }
    assert_eq!(sandbox.json("status")["runs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_snapshot_that_is_older_than_its_schedule_allows_is_urgent() {
    let (sandbox, ids) = history(1);
    // The newest one is of last winter.
    let key = fs::read_dir(sandbox.repo().join("keys")).expect("keys").map(|entry| entry.expect("a key").path());
    let key = key.into_iter().find(|path| path.extension().is_some_and(|end| end == "age")).expect("a key");
    let identity = PersonIdentity::load(&sandbox.identity(), None).expect("an identity");
    let secrets = open_secrets(&fs::read(key).expect("a key"), &identity).expect("secrets");
    let store = Arc::new(LocalStore::at(sandbox.repo()));
    let repository = Repository::open(store, secrets, "owner", &sandbox.cache()).expect("a repository");
    let mut manifest = repository.snapshots().expect("snapshots").snapshots.remove(0).manifest;
    let session = Session::begin(&repository, 3).expect("a session");
    let needs = session.refer(&manifest.needs).expect("a catalog").expect("packs");
    manifest.predecessors = vec![SnapshotId::parse(&ids[0]).expect("an id")];
    manifest.time = "2026-01-10T02:00:00.000000Z".to_owned();
    session.commit(&needs, &mut manifest).expect("a snapshot");
    drop(repository);
    let late = |status: &Value| (status["stacks"][0]["late"].clone(), advises(status, "one is due each"));
    assert_eq!(late(&sandbox.json("status")), (false.into(), false), "nothing says how often one is made");
    fs::write(sandbox.path("source/snap.toml"), "[schedule]\ncreate = \"daily 02:00\"\n").expect("a file");
    let status = sandbox.must("status --json", exit::DAMAGE).json();
    assert_eq!(late(&status), (true.into(), true), "{status}");
    let (urgent, message, command) = advice(&status).remove(0);
    assert!(
        urgent && message.contains("the newest snapshot of source is") && command.contains("schedule show"),
        "{status}"
    );
    sandbox.create(&sandbox.path("source"));
    assert_eq!(late(&sandbox.json("status")), (false.into(), false));
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// A line of the exposition format: the name, its labels, the value.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let good = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !text.as_bytes()[0].is_ascii_digit()
    };
    let mut out = Vec::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return None,
                }),
                (_, c) => value.push(c),
            }
        };
        good(label).then_some(())?;
        out.push((label.to_owned(), value));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    good(name).then_some(())?;
    Some((name.to_owned(), out, value.parse().ok()?))
}

#[test]
fn metrics_are_a_file_that_a_collector_can_read() {
    let (mut sandbox, _) = history(1);
    sandbox.must("create source --stack odd\"\\name", exit::DONE);
    sandbox.must("check", exit::DONE);
    sandbox.must("replicate replica", exit::DONE);
    let run = sandbox.must("status -q --prometheus snap.prom", exit::DONE);
    assert_eq!(run.stdout, "");
    let text = fs::read_to_string(sandbox.path("snap.prom")).expect("a file");
    let (mut family, mut described, mut seen) = (String::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("a text").0.to_owned();
            assert!(!described.contains(&family), "{family} twice");
            described.push(family.clone());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest, format!("{family} gauge"));
        } else {
            let (name, labels, value) = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
            assert_eq!(name, family, "{line}");
            assert!(!seen.contains(&(name.clone(), labels.clone())), "twice: {line}");
            assert!(labels.contains(&("repository".to_owned(), sandbox.repo().display().to_string())), "{line}");
            if name.ends_with("_timestamp_seconds") {
                assert!((1.7e9..1e11).contains(&value), "{line}");
            }
            seen.push((name, labels));
        }
    }
    assert!(text.ends_with('\n') && described.len() >= 15, "{text}");
    let stacks: Vec<&str> = seen
        .iter()
        .filter(|(name, _)| name == "snap_newest_complete_timestamp_seconds")
        .filter_map(|(_, labels)| labels.iter().find(|label| label.0 == "stack").map(|label| label.1.as_str()))
        .collect();
    assert_eq!(stacks, ["odd\"\\name", "source"]);
    // It replaces the old one, leaves nothing beside it, and can be read by others.
    sandbox.vars.push(("TMPDIR", sandbox.path("nowhere").display().to_string()));
    sandbox.must("status -q --prometheus snap.prom", exit::DONE);
    let beside: Vec<String> = crate::compare::paths(&sandbox.path(""))
        .into_iter()
        .map(|path| path.display().to_string())
        .filter(|path| !path.contains('/') && path.contains("snap"))
        .collect();
    assert_eq!(beside, ["snap.prom"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(sandbox.path("snap.prom")).expect("a file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o644);
    sandbox.must("status --prometheus no/such/folder", exit::FAILED);
}

#[test]
fn a_home_that_cannot_be_written_changes_nothing() {
    let (mut sandbox, _): (Sandbox, _) = history(1);
    sandbox.vars.push(("XDG_DATA_HOME", "/proc/nowhere".to_owned()));
    sandbox.must("check", exit::DONE);
    assert_eq!(sandbox.json("status")["runs"].as_array().map(Vec::len), Some(0));
}
