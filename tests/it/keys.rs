//! Who can open the repository, with what, and how far each of them gets.

use crate::compare::same;
use crate::need::{self, need};
use crate::snap::{self, Run, Sandbox, WATCHDOG, exit, id_of};
use crate::trees::{set_mode, set_time, source_tree};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

#[track_caller]
fn output(sandbox: &Sandbox, program: &str, args: &[&str]) -> Run {
    let mut command = sandbox.command(program);
    command.args(args);
    snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
}

/// A new identity in `file`: its recipient.
#[track_caller]
pub fn new_identity(sandbox: &Sandbox, file: &str) -> String {
    let run = output(sandbox, "age-keygen", &["-o", file]).expect(&[0]).unwrap_or_else(|text| panic!("{text}"));
    set_mode(&sandbox.path(file), 0o600);
    run.stderr.trim().rsplit(' ').next().expect("a recipient").to_owned()
}

#[track_caller]
fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    set_mode(path, 0o600);
}

fn packs(sandbox: &Sandbox) -> BTreeSet<PathBuf> {
    sandbox.objects().into_iter().filter(|path| path.starts_with("packs")).collect()
}

fn key_names(report: &Value) -> Vec<String> {
    let keys = report["keys"].as_array().expect("keys");
    keys.iter()
        .map(|key| format!("{}={}", key["name"].as_str().unwrap_or("?"), key["role"].as_str().unwrap_or("?")))
        .collect()
}

#[test]
fn the_first_use_makes_an_identity_that_only_its_owner_can_read() {
    let sandbox = Sandbox::new();
    let run = sandbox.must("init", exit::DONE);
    let file = sandbox.identity();
    assert!(run.stdout.contains(&file.display().to_string()) && run.stdout.contains("Keep a copy"), "{run}");
    assert_eq!(fs::metadata(&file).expect("an identity").mode() & 0o777, 0o600);
    assert!(!run.stdout.contains("AGE-SECRET-KEY"), "{run}");
    for mode in [0o640, 0o604, 0o660] {
        set_mode(&file, mode);
        let run = sandbox.must("list", exit::WRONG_KEY);
        assert!(run.stderr.contains("chmod 600") && run.stderr.contains(&format!("{mode:04o}")), "{run}");
    }
    // A second repository of the same person has the same identity.
    set_mode(&file, 0o600);
    sandbox.must("init --repo second", exit::DONE);
    sandbox.must("list --repo second", exit::DONE);
}

#[test]
fn an_ssh_key_opens_a_repository() {
    need!(need::program("ssh-keygen"));
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 5, 1);
    for (name, passphrase) in [("id", ""), ("locked", "open sesame")] {
        let made = output(&sandbox, "ssh-keygen", &["-q", "-t", "ed25519", "-N", passphrase, "-f", name]);
        made.expect(&[0]).unwrap_or_else(|text| panic!("{text}"));
    }
    let public = fs::read_to_string(sandbox.path("id.pub")).expect("a public key");
    sandbox.expect(&["init", "--recipient", public.trim()], &[0]).unwrap_or_else(|text| panic!("{text}"));
    sandbox.must("create source --identity id", exit::DONE);
    sandbox.must("restore latest --target target --identity id", exit::DONE);
    same(&sandbox.path("source"), &sandbox.path("target")).unwrap_or_else(|text| panic!("{text}"));
    let run = sandbox.must("list --identity locked", exit::WRONG_KEY);
    assert!(run.stderr.contains("locked with a passphrase"), "{run}");
    let run = sandbox.must("list", exit::WRONG_KEY);
    assert!(run.stderr.contains("identity.txt"), "{run}");
    assert!(!sandbox.identity().exists(), "looking made an identity");
}

#[test]
fn a_passphrase_opens_a_repository() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 3, 1);
    private(&sandbox.path("right"), "correct horse battery staple\nnot this line\n");
    private(&sandbox.path("wrong"), "wrong horse battery staple\n");
    let with = |file: &str, line: &str, code: i32| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = sandbox.snap_command(&words);
        command.env("SNAP_PASSPHRASE_FILE", sandbox.path(file));
        let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[code]));
        run.unwrap_or_else(|text| panic!("{text}"))
    };
    let run = sandbox.must("init --passphrase", exit::USAGE);
    assert!(run.stderr.contains("SNAP_PASSPHRASE_FILE") && !sandbox.repo().join("config").exists(), "{run}");
    with("right", "init --passphrase", exit::DONE);
    with("right", "create source", exit::DONE);
    let run = with("wrong", "list", exit::WRONG_KEY);
    assert!(!run.stderr.contains("horse"), "the passphrase is told: {run}");
    for run in [run, sandbox.must("list", exit::WRONG_KEY)] {
        let named = ["--passphrase-file", "SNAP_PASSPHRASE_FILE"].iter().all(|word| run.stderr.contains(word));
        assert!(named && !run.stderr.contains("--identity"), "{run}");
    }
    set_mode(&sandbox.path("right"), 0o644);
    assert!(with("right", "list", exit::WRONG_KEY).stderr.contains("chmod 600"));
    private(&sandbox.path("empty"), "\n");
    with("empty", "list", exit::WRONG_KEY);
}

