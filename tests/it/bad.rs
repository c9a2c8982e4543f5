//! What goes wrong: with which exit code, in which words, and what is left behind.

use crate::capture::{Memory, Nobody};
use crate::compare::wrong_files;
use crate::need::{self, need};
use crate::snap::{self, Run, Sandbox, WATCHDOG, copy_folder, exit, id_of};
use crate::trees::{Random, set_mode, source_tree};
use ::snap::crypto::keyfile::open_secrets;
use ::snap::crypto::people::PersonIdentity;
use ::snap::id::object_name;
use ::snap::repo::manifest::{Manifest, VERSION};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A sandbox with a repository and a small folder in it.
pub fn begun() -> Sandbox {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 5, 1);
    fs::write(sandbox.path("source/plain"), "a file").expect("a file");
    sandbox.init();
    sandbox
}

#[track_caller]
pub fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not said: {run}");
    }
}

#[test]
fn where_no_repository_is_nothing_is_done() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 2, 1);
    fs::write(sandbox.path("source/plain"), "a file").expect("a file");
    for verb in [
        "create source",
        "list",
        "show latest",
        "diff latest source",
        "restore latest --target t",
        "check",
        "status",
        "key list",
        "export latest out.tar",
    ] {
        says(&sandbox.must(verb, exit::NO_REPOSITORY), &["there is no repository at", "snap init"]);
    }
    assert!(!sandbox.repo().exists() && !sandbox.path("t").exists());
    fs::create_dir(sandbox.repo()).expect("a folder");
    fs::write(sandbox.repo().join("config"), "something else").expect("a file");
    says(&sandbox.must("list", exit::NO_REPOSITORY), &["not a snap repository"]);
    says(&sandbox.must("init", exit::FAILED), &["already"]);
    fs::remove_file(sandbox.repo().join("config")).expect("a file");
    fs::write(sandbox.repo().join("photo.jpg"), "").expect("a file");
    says(&sandbox.must("init", exit::USAGE), &["is not empty", "photo.jpg"]);
    says(&sandbox.must("list", exit::NO_REPOSITORY), &["there is no repository"]);
    says(&sandbox.must("list --repo source/plain", exit::NO_REPOSITORY), &["source/plain"]);
    says(&sandbox.must("init --repo source/plain", exit::FAILED), &["source/plain"]);
    says(&sandbox.must("list --repo gs://bucket/x", exit::USAGE), &["gs://bucket/x", "s3://BUCKET/PREFIX"]);
    sandbox.must("frobnicate", exit::USAGE);
    sandbox.must("", exit::USAGE);
}

#[test]
fn a_repository_of_a_newer_version_is_refused_politely() {
    let sandbox = begun();
    sandbox.must("create source", exit::DONE);
    let config = sandbox.repo().join("config");
    let text = fs::read_to_string(&config).expect("config");
    for (from, to) in [("\"version\":1", "\"version\":2"), ("\"requires\":[]", "\"requires\":[\"holograms\"]")] {
        let newer = text.replace(from, to);
        assert_ne!(newer, text);
        fs::remove_file(&config).expect("config");
        fs::write(&config, newer).expect("config");
        for verb in ["list", "create source", "check --read-data", "restore latest --target t"] {
            let run = sandbox.must(verb, exit::FAILED);
            says(&run, &["use a newer snap"]);
            assert!(!run.stderr.contains("damage"), "{run}");
        }
    }
}

