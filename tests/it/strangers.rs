//! What others put in the way: pipes where settings are expected, words that a terminal obeys, files of another user.

use crate::bad::{begun, says};
use crate::need::{self, need};
use crate::snap::exit;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn what_root_writes_into_somebodys_repository_is_his() {
    need!(need::root());
    let sandbox = begun();
    let everything = || {
        let (mut found, mut open) = (Vec::new(), vec![sandbox.repo()]);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
            }
            found.push(path);
        }
        found
    };
    for path in everything() {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).expect("an owner");
    }
    sandbox.create(&sandbox.path("source"));
    let of_root: Vec<_> =
        everything().into_iter().filter(|path| fs::metadata(path).expect("a file").uid() != 65_534).collect();
    assert!(of_root.is_empty(), "{of_root:?}");
}

#[test]
fn what_is_no_file_with_settings_holds_nobody_up() {
    let sandbox = begun();
    for name in [".env", "snap.toml", ".snapignore"] {
        let path = sandbox.path("source").join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        let run = sandbox.snap(&["create", "source", "--files-only"]);
        assert!([exit::DONE, exit::FAILED, exit::USAGE].contains(&run.code), "{name}: {run}");
        fs::remove_file(&path).expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        let run = sandbox.snap(&["create", "source", "--files-only"]);
        assert!([exit::DONE, exit::FAILED, exit::USAGE].contains(&run.code), "{name}: {run}");
        fs::remove_file(&path).expect("a link");
    }
}

#[test]
fn words_that_a_terminal_would_obey_are_refused_or_escaped() {
    let sandbox = begun();
    for option in ["--tag", "--stack", "--note"] {
        let run = sandbox.snap(&["create", "source", option, "a\x1b[31m"]);
        assert_eq!(run.code, exit::USAGE, "{run}");
        says(&run, &["control character"]);
    }
    let folder = sandbox.path("two\nlines");
    fs::create_dir(&folder).expect("a folder");
    sandbox.create(&folder);
    let run = sandbox.must("list", exit::DONE);
    assert!(run.stdout.contains("two\\nlines"), "{run}");
    let run = sandbox.snap(&["--repo", "", "list"]);
    assert_eq!(run.code, exit::USAGE, "{run}");
}
