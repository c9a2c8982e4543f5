//! What a capture reads, what it notices, and what it says of that which it could not have.

use crate::compare::{assert_same, paths};
use crate::need::{self, need};
use crate::snap::{self, Run, Sandbox, WATCHDOG, create_args, exit, id_of, warns};
use crate::trees::{Random, set_mode, set_owner, set_time, source_tree};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nobody.
const NOBODY: u32 = 65_534;

/// Waits until what was done before is older than the clock's grain.
fn let_the_clock_tick() {
    std::thread::sleep(Duration::from_millis(60));
}

#[track_caller]
fn incomplete(run: Run) -> Value {
    let run = run.expect(&[exit::INCOMPLETE]).unwrap_or_else(|text| panic!("{text}"));
    let report = run.json();
    assert_eq!(report["snapshot"]["complete"], false, "{run}");
    report
}

#[test]
fn what_has_not_changed_is_not_read() {
    need!(need::strace());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 60, 5);
    let_the_clock_tick();
    sandbox.init();
    sandbox.create(&source);
    let stats = sandbox.create(&source)["stats"].clone();
    assert_eq!((&stats["files_changed"], &stats["bytes_read"]), (&0.into(), &0.into()), "{stats}");
    fs::write(source.join("one"), "new").expect("a file");
    let log = sandbox.path("opens");
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(&log);
    strace.arg(snap::program()).args(create_args(&source));
    let run = snap::run(strace, WATCHDOG).and_then(|run| run.expect(&[exit::DONE]));
    let run = run.unwrap_or_else(|text| panic!("{text}"));
    let opened = fs::read_to_string(&log).expect("a log");
    let files: Vec<&str> = opened.lines().filter(|line| line.contains("\"file-")).collect();
    assert!(files.is_empty() && opened.contains("\"one\""), "files were opened: {files:?}\n{run}");
    assert_eq!(run.json()["stats"]["files_changed"], 1);
}

#[test]
fn a_change_within_one_tick_of_the_clock_is_noticed() {
    let sandbox = Sandbox::new();
    let (source, file) = (sandbox.path("source"), sandbox.path("source/file"));
    fs::create_dir_all(&source).expect("a folder");
    sandbox.init();
    for round in 0..12 {
        fs::write(&file, format!("before {round:04}")).expect("a file");
        set_time(&file, 1_600_000_000, 123_456_789);
        sandbox.create(&source);
        fs::write(&file, format!("after  {round:04}")).expect("a file of the same size");
        set_time(&file, 1_600_000_000, 123_456_789);
        sandbox.create(&source);
        let shown = sandbox.must("show latest:file", exit::DONE);
        assert_eq!(shown.stdout, format!("after  {round:04}"), "round {round}");
    }
}

#[test]
fn a_file_that_never_stands_still_is_flagged() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(&source).expect("a folder");
    // Smaller and larger than what all workers share.
    for (name, mebibytes) in [("small", 6), ("large", 24)] {
        fs::write(source.join(name), Random::new(7).bytes(mebibytes << 20)).expect("a file");
    }
    fs::write(source.join("quiet"), "quiet").expect("a file");
    sandbox.init();
    let stop = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let files = ["small", "large"]
                .map(|name| fs::OpenOptions::new().write(true).open(source.join(name)).expect("a file"));
            let mut random = Random::new(8);
            while !stop.load(Ordering::Relaxed) {
                for file in &files {
                    file.write_all_at(&random.bytes(512), (random.below(5) << 20) as u64).expect("a change");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let report = incomplete(sandbox.snap(&create_args(&source)));
        stop.store(true, Ordering::Relaxed);
        report
    });
    for name in ["small", "large"] {
        assert!(warns(&report, name, "changed while it was read"), "{report}");
    }
    assert!(!warns(&report, "quiet", ""), "{report}");
    // Once it is quiet the next capture is whole.
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_file_that_vanishes_is_named() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(&source).expect("a folder");
    fs::write(source.join("a-large"), Random::new(9).bytes(96 << 20)).expect("a file");
    fs::write(source.join("z-gone"), "soon gone").expect("a file");
    sandbox.init();
    let mut command = sandbox.snap_command(&create_args(&source));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    // It reads the large file first, and its list of names is older than that.
    let begun = Instant::now();
    while !has_open(child.id(), &source.join("a-large")) {
        assert!(begun.elapsed() < WATCHDOG, "the large file is never read");
        std::thread::yield_now();
    }
    fs::remove_file(source.join("z-gone")).expect("a file");
    let output = child.wait_with_output().expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (code, line) = (output.status.code().unwrap_or(-1), "create".to_owned());
    let report = incomplete(Run { line, code, stdout: text(output.stdout), stderr: text(output.stderr) });
    assert!(warns(&report, "z-gone", ""), "{report}");
}

fn has_open(pid: u32, file: &Path) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file))
}

#[test]
fn what_nobody_may_read_is_named() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(source.join("locked/inside")).expect("a folder");
    for name in ["open", "closed", "locked/inside/file"] {
        fs::write(source.join(name), name).expect("a file");
    }
    set_mode(&source.join("closed"), 0o000);
    set_mode(&source.join("locked"), 0o000);
    let user = Nobody::new(&sandbox);
    user.run(&["init"]).expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let report = incomplete(user.run(&["create", "source", "--json"]));
    assert!(warns(&report, "closed", "Permission denied") && warns(&report, "locked", "Permission denied"), "{report}");
    let listed = user.run(&["list"]).expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    assert!(listed.stdout.contains("INCOMPLETE"), "{listed}");
    set_mode(&source.join("locked"), 0o700);
    set_mode(&source.join("closed"), 0o600);
    let again = user.run(&["create", "source", "--json"]);
    again.expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
}

