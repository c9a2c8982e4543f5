//! The same as a person who is not root. As root, each test runs itself again as another user.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

const NOBODY: u32 = 65_534;

/// True if the test's body is to run here; as root it runs `test` as nobody instead.
fn here(test: &str) -> bool {
    if !is_root() {
        return true;
    }
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.args(["--exact", &format!("stack::files::tests::unprivileged::{test}")]);
    match command.uid(NOBODY).gid(NOBODY).env("TMPDIR", "/tmp").current_dir("/").output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        Err(error) => eprintln!("skipped: nobody may not run this program: {error}"),
    }
    false
}

#[test]
fn what_cannot_be_read_is_said() {
    if !here("what_cannot_be_read_is_said") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for path in ["closed/x", "open/x", "list-only/x"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    let chmod = |path: &str, mode| fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode));
    chmod("closed", 0).unwrap();
    chmod("list-only", 0o400).unwrap();
    let (taken, left) = outcome(dir.path(), &WalkOptions::default());
    chmod("closed", 0o700).unwrap();
    chmod("list-only", 0o700).unwrap();
    assert_eq!(taken, [".", "closed", "list-only", "open", "open/x"]);
    assert_eq!(left.len(), 2);
    assert!(left[0].starts_with("closed: it cannot be read: Permission denied"), "{left:?}");
    assert!(left[1].starts_with("list-only/x: it cannot be read"), "{left:?}");
    // The system's own files, which may not be opened without touching their time of access.
    let (taken, _) = outcome(Path::new("/etc/ssl"), &WalkOptions::default());
    assert!(!taken.is_empty());
}

#[test]
fn what_cannot_be_set_is_said_and_the_rest_is_set() {
    if !here("what_cannot_be_set_is_said_and_the_rest_is_set") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let placer = fresh(dir.path());
    let xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2]), (b"user.a".to_vec(), b"1".to_vec())];
    let foreign = Meta { uid: 0, gid: 0, xattrs, ..plain(0o4555) };
    let said: Vec<_> = put(&placer, b"f", b"x", &foreign).into_iter().map(|d| d.attribute).collect();
    assert_eq!(said, ["owner", "mode", "xattr security.capability"]);
    let node = Node::BlockDevice { major: 1, minor: 1 };
    assert_eq!(placer.device(b"dev", &node, &plain(0o600)).unwrap()[0].attribute, "device");
    let own = Meta { xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())], ..plain(0o400) };
    assert_eq!(put(&placer, b"own", b"x", &own), []);
    let after = pictures(dir.path());
    assert_eq!(after.len(), 3, "{after:?}");
    assert_eq!(after[1].meta.mode, 0o555);
    assert_eq!(after[1].meta.mtime, foreign.mtime);
    assert_eq!(after[2].meta, own);
}

#[test]
fn a_read_only_folder_of_ones_own_can_be_restored_in_place() {
    if !here("a_read_only_folder_of_ones_own_can_be_restored_in_place") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let placer = in_place(dir.path());
    for content in [b"one", b"two"] {
        placer.make_dir(b"d").unwrap();
        put(&placer, b"d/f", content, &plain(0o400));
        assert_eq!(placer.finish_dir(b"d", &plain(0o555)).unwrap(), []);
        assert_eq!(fs::read(dir.path().join("d/f")).unwrap(), content);
    }
    placer.remove(b"d").unwrap();
    assert_eq!(found(dir.path()).len(), 1);
}
