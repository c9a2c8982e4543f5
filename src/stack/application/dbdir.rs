//! Recognising the files of a running database.
//!
//! Such files copied while the server writes them make a set that starts, can be dumped, and lies: they are of
//! different moments. So they are recognised by what servers put into their folders, whatever the volume is called.

use std::path::{Path, PathBuf};

/// The names that tell whose folder it is.
const MARKS: [(&str, &str); 7] = [
    ("PG_VERSION", "PostgreSQL"),
    ("ibdata1", "MariaDB/MySQL"),
    ("WiredTiger", "MongoDB"),
    ("dump.rdb", "Redis"),
    ("appendonly.aof", "Redis"),
    ("appendonlydir", "Redis"),
    ("pg_wal", "PostgreSQL"),
];
/// Folders below are looked at this deep: servers put their files into `data`, `18/docker` and the like.
const DEPTH: u32 = 3;
/// At most this many names are looked at.
const NAMES_MAX: u32 = 2000;

/// The database folders that `root` is or has below it, each with the server that left it.
pub fn recognise(root: &Path) -> Vec<(&'static str, PathBuf)> {
    let (mut left, mut found) = (NAMES_MAX, Vec::new());
    look(root, DEPTH, &mut left, &mut found);
    found
}

/// Whose mark the name is.
pub fn mark(name: &str) -> Option<&'static str> {
    MARKS.iter().find(|(mark, _)| *mark == name).map(|(_, server)| *server)
}

/// The names that are asked for where a folder cannot be listed.
pub fn marks() -> impl Iterator<Item = &'static str> {
    MARKS.iter().map(|(mark, _)| *mark)
}

fn look(dir: &Path, depth: u32, left: &mut u32, found: &mut Vec<(&'static str, PathBuf)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut below = Vec::new();
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let name = entry.file_name();
        if let Some(server) = name.to_str().and_then(mark) {
            found.push((server, dir.to_path_buf()));
            return;
        }
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below.push(entry.path());
        }
    }
    for dir in below {
        look(&dir, depth - 1, left, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_what_they_leave() {
        let dir = tempfile::tempdir().unwrap();
        assert!(recognise(dir.path()).is_empty());
        let deep = dir.path().join("18/docker");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("PG_VERSION"), "18").unwrap();
        assert_eq!(recognise(dir.path()), [("PostgreSQL", deep)]);
        assert!(recognise(&dir.path().join("none")).is_empty());
    }
}