/// A user without rights in a sandbox that is his own, with a copy of the program that he can reach.
pub struct Nobody<'a> {
    sandbox: &'a Sandbox,
    program: PathBuf,
}

impl<'a> Nobody<'a> {
    /// Gives the whole sandbox to nobody; who is nobody already keeps it.
    pub fn new(sandbox: &'a Sandbox) -> Self {
        let program = sandbox.path("snap-program");
        fs::copy(snap::program(), &program).expect("a copy of the program");
        if need::root().is_ok() {
            let root = sandbox.path("");
            for path in paths(&root).iter().map(|path| root.join(path)).chain([root.clone()]) {
                set_owner(&path, NOBODY, NOBODY);
            }
        }
        Self { sandbox, program }
    }

    /// Runs the program as that user.
    pub fn run(&self, args: &[&str]) -> Run {
        let mut command = if need::root().is_ok() {
            let mut command = self.sandbox.command("setpriv");
            let user = NOBODY.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(&self.program);
            command
        } else {
            self.sandbox.command(&self.program)
        };
        command.args(args);
        snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
    }
}

/// A file system in memory that is mounted as long as this lives.
pub struct Memory(PathBuf);

impl Memory {
    /// Mounts one of so many bytes.
    pub fn mount(point: &Path, bytes: u64) -> Self {
        fs::create_dir_all(point).expect("a folder");
        let mut command = Command::new(need::find_program("mount").expect("mount"));
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0777"), "snap-test"]).arg(point);
        snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
        Self(point.to_path_buf())
    }

    /// Lets nobody write to it any more.
    pub fn close(&self) {
        let mut command = Command::new(need::find_program("mount").expect("mount"));
        command.args(["-o", "remount,ro"]).arg(&self.0);
        snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut command = Command::new(need::find_program("umount").unwrap_or_else(|| "umount".into()));
        command.arg("-l").arg(&self.0);
        // On the way out of a failure nothing more can be done about it.
        let _ = snap::run(command, WATCHDOG);
    }
}

#[test]
fn another_file_system_below_is_named() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    let _mounted = Memory::mount(&source.join("data"), 1 << 20);
    fs::write(source.join("here"), "here").expect("a file");
    fs::write(source.join("data/there"), "there").expect("a file");
    sandbox.init();
    let report = incomplete(sandbox.snap(&["create", "source", "--json"]));
    assert!(warns(&report, "data", "another file system"), "{report}");
    let report = sandbox.json("create source --cross-mounts");
    assert_eq!(report["snapshot"]["sources"][0]["files"], 2);
    assert_eq!(sandbox.must("show latest:data/there", exit::DONE).stdout, "there");
}

#[test]
fn what_is_excluded_stays_out_and_nothing_else() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    let files: [(&str, &str); 13] = [
        (".snapignore", "build/\n*.tmp\n/only-here\n"),
        ("build/out", ""),
        ("t.tmp", ""),
        ("only-here", ""),
        ("sub/only-here", ""),
        ("sub/.snapignore", "*.log\n!important.log\n!kept.tmp\n"),
        ("sub/x.log", ""),
        ("sub/important.log", ""),
        ("sub/kept.tmp", ""),
        ("sub/deep/y.log", ""),
        ("a.log", ""),
        ("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("cache/data.bak", ""),
    ];
    for (name, text) in files {
        let path = source.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    sandbox.init();
    let captured = |options: &str| {
        sandbox.json(&format!("create source {options}"));
        let entries = sandbox.json("show latest --files")["entries"].clone();
        let entries = entries.as_array().expect("entries").clone();
        let files = entries.iter().filter(|entry| entry["kind"] == "-");
        files.map(|entry| entry["path"].as_str().expect("a path").to_owned()).collect::<Vec<_>>().join(" ")
    };
    let plain = ".snapignore a.log cache/CACHEDIR.TAG cache/data.bak sub/.snapignore sub/important.log sub/kept.tmp \
                 sub/only-here";
    assert_eq!(captured(""), plain);
    assert_eq!(captured("--exclude *.bak --exclude sub/"), ".snapignore a.log cache/CACHEDIR.TAG");
    assert_eq!(captured("--exclude-caches"), plain.replace(" cache/data.bak", ""));
    assert_eq!(captured("--no-ignore").split(' ').count(), files.len());
    let run = sandbox.must("create source --exclude #comment", exit::USAGE);
    assert!(run.stderr.contains("#comment"), "{run}");
}

#[test]
fn the_repository_inside_the_source_is_left_out() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 10, 3);
    sandbox.must("init --repo source/backup/repo", exit::DONE);
    let report = sandbox.json("create source --repo source/backup/repo");
    assert!(warns(&report, "backup/repo", "the repository itself"), "{report}");
    assert_eq!(report["snapshot"]["sources"][0]["files"], 10);
    sandbox.must("restore latest --target target --repo source/backup/repo", exit::DONE);
    assert!(sandbox.path("target/backup").is_dir() && !sandbox.path("target/backup/repo").exists());
    let diff = sandbox.json("diff latest source --repo source/backup/repo");
    assert_eq!(diff["differences"].as_array().map(Vec::len), Some(0), "{diff}");
    fs::rename(sandbox.path("source/backup/repo"), sandbox.path("moved")).expect("a moved repository");
    set_time(&source.join("backup"), 1_600_000_000, 0);
    set_time(&sandbox.path("target/backup"), 1_600_000_000, 0);
    assert_same(&source, &sandbox.path("target"));
}
