//! Tests of the catalog as a cache that may be wrong.

use super::*;
use crate::chunk::Codec;
use crate::id::{ChunkId, IndexId, PackId};
use crate::pack::{Footer, IndexedPack, PackKind, Segment, SegmentChunk};

fn pack(n: u8) -> IndexedPack {
    let chunk = |m: u8| SegmentChunk { id: ChunkId([m; 32]), len: 10 };
    let segment = |offset, chunks| Segment {
        codec: Codec::Zstd,
        offset,
        stored_len: 7,
        plain_len: 20,
        chunks,
        origins: Vec::new(),
    };
    let segments = vec![segment(0, vec![chunk(n), chunk(n + 1)]), segment(7, vec![chunk(n + 2), chunk(n + 3)])];
    IndexedPack { id: PackId([n; 32]), sealed_bytes: 100, footer: Footer { kind: PackKind::Data, segments } }
}

fn open(dir: &Path, repository: u8) -> Catalog {
    Catalog::open(dir, RepositoryId([repository; 32]), Place::default()).unwrap()
}

#[test]
fn finds_what_an_index_lists() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path(), 1);
    catalog.add_index(IndexId([9; 32]), &[pack(1), pack(10)]).unwrap();
    let lookup = catalog.lookup().unwrap();
    let found = lookup.find(&ChunkId([13; 32])).unwrap().unwrap();
    assert_eq!((found.segment, found.offset, found.len), (1, 10, 10));
    let (id, place) = lookup.place(found.pack, found.segment).unwrap();
    assert_eq!((id, place.offset), (PackId([10; 32]), 7));
    assert_eq!(lookup.find(&ChunkId([99; 32])).unwrap(), None);
}

/// The second of two that made the file at once was told that the database is locked.
#[test]
fn many_can_make_it_at_once() {
    for round in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (dir, start) = (dir.path(), &start);
                scope.spawn(move || {
                    start.wait();
                    open(dir, 1).add_index(IndexId([n; 32]), &[pack(n * 20)]).unwrap();
                });
            }
        });
        assert_eq!(open(dir.path(), 1).packs().unwrap().len(), 4, "round {round}");
    }
}

#[test]
fn a_finder_sees_what_its_own_process_changes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path(), 1);
    let lookup = catalog.lookup().unwrap();
    assert_eq!(lookup.find(&ChunkId([1; 32])).unwrap(), None);
    catalog.add_index(IndexId([9; 32]), &[pack(1)]).unwrap();
    let found = lookup.find(&ChunkId([1; 32])).unwrap().unwrap();
    assert_eq!(lookup.place(found.pack, found.segment).unwrap(), lookup.place(found.pack, found.segment).unwrap());
    catalog.forget_packs().unwrap();
    assert_eq!(lookup.find(&ChunkId([1; 32])).unwrap(), None);
}

#[test]
fn a_finder_sees_what_others_change_before_long() {
    let dir = tempfile::tempdir().unwrap();
    let lookup = open(dir.path(), 1).lookup().unwrap();
    assert_eq!(lookup.find(&ChunkId([1; 32])).unwrap(), None);
    open(dir.path(), 1).add_index(IndexId([9; 32]), &[pack(1)]).unwrap();
    assert!((0..3000).any(|_| lookup.find(&ChunkId([1; 32])).unwrap().is_some()));
}

#[test]
fn pack_numbers_outlive_a_refill() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path(), 1);
    catalog.add_index(IndexId([9; 32]), &[pack(1), pack(10)]).unwrap();
    let before = catalog.packs().unwrap();
    catalog.forget_packs().unwrap();
    assert!(catalog.packs().unwrap().is_empty());
    catalog.add_index(IndexId([8; 32]), &[pack(10)]).unwrap();
    assert_eq!(catalog.packs().unwrap(), before[1..]);
}

#[test]
fn a_changed_row_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path(), 1);
    catalog.add_index(IndexId([9; 32]), &[pack(1)]).unwrap();
    lock(&catalog.connection).execute("UPDATE chunk SET segment = 1 - segment", []).unwrap();
    let error = catalog.lookup().unwrap().find(&ChunkId([1; 32])).unwrap_err();
    assert!(error.is_damage());
}

#[test]
fn a_file_of_another_repository_or_no_file_at_all_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path(), 1);
    catalog.add_index(IndexId([9; 32]), &[pack(1)]).unwrap();
    drop(catalog);
    let other = open(dir.path(), 2);
    assert!(!other.has_chunks().unwrap());
    drop(other);
    remove_files(&dir.path().join("catalog.db"));
    std::fs::write(dir.path().join("catalog.db"), b"this is not a database, it is a text of some length").unwrap();
    assert!(open(dir.path(), 2).indexes().unwrap().is_empty());
}
