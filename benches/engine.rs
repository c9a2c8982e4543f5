//! The engine's parts, each alone and on one thread: cutting, hashing, compressing, sealing, opening,
//! and the catalog. `cargo bench`; docs/BENCHMARKS.md has figures.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use snap::catalog::Catalog;
use snap::chunk::{Codec, Compressor, Cutter, Namer, Profile, decompress};
use snap::crypto::DataIdentity;
use snap::crypto::open::open;
use snap::crypto::seal::{Sealer, seal};
use snap::id::{ChunkId, IndexId, PackId, RepositoryId};
use snap::pack::{Footer, IndexedPack, PackKind, PackReader, PackWriter, Place, Segment, SegmentChunk};
use snap::store::{Key, LocalStore, Store};
use std::hint::black_box;
use std::path::Path;

const SEGMENT: usize = 4 << 20;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Text that compresses about as source code does: words, drawn unevenly.
fn text(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 16);
    let draws = noise(len, 1);
    let mut at = 0;
    while out.len() < len {
        let draw = u32::from_le_bytes([draws[at], draws[at + 1], draws[at + 2], 0]);
        at += 3;
        // The square makes small numbers, and so some words, far more likely than others.
        let word = (u64::from(draw) * u64::from(draw)) >> 36;
        out.extend_from_slice(format!("{word:x}").as_bytes());
        out.push(if draw.is_multiple_of(11) { b'\n' } else { b' ' });
    }
    out.truncate(len);
    out
}

fn cutting(c: &mut Criterion) {
    let data = noise(32 << 20, 2);
    let cutter = Cutter::new(&[1; 32]);
    let mut group = c.benchmark_group("cut");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for (name, profile) in [("files", Profile::FILES), ("fine", Profile::FINE), ("pages", Profile::PAGES)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut rest, mut cuts) = (data.as_slice(), 0u32);
                while !rest.is_empty() {
                    rest = &rest[cutter.cut(profile, rest)..];
                    cuts += 1;
                }
                cuts
            });
        });
    }
    group.finish();
}

fn hashing(c: &mut Criterion) {
    let namer = Namer::new([2; 32]);
    let mut group = c.benchmark_group("name");
    for len in [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10] {
        let data = noise(len, 3);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &data, |b, data| b.iter(|| namer.name(data)));
    }
    group.finish();
}

fn compressing(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Bytes(SEGMENT as u64)).sample_size(20);
    for (kind, plain) in [("text", text(SEGMENT)), ("noise", noise(SEGMENT, 4))] {
        for level in [1, 3] {
            let mut compressor = Compressor::new(level).unwrap();
            let mut out = Vec::new();
            group.bench_function(format!("compress-{level}/{kind}"), |b| {
                b.iter(|| {
                    out.clear();
                    compressor.compress(&plain, &mut out).unwrap()
                });
            });
        }
        let mut stored = Vec::new();
        let codec = Compressor::new(3).unwrap().compress(&plain, &mut stored).unwrap();
        assert_eq!(codec == Codec::Raw, kind == "noise");
        group.bench_function(format!("decompress/{kind}"), |b| {
            b.iter(|| decompress(codec, &stored, SEGMENT).unwrap());
        });
    }
    group.finish();
}

fn sealing(c: &mut Criterion) {
    let identity = DataIdentity::generate();
    let recipient = identity.recipient();
    let plain = noise(SEGMENT, 5);
    let mut group = c.benchmark_group("age");
    group.throughput(Throughput::Bytes(SEGMENT as u64));
    group.bench_function("seal", |b| {
        let (mut sealer, mut out) = Sealer::new(std::slice::from_ref(&recipient)).unwrap();
        b.iter(|| {
            out.clear();
            sealer.update(&plain, &mut out).unwrap();
        });
    });
    let sealed = seal(std::slice::from_ref(&recipient), &plain).unwrap();
    group.bench_function("open", |b| {
        b.iter(|| open(std::slice::from_ref(&identity), &sealed, SEGMENT).unwrap());
    });
    group.finish();
    c.bench_function("age/header/start", |b| b.iter(|| Sealer::new(std::slice::from_ref(&recipient)).unwrap()));
    let empty = seal(std::slice::from_ref(&recipient), b"").unwrap();
    c.bench_function("age/header/open", |b| b.iter(|| open(std::slice::from_ref(&identity), &empty, 1).unwrap()));
}

