//! A check trusts nothing, changes nothing, lists all that is wrong, and remembers what it has read.

use crate::snap::{Run, Sandbox, exit};
use crate::trees::{Random, set_mode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A repository with so many snapshots, each with packs of its own.
fn repository(snapshots: u64) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("source")).expect("a folder");
    sandbox.init();
    for i in 0..snapshots {
        fs::write(sandbox.path(&format!("source/file-{i}")), Random::new(i).bytes(300_000)).expect("a file");
        sandbox.create(&sandbox.path("source"));
    }
    sandbox
}

fn of_kind(sandbox: &Sandbox, folder: &str) -> Vec<PathBuf> {
    sandbox.objects().into_iter().filter(|path| path.starts_with(folder)).collect()
}

/// Each object with its size, inode and times.
fn state(sandbox: &Sandbox) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let stat = |path: &PathBuf| fs::metadata(sandbox.repo().join(path)).expect("an object");
    let one = |path: PathBuf| {
        let found = stat(&path);
        (path, (found.len(), found.ino(), found.mtime_nsec(), found.ctime_nsec()))
    };
    sandbox.objects().into_iter().map(one).collect()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    set_mode(path, 0o600);
    fs::write(path, bytes).expect("an object");
}

#[track_caller]
fn names(run: &Run, object: &Path, severity: &str) {
    let problems = run.problems().unwrap_or_else(|text| panic!("{text}"));
    let object = object.display().to_string();
    let named = problems.iter().any(|line| line.contains(&object) && line.starts_with(&format!("\"{severity}\"")));
    assert!(named, "{object} is not named: {run}");
}

#[test]
fn nothing_is_changed_and_everything_wrong_is_listed() {
    let sandbox = repository(4);
    let before = state(&sandbox);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(state(&sandbox), before, "a check changed the repository");
    let (packs, indexes) = (of_kind(&sandbox, "packs"), of_kind(&sandbox, "index"));
    let place = |path: &PathBuf| sandbox.repo().join(path);
    fs::remove_file(place(&packs[0])).expect("a pack");
    flip(&place(&packs[1]));
    flip(&place(&packs[2]));
    flip(&place(&indexes[0]));
    fs::write(sandbox.repo().join("packs/notes.txt"), "x").expect("a file");
    fs::write(sandbox.repo().join("snapshots/README"), "x").expect("a file");
    let before = state(&sandbox);
    let run = sandbox.must("check --read-data --json", exit::DAMAGE);
    for object in [&packs[1], &packs[2], &indexes[0]] {
        names(&run, object, "damage");
    }
    for foreign in ["packs/notes.txt", "snapshots/README"] {
        names(&run, Path::new(foreign), "note");
    }
    // The index that lists the removed pack may be the damaged one: then a snapshot misses it.
    let short = packs[0].file_name().and_then(|name| name.to_str()).expect("a name")[..8].to_owned();
    assert!(run.stdout.contains(&short), "{} is not named: {run}", packs[0].display());
    assert_eq!(state(&sandbox), before, "a check changed the repository");
    let text = sandbox.must("check --read-data", exit::DAMAGE).stdout;
    assert!(text.lines().filter(|line| line.starts_with("damage: ")).count() >= 4, "{text}");
}

#[test]
fn what_harms_nothing_is_noted() {
    let sandbox = repository(1);
    fs::write(sandbox.repo().join("packs/notes.txt"), "x").expect("a file");
    let index = of_kind(&sandbox, "index").remove(0);
    let run = sandbox.must("check --json", exit::DONE);
    names(&run, Path::new("packs/notes.txt"), "note");
    // Without its index a pack is unknown, and the snapshot that needs it is lost.
    fs::remove_file(sandbox.repo().join(index)).expect("an index");
    let run = sandbox.must("check --json", exit::DAMAGE);
    for pack in of_kind(&sandbox, "packs").iter().filter(|path| !path.ends_with("notes.txt")) {
        names(&run, pack, "note");
    }
    names(&run, &of_kind(&sandbox, "snapshots")[0], "damage");
}

#[test]
fn a_snapshot_that_somebody_hides_is_missed() {
    let sandbox = repository(3);
    let list = sandbox.list();
    let id = |at: usize| list[at]["id"].as_str().expect("an id").to_owned();
    let object = |at: usize| sandbox.repo().join("snapshots").join(id(at));
    let newest = fs::read(object(2)).expect("a manifest");
    fs::remove_file(object(2)).expect("a manifest");
    let run = sandbox.must("check --json", exit::DAMAGE);
    names(&run, &Path::new("snapshots").join(id(2)), "damage");
    assert!(sandbox.must("list", exit::DAMAGE).stdout.contains("is gone"));
    assert!(sandbox.must(&format!("restore {} --target t", &id(2)[..10]), exit::DAMAGE).stderr.contains("is gone"));
    fs::write(object(2), newest).expect("a manifest");
    sandbox.must("check", exit::DONE);
    // One in the middle is missed on a machine that has never seen it.
    fs::remove_file(object(1)).expect("a manifest");
    fs::remove_dir_all(sandbox.cache()).expect("a catalog");
    let run = sandbox.must("check --json", exit::DAMAGE);
    names(&run, &Path::new("snapshots").join(id(2)), "damage");
}

