//! The fidelity list: what a tree has is what comes back.

use super::*;
use std::fs::File;

const OWNERS: (u32, u32) = (12_345, 54_321);

/// An ACL as the kernel stores it: `u::rw-,u:1234:r--,g::r--,m::r--,o::---`.
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    let nobody = u32::MAX;
    for (tag, perm, id) in [(1u16, 6u16, nobody), (2, 4, 1234), (4, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody)] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// `cap_net_raw+ep` as the kernel stores it.
fn capability() -> Vec<u8> {
    [0x0200_0001u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn owned(mode: u32) -> Meta {
    let (uid, gid) = if is_root() { OWNERS } else { (plain(0).uid, plain(0).gid) };
    Meta { uid, gid, ..plain(mode) }
}

fn with(mut meta: Meta, name: &str, value: &[u8]) -> Meta {
    meta.xattrs.push((name.into(), value.into()));
    meta.xattrs.sort();
    meta
}

/// What must come back, with its attributes.
fn expected() -> Vec<(&'static str, Meta)> {
    let mut all = vec![
        ("", owned(0o2750)),
        ("acl", with(owned(0o640), "system.posix_acl_access", &acl())),
        ("dir", owned(0o1777)),
        ("dir/default", with(owned(0o700), "system.posix_acl_default", &acl())),
        ("dir/default/inherits-nothing", owned(0o644)),
        ("dir/none", owned(0)),
        ("old", Meta { mtime: Time { seconds: -5, nanos: 999_999_999 }, ..owned(0o600) }),
        ("read-only", with(with(owned(0o444), "user.a", b"1"), "user.empty", b"")),
        ("set-id", owned(0o6755)),
        ("sparse", owned(0o600)),
    ];
    if is_root() {
        all.push(("capable", with(owned(0o755), "security.capability", &capability())));
        all.push(("trusted", with(owned(0o755), "trusted.x", &[7; 300])));
    }
    all
}

fn build(root: &Path) -> Vec<Difference> {
    let placer = fresh(root);
    let mut differences = Vec::new();
    let folders = ["", "dir", "dir/default", "dir/none"];
    for folder in folders {
        placer.make_dir(folder.as_bytes()).unwrap();
    }
    for (path, meta) in expected().iter().filter(|(path, _)| !folders.contains(path)) {
        differences.extend(match *path {
            "sparse" => {
                let pending = placer.begin_file(b"sparse", 300 << 20).unwrap();
                pending.write_at(100 << 20, &[1; 4096]).unwrap();
                pending.write_at(200 << 20, &[2; 200_000]).unwrap();
                pending.finish(meta).unwrap()
            }
            _ => put(&placer, path.as_bytes(), path.as_bytes(), meta),
        });
    }
    for (path, target) in [("to-nowhere", "no/such"), ("to-root", "/"), ("dir/to-up", "../acl")] {
        differences.extend(placer.symlink(path.as_bytes(), target.as_bytes(), &owned(0o777)).unwrap());
    }
    placer.hardlink(b"dir/second", b"set-id").unwrap();
    differences.extend(placer.fifo(b"pipe", &owned(0o620)).unwrap());
    if is_root() {
        let node = Node::CharDevice { major: 1, minor: 3 };
        differences.extend(placer.device(b"null", &node, &owned(0o666)).unwrap());
        let node = Node::BlockDevice { major: 7, minor: 300 };
        differences.extend(placer.device(b"loop", &node, &owned(0o660)).unwrap());
    }
    for (path, meta) in expected().iter().rev().filter(|(path, _)| folders.contains(path)) {
        differences.extend(placer.finish_dir(path.as_bytes(), meta).unwrap());
    }
    placer.sync().unwrap();
    differences
}

#[test]
fn every_attribute_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(build(dir.path()), []);
    let pictures = pictures(dir.path());
    for (path, meta) in expected() {
        let path = shown(path.as_bytes());
        let picture = pictures.iter().find(|picture| picture.path == path).unwrap();
        assert_eq!(picture.meta, meta, "{path}");
    }
    let of = |path: &str| pictures.iter().find(|picture| picture.path == path).unwrap();
    assert_eq!(of("sparse").size, 300 << 20);
    assert_eq!(of("sparse").runs, [(100 << 20, 4096), (200 << 20, 200_704)]);
    assert_eq!(of("to-nowhere").link, Some(b"no/such".to_vec()));
    assert_eq!(of("to-root").meta, owned(0o777));
    assert_eq!(of("set-id").first, Some("dir/second".to_owned()));
    assert_eq!(of("pipe").kind, FoundKind::Fifo);
    assert_eq!(of("pipe").meta, owned(0o620));
    if is_root() {
        assert_eq!(of("null").kind, FoundKind::CharDevice { major: 1, minor: 3 });
        assert_eq!(of("loop").kind, FoundKind::BlockDevice { major: 7, minor: 300 });
        assert_eq!(of("loop").meta, owned(0o660));
    }
}

#[test]
fn a_copied_tree_equals_its_source_fresh_and_in_place() {
    if !is_root() {
        return; // The folder with mode 0 cannot be read.
    }
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(from.path());
    assert_eq!(copy_tree(from.path(), &fresh(to.path())), []);
    assert_eq!(pictures(to.path()), pictures(from.path()));
    // Again over itself, after somebody changed it.
    let placer = in_place(to.path());
    placer.symlink(b"acl", b"/etc/passwd", &owned(0o777)).unwrap();
    placer.remove(b"pipe").unwrap();
    placer.make_dir(b"pipe").unwrap();
    put(&placer, b"pipe/full", b"", &owned(0o600));
    put(&placer, b"to-root", b"a file", &owned(0o600));
    placer.finish_dir(b"dir", &with(owned(0o700), "user.foreign", b"x")).unwrap();
    assert_eq!(copy_tree(from.path(), &placer.without_openat2()), []);
    assert_eq!(pictures(to.path()), pictures(from.path()));
}

#[test]
fn without_privilege_power_is_withheld_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let placer = Placer::open(dir.path(), PlaceOptions::default()).unwrap();
    let meta = with(with(owned(0o4755), "security.capability", &capability()), "trusted.x", b"1");
    let mut said: Vec<_> = put(&placer, b"f", b"x", &meta).into_iter().map(|d| d.attribute).collect();
    let node = Node::CharDevice { major: 1, minor: 3 };
    said.extend(placer.device(b"null", &node, &owned(0o666)).unwrap().into_iter().map(|d| d.attribute));
    assert_eq!(said, ["mode", "xattr security.capability", "xattr trusted.x", "device"]);
    let after = pictures(dir.path());
    assert_eq!(after.len(), 2);
    assert_eq!(after[1].meta, owned(0o755));
}

