//! The vectors of docs/FORMAT.md, which were made from its text and not by this program.

use serde_json::Value;
use snap::chunk::{Codec, Cutter, Namer, Profile};
use snap::crypto::secrets::Secrets;
use snap::id::{ChunkId, PackId};
use snap::pack::{Error, Footer, IndexedPack, PackKind, Segment, SegmentChunk, decode_index, encode_index};
use snap::repo::entry::{Entry, Extent, Meta, Node, Time};
use snap::repo::record::{Record, put_entry, put_more};
use snap::repo::signed::{sign, verify};
use snap::repo::tree::{TreeChunk, TreeWriter, decode_tree_chunk};
use snap::repo::wire::{Wire, put_number, put_signed};
use std::path::Path;

fn vectors() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors/format-v1.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("vectors")).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    let number = value.as_u64().and_then(|number| T::try_from(number).ok());
    number.unwrap_or_else(|| panic!("{value} is no such number"))
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("digits")).collect()
}

fn bytes32(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}

/// Secrets with the vectors' dedup secret.
fn secrets(vectors: &Value) -> Secrets {
    let identity = snap::crypto::DataIdentity::generate();
    let wire = serde_json::json!({
        "repository": "00".repeat(32), "role": "owner", "dedup": vectors["dedup_secret"],
        "index_identity": identity.to_text().as_str(),
        "epochs": [{"epoch": 1, "recipient": identity.recipient().to_string(), "identity": identity.to_text().as_str()}],
    });
    Secrets::from_bytes(wire.to_string().as_bytes()).expect("secrets")
}

#[test]
fn keys_and_chunk_ids() {
    let vectors = vectors();
    let secrets = secrets(&vectors);
    let derived = &vectors["derived"];
    assert_eq!(secrets.chunk_id_key(), bytes32(&derived["chunk_id"]));
    assert_eq!(secrets.gear_seed(), bytes32(&derived["gear"]));
    assert_eq!(secrets.mac_key(), bytes32(&derived["mac"]));
    let namer = Namer::new(secrets.chunk_id_key());
    for pair in list(&vectors["chunk_ids"]) {
        assert_eq!(namer.name(text(&pair[0]).as_bytes()), ChunkId(bytes32(&pair[1])), "{pair}");
    }
}

#[test]
fn the_gear_table_and_the_cuts() {
    let vectors = vectors();
    let seed = secrets(&vectors).gear_seed();
    let mut table = [0u8; 64];
    blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut table);
    for (raw, expected) in table.chunks_exact(8).zip(list(&vectors["gear_first"])) {
        assert_eq!(format!("{:016x}", u64::from_le_bytes(raw.try_into().expect("8 bytes"))), text(expected));
    }
    let cuts = &vectors["cuts"];
    let mut input = vec![0u8; number(&cuts["input"][1])];
    blake3::Hasher::new().update(text(&cuts["input"][0]).as_bytes()).finalize_xof().fill(&mut input);
    assert_eq!(blake3::hash(&input).as_bytes(), &bytes32(&cuts["input"][2]));
    let cutter = Cutter::new(&seed);
    for (name, profile) in [("files", Profile::FILES), ("fine", Profile::FINE)] {
        let mut rest = input.as_slice();
        let mut lengths: Vec<u64> = Vec::new();
        while !rest.is_empty() {
            let length = cutter.cut(profile, rest);
            lengths.push(length as u64);
            rest = &rest[length..];
        }
        let expected: Vec<u64> = list(&cuts[name]).iter().map(number).collect();
        assert_eq!(lengths, expected, "{name}");
    }
}

#[test]
fn numbers() {
    let vectors = vectors();
    for pair in list(&vectors["numbers"]) {
        let (value, expected): (u64, _) = (text(&pair[0]).parse().expect("a number"), bytes(&pair[1]));
        let mut out = Vec::new();
        put_number(&mut out, value);
        assert_eq!((&out, Wire::new(&out).number()), (&expected, Ok(value)));
    }
    for pair in list(&vectors["signed"]) {
        let (value, expected): (i64, _) = (text(&pair[0]).parse().expect("a number"), bytes(&pair[1]));
        let mut out = Vec::new();
        put_signed(&mut out, value);
        assert_eq!((&out, Wire::new(&out).signed()), (&expected, Ok(value)));
    }
}

