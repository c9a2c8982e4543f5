//! The frozen repositories in fixtures/repos: every later version lists them, checks them, restores
//! them and writes to them. What is in them is told by expected.json, which snap had no part in.

use crate::compare::{paths, shown};
use crate::need::{self, need};
use crate::recover;
use crate::snap::{Sandbox, copy_folder, create_args, exit, id_of};
use crate::trees::{set_mode, source_tree};
use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{self as rfs, AtFlags, CWD, FileType};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A copy of the frozen repository, as a checkout by git gives it.
struct Frozen {
    sandbox: Sandbox,
    expected: Vec<Expected>,
}

/// One snapshot, as it must be.
struct Expected {
    id: String,
    head: Value,
    entries: Map<String, Value>,
}

impl Frozen {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repos/v1");
        copy_folder(&from, &sandbox.path("v1")).unwrap_or_else(|text| panic!("{text}"));
        std::fs::rename(sandbox.path("v1/repository"), sandbox.repo()).expect("a place for the repository");
        for name in ["owner.txt", "writer.txt"] {
            set_mode(&sandbox.path("v1").join(name), 0o600);
        }
        let text = std::fs::read_to_string(sandbox.path("v1/expected.json")).expect("expected.json");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let mut entries = Map::new();
        let mut expected = Vec::new();
        for snapshot in document["snapshots"].as_array().expect("snapshots") {
            for (path, entry) in snapshot["entries"].as_object().expect("entries") {
                match entry {
                    Value::Null => drop(entries.remove(path)),
                    entry => drop(entries.insert(path.clone(), entry.clone())),
                }
            }
            let id = id_of(snapshot).expect("an id");
            expected.push(Expected { id, head: snapshot.clone(), entries: entries.clone() });
        }
        Self { sandbox, expected }
    }

    fn identity(&self, role: &str) -> PathBuf {
        self.sandbox.path("v1").join(format!("{role}.txt"))
    }

    /// The arguments with the identity of a role.
    fn with(&self, role: &str, args: &[&str]) -> Vec<OsString> {
        let mut args: Vec<OsString> = args.iter().map(OsString::from).collect();
        args.extend(["--identity".into(), self.identity(role).into()]);
        args
    }

    #[track_caller]
    fn json(&self, role: &str, args: &[&str]) -> Value {
        let run = self.sandbox.expect(&self.with(role, args), &[exit::DONE]);
        run.unwrap_or_else(|text| panic!("{text}")).json()
    }
}

/// What is below `root`, in the words of expected.json.
fn describe(root: &Path) -> Map<String, Value> {
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    let mut found = Map::new();
    for path in std::iter::once(PathBuf::new()).chain(paths(root)) {
        let full = root.join(&path);
        let stat = rfs::statat(CWD, &full, AtFlags::SYMLINK_NOFOLLOW).expect("an entry");
        let name = shown(path.as_os_str().as_bytes());
        let mut entry = json!({
            "mode": stat.st_mode & 0o7777, "uid": stat.st_uid, "gid": stat.st_gid,
            "mtime": [stat.st_mtime, stat.st_mtime_nsec],
        });
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => entry["type"] = "dir".into(),
            FileType::Fifo => entry["type"] = "fifo".into(),
            FileType::Symlink => {
                entry["type"] = "symlink".into();
                let target = std::fs::read_link(&full).expect("a link");
                entry["target"] = shown(target.as_os_str().as_bytes()).into();
            }
            _ => {
                let mut content = std::fs::read(&full).expect("a file");
                if content.starts_with(b"SQLite format 3") {
                    content = rows(&full).expect("rows");
                }
                entry["type"] = "file".into();
                entry["size"] = content.len().into();
                entry["sha256"] = hex(digest(&SHA256, &content).as_ref()).into();
                if stat.st_nlink > 1 {
                    entry["same_as"] = first.entry(stat.st_ino).or_insert_with(|| name.clone()).clone().into();
                }
            }
        }
        let xattrs = xattrs(&full);
        if !xattrs.is_empty() {
            entry["xattrs"] = xattrs.into();
        }
        found.insert(name, entry);
    }
    found
}