/// Answers what a program asks on its terminal, then prints what it said and ends as it ended.
const TERMINAL: &str = "import os, pty, sys
answers = sys.argv[1].split(',')
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said = b''
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    said += data
    if data.rstrip().endswith(b':') and answers:
        os.write(fd, answers.pop(0).encode() + b'\\n')
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Runs the program on a terminal where somebody types `answers`, separated by commas.
pub fn on_a_terminal(sandbox: &Sandbox, answers: &str, line: &str, variables: &[(&str, &str)]) -> Run {
    let mut command = sandbox.command("python3");
    command.args(["-c", TERMINAL, answers]).arg(snap::program()).args(line.split_whitespace());
    command.env("TERM", "xterm").envs(variables.iter().copied());
    snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
}

#[test]
fn a_passphrase_is_typed_twice() {
    let sandbox = Sandbox::new();
    let run = on_a_terminal(&sandbox, "correct horse battery,correct horse batterx", "init --passphrase", &[]);
    assert!(run.code == exit::USAGE && run.stdout.contains("not the same"), "{run}");
    assert!(!sandbox.repo().join("config").exists());
    let run = on_a_terminal(&sandbox, "correct horse battery,correct horse battery", "init --passphrase", &[]);
    assert!(run.code == exit::DONE && !run.stdout.contains("horse"), "{run}");
    let run = on_a_terminal(&sandbox, "correct horse battery", "list", &[]);
    assert!(run.code == exit::DONE && run.stdout.contains("no snapshots"), "{run}");
    let run = on_a_terminal(&sandbox, "another horse battery", "list", &[]);
    assert_eq!(run.code, exit::WRONG_KEY, "{run}");
}

#[test]
fn a_writer_writes_and_cannot_read() {
    need!(need::program("age"), need::program("age-keygen"), need::program("zstd"));
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 30, 6);
    sandbox.init();
    sandbox.create(&source);
    let recipient = new_identity(&sandbox, "writer.txt");
    sandbox.must(&format!("key add web-1 --writer --recipient {recipient}"), exit::DONE);
    // The owner's identity is out of the writer's reach.
    let cache = sandbox.cache();
    let as_writer = |line: &str, code: i32| sandbox.must(&format!("{line} --identity writer.txt"), code);
    let before = packs(&sandbox);
    fs::remove_dir_all(&cache).expect("a catalog");
    let report = as_writer("create source --json", exit::DONE).json();
    assert_eq!(report["stats"]["bytes_new"], 0, "{report}");
    assert_eq!(packs(&sandbox), before, "all of it was there");
    fs::remove_dir_all(&cache).expect("a catalog");
    set_time(
        &crate::compare::paths(&source).iter().map(|p| source.join(p)).find(|p| p.is_file()).expect("a file"),
        1,
        0,
    );
    let report = as_writer("create source --json", exit::DONE).json();
    assert_eq!(report["snapshot"]["sources"][0]["new_bytes"], 0, "{report}");
    let new: u64 =
        packs(&sandbox).difference(&before).map(|p| fs::metadata(sandbox.repo().join(p)).expect("a pack").len()).sum();
    assert!(new > 0 && new < 20_000, "{new} bytes of packs for a tree");
    let id = id_of(&report["snapshot"]).expect("an id");
    assert_eq!(as_writer("list --json", exit::DONE).json()["snapshots"].as_array().map(Vec::len), Some(3));
    let report = as_writer("check --json", exit::DONE).json();
    assert_eq!((&report["trees_walked"], &report["packs_read"]), (&false.into(), &0.into()), "{report}");
    let report = as_writer("check --read-data --json", exit::DONE).json();
    assert_eq!((&report["opened"], &report["packs_read"]), (&false.into(), &report["packs"]), "{report}");
    let mine = sandbox.must("list --json", exit::DONE).json();
    assert_eq!(mine["snapshots"].as_array().map(Vec::len), Some(3));
    for line in [
        "restore latest --target out",
        "show latest --files",
        "show latest:file-00000",
        "export latest out.tar",
        "diff latest source",
        "key export keys.txt",
        "key remove web-1",
        &format!("key add web-2 --recipient {recipient}"),
    ] {
        let run = as_writer(line, exit::WRONG_KEY);
        assert!(run.stderr.contains("web-1") && run.stderr.contains("writer"), "{run}");
    }
    assert!(!sandbox.path("out").exists() && !sandbox.path("out.tar").exists() && !sandbox.path("keys.txt").exists());
    what_it_knows_opens_no_pack(&sandbox);
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
    // A damaged pack is found without a key to open it.
    let pack = sandbox.repo().join(packs(&sandbox).first().expect("a pack"));
    let mut bytes = fs::read(&pack).expect("a pack");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::remove_file(&pack).expect("a pack");
    fs::write(&pack, bytes).expect("a pack");
    as_writer("check --read-data", exit::DAMAGE);
}

