//! Everything but the content of data packs.

use super::Findings;
use crate::id::{ChunkId, IndexId, PackId, SnapshotId, to_hex};
use crate::monitor::{Monitor, Quiet, Unit};
use crate::pack::IndexedPack;
use crate::repo::entry::{Extent, Node};
use crate::repo::keys::read_keys;
use crate::repo::needs::Needs;
use crate::repo::reader::Reader;
use crate::repo::record::Record;
use crate::repo::sync::{Chain, Snapshot};
use crate::repo::tree::{TreeAssembler, TreeChunk, checked_size, decode_tree_chunk};
use crate::repo::{Error, Repository, Result};
use crate::store::{Key, Kind};
use std::collections::{HashMap, HashSet};

/// What the listings and index objects say.
#[derive(Default)]
pub(super) struct Listed {
    /// Packs in the store and their sizes in bytes.
    pub sizes: HashMap<PackId, u64>,
    /// Packs that index objects list.
    pub indexed: HashMap<PackId, IndexedPack>,
    /// Chunks that index objects list in packs that are there: number of the pack, segment, length.
    chunks: HashMap<ChunkId, (u32, u32, u32)>,
    packs: Vec<PackId>,
    /// Segments with a chunk that lies elsewhere too.
    ambiguous: HashSet<(u32, u32)>,
}

pub(super) fn check_keys(repository: &Repository, findings: &mut Findings) -> Result<()> {
    let keys = read_keys(repository.store())?;
    for key in &keys {
        let object = format!("keys/{}.age", key.name);
        match key.card() {
            None => findings.damage(object, "what is said of this key beside it is missing or cannot be read"),
            Some(_) if !key.card_is_genuine(repository.secrets()) => {
                findings.damage(
                    object,
                    "what is said of this key beside it was not written with this repository's secrets",
                );
            }
            Some(card) if card.name != key.name || card.sealed != to_hex(blake3::hash(&key.sealed).as_bytes()) => {
                findings.damage(object, "it is not the file that was put there");
            }
            Some(_) => {}
        }
    }
    for file in repository.store().list_keys()? {
        let name = file.strip_suffix(".age").or_else(|| file.strip_suffix(".json")).unwrap_or_default();
        if !keys.iter().any(|key| key.name == name) {
            findings.note(format!("keys/{file}"), "it is no key and is left alone");
        }
    }
    Ok(())
}

pub(super) fn check_listings(
    repository: &Repository,
    findings: &mut Findings,
    monitor: &dyn Monitor,
) -> Result<Listed> {
    let store = repository.store();
    let mut listed = Listed::default();
    // Index objects before packs: a run that goes on meanwhile puts packs first.
    let indexes = store.list(Kind::Index)?;
    monitor.phase("index", Unit::Items, Some(indexes.objects.len() as u64));
    for object in &indexes.objects {
        if let Key::Object(_, name) = object.key {
            match repository.read_index(IndexId(name)) {
                Ok(packs) => listed.indexed.extend(packs.into_iter().map(|pack| (pack.id, pack))),
                Err(error) => findings.fault(object.key.path(), &error),
            }
        }
        monitor.advance(1);
    }
    let packs = store.list(Kind::Pack)?;
    for object in packs.objects {
        if let Key::Object(_, name) = object.key {
            listed.sizes.insert(PackId(name), object.bytes);
        }
    }
    let foreign = [indexes.foreign, packs.foreign, store.list(Kind::Mark)?.foreign].concat();
    for path in foreign {
        findings.note(path, "it is no object of a repository and is left alone");
    }
    compare_packs(&mut listed, findings);
    Ok(listed)
}

fn compare_packs(listed: &mut Listed, findings: &mut Findings) {
    for (id, pack) in &listed.indexed {
        let object = Key::from(*id).path();
        match listed.sizes.get(id) {
            None => findings.damage(object, "it is missing"),
            Some(bytes) if *bytes != pack.sealed_bytes => {
                findings.damage(object, format!("it has {bytes} bytes and should have {}", pack.sealed_bytes));
            }
            Some(_) => {
                let number = u32::try_from(listed.packs.len()).unwrap_or(u32::MAX);
                listed.packs.push(*id);
                for (segment, at) in pack.footer.segments.iter().zip(0u32..) {
                    for chunk in &segment.chunks {
                        if let Some((pack, segment, _)) = listed.chunks.insert(chunk.id, (number, at, chunk.len)) {
                            listed.ambiguous.extend([(pack, segment), (number, at)]);
                        }
                    }
                }
            }
        }
    }
    for id in listed.sizes.keys().filter(|id| !listed.indexed.contains_key(*id)) {
        findings.note(Key::from(*id).path(), "no index lists it: an interrupted run or a lost index left it");
    }
}

