//! The bytes of one entry of a tree. docs/FORMAT.md §7 owns them.
//!
//! ```text
//! entry:   shared  string(rest of path)  u8 kind  mode uid gid  signed(mtime s)  mtime ns
//!          xattrs { string(name) string(value) }  body
//! body:    0 folder, 4 fifo: nothing     1 file: extents { extent }    2 link, 3 hard link: string
//!          5, 6 device: major minor      7 more extents of the file before: extents { extent }
//! extent:  0 id length  |  1 length (a hole)  |  2 id first length (a slice of a chunk)
//! ```
//!
//! `shared` is how many bytes of the path are those of the path before it in the same chunk, so
//! that a chunk can be read alone and still does not repeat its folders.

use super::entry::{Entry, Extent, Meta, Node, Time, is_valid_path};
use super::wire::{Malformed, Wire, put_bytes, put_number, put_signed};
use crate::id::ChunkId;
use crate::limits::{CHUNK_BYTES_MAX, PATH_BYTES_MAX, XATTR_BYTES_MAX};

/// A file with more extents goes on in further records, so that a record fits a chunk.
pub const EXTENTS_PER_RECORD: usize = 4096;

const MODE_BITS: u32 = 0o7777;

fn kind_of(node: &Node) -> u8 {
    match node {
        Node::Dir => 0,
        Node::File(_) => 1,
        Node::Symlink(_) => 2,
        Node::Hardlink(_) => 3,
        Node::Fifo => 4,
        Node::CharDevice { .. } => 5,
        Node::BlockDevice { .. } => 6,
    }
}

const MORE: u8 = 7;

/// Appends the entry up to its body; of a file only the first extents.
pub fn put_entry(out: &mut Vec<u8>, previous: &[u8], entry: &Entry) {
    put_path(out, previous, &entry.path);
    out.push(kind_of(&entry.node));
    put_meta(out, &entry.meta);
    match &entry.node {
        Node::Dir | Node::Fifo => {}
        Node::File(extents) => put_extents(out, &extents[..extents.len().min(EXTENTS_PER_RECORD)]),
        Node::Symlink(bytes) | Node::Hardlink(bytes) => put_bytes(out, bytes),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            put_number(out, u64::from(*major));
            put_number(out, u64::from(*minor));
        }
    }
}

/// Appends a record with further extents of the file `path`.
pub fn put_more(out: &mut Vec<u8>, previous: &[u8], path: &[u8], extents: &[Extent]) {
    put_path(out, previous, path);
    out.push(MORE);
    put_extents(out, extents);
}

fn put_path(out: &mut Vec<u8>, previous: &[u8], path: &[u8]) {
    let shared = previous.iter().zip(path).take_while(|(a, b)| a == b).count();
    put_number(out, shared as u64);
    put_bytes(out, &path[shared..]);
}

fn put_meta(out: &mut Vec<u8>, meta: &Meta) {
    put_number(out, u64::from(meta.mode));
    put_number(out, u64::from(meta.uid));
    put_number(out, u64::from(meta.gid));
    put_signed(out, meta.mtime.seconds);
    put_number(out, u64::from(meta.mtime.nanos));
    put_number(out, meta.xattrs.len() as u64);
    for (name, value) in &meta.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn put_extents(out: &mut Vec<u8>, extents: &[Extent]) {
    put_number(out, extents.len() as u64);
    for extent in extents {
        match extent {
            Extent::Chunk { id, len } => {
                out.push(0);
                out.extend_from_slice(&id.0);
                put_number(out, u64::from(*len));
            }
            Extent::Slice { id, from, len } => {
                out.push(2);
                out.extend_from_slice(&id.0);
                put_number(out, u64::from(*from));
                put_number(out, u64::from(*len));
            }
            Extent::Hole { len } => {
                out.push(1);
                put_number(out, *len);
            }
        }
    }
}

/// One record of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An entry; of a file its first extents.
    Entry(Entry),
    /// Further extents of the file with this path.
    More(Vec<u8>, Vec<Extent>),
}

/// The next record of a chunk, whose path may share bytes with `previous`.
///
/// # Errors
/// The bytes are not a record.
pub fn take_record(wire: &mut Wire<'_>, previous: &[u8]) -> Result<Record, Malformed> {
    let shared = usize::try_from(wire.number()?).map_err(|_| "a number is too large")?;
    let start = previous.get(..shared).ok_or("a path shares more than there is")?;
    let rest = wire.bytes(PATH_BYTES_MAX)?;
    let path = [start, rest].concat();
    if !is_valid_path(&path) {
        return Err("a path leads outside or is not a path");
    }
    let kind = wire.byte()?;
    if kind == MORE {
        return Ok(Record::More(path, take_extents(wire)?));
    }
    let meta = take_meta(wire)?;
    let node = match kind {
        0 => Node::Dir,
        1 => Node::File(take_extents(wire)?),
        2 => Node::Symlink(take_link(wire)?),
        3 => Node::Hardlink(take_hardlink(wire)?),
        4 => Node::Fifo,
        5 => Node::CharDevice { major: wire.small()?, minor: wire.small()? },
        6 => Node::BlockDevice { major: wire.small()?, minor: wire.small()? },
        _ => return Err("an entry is of a kind that does not exist"),
    };
    Ok(Record::Entry(Entry { path, node, meta }))
}