/// Everything that the writer has, tried with the program `age` on every pack.
fn what_it_knows_opens_no_pack(sandbox: &Sandbox) {
    let key = sandbox.repo().join("keys/web-1.age").display().to_string();
    let secrets = output(sandbox, "age", &["-d", "-i", "writer.txt", &key]).expect(&[0]);
    let secrets = secrets.unwrap_or_else(|text| panic!("{text}")).stdout;
    let own = fs::read_to_string(sandbox.path("writer.txt")).expect("an identity");
    let texts = [secrets, own].join("\n").replace(['"', ',', '{', '}'], "\n");
    let identities: Vec<&str> = texts.lines().filter(|line| line.starts_with("AGE-SECRET-KEY-1")).collect();
    assert_eq!(identities.len(), 2, "its own and the one for the index");
    private(&sandbox.path("all-it-knows.txt"), &identities.join("\n"));
    let opens = |object: &PathBuf| {
        let path = sandbox.repo().join(object).display().to_string();
        output(sandbox, "age", &["-d", "-i", "all-it-knows.txt", "-o", "/dev/null", &path]).code == 0
    };
    for object in sandbox.objects().iter().filter(|path| !path.starts_with("keys") && *path != Path::new("config")) {
        assert_eq!(opens(object), !object.starts_with("packs"), "{}", object.display());
    }
}

#[test]
fn of_keys_of_one_name_that_are_added_at_once_one_is_added_whole() {
    need!(need::program("age-keygen"));
    let sandbox = Sandbox::new();
    sandbox.init();
    let recipients = ["a.txt", "b.txt", "c.txt"].map(|file| new_identity(&sandbox, file));
    for round in 0..4 {
        let name = format!("same-{round}");
        let children = recipients.each_ref().map(|recipient| {
            let mut command = sandbox.snap_command(&["key", "add", &name, "--recipient", recipient]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program")
        });
        let ended = children.map(|mut child| child.wait().expect("an end").code());
        assert_eq!(ended.iter().filter(|code| **code == Some(exit::DONE)).count(), 1, "{ended:?}");
        sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
        // Another file under its name is not what was said of it.
        let keys = sandbox.repo().join("keys");
        let own = fs::read(keys.join(format!("{name}.age"))).expect("a key");
        let other = fs::read_dir(&keys).expect("a folder").flatten().map(|entry| entry.path());
        let other = other.filter(|path| path.extension().is_some_and(|end| end == "age"));
        let other = other.map(|path| fs::read(path).expect("a key")).find(|bytes| *bytes != own).expect("another key");
        fs::remove_file(keys.join(format!("{name}.age"))).expect("a key");
        fs::write(keys.join(format!("{name}.age")), other).expect("a key");
        let report = sandbox.json("key list");
        let listed = report["keys"].as_array().expect("keys").iter().find(|key| key["name"] == name.as_str());
        assert!(listed.expect("the key")["role"].is_null(), "{report}");
        sandbox.must(&format!("key remove {name}"), exit::DONE);
    }
}

#[test]
fn keys_come_and_go_and_the_last_owner_stays() {
    need!(need::program("age"), need::program("age-keygen"));
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 3, 1);
    sandbox.must("init --key-name first", exit::DONE);
    sandbox.must("create source", exit::DONE);
    let second = new_identity(&sandbox, "second.txt");
    let writer = new_identity(&sandbox, "writer.txt");
    let refused = |line: &str, said: &str| {
        let run = sandbox.must(line, exit::USAGE);
        assert!(run.stderr.contains(said), "{said:?} is not said: {run}");
    };
    refused("key remove first", "last owner");
    refused("key add x", "whose key");
    refused("key add x --recipient nobody", "recipient");
    refused(&format!("key add ../x --recipient {second}"), "is not a name");
    refused(&format!("key add first --recipient {second}"), "exists already");
    refused("key remove nobody", "does not exist");
    assert!(!sandbox.repo().join("keys/x.age").exists());
    sandbox.must(&format!("key add web --role writer --recipient {writer}"), exit::DONE);
    // A writer is no owner who could stay.
    refused("key remove first", "last owner");
    let report = sandbox.json(&format!("key add second --recipient {second}"));
    assert_eq!(key_names(&report), ["first=owner", "second=owner", "web=writer"]);
    // Who removes a key keeps one that is known to open everything.
    refused("key remove first", "in use");
    let text = sandbox.must("key list --identity second.txt", exit::DONE).stdout;
    assert!(text.lines().any(|line| line.starts_with("second") && line.contains("(in use)")), "{text}");
    let run = sandbox.must("key export out.txt", exit::DONE);
    assert!(!run.stdout.contains("AGE-SECRET-KEY"), "{run}");
    assert_eq!(fs::metadata(sandbox.path("out.txt")).expect("a file").mode() & 0o777, 0o600);
    for object in sandbox.objects().iter().filter(|path| !path.starts_with("keys") && *path != Path::new("config")) {
        let path = sandbox.repo().join(object).display().to_string();
        assert_eq!(output(&sandbox, "age", &["-d", "-i", "out.txt", "-o", "/dev/null", &path]).code, 0, "{path}");
    }
    assert!(sandbox.must("key export out.txt", exit::FAILED).stderr.contains("out.txt"));
    sandbox.must("key remove first --identity second.txt", exit::DONE);
    let run = sandbox.must("list", exit::WRONG_KEY);
    assert!(
        run.stderr.contains("“second”") && run.stderr.contains("“web”") && run.stderr.contains("--identity"),
        "{run}"
    );
    sandbox.must("check --read-data --identity second.txt", exit::DONE);
    sandbox.must("restore latest --target target --identity second.txt", exit::DONE);
    sandbox.must("key remove web --identity second.txt", exit::DONE);
    sandbox.must("list --identity writer.txt", exit::WRONG_KEY);
}

