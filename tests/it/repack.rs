//! Repacking: what is needed is copied and the rest goes, and whoever knew the old places finds the new ones.

use crate::forget::{capture, history, listed};
use crate::inject::ends_anywhere;
use crate::keys::new_identity;
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, WATCHDOG, create_args, exit, id_of, program, run};
use crate::trees::Random;
use crate::work::heavy;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn objects(sandbox: &Sandbox, folder: &str) -> Vec<PathBuf> {
    sandbox.objects().into_iter().filter(|path| path.starts_with(folder)).collect()
}

fn stored_bytes(sandbox: &Sandbox) -> u64 {
    let size = |path: &PathBuf| fs::metadata(sandbox.repo().join(path)).expect("a pack").len();
    objects(sandbox, "packs").iter().map(size).sum()
}

fn number(report: &Value, field: &str) -> u64 {
    report.pointer(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {field} in {report}"))
}

fn forget_caches(sandbox: &Sandbox) {
    let _ = fs::remove_dir_all(sandbox.cache());
}

/// A repository whose first snapshot is forgotten; of its content one of `files` is needed still.
fn sparse(files: u64) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).expect("a folder");
    sandbox.init();
    let file = |number: u64| source.join(format!("file-{number:02}"));
    for number in 0..files {
        fs::write(file(number), Random::new(number).bytes(1_500_000)).expect("a file");
    }
    // On one processor, so that one thread puts all of it into one pack.
    let mut command = sandbox.command("taskset");
    command.args(["--cpu-list", "0"]).arg(program()).args(create_args(&source));
    let run = run(command, WATCHDOG).and_then(|run| run.expect(&[exit::DONE]));
    let first = id_of(&run.unwrap_or_else(|text| panic!("{text}")).json()["snapshot"]).expect("an id");
    for number in 1..files {
        fs::remove_file(file(number)).expect("a file");
    }
    let second = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    sandbox.must(&format!("forget {first}"), exit::DONE);
    (sandbox, second)
}

/// The same after both steps: the pack that the manifest names is gone.
fn repacked() -> (Sandbox, String) {
    let (sandbox, id) = sparse(16);
    sandbox.must("prune --yes", exit::DONE);
    sandbox.must("prune --delay 0s --yes", exit::DONE);
    (sandbox, id)
}