fn take_link(wire: &mut Wire<'_>) -> Result<Vec<u8>, Malformed> {
    let target = wire.bytes(PATH_BYTES_MAX)?;
    if target.is_empty() || target.contains(&0) { Err("a link leads nowhere") } else { Ok(target.to_vec()) }
}

fn take_hardlink(wire: &mut Wire<'_>) -> Result<Vec<u8>, Malformed> {
    let target = wire.bytes(PATH_BYTES_MAX)?;
    if target.is_empty() || !is_valid_path(target) { Err("a hard link leads outside") } else { Ok(target.to_vec()) }
}

fn take_meta(wire: &mut Wire<'_>) -> Result<Meta, Malformed> {
    let (mode, uid, gid) = (wire.small()?, wire.small()?, wire.small()?);
    if mode & !MODE_BITS != 0 {
        return Err("a mode has bits that do not exist");
    }
    let mtime = Time { seconds: wire.signed()?, nanos: wire.small()? };
    if mtime.nanos >= 1_000_000_000 {
        return Err("a time has more nanoseconds than a second");
    }
    let count = wire.number()?;
    let mut xattrs = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        let (name, value) = (wire.bytes(255)?, wire.bytes(XATTR_BYTES_MAX)?);
        bytes += name.len() + value.len() + 1;
        if name.is_empty() || name.contains(&0) || bytes > 4 * XATTR_BYTES_MAX {
            return Err("an extended attribute is not one");
        }
        xattrs.push((name.to_vec(), value.to_vec()));
    }
    Ok(Meta { mode, uid, gid, mtime, xattrs })
}

fn take_extents(wire: &mut Wire<'_>) -> Result<Vec<Extent>, Malformed> {
    let count = wire.number()?;
    if count > EXTENTS_PER_RECORD as u64 {
        return Err("a record has too many extents");
    }
    let mut extents = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let extent = match wire.byte()? {
            0 => Extent::Chunk { id: ChunkId(wire.array32()?), len: wire.small()? },
            1 => Extent::Hole { len: wire.number()? },
            2 => Extent::Slice { id: ChunkId(wire.array32()?), from: wire.small()?, len: wire.small()? },
            _ => return Err("an extent is of a kind that does not exist"),
        };
        let end = extent.data_len() + u64::from(extent.from());
        if extent.is_empty() || end > CHUNK_BYTES_MAX as u64 {
            return Err("an extent has an impossible length");
        }
        extents.push(extent);
    }
    Ok(extents)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One entry of each kind, in canonical order.
    pub fn samples() -> Vec<Entry> {
        let meta = Meta {
            mode: 0o4755,
            uid: 33,
            gid: 70_000,
            mtime: Time { seconds: -5, nanos: 999_999_999 },
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255]), (b"user.b".to_vec(), vec![])],
        };
        let entry = |path: &[u8], node| Entry { path: path.to_vec(), node, meta: meta.clone() };
        let id = ChunkId([5; 32]);
        let extents = vec![
            Extent::Chunk { id, len: 70_000 },
            Extent::Hole { len: 1 << 40 },
            Extent::Slice { id, from: 300, len: 512 },
        ];
        vec![
            entry(b"", Node::Dir),
            entry(b"a", Node::Dir),
            entry(b"a/b", Node::File(extents)),
            entry(b"a/c", Node::Hardlink(b"a/b".to_vec())),
            entry(b"a/d\xff", Node::Symlink(b"../../etc".to_vec())),
            entry(b"e", Node::Fifo),
            entry(b"f", Node::CharDevice { major: 1, minor: 3 }),
            entry(b"g", Node::BlockDevice { major: 8, minor: 1 << 19 }),
            entry(b"h", Node::File(vec![])),
        ]
    }

    #[test]
    fn bytes_and_entries_are_inverse() {
        let mut bytes = Vec::new();
        let mut previous = Vec::new();
        for entry in samples() {
            put_entry(&mut bytes, &previous, &entry);
            previous = entry.path;
        }
        let mut wire = Wire::new(&bytes);
        let mut previous = Vec::new();
        for entry in samples() {
            assert_eq!(take_record(&mut wire, &previous), Ok(Record::Entry(entry.clone())));
            previous = entry.path;
        }
        assert!(wire.is_at_end());
    }

    #[test]
    fn no_cut_of_a_record_is_a_record() {
        for entry in samples() {
            let mut bytes = Vec::new();
            put_entry(&mut bytes, b"", &entry);
            for len in 0..bytes.len() {
                assert!(take_record(&mut Wire::new(&bytes[..len]), b"").is_err(), "{entry:?} {len}");
            }
        }
    }

    #[test]
    fn hostile_records_are_refused() {
        let mut bad = samples().remove(2);
        for (path, node) in [
            (&b"../x"[..], Node::Dir),
            (b"/x", Node::Dir),
            (b"x", Node::Hardlink(b"../x".to_vec())),
            (b"x", Node::Symlink(b"".to_vec())),
            (b"x", Node::File(vec![Extent::Chunk { id: ChunkId([0; 32]), len: u32::MAX }])),
            (b"x", Node::File(vec![Extent::Hole { len: 0 }])),
            (b"x", Node::File(vec![Extent::Slice { id: ChunkId([0; 32]), from: u32::MAX, len: 1 }])),
        ] {
            bad.path = path.to_vec();
            bad.node = node;
            let mut bytes = Vec::new();
            put_entry(&mut bytes, b"", &bad);
            assert!(take_record(&mut Wire::new(&bytes), b"").is_err(), "{bad:?}");
        }
    }
}