pub(super) fn list_snapshots(repository: &Repository, findings: &mut Findings) -> Result<HashSet<SnapshotId>> {
    let listing = repository.store().list(Kind::Snapshot)?;
    for path in listing.foreign {
        findings.note(path, "it is no object of a repository and is left alone");
    }
    let ids = listing.objects.iter().filter_map(|object| match object.key {
        Key::Object(Kind::Snapshot, name) => Some(SnapshotId(name)),
        _ => None,
    });
    Ok(ids.collect())
}

pub(super) fn check_snapshots(
    repository: &Repository,
    published: &HashSet<SnapshotId>,
    listed: &Listed,
    findings: &mut Findings,
) -> Result<Vec<Snapshot>> {
    // Read anew, whatever the catalog remembers of them.
    for id in published {
        if let Err(error) = repository.verify_manifest(*id) {
            findings.fault(Key::from(*id).path(), &error);
        }
    }
    let mut set = repository.snapshots()?;
    set.snapshots.retain(|snapshot| published.contains(&snapshot.id));
    for snapshot in &set.vanished {
        let manifest = &snapshot.manifest;
        let message = format!(
            "the snapshot of {} at {} was here before and is gone; nobody has forgotten it",
            manifest.stack, manifest.time
        );
        findings.damage(Key::from(snapshot.id).path(), message);
    }
    let unreadable = set.unreadable.iter().map(|one| one.id);
    let there: HashSet<SnapshotId> = set.snapshots.iter().map(|s| s.id).chain(unreadable).collect();
    let mut seen: HashMap<Vec<u8>, SnapshotId> = HashMap::new();
    for snapshot in &set.snapshots {
        let object = Key::from(snapshot.id).path();
        for before in snapshot.manifest.predecessors.iter().filter(|id| !there.contains(id)) {
            findings.damage(object.clone(), format!("the snapshot before it, {}, is missing", before.short()));
        }
        let bytes =
            serde_json::to_vec(&snapshot.manifest).map_err(|source| Error::Json { object: object.clone(), source })?;
        if let Some(twin) = seen.insert(bytes, snapshot.id) {
            findings.damage(object.clone(), format!("it is a copy of snapshot {} under another name", twin.short()));
        }
        check_needs(snapshot, listed, findings);
    }
    Ok(set.snapshots)
}

fn check_needs(snapshot: &Snapshot, listed: &Listed, findings: &mut Findings) {
    for need in &snapshot.manifest.needs {
        let object = Key::from(snapshot.id).path();
        let known = listed.indexed.get(&need.pack).map(|pack| pack.footer.segments.len() as u64);
        let wanted = need.segments.iter().map(|[first, count]| u64::from(*first) + u64::from(*count)).max();
        match known {
            None if listed.sizes.contains_key(&need.pack) => {
                findings.damage(object, format!("it needs pack {}, which no index lists", need.pack.short()));
            }
            None => findings.damage(object, format!("it needs pack {}, which is missing", need.pack.short())),
            Some(segments) if wanted.unwrap_or(0) > segments => {
                findings.damage(object, format!("it needs more of pack {} than there is", need.pack.short()));
            }
            Some(_) => {}
        }
    }
}

struct TreeCheck<'r, 'f> {
    reader: Reader<'r>,
    listed: &'f Listed,
    findings: &'f mut Findings,
    /// Chunks of trees that have been walked whole for another snapshot, with what they need.
    walked: HashMap<(ChunkId, u32), Needs<u32>>,
}

/// Walks every tree; false if the key at hand cannot open any.
pub(super) fn check_trees(
    repository: &Repository,
    listed: &Listed,
    snapshots: &[Snapshot],
    findings: &mut Findings,
    monitor: &dyn Monitor,
) -> Result<bool> {
    if repository.require_owner("walk trees").is_err() {
        return Ok(false);
    }
    repository.sync_indexes(&Quiet::default())?;
    monitor.phase("trees", Unit::Items, Some(snapshots.len() as u64));
    let reader = Reader::new(repository)?;
    let mut check = TreeCheck { reader, listed, findings, walked: HashMap::new() };
    for snapshot in snapshots {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        check.snapshot(snapshot)?;
        monitor.advance(1);
    }
    Ok(true)
}