#[test]
fn what_is_needed_is_copied_and_the_rest_goes() {
    need!(need::program("taskset"));
    let (sandbox, id) = sparse(16);
    let (before, bytes) = (sandbox.objects(), stored_bytes(&sandbox));
    let dry = sandbox.json("prune --dry-run");
    assert!(number(&dry, "/repacked/packs") == 1 && number(&dry, "/repacked/bytes_copied") < bytes / 2, "{dry}");
    // More than half is to go: nothing is copied before that is confirmed.
    let run = sandbox.must("prune", exit::FAILED);
    assert!(run.stdout.contains("--yes"), "{run}");
    assert_eq!(sandbox.objects(), before);
    // Whole packs only.
    let whole = sandbox.json("prune --yes --dry-run --repack-below 0%");
    assert_eq!(number(&whole, "/repacked/packs"), 0, "{whole}");
    sandbox.must("prune --repack-below 2", exit::USAGE);
    let report = sandbox.json("prune --yes");
    assert_eq!(report["repacked"], dry["repacked"]);
    assert!(number(&report, "/marked/packs") >= number(&report, "/repacked/packs"), "{report}");
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    sandbox.must("prune --delay 0s", exit::DONE);
    assert!(stored_bytes(&sandbox) < bytes / 2, "{} of {bytes}", stored_bytes(&sandbox));
    for _ in 0..2 {
        sandbox.must("check --read-data", exit::DONE);
        sandbox.restores_to(&id, &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
        forget_caches(&sandbox);
    }
    // Nothing is copied twice, and what is there is not stored again.
    assert_eq!(number(&sandbox.json("prune --delay 0s"), "/repacked/packs"), 0);
    fs::copy(sandbox.path("source/file-00"), sandbox.path("source/twin")).expect("a copy");
    let created = sandbox.create(&sandbox.path("source"));
    assert!(number(&created, "/stats/bytes_new") < 100_000, "{created}");
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_copy_is_found_by_all_who_know_the_old_place() {
    need!(need::program("age-keygen"), need::program("age"), need::program("taskset"));
    let (sandbox, id) = repacked();
    let source = sandbox.path("source");
    // Without any index object: by those who read, and for good by the next capture.
    for path in objects(&sandbox, "index") {
        fs::remove_file(sandbox.repo().join(path)).expect("an index object");
    }
    forget_caches(&sandbox);
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
    sandbox.create(&source);
    forget_caches(&sandbox);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
    // By a writer, who cannot open a pack.
    let recipient = new_identity(&sandbox, "writer.txt");
    sandbox.must(&format!("key add web-1 --writer --recipient {recipient}"), exit::DONE);
    sandbox.must("check --identity writer.txt", exit::DONE);
    // By a replica, which had the old packs and prunes them itself.
    sandbox.must("replicate copy", exit::DONE);
    sandbox.must("check --repo copy --read-data", exit::DONE);
    sandbox.must(&format!("restore {id} --repo copy --target t"), exit::DONE);
    // Without snap.
    let recovered = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recover.py"))
        .args([sandbox.repo(), sandbox.identity()])
        .args([id.as_str(), "back"])
        .current_dir(sandbox.path(""))
        .output()
        .expect("python3");
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    let file = |folder: &str| fs::read(sandbox.path(folder).join("file-00")).expect("a file");
    assert_eq!(file("back"), file("source"));
}

#[test]
fn a_copy_that_has_rotted_keeps_what_it_was_made_from() {
    need!(need::program("taskset"));
    let (sandbox, id) = sparse(16);
    let old = objects(&sandbox, "packs");
    sandbox.must("prune --yes", exit::DONE);
    for path in objects(&sandbox, "packs").into_iter().filter(|path| !old.contains(path)) {
        let path = sandbox.repo().join(path);
        let mut bytes = fs::read(&path).expect("a pack");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).expect("a pack");
        fs::write(&path, bytes).expect("a pack");
    }
    sandbox.must("prune --delay 0s --yes", exit::DONE);
    forget_caches(&sandbox);
    sandbox.restores_to(&id, &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn what_was_repacked_can_be_taken_back_until_it_goes() {
    need!(need::program("taskset"));
    let (sandbox, second) = sparse(16);
    let first = id_of(&sandbox.json("list")["forgotten"][0]).expect("an id");
    sandbox.must("prune --yes", exit::DONE);
    sandbox.must(&format!("undelete {first}"), exit::DONE);
    sandbox.must("prune --delay 0s --yes", exit::DONE);
    forget_caches(&sandbox);
    sandbox.must("check --read-data", exit::DONE);
    sandbox.must(&format!("restore {first} --target t"), exit::DONE);
    assert_eq!(fs::read_dir(sandbox.path("t")).expect("a target").count(), 16);
    sandbox.restores_to(&second, &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn many_small_packs_become_few() {
    let (sandbox, ids) = history(40);
    assert_eq!((objects(&sandbox, "packs").len(), objects(&sandbox, "index").len()), (80, 40));
    let report = sandbox.json("prune");
    assert_eq!(number(&report, "/repacked/packs"), 80);
    assert_eq!(number(&report, "/indexes_merged"), 40);
    sandbox.must("prune --delay 0s", exit::DONE);
    assert_eq!((objects(&sandbox, "packs").len(), objects(&sandbox, "index").len()), (2, 1));
    assert_eq!(listed(&sandbox), ids);
    forget_caches(&sandbox);
    sandbox.must("check --read-data", exit::DONE);
    sandbox.restores_to("latest", &sandbox.path("source")).unwrap_or_else(|text| panic!("{text}"));
    sandbox.must(&format!("restore {} --target t", ids[3]), exit::DONE);
    capture(&sandbox, 99);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_repack_that_ends_anywhere_is_gone_on_with_by_the_next() {
    need!(need::strace(), need::program("taskset"));
    let _alone = heavy();
    let (sandbox, id) = sparse(9);
    let bytes = stored_bytes(&sandbox);
    let args: Vec<OsString> = "prune --yes --delay 0s --json".split(' ').map(OsString::from).collect();
    ends_anywhere(&sandbox, &args, |sandbox| {
        sandbox.restores_to(&id, &sandbox.path("source"))?;
        for _ in 0..2 {
            sandbox.expect(&args, &[exit::DONE])?;
        }
        let left = stored_bytes(sandbox);
        if left > bytes / 2 {
            return Err(format!("{left} of {bytes} bytes are left"));
        }
        sandbox.checks_clean()?;
        sandbox.restores_to(&id, &sandbox.path("source"))
    });
}
