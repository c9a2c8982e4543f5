//! Compares two folders and lists every difference. It walks on its own, by folder handles, and
//! shares no code with the program it judges.

use rustix::fs::{self as rfs, AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Stat};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a sparse file's copy may occupy beyond its original, in bytes.
const SPARSE_SLACK: u64 = 64 << 10;
/// Content is compared in pieces of this many bytes.
const PIECE: u64 = 256 << 10;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Relative path, escaped; `.` for the root.
    pub path: String,
    /// Which attribute differs.
    pub what: &'static str,
    /// The two values.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.what, self.detail)
    }
}

/// What a copy does with sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// A backup skips them.
    Absent,
    /// `cp -a` copies them.
    Copied,
}

/// Every difference between the original `a` and its restored copy `b`.
pub fn compare(a: &Path, b: &Path) -> Vec<Difference> {
    compare_with(a, b, Sockets::Absent)
}

/// [`compare`], with another rule for sockets.
pub fn compare_with(a: &Path, b: &Path, sockets: Sockets) -> Vec<Difference> {
    let mut comparison = Comparison { sockets, found: Vec::new(), links: [Links::default(), Links::default()] };
    match (open_dir(None, a.as_os_str().as_bytes()), open_dir(None, b.as_os_str().as_bytes())) {
        (Ok(dir_a), Ok(dir_b)) => {
            comparison.node(&dir_a, &dir_b, b".", b"");
            comparison.hard_links();
        }
        (a, b) => comparison.report(b"", "root", format!("cannot open: {a:?}, {b:?}")),
    }
    comparison.found
}

/// Fails unless the copy `b` is the same as `a` in everything.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    if let Err(text) = same(a, b) {
        panic!("{text}");
    }
}

/// `Err` with the differences between the original `a` and the copy `b`.
pub fn same(a: &Path, b: &Path) -> Result<(), String> {
    let found = compare(a, b);
    if found.is_empty() {
        return Ok(());
    }
    Err(format!("{} and {} differ:\n{}", a.display(), b.display(), listing(&found)))
}

fn listing(found: &[Difference]) -> String {
    let mut lines: Vec<String> = found.iter().take(20).map(|d| format!("  {d}")).collect();
    if found.len() > 20 {
        lines.push(format!("  … and {} more", found.len() - 20));
    }
    lines.join("\n")
}

/// What a restore that reported a failure has nevertheless done wrong: regular files in `b` that
/// are not in `a` or hold other content. Files that are missing are no fault here.
pub fn wrong_files(a: &Path, b: &Path) -> Vec<Difference> {
    if !b.exists() {
        return Vec::new();
    }
    let wrong = |d: &Difference| match d.what {
        "content" | "size" | "type" => true,
        "extra" => !d.path.rsplit('/').next().is_some_and(|name| name.starts_with(".snap-tmp-")),
        _ => false,
    };
    compare(a, b).into_iter().filter(wrong).collect()
}

/// Which paths are one file.
#[derive(Default)]
struct Links {
    first: BTreeMap<(u64, u64), Vec<u8>>,
    group: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Links {
    fn add(&mut self, stat: &Stat, path: &[u8]) {
        let first = self.first.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
        self.group.insert(path.to_vec(), first.clone());
    }
}

struct Comparison {
    sockets: Sockets,
    found: Vec<Difference>,
    links: [Links; 2],
}

impl Comparison {
    fn report(&mut self, path: &[u8], what: &'static str, detail: String) {
        self.found.push(Difference { path: shown(path), what, detail });
    }

    fn differ<T: PartialEq + fmt::Display>(&mut self, path: &[u8], what: &'static str, a: T, b: T) {
        if a != b {
            self.report(path, what, format!("{a} became {b}"));
        }
    }

