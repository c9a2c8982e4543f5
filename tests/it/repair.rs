//! Repairing: what is damaged comes back from a replica, from the packs themselves, from live files; what
//! cannot is named; and wherever a repair ends, nothing that could be restored before cannot be.

use crate::forget::history;
use crate::inject::{inject, points, record};
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, copy_folder, exit};
use crate::trees::set_mode;
use crate::work::{assert_none, heavy, on_two, sample, sweeps_all};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A way to spoil a repository: its name, and what it does to the folder.
type Damage = (&'static str, fn(&Path));

fn objects(repo: &Path, folder: &str) -> Vec<PathBuf> {
    let below = crate::compare::paths(&repo.join(folder)).into_iter().map(|path| repo.join(folder).join(path));
    let mut found: Vec<PathBuf> = below.filter(|path| path.is_file()).collect();
    found.sort();
    found
}

fn change(path: &Path, with: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("an object");
    with(&mut bytes);
    set_mode(path, 0o600);
    fs::write(path, bytes).expect("an object");
}

/// The pack with most in it.
fn biggest(repo: &Path) -> PathBuf {
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    objects(repo, "packs").into_iter().max_by_key(size).expect("a pack")
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn damages() -> Vec<Damage> {
    vec![
        ("a pack is gone", |repo| fs::remove_file(biggest(repo)).expect("a pack")),
        ("a pack is changed", |repo| change(&biggest(repo), |bytes| flip(bytes))),
        ("a pack is cut", |repo| change(&biggest(repo), |bytes| bytes.truncate(bytes.len() / 2))),
        ("all packs are gone", |repo| {
            objects(repo, "packs").iter().for_each(|path| fs::remove_file(path).expect("a pack"))
        }),
        ("all packs are changed", |repo| {
            objects(repo, "packs").iter().for_each(|path| change(path, |bytes| flip(bytes)))
        }),
        ("the index is gone", |repo| {
            objects(repo, "index").iter().for_each(|path| fs::remove_file(path).expect("an object"))
        }),
        ("the index is changed", |repo| {
            objects(repo, "index").iter().for_each(|path| change(path, |bytes| flip(bytes)))
        }),
        ("a manifest is gone", |repo| fs::remove_file(&objects(repo, "snapshots")[0]).expect("a manifest")),
        ("another manifest is gone", |repo| fs::remove_file(&objects(repo, "snapshots")[1]).expect("a manifest")),
        ("manifests are changed", |repo| {
            objects(repo, "snapshots").iter().for_each(|path| change(path, |bytes| flip(bytes)));
        }),
        ("a record is changed", |repo| change(&objects(repo, "log")[0], |bytes| flip(bytes))),
    ]
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = crate::compare::paths(root).into_iter().filter(|path| root.join(path).is_file());
    paths.map(|path| (path.clone(), fs::read(root.join(&path)).expect("a file"))).collect()
}

/// Which files of which snapshots come back as they were.
fn restorable(sandbox: &Sandbox, ids: &[String], truth: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeSet<(String, PathBuf)> {
    let mut found = BTreeSet::new();
    let target = sandbox.path("looked");
    for id in ids {
        let _ = fs::remove_dir_all(&target);
        let run = sandbox.snap(&["restore", id, "--target", "looked"]);
        assert!(!run.panicked(), "{run}");
        if target.is_dir() {
            let there = files(&target).into_iter().filter(|(path, bytes)| truth.get(path) == Some(bytes));
            found.extend(there.map(|(path, _)| (id.clone(), path)));
        }
    }
    let _ = fs::remove_dir_all(&target);
    found
}

fn is_whole(sandbox: &Sandbox, ids: &[String]) -> Result<(), String> {
    sandbox.expect(&["check", "--read-data"], &[exit::DONE])?;
    for id in ids {
        sandbox.expect(&["restore", id, "--target", "t"], &[exit::DONE])?;
        fs::remove_dir_all(sandbox.path("t")).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn states(report: &Value) -> BTreeSet<String> {
    let objects = report["objects"].as_array().expect("objects");
    objects.iter().map(|one| one["state"].as_str().expect("a state").to_owned()).collect()
}

#[test]
fn what_a_replica_has_is_taken_from_it() {
    let (sandbox, ids) = history(3);
    sandbox.must("replicate replica", exit::DONE);
    let sound = sandbox.path("sound");
    copy_folder(&sandbox.repo(), &sound).expect("a copy");
    let run = sandbox.must("repair --from replica --yes", exit::DONE);
    assert!(run.stdout.contains("nothing is damaged"), "{run}");
    sandbox.must("repair --from repo", exit::USAGE);
    for (name, spoil) in damages() {
        spoil(&sandbox.repo());
        let spoilt = files(&sandbox.repo());
        // Without a word nothing is done.
        let dry = sandbox.snap(&["repair", "--from", "replica", "--read-data", "--json"]);
        assert!([exit::DONE, exit::DAMAGE].contains(&dry.code), "{name}: {dry}");
        assert_eq!(files(&sandbox.repo()), spoilt, "{name}");
        assert_eq!(dry.json()["dry_run"], true, "{name}");
        let done = sandbox.must("repair --from replica --read-data --yes --json", exit::DONE).json();
        assert!(states(&done).is_subset(&["fetched".to_owned(), "set-aside".to_owned()].into()), "{name}: {done}");
        is_whole(&sandbox, &ids).unwrap_or_else(|text| panic!("{name}: {text}"));
        let _ = fs::remove_dir_all(sandbox.cache());
        is_whole(&sandbox, &ids).unwrap_or_else(|text| panic!("{name}: {text}"));
        // What was there is kept.
        let repo = files(&sandbox.repo());
        let kept: BTreeSet<&Vec<u8>> = repo.values().collect();
        assert!(spoilt.values().all(|bytes| kept.contains(bytes)), "{name}: something was deleted");
        set_mode(&sandbox.repo(), 0o700);
        fs::remove_dir_all(sandbox.repo()).expect("a repository");
        copy_folder(&sound, &sandbox.repo()).expect("a copy");
        let _ = fs::remove_dir_all(sandbox.cache());
        sandbox.list();
    }
    let (other, _) = history(1);
    copy_folder(&other.repo(), &sandbox.path("other")).expect("a copy");
    sandbox.must("repair --from other", exit::USAGE);
}

/// What was removed here is not lost, though the replica still has it.
#[test]
fn what_was_pruned_does_not_come_back() {
    let (sandbox, ids) = history(3);
    sandbox.must("replicate replica", exit::DONE);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    sandbox.must("prune --delay 0s --yes", exit::DONE);
    let before = files(&sandbox.repo());
    for _ in 0..2 {
        let done = sandbox.must("repair --from replica --read-data --yes --json", exit::DONE).json();
        assert_eq!(done["objects"], serde_json::json!([]));
        assert_eq!(files(&sandbox.repo()), before);
        let _ = fs::remove_dir_all(sandbox.cache());
    }
    is_whole(&sandbox, &ids[2..]).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_lost_index_is_made_anew_from_the_packs() {
    let (sandbox, ids) = history(2);
    for (name, spoil) in damages().into_iter().filter(|(name, _)| name.starts_with("the index")) {
        spoil(&sandbox.repo());
        let _ = fs::remove_dir_all(sandbox.cache());
        let done = sandbox.must("repair --yes --json", exit::DONE).json();
        assert!(done["relisted"].as_u64().is_some_and(|packs| packs > 0), "{name}: {done}");
        let _ = fs::remove_dir_all(sandbox.cache());
        is_whole(&sandbox, &ids).unwrap_or_else(|text| panic!("{name}: {text}"));
        let clean = sandbox.must("check --json", exit::DONE).json();
        assert_eq!(clean["problems"], serde_json::json!([]), "{name}");
    }
}

#[test]
fn live_files_give_back_what_they_still_hold_and_the_rest_is_named() {
    let (sandbox, ids) = history(2);
    let source = sandbox.path("source");
    fs::remove_file(biggest(&sandbox.repo())).expect("a pack");
    let told = sandbox.must("repair --yes --json", exit::DAMAGE).json();
    assert!(told["chunks_lost"].as_u64().is_some_and(|chunks| chunks > 0), "{told}");
    let named = told["problems"].to_string();
    assert!(named.contains("cannot be restored") && named.contains("file-"), "{told}");
    let packs = objects(&sandbox.repo(), "packs").len();
    let done = sandbox.must("repair --from-source source --yes --json", exit::DONE).json();
    assert!(done["chunks_stored"].as_u64().is_some_and(|chunks| chunks > 0), "{done}");
    is_whole(&sandbox, &ids).unwrap_or_else(|text| panic!("{text}"));
    // Nothing else of the folder was stored, and no snapshot made.
    assert!(objects(&sandbox.repo(), "packs").len() <= packs + 2);
    assert_eq!(sandbox.list().len(), 2);
    sandbox.restores_to(&ids[1], &source).unwrap_or_else(|text| panic!("{text}"));
    // What has changed meanwhile is lost, and is told by its path.
    for path in objects(&sandbox.repo(), "packs") {
        fs::remove_file(path).expect("a pack");
    }
    fs::write(source.join("file-1"), "something else").expect("a file");
    let run = sandbox.must("repair --from-source source --yes", exit::DAMAGE);
    assert!(run.stdout.contains("--from a replica"), "{run}");
}

#[test]
fn without_a_word_it_says_what_it_would_do() {
    let (sandbox, _) = history(2);
    let before = files(&sandbox.repo());
    let pack = biggest(&sandbox.repo());
    let bytes = fs::read(&pack).expect("a pack");
    fs::remove_file(&pack).expect("a pack");
    let lost = files(&sandbox.repo());
    let run = sandbox.must("repair --from-source source", exit::DAMAGE);
    assert!(run.stdout.contains("which can be stored again"), "{run}");
    assert!(run.stdout.contains("nothing was changed; --yes does what can be done"), "{run}");
    let dry = sandbox.must("repair --from-source source --dry-run --json", exit::DAMAGE).json();
    assert!(dry["chunks_stored"].as_u64().is_some_and(|chunks| chunks > 0), "{dry}");
    assert_eq!(files(&sandbox.repo()), lost);
    let run = sandbox.must("repair --from-source nowhere", exit::USAGE);
    assert!(run.stderr.contains("there is no folder nowhere"), "{run}");
    let run = sandbox.must("repair --from nowhere", exit::USAGE);
    assert!(run.stderr.contains("to repair from") && !run.stderr.contains("snap init"), "{run}");
    fs::write(&pack, bytes).expect("a pack");
    // All index objects are lost, and all they listed can be listed again: few lines say so.
    for path in objects(&sandbox.repo(), "index") {
        fs::remove_file(path).expect("an index object");
    }
    let run = sandbox.must("repair", exit::DAMAGE);
    assert!(run.stdout.contains("can be listed again") && run.stdout.matches('✗').count() <= 5, "{run}");
    sandbox.must("repair --yes", exit::DONE);
    assert!(before.keys().filter(|path| !path.starts_with("index")).all(|path| sandbox.repo().join(path).exists()));
}

#[test]
fn a_repair_that_ends_anywhere_takes_nothing() {
    need!(need::strace());
    let _alone = heavy();
    let (sandbox, ids) = history(2);
    sandbox.must("replicate replica", exit::DONE);
    let truth = files(&sandbox.path("source"));
    let args: Vec<OsString> =
        ["repair", "--from", "replica", "--read-data", "--yes", "--json"].iter().map(OsString::from).collect();
    let dir = need::fast_tempdir();
    let mut all = Vec::new();
    let mut templates = Vec::new();
    for (number, (name, spoil)) in damages().into_iter().enumerate() {
        let template = dir.path().join(format!("template-{number}"));
        copy_folder(&sandbox.path(""), &template).expect("a copy");
        let spoilt = Sandbox::at(&template);
        spoil(&spoilt.repo());
        let recorded = dir.path().join("recorded");
        copy_folder(&template, &recorded).expect("a copy");
        let (_, calls) = record(&Sandbox::at(&recorded), &args).unwrap_or_else(|text| panic!("{name}: {text}"));
        fs::remove_dir_all(&recorded).expect("a folder");
        let before = restorable(&spoilt, &ids, &truth);
        all.extend(points(&calls).into_iter().map(|point| (number, name, point)));
        templates.push((template, before));
    }
    let cases = if sweeps_all() { all.clone() } else { sample(&all, 60) };
    let failures = on_two(
        &cases,
        |worker| dir.path().join(format!("work-{worker}")),
        |work, _, (number, name, point)| {
            let (template, before) = &templates[*number];
            let _ = fs::remove_dir_all(&*work);
            copy_folder(template, work)?;
            let sandbox = Sandbox::at(work);
            let (run, _) = inject(&sandbox, &args, point, "signal=SIGKILL")?;
            let told = |text: String| format!("{name}, killed at {point:?}: {text}\nafter {run}");
            let after = restorable(&sandbox, &ids, &truth);
            if let Some(lost) = before.difference(&after).next() {
                return Err(told(format!("{} of {} is lost", lost.1.display(), lost.0)));
            }
            sandbox.expect(&args, &[exit::DONE]).map_err(told)?;
            is_whole(&sandbox, &ids).map_err(told)
        },
    );
    assert_none(&failures, cases.len());
}
