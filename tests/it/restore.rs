//! Putting back: only what differs, nothing outside, nothing half, and every loss by its name.

use crate::capture::{Memory, Nobody};
use crate::compare::{assert_same, paths, same};
use crate::inject::{Point, Threads, inject};
use crate::need::{self, need};
use crate::snap::{Sandbox, copy_folder, exit, id_of, restore_args};
use crate::trees::{Random, mutate, set_mode, set_owner, source_tree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A sandbox with a folder of so many files, captured once, and the snapshot's id.
fn captured(files: usize) -> (Sandbox, PathBuf, String) {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, files, 21);
    sandbox.init();
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    (sandbox, source, id)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("a file");
}

/// Writes other bytes and gives the file its old time back.
fn write_same_time(path: &Path, bytes: &[u8]) {
    let times = fs::FileTimes::new().set_modified(fs::metadata(path).and_then(|stat| stat.modified()).expect("a time"));
    fs::write(path, bytes).expect("a file");
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_times(times).expect("times");
}

/// What each regular file below `dir` is: its inode and its time.
fn identities(dir: &Path) -> BTreeMap<PathBuf, (u64, i64)> {
    let files = paths(dir).into_iter().filter(|path| dir.join(path).is_file());
    files
        .map(|path| {
            let stat = fs::symlink_metadata(dir.join(&path)).expect("a file");
            (path, (stat.ino(), stat.mtime_nsec()))
        })
        .collect()
}

fn packs(sandbox: &Sandbox) -> BTreeSet<PathBuf> {
    sandbox.objects().into_iter().filter(|path| path.starts_with("packs")).collect()
}

#[track_caller]
fn only_lost(report: &Value, path: &str) {
    let lost = report["lost"].as_array().expect("a list");
    assert_eq!(lost.len(), 1, "{report}");
    assert_eq!(lost[0]["path"], path, "{report}");
}

#[test]
fn in_place_only_what_differs_is_written() {
    let (sandbox, source, id) = captured(60);
    let original = sandbox.path("original");
    copy_folder(&source, &original).expect("a copy");
    let before = identities(&source);
    mutate(&source, 4);
    write(&source.join("extra/file"), "extra");
    let report = sandbox.json(&format!("restore {id} --in-place"));
    assert!(source.join("extra/file").exists(), "extra files stay");
    assert_eq!(report["removed"], 0, "{report}");
    let after = identities(&source);
    let kept = before.iter().filter(|(path, identity)| after.get(*path) == Some(identity)).count() as u64;
    assert!(kept >= 30 && report["unchanged"].as_u64().is_some_and(|n| n >= kept), "{kept} kept: {report}");
    let written: u64 = before
        .iter()
        .filter(|(path, identity)| after.get(*path) != Some(identity))
        .map(|(path, _)| fs::metadata(source.join(path)).expect("a file").len())
        .sum();
    assert!(report["bytes"].as_u64().is_some_and(|bytes| bytes <= written), "{written} differed: {report}");
    let report = sandbox.json(&format!("restore {id} --in-place --exact"));
    assert!(report["removed"].as_u64().is_some_and(|n| n > 0), "{report}");
    assert_eq!(report["bytes"], 0, "{report}");
    assert_same(&original, &source);
    let report = sandbox.json(&format!("restore {id} --in-place --exact"));
    assert_eq!((&report["removed"], &report["bytes"]), (&0.into(), &0.into()), "{report}");
}

/// A file that was cut from a tar is compared slice by slice: what is the same is not written again.
#[test]
fn in_place_a_tar_that_is_the_same_is_left_alone() {
    let sandbox = Sandbox::new();
    let (inner, source) = (sandbox.path("inner"), sandbox.path("source"));
    source_tree(&inner, 40, 8);
    fs::create_dir(&source).expect("a folder");
    let mut archive = tar::Builder::new(fs::File::create(source.join("files.tar")).expect("a file"));
    archive.append_dir_all("x", &inner).expect("an archive");
    archive.finish().expect("an archive");
    copy_folder(&inner, &source.join("beside")).expect("a copy");
    sandbox.init();
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    let before = identities(&source);
    let report = sandbox.json(&format!("restore {id} --in-place"));
    assert_eq!(report["bytes"], 0, "{report}");
    assert_eq!(identities(&source), before);

    let mut bytes = fs::read(source.join("files.tar")).expect("the archive");
    let original = bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write_same_time(&source.join("files.tar"), &bytes);
    let report = sandbox.json(&format!("restore {id} --in-place"));
    assert_eq!(report["bytes"], original.len(), "{report}");
    assert_eq!(fs::read(source.join("files.tar")).expect("the archive"), original);
}

