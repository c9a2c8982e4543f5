//! What was lost in the repository and is still there in the source comes back with the next
//! snapshot, on every machine; what is lost for good is named file by file.

use crate::snap::{Sandbox, exit, id_of};
use crate::trees::{Random, set_mode};
use std::fs;
use std::path::PathBuf;

/// A repository with one snapshot of a folder of large files and one of a file more.
fn repository() -> (Sandbox, PathBuf, Vec<String>) {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(&source).expect("a folder");
    sandbox.init();
    let mut ids = Vec::new();
    for i in 0..2 {
        fs::write(source.join(format!("file-{i}")), Random::new(i).bytes(2_000_000)).expect("a file");
        let report = sandbox.create(&source);
        ids.push(id_of(&report["snapshot"]).expect("an id"));
    }
    (sandbox, source, ids)
}

/// The pack with the first file's content.
fn biggest(sandbox: &Sandbox) -> PathBuf {
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let packs = sandbox.objects().into_iter().filter(|path| path.starts_with("packs"));
    let pack = packs.map(|path| sandbox.repo().join(path)).max_by_key(size).expect("a pack");
    set_mode(&pack, 0o600);
    pack
}

fn forget_all(sandbox: &Sandbox) {
    fs::remove_dir_all(sandbox.cache()).expect("a cache");
}

fn restores(sandbox: &Sandbox, id: &str, source: &std::path::Path) {
    sandbox.restores_to(id, source).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_lost_pack_is_stored_again_and_found_from_everywhere() {
    let (sandbox, source, ids) = repository();
    let pack = biggest(&sandbox);
    let bytes = fs::read(&pack).expect("a pack");
    fs::remove_file(&pack).expect("a pack");
    sandbox.must("check", exit::DAMAGE);
    let report = sandbox.create(&source);
    restores(&sandbox, &ids[1], &source);
    sandbox.must("check --read-data", exit::DONE);
    // A machine that has seen nothing of it reads the index that names the lost pack too.
    forget_all(&sandbox);
    restores(&sandbox, &ids[1], &source);
    restores(&sandbox, &id_of(&report["snapshot"]).expect("an id"), &source);
    let text = sandbox.must("check --read-data", exit::DONE).stdout;
    assert!(text.contains("it is missing; nothing that a snapshot uses is lost with it"), "{text}");
    // Of two copies one is spoiled: whichever it is, the other serves.
    fs::write(&pack, vec![0; bytes.len()]).expect("a pack");
    forget_all(&sandbox);
    restores(&sandbox, &ids[1], &source);
    sandbox.must("check --read-data", exit::DONE);
    fs::write(&pack, &bytes).expect("a pack");
    let other = biggest(&sandbox);
    fs::write(&other, vec![0; fs::metadata(&other).expect("a pack").len() as usize]).expect("a pack");
    restores(&sandbox, &ids[1], &source);
    forget_all(&sandbox);
    restores(&sandbox, &ids[1], &source);
    sandbox.must("check --read-data", exit::DONE);
}

#[test]
fn damage_stays_known_until_it_is_mended() {
    let (sandbox, source, ids) = repository();
    let pack = biggest(&sandbox);
    let sound = fs::read(&pack).expect("a pack");
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, &bytes).expect("a pack");
    // Nobody has looked yet; once somebody has, every check says so.
    sandbox.must("check", exit::DONE);
    sandbox.must("check --read-data", exit::DAMAGE);
    let text = sandbox.must("check", exit::DAMAGE).stdout;
    assert!(text.contains("1 file cannot be restored: file-"), "{text}");
    assert!(text.contains("snap create"), "{text}");
    assert!(sandbox.must("status", exit::DAMAGE).stdout.contains("the last check found damage"));
    // The file has not changed, and is read and stored again all the same.
    let report = sandbox.create(&source);
    restores(&sandbox, &id_of(&report["snapshot"]).expect("an id"), &source);
    sandbox.must("check", exit::DONE);
    assert!(!sandbox.must("status", exit::DONE).stdout.contains("found damage"));
    forget_all(&sandbox);
    for id in [&ids[1], &id_of(&report["snapshot"]).expect("an id")] {
        restores(&sandbox, id, &source);
    }
    // What was put back is believed again.
    fs::write(&pack, &sound).expect("a pack");
    let text = sandbox.must("check --read-data", exit::DONE).stdout;
    assert!(!text.contains("note: packs"), "{text}");
}

#[test]
fn what_is_lost_for_good_is_named() {
    let (sandbox, source, ids) = repository();
    fs::remove_file(biggest(&sandbox)).expect("a pack");
    for file in ["file-0", "file-1"] {
        fs::remove_file(source.join(file)).expect("a file");
    }
    fs::write(source.join("file-2"), "new").expect("a file");
    sandbox.create(&source);
    let run = sandbox.must("check --json", exit::DAMAGE);
    let problems = run.problems().unwrap_or_else(|text| panic!("{text}"));
    let named = |id: &String| {
        problems.iter().any(|line| line.contains(id.as_str()) && line.contains("1 file cannot be restored: file-"))
    };
    assert!(ids.iter().any(named), "{run}");
    let newest = sandbox.list().last().expect("a snapshot").clone();
    restores(&sandbox, &id_of(&newest).expect("an id"), &source);
}

#[test]
fn a_lost_index_is_written_again() {
    let (sandbox, source, ids) = repository();
    let indexes = || -> Vec<PathBuf> {
        sandbox.objects().into_iter().filter(|path| path.starts_with("index")).map(|p| sandbox.repo().join(p)).collect()
    };
    let packs = || sandbox.objects().into_iter().filter(|path| path.starts_with("packs")).count();
    // One is damaged, the other is gone.
    let (damaged, gone) = (indexes().remove(0), indexes().remove(1));
    set_mode(&damaged, 0o600);
    let mut bytes = fs::read(&damaged).expect("an index");
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).expect("an index");
    fs::remove_file(gone).expect("an index");
    forget_all(&sandbox);
    assert!(sandbox.must("check", exit::DAMAGE).stdout.contains("which no index lists"));
    let before = packs();
    let report = sandbox.create(&source);
    assert!(crate::snap::warns(&report, "index", "they are listed again"), "{report}");
    // Nothing but the new snapshot's own tree was stored: what is listed again is not stored again.
    assert!(packs() <= before + 1 && report["stats"]["bytes_new"].as_u64().is_some_and(|n| n < 10_000), "{report}");
    forget_all(&sandbox);
    let text = sandbox.must("check --read-data", exit::DONE).stdout;
    assert!(text.contains("all that snapshots need is listed elsewhere"), "{text}");
    restores(&sandbox, &ids[1], &source);
}
