//! In place: what is right is left alone, what an interrupted run has left goes, and a full disk ends it.

use crate::compare::{assert_same, paths};
use crate::need::{self, need};
use crate::snap::{self, Sandbox, WATCHDOG, exit, id_of};
use crate::trees::{Extras, Random, nasty_tree};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").ino()
}

fn with_links() -> Sandbox {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(source.join("folder")).expect("a folder");
    fs::write(source.join("a"), Random::new(1).bytes(300_000)).expect("a file");
    fs::write(source.join("alone"), "alone").expect("a file");
    for name in ["b", "folder/c"] {
        fs::hard_link(source.join("a"), source.join(name)).expect("a link");
    }
    sandbox.init();
    sandbox.create(&source);
    sandbox.must("restore latest --target target", exit::DONE);
    sandbox
}

#[test]
fn links_that_are_right_are_left_alone() {
    let sandbox = with_links();
    let target = sandbox.path("target");
    let before = inode(&target.join("a"));
    for line in ["restore latest --target target --in-place", "restore latest folder --target target --in-place"] {
        let report = sandbox.json(line);
        assert_eq!((report["bytes"].as_u64(), &report["files"]), (Some(0), &report["unchanged"]), "{line}: {report}");
        assert!(["a", "b", "folder/c"].iter().all(|name| inode(&target.join(name)) == before), "{line}: rewritten");
        assert_same(&sandbox.path("source"), &target);
    }
}

/// By inode and the time of its last change a capture knows what it need not read.
#[test]
fn what_is_right_already_is_not_touched() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    nasty_tree(&source, Extras::default());
    sandbox.init();
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    // Of the first one, what was made within a tick of the clock is read again.
    std::thread::sleep(std::time::Duration::from_millis(60));
    // And what has a time that is yet to come is read each time.
    let read = |report: &Value| report["stats"]["files_changed"].as_u64();
    let each_time = read(&sandbox.create(&source));
    let identities = || -> Vec<_> {
        let stat = |path: PathBuf| (fs::symlink_metadata(source.join(&path)).expect("it is there"), path);
        let all = paths(&source).into_iter().map(stat);
        all.map(|(stat, path)| (path, stat.ino(), stat.ctime(), stat.ctime_nsec())).collect()
    };
    let before = identities();
    sandbox.json(&format!("restore {id} --in-place --exact"));
    let touched: Vec<_> = before.iter().zip(identities()).filter(|(before, after)| *before != after).collect();
    assert!(touched.is_empty(), "{touched:?}");
    assert!(each_time.is_some_and(|files| files < 3), "{each_time:?}");
    assert_eq!(read(&sandbox.create(&source)), each_time);
}

#[test]
fn links_that_are_not_those_of_the_snapshot_are_made_anew() {
    type Break = fn(&Path);
    let breaks: [(&str, Break); 5] = [
        ("a name outside", |target| fs::hard_link(target.join("a"), target.with_file_name("outside")).expect("a link")),
        ("a name too many", |target| fs::hard_link(target.join("a"), target.join("extra")).expect("a link")),
        ("a copy", |target| {
            fs::remove_file(target.join("b"))
                .and_then(|()| fs::copy(target.join("a"), target.join("b")))
                .expect("a copy");
        }),
        ("another content", |target| fs::write(target.join("folder/c"), "changed").expect("a file")),
        ("linked with what stands alone", |target| {
            fs::remove_file(target.join("alone")).expect("a file");
            fs::hard_link(target.join("a"), target.join("alone")).expect("a link");
        }),
    ];
    for (case, break_it) in breaks {
        let sandbox = with_links();
        let target = sandbox.path("target");
        break_it(&target);
        sandbox.must("restore latest --target target --in-place --exact", exit::DONE);
        assert_same(&sandbox.path("source"), &target);
        assert_eq!(fs::metadata(target.join("a")).expect("a file").nlink(), 3, "{case}");
    }
}