fn footer(pack: &Value) -> Footer {
    let kind = if number::<u8>(&pack["kind"]) == 0 { PackKind::Data } else { PackKind::Tree };
    let mut offset = 0;
    let mut segments = Vec::new();
    for segment in list(&pack["segments"]) {
        let chunk = |pair: &Value| SegmentChunk { id: ChunkId(bytes32(&pair[0])), len: number(&pair[1]) };
        let chunks: Vec<SegmentChunk> = list(&segment["chunks"]).iter().map(chunk).collect();
        let stored_len: u32 = number(&segment["stored"]);
        segments.push(Segment {
            codec: Codec::from_byte(number(&segment["codec"])).expect("a codec"),
            offset,
            stored_len,
            plain_len: chunks.iter().map(|chunk| chunk.len).sum(),
            chunks,
            origins: Vec::new(),
        });
        offset += u64::from(stored_len);
    }
    Footer { kind, segments }
}

#[test]
fn a_footer() {
    let vectors = vectors();
    let (expected, footer) = (bytes(&vectors["footer"]["bytes"]), footer(&vectors["footer"]["pack"]));
    let mut out = Vec::new();
    footer.encode(&mut out);
    assert_eq!(out, expected);
    assert_eq!(Footer::decode("a pack", &expected).expect("a footer"), footer);
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).expect("a frame")
}

#[test]
fn an_index_object() {
    let vectors = vectors();
    let packs: Vec<IndexedPack> = list(&vectors["index"]["packs"])
        .iter()
        .map(|pack| IndexedPack {
            id: PackId(bytes32(&pack["name"])),
            sealed_bytes: number(&pack["sealed"]),
            footer: footer(pack),
        })
        .collect();
    let expected = bytes(&vectors["index"]["bytes"]);
    let frame = encode_index(&packs).expect("a frame");
    assert_eq!(zstd::bulk::decompress(&frame, 1 << 20).expect("an index"), expected);
    assert_eq!(decode_index("an index", &compressed(&expected)).expect("an index"), packs);
}

fn extents(entry: &Value) -> Vec<Extent> {
    let one = |extent: &Value| match (&extent["hole"], &extent["from"]) {
        (Value::Null, Value::Null) => {
            Extent::Chunk { id: ChunkId(bytes32(&extent["chunk"])), len: number(&extent["length"]) }
        }
        (Value::Null, from) => {
            Extent::Slice { id: ChunkId(bytes32(&extent["chunk"])), from: number(from), len: number(&extent["length"]) }
        }
        (hole, _) => Extent::Hole { len: number(hole) },
    };
    list(&entry["extents"]).iter().map(one).collect()
}

fn record(entry: &Value) -> Record {
    let path = bytes(&entry["path"]);
    let node = match text(&entry["kind"]) {
        "folder" => Node::Dir,
        "file" => Node::File(extents(entry)),
        "link" => Node::Symlink(bytes(&entry["target"])),
        "hard link" => Node::Hardlink(bytes(&entry["target"])),
        "fifo" => Node::Fifo,
        "character device" => Node::CharDevice { major: number(&entry["major"]), minor: number(&entry["minor"]) },
        "block device" => Node::BlockDevice { major: number(&entry["major"]), minor: number(&entry["minor"]) },
        "more" => return Record::More(path, extents(entry)),
        other => panic!("no such kind: {other}"),
    };
    let meta = Meta {
        mode: number(&entry["mode"]),
        uid: number(&entry["uid"]),
        gid: number(&entry["gid"]),
        mtime: Time { seconds: entry["mtime"][0].as_i64().expect("seconds"), nanos: number(&entry["mtime"][1]) },
        xattrs: list(&entry["xattrs"]).iter().map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect(),
    };
    Record::Entry(Entry { path, node, meta })
}

