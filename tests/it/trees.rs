//! A folder with everything that a file system can hold, the same on every run, times included.

pub use super::seeded::{Random, mutate, source_tree};
use rustix::fs::{self as rfs, AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The entry of [`nasty_tree`] that no backup keeps.
pub const SOCKET: &str = "special/socket";
/// Seconds of 2020-09-13, the time of everything that has no other.
const THEN: i64 = 1_600_000_000;
const MEBIBYTE: u64 = 1 << 20;

/// What [`nasty_tree`] may make.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Folders so deep that their path has no name in one piece (over 4,096 bytes).
    pub long_paths: bool,
    /// A sparse file just over 4 GiB.
    pub four_gib: bool,
}

/// Makes `dir` with all that a capture has to keep. What only root can make is left out for others.
pub fn nasty_tree(dir: &Path, extras: Extras) {
    let root = rustix::process::geteuid().is_root();
    fs::create_dir_all(dir).expect("the root folder");
    let make = Maker { dir: dir.to_path_buf(), root };
    make.plain();
    make.links();
    make.sparse();
    make.xattrs();
    make.special();
    make.names();
    if extras.four_gib {
        four_gib(&dir.join("four-gib"));
    }
    make.times();
    if extras.long_paths {
        long_paths(dir);
    }
    make.root_folder();
}

struct Maker {
    dir: PathBuf,
    root: bool,
}