#[test]
fn exact_never_removes_what_is_no_content() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("file"), "file");
    sandbox.must("init --repo source/late/repo", exit::DONE);
    let report = sandbox.json("create source --repo source/late/repo");
    let id = id_of(&report["snapshot"]).expect("an id");
    write(&source.join("late/other"), "other");
    write(&source.join("extra"), "extra");
    let mounted = Memory::mount(&source.join("disk/data"), 1 << 20);
    write(&source.join("disk/data/file"), "on another disk");
    let report = sandbox.json(&format!("restore {id} --in-place --exact --repo source/late/repo"));
    assert_eq!(report["removed"], 2, "extra and late/other, not what holds the repository or a disk: {report}");
    assert!(source.join("disk/data/file").exists() && !source.join("extra").exists());
    sandbox.must("check --read-data --repo source/late/repo", exit::DONE);
    sandbox.must(&format!("restore {id} --target target --repo source/late/repo"), exit::DONE);
    drop(mounted);
}

#[test]
fn exact_leaves_what_a_rule_left_out() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("file"), "file");
    write(&source.join("build/out.o"), "made again");
    write(&source.join("logs/today"), "a log");
    write(&source.join(".snapignore"), "logs/\n");
    sandbox.init();
    let report = sandbox.json("create source --exclude build");
    let id = id_of(&report["snapshot"]).expect("an id");
    let report = sandbox.json(&format!("diff {id} source"));
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");
    let socket = std::os::unix::net::UnixListener::bind(source.join("socket")).expect("a socket");
    write(&source.join("extra"), "extra");
    let report = sandbox.json(&format!("restore {id} --in-place --exact"));
    assert_eq!(report["removed"], 1, "{report}");
    for stays in ["build/out.o", "logs/today", "socket"] {
        assert!(source.join(stays).exists(), "{stays}");
    }
    drop(socket);
}

#[test]
fn a_folder_with_content_in_the_way_goes_only_with_exact() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("conf"), "then");
    write(&source.join("empty"), "then");
    std::os::unix::fs::symlink("conf", source.join("link")).expect("a link");
    sandbox.init();
    sandbox.create(&source);
    for name in ["conf", "empty", "link"] {
        fs::remove_file(source.join(name)).expect("a file");
    }
    write(&source.join("conf/precious"), "now");
    write(&source.join("link/precious"), "now");
    fs::create_dir(source.join("empty")).expect("a folder");
    let run = sandbox.must("restore latest --in-place", exit::FAILED);
    assert!(run.stdout.contains("conf is a folder with content here, which only --exact removes"), "{run}");
    assert!(source.join("conf/precious").exists() && source.join("link/precious").exists(), "{run}");
    assert_eq!(fs::read(source.join("empty")).expect("a file"), b"then", "an empty folder holds nothing");
    sandbox.must("restore latest --in-place --exact", exit::DONE);
    assert_eq!(fs::read(source.join("conf")).expect("a file"), b"then");
    assert!(source.join("link").is_symlink());
}

#[test]
fn exact_leaves_what_opens_the_repository() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("file"), "file");
    sandbox.init();
    sandbox.create(&source);
    // Both the default identity and the one that is named.
    write(&sandbox.home().join("extra"), "extra");
    fs::copy(sandbox.identity(), source.join("key.txt")).expect("a copy");
    let report = sandbox.json("--identity source/key.txt restore latest --in-place --exact");
    assert_eq!(report["removed"], 0, "{report}");
    let home = sandbox.home().display().to_string();
    let report = sandbox.json(&format!("restore latest --in-place --exact --target {home}"));
    assert!(report["removed"].as_u64().is_some_and(|removed| removed > 0), "{report}");
    assert!(!sandbox.home().join("extra").exists() && sandbox.identity().exists());
    sandbox.must("check --read-data", exit::DONE);
}

