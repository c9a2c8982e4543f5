//! Replicas: everything comes over whole, nothing bad does, and whatever befalls the source takes
//! nothing from the replica.

use crate::forget::{capture, history, listed};
use crate::inject::ends_anywhere;
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, copy_folder, exit};
use crate::trees::set_mode;
use crate::work::heavy;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A repository with `count` snapshots and a replica of it.
fn replicated(count: u64) -> (Sandbox, Vec<String>, PathBuf) {
    let (sandbox, ids) = history(count);
    let replica = sandbox.path("replica");
    sandbox.must("replicate replica", exit::DONE);
    (sandbox, ids, replica)
}

/// All files of a folder and their bytes.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = crate::compare::paths(root).into_iter().filter(|path| root.join(path).is_file());
    paths.map(|path| (path.clone(), fs::read(root.join(&path)).expect("a file"))).collect()
}

/// The replica as a repository: all snapshots restore from it alone.
fn restores_all(sandbox: &Sandbox, ids: &[String]) {
    for _ in 0..2 {
        sandbox.must("check --read-data --repo replica", exit::DONE);
        for id in ids {
            sandbox.must(&format!("restore {id} --target t --repo replica"), exit::DONE);
            fs::remove_dir_all(sandbox.path("t")).expect("a target");
        }
        let _ = fs::remove_dir_all(sandbox.cache());
    }
}

#[test]
fn a_replica_is_a_repository_and_grows_with_the_other() {
    let (sandbox, mut ids, replica) = replicated(2);
    assert_eq!(files(&sandbox.repo()), files(&replica));
    restores_all(&sandbox, &ids);
    let report = sandbox.json("replicate replica");
    assert_eq!((&report[0]["objects"], &report[0]["behind"]), (&0.into(), &0.into()));
    ids.push(capture(&sandbox, 7));
    let report = sandbox.json("replicate replica --verify");
    assert_eq!((&report[0]["snapshots"], &report[0]["replica_snapshots"]), (&1.into(), &3.into()));
    assert_eq!(report[0]["verified"], report[0]["objects"]);
    restores_all(&sandbox, &ids);
    // No key is needed.
    ids.push(capture(&sandbox, 8));
    fs::remove_file(sandbox.identity()).expect("an identity");
    let report = sandbox.json("replicate replica");
    assert_eq!(report[0]["snapshots"], 1);
    assert_eq!(files(&sandbox.repo()), files(&replica));
}

#[test]
fn places_are_named_in_the_settings() {
    let (sandbox, _) = history(1);
    sandbox.must("replicate", exit::USAGE);
    sandbox.must("replicate --all", exit::USAGE);
    sandbox.must("replicate repo", exit::USAGE);
    fs::create_dir(sandbox.path("full")).expect("a folder");
    fs::write(sandbox.path("full/letter"), "dear").expect("a file");
    sandbox.must("replicate full", exit::USAGE);
    let text = "[replica.near]\nurl = \"near\"\nverify = true\n[replica.far]\nurl = \"far\"\nlimit = \"500MB\"\n";
    fs::write(sandbox.path("snap.toml"), text).expect("a file");
    let report = sandbox.json("replicate --all");
    let names: Vec<&Value> = report.as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["far", "near"]);
    // One of them reads back what it was given.
    let verified = [0, 1].map(|at| report[at]["verified"].as_u64().expect("a number") > 0);
    assert_eq!(verified, [false, true], "{report}");
    assert_eq!(files(&sandbox.path("far")), files(&sandbox.path("near")));
    capture(&sandbox, 3);
    sandbox.must("replicate near", exit::DONE);
    assert!(files(&sandbox.path("far")).len() < files(&sandbox.path("near")).len());
    let status = sandbox.json("status");
    assert_eq!(status["replicas"].as_array().map(Vec::len), Some(2), "{status}");
    // One that cannot be written keeps no other one behind.
    fs::write(sandbox.path("wall"), "no folder").expect("a file");
    let text = "[replica.a-wall]\nurl = \"wall/x\"\n[replica.near]\nurl = \"near\"\n";
    fs::write(sandbox.path("snap.toml"), text).expect("a file");
    capture(&sandbox, 4);
    let run = sandbox.must("replicate --all", exit::USAGE);
    assert!(run.stdout.contains("a-wall"), "{run}");
    assert_eq!(files(&sandbox.repo()), files(&sandbox.path("near")));
    // What limits the rate limits it.
    let begun = std::time::Instant::now();
    sandbox.must("replicate ./slow --limit 200KB", exit::DONE);
    assert!(begun.elapsed().as_millis() >= 1000, "{:?}", begun.elapsed());
}