impl Maker {
    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        path
    }

    fn file(&self, name: &str, mode: u32, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        set_mode(&path, mode);
        path
    }

    fn plain(&self) {
        self.file("plain", 0o644, b"plain\n");
        self.file("empty", 0o600, b"");
        self.file("readonly", 0o444, &Random::new(1).bytes(300_000));
        self.file("mode/setuid", 0o4755, b"#!/bin/sh\n");
        self.file("mode/setgid", 0o2755, b"#!/bin/sh\n");
        self.file("mode/sticky", 0o1644, b"sticky");
        if self.root {
            self.file("mode/none", 0o000, b"none may read");
        }
        for (name, mode) in
            [("dirs/sticky", 0o1777), ("dirs/setgid", 0o2775), ("dirs/empty", 0o700), ("dirs/a/b/c", 0o755)]
        {
            let path = self.path(name);
            fs::create_dir_all(&path).expect("a folder");
            set_mode(&path, mode);
        }
        // More than a thousand entries: their tree does not fit one chunk.
        for i in 0..1100 {
            self.file(&format!("many/{i:04}"), 0o640, format!("{i}").as_bytes());
        }
        if self.root {
            for (name, uid, gid) in [("owner/small", 1234, 2345), ("owner/large", 3_000_000_000, 4_294_967_294)] {
                let path = self.file(name, 0o4750, b"owned");
                set_owner(&path, uid, gid);
                set_mode(&path, 0o4750);
            }
            set_owner(&self.dir.join("dirs/a"), 77, 88);
        }
    }

    fn links(&self) {
        let link = |name: &str, target: &[u8]| {
            symlink(std::ffi::OsStr::from_bytes(target), self.path(name)).expect("a symlink");
        };
        link("symlink/dangling", b"no/such/file");
        link("symlink/absolute", b"/etc/passwd");
        link("symlink/to-dir", b"../dirs/a");
        link("symlink/to-itself", b"to-itself");
        link("symlink/odd-bytes", b"\xff\n\x01");
        link("symlink/long", &[b'x'; 4000]);
        if self.root {
            set_owner(&self.dir.join("symlink/dangling"), 55, 66);
        }
        let first = self.file("hard/a/first", 0o640, &Random::new(2).bytes(70_000));
        for other in ["hard/b/second", "hard/b/c/third", "hard-at-the-root"] {
            fs::hard_link(&first, self.path(other)).expect("a hard link");
        }
        let empty = self.file("hard/empty", 0o600, b"");
        fs::hard_link(empty, self.path("hard/z/empty")).expect("a hard link");
    }

    fn sparse(&self) {
        let data = Random::new(3).bytes(100_000);
        sparse(&self.path("sparse/start"), 3 * MEBIBYTE, &[(2 * MEBIBYTE, &data)]);
        sparse(&self.path("sparse/middle"), 0, &[(0, &data), (5 * MEBIBYTE, &data)]);
        sparse(&self.path("sparse/end"), 9 * MEBIBYTE + 17, &[(0, &data)]);
        sparse(&self.path("sparse/only-hole"), 8 * MEBIBYTE, &[]);
        self.file("sparse/zeros-that-are-data", 0o644, &vec![0; 700_000]);
    }

    fn xattrs(&self) {
        let file = self.file("xattr/file", 0o644, b"x");
        set_xattr(&file, b"user.text", b"hello");
        set_xattr(&file, b"user.empty", b"");
        set_xattr(&file, b"user.binary", &(0..=255).collect::<Vec<u8>>());
        set_xattr(&file, b"user.odd-\xff\n", b"name");
        let folder = self.path("xattr/folder");
        fs::create_dir(&folder).expect("a folder");
        set_xattr(&folder, b"user.folder", b"yes");
        let access = self.file("acl/access", 0o640, b"acl");
        set_xattr(&access, b"system.posix_acl_access", &acl(0o6, 0o4));
        let default = self.path("acl/default");
        fs::create_dir(&default).expect("a folder");
        set_xattr(&default, b"system.posix_acl_default", &acl(0o7, 0o5));
        set_xattr(&default, b"system.posix_acl_access", &acl(0o7, 0o1));
        self.file("acl/default/inherits", 0o660, b"by default");
        if self.root {
            let path = self.file("capability", 0o755, b"#!/bin/sh\n");
            set_xattr(&path, b"security.capability", &capability());
            symlink("x", self.path("xattr/symlink")).expect("a symlink");
            set_xattr(&self.dir.join("xattr/symlink"), b"trusted.link", b"on the link itself");
        }
    }

    fn special(&self) {
        let node = |name: &str, kind, mode: u32, dev| {
            let path = self.path(name);
            rfs::mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), dev).expect("a special file");
            set_mode(&path, mode);
        };
        node("special/fifo", FileType::Fifo, 0o620, 0);
        node(SOCKET, FileType::Socket, 0o700, 0);
        if self.root {
            node("special/null", FileType::CharacterDevice, 0o666, rfs::makedev(1, 3));
            node("special/large-number", FileType::CharacterDevice, 0o600, rfs::makedev(400, 70_000));
            node("special/loop", FileType::BlockDevice, 0o660, rfs::makedev(7, 200));
        }
    }

    fn names(&self) {
        let folder = self.path("names");
        fs::create_dir(&folder).expect("a folder");
        let long_text = "é".repeat(127) + "x";
        let names: [&[u8]; 18] = [
            b"new\nline",
            b"\xff\xfe invalid",
            b"\x01control\x1b[2J",
            b" spaces ",
            b"-rf",
            b"*?[a]",
            b"back\\slash",
            b"quote'\"`$(x)",
            b"...",
            b"..a",
            b"~",
            b"#x#",
            "e\u{301}".as_bytes(),
            "é".as_bytes(),
            b"Case",
            b"case",
            &[b'n'; 255],
            long_text.as_bytes(),
        ];
        for name in names {
            let path = folder.join(std::ffi::OsStr::from_bytes(name));
            fs::write(path, name).expect("a file of any name");
        }
        let odd = folder.join(std::ffi::OsStr::from_bytes(b"folder\n\xff"));
        fs::create_dir(&odd).expect("a folder of any name");
        fs::write(odd.join("inside"), b"inside").expect("a file");
    }

    /// Gives every entry its time, innermost first, and some an unusual one.
    fn times(&self) {
        let unusual = [
            ("time/before-1970", -2, 500_000_000),
            ("time/1901", -2_147_483_648, 1),
            ("time/epoch", 0, 0),
            ("time/last-nanosecond", THEN, 999_999_999),
            ("time/2200", 7_258_118_400, 999_999_999),
        ];
        for (name, ..) in unusual {
            self.file(name, 0o644, name.as_bytes());
        }
        settle(&self.dir);
        for (name, seconds, nanos) in unusual {
            set_time(&self.dir.join(name), seconds, nanos);
        }
        set_time(&self.dir.join("symlink/dangling"), -77, 123);
        set_time(&self.dir.join("dirs/empty"), 4_000_000_000, 5);
    }

    fn root_folder(&self) {
        if self.root {
            set_owner(&self.dir, 1111, 2222);
        }
        set_mode(&self.dir, 0o2751);
        set_xattr(&self.dir, b"user.root-folder", b"kept");
        set_xattr(&self.dir, b"system.posix_acl_default", &acl(0o5, 0o4));
        set_time(&self.dir, -86_400, 123_456_789);
    }
}