    /// Compares the entry `name` of both folders.
    fn node(&mut self, a: &OwnedFd, b: &OwnedFd, name: &[u8], path: &[u8]) {
        let stats = (stat(a, name), stat(b, name));
        let (sa, sb) = match stats {
            (Ok(sa), Ok(sb)) => (sa, sb),
            (sa, sb) => return self.report(path, "stat", format!("{:?}, {:?}", sa.err(), sb.err())),
        };
        let (kind, kind_b) = (FileType::from_raw_mode(sa.st_mode), FileType::from_raw_mode(sb.st_mode));
        if kind != kind_b {
            return self.report(path, "type", format!("{kind:?} became {kind_b:?}"));
        }
        self.attributes(&sa, &sb, path);
        match (xattrs(a, name), xattrs(b, name)) {
            (Ok(xa), Ok(xb)) => self.xattrs(&xa, &xb, path),
            (xa, xb) => self.report(path, "xattr", format!("cannot list: {:?}, {:?}", xa.err(), xb.err())),
        }
        match kind {
            FileType::Directory => self.directory(a, b, name, path),
            FileType::RegularFile => self.regular(a, b, name, path, (&sa, &sb)),
            FileType::Symlink => {
                let target = |dir| rfs::readlinkat(dir, name, Vec::new()).map(|t| shown(t.as_bytes()));
                self.differ(path, "target", format!("{:?}", target(a)), format!("{:?}", target(b)));
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let number = |s: &Stat| format!("{}:{}", rfs::major(s.st_rdev), rfs::minor(s.st_rdev));
                self.differ(path, "device", number(&sa), number(&sb));
            }
            _ => {}
        }
        if kind != FileType::Directory {
            self.links[0].add(&sa, path);
            self.links[1].add(&sb, path);
        }
    }

    fn attributes(&mut self, sa: &Stat, sb: &Stat, path: &[u8]) {
        let mode = |s: &Stat| format!("{:04o}", s.st_mode & 0o7777);
        self.differ(path, "mode", mode(sa), mode(sb));
        self.differ(path, "uid", sa.st_uid, sb.st_uid);
        self.differ(path, "gid", sa.st_gid, sb.st_gid);
        let time = |s: &Stat| format!("{}s {}ns", s.st_mtime, s.st_mtime_nsec);
        self.differ(path, "mtime", time(sa), time(sb));
    }

    fn xattrs(&mut self, a: &BTreeMap<Vec<u8>, Vec<u8>>, b: &BTreeMap<Vec<u8>, Vec<u8>>, path: &[u8]) {
        let names: BTreeSet<&Vec<u8>> = a.keys().chain(b.keys()).collect();
        for name in names {
            let (va, vb) = (a.get(name), b.get(name));
            if va != vb {
                self.report(path, "xattr", format!("{}: {va:02x?} became {vb:02x?}", shown(name)));
            }
        }
    }

    fn regular(&mut self, a: &OwnedFd, b: &OwnedFd, name: &[u8], path: &[u8], (sa, sb): (&Stat, &Stat)) {
        self.differ(path, "size", sa.st_size, sb.st_size);
        let (on_disk_a, on_disk_b) = (sa.st_blocks as u64 * 512, sb.st_blocks as u64 * 512);
        if on_disk_a < sa.st_size as u64 && on_disk_b > on_disk_a + SPARSE_SLACK {
            self.report(path, "sparse", format!("{on_disk_a} bytes on disk became {on_disk_b}"));
        }
        match first_difference(a, b, name, (sa.st_size as u64).min(sb.st_size as u64)) {
            Ok(None) => {}
            Ok(Some(at)) => self.report(path, "content", format!("differs from byte {at} on")),
            Err(error) => self.report(path, "content", format!("cannot read: {error}")),
        }
    }

