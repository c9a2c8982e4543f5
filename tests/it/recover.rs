//! docs/recover.py gives back what snap has stored, with nothing of snap: `age`, `zstd` and Python.

use crate::compare::{assert_same, same};
use crate::need::{self, need};
use crate::snap::{Run, Sandbox, WATCHDOG, create_args, exit, id_of, run};
use crate::trees::{Extras, nasty_tree, source_tree};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The program under test.
pub fn recover_py() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recover.py")
}

/// Everything that it needs of the machine.
pub fn tools() -> need::Need {
    need::program("age").and(need::program("zstd")).and(need::program("python3"))
}

/// Runs it on the repository of `sandbox` with the identity file `identity`.
#[track_caller]
pub fn recover<S: AsRef<OsStr>>(sandbox: &Sandbox, repo: &Path, identity: &Path, args: &[S]) -> Run {
    let mut command = sandbox.command("python3");
    command.arg(recover_py()).arg(repo).arg(identity).args(args);
    run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
}

#[test]
fn it_gives_back_everything_a_file_system_holds() {
    need!(tools());
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.path("source"), sandbox.path("target"));
    nasty_tree(&source, Extras { long_paths: false, four_gib: true });
    sandbox.init();
    let report = sandbox.create(&source);
    let id = id_of(&report["snapshot"]).expect("an id");
    let args = [OsString::from(&id[..12]), target.clone().into()];
    let run = recover(&sandbox, &sandbox.repo(), &sandbox.identity(), &args);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    assert_same(&source, &target);
    let again = recover(&sandbox, &sandbox.repo(), &sandbox.identity(), &args);
    assert!(again.code == 1 && again.stderr.contains("is not empty"), "{again}");
}

#[test]
fn it_needs_no_index_and_takes_exported_identities() {
    need!(tools());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 300, 5);
    sandbox.init();
    sandbox.create(&source);
    let exported = sandbox.path("exported.txt");
    let export = [OsStr::new("key"), OsStr::new("export"), exported.as_os_str()];
    sandbox.expect(&export, &[exit::DONE]).expect("exported identities");
    std::fs::remove_dir_all(sandbox.repo().join("index")).expect("an index that is lost");
    for name in sandbox.objects().iter().filter(|name| name.starts_with("keys")) {
        std::fs::remove_file(sandbox.repo().join(name)).expect("a key that is lost");
    }
    let target = sandbox.path("target");
    let run = recover(&sandbox, &sandbox.repo(), &exported, &[OsStr::new("latest"), target.as_os_str()]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    assert_same(&source, &target);
}

#[test]
fn it_lists_snapshots_and_opens_by_ssh_key() {
    need!(tools());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 5, 1);
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys");
    let identity = sandbox.path("ssh_ed25519");
    std::fs::copy(keys.join("ssh_ed25519"), &identity).expect("a key");
    crate::trees::set_mode(&identity, 0o600);
    let recipient = std::fs::read_to_string(keys.join("ssh_ed25519.pub")).expect("its public half");
    sandbox.expect(&["init", "--recipient", recipient.trim()], &[exit::DONE]).expect("a repository");
    let mut args = create_args(&source);
    args.extend(["--tag", "nightly", "--identity"].map(OsString::from));
    args.push(identity.clone().into());
    let report = sandbox.expect(&args, &[exit::DONE]).expect("a snapshot").json();
    let id = id_of(&report["snapshot"]).expect("an id");
    let run = recover(&sandbox, &sandbox.repo(), &identity, &["list"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stdout.starts_with(&id[..12]) && run.stdout.contains("nightly"), "{run}");
    let target = sandbox.path("target");
    recover(&sandbox, &sandbox.repo(), &identity, &[OsStr::new(&id), target.as_os_str()]);
    assert_same(&source, &target);
}

#[test]
fn what_is_damaged_is_named_and_the_rest_comes_back() {
    need!(tools());
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.path("source"), sandbox.path("target"));
    source_tree(&source, 60, 9);
    sandbox.init();
    sandbox.create(&source);
    // The larger of the packs holds content, the smaller one the tree.
    let packs = sandbox.objects().into_iter().filter(|name| name.starts_with("packs"));
    let sizes = packs.map(|name| {
        let path = sandbox.repo().join(name);
        (std::fs::metadata(&path).expect("a pack").len(), path)
    });
    let (_, largest) = sizes.max().expect("packs");
    std::fs::remove_file(largest).expect("a pack that is lost");
    let run = recover(&sandbox, &sandbox.repo(), &sandbox.identity(), &[OsStr::new("latest"), target.as_os_str()]);
    assert_eq!(run.code, 4, "{run}");
    assert!(run.stderr.contains("lost: "), "{run}");
    assert!(same(&source, &target).is_err());
    let wrong = crate::compare::wrong_files(&source, &target);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn it_is_short_enough_to_be_read() {
    let text = std::fs::read_to_string(recover_py()).expect("docs/recover.py");
    assert!(text.lines().count() <= 200, "{} lines", text.lines().count());
}
