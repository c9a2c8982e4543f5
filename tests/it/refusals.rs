//! What is typed and cannot be meant is refused before anything is done.

use crate::capture::Memory;
use crate::need::{self, need};
use crate::snap::{self, Sandbox, WATCHDOG, exit};
use crate::trees::source_tree;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

fn begun() -> Sandbox {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 3, 1);
    sandbox.init();
    sandbox
}

#[test]
fn what_could_not_be_named_again_is_refused() {
    let sandbox = begun();
    for (option, value) in [
        ("--stack", ""),
        ("--tag", ""),
        ("--tag", " "),
        ("--tag", "latest"),
        ("--tag", "@noon"),
        ("--tag", "a:b"),
        ("--exclude", "["),
        ("--threads", "99999"),
        ("--threads", "-1"),
    ] {
        let run = sandbox.expect(&["create", "source", &format!("{option}={value}")], &[exit::USAGE]);
        let run = run.unwrap_or_else(|text| panic!("{text}"));
        assert!(!run.stderr.is_empty(), "{run}");
    }
    assert!(sandbox.list().is_empty(), "something was stored");
    sandbox.must("create source --tag pre-2.4 --threads 2", exit::DONE);
    for line in ["check --read-data=200%", "key add x --writer --role owner --passphrase"] {
        sandbox.must(line, exit::USAGE);
    }
}

#[test]
fn a_list_that_a_filter_empties_says_so() {
    let sandbox = begun();
    assert!(sandbox.must("list", exit::DONE).stdout.starts_with("no snapshots in"));
    sandbox.must("create source", exit::DONE);
    let run = sandbox.must("list --stack nope --tag x", exit::DONE);
    assert!(run.stdout.contains("fits --stack nope --tag x"), "{run}");
}

#[test]
fn one_wrong_path_restores_nothing() {
    let sandbox = begun();
    fs::write(sandbox.path("source/there"), "there").expect("a file");
    sandbox.must("create source", exit::DONE);
    let run = sandbox.must("restore latest there nowhere ./there/ --target target", exit::USAGE);
    assert!(run.stderr.contains("nowhere") && !sandbox.path("target").exists(), "{run}");
    sandbox.must("restore latest there --target target", exit::DONE);
    assert_eq!(fs::read(sandbox.path("target/there")).expect("a file"), b"there");
}

#[test]
fn a_file_whose_name_is_no_text_can_be_shown_and_restored() {
    let sandbox = begun();
    let name = OsStr::from_bytes(b"caf\xe9:\xff");
    fs::write(sandbox.path("source").join(name), "content").expect("a file");
    sandbox.must("create source", exit::DONE);
    let named = [b"latest:", name.as_bytes()].concat();
    let run = sandbox.expect(&[OsStr::new("show"), OsStr::from_bytes(&named)], &[exit::DONE]);
    assert_eq!(run.unwrap_or_else(|text| panic!("{text}")).stdout, "content");
    let words = ["restore", "latest", "--target", "target"].map(OsStr::new);
    sandbox.expect(&[&words[..], &[name]].concat(), &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(fs::read(sandbox.path("target").join(name)).expect("a file"), b"content");
}

#[test]
fn what_is_stored_is_named_though_nobody_can_be_told_on_standard_output() {
    let sandbox = begun();
    let mut command = sandbox.command("sh");
    command.args(["-c", "\"$0\" create source >/dev/full"]).arg(snap::program());
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[exit::FAILED]));
    let run = run.unwrap_or_else(|text| panic!("{text}"));
    let id = sandbox.list()[0]["id"].as_str().expect("an id").to_owned();
    assert!(run.stderr.contains(&format!("stored all the same: {id}")), "{run}");
}

#[test]
fn a_reader_that_has_read_enough_ends_a_listing_quietly() {
    let sandbox = begun();
    for i in 0..3000 {
        fs::write(sandbox.path("source").join(format!("a file with a rather long name, number {i}")), "")
            .expect("a file");
    }
    sandbox.must("create source", exit::DONE);
    let mut command = sandbox.command("sh");
    command.args(["-c", "{ \"$0\" show latest --files; echo \"code $?\" >&2; } | head -n 1"]).arg(snap::program());
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!((run.stdout.lines().count(), run.stderr.trim()), (1, "code 0"), "{run}");
}

#[test]
fn what_a_capture_lacks_is_said_once() {
    need!(need::root());
    let sandbox = begun();
    let inner = sandbox.path("source/inner");
    let mounted = Memory::mount(&inner, 1 << 20);
    let run = sandbox.must("create source", exit::INCOMPLETE);
    drop(mounted);
    let said = format!("{}{}", run.stdout, run.stderr);
    assert_eq!(said.matches("on another file system").count(), 1, "{run}");
}