#[test]
fn an_incomplete_snapshot_removes_nothing() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("file"), "file");
    let mounted = Memory::mount(&source.join("data"), 1 << 20);
    sandbox.init();
    sandbox.must("create source", exit::INCOMPLETE);
    drop(mounted);
    write(&source.join("extra"), "extra");
    let run = sandbox.must("restore latest --in-place --exact", exit::USAGE);
    assert!(run.stderr.contains("incomplete") && source.join("extra").exists(), "{run}");
    let run = sandbox.must("restore latest --in-place", exit::DONE);
    assert!(run.stdout.contains("incomplete"), "{run}");
}

#[test]
fn single_paths_come_alone() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("conf/app.ini"), "ini");
    write(&source.join("conf/deep/more"), "more");
    write(&source.join("config"), "another");
    fs::create_dir_all(source.join("empty")).expect("a folder");
    symlink("conf/app.ini", source.join("link")).expect("a link");
    sandbox.init();
    sandbox.create(&source);
    let restored = |target: &str, wanted: &str, code: i32| {
        let run = sandbox.must(&format!("restore latest --target {target} {wanted}"), code);
        let mut found: Vec<String> =
            paths(&sandbox.path(target)).iter().map(|path| path.display().to_string()).collect();
        found.sort();
        (found.join(" "), run)
    };
    assert_eq!(restored("t1", "conf/app.ini", exit::DONE).0, "conf conf/app.ini");
    assert_eq!(restored("t2", "./conf/", exit::DONE).0, "conf conf/app.ini conf/deep conf/deep/more");
    assert_eq!(restored("t3", "link", exit::DONE).0, "link");
    assert_eq!(restored("t4", "empty config", exit::DONE).0, "config empty");
    for line in ["config nowhere", "conf/nowhere"] {
        let run = sandbox.must(&format!("restore latest --target t5 {line}"), exit::USAGE);
        assert!(run.stderr.contains("has nothing at") && !sandbox.path("t5").exists(), "{run}");
    }
    assert!(sandbox.must("restore latest --target t7 ../x", exit::USAGE).stderr.contains("../x"));
}

#[test]
fn a_lost_pack_costs_only_what_is_in_it() {
    for damage in ["missing", "flipped", "cut"] {
        let sandbox = Sandbox::new();
        let source = sandbox.path("source");
        fs::create_dir_all(&source).expect("a folder");
        fs::write(source.join("early"), Random::new(1).bytes(400_000)).expect("a file");
        sandbox.init();
        sandbox.create(&source);
        let first = packs(&sandbox);
        source_tree(&source.join("late"), 20, 2);
        let original = sandbox.path("original");
        let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
        copy_folder(&source, &original).expect("a copy");
        let size = |path: &&PathBuf| fs::metadata(sandbox.repo().join(path)).expect("a pack").len();
        let pack = sandbox.repo().join(first.iter().max_by_key(size).expect("a pack with content"));
        let mut bytes = fs::read(&pack).expect("a pack");
        fs::remove_file(&pack).expect("a removed pack");
        match damage {
            "flipped" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&pack, bytes).expect("a damaged pack");
            }
            "cut" => fs::write(&pack, &bytes[..bytes.len() / 2]).expect("a cut pack"),
            _ => {}
        }
        let run = sandbox.must(&format!("restore {id} --target target --json"), exit::DAMAGE);
        only_lost(&run.json(), "early");
        assert_eq!(run.json()["lost"][0]["damage"], true, "{run}");
        let text = sandbox.must(&format!("restore {id} --target target-text"), exit::DAMAGE);
        assert!(text.stdout.contains("damaged: early"), "{text}");
        let names: Vec<_> = fs::read_dir(sandbox.path("target")).expect("a folder").flatten().collect();
        assert_eq!(names.len(), 1, "something half is there: {names:?}");
        same(&original.join("late"), &sandbox.path("target/late")).unwrap_or_else(|text| panic!("{damage}: {text}"));
        // In place the old file stays as it is.
        fs::write(source.join("early"), "the present").expect("a file");
        only_lost(&sandbox.must(&format!("restore {id} --in-place --exact --json"), exit::DAMAGE).json(), "early");
        assert_eq!(fs::read_to_string(source.join("early")).ok().as_deref(), Some("the present"));
    }
}