/// One pack of two segments, as a run writes it and as a restore reads it, on the disk at hand.
fn packing(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::at(dir.path());
    store.create_layout().unwrap();
    let identity = DataIdentity::generate();
    let recipient = identity.recipient();
    let namer = Namer::new([3; 32]);
    let plain = text(2 * SEGMENT);
    let chunks: Vec<(ChunkId, &[u8])> = plain.chunks(256 << 10).map(|chunk| (namer.name(chunk), chunk)).collect();
    let mut compressor = Compressor::new(3).unwrap();
    let mut write = || {
        let mut pack = PackWriter::new(&store, &recipient, PackKind::Data).unwrap();
        for (id, chunk) in &chunks {
            pack.add(*id, chunk);
            if pack.segment_is_full() {
                pack.close_segment(&mut compressor).unwrap();
            }
        }
        pack.finish(&mut compressor).unwrap()
    };
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Bytes(plain.len() as u64)).sample_size(20);
    group.bench_function("write", |b| b.iter(&mut write));
    let finished = write();
    let indexed = finished.indexed;
    let mut batch = store.batch();
    batch.add(Key::from(indexed.id), finished.upload).unwrap();
    batch.commit().unwrap();
    let identities = [identity];
    let reader = PackReader::open(&store, indexed.id, &identities).unwrap();
    let segment = &indexed.footer.segments[0];
    let place = Place {
        codec: segment.codec,
        offset: segment.offset,
        stored_len: segment.stored_len,
        plain_len: segment.plain_len,
    };
    group.throughput(Throughput::Bytes(u64::from(segment.plain_len)));
    group.bench_function("read a segment", |b| b.iter(|| reader.segment(&store, place).unwrap()));
    group.finish();
}

/// An index of `packs` packs with 512 chunks each; `salt` makes all of its ids its own.
fn index(packs: u32, salt: u64) -> Vec<IndexedPack> {
    let ids = noise(packs as usize * 512 * 32, salt);
    let mut ids = ids.chunks_exact(32).map(|raw| {
        let mut id = [0; 32];
        id.copy_from_slice(raw);
        id
    });
    (0..packs)
        .map(|_| {
            let segments = (0..32u64).map(|at| Segment {
                codec: Codec::Zstd,
                offset: at << 20,
                stored_len: 1 << 20,
                plain_len: 4 << 20,
                chunks: ids.by_ref().take(16).map(|id| SegmentChunk { id: ChunkId(id), len: 256 << 10 }).collect(),
                origins: Vec::new(),
            });
            let footer = Footer { kind: PackKind::Data, segments: segments.collect() };
            let mut id = footer.segments[0].chunks[0].id.0;
            id.reverse();
            IndexedPack { id: PackId(id), sealed_bytes: 32 << 20, footer }
        })
        .collect()
}

fn open_catalog(dir: &Path) -> Catalog {
    Catalog::open(dir, RepositoryId([1; 32]), snap::catalog::Place::default()).unwrap()
}

fn catalog(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open_catalog(dir.path());
    let known = index(512, 6);
    catalog.add_index(IndexId([1; 32]), &known).unwrap();
    let ids: Vec<ChunkId> =
        known.iter().flat_map(|pack| &pack.footer.segments).flat_map(|s| &s.chunks).map(|chunk| chunk.id).collect();
    let lookup = catalog.lookup().unwrap();
    let mut group = c.benchmark_group("catalog");
    group.throughput(Throughput::Elements(1));
    let mut at = 0;
    let mut step = || {
        // A stride that no chunk's neighbourhood explains.
        at = (at + 104_729) % ids.len();
        at
    };
    group.bench_function("find one of 262144", |b| b.iter(|| lookup.find(&ids[step()]).unwrap()));
    let strangers: Vec<ChunkId> =
        noise(32 * 4096, 7).chunks_exact(32).map(|raw| ChunkId(std::array::from_fn(|i| raw[i]))).collect();
    let mut next = 0;
    group.bench_function("miss one of 262144", |b| {
        b.iter(|| {
            next = (next + 1) % strangers.len();
            lookup.find(&strangers[next]).unwrap()
        });
    });
    group.bench_function("place of a segment", |b| b.iter(|| lookup.place(1, black_box(3)).unwrap()));
    group.sample_size(10).throughput(Throughput::Elements(32 * 512));
    let mut salt = 100;
    group.bench_function("add an index of 16384", |b| {
        b.iter_batched(
            || {
                salt += 1;
                index(32, salt)
            },
            |packs| {
                let mut name = [0; 32];
                name[..8].copy_from_slice(&salt_of(&packs).to_le_bytes());
                catalog.add_index(IndexId(name), &packs).unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    c.bench_function("catalog/open", |b| b.iter(|| open_catalog(dir.path())));
}

fn salt_of(packs: &[IndexedPack]) -> u64 {
    packs.iter().fold(0, |sum, pack| sum ^ u64::from_le_bytes(std::array::from_fn(|i| pack.id.0[i])))
}

criterion_group!(engine, cutting, hashing, compressing, sealing, packing, catalog);
criterion_main!(engine);