#[test]
fn attributes_that_nobody_could_mean_do_not_reach_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let placer = fresh(dir.path());
    let omit = Meta { mtime: Time { seconds: 0, nanos: (1 << 30) - 1 }, ..plain(0o600) };
    assert_eq!(put(&placer, b"times", b"", &omit)[0].attribute, "times");
    let keep = Meta { uid: u32::MAX, ..plain(0o4700) };
    let said: Vec<_> = put(&placer, b"owner", b"", &keep).into_iter().map(|d| d.attribute).collect();
    assert_eq!(said, ["owner", "mode"]);
}

#[test]
fn short_holes_count_as_data() {
    let mut file = tempfile::tempfile().unwrap();
    let extents = |file: &File| {
        let stat = content::state(file, b"").unwrap();
        data_extents(file, stat.size, stat.blocks, b"").unwrap()
    };
    assert_eq!(extents(&file), []);
    file.set_len(1000).unwrap();
    assert_eq!(extents(&file), [(0, 1000)]);
    file.set_len(1 << 20).unwrap();
    assert_eq!(extents(&file), []);
    file.write_all_at(&[1; 4096], 8192).unwrap();
    file.write_all_at(&[1; 4096], 40_960).unwrap();
    file.write_all_at(&[1; 4096], 524_288).unwrap();
    assert_eq!(extents(&file), [(0, 45_056), (524_288, 4096)]);
    file.set_len(532_480).unwrap();
    assert_eq!(extents(&file), [(0, 45_056), (524_288, 8192)]);
    std::io::Write::write_all(&mut file, b"x").unwrap();
}