impl TreeCheck<'_, '_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        let object = Key::from(snapshot.id).path();
        let mut needs = Needs::default();
        for source in &snapshot.manifest.sources {
            let what = format!("{object} ({} {})", source.kind.word(), source.name);
            let mut assembler = TreeAssembler::default();
            let mut entries = 0;
            for id in &source.tree.chunks {
                self.chunk(&what, id, source.tree.level, &mut needs, &mut assembler, &mut entries)?;
            }
            if entries != source.entries {
                self.findings
                    .damage(what, format!("its tree has {entries} entries and should have {}", source.entries));
            }
        }
        self.compare_needs(snapshot, &needs);
        Ok(())
    }

    fn chunk(
        &mut self,
        what: &str,
        id: &ChunkId,
        level: u32,
        needs: &mut Needs<u32>,
        assembler: &mut TreeAssembler,
        entries: &mut u64,
    ) -> Result<()> {
        self.refer(what, id, None, needs);
        let bytes = match self.reader.chunk(id) {
            Ok(bytes) => bytes,
            Err(error) if error.is_catalog_damage() => return Err(error),
            Err(error) => {
                assembler.gap();
                self.findings.damage(what, Chain(&error).to_string());
                return Ok(());
            }
        };
        match decode_tree_chunk(&bytes, level) {
            Ok(TreeChunk::List(ids)) => {
                for id in ids {
                    self.chunk(what, &id, level - 1, needs, assembler, entries)?;
                }
            }
            Ok(TreeChunk::Records(records)) => {
                *entries += records.iter().filter(|record| matches!(record, Record::Entry(_))).count() as u64;
                self.records(what, (*id, level), records, needs, assembler);
            }
            Err(problem) => {
                assembler.gap();
                self.findings.damage(what, format!("a tree is damaged: {problem}"));
            }
        }
        Ok(())
    }

    fn records(
        &mut self,
        what: &str,
        key: (ChunkId, u32),
        records: Vec<Record>,
        needs: &mut Needs<u32>,
        assembler: &mut TreeAssembler,
    ) {
        let known = self.walked.get(&key).cloned();
        let mut own = Needs::default();
        for record in records {
            if known.is_none() {
                for extent in extents_of(&record) {
                    if let Some(id) = extent.chunk() {
                        self.refer(what, id, Some(extent), &mut own);
                    }
                }
            }
            match assembler.push(record) {
                Ok(Some(entry)) => {
                    if let Node::File(extents) = &entry.node
                        && let Err(problem) = checked_size(extents)
                    {
                        self.findings.damage(what, format!("{}: {problem}", entry.shown_path()));
                    }
                }
                Ok(None) => {}
                Err(problem) => self.findings.damage(what, format!("a tree is damaged: {problem}")),
            }
        }
        let own = known.unwrap_or_else(|| self.walked.entry(key).or_insert(own).clone());
        needs.absorb(&own, |pack| pack);
    }

    fn refer(&mut self, what: &str, id: &ChunkId, extent: Option<&Extent>, needs: &mut Needs<u32>) {
        let fits = |there: u32| match extent {
            Some(Extent::Chunk { len, .. }) => *len == there,
            Some(Extent::Slice { from, len, .. }) => from.saturating_add(*len) <= there,
            Some(Extent::Hole { .. }) | None => true,
        };
        match self.listed.chunks.get(id) {
            Some((pack, segment, there)) if fits(*there) => needs.add(*pack, *segment),
            Some(_) => self.findings.damage(what, format!("chunk {} has another length", id.short())),
            None => self.findings.damage(what, format!("chunk {} is in no pack that is there", id.short())),
        }
    }

    /// What the trees use must be what the manifest names: the rest could be deleted under it. Where
    /// a chunk lies in two packs the manifest may name either, so such segments prove nothing.
    fn compare_needs(&mut self, snapshot: &Snapshot, needs: &Needs<u32>) {
        let mut named: HashMap<PackId, &[[u32; 2]]> = HashMap::new();
        for need in &snapshot.manifest.needs {
            named.insert(need.pack, &need.segments);
        }
        let covered = |pack: u32, segment: u32| {
            let runs = self.listed.packs.get(pack as usize).and_then(|id| named.get(id));
            runs.is_some_and(|runs| runs.iter().any(|[first, count]| segment >= *first && segment - first < *count))
        };
        let uncovered =
            needs.segments().filter(|at| !covered(at.0, at.1) && !self.listed.ambiguous.contains(at)).count();
        if uncovered > 0 {
            let message = format!("it uses {uncovered} segments that it does not name");
            self.findings.damage(Key::from(snapshot.id).path(), message);
        }
    }
}

fn extents_of(record: &Record) -> &[Extent] {
    match record {
        Record::More(_, extents) => extents,
        Record::Entry(entry) => match &entry.node {
            Node::File(extents) => extents,
            _ => &[],
        },
    }
}
