//! Names, replacing, removing, long paths.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn hostile_paths_are_refused() {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("target")).unwrap();
    let placer = in_place(&outer.path().join("target"));
    put(&placer, b"ok", b"", &plain(0o600));
    let (root, long) = (outer.path().join("abs"), [b'n'; 256]);
    let absolute = root.as_os_str().as_encoded_bytes();
    for bad in [b"../x", absolute, b"a/../../x", b"a//b", b"./x", b"x/", b"", b"n\0l", &long, b".."] {
        let meta = plain(0o700);
        assert!(placer.begin_file(bad, 0).is_err(), "{}", shown(bad));
        assert!(placer.symlink(bad, b"t", &meta).is_err());
        assert!(placer.fifo(bad, &meta).is_err());
        assert!(placer.hardlink(bad, b"ok").is_err());
        assert!(placer.hardlink(b"link", bad).is_err());
        assert!(placer.remove(bad).is_err());
        assert!(bad.is_empty() || placer.make_dir(bad).is_err());
        assert!(bad.is_empty() || placer.finish_dir(bad, &meta).is_err());
    }
    assert_eq!(found(outer.path()).len(), 3);
}

#[test]
fn nothing_goes_through_a_link() {
    let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("f"), b"theirs").unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    symlink(outside.path(), dir.path().join("d")).unwrap();
    let before = pictures(outside.path());
    let placers = [fresh(dir.path()), fresh(dir.path()).without_openat2(), in_place(dir.path())];
    for placer in &placers {
        let meta = plain(0o700);
        assert!(placer.begin_file(b"d/new", 0).is_err());
        assert!(placer.symlink(b"d/new", b"t", &meta).is_err());
        assert!(placer.hardlink(b"stolen", b"d/f").is_err());
        assert!(placer.make_dir(b"d/new").is_err());
        assert!(placer.make_dir(b"d/sub/new").is_err());
        assert!(placer.begin_file(b"d/sub/new", 0).is_err());
        assert!(placer.finish_dir(b"d", &meta).is_err());
        assert!(placer.remove(b"d/f").is_err());
    }
    assert!(placers[0].make_dir(b"d").is_err(), "a fresh target replaces nothing");
    // In place the link makes way, and what it pointed to stays as it is.
    placers[2].make_dir(b"d").unwrap();
    put(&placers[2], b"d/new", b"ours", &plain(0o600));
    assert!(fs::symlink_metadata(dir.path().join("d")).unwrap().is_dir());
    assert_eq!(pictures(outside.path()), before);
}

#[test]
fn a_fresh_target_replaces_nothing_and_a_dropped_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), b"old").unwrap();
    let placer = fresh(dir.path());
    drop(placer.begin_file(b"dropped", 10).unwrap());
    let pending = placer.begin_file(b"f", 1).unwrap();
    assert!(pending.write_at(1, b"x").is_err(), "beyond its size");
    assert!(pending.write_at(u64::MAX, b"x").is_err());
    assert!(pending.finish(&plain(0o600)).is_err());
    assert!(placer.symlink(b"f", b"t", &plain(0o777)).is_err());
    assert!(placer.hardlink(b"f", b"f").is_err());
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"old");
    assert_eq!(found(dir.path()).len(), 2);
}

#[test]
fn a_staged_tree_is_seen_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let placer = Placer::open_staged(dir.path(), PlaceOptions::default()).unwrap();
    placer.make_dir(b"folder").unwrap();
    put(&placer, b"folder/file", b"content", &plain(0o640));
    put(&placer, b"top", b"content", &plain(0o600));
    placer.hardlink(b"folder/link", b"top").unwrap();
    placer.symlink(b"symlink", b"t", &plain(0o777)).unwrap();
    drop(placer.begin_file(b"dropped", 10).unwrap());
    assert!(placer.begin_file(b"top", 1).is_err(), "a name is given once");
    let (taken, left) = outcome(dir.path(), &WalkOptions::default());
    assert_eq!((taken.len(), left.len()), (1, 1), "{taken:?} {left:?}");
    assert!(left[0].starts_with(".snap-restore-tree-"), "{left:?}");
    assert_eq!(placer.reveal().unwrap(), []);
    // The folder, and the target itself, are where the paths lead now.
    placer.finish_dir(b"folder", &plain(0o750)).unwrap();
    placer.finish_dir(b"", &plain(0o751)).unwrap();
    placer.sync().unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(fs::metadata(dir.path().join("folder")).unwrap().mode() & 0o7777, 0o750);
    let paths = [".", "folder", "folder/file", "folder/link", "symlink", "top"];
    assert_eq!(outcome(dir.path(), &WalkOptions::default()), (paths.map(str::to_owned).to_vec(), Vec::new()));
}

#[test]
fn what_a_staged_tree_cannot_be_given_back_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let placer = Placer::open_staged(dir.path(), PlaceOptions::default()).unwrap();
    put(&placer, b"a", b"ours", &plain(0o600));
    put(&placer, b"b", b"ours", &plain(0o600));
    fs::write(dir.path().join("a"), b"theirs").unwrap();
    let refused = placer.reveal().unwrap();
    assert_eq!(refused.iter().map(|(name, _)| shown(name)).collect::<Vec<_>>(), ["a"]);
    drop(placer);
    let (taken, left) = outcome(dir.path(), &WalkOptions::default());
    assert_eq!((taken, left), ([".", "a", "b"].map(str::to_owned).to_vec(), Vec::new()));
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"theirs");
}

