//! Forgetting: what stays, why, and that nothing is gone that somebody could still want.

use crate::capture::Memory;
use crate::keys::new_identity;
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, exit, id_of};
use crate::trees::{Random, source_tree};
use ::snap::crypto::keyfile::open_secrets;
use ::snap::crypto::people::PersonIdentity;
use ::snap::id::{object_name, to_hex};
use ::snap::repo::signed::sign_by_owner;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// A repository with `count` snapshots of a folder that grows.
pub fn history(count: u64) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 10, 5);
    sandbox.init();
    let ids = (0..count).map(|i| capture(&sandbox, i)).collect();
    (sandbox, ids)
}

pub fn capture(sandbox: &Sandbox, number: u64) -> String {
    let source = sandbox.path("source");
    fs::write(source.join(format!("file-{number}")), Random::new(number).bytes(100_000)).expect("a file");
    id_of(&sandbox.create(&source)["snapshot"]).expect("an id")
}

pub fn listed(sandbox: &Sandbox) -> Vec<String> {
    sandbox.list().iter().map(|snapshot| id_of(snapshot).expect("an id")).collect()
}

/// Each snapshot of the first stack in a report: its id, whether it stays, and why.
fn judged(report: &Value) -> Vec<(String, bool, String)> {
    let snapshots = report["stacks"][0]["snapshots"].as_array().expect("snapshots");
    let one = |s: &Value| (id_of(s).expect("an id"), s["keep"] == true, s["reasons"].to_string());
    snapshots.iter().map(one).collect()
}