#[test]
fn links_in_the_target_are_replaced_and_never_followed() {
    let (sandbox, source, id) = captured(12);
    let target = sandbox.path("target");
    sandbox.restore(&id, &target);
    let outside = sandbox.path("outside");
    write(&outside.join("file"), "outside");
    let file = paths(&source).into_iter().find(|path| source.join(path).is_file()).expect("a file");
    let folder = paths(&source).into_iter().find(|path| source.join(path).is_dir()).expect("a folder");
    fs::remove_file(target.join(&file)).expect("a file");
    symlink(outside.join("file"), target.join(&file)).expect("a link");
    fs::remove_dir_all(target.join(&folder)).expect("a folder");
    symlink(&outside, target.join(&folder)).expect("a link");
    symlink(&outside, target.join("extra")).expect("a link");
    sandbox.must(&format!("restore {id} --in-place --exact --target target"), exit::DONE);
    assert_same(&source, &target);
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 1, "something was written outside");
    assert_eq!(fs::read_to_string(outside.join("file")).ok().as_deref(), Some("outside"));
}

#[test]
fn what_is_no_place_to_restore_into_is_refused() {
    let (sandbox, source, id) = captured(3);
    let refused = |options: &str, said: &str| {
        let run = sandbox.must(&format!("restore {id} {options}"), exit::USAGE);
        assert!(run.stderr.contains(said), "{said:?} is not said: {run}");
    };
    write(&sandbox.path("full/file"), "x");
    refused("--target full", "is not empty");
    refused("--target source", "lies inside");
    refused("--target source/new/folder", "lies inside");
    symlink(&source, sandbox.path("link")).expect("a link");
    refused("--target link/below", "lies inside");
    refused("--target repo", "the repository");
    refused("--target repo/packs --in-place", "the repository");
    refused("", "where to");
    refused("--target new --exact", "--in-place");
    let run = sandbox.must(&format!("restore {id} --target full/file"), exit::FAILED);
    assert!(run.stderr.contains("full/file"), "{run}");
    assert!(!source.join("new").exists() && !sandbox.path("new").exists());
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn what_nobody_may_set_is_said() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    write(&source.join("owned"), "owned");
    write(&source.join("setuid"), "setuid");
    set_owner(&source.join("owned"), 1234, 2345);
    set_mode(&source.join("setuid"), 0o4755);
    sandbox.init();
    sandbox.create(&source);
    let user = Nobody::new(&sandbox);
    let run = user.run(&["restore", "latest", "--target", "target", "--json"]);
    let run = run.expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let report = run.json();
    assert_eq!(report["files"], 2, "{run}");
    let differences = report["differences"].as_array().expect("a list");
    let of = |attribute: &str| differences.iter().filter(|d| d["attribute"] == attribute).count();
    assert!(of("owner") > 0 && differences.len() >= 2, "{run}");
    let text = user.run(&["restore", "latest", "--target", "again"]);
    assert!(text.stdout.contains("not as captured") && text.stdout.contains("owned"), "{text}");
    assert_eq!(fs::read_to_string(sandbox.path("target/owned")).ok().as_deref(), Some("owned"));
}

/// The sync at the end does not tell what an earlier one was told.
#[test]
fn a_disk_that_refuses_what_was_written_ends_a_restore() {
    need!(need::strace());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).expect("a folder");
    fs::write(source.join("large"), Random::new(3).bytes(80 << 20)).expect("a file");
    sandbox.init();
    sandbox.create(&source);
    let point = Point { threads: Threads::Any, name: "syncfs".to_owned(), number: 1, text: String::new() };
    let args = restore_args("latest", &sandbox.path("target"));
    let (run, hit) = inject(&sandbox, &args, &point, "error=EIO").unwrap_or_else(|text| panic!("{text}"));
    assert!(hit.is_some(), "nothing was synced: {run}");
    let log = fs::read_to_string(sandbox.path("strace-inject")).expect("a log");
    // Each thread's first one is hit; that of the end is not even tried.
    assert_eq!(log.matches("(INJECTED)").count(), 1, "nothing was synced on the way: {log}");
    let run = run.expect(&[exit::FAILED]).unwrap_or_else(|text| panic!("{text}"));
    assert!(run.stderr.contains("make durable"), "{run}");
}
