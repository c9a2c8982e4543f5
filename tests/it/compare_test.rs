//! Proves that the comparer and the generators can be believed: what is equal compares equal, and
//! each single changed attribute is found, and nothing else.

use crate::compare::{Difference, Sockets, compare, compare_with, wrong_files};
use crate::need::{self, need};
use crate::trees::{self, Extras, nasty_tree, set_mode, set_owner, set_time, set_xattr};
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn two_nasty_trees_are_equal() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let extras = Extras { long_paths: true, four_gib: true };
    nasty_tree(&a, extras);
    nasty_tree(&b, extras);
    assert_eq!(compare_with(&a, &b, Sockets::Copied), []);
    let socket = compare(&a, &b);
    assert_eq!(socket.len(), 1, "{socket:?}");
    assert_eq!((socket[0].path.as_str(), socket[0].what), (trees::SOCKET, "extra"));
}

#[test]
fn a_copy_by_cp_is_equal_and_one_without_attributes_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    nasty_tree(&a, Extras::default());
    run("cp", &["-a", &a.to_string_lossy(), &b.to_string_lossy()]);
    assert_eq!(compare_with(&a, &b, Sockets::Copied), []);
    run("cp", &["-R", &a.to_string_lossy(), &c.to_string_lossy()]);
    let kinds: std::collections::BTreeSet<&str> =
        compare_with(&a, &c, Sockets::Copied).iter().map(|d| d.what).collect();
    for what in ["mode", "mtime", "xattr", "hard links"] {
        assert!(kinds.contains(what), "{what} is not among {kinds:?}");
    }
}

#[test]
fn a_source_tree_follows_its_seed() {
    let dir = tempfile::tempdir().expect("a folder");
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    trees::source_tree(&a, 60, 1);
    trees::source_tree(&b, 60, 1);
    trees::source_tree(&c, 60, 2);
    assert_eq!(compare(&a, &b), []);
    assert!(!compare(&a, &c).is_empty());
    trees::mutate(&a, 5);
    let changed = compare(&b, &a);
    for what in ["size", "content", "mode", "missing", "extra"] {
        assert!(changed.iter().any(|d| d.what == what), "{what} is not among {changed:?}");
    }
    trees::mutate(&b, 5);
    let left: Vec<Difference> = compare(&a, &b).into_iter().filter(|d| d.what != "mtime").collect();
    assert_eq!(left, [], "the same seed edits the same way");
}

/// A tree with one entry of each kind that a mutation below changes.
fn small_tree(dir: &Path) {
    fs::create_dir_all(dir.join("folder/inner")).expect("folders");
    for name in ["file", "folder/one", "folder/inner/other"] {
        fs::write(dir.join(name), format!("content of {name}")).expect("a file");
    }
    fs::hard_link(dir.join("file"), dir.join("folder/linked")).expect("a hard link");
    symlink("file", dir.join("link")).expect("a symlink");
    rustix::fs::mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a fifo");
    trees::sparse(&dir.join("sparse"), 4 << 20, &[(1 << 20, b"island")]);
    set_xattr(&dir.join("file"), b"user.x", b"1");
    for path in ["folder/inner/other", "folder/inner", "folder/one", "folder", "link", "file", "fifo", "sparse", ""] {
        set_time(&dir.join(path), 1_500_000_000, 1);
    }
}

/// A change of the copy, and the path and attribute that must be reported. Times that change on
/// the way are put back, so that the one difference stands alone.
type Mutation = (&'static str, &'static str, fn(&Path));