#[test]
fn a_policy_says_what_stays_and_why_and_what_goes_can_be_taken_back() {
    let (sandbox, ids) = history(4);
    let before = sandbox.objects();
    let dry = sandbox.json("forget --keep-last 2 --dry-run");
    let kept: Vec<bool> = judged(&dry).iter().map(|one| one.1).collect();
    assert_eq!((kept.as_slice(), &dry["forgotten"]), ([false, false, true, true].as_slice(), &json!(2)));
    assert!(judged(&dry)[3].2.contains("last 1 of 2") && judged(&dry)[0].2.contains("no rule"), "{dry}");
    assert_eq!((sandbox.objects(), listed(&sandbox)), (before.clone(), ids.clone()));
    let done = sandbox.json("forget --keep-last 2");
    assert_eq!(judged(&done), judged(&dry));
    assert_eq!(listed(&sandbox), ids[2..]);
    assert_eq!(sandbox.json("list")["forgotten"].as_array().map(Vec::len), Some(2));
    let text = sandbox.must("list", exit::DONE).stdout;
    assert!(text.contains("2 snapshots are forgotten") && !text.contains(&ids[0][..8]), "{text}");
    assert!(sandbox.must("list --forgotten", exit::DONE).stdout.contains(&ids[0][..8]));
    let run = sandbox.must(&format!("restore {} --target t", &ids[1][..8]), exit::USAGE);
    assert!(run.stderr.contains(&format!("snap undelete {}", &ids[1][..8])), "{run}");
    sandbox.must("undelete abcdef", exit::USAGE);
    sandbox.must(&format!("undelete {}", ids[3]), exit::USAGE);
    let back = sandbox.json(&format!("undelete {}", &ids[1][..8]));
    assert_eq!(back["snapshots"][0]["id"], ids[1].as_str());
    assert_eq!(listed(&sandbox), ids[1..]);
    // Forgotten again is forgotten, whatever was taken back before.
    sandbox.must(&format!("forget {}", ids[1]), exit::DONE);
    assert_eq!(listed(&sandbox), ids[2..]);
    sandbox.must(&format!("undelete {} {}", ids[0], ids[1]), exit::DONE);
    assert_eq!(listed(&sandbox), ids);
    // Nothing that was there has gone or changed, on any machine.
    assert!(before.iter().all(|path| sandbox.objects().contains(path)));
    fs::remove_dir_all(sandbox.cache()).expect("a cache");
    assert_eq!(listed(&sandbox), ids);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn the_last_complete_one_stays_whatever_is_asked() {
    let (sandbox, mut ids) = history(2);
    let run = sandbox.must(&format!("forget {} {}", ids[0], ids[1]), exit::USAGE);
    assert!(run.stderr.contains("the last complete snapshot of source"), "{run}");
    sandbox.must(&format!("forget {} --yes", ids[1]), exit::DONE);
    sandbox.must(&format!("forget {} --yes", ids[0]), exit::USAGE);
    sandbox.must("forget --keep-within 1s --yes", exit::DONE);
    assert_eq!(listed(&sandbox), ids[..1]);
    // The next one follows the forgotten head: the chain has no gap and no second beginning.
    let next = capture(&sandbox, 7);
    let followed = sandbox.list().last().expect("a snapshot")["predecessors"].clone();
    assert_eq!(followed, json!([ids[1]]));
    ids[1] = next;
    assert_eq!(listed(&sandbox), ids);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn what_is_incomplete_never_pushes_out_what_is_whole() {
    need!(need::root());
    let (sandbox, ids) = history(3);
    let _mounted = Memory::mount(&sandbox.path("source/other"), 1 << 20);
    fs::write(sandbox.path("source/other/there"), "there").expect("a file");
    let capture = |_| {
        let run = sandbox.must("create source --json", exit::INCOMPLETE);
        id_of(&run.json()["snapshot"]).expect("an id")
    };
    let incomplete: Vec<String> = (0..3).map(capture).collect();
    let newest: Vec<String> = [&ids[1..], &incomplete].concat();
    sandbox.must("forget --keep-last 2", exit::DONE);
    assert_eq!(listed(&sandbox), newest);
    let whole = id_of(&sandbox.json("create source --cross-mounts")["snapshot"]).expect("an id");
    let report = sandbox.json("forget --keep-last 2");
    assert!(judged(&report)[2].2.contains("incomplete, and a complete one is newer"), "{report}");
    assert_eq!(listed(&sandbox), [ids[2].clone(), whole]);
}

#[test]
fn something_much_smaller_holds_everything_back_until_somebody_has_looked() {
    let (sandbox, mut ids) = history(3);
    for entry in fs::read_dir(sandbox.path("source")).expect("a folder").flatten() {
        match entry.path().is_dir() {
            true => fs::remove_dir_all(entry.path()).expect("a folder"),
            false => fs::remove_file(entry.path()).expect("a file"),
        }
    }
    fs::write(sandbox.path("source/left"), "almost nothing").expect("a file");
    ids.push(id_of(&sandbox.create(&sandbox.path("source"))["snapshot"]).expect("an id"));
    let run = sandbox.must("forget --keep-last 1 --json", exit::FAILED);
    let report = run.json();
    assert_eq!(
        (&report["stacks"][0]["held"], &report["mark"], &report["forgotten"]),
        (&json!(true), &json!(null), &json!(0))
    );
    assert_eq!(report["stacks"][0]["suspects"][0]["id"], ids[3].as_str());
    assert!(sandbox.must("forget --keep-last 1", exit::FAILED).stdout.contains("looks wrong"));
    assert_eq!(listed(&sandbox), ids);
    sandbox.must("forget --keep-last 3 --yes", exit::DONE);
    assert_eq!(listed(&sandbox), ids[1..]);
    // What was looked at once is not asked about again.
    sandbox.must("forget --keep-last 1", exit::DONE);
    assert_eq!(listed(&sandbox), ids[3..]);
}

#[test]
fn without_a_policy_nothing_is_forgotten_and_the_file_may_have_one() {
    let (sandbox, ids) = history(3);
    sandbox.must("forget", exit::USAGE);
    sandbox.must("forget --keep-last 0", exit::USAGE);
    sandbox.must(&format!("forget {} --keep-last 1", ids[0]), exit::USAGE);
    sandbox.must("forget --keep-within soon", exit::USAGE);
    fs::write(sandbox.path("snap.toml"), "[retention]\nkeep-last = 2\n").expect("a file");
    sandbox.must("forget --stack other", exit::USAGE);
    assert_eq!(listed(&sandbox), ids);
    // What is typed counts instead.
    sandbox.must("forget --keep-last 3", exit::DONE);
    assert_eq!(listed(&sandbox), ids);
    sandbox.must("forget", exit::DONE);
    assert_eq!(listed(&sandbox), ids[1..]);
    fs::write(sandbox.path("snap.toml"), "[retention]\nkeep-lsat = 2\n").expect("a file");
    let run = sandbox.must("forget", exit::USAGE);
    assert!(run.stderr.contains("snap.toml"), "{run}");
}

/// The repository's key that `identity` opens.
pub fn secrets(sandbox: &Sandbox, key: &str, identity: PathBuf) -> ::snap::crypto::secrets::Secrets {
    let sealed = fs::read(sandbox.repo().join("keys").join(key)).expect("a key");
    open_secrets(&sealed, &PersonIdentity::load(&identity, None).expect("an identity")).expect("secrets")
}

#[test]
fn a_writer_can_forget_nothing() {
    need!(need::program("age-keygen"));
    let (sandbox, ids) = history(2);
    let recipient = new_identity(&sandbox, "writer.txt");
    sandbox.must(&format!("key add web-1 --writer --recipient {recipient}"), exit::DONE);
    let as_writer = |line: &str, code: i32| sandbox.must(&format!("{line} --identity writer.txt"), code);
    as_writer(&format!("forget {}", ids[0]), exit::WRONG_KEY);
    as_writer("forget --keep-last 1", exit::WRONG_KEY);
    as_writer(&format!("undelete {}", ids[0]), exit::WRONG_KEY);
    // A machine in somebody else's hands has all that a mark is sealed and signed with but one key.
    let writer = secrets(&sandbox, "web-1.age", sandbox.path("writer.txt"));
    assert_eq!(writer.owner_key(), None);
    let mark = json!({
        "version": 1, "requires": [], "repository": writer.repository(), "time": "2026-01-01T00:00:00.000000Z",
        "host": "web-1", "key": "web-1", "act": "forget", "accepted": [],
        "snapshots": [{"id": ids[1], "reason": "asked for"}],
    });
    let signed = sign_by_owner(&mark, &writer.mac_key(), &writer.mac_key(), "mark").expect("a mark");
    let plain = zstd::bulk::compress(&signed, 3).expect("a frame");
    let sealed = ::snap::crypto::seal::seal(&[writer.index_recipient()], &plain).expect("a sealed mark");
    fs::create_dir_all(sandbox.repo().join("marks")).expect("a folder");
    fs::write(sandbox.repo().join("marks").join(to_hex(&object_name(&sealed))), sealed).expect("a mark");
    assert_eq!(listed(&sandbox), ids);
    let run = sandbox.must("check", exit::DAMAGE);
    assert!(run.stdout.contains("not written by an owner"), "{run}");
    sandbox.must("restore latest --target t", exit::DONE);
    // A real one is read by both.
    let other = sandbox.must(&format!("forget {}", ids[0]), exit::DONE);
    assert!(other.stdout.contains("1 snapshot forgotten"), "{other}");
    assert_eq!(listed(&sandbox), ids[1..]);
}

#[test]
fn a_damaged_mark_forgets_nothing() {
    let (sandbox, ids) = history(3);
    sandbox.must(&format!("forget {}", ids[0]), exit::DONE);
    let mark = sandbox.objects().into_iter().find(|path| path.starts_with("marks")).expect("a mark");
    let path = sandbox.repo().join(mark);
    let mut bytes = fs::read(&path).expect("a mark");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path).expect("a mark");
    fs::write(&path, bytes).expect("a mark");
    fs::remove_dir_all(sandbox.cache()).expect("a cache");
    assert_eq!(listed(&sandbox), ids);
    sandbox.must("check", exit::DAMAGE);
    sandbox.must(&format!("restore {} --target t", ids[0]), exit::DONE);
}

#[test]
fn two_folders_of_one_name_are_told_and_hold_each_other() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let folder = |name: &str| sandbox.path(name).join("app");
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        source_tree(&folder(name), 3, number as u64);
    }
    let first = sandbox.create(&folder("a"));
    sandbox.create(&folder("a"));
    let run = sandbox.must("create b/app", exit::DONE);
    assert!(run.stderr.contains("its last snapshot was of") && run.stderr.contains("--stack NAME"), "{run}");
    assert!(run.stderr.contains(folder("a").to_str().expect("text")), "{run}");
    assert_eq!(first["previous"], json!(null));
    let run = sandbox.must("forget --keep-last 1", exit::FAILED);
    assert!(run.stdout.contains("two folders of one name"), "{run}");
    assert_eq!(listed(&sandbox).len(), 3);
    // A project that was moved is asked about once.
    sandbox.must("forget --keep-last 2 --yes", exit::DONE);
    assert!(!sandbox.must("create b/app", exit::DONE).stderr.contains("its last snapshot was of"));
    sandbox.must("forget --keep-last 1", exit::DONE);
    // A name that somebody has given says what belongs together.
    for name in ["a", "b"] {
        let run = sandbox.must(&format!("create {name}/app --stack web"), exit::DONE);
        assert!(!run.stderr.contains("its last snapshot was of"), "{run}");
    }
    sandbox.must("forget --stack web --keep-last 1", exit::DONE);
}

