//! What the parts of this folder do together, on real trees. The helpers copy and compare trees
//! the way a capture and a restore do.

mod attack;
mod metadata;
mod placing;
mod scan;
mod unprivileged;

use super::content::{data_extents, open_file};
use super::*;
use crate::repo::entry::{Meta, Node, Time, shown};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// All events of a scan.
fn events(root: &Path, options: &WalkOptions) -> Vec<Event> {
    let mut all = Vec::new();
    walk(root, options, &mut |event| {
        all.push(event);
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

/// All that a scan finds; anything else fails the test.
fn found(root: &Path) -> Vec<Found> {
    let expect = |event| match event {
        Event::Found(found) => found,
        other => panic!("{other:?}"),
    };
    events(root, &WalkOptions::default()).into_iter().map(expect).collect()
}

/// The paths that a scan finds, as text, and what it leaves out, as `path: reason`.
fn outcome(root: &Path, options: &WalkOptions) -> (Vec<String>, Vec<String>) {
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for event in events(root, options) {
        match event {
            Event::Found(found) => taken.push(shown(&found.path)),
            Event::LeftOut { path, reason } => left.push(format!("{}: {reason}", shown(&path))),
            Event::BadPattern { path, message } => left.push(format!("{}: {message}", shown(&path))),
        }
    }
    (taken, left)
}

/// All there is to say of one thing, apart from where it is stored.
#[derive(Debug, PartialEq)]
struct Picture {
    path: String,
    kind: FoundKind,
    meta: Meta,
    link: Option<Vec<u8>>,
    content: Vec<u8>,
    runs: Vec<(u64, u64)>,
    size: u64,
    /// The first path of the same file.
    first: Option<String>,
}

fn pictures(root: &Path) -> Vec<Picture> {
    let mut firsts = HashMap::new();
    found(root).iter().map(|found| picture(found, &mut firsts)).collect()
}

fn picture(found: &Found, firsts: &mut HashMap<u64, String>) -> Picture {
    let path = shown(&found.path);
    let xattrs = found.read_xattrs().unwrap();
    let mut picture = Picture {
        path: path.clone(),
        kind: found.kind,
        meta: Meta { xattrs, ..found.meta.clone() },
        link: None,
        content: Vec::new(),
        runs: Vec::new(),
        size: 0,
        first: None,
    };
    match found.kind {
        FoundKind::Symlink => picture.link = Some(found.read_link().unwrap()),
        FoundKind::File => {
            let (file, stat, _) = open_file(found).unwrap();
            picture.runs = data_extents(&file, stat.size, stat.blocks, &found.path).unwrap();
            picture.size = stat.size;
            for (offset, length) in &picture.runs {
                let mut bytes = vec![0; *length as usize];
                file.read_exact_at(&mut bytes, *offset).unwrap();
                picture.content.extend(bytes);
            }
            picture.first = (stat.nlink > 1).then(|| firsts.entry(stat.ino).or_insert(path).clone());
        }
        _ => {}
    }
    picture
}

/// Copies the tree `from` with a scan and `placer`, as a restore does; returns what differs.
fn copy_tree(from: &Path, placer: &Placer) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut folders = Vec::new();
    let mut firsts: HashMap<u64, Vec<u8>> = HashMap::new();
    for found in found(from) {
        let path = found.path.clone();
        let meta = Meta { xattrs: found.read_xattrs().unwrap(), ..found.meta.clone() };
        let placed = match found.kind {
            FoundKind::Dir => {
                placer.make_dir(&path).unwrap();
                folders.push((path, meta));
                continue;
            }
            FoundKind::File if firsts.contains_key(&found.stat.ino) => {
                placer.hardlink(&path, &firsts[&found.stat.ino]).unwrap();
                continue;
            }
            FoundKind::File => {
                firsts.insert(found.stat.ino, path.clone());
                copy_file(&found, placer, &meta)
            }
            FoundKind::Symlink => placer.symlink(&path, &found.read_link().unwrap(), &meta).unwrap(),
            FoundKind::Fifo => placer.fifo(&path, &meta).unwrap(),
            FoundKind::CharDevice { major, minor } => {
                placer.device(&path, &Node::CharDevice { major, minor }, &meta).unwrap()
            }
            FoundKind::BlockDevice { major, minor } => {
                placer.device(&path, &Node::BlockDevice { major, minor }, &meta).unwrap()
            }
        };
        differences.extend(placed);
    }
    for (path, meta) in folders.iter().rev() {
        differences.extend(placer.finish_dir(path, meta).unwrap());
    }
    placer.sync().unwrap();
    differences
}

fn copy_file(found: &Found, placer: &Placer, meta: &Meta) -> Vec<Difference> {
    let (file, stat, _) = open_file(found).unwrap();
    let pending = placer.begin_file(&found.path, stat.size).unwrap();
    for (offset, length) in data_extents(&file, stat.size, stat.blocks, &found.path).unwrap() {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).unwrap();
        pending.write_at(offset, &bytes).unwrap();
    }
    pending.finish(meta).unwrap()
}

fn fresh(target: &Path) -> Placer {
    Placer::open(target, PlaceOptions { privileged: true, ..PlaceOptions::default() }).unwrap()
}

fn in_place(target: &Path) -> Placer {
    Placer::open(target, PlaceOptions { in_place: true, exact: true, privileged: true }).unwrap()
}

/// Attributes that anybody may give to his own files.
fn plain(mode: u32) -> Meta {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let mtime = Time { seconds: 1_700_000_000, nanos: 123_456_789 };
    Meta { mode, uid, gid, mtime, xattrs: Vec::new() }
}

fn put(placer: &Placer, path: &[u8], content: &[u8], meta: &Meta) -> Vec<Difference> {
    let pending = placer.begin_file(path, content.len() as u64).unwrap();
    pending.write_at(0, content).unwrap();
    pending.finish(meta).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