const MUTATIONS: &[Mutation] = &[
    ("file", "mode", |dir| set_mode(&dir.join("file"), 0o4755)),
    (".", "mode", |dir| set_mode(dir, 0o1755)),
    ("folder/inner", "mode", |dir| set_mode(&dir.join("folder/inner"), 0o2755)),
    ("file", "mtime", |dir| set_time(&dir.join("file"), 1_500_000_000, 2)),
    ("link", "mtime", |dir| set_time(&dir.join("link"), -1, 1)),
    (".", "mtime", |dir| set_time(dir, 1_500_000_001, 1)),
    ("file", "xattr", |dir| set_xattr(&dir.join("file"), b"user.x", b"2")),
    ("file", "xattr", |dir| set_xattr(&dir.join("file"), b"user.y", b"")),
    (".", "xattr", |dir| set_xattr(dir, b"user.root", b"")),
    ("folder/one", "content", |dir| rewrite(&dir.join("folder/one"), "Content of folder/one")),
    ("folder/one", "size", |dir| rewrite(&dir.join("folder/one"), "content of folder/one.")),
    ("sparse", "content", |dir| {
        let file = fs::OpenOptions::new().write(true).open(dir.join("sparse")).expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 3 << 20).expect("a byte in the hole");
        set_time(&dir.join("sparse"), 1_500_000_000, 1);
    }),
    ("sparse", "sparse", |dir| {
        let content = fs::read(dir.join("sparse")).expect("a file");
        fs::write(dir.join("sparse"), content).expect("the same, without holes");
        set_time(&dir.join("sparse"), 1_500_000_000, 1);
    }),
    ("link", "target", |dir| {
        replace(&dir.join("link"), |path| symlink("fil_", path).expect("a symlink"));
    }),
    ("fifo", "type", |dir| replace(&dir.join("fifo"), |path| fs::write(path, b"").expect("a file"))),
    ("folder/one", "missing", |dir| {
        fs::remove_file(dir.join("folder/one")).expect("a removed file");
        set_time(&dir.join("folder"), 1_500_000_000, 1);
    }),
    ("new", "extra", |dir| {
        fs::write(dir.join("new"), b"").expect("a file");
        set_time(dir, 1_500_000_000, 1);
    }),
    ("folder/linked", "hard links", |dir| {
        let path = dir.join("folder/linked");
        run("cp", &["-a", &path.to_string_lossy(), &dir.join("x").to_string_lossy()]);
        fs::rename(dir.join("x"), path).expect("its own file");
        set_time(&dir.join("folder"), 1_500_000_000, 1);
        set_time(dir, 1_500_000_000, 1);
    }),
];

const MUTATIONS_BY_ROOT: &[Mutation] = &[
    ("file", "uid", |dir| set_owner(&dir.join("folder/one"), 7, 0)),
    ("file", "gid", |dir| set_owner(&dir.join("link"), 0, 7)),
    (".", "uid", |dir| set_owner(dir, 7, 0)),
    ("fifo", "xattr", |dir| set_xattr(&dir.join("fifo"), b"trusted.x", b"1")),
    ("device", "device", |dir| {
        let path = dir.join("device");
        replace(&path, |path| device(path, 1, 5));
    }),
];

#[test]
fn each_changed_attribute_is_found() {
    for mutation in MUTATIONS {
        finds(mutation, |_| {});
    }
}

#[test]
fn each_attribute_that_root_changes_is_found() {
    need!(need::root());
    for mutation in MUTATIONS_BY_ROOT {
        finds(mutation, |dir| {
            device(&dir.join("device"), 1, 3);
            set_time(dir, 1_500_000_000, 1);
        });
    }
}

fn finds((path, what, change): &Mutation, prepare: fn(&Path)) {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for tree in [&a, &b] {
        small_tree(tree);
        prepare(tree);
    }
    assert_eq!(compare(&a, &b), [], "before the change");
    change(&b);
    let found = compare(&a, &b);
    let named = |d: &Difference| d.what == *what && (d.path == *path || ["uid", "gid"].contains(what));
    assert!(found.iter().any(named), "{path}: {what} is not among {found:?}");
    let others: Vec<&Difference> = found.iter().filter(|d| d.what != *what && d.what != "content").collect();
    assert!(others.is_empty(), "{path}: {what} alone was changed, but: {others:?}");
}

#[test]
fn a_partial_restore_may_lack_files_but_not_hold_wrong_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    small_tree(&a);
    assert_eq!(wrong_files(&a, &b), [], "nothing was restored at all");
    small_tree(&b);
    fs::remove_file(b.join("file")).expect("a removed file");
    fs::write(b.join(".snap-tmp-1"), b"").expect("a hidden file");
    assert_eq!(wrong_files(&a, &b), []);
    rewrite(&b.join("folder/one"), "content of folder/on");
    fs::write(b.join("half"), b"").expect("a file");
    let names: Vec<String> = wrong_files(&a, &b).into_iter().map(|d| d.path).collect();
    assert_eq!(names, ["folder/one", "half"]);
}

fn rewrite(path: &Path, content: &str) {
    fs::write(path, content).expect("a file");
    set_time(path, 1_500_000_000, 1);
}

/// Removes `path` and makes it anew; its time and its folder's stay.
fn replace(path: &Path, make: impl Fn(&Path)) {
    fs::remove_file(path).expect("a removed entry");
    make(path);
    set_time(path, 1_500_000_000, 1);
    set_time(path.parent().expect("a parent"), 1_500_000_000, 1);
}

fn device(path: &Path, major: u32, minor: u32) {
    let number = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), number).expect("a device");
    rustix::fs::chownat(CWD, path, None, None, AtFlags::SYMLINK_NOFOLLOW).expect("an owner");
    set_time(path, 1_500_000_000, 1);
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().expect("a program that starts");
    assert!(status.success(), "{program} {args:?}: {status}");
}
