//! Order, what is left out and why, and folders that change under a scan.

use super::*;
use crate::repo::entry::compare_paths;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

fn touch(root: &Path, path: &[u8]) {
    let path = root.join(OsStr::from_bytes(path));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

fn write(root: &Path, path: &str, content: &str) {
    touch(root, path.as_bytes());
    fs::write(root.join(path), content).unwrap();
}

#[test]
fn a_nasty_tree_comes_in_canonical_order() {
    let dir = tempfile::tempdir().unwrap();
    let long = [b'n'; 255];
    let prefixed: [&[u8]; 4] = [b"12345678", b"123456789", b"12345678a/x", b"1234567"];
    let names: [&[u8]; 9] = [b"a.txt", b"a/b", b"a-b", b"a/b.c/d", b"new\nline", b"inv\xff\xfe", b"a/Z", &long, b" "];
    for name in names.iter().chain(&prefixed) {
        touch(dir.path(), name);
    }
    let paths: Vec<Vec<u8>> = found(dir.path()).into_iter().map(|found| found.path).collect();
    assert_eq!(paths.first().map(Vec::len), Some(0));
    assert_eq!(paths.len(), 1 + 9 + 4 + 3);
    assert!(paths.windows(2).all(|pair| compare_paths(&pair[0], &pair[1]).is_lt()), "{paths:?}");
}

#[test]
fn patterns_follow_gitignore() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["keep.log", "a.log", "b/a.log", "b/keep.log", "node/x", "b/node/x", "b/only", "only"] {
        touch(dir.path(), path.as_bytes());
    }
    let exclude = Excludes::new(&["*.log", "!keep.log", "node/", "/only"]).unwrap();
    let (taken, left) = outcome(dir.path(), &WalkOptions { exclude, ..WalkOptions::default() });
    assert_eq!(taken, [".", "b", "b/keep.log", "b/only", "keep.log"]);
    let expected = ["a.log", "b/a.log", "b/node", "node", "only"];
    assert_eq!(left, expected.map(|path| format!("{path}: excluded by a pattern")));
}

#[test]
fn the_deepest_ignore_file_wins_but_not_over_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ".snapignore", "*.tmp\n/top\n");
    write(dir.path(), "b/.snapignore", "!c.tmp\n!no.bak\n");
    for path in ["a.tmp", "b/a.tmp", "b/c.tmp", "b/top", "top", "b/d/c.tmp", "b/no.bak"] {
        touch(dir.path(), path.as_bytes());
    }
    let exclude = Excludes::new(&["*.bak"]).unwrap().ignore_files(true);
    let (taken, _) = outcome(dir.path(), &WalkOptions { exclude, ..WalkOptions::default() });
    assert_eq!(taken, [".", ".snapignore", "b", "b/.snapignore", "b/c.tmp", "b/d", "b/d/c.tmp", "b/top"]);
    // A volume's own content decides nothing unless asked.
    assert_eq!(found(dir.path()).len(), 12);
}

#[test]
fn bad_patterns_are_named() {
    let error = Excludes::new(&["fine", "[z-a]"]).err().unwrap();
    assert!(error.to_string().contains("[z-a]"), "{error}");
    assert!(Excludes::new(&["# a comment"]).is_err());
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ".snapignore", "[z-a]\na\n");
    touch(dir.path(), b"a");
    let exclude = Excludes::default().ignore_files(true);
    let (taken, left) = outcome(dir.path(), &WalkOptions { exclude, ..WalkOptions::default() });
    assert_eq!(taken, [".", ".snapignore"]);
    assert!(left[0].starts_with(".snapignore: line 1: "), "{left:?}");
}

#[test]
fn a_tagged_cache_keeps_its_tag_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "c/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# by x");
    write(dir.path(), "no/CACHEDIR.TAG", "Signature: something else");
    for path in ["c/A", "c/z/y", "no/A"] {
        touch(dir.path(), path.as_bytes());
    }
    let exclude = Excludes::default().cache_tags(true);
    let (taken, left) = outcome(dir.path(), &WalkOptions { exclude, ..WalkOptions::default() });
    assert_eq!(taken, [".", "c", "c/CACHEDIR.TAG", "no", "no/A", "no/CACHEDIR.TAG"]);
    assert_eq!(left, ["c: the content of a cache, by its CACHEDIR.TAG"]);
}