#[test]
fn a_chunk_of_a_tree() {
    let vectors = vectors();
    let records: Vec<Record> = list(&vectors["tree"]["entries"]).iter().map(record).collect();
    let expected = bytes(&vectors["tree"]["bytes"]);
    assert_eq!(decode_tree_chunk(&expected, 0), Ok(TreeChunk::Records(records.clone())));
    let (mut out, mut before) = (vec![1, 0], Vec::new());
    for record in records {
        before = match record {
            Record::Entry(entry) => {
                put_entry(&mut out, &before, &entry);
                entry.path
            }
            Record::More(path, more) => {
                put_more(&mut out, &before, &path, &more);
                path
            }
        };
    }
    assert_eq!(out, expected);
    let upper = &vectors["tree_list"];
    let ids = list(&upper["ids"]).iter().map(|id| ChunkId(bytes32(id))).collect();
    assert_eq!(decode_tree_chunk(&bytes(&upper["bytes"]), number(&upper["level"])), Ok(TreeChunk::List(ids)));
}

#[test]
fn how_a_tree_is_cut() {
    let vectors = vectors();
    let mut counts: Vec<usize> = Vec::new();
    let mut writer = TreeWriter::default();
    let mut sink = |chunk: &[u8]| -> Result<ChunkId, std::convert::Infallible> {
        if let Ok(TreeChunk::Records(records)) = decode_tree_chunk(chunk, 0) {
            counts.push(records.len());
        }
        Ok(ChunkId(*blake3::hash(chunk).as_bytes()))
    };
    let root = Entry { path: Vec::new(), node: Node::Dir, meta: Meta::default() };
    writer.add(&root, &mut sink).expect("the root");
    for at in 0..6000 {
        let path = format!("f{at:05}").into_bytes();
        let entry = Entry { path, node: Node::File(Vec::new()), meta: Meta::default() };
        writer.add(&entry, &mut sink).expect("an entry");
    }
    writer.finish(&mut sink).expect("a tree");
    let expected: Vec<usize> = list(&vectors["tree_cuts"]["records"]).iter().map(number).collect();
    assert_eq!(counts, expected);
}

#[test]
fn documents_with_a_mac() {
    let vectors = vectors();
    let key = secrets(&vectors).mac_key();
    let documents = list(&vectors["documents"]);
    for (at, vector) in documents.iter().enumerate() {
        let (domain, document) = (text(&vector["domain"]), text(&vector["document"]));
        assert!(verify(document.as_bytes(), &key, domain), "{vector}");
        let another = text(&documents[(at + 1) % documents.len()]["domain"]);
        assert!(!verify(document.as_bytes(), &key, another), "{vector}");
        let mut members: Value = serde_json::from_str(document).expect("JSON");
        members.as_object_mut().expect("an object").remove("mac");
        let ours = sign(&members, &key, domain).expect("a document");
        assert_eq!(String::from_utf8_lossy(&ours), document);
    }
}

#[test]
fn what_must_be_refused_is() {
    for vector in list(&vectors()["refused"]) {
        let (kind, class, bytes) = (text(&vector[0]), text(&vector[1]), bytes(&vector[2]));
        let found = match kind {
            "footer" => class_of(Footer::decode("x", &bytes).map(drop)),
            "index" => class_of(decode_index("x", &compressed(&bytes)).map(drop)),
            "tree" => decode_tree_chunk(&bytes, 0).map_or("damaged", |_| "taken"),
            other => panic!("no such kind: {other}"),
        };
        assert_eq!(found, class, "{vector}");
    }
}

fn class_of(result: snap::pack::Result<()>) -> &'static str {
    match result {
        Ok(()) => "taken",
        Err(Error::Newer { .. }) => "newer",
        Err(_) => "damaged",
    }
}