/// The rows of table `t`: a backup has the same, but a header of its own.
fn rows(database: &Path) -> rusqlite::Result<Vec<u8>> {
    let uri = format!("file:{}?immutable=1", database.display());
    let book = rusqlite::Connection::open_with_flags(
        uri,
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI,
    )?;
    let mut query = book.prepare("SELECT n, s FROM t ORDER BY n")?;
    let lines = query.query_map([], |row| Ok(format!("{} {}\n", row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    Ok(lines.collect::<rusqlite::Result<String>>()?.into_bytes())
}

fn xattrs(path: &Path) -> Map<String, Value> {
    let mut list = vec![0; 4096];
    let length = rfs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut found = Map::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|n| !n.is_empty() && *n != b"security.selinux") {
        let mut value = vec![0; 4096];
        let length = rfs::lgetxattr(path, name, &mut value[..]).expect("an attribute");
        found.insert(shown(name), hex(&value[..length]).into());
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    snap::id::to_hex(bytes)
}

/// Leaves out what only root can restore, where the test is not root.
fn comparable(entries: &Map<String, Value>) -> Map<String, Value> {
    let mut entries = entries.clone();
    if need::root().is_err() {
        for entry in entries.values_mut().filter_map(Value::as_object_mut) {
            entry.remove("uid");
            entry.remove("gid");
            let mode = entry["mode"].as_u64().unwrap_or(0) & 0o1777;
            entry.insert("mode".to_owned(), mode.into());
        }
    }
    entries
}

#[track_caller]
fn assert_is(root: &Path, expected: &Expected) {
    let (found, wanted) = (comparable(&describe(root)), comparable(&expected.entries));
    let names: std::collections::BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let wrong: Vec<String> = names
        .into_iter()
        .filter(|name| found.get(*name) != wanted.get(*name))
        .map(|name| format!("{name}: {:?} should be {:?}", found.get(name), wanted.get(name)))
        .collect();
    assert!(wrong.is_empty(), "snapshot {}:\n{}", expected.id, wrong.join("\n"));
}

#[test]
fn a_frozen_repository_is_listed_checked_and_restored() {
    let frozen = Frozen::new();
    let list = frozen.json("owner", &["list", "--json"]);
    let listed = list["snapshots"].as_array().expect("snapshots");
    assert_eq!(listed.len(), frozen.expected.len());
    for (found, expected) in listed.iter().zip(&frozen.expected) {
        for member in ["id", "time", "tags", "complete"] {
            assert_eq!(found[member], expected.head[member], "{member} of {found}");
        }
    }
    let check = frozen.json("owner", &["check", "--read-data", "--json"]);
    assert_eq!((&check["problems"], &check["opened"]), (&json!([]), &json!(true)), "{check}");
    for expected in &frozen.expected {
        let target = frozen.sandbox.path(&format!("target-{}", &expected.id[..8]));
        let mut args = frozen.with("owner", &["restore", &expected.id, "--json", "--target"]);
        args.insert(args.len() - 2, target.clone().into());
        frozen.sandbox.expect(&args, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
        assert_is(&target, expected);
    }
}

#[test]
fn a_frozen_repository_takes_new_snapshots() {
    let frozen = Frozen::new();
    let source = frozen.sandbox.path("source");
    source_tree(&source, 30, 2);
    let mut args = create_args(&source);
    args.extend(["--identity".into(), frozen.identity("writer").into()]);
    let run = frozen.sandbox.expect(&args, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let id = id_of(&run.json()["snapshot"]).expect("an id");
    let check = frozen.json("owner", &["check", "--read-data", "--json"]);
    assert_eq!((&check["problems"], check["snapshots"].as_u64()), (&json!([]), Some(4)), "{check}");
    let target = frozen.sandbox.path("target");
    let mut args = frozen.with("owner", &["restore", &id, "--target"]);
    args.insert(args.len() - 2, target.clone().into());
    frozen.sandbox.expect(&args, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    crate::compare::assert_same(&source, &target);
}

#[test]
fn a_frozen_repository_knows_its_writer() {
    let frozen = Frozen::new();
    let list = frozen.json("writer", &["list", "--json"]);
    assert_eq!(list["snapshots"].as_array().map(Vec::len), Some(3));
    let check = frozen.json("writer", &["check", "--read-data", "--json"]);
    assert_eq!((&check["problems"], &check["opened"]), (&json!([]), &json!(false)), "{check}");
    let args = frozen.with("writer", &["show", "latest", "--files"]);
    frozen.sandbox.expect(&args, &[exit::WRONG_KEY]).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_frozen_repository_outlives_its_program() {
    need!(recover::tools());
    let frozen = Frozen::new();
    for expected in &frozen.expected {
        let target = frozen.sandbox.path(&format!("target-{}", &expected.id[..8]));
        let args = [OsString::from(&expected.id), target.clone().into()];
        let run = recover::recover(&frozen.sandbox, &frozen.sandbox.repo(), &frozen.identity("owner"), &args);
        let codes: &[i32] = if need::root().is_ok() { &[0] } else { &[0, 3] };
        assert!(codes.contains(&run.code), "{run}");
        assert_is(&target, expected);
    }
}