#[test]
fn what_is_deleted_here_is_not_deleted_there() {
    let (sandbox, ids, replica) = replicated(3);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    sandbox.must("prune --delay 0s", exit::DONE);
    let before = files(&replica);
    sandbox.must("replicate replica", exit::DONE);
    let after = files(&replica);
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
    assert!(after.keys().all(|path| !path.starts_with("marks")));
    assert_eq!(listed(&sandbox), ids[2..]);
    restores_all(&sandbox, &ids);
    // A copy made now lacks what went, and knows that it is no gap.
    sandbox.must("replicate second", exit::DONE);
    let _ = fs::remove_dir_all(sandbox.cache());
    sandbox.must("check --read-data --repo second", exit::DONE);
}

#[test]
fn a_replica_has_a_retention_of_its_own() {
    let (sandbox, ids, replica) = replicated(4);
    // It keeps less than the source, and is not given again what it has let go.
    sandbox.must("forget --keep-last 2 --yes --repo replica", exit::DONE);
    sandbox.must("prune --yes --repo replica", exit::DONE);
    sandbox.must("prune --delay 0s --yes --repo replica", exit::DONE);
    let before = files(&replica);
    let report = sandbox.json("replicate replica");
    assert_eq!((&report[0]["left_out"], &report[0]["behind"]), (&2.into(), &0.into()), "{report}");
    assert_eq!((&report[0]["snapshots"], &report[0]["packs"]), (&0.into(), &0.into()), "{report}");
    let after = files(&replica);
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
    assert!(after.keys().filter(|path| path.starts_with("packs")).count() < 8 && listed(&sandbox) == ids);
    restores_all(&sandbox, &ids[2..]);
    sandbox.json("check --read-data");
    let status = sandbox.json("status");
    assert_eq!(status["replicas"], Value::Array(Vec::new()), "the cache was lost, and nothing is remembered: {status}");
    // What is new comes over, with all that it needs.
    let new = capture(&sandbox, 9);
    let report = sandbox.json("replicate replica --verify");
    assert_eq!((&report[0]["snapshots"], &report[0]["left_out"]), (&1.into(), &2.into()), "{report}");
    let status = sandbox.json("status");
    assert_eq!((&status["replicas"][0]["behind"], &status["replicas"][0]["lacks"]), (&0.into(), &0.into()), "{status}");
    restores_all(&sandbox, &[ids[2].clone(), ids[3].clone(), new]);
    // Without a key nobody knows what was let go, and a copy too many is the lesser harm.
    fs::rename(sandbox.identity(), sandbox.path("away")).expect("an identity");
    let report = sandbox.json("replicate replica");
    assert_eq!((&report[0]["snapshots"], &report[0]["left_out"]), (&2.into(), &0.into()), "{report}");
    fs::rename(sandbox.path("away"), sandbox.identity()).expect("an identity");
    restores_all(&sandbox, &ids);
}

#[test]
fn a_source_that_is_an_old_copy_takes_nothing_from_the_replica() {
    let (sandbox, mut ids) = history(2);
    let old = sandbox.path("old");
    copy_folder(&sandbox.repo(), &old).expect("a copy");
    ids.push(capture(&sandbox, 5));
    ids.push(capture(&sandbox, 6));
    sandbox.must("replicate replica", exit::DONE);
    let before = files(&sandbox.path("replica"));
    // The machine is set back to the day before, and goes on from there.
    fs::remove_dir_all(sandbox.repo()).expect("a folder");
    fs::rename(&old, sandbox.repo()).expect("a folder");
    let _ = fs::remove_dir_all(sandbox.cache());
    let report = sandbox.json("replicate replica");
    assert_eq!((&report[0]["objects"], &report[0]["replica_snapshots"]), (&0.into(), &4.into()), "{report}");
    ids.push(capture(&sandbox, 7));
    sandbox.must("replicate replica --verify", exit::DONE);
    let after = files(&sandbox.path("replica"));
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
    restores_all(&sandbox, &ids);
    // What it deletes now stays there.
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    sandbox.must("prune --delay 0s --yes", exit::DONE);
    sandbox.must("replicate replica", exit::DONE);
    assert!(after.iter().all(|(path, bytes)| files(&sandbox.path("replica")).get(path) == Some(bytes)));
    restores_all(&sandbox, &ids);
}