/// Sets the time of all that is in `dir`, each from its place in the order of the names.
pub fn settle(dir: &Path) {
    for (i, path) in super::compare::paths(dir).iter().enumerate().rev() {
        set_time(&dir.join(path), THEN + i as i64, 1_000 + i as i64);
    }
    set_time(dir, THEN, 7);
}

/// A file that is `size` bytes long or as long as its data, with holes where no data is given.
pub fn sparse(path: &Path, size: u64, data: &[(u64, &[u8])]) {
    let file = fs::File::create(path).expect("a sparse file");
    file.set_len(size).expect("its size");
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).expect("its data");
    }
}

/// A file just over 4 GiB with data at both ends and across the 4 GiB line.
pub fn four_gib(path: &Path) {
    let line = 4096 * MEBIBYTE;
    sparse(path, line + MEBIBYTE + 3, &[(0, b"start"), (line - 3, b"across"), (line + MEBIBYTE, b"end")]);
}

/// A chain of folders whose path is longer than any system call takes, a file in each.
fn long_paths(dir: &Path) {
    let open = |at: &OwnedFd, name: &str| {
        rfs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("a folder")
    };
    let mut at = rfs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("a folder");
    let name = "deep-".repeat(40);
    let mut handles = Vec::new();
    for depth in 0..25 {
        rfs::mkdirat(&at, name.as_str(), Mode::from_raw_mode(0o755)).expect("a deep folder");
        let next = open(&at, &name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rfs::openat(&next, "file", flags, Mode::from_raw_mode(0o644)).expect("a deep file");
        fs::File::from(file).write_all(format!("depth {depth}").as_bytes()).expect("its content");
        handles.push(std::mem::replace(&mut at, next));
    }
    for parent in handles.iter().rev() {
        for (of, name) in [(&open(parent, &name), "file"), (parent, name.as_str())] {
            rfs::utimensat(of, name, &times(THEN, 42), AtFlags::SYMLINK_NOFOLLOW).expect("a deep file's time");
        }
    }
}

/// An ACL in the kernel's own form, for a user and a group beside the usual ones.
fn acl(user: u16, group: u16) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    let entries = [(1, 7, NONE), (2, user, 4321), (4, 5, NONE), (8, group, 8765), (16, 7, NONE), (32, 0, NONE)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(permissions));
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

/// The file capability `cap_net_bind_service=ep` in the kernel's own form.
fn capability() -> Vec<u8> {
    [0x0200_0001u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Sets an extended attribute of the entry itself.
pub fn set_xattr(path: &Path, name: &[u8], value: &[u8]) {
    let set = rfs::lsetxattr(path, name, value, XattrFlags::empty());
    set.unwrap_or_else(|error| panic!("{}: {}: {error}", path.display(), name.escape_ascii()));
}

/// Sets the owner and group of the entry itself.
pub fn set_owner(path: &Path, uid: u32, gid: u32) {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rfs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).expect("an owner");
}

/// Sets the mode, whatever the umask.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Sets the modification time of the entry itself.
pub fn set_time(path: &Path, seconds: i64, nanos: i64) {
    rfs::utimensat(CWD, path, &times(seconds, nanos), AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}

fn times(seconds: i64, nanos: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    Timestamps { last_access: time, last_modification: time }
}