#[test]
fn a_snapshot_of_a_newer_version_is_no_damage() {
    let sandbox = begun();
    sandbox.must("create source", exit::DONE);
    let key = fs::read_dir(sandbox.repo().join("keys")).expect("keys").flatten().map(|entry| entry.path());
    let key = key.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "age")).expect("a key");
    let identity = PersonIdentity::load(&sandbox.identity(), None).expect("an identity");
    let secrets = open_secrets(&fs::read(key).expect("a key"), &identity).expect("secrets");
    let shown = sandbox.json("show latest")["manifest"].clone();
    let mut manifest: Manifest = serde_json::from_value(shown).expect("a manifest");
    manifest.version = VERSION + 1;
    let plain = manifest.encode(&secrets.mac_key()).expect("a manifest");
    let sealed = ::snap::crypto::seal::seal(&[secrets.index_recipient()], &plain).expect("a sealed manifest");
    let name = ::snap::id::to_hex(&object_name(&sealed));
    fs::write(sandbox.repo().join("snapshots").join(&name), sealed).expect("a manifest");
    let listed = sandbox.must("list --json", exit::FAILED).json();
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&listed["unreadable"][0]["id"], &listed["unreadable"][0]["newer"]),
        (&name.as_str().into(), &true.into())
    );
    let run = sandbox.must(&format!("restore {} --target t", &name[..10]), exit::FAILED);
    says(&run, &["newer snap"]);
    let run = sandbox.must("check --read-data --json", exit::FAILED);
    assert_eq!(run.json()["problems"][0]["severity"], "unknown", "{run}");
    assert!(sandbox.must("check", exit::FAILED).stdout.contains("newer"));
    // What this version can read is as good as ever; which is the newest it cannot tell.
    says(&sandbox.must("restore latest --target t", exit::FAILED), &["newer snap"]);
    let readable = listed["snapshots"][0]["id"].as_str().expect("an id");
    sandbox.must(&format!("restore {readable} --target t"), exit::DONE);
    sandbox.must("create source", exit::DONE);
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let sandbox = begun();
    says(&sandbox.must("create source/plain", exit::USAGE), &["is not a folder"]);
    says(&sandbox.must("create nowhere", exit::USAGE), &["there is no folder nowhere"]);
    says(&sandbox.must("create repo", exit::USAGE), &["the repository itself"]);
    says(&sandbox.must("create source --compression 99", exit::USAGE), &["99"]);
    fs::write(sandbox.path("source/snap.toml"), "repository = 7\n").expect("a file");
    let mut command = sandbox.snap_command(&["create", "source"]);
    command.env_remove("SNAP_REPO");
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[exit::USAGE]));
    says(&run.unwrap_or_else(|text| panic!("{text}")), &["snap.toml"]);
    assert!(sandbox.list().is_empty());
}