#[test]
fn a_share_is_read_each_time_until_all_was() {
    let sandbox = repository(6);
    let packs = of_kind(&sandbox, "packs").len() as u64;
    let number = |report: &Value, field: &str| report[field].as_u64().unwrap_or_else(|| panic!("{field}: {report}"));
    let none = sandbox.json("check");
    assert_eq!(
        (number(&none, "packs"), number(&none, "packs_read"), number(&none, "packs_never_read")),
        (packs, 0, packs)
    );
    assert!(none["oldest_unread_seconds"].is_null(), "{none}");
    let half = sandbox.json("check --read-data=50%");
    let read = number(&half, "packs_read");
    assert!(read > 0 && read < packs && number(&half, "packs_never_read") == packs - read, "{half}");
    assert!(half["oldest_unread_seconds"].is_null(), "{half}");
    let mut never = packs - read;
    for _ in 0..packs {
        let report = sandbox.json("check --read-data=20%");
        let left = number(&report, "packs_never_read");
        assert!(left < never || never == 0, "those that were never read come first: {report}");
        never = left;
    }
    assert_eq!(never, 0);
    let report = sandbox.json("check");
    assert!(number(&report, "oldest_unread_seconds") < 600, "{report}");
    // Nothing is due, then everything is.
    assert_eq!(number(&sandbox.json("check --max-age 1d"), "packs_read"), 0);
    fs::write(sandbox.path("source/new"), Random::new(99).bytes(300_000)).expect("a file");
    sandbox.create(&sandbox.path("source"));
    let report = sandbox.json("check --max-age 1d");
    assert_eq!(number(&report, "packs_read"), of_kind(&sandbox, "packs").len() as u64 - packs, "{report}");
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(number(&sandbox.json("check --max-age 1s"), "packs_read"), number(&report, "packs"));
    let bytes = sandbox.json("check --read-data=1MB");
    assert!((300_000..1_400_000).contains(&number(&bytes, "bytes_read")), "{bytes}");
    for wrong in ["--read-data=0%", "--read-data=x", "--max-age 30", "--max-age soon"] {
        sandbox.must(&format!("check {wrong}"), exit::USAGE);
    }
    // Damage is found when its turn comes, and is not forgotten by reading the others.
    let pack = of_kind(&sandbox, "packs").remove(0);
    flip(&sandbox.repo().join(&pack));
    let run = sandbox.must("check --read-data --json", exit::DAMAGE);
    names(&run, &pack, "damage");
    let run = sandbox.must("check --max-age 1d --json", exit::DAMAGE);
    names(&run, &pack, "damage");
}

#[test]
fn a_budget_ends_the_reading_and_the_next_check_goes_on() {
    let sandbox = repository(4);
    let packs = of_kind(&sandbox, "packs").len() as u64;
    let counts = |run: &Run| {
        let report = run.json();
        ["packs_read", "packs_never_read", "packs_overdue"].map(|field| report[field].as_u64().expect("a number"))
    };
    let share = |run: &Run| run.json()["share_read"].as_f64().expect("a share");
    // No time, no pack; and what was asked for, that all is read within a month, is not so.
    let run = sandbox.must("check --max-age 30d --budget 0s --json", exit::INCOMPLETE);
    assert_eq!((counts(&run), share(&run)), ([0, packs, packs], 0.0), "{run}");
    let text = sandbox.must("check --max-age 30d --budget 0s", exit::INCOMPLETE).stdout;
    assert!(text.contains(&format!("{packs} packs are overdue: 0 % of the bytes")), "{text}");
    // Without an age nothing was promised.
    let run = sandbox.must("check --budget 0s --json", exit::DONE);
    assert_eq!(counts(&run), [0, packs, 0], "{run}");
    // A byte is a pack: the one that was begun is read whole, and those come first that never were.
    let mut before = 0.0;
    for read in 1..=packs {
        let code = if read < packs { exit::INCOMPLETE } else { exit::DONE };
        let run = sandbox.must("check --max-age 30d --budget 1B --json", code);
        assert_eq!(counts(&run), [1, packs - read, packs - read], "{run}");
        assert!(share(&run) > before && (share(&run) == 1.0) == (read == packs), "{run}");
        before = share(&run);
    }
    let run = sandbox.must("check --max-age 30d --budget 1h --json", exit::DONE);
    assert_eq!(counts(&run), [0, 0, 0], "{run}");
    assert!(sandbox.must("check", exit::DONE).stdout.contains("100 % of the bytes were read whole"));
    // Damage is the answer before anything else, and what is known to be damaged is read whatever the budget.
    let pack = of_kind(&sandbox, "packs").remove(0);
    flip(&sandbox.repo().join(&pack));
    sandbox.must("check --read-data", exit::DAMAGE);
    let run = sandbox.must("check --max-age 30d --budget 0s --json", exit::DAMAGE);
    names(&run, &pack, "damage");
    assert_eq!(counts(&run), [1, 1, 1], "{run}");
    for wrong in ["--budget 20", "--budget soon", "--budget"] {
        sandbox.must(&format!("check {wrong}"), exit::USAGE);
    }
}