#[test]
fn who_is_held_back_is_told_why_and_who_means_no_stack_too() {
    let (sandbox, _) = history(2);
    fs::remove_dir_all(sandbox.path("source")).and_then(|()| fs::create_dir(sandbox.path("source"))).expect("a folder");
    fs::write(sandbox.path("source/left"), "almost nothing").expect("a file");
    sandbox.create(&sandbox.path("source"));
    let run = sandbox.must("forget --keep-last 1", exit::FAILED);
    assert!(run.stdout.contains("nothing was forgotten: something looks wrong"), "{run}");
    assert!(!run.stdout.contains("✓"), "{run}");
    sandbox.must("forget --keep-last 1 --dry-run", exit::FAILED);
    let status = sandbox.must("status --json", exit::DAMAGE).json();
    assert!(status["advice"].to_string().contains("source was held back"), "{status}");
    for line in ["forget --stack sorce --keep-last 1", "forget --host nowhere --keep-last 1"] {
        let run = sandbox.must(line, exit::USAGE);
        assert!(run.stderr.contains("no snapshot fits"), "{run}");
    }
    // A stack may be named with its host, as messages do.
    let host = sandbox.list()[0]["host"].as_str().expect("a host").to_owned();
    let report = sandbox.json(&format!("forget --stack source@{host} --keep-last 9"));
    assert_eq!(judged(&report).len(), 3);
    sandbox.must(&format!("show latest --stack source@{host}"), exit::DONE);
    sandbox.must(&format!("log --stack source@{host}"), exit::DONE);
}