#[test]
fn what_is_not_permitted_is_said() {
    need!(need::root());
    let sandbox = begun();
    sandbox.must("create source", exit::DONE);
    let user = Nobody::new(&sandbox);
    let closed = |path: &str, mode: u32, args: &[&str], code: i32, said: &str| {
        set_mode(&sandbox.path(path), mode);
        let run = user.run(args).expect(&[code]).unwrap_or_else(|text| panic!("{text}"));
        set_mode(&sandbox.path(path), 0o700);
        says(&run, &["Permission denied", said]);
    };
    closed("source", 0o000, &["create", "source"], exit::FAILED, "source");
    closed("repo/config", 0o000, &["list"], exit::FAILED, "config");
    closed("repo/snapshots", 0o000, &["list"], exit::FAILED, "snapshots");
    fs::write(sandbox.path("source/new"), Random::new(3).bytes(9_000)).expect("a file");
    closed("repo/packs", 0o500, &["create", "source"], exit::FAILED, "packs");
    closed("repo/snapshots", 0o500, &["create", "source"], exit::FAILED, "snapshots");
    fs::create_dir(sandbox.path("closed")).expect("a folder");
    closed("closed", 0o500, &["restore", "latest", "--target", "closed/new"], exit::FAILED, "closed/new");
    closed("closed", 0o500, &["init", "--repo", "closed/new"], exit::FAILED, "closed/new");
    let run = user.run(&["check", "--read-data"]).expect(&[exit::DONE]);
    run.unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(user.run(&["list", "--json"]).json()["snapshots"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_full_disk_publishes_nothing_and_needs_only_room() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let (source, repo) = (sandbox.path("source"), sandbox.path("small"));
    fs::create_dir_all(&source).expect("a folder");
    for name in ["a", "b", "c", "d"] {
        fs::write(source.join(name), Random::new(u64::from(name.as_bytes()[0])).bytes(3 << 20)).expect("a file");
    }
    let mounted = Memory::mount(&repo, 8 << 20);
    sandbox.must("init --repo small/repo", exit::DONE);
    let run = sandbox.must("create source --repo small/repo", exit::FAILED);
    says(&run, &["No space left on device", "make room", &repo.join("repo/packs").display().to_string()]);
    assert!(sandbox.must("list --repo small/repo", exit::DONE).stdout.contains("no snapshots"));
    sandbox.must("check --read-data --repo small/repo", exit::DONE);
    let mut command = Command::new(need::find_program("mount").expect("mount"));
    command.args(["-o", "remount,size=64m"]).arg(&repo);
    assert!(command.status().expect("mount").success());
    sandbox.must("create source --repo small/repo", exit::DONE);
    sandbox.must("check --read-data --repo small/repo", exit::DONE);
    let little = Memory::mount(&sandbox.path("target"), 7 << 20);
    let run = sandbox.must("restore latest --target target --repo small/repo --json", exit::FAILED);
    let report = run.json();
    assert!(report["error"]["message"].as_str().is_some_and(|text| text.contains("No space left")), "{run}");
    assert_eq!(wrong_files(&source, &sandbox.path("target")), [], "something half has a name");
    drop((little, mounted));
}

#[test]
fn a_full_disk_under_the_cache_is_said() {
    need!(need::root());
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 2_000, 1);
    sandbox.init();
    let mounted = Memory::mount(&sandbox.home().join(".cache"), 160 << 10);
    // Before a restore the disk is often full: that must not keep it from being done.
    let run = sandbox.must("create source", exit::DONE);
    says(&run, &[".cache/snap", "is full"]);
    says(&sandbox.must("check --read-data", exit::DONE), &["is full"]);
    // What a restore has to know, it keeps in memory.
    sandbox.must("restore latest --target target", exit::DONE);
    crate::compare::assert_same(&sandbox.path("source"), &sandbox.path("target"));
    drop(mounted);
    assert_eq!(sandbox.list().len(), 1);
    let report = sandbox.create(&sandbox.path("source"));
    sandbox
        .restores_to(&id_of(&report["snapshot"]).expect("an id"), &sandbox.path("source"))
        .unwrap_or_else(|text| panic!("{text}"));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

/// Starts two captures at the same moment, in the default repository: the ids of both snapshots.
#[track_caller]
fn at_once(sandbox: &Sandbox, sources: &[PathBuf; 2]) -> [String; 2] {
    let children = sources.each_ref().map(|source| {
        let mut command = sandbox.snap_command(&["create", "--stack", "same", "--json"]);
        command.arg(source).env_remove("SNAP_REPO").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program")
    });
    children.map(|child| {
        let run = ended(child).expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
        id_of(&run.json()["snapshot"]).expect("an id")
    })
}

fn default_repository(sandbox: &Sandbox) -> Sandbox {
    Sandbox::with_repo(&sandbox.path(""), &sandbox.home().join(".local/share/snap/repository"))
}

#[test]
fn two_first_captures_at_once_make_one_repository() {
    for round in 0..8 {
        let sandbox = Sandbox::new();
        let sources = ["one", "two"].map(|name| sandbox.path(name));
        sources.iter().for_each(|source| source_tree(source, 3, round));
        let ids = at_once(&sandbox, &sources);
        let there = default_repository(&sandbox);
        for (id, source) in ids.iter().zip(&sources) {
            there.restores_to(id, source).unwrap_or_else(|text| panic!("round {round}: {text}"));
        }
        there.checks_clean().unwrap_or_else(|text| panic!("round {round}: {text}"));
    }
}

#[test]
fn two_captures_at_once_both_succeed() {
    let sandbox = Sandbox::new();
    let sources = ["one", "two"].map(|name| sandbox.path(name));
    source_tree(&sources[0], 200, 1);
    copy_folder(&sources[0], &sources[1]).expect("a copy");
    fs::write(sources[1].join("more"), Random::new(5).bytes(5 << 20)).expect("a file");
    for round in 0..4 {
        let ids = at_once(&sandbox, &sources);
        let there = default_repository(&sandbox);
        for (id, source) in ids.iter().zip(&sources) {
            there.restores_to(id, source).unwrap_or_else(|text| panic!("round {round}: {text}"));
        }
        there.checks_clean().unwrap_or_else(|text| panic!("round {round}: {text}"));
        assert_eq!(there.list().len(), 2 * (round + 1));
        fs::write(sources[0].join("changing"), Random::new(round as u64).bytes(2 << 20)).expect("a file");
    }
}

pub fn ended(child: Child) -> Run {
    let output = child.wait_with_output().expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    let code = output.status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default());
    Run { line: "in the background".to_owned(), code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Starts the program, waits until it has `reached` something, and sends it `signal`.
pub fn interrupted(sandbox: &Sandbox, args: &[&str], signal: Signal, reached: &dyn Fn(u32) -> bool) -> Run {
    // Whoever runs the tests may have them ignore a hang-up, as `nohup` does. And on a busy machine whoever
    // waits for the moment must not come to it after the program has ended.
    let mut command = sandbox.command("nice");
    command.args(["-n", "19", "env", "--default-signal=HUP"]).arg(snap::program()).args(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    let begun = Instant::now();
    while child.try_wait().expect("a state").is_none() && !reached(child.id()) {
        assert!(begun.elapsed() < WATCHDOG, "never gets there");
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    // It may have ended by itself.
    let _ = kill_process(pid, signal);
    ended(child)
}

/// The bytes that the process has written so far.
pub fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap_or("0");
    line.parse().unwrap_or(0)
}

#[test]
fn a_signal_ends_a_capture_cleanly_and_nothing_is_done_twice() {
    let sandbox = Sandbox::owning(need::fast_tempdir());
    let source = sandbox.path("source");
    fs::create_dir_all(&source).expect("a folder");
    for i in 0..40 {
        fs::write(source.join(format!("file-{i}")), Random::new(i).bytes(2 << 20)).expect("a file");
    }
    sandbox.init();
    let total = 80 << 20;
    let mut stored_before = 0;
    for (round, (signal, at)) in
        [(Signal::INT, 1 << 20), (Signal::TERM, 16 << 20), (Signal::HUP, 20 << 20)].into_iter().enumerate()
    {
        let run = interrupted(&sandbox, &["create", "source"], signal, &|pid| written(pid) >= at);
        let run = run.expect(&[exit::INTERRUPTED]).unwrap_or_else(|text| panic!("{text}"));
        says(&run, &["interrupted"]);
        assert!(sandbox.list().is_empty(), "round {round}: something was published: {run}");
        sandbox.checks_clean().unwrap_or_else(|text| panic!("round {round}: {text}"));
        stored_before += at;
    }
    let report = sandbox.create(&source);
    let new = report["stats"]["bytes_new"].as_u64().expect("a number");
    assert!(new + stored_before / 2 <= total, "{new} bytes were stored again after some {stored_before}: {report}");
    let id = id_of(&report["snapshot"]).expect("an id");
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
    let run = interrupted(&sandbox, &["create", "source", "--json"], Signal::INT, &|_| true);
    assert!([exit::DONE, exit::INTERRUPTED].contains(&run.code), "{run}");
    reading_is_interrupted_too(&sandbox, &source);
}

fn reading_is_interrupted_too(sandbox: &Sandbox, source: &Path) {
    let target = sandbox.path("target");
    let args = ["restore", "latest", "--target", "target", "--json"];
    let run = interrupted(sandbox, &args, Signal::INT, &|pid| written(pid) >= 8 << 20);
    let run = run.expect(&[exit::INTERRUPTED]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(run.json()["error"]["exit_code"], exit::INTERRUPTED, "{run}");
    assert_eq!(wrong_files(source, &target), [], "something half has a name");
    let run = sandbox.must("restore latest --target target", exit::USAGE);
    says(&run, &["not empty", "--in-place"]);
    sandbox.must("restore latest --target target --in-place --exact", exit::DONE);
    crate::compare::assert_same(source, &target);
    let packs = sandbox.repo().join("packs");
    let run = interrupted(sandbox, &["check", "--read-data"], Signal::TERM, &|pid| has_open(pid, &packs));
    run.expect(&[exit::INTERRUPTED]).unwrap_or_else(|text| panic!("{text}"));
    let run =
        interrupted(sandbox, &["diff", "latest", "source"], Signal::INT, &|pid| has_open(pid, &source.join("file-1")));
    run.expect(&[exit::INTERRUPTED]).unwrap_or_else(|text| panic!("{text}"));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

/// The process has `path`, or something below it, open.
fn has_open(pid: u32, path: &Path) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(path))))
}

#[test]
fn nobody_listening_ends_no_capture() {
    let sandbox = begun();
    std::os::unix::fs::symlink("nowhere", sandbox.path("source/link")).expect("a link");
    for streams in [">/dev/full 2>/dev/full", "2>&-", "2>&1 | true"] {
        let line = format!("exec 3>code; ( \"$0\" create source --json; echo $? >&3 ) {streams}");
        let mut command = sandbox.command("sh");
        command.args(["-c", &line]).arg(snap::program());
        snap::run(command, Duration::from_secs(60)).unwrap_or_else(|text| panic!("{text}"));
        let code = fs::read_to_string(sandbox.path("code")).expect("a code");
        // What cannot be said on standard output is a failure; that nobody hears a remark is none.
        let wanted: &[&str] = if streams.starts_with('>') { &["1"] } else { &["0"] };
        assert!(wanted.contains(&code.trim()), "{streams}: {code}");
    }
    assert_eq!(sandbox.list().len(), 3, "each of them was stored");
}
