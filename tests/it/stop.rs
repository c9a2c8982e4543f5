//! Stopping: by a signal, at a question; what is said, what is left behind.

use crate::bad::interrupted;
use crate::need::{self, need};
use crate::snap::{self, Sandbox, WATCHDOG, exit};
use crate::trees::Random;
use rustix::process::Signal;
use std::fs;

#[test]
fn a_signal_ends_an_export_and_leaves_no_half_tar() {
    let sandbox = Sandbox::owning(need::fast_tempdir());
    let source = sandbox.path("source");
    fs::create_dir(&source).expect("a folder");
    for i in 0..64 {
        fs::write(source.join(format!("file-{i}")), Random::new(i).bytes(4 << 20)).expect("a file");
    }
    sandbox.init();
    sandbox.create(&source);
    let tar = sandbox.path("out.tar");
    for signal in [Signal::INT, Signal::TERM] {
        let begun = |_| fs::metadata(&tar).is_ok_and(|found| found.len() > 0);
        let run = interrupted(&sandbox, &["export", "latest", "out.tar"], signal, &begun);
        let run = run.expect(&[exit::INTERRUPTED]).unwrap_or_else(|text| panic!("{text}"));
        assert!(run.stderr.contains("interrupted") && !run.stderr.contains("stored"), "{run}");
        assert!(!tar.exists(), "half a tar is there");
    }
    sandbox.must("export latest out.tar", exit::DONE);
}

#[test]
fn a_damaged_chunk_ends_an_export_as_damage() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("source")).expect("a folder");
    fs::write(sandbox.path("source/file"), Random::new(1).bytes(3 << 20)).expect("a file");
    sandbox.init();
    sandbox.create(&sandbox.path("source"));
    let pack = sandbox.objects().into_iter().filter(|path| path.starts_with("packs"));
    let pack = pack.max_by_key(|path| fs::metadata(sandbox.repo().join(path)).expect("a pack").len()).expect("a pack");
    let pack = sandbox.repo().join(pack);
    let mut bytes = fs::read(&pack).expect("a pack");
    bytes[1 << 20] ^= 1;
    fs::remove_file(&pack).and_then(|()| fs::write(&pack, bytes)).expect("a pack");
    sandbox.must("export latest out.tar", exit::DAMAGE);
    assert!(!sandbox.path("out.tar").exists());
}

#[test]
fn an_interruption_at_a_question_ends_the_program_and_shows_what_is_typed_again() {
    need!(need::program("python3"));
    let sandbox = Sandbox::new();
    // A terminal of its own; Ctrl-C is typed when the question is there.
    let script = r#"
import os, pty, sys, termios, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "init", "--passphrase"])
seen = b""
while b"passphrase" not in seen:
    seen += os.read(terminal, 1024)
assert not termios.tcgetattr(terminal)[3] & termios.ECHO, "what is typed is shown"
os.write(terminal, b"half a wo\x03")
begun = time.time()
while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
    assert time.time() - begun < 30, "Ctrl-C is not heard"
    time.sleep(0.02)
print("echo", bool(termios.tcgetattr(terminal)[3] & termios.ECHO))
print("code", os.waitstatus_to_exitcode(done[1]))
"#;
    let mut command = sandbox.command("python3");
    command.args(["-c", script]).arg(snap::program());
    let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(run.stdout, "echo True\ncode 130\n", "{run}");
    assert!(!sandbox.repo().join("config").exists(), "nothing was made");
}