#[test]
fn the_repository_and_sockets_are_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), b"repo/pack");
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    let repo = fs::metadata(dir.path().join("repo")).unwrap();
    let options =
        WalkOptions { skip: [((repo.dev(), repo.ino()), "the repository itself")].into(), ..WalkOptions::default() };
    let (taken, left) = outcome(dir.path(), &options);
    assert_eq!(taken, ["."]);
    assert_eq!(left, ["repo: the repository itself", "s: a socket"]);
}

#[test]
fn what_vanishes_or_is_replaced_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["a", "gone", "sub/x"] {
        touch(dir.path(), path.as_bytes());
    }
    let (sub, moved) = (dir.path().join("sub"), dir.path().join("moved"));
    let mut left = Vec::new();
    walk(dir.path(), &WalkOptions::default(), &mut |event| {
        match event {
            // The names of the root have been read by now.
            Event::Found(found) if found.path == b"a" => fs::remove_file(dir.path().join("gone")).unwrap(),
            // The folder has been opened, but not yet read.
            Event::Found(found) if found.path == b"sub" => {
                fs::remove_file(sub.join("x")).unwrap();
                fs::remove_dir(&sub).unwrap();
                fs::create_dir(&moved).unwrap();
            }
            Event::Found(_) => {}
            other => left.push(other),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let [Event::LeftOut { path: first, reason: Reason::Vanished }, Event::LeftOut { path: second, reason }] = &left[..]
    else {
        panic!("{left:?}");
    };
    assert_eq!((first.as_slice(), second.as_slice()), (&b"gone"[..], &b"sub"[..]));
    assert!(matches!(reason, Reason::Vanished), "{reason}");
}

#[test]
fn mounts_are_found_but_not_entered() {
    let dev = Path::new("/dev");
    let here = fs::metadata(dev).unwrap().dev();
    let Ok(there) = fs::metadata("/dev/pts") else { return };
    if there.dev() == here {
        return;
    }
    let (taken, left) = outcome(dev, &WalkOptions::default());
    assert!(taken.contains(&"pts".to_owned()));
    assert!(left.contains(&"pts: on another file system".to_owned()), "{left:?}");
    assert!(!taken.iter().any(|path| path.starts_with("pts/")));
}

#[test]
fn a_break_stops_and_a_missing_root_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), b"a");
    let mut count = 0;
    walk(dir.path(), &WalkOptions::default(), &mut |_| {
        count += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(count, 1);
    let error = walk(&dir.path().join("no"), &WalkOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert!(error.err().unwrap().to_string().contains("no"));
}

#[test]
fn a_file_that_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), b"SQLite format 3\0...").unwrap();
    let all = found(dir.path());
    let (file, before, _) = open_file(&all[1]).unwrap();
    assert!(content::same_stat(&all[1].stat, &before));
    assert!(content::is_sqlite(&fs::read(dir.path().join("f")).unwrap()));
    fs::write(dir.path().join("f"), b"other").unwrap();
    assert!(!content::same_stat(&before, &content::state(&file, b"f").unwrap()));
    content::advise_sequential(&file);
    content::advise_soon(&file, 0, 0);
    content::advise_done(&file, 0, 0);
    fs::remove_file(dir.path().join("f")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("f")).unwrap();
    assert!(open_file(&all[1]).is_err(), "followed a link that took the file's place");
}

#[test]
#[ignore = "a measurement: SNAP_WALK_DIR names a large tree"]
fn walk_speed() {
    let Some(root) = std::env::var_os("SNAP_WALK_DIR") else { return };
    for _ in 0..3 {
        let start = std::time::Instant::now();
        let mut count = 0u64;
        walk(Path::new(&root), &WalkOptions::default(), &mut |event| {
            count += u64::from(matches!(event, Event::Found(_)));
            ControlFlow::Continue(())
        })
        .unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("{count} found in {seconds:.3} s: {:.0} /s", count as f64 / seconds);
    }
}