/// A reading is of bytes in one place: the same names elsewhere are other bytes.
#[test]
fn what_was_read_of_one_copy_says_nothing_of_another() {
    let sandbox = repository(2);
    sandbox.json("check --read-data");
    let copy = sandbox.path("copy");
    crate::snap::copy_folder(&sandbox.repo(), &copy).expect("a copy");
    let pack = of_kind(&sandbox, "packs").remove(0);
    set_mode(&copy.join(&pack), 0o600);
    flip(&copy.join(&pack));
    let at_copy = |line: &str| format!("{line} --repo {}", copy.display());
    let status = sandbox.json(&at_copy("status"));
    assert_eq!((&status["share_read"], &status["last_check"]), (&0.0.into(), &Value::Null), "{status}");
    let run = sandbox.must(&at_copy("check --max-age 30d --json"), exit::DAMAGE);
    names(&run, &pack, "damage");
    // The original is as sound as it was, and its readings count.
    let report = sandbox.json("check --max-age 30d");
    assert_eq!((&report["packs_read"], &report["packs_never_read"]), (&0.into(), &0.into()), "{report}");
    // A copy that is put in its place is read anew.
    fs::rename(sandbox.repo(), sandbox.path("old")).expect("a folder");
    fs::rename(&copy, sandbox.repo()).expect("a folder");
    let run = sandbox.must("check --max-age 30d --json", exit::DAMAGE);
    names(&run, &pack, "damage");
}

#[test]
fn a_reading_of_the_future_does_not_count() {
    let sandbox = repository(1);
    let packs = sandbox.json("check --read-data")["packs"].clone();
    assert_eq!(sandbox.json("check --max-age 1d")["packs_read"], 0);
    let folder = fs::read_dir(sandbox.cache()).expect("a cache").next().expect("a catalog").expect("a catalog").path();
    let connection = rusqlite::Connection::open(folder.join("catalog.db")).expect("a catalog");
    connection.execute("UPDATE reading SET at = at + 100 * 365 * 86400", []).expect("an update");
    drop(connection);
    let report = sandbox.json("check");
    assert_eq!((&report["packs_never_read"], &report["oldest_unread_seconds"]), (&packs, &Value::Null), "{report}");
    assert_eq!(sandbox.json("check --max-age 1d")["packs_read"], packs);
    assert_eq!(sandbox.json("check --max-age 1d")["packs_read"], 0);
}

#[test]
fn a_copy_that_is_older_is_no_damage() {
    let sandbox = repository(2);
    let copy = sandbox.path("copy");
    crate::snap::copy_folder(&sandbox.repo(), &copy).expect("a copy");
    fs::write(sandbox.path("source/later"), "later").expect("a file");
    sandbox.create(&sandbox.path("source"));
    let at_copy = |line: &str| format!("{line} --repo {}", copy.display());
    sandbox.must(&at_copy("check --read-data"), exit::DONE);
    sandbox.must(&at_copy("list"), exit::DONE);
    // Where it has been seen it is missed, until an owner says that it was meant.
    let newest = sandbox.list()[2]["id"].as_str().expect("an id").to_owned();
    fs::remove_file(sandbox.repo().join("snapshots").join(&newest)).expect("a manifest");
    assert!(sandbox.must("check", exit::DAMAGE).stdout.contains("snap forget ID"));
    sandbox.must(&format!("forget {}", &newest[..12]), exit::DONE);
    sandbox.must("check", exit::DONE);
    sandbox.must("list", exit::DONE);
    sandbox.create(&sandbox.path("source"));
    fs::remove_dir_all(sandbox.cache()).expect("a catalog");
    sandbox.must("check --read-data", exit::DONE);
}