#[test]
fn an_abandoned_staged_tree_keeps_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let placer = Placer::open_staged(dir.path(), PlaceOptions::default()).unwrap();
    put(&placer, b"whole", b"content", &plain(0o600));
    let half = placer.begin_file(b"half", 10).unwrap();
    drop(half);
    drop(placer);
    assert_eq!(outcome(dir.path(), &WalkOptions::default()).0, [".", "whole"]);
    // In a target with content nothing is staged.
    let placer = Placer::open_staged(dir.path(), PlaceOptions::default()).unwrap();
    put(&placer, b"more", b"content", &plain(0o600));
    assert_eq!(outcome(dir.path(), &WalkOptions::default()).0, [".", "more", "whole"]);
    assert_eq!(placer.reveal().unwrap(), []);
}

#[test]
fn hard_links_replace_and_survive_being_there() {
    let dir = tempfile::tempdir().unwrap();
    let placer = in_place(dir.path());
    put(&placer, b"a", b"one", &plain(0o600));
    put(&placer, b"b", b"other", &plain(0o600));
    for _ in 0..2 {
        placer.hardlink(b"b", b"a").unwrap();
        assert_eq!(found(dir.path()).len(), 3);
        assert_eq!(fs::metadata(dir.path().join("b")).unwrap().nlink(), 2);
    }
    symlink("a", dir.path().join("l")).unwrap();
    assert!(placer.hardlink(b"c", b"l").is_err(), "a link is no file");
}

#[test]
fn removing_is_deep_and_stays_inside() {
    let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("f"), b"theirs").unwrap();
    let placer = in_place(dir.path());
    let mut path = b"top".to_vec();
    placer.make_dir(&path).unwrap();
    for depth in 0..300 {
        path.extend(format!("/{}", depth % 10).bytes());
        placer.make_dir(&path).unwrap();
        put(&placer, &[&path[..], b".file"].concat(), b"x", &plain(0o400));
    }
    placer.symlink(&[&path[..], b"/out"].concat(), outside.path().as_os_str().as_encoded_bytes(), &plain(0)).unwrap();
    put(&placer, b"topmost", b"x", &plain(0o600));
    placer.remove(b"top").unwrap();
    placer.remove(b"top").unwrap();
    assert_eq!(found(dir.path()).len(), 2);
    assert_eq!(found(outside.path()).len(), 2);
    // What was known of the removed folders is forgotten.
    assert!(placer.begin_file(&path, 0).is_err());
    placer.make_dir(b"top").unwrap();
    put(&placer, b"top/x", b"new", &plain(0o600));
    assert_eq!(fs::read(dir.path().join("top/x")).unwrap(), b"new");
}

/// Folders with a file on both sides of each, so that a scan must come back to each.
fn deep(placer: &Placer, name: &[u8], depth: usize) -> Vec<u8> {
    let mut path = Vec::new();
    for _ in 0..depth {
        let within = |name: &[u8]| if path.is_empty() { name.to_vec() } else { [&path[..], b"/", name].concat() };
        put(placer, &within(b"a"), b"before", &plain(0o600));
        put(placer, &within(b"z"), b"behind", &plain(0o600));
        path = within(name);
        placer.make_dir(&path).unwrap();
    }
    path
}

#[test]
fn paths_longer_than_the_kernel_takes() {
    for (name, depth) in [(&[b'm'; 255][..], 40), (b"m", 2500)] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = deep(&fresh(from.path()), name, depth);
        assert!(path.len() > 4096);
        let all = found(from.path());
        assert_eq!(all.len(), 1 + 3 * depth);
        assert!(all.iter().any(|found| found.path == path));
        drop(all);
        let placer = fresh(to.path()).without_openat2();
        assert_eq!(copy_tree(from.path(), &placer), []);
        // Without the help of folders that are open already.
        let again = in_place(to.path());
        put(&again, &[&path[..], b"/last"].concat(), b"x", &plain(0o600));
        assert_eq!(found(to.path()).len(), 2 + 3 * depth);
        for (root, name) in [(from.path(), name), (to.path(), name)] {
            in_place(root).remove(name).unwrap();
            assert_eq!(found(root).len(), 3);
        }
    }
}

#[test]
#[ignore = "a measurement: SNAP_WALK_DIR names a large tree of small files"]
fn place_speed() {
    let Some(root) = std::env::var_os("SNAP_WALK_DIR") else { return };
    let all = found(Path::new(&root));
    let to = tempfile::tempdir().unwrap();
    let placer = fresh(to.path());
    let start = std::time::Instant::now();
    for found in &all {
        match found.kind {
            FoundKind::Dir => placer.make_dir(&found.path).unwrap(),
            _ => drop(put(&placer, &found.path, b"x", &found.meta)),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{} placed in {seconds:.3} s: {:.0} /s", all.len(), all.len() as f64 / seconds);
    let start = std::time::Instant::now();
    let xattrs = all.iter().map(|found| found.read_xattrs().unwrap().len()).sum::<usize>();
    println!("{xattrs} attributes of {} read in {:.3} s", all.len(), start.elapsed().as_secs_f64());
}