#[test]
fn what_an_interrupted_restore_has_left_is_not_captured_and_goes() {
    let sandbox = with_links();
    let (source, target) = (sandbox.path("source"), sandbox.path("target"));
    let left = ".snap-restore-0123456789abcdef-7";
    for path in [source.join("folder").join(left), target.join("folder").join(left), target.join(left)] {
        fs::write(path, "half").expect("a file");
    }
    // Names that only look like it are somebody's own.
    for path in [source.join(".snap-restore-notes"), target.join(".snap-restore-notes")] {
        fs::write(path, "mine").expect("a file");
    }
    let report = sandbox.create(&source);
    assert!(snap::warns(&report, left, "interrupted restore"), "{report}");
    let listing = sandbox.must("show latest --files", exit::DONE).stdout;
    assert!(!listing.contains(left) && listing.contains(".snap-restore-notes"), "{listing}");
    sandbox.must("restore latest --target target --in-place", exit::DONE);
    assert!(!target.join(left).exists() && !target.join("folder").join(left).exists());
    assert_eq!(fs::read(target.join(".snap-restore-notes")).expect("a file"), b"mine");
}

#[test]
fn a_killed_restore_leaves_one_hidden_folder_that_goes_with_the_next() {
    need!(need::strace());
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.path("source"), sandbox.path("target"));
    for number in 0..60 {
        let folder = source.join(format!("folder-{}", number % 7));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("file-{number}")), format!("content {number}")).expect("a file");
    }
    sandbox.init();
    let first = sandbox.create(&source)["snapshot"]["id"].as_str().expect("an id").to_owned();
    let mut command = sandbox.command("strace");
    command.args(["-f", "-qq", "-o", "calls", "-e", "inject=fchmod:signal=SIGKILL:when=9"]).arg(snap::program());
    command.args(["restore", "latest", "--target", "target"]);
    snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"));
    let there = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let left = there(&target);
    assert!(left.len() == 1 && left[0].starts_with(".snap-restore-tree-"), "{left:?}");
    assert!(!there(&target.join(&left[0])).is_empty(), "it was killed before it did anything");
    let run = sandbox.must("restore latest --target target", exit::USAGE);
    assert!(run.stderr.contains("an interrupted restore left it"), "{run}");
    let report = sandbox.create(&target);
    assert!(snap::warns(&report, &left[0], "interrupted restore"), "{report}");
    assert_eq!(report["stats"]["files"], 0, "{report}");
    sandbox.must(&format!("restore {first} --target target --in-place"), exit::DONE);
    assert_same(&source, &target);
}

#[test]
fn holes_that_are_there_are_not_read_again() {
    need!(need::strace());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).expect("a folder");
    let file = fs::File::create(source.join("sparse")).expect("a file");
    file.set_len(4 << 30).expect("a size");
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 1 << 30).expect("a write");
    drop(file);
    sandbox.init();
    sandbox.create(&source);
    sandbox.must("restore latest --target target", exit::DONE);
    let mut command = sandbox.command("strace");
    command.args(["-f", "-c", "-e", "trace=pread64", "-o", "calls"]).arg(snap::program());
    command.args(["restore", "latest", "--target", "target", "--in-place", "--json"]);
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(run.json()["unchanged"], 1, "{run}");
    let calls = fs::read_to_string(sandbox.path("calls")).expect("calls");
    let line = calls.lines().find(|line| line.ends_with("pread64"));
    let count: u64 = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(0);
    assert!(count < 2000, "{count} reads of a file that is nearly all hole:\n{calls}");
}

#[test]
fn a_full_disk_ends_a_restore_at_the_first_file() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).expect("a folder");
    for i in 0..200 {
        fs::write(source.join(format!("file-{i}")), Random::new(i).bytes(100_000)).expect("a file");
    }
    sandbox.init();
    sandbox.create(&source);
    let target = sandbox.path("small");
    fs::create_dir(&target).expect("a folder");
    let mut mount = sandbox.command("mount");
    mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs", "small"]);
    snap::run(mount, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    let run = sandbox.snap(&["restore", "latest", "--target", "small"]);
    let mut unmount = sandbox.command("umount");
    unmount.arg("small");
    snap::run(unmount, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(run.code, exit::FAILED, "{run}");
    assert_eq!(run.stderr.matches("No space left").count(), 1, "{run}");
    assert!(run.stderr.contains("--in-place") && !run.stderr.contains("published"), "{run}");
    assert!(run.stdout.is_empty(), "{run}");
}