/// What may befall a source: its name, and what it does to the folder.
type Disaster = (&'static str, fn(&Path));

fn disasters() -> Vec<Disaster> {
    fn objects(repo: &Path, folder: &str) -> Vec<PathBuf> {
        let below = crate::compare::paths(&repo.join(folder)).into_iter().map(|path| repo.join(folder).join(path));
        below.filter(|path| path.is_file()).collect()
    }
    fn each(repo: &Path, folder: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>) {
        for path in objects(repo, folder) {
            let bytes = fs::read(&path).expect("an object");
            set_mode(&path, 0o600);
            fs::write(&path, change(bytes)).expect("an object");
        }
    }
    fn flip(mut bytes: Vec<u8>) -> Vec<u8> {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    }
    fn remove(repo: &Path, folder: &str) {
        objects(repo, folder).iter().for_each(|path| fs::remove_file(path).expect("an object"));
    }
    vec![
        ("everything is gone", |repo| fs::remove_dir_all(repo).expect("a folder")),
        ("the folder is empty", |repo| {
            fs::remove_dir_all(repo).expect("a folder");
            fs::create_dir(repo).expect("a folder");
        }),
        ("config is gone", |repo| fs::remove_file(repo.join("config")).expect("config")),
        ("config is no text", |repo| {
            fs::remove_file(repo.join("config")).expect("config");
            fs::write(repo.join("config"), [0; 100]).expect("config");
        }),
        ("config is of another repository", |repo| {
            let text = fs::read_to_string(repo.join("config")).expect("config");
            let at = text.find("\"repository\":\"").expect("an id") + 14;
            fs::remove_file(repo.join("config")).expect("config");
            fs::write(repo.join("config"), text.replace(&text[at..at + 64], &"7".repeat(64))).expect("config");
        }),
        ("config needs a newer version", |repo| {
            let text = fs::read_to_string(repo.join("config")).expect("config");
            fs::remove_file(repo.join("config")).expect("config");
            fs::write(repo.join("config"), text.replace("\"version\":1", "\"version\":9")).expect("config");
        }),
        ("all packs are gone", |repo| remove(repo, "packs")),
        ("all index objects are gone", |repo| remove(repo, "index")),
        ("all manifests are gone", |repo| remove(repo, "snapshots")),
        ("all keys are gone", |repo| remove(repo, "keys")),
        ("the folder of packs is gone", |repo| fs::remove_dir_all(repo.join("packs")).expect("a folder")),
        ("the folder of manifests is gone", |repo| fs::remove_dir_all(repo.join("snapshots")).expect("a folder")),
        ("a bit of each pack has changed", |repo| each(repo, "packs", &flip)),
        ("a bit of each index object has changed", |repo| each(repo, "index", &flip)),
        ("a bit of each manifest has changed", |repo| each(repo, "snapshots", &flip)),
        ("a bit of each key has changed", |repo| each(repo, "keys", &flip)),
        ("all packs are cut short", |repo| each(repo, "packs", &|bytes| bytes[..bytes.len() / 2].to_vec())),
        ("all manifests are empty", |repo| each(repo, "snapshots", &|_| Vec::new())),
        ("all packs are longer", |repo| each(repo, "packs", &|bytes| [bytes, vec![0; 10]].concat())),
        ("all packs are zeros", |repo| each(repo, "packs", &|bytes| vec![0; bytes.len()])),
        ("something else has the name of a manifest", |repo| {
            fs::write(repo.join("snapshots").join("ab".repeat(32)), "forged").expect("a file");
        }),
        ("something else has the name of a pack", |repo| {
            fs::write(repo.join("packs/cd").join("cd".repeat(32)), "forged").expect("a file");
        }),
        ("encrypted by somebody", |repo| {
            for folder in ["packs", "index", "snapshots", "keys"] {
                each(repo, folder, &|bytes| bytes.iter().map(|byte| byte ^ 0x5a).collect());
            }
        }),
    ]
}

#[test]
fn whatever_befalls_the_source_the_replica_keeps_what_it_has() {
    let (sandbox, ids, replica) = replicated(3);
    // One more here that is not there yet: what is new and whole may come over, and nothing else.
    capture(&sandbox, 9);
    let before = files(&replica);
    let good = files(&sandbox.repo());
    let saved = sandbox.path("saved");
    copy_folder(&sandbox.repo(), &saved).expect("a copy");
    let disasters = disasters();
    assert!(disasters.len() >= 20, "{}", disasters.len());
    for (name, happen) in disasters {
        let _ = fs::remove_dir_all(sandbox.repo());
        copy_folder(&saved, &sandbox.repo()).expect("a copy");
        happen(&sandbox.repo());
        let run = sandbox.snap(&["replicate", "replica", "--json"]);
        assert!(!run.panicked(), "{name}: {run}");
        let after = files(&replica);
        for (path, bytes) in &before {
            assert!(after.get(path) == Some(bytes), "{name}: {} is not as it was: {run}", path.display());
        }
        for (path, bytes) in &after {
            assert!(good.get(path) == Some(bytes), "{name}: {} came over: {run}", path.display());
        }
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            fs::remove_file(replica.join(path)).expect("an object");
        }
    }
    let _ = fs::remove_dir_all(sandbox.cache());
    restores_all(&sandbox, &ids);
}

