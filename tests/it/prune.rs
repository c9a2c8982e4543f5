//! Pruning: what nobody needs goes in two steps, and nothing else ever does.

use crate::forget::{capture, history, listed};
use crate::inject::ends_anywhere;
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, exit, id_of};
use crate::trees::set_mode;
use crate::work::heavy;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

fn packs(sandbox: &Sandbox) -> Vec<PathBuf> {
    sandbox.objects().into_iter().filter(|path| path.starts_with("packs")).collect()
}

fn number(report: &Value, field: &str) -> u64 {
    report.pointer(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {field} in {report}"))
}

/// A repository whose source lost and got a file with each capture, so that old packs are needed by
/// old snapshots alone.
fn churned(count: u64) -> (Sandbox, Vec<String>) {
    let (sandbox, mut ids) = history(1);
    for i in 1..count {
        fs::remove_file(sandbox.path("source").join(format!("file-{}", i - 1))).expect("a file");
        ids.push(capture(&sandbox, i));
    }
    (sandbox, ids)
}

#[test]
fn what_was_forgotten_goes_in_two_steps_and_the_rest_stays() {
    let (sandbox, ids) = churned(6);
    let before = packs(&sandbox);
    assert_eq!(number(&sandbox.json("prune"), "/marked/packs"), 0);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    let dry = sandbox.json("prune --dry-run");
    assert_eq!(number(&dry, "/marked/snapshots"), 5);
    assert!(number(&dry, "/marked/bytes") >= 400_000, "{dry}");
    let run = sandbox.must("prune", exit::FAILED);
    assert!(run.stdout.contains("--yes") && packs(&sandbox) == before, "{run}");
    let marked = sandbox.json("prune --yes");
    assert_eq!(marked["marked"], dry["marked"]);
    // Nothing has gone, and nothing goes before its time.
    let waiting = sandbox.json("prune");
    assert_eq!((&waiting["waiting"], number(&waiting, "/deleted/packs")), (&dry["marked"], 0));
    assert_eq!(packs(&sandbox), before);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    sandbox.must(&format!("undelete {}", ids[4]), exit::DONE);
    let deleted = sandbox.json("prune --delay 0s");
    assert_eq!(number(&deleted, "/deleted/snapshots"), 4);
    assert_eq!(before.len() - packs(&sandbox).len(), number(&deleted, "/deleted/packs") as usize);
    assert!(number(&deleted, "/deleted/bytes") >= 300_000, "{deleted}");
    assert_eq!(listed(&sandbox), ids[4..]);
    for _ in 0..2 {
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
        sandbox.restores_to(&ids[5], &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
        sandbox.must(&format!("restore {} --target t", ids[4]), exit::DONE);
        fs::remove_dir_all(sandbox.path("t")).expect("a target");
        // On a machine that has seen nothing, the removed ones are no gap in the chain.
        let _ = fs::remove_dir_all(sandbox.cache());
    }
    assert!(sandbox.objects().iter().all(|path| !path.starts_with("marks")), "{:?}", sandbox.objects());
    let run = sandbox.must(&format!("undelete {}", ids[0]), exit::USAGE);
    assert!(run.stderr.contains("has been removed"), "{run}");
    // The next one follows the chain, and what was deleted is stored anew where it comes back.
    for i in 0..3 {
        capture(&sandbox, i);
    }
    sandbox.restores_to("latest", &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn one_command_forgets_and_prunes() {
    let (sandbox, ids) = churned(8);
    let before = packs(&sandbox);
    let line = "forget --keep-last 6 --prune --json";
    let dry = sandbox.json("forget --keep-last 6 --prune --dry-run");
    assert_eq!((number(&dry, "/forgotten"), number(&dry, "/prune/marked/snapshots")), (2, 2));
    assert_eq!((listed(&sandbox), packs(&sandbox)), (ids.clone(), before.clone()));
    let done = sandbox.must(line, exit::DONE).json();
    assert_eq!(done["prune"]["marked"], dry["prune"]["marked"]);
    assert_eq!((listed(&sandbox), packs(&sandbox)), (ids[2..].to_vec(), before.clone()));
    let deleted = sandbox.json("prune --delay 0s");
    assert_eq!(before.len() - packs(&sandbox).len(), number(&deleted, "/deleted/packs") as usize);
    // Too much at once, and something that looks wrong: nothing is pruned in either case.
    let run = sandbox.must("forget --keep-last 1 --prune", exit::FAILED);
    assert!(run.stdout.contains("5 snapshots forgotten") && run.stdout.contains("nothing was done"), "{run}");
    fs::remove_dir_all(sandbox.path("source")).expect("a folder");
    fs::create_dir(sandbox.path("source")).expect("a folder");
    sandbox.create(&sandbox.path("source"));
    let run = sandbox.must("forget --keep-last 1 --prune", exit::FAILED);
    assert!(run.stdout.contains("nothing was pruned: something looks wrong"), "{run}");
    sandbox.must("forget --keep-last 1 --prune --yes", exit::DONE);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn nothing_is_deleted_unless_everything_is_known() {
    let (sandbox, ids) = churned(4);
    sandbox.must(&format!("forget {}", ids[0]), exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    let object = |folder: &str, name: &str| sandbox.repo().join(folder).join(name);
    let away = sandbox.path("away");
    for (hidden, seen) in [(&ids[1], true), (&ids[3], true), (&ids[1], false), (&ids[3], false)] {
        let path = object("snapshots", hidden);
        fs::rename(&path, &away).expect("a manifest");
        if !seen {
            fs::remove_dir_all(sandbox.cache()).expect("a cache");
            fs::create_dir_all(sandbox.cache()).expect("a cache");
        }
        let run = sandbox.must("prune --yes --delay 0s", exit::FAILED);
        assert!(run.stderr.contains("nothing was deleted"), "{run}");
        fs::rename(&away, &path).expect("a manifest");
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    }
    // A manifest that is damaged, an index object that is damaged, no manifest at all.
    let index = sandbox.objects().into_iter().find(|path| path.starts_with("index")).expect("an index object");
    for path in [object("snapshots", &ids[2]), sandbox.repo().join(index)] {
        let sound = fs::read(&path).expect("an object");
        let mut damaged = sound.clone();
        damaged[sound.len() / 2] ^= 1;
        let write = |bytes: &[u8]| {
            fs::remove_file(&path).expect("an object");
            fs::write(&path, bytes).expect("an object");
            fs::remove_dir_all(sandbox.cache()).expect("a cache");
        };
        write(&damaged);
        let run = sandbox.snap(&["prune", "--yes", "--delay", "0s"]);
        assert!([exit::FAILED, exit::DAMAGE].contains(&run.code), "{run}");
        write(&sound);
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    }
    fs::rename(sandbox.repo().join("snapshots"), &away).expect("a folder");
    fs::create_dir(sandbox.repo().join("snapshots")).expect("a folder");
    sandbox.must("prune --yes --delay 0s", exit::FAILED);
    fs::remove_dir_all(sandbox.cache()).expect("a cache");
    sandbox.must("prune --yes --delay 0s", exit::FAILED);
    fs::remove_dir(sandbox.repo().join("snapshots")).expect("a folder");
    // A folder that is missing is no empty one.
    sandbox.must("prune --yes --delay 0s", exit::FAILED);
    fs::rename(&away, sandbox.repo().join("snapshots")).expect("a folder");
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(sandbox.json("list")["forgotten"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_capture_builds_nothing_on_what_is_marked() {
    let (sandbox, ids) = churned(3);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    // The content of the marked packs comes back before they go.
    let back = capture(&sandbox, 0);
    sandbox.must("prune --yes --delay 0s", exit::DONE);
    let _ = fs::remove_dir_all(sandbox.cache());
    assert_eq!(listed(&sandbox), [ids[2].clone(), back.clone()]);
    sandbox.restores_to(&back, &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn many_index_objects_become_few() {
    let (sandbox, _) = churned(36);
    let indexes = || sandbox.objects().iter().filter(|path| path.starts_with("index")).count();
    assert_eq!(indexes(), 36);
    let dry = sandbox.json("prune --repack-below 0% --dry-run");
    assert_eq!((number(&dry, "/indexes_merged"), indexes()), (35, 36));
    // Nothing has to go for that.
    let report = sandbox.json("prune --repack-below 0%");
    assert_eq!((number(&report, "/indexes_merged"), indexes()), (35, 1));
    assert_eq!((number(&report, "/marked/packs"), number(&report, "/deleted/packs")), (0, 0));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    sandbox.restores_to("latest", &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_prune_that_ends_anywhere_is_gone_on_with_by_the_next() {
    need!(need::strace());
    let _alone = heavy();
    let (sandbox, ids) = churned(4);
    sandbox.must("forget --keep-last 2 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    let args: Vec<OsString> = ["prune", "--delay", "0s", "--json"].iter().map(OsString::from).collect();
    ends_anywhere(&sandbox, &args, |sandbox| {
        sandbox.checks_clean()?;
        for id in &ids[2..] {
            let target = sandbox.path("t");
            sandbox.try_restore(id, &target)?;
            fs::remove_dir_all(&target).map_err(|error| error.to_string())?;
        }
        sandbox.expect(&args, &[exit::DONE])?;
        sandbox.checks_clean()?;
        let marks = sandbox.objects().into_iter().filter(|path| path.starts_with("marks")).count();
        let left: Vec<String> = sandbox.try_list()?.iter().map(id_of).collect::<Result<_, _>>()?;
        // The mark of a run that was killed could be of one that goes on: it stays for an hour at the least.
        if marks > 1 || left != ids[2..] {
            return Err(format!("{marks} marks are left, and the snapshots {left:?}"));
        }
        sandbox.restores_to(&ids[3], &sandbox.path("source"))
    });
}

/// Changes the middle byte of an object.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    set_mode(path, 0o600);
    fs::write(path, bytes).expect("an object");
}

#[test]
fn a_manifest_that_is_damaged_in_the_store_hides_behind_no_cache() {
    for truncated in [false, true] {
        let (sandbox, ids) = churned(3);
        let newest = sandbox.repo().join("snapshots").join(&ids[2]);
        let sound = fs::read(&newest).expect("a manifest");
        flip(&newest);
        if truncated {
            fs::write(&newest, "").expect("a manifest");
        }
        // It counts for nothing: with it as the one that stays, all would be lost.
        let run = sandbox.must("forget --keep-last 1", exit::FAILED);
        assert!(run.stdout.contains("snap repair --from") && run.stdout.contains(&ids[2][..8]), "{run}");
        sandbox.must(&format!("forget {} {}", ids[0], ids[1]), exit::USAGE);
        sandbox.must(&format!("forget {}", ids[0]), exit::DONE);
        let run = sandbox.must("prune --yes", exit::FAILED);
        assert!(run.stderr.contains("nothing was deleted") && run.stderr.contains(&ids[2][..8]), "{run}");
        assert!(run.stderr.contains("snap repair --from") && run.stderr.contains("snap forget"), "{run}");
        sandbox.must("prune --dry-run", exit::FAILED);
        // What is marked already stays too.
        fs::write(&newest, &sound).expect("a manifest");
        sandbox.must("prune --yes", exit::DONE);
        flip(&newest);
        let packs_before = packs(&sandbox);
        sandbox.must("prune --yes --delay 0s", exit::FAILED);
        assert_eq!(packs(&sandbox), packs_before);
        // A listing says what a check has found, until it is mended.
        sandbox.must("check", exit::DAMAGE);
        let run = sandbox.must("list --json", exit::DAMAGE);
        assert_eq!(run.json()["unreadable"][0]["id"], ids[2].as_str(), "{run}");
        fs::write(&newest, &sound).expect("a manifest");
        assert_eq!(sandbox.list().len(), 2);
        flip(&newest);
        // Somebody may give it up by name.
        sandbox.must(&format!("forget {}", ids[2]), exit::DONE);
        sandbox.must("prune --yes --delay 0s", exit::DONE);
        sandbox.must("prune --yes --delay 0s", exit::DONE);
        fs::remove_dir_all(sandbox.cache()).expect("a cache");
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
        sandbox.must(&format!("restore {} --target t", ids[1]), exit::DONE);
    }
}

#[test]
fn what_stays_and_is_damaged_takes_nothing_whole_with_it() {
    let (sandbox, ids) = churned(3);
    let before = packs(&sandbox);
    let own = |id: &str| {
        let needs = sandbox.json(&format!("show {id}"))["manifest"]["needs"].clone();
        let packs =
            needs.as_array().expect("needs").iter().map(|need| need["pack"].as_str().expect("a pack").to_owned());
        packs.collect::<Vec<String>>()
    };
    // What the newest alone needs is lost: content and its tree.
    let older = [own(&ids[0]), own(&ids[1])].concat();
    for pack in own(&ids[2]).into_iter().filter(|pack| !older.contains(pack)) {
        fs::remove_file(sandbox.repo().join("packs").join(&pack[..2]).join(&pack)).expect("a pack");
    }
    let left = packs(&sandbox);
    assert!(left.len() < before.len());
    sandbox.must("forget --keep-last 1", exit::DONE);
    for delay in ["", " --delay 0s"] {
        let run = sandbox.must(&format!("prune --yes{delay}"), exit::FAILED);
        assert!(run.stderr.contains(&ids[2][..8]) && run.stderr.contains("missing or damaged"), "{run}");
        assert!(run.stderr.contains("snap repair") && run.stderr.contains("--despite-damage"), "{run}");
    }
    assert_eq!(packs(&sandbox), left);
    let dry = sandbox.json("prune --dry-run --despite-damage");
    assert_eq!(number(&dry, "/marked/snapshots"), 2, "{dry}");
    sandbox.must(&format!("undelete {} {}", ids[0], ids[1]), exit::DONE);
    // A policy asks as soon as a check has found it.
    sandbox.must("check", exit::DAMAGE);
    assert!(sandbox.must("list", exit::DONE).stdout.contains("found damaged by the last check"));
    let run = sandbox.must("forget --keep-last 1", exit::FAILED);
    assert!(run.stdout.contains("the last check found damage in it"), "{run}");
    // With a new snapshot of what is still there all is whole again.
    sandbox.create(&sandbox.path("source"));
    sandbox.must("check", exit::DONE);
    sandbox.must("forget --keep-last 2", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
}
