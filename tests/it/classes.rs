//! Classes of failure by which repositories were lost elsewhere, where no other test has them already.
//! docs/FAILURES.md names the test of each.

use crate::bad::{ended, written};
use crate::forget::{capture, history, listed, secrets};
use crate::need;
use crate::snap::{Sandbox, WATCHDOG, exit, id_of};
use crate::trees::Random;
use ::snap::crypto::open::open;
use ::snap::limits::INDEX_BYTES_MAX;
use ::snap::pack::{IndexedPack, decode_index};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Instant;

/// What all index objects together list.
fn index(sandbox: &Sandbox) -> BTreeMap<[u8; 32], IndexedPack> {
    let mut keys = sandbox.objects().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "age"));
    let key = keys.next().and_then(|path| Some(path.file_name()?.to_str()?.to_owned())).expect("a key");
    let secrets = secrets(sandbox, &key, sandbox.identity());
    let mut packs = BTreeMap::new();
    for path in sandbox.objects().into_iter().filter(|path| path.starts_with("index")) {
        let sealed = fs::read(sandbox.repo().join(&path)).expect("an index object");
        let plain = open(std::slice::from_ref(secrets.index_identity()), &sealed, INDEX_BYTES_MAX).expect("plaintext");
        let listed = decode_index("an index object", &plain).expect("packs");
        packs.extend(listed.into_iter().map(|pack| (pack.id.0, pack)));
    }
    packs
}

/// Whatever was merged, copied and deleted, in whichever order: the index is what the packs say themselves.
#[test]
fn class_03_the_index_made_anew_is_the_index() {
    for order in 0..3 {
        let (sandbox, ids) = history(34);
        let forget = |keep: u32| drop(sandbox.must(&format!("forget --keep-last {keep} --yes"), exit::DONE));
        let prune = |how: &str| drop(sandbox.must(&format!("prune --yes --delay 0s {how}"), exit::DONE));
        match order {
            0 => [20, 9, 3].into_iter().for_each(|keep| {
                forget(keep);
                prune("--repack-below 90%");
            }),
            1 => {
                prune("--repack-below 0%");
                forget(5);
                (0..3).for_each(|_| prune(""));
            }
            _ => {
                prune("");
                capture(&sandbox, 50);
                forget(2);
                (0..2).for_each(|_| prune("--repack-below 100%"));
            }
        }
        let live = index(&sandbox);
        for path in sandbox.objects().into_iter().filter(|path| path.starts_with("index")) {
            fs::remove_file(sandbox.repo().join(path)).expect("an index object");
        }
        let _ = fs::remove_dir_all(sandbox.cache());
        capture(&sandbox, 60);
        let anew = index(&sandbox);
        for id in sandbox.objects().into_iter().filter(|path| path.starts_with("packs")) {
            let name = id.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let (_, pack) =
                anew.iter().find(|(_, pack)| pack.id.to_string() == name).unwrap_or_else(|| panic!("{name}"));
            assert!(live.get(&pack.id.0).is_none_or(|before| before == pack), "order {order}: {name}");
        }
        assert!(listed(&sandbox).contains(&ids[33]));
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
        sandbox.restores_to("latest", &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
    }
}

/// The same content many times in one pack and in several, zeros among it.
#[test]
fn class_04_content_that_is_stored_twice_goes_with_none_of_its_copies() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).expect("a folder");
    sandbox.init();
    let same = Random::new(1).bytes(300_000);
    for number in 0..4 {
        fs::write(source.join(format!("same-{number}")), &same).expect("a file");
        fs::write(source.join(format!("zeros-{number}")), vec![0; 3 << 20]).expect("a file");
    }
    sandbox.create(&source);
    // A catalog that has forgotten everything and no index to learn from: the same is stored once more.
    let away = sandbox.path("away");
    fs::rename(sandbox.repo().join("index"), &away).expect("a folder");
    fs::create_dir(sandbox.repo().join("index")).expect("a folder");
    let hidden: Vec<_> = sandbox.objects().into_iter().filter(|path| path.starts_with("packs")).collect();
    for path in &hidden {
        fs::rename(sandbox.repo().join(path), away.join(path.file_name().expect("a name"))).expect("a pack");
    }
    let _ = fs::remove_dir_all(sandbox.cache());
    fs::write(source.join("another"), Random::new(2).bytes(200_000)).expect("a file");
    let second = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    for path in &hidden {
        fs::rename(away.join(path.file_name().expect("a name")), sandbox.repo().join(path)).expect("a pack");
    }
    for entry in fs::read_dir(&away).expect("a folder").flatten() {
        fs::rename(entry.path(), sandbox.repo().join("index").join(entry.file_name())).expect("an index object");
    }
    let first = listed(&sandbox).into_iter().find(|id| *id != second).expect("another");
    sandbox.must(&format!("forget {first}"), exit::DONE);
    for how in ["", "--repack-below 100%", ""] {
        sandbox.must(&format!("prune --yes --delay 0s {how}"), exit::DONE);
        let _ = fs::remove_dir_all(sandbox.cache());
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
        sandbox.restores_to(&second, &source).unwrap_or_else(|text| panic!("{text}"));
    }
}

/// A machine falls asleep in the middle of a capture; another one deletes what that counts on.
#[test]
fn class_07_a_capture_that_slept_through_a_deletion_acknowledges_nothing_that_is_gone() {
    let sandbox = Sandbox::owning(need::fast_tempdir());
    let (source, kept) = (sandbox.path("source"), Random::new(1).bytes(3 << 20));
    fs::create_dir(&source).expect("a folder");
    sandbox.init();
    fs::write(source.join("a-kept"), &kept).expect("a file");
    let first = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    fs::remove_file(source.join("a-kept")).expect("a file");
    fs::write(source.join("b-small"), "small").expect("a file");
    sandbox.create(&source);
    // It comes back, and with it much that takes a while.
    fs::write(source.join("a-kept"), &kept).expect("a file");
    for number in 0..20 {
        fs::write(source.join(format!("new-{number}")), Random::new(10 + number).bytes(2 << 20)).expect("a file");
    }
    let mut command = sandbox.snap_command(&["create", "source", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    let begun = Instant::now();
    while child.try_wait().expect("a state").is_none() && written(child.id()) < 16 << 20 {
        assert!(begun.elapsed() < WATCHDOG, "never gets there");
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    let _ = kill_process(pid, Signal::STOP);
    // Another machine has another catalog.
    let other = Sandbox::with_repo(&sandbox.path("other"), &sandbox.repo());
    fs::create_dir_all(other.identity().parent().expect("a folder")).expect("a folder");
    fs::copy(sandbox.identity(), other.identity()).expect("an identity");
    crate::trees::set_mode(&other.identity(), 0o600);
    other.must(&format!("forget {first}"), exit::DONE);
    other.must("prune --yes", exit::DONE);
    other.must("prune --yes --delay 0s", exit::DONE);
    let _ = kill_process(pid, Signal::CONT);
    let run = ended(child).expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let id = id_of(&run.json()["snapshot"]).expect("an id");
    let _ = fs::remove_dir_all(sandbox.cache());
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}