#[test]
fn damage_here_is_told_and_comes_over_once_it_is_mended() {
    let (sandbox, _, replica) = replicated(1);
    let before = files(&sandbox.repo());
    let id = capture(&sandbox, 5);
    let new: Vec<PathBuf> = files(&sandbox.repo()).into_keys().filter(|path| !before.contains_key(path)).collect();
    let pack = sandbox.repo().join(new.iter().find(|path| path.starts_with("packs")).expect("a pack"));
    let sound = fs::read(&pack).expect("a pack");
    let mut bytes = sound.clone();
    bytes[100] ^= 1;
    set_mode(&pack, 0o600);
    fs::write(&pack, bytes).expect("a pack");
    let run = sandbox.must("replicate replica --json", exit::DAMAGE);
    assert_eq!(run.json()[0]["damaged"].as_array().map(Vec::len), Some(1), "{run}");
    assert!(sandbox.must("replicate replica", exit::DAMAGE).stdout.contains("do not fit"));
    fs::write(&pack, sound).expect("a pack");
    sandbox.must("replicate replica", exit::DONE);
    assert_eq!(files(&sandbox.repo()), files(&replica));
    sandbox.must(&format!("restore {id} --target t --repo replica"), exit::DONE);
    // Rot in the replica is told too, and left for a repair.
    let there = replica.join(new.iter().find(|path| path.starts_with("index")).expect("an index object"));
    let bytes = fs::read(&there).expect("an object");
    set_mode(&there, 0o600);
    fs::write(&there, &bytes[1..]).expect("an object");
    let run = sandbox.must("replicate replica --json", exit::DAMAGE);
    assert_eq!(run.json()[0]["replica_damaged"].as_array().map(Vec::len), Some(1), "{run}");
}

#[test]
fn a_replication_that_ends_anywhere_is_gone_on_with() {
    need!(need::strace());
    let _alone = heavy();
    let (sandbox, _) = history(2);
    let args: Vec<OsString> = ["replicate", "replica", "--json"].iter().map(OsString::from).collect();
    ends_anywhere(&sandbox, &args, |sandbox| {
        // Whatever manifest is there already has all that it needs.
        let replica = sandbox.path("replica");
        let begun = replica.join("snapshots");
        if replica.join("config").exists() && fs::read_dir(&begun).is_ok_and(|mut found| found.next().is_some()) {
            sandbox.expect(&["check", "--read-data", "--repo", "replica"], &[exit::DONE])?;
        }
        sandbox.expect(&args, &[exit::DONE])?;
        sandbox.expect(&["check", "--read-data", "--repo", "replica"], &[exit::DONE])?;
        match files(&sandbox.repo()) == files(&replica) {
            true => Ok(()),
            false => Err("the replica differs".to_owned()),
        }
    });
}

#[test]
fn keys_and_config_there_are_proven_too() {
    let (sandbox, _, replica) = replicated(1);
    sandbox.must("replicate replica --verify", exit::DONE);
    for end in [".age", ".json", "config"] {
        let path = files(&replica).into_keys().find(|path| path.to_string_lossy().ends_with(end)).expect("a file");
        let object = path.to_str().expect("text");
        let there = replica.join(&path);
        let sound = fs::read(&there).expect("a file");
        let mut bytes = sound.clone();
        bytes[sound.len() / 2] ^= 1;
        set_mode(&there, 0o600);
        fs::write(&there, bytes).expect("a file");
        let run = sandbox.must("replicate replica --verify --json", exit::DAMAGE);
        let damaged = run.json()[0]["replica_damaged"].clone();
        assert_eq!((damaged.as_array().map(Vec::len), &damaged[0]["object"]), (Some(1), &json!(object)), "{run}");
        let status = sandbox.must("status --json", exit::DAMAGE).json();
        assert_eq!(status["replicas"][0]["lacks"], json!(1), "{status}");
        // What is whole here mends it.
        sandbox.must("repair --repo replica --from repo --yes", exit::DONE);
        assert_eq!(fs::read(&there).expect("a file"), sound, "{object}");
        sandbox.must("replicate replica --verify", exit::DONE);
        sandbox.must("check --repo replica", exit::DONE);
    }
}