    fn directory(&mut self, a: &OwnedFd, b: &OwnedFd, name: &[u8], path: &[u8]) {
        let (dir_a, dir_b) = match (open_dir(Some(a), name), open_dir(Some(b), name)) {
            (Ok(dir_a), Ok(dir_b)) => (dir_a, dir_b),
            (ea, eb) => return self.report(path, "folder", format!("cannot open: {:?}, {:?}", ea.err(), eb.err())),
        };
        let (names_a, names_b) = match (names(&dir_a), names(&dir_b)) {
            (Ok(names_a), Ok(names_b)) => (names_a, names_b),
            (ea, eb) => return self.report(path, "folder", format!("cannot list: {:?}, {:?}", ea.err(), eb.err())),
        };
        for name in names_a.union(&names_b) {
            let below = join(path, name);
            let socket = self.sockets == Sockets::Absent
                && stat(&dir_a, name).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket);
            match (names_a.contains(name), names_b.contains(name)) {
                (true, true) if !socket => self.node(&dir_a, &dir_b, name, &below),
                (true, false) if socket => {}
                (true, true) => self.report(&below, "extra", "a socket, which is not kept, was made".to_owned()),
                (true, false) => self.report(&below, "missing", "is not in the copy".to_owned()),
                (false, _) => self.report(&below, "extra", "is not in the original".to_owned()),
            }
        }
    }

    /// Both sides must have joined the same paths.
    fn hard_links(&mut self) {
        let [a, b] = std::mem::take(&mut self.links);
        for (path, first) in &a.group {
            match b.group.get(path) {
                Some(first_b) if first_b != first => {
                    self.report(
                        path,
                        "hard links",
                        format!("one file with {} became with {}", shown(first), shown(first_b)),
                    );
                }
                _ => {}
            }
        }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Bytes as printable text.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() { ".".to_owned() } else { bytes.escape_ascii().to_string() }
}

fn stat(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Stat> {
    rfs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn open_dir(dir: Option<&OwnedFd>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match dir {
        Some(dir) => rfs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()),
        None => rfs::openat(CWD, name, flags, Mode::empty()),
    }
}

fn names(dir: &OwnedFd) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut found = BTreeSet::new();
    for entry in rfs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            found.insert(name);
        }
    }
    Ok(found)
}

/// All extended attributes but the label that a security module of the machine gives on its own.
fn xattrs(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let mut list = vec![0u8; 64 << 10];
    let filled = match rfs::llistxattr(path.as_slice(), &mut list[..]) {
        Ok(filled) => filled,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for name in list[..filled].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux")
    {
        let mut value = vec![0u8; 64 << 10];
        let length = rfs::lgetxattr(path.as_slice(), name, &mut value[..])?;
        found.insert(name.to_vec(), value[..length].to_vec());
    }
    Ok(found)
}

/// The first byte below `size` that differs. Holes are not read: both read as zeros there.
fn first_difference(a: &OwnedFd, b: &OwnedFd, name: &[u8], size: u64) -> std::io::Result<Option<u64>> {
    let open = |dir| rfs::openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let (a, b) = (File::from(open(a)?), File::from(open(b)?));
    let mut at = 0;
    while at < size {
        let Some(data) = next_data(&a, at).into_iter().chain(next_data(&b, at)).min() else { return Ok(None) };
        at = data;
        let wanted = PIECE.min(size.saturating_sub(at)) as usize;
        let (mut piece_a, mut piece_b) = (vec![0; wanted], vec![0; wanted]);
        a.read_exact_at(&mut piece_a, at)?;
        b.read_exact_at(&mut piece_b, at)?;
        if piece_a != piece_b {
            let offset = piece_a.iter().zip(&piece_b).position(|(x, y)| x != y).unwrap_or(0);
            return Ok(Some(at + offset as u64));
        }
        at += wanted as u64;
    }
    Ok(None)
}

/// Where data starts at or after `at`; `None` if only a hole follows.
fn next_data(file: &File, at: u64) -> Option<u64> {
    match rfs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Some(data),
        Err(rustix::io::Errno::NXIO) => None,
        Err(_) => Some(at),
    }
}

/// Every path below `dir`, relative, sorted, with its type; for tests that need a plain list.
pub fn paths(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(dir.join(&folder)).expect("a folder that can be listed") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("its type").is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