#[test]
fn whatever_is_wrong_with_an_identity_it_opens_nothing() {
    need!(need::program("ssh-keygen"));
    let sandbox = Sandbox::new();
    sandbox.init();
    private(&sandbox.path("garbage"), "neither this nor that\n");
    fs::copy(sandbox.identity(), sandbox.path("wide")).expect("a copy");
    set_mode(&sandbox.path("wide"), 0o644);
    let made = output(&sandbox, "ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "ecdsa"]);
    made.expect(&[0]).unwrap_or_else(|text| panic!("{text}"));
    for (name, said) in [("absent", "--identity"), ("garbage", "line 1"), ("wide", "chmod 600"), ("ecdsa", "ecdsa")] {
        let run = sandbox.must(&format!("list --identity {name}"), exit::WRONG_KEY);
        assert!(run.stderr.contains(said) && run.stderr.contains(name), "{run}");
    }
}

#[test]
fn a_damaged_key_file_is_damage() {
    let sandbox = Sandbox::new();
    sandbox.init();
    let key = fs::read_dir(sandbox.repo().join("keys")).expect("keys").flatten().map(|entry| entry.path());
    let key = key.into_iter().find(|path| path.extension().is_some_and(|end| end == "age")).expect("a key");
    let mut bytes = fs::read(&key).expect("a key");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::remove_file(&key).and_then(|()| fs::write(&key, bytes)).expect("a key");
    for line in ["list", "check"] {
        let run = sandbox.must(line, exit::DAMAGE);
        assert!(format!("{}{}", run.stdout, run.stderr).contains("keys/"), "{run}");
    }
}

/// A number that no user has.
const NOBODY: u32 = 54_321;

#[test]
fn who_has_no_home_works_with_what_is_named() {
    need!(need::root());
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 3, 1);
    sandbox.init();
    sandbox.create(&sandbox.path("source"));
    fs::rename(sandbox.identity(), sandbox.path("identity")).expect("an identity");
    let root = sandbox.path("");
    set_mode(&root, 0o755);
    let owned = output(&sandbox, "chown", &["-R", &NOBODY.to_string(), root.to_str().expect("text")]);
    owned.expect(&[0]).unwrap_or_else(|text| panic!("{text}"));
    let mut command = sandbox.snap_command(&["list", "--json", "--identity", "identity"]);
    command.env_remove("HOME").uid(NOBODY).gid(NOBODY);
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(run.json()["snapshots"].as_array().map(Vec::len), Some(1), "{run}");
    assert_eq!(fs::read_dir(sandbox.path("tmp")).expect("a folder").count(), 0, "the cache is gone again");
    let mut command = sandbox.snap_command(&["list", "--json"]);
    command.env_remove("HOME").uid(NOBODY).gid(NOBODY);
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[exit::WRONG_KEY]));
    run.unwrap_or_else(|text| panic!("{text}"));
}
