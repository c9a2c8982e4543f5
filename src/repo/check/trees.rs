//! Walking every tree, chunk by chunk, against what the index lists and the packs hold.

use super::places::Places;
use super::{Findings, Problem};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::monitor::{Monitor, Quiet, Unit};
use crate::repo::entry::{Entry, Extent, Node};
use crate::repo::needs::Needs;
use crate::repo::reader::Reader;
use crate::repo::record::Record;
use crate::repo::sync::{Chain, Snapshot};
use crate::repo::tree::{TreeAssembler, TreeChunk, checked_size, decode_tree_chunk};
use crate::repo::{Error, Repository, Result};
use crate::store::Key;
use std::collections::{HashMap, HashSet};

/// So many files that cannot be restored are named; the rest is counted.
const NAMED_FILES: usize = 10;

/// What the walk found.
#[derive(Default)]
pub(super) struct Walk {
    /// False if the key at hand cannot open any tree.
    pub walked: bool,
    /// The problems.
    pub problems: Vec<Problem>,
    /// Unsound packs that something is in which is nowhere else.
    pub wanted: HashSet<PackId>,
    /// Snapshots that can be restored whole.
    pub intact: HashSet<SnapshotId>,
    /// True if not all packs that are used are known: a part of a tree cannot be read, or no index
    /// lists a chunk.
    pub gaps: bool,
    /// Chunks that cannot be had.
    pub lost: HashSet<ChunkId>,
}

struct TreeCheck<'r, 'f> {
    reader: Reader<'r>,
    places: &'f Places,
    findings: Findings,
    wanted: HashSet<PackId>,
    gaps: bool,
    /// Chunks that cannot be had.
    lost: HashSet<ChunkId>,
    /// Chunks of trees that have been walked whole for another snapshot, with what they need.
    walked: HashMap<(ChunkId, u32), Needs<u32>>,
}

/// Walks every tree, if the key at hand can open them.
pub(super) fn walk(
    repository: &Repository,
    places: &Places,
    snapshots: &[Snapshot],
    monitor: &dyn Monitor,
) -> Result<Walk> {
    let mut walk = Walk::default();
    if repository.require_owner("walk trees").is_err() {
        return Ok(walk);
    }
    repository.sync_indexes(&Quiet::default())?;
    monitor.phase("trees", Unit::Items, Some(snapshots.len() as u64));
    let mut check = TreeCheck {
        reader: Reader::new(repository)?,
        places,
        findings: Findings::default(),
        wanted: HashSet::new(),
        gaps: false,
        lost: HashSet::new(),
        walked: HashMap::new(),
    };
    for snapshot in snapshots {
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
        let before = check.findings.problems.len();
        check.snapshot(snapshot)?;
        if check.findings.problems.len() == before {
            walk.intact.insert(snapshot.id);
        }
        monitor.advance(1);
    }
    walk.walked = true;
    walk.problems = check.findings.problems;
    walk.wanted = check.wanted;
    walk.gaps = check.gaps;
    walk.lost = check.lost;
    Ok(walk)
}

/// A source's tree while it is walked.
struct Tree<'s> {
    /// What findings call it.
    what: &'s str,
    assembler: TreeAssembler,
    entries: u64,
    /// How many files cannot be restored whole, and the paths of the first ones.
    spoiled: u64,
    named: Vec<String>,
}

impl TreeCheck<'_, '_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        let object = Key::from(snapshot.id).path();
        let mut needs = Needs::default();
        for source in &snapshot.manifest.sources {
            let what = format!("{object} ({} {})", source.kind.word(), source.name);
            let assembler = TreeAssembler::default();
            let mut tree = Tree { what: &what, assembler, entries: 0, spoiled: 0, named: Vec::new() };
            for id in &source.tree.chunks {
                self.chunk(&mut tree, id, source.tree.level, &mut needs)?;
            }
            if let Some(last) = tree.assembler.finish() {
                self.entry(&mut tree, &last);
            }
            let Tree { entries, spoiled, named, .. } = tree;
            if entries != source.entries {
                let message = format!("its tree has {entries} entries and should have {}", source.entries);
                self.findings.damage(what.clone(), message);
            }
            if spoiled > 0 {
                let more = match spoiled - named.len() as u64 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let files = if spoiled == 1 { "1 file".to_owned() } else { format!("{spoiled} files") };
                let message = format!("{files} cannot be restored: {}{more}", named.join(", "));
                self.findings.damage(what, message);
            }
        }
        self.compare_needs(snapshot, &needs);
        Ok(())
    }

    fn chunk(&mut self, tree: &mut Tree<'_>, id: &ChunkId, level: u32, needs: &mut Needs<u32>) -> Result<()> {
        self.refer(tree.what, id, None, needs);
        let bytes = match self.reader.chunk(id) {
            Ok(bytes) => bytes,
            Err(error) if error.is_catalog_damage() || error.is_outage() => return Err(error),
            Err(error) => {
                if let Some(before) = tree.assembler.gap() {
                    self.entry(tree, &before);
                }
                self.gaps = true;
                self.findings.damage(tree.what, format!("a part of its tree is lost: {}", Chain(&error)));
                return Ok(());
            }
        };
        match decode_tree_chunk(&bytes, level) {
            Ok(TreeChunk::List(ids)) => {
                for id in ids {
                    self.chunk(tree, &id, level - 1, needs)?;
                }
            }
            Ok(TreeChunk::Records(records)) => self.records(tree, (*id, level), records, needs),
            Err(problem) => {
                if let Some(before) = tree.assembler.gap() {
                    self.entry(tree, &before);
                }
                self.gaps = true;
                self.findings.damage(tree.what, format!("a tree is damaged: {problem}"));
            }
        }
        Ok(())
    }

    fn records(&mut self, tree: &mut Tree<'_>, key: (ChunkId, u32), records: Vec<Record>, needs: &mut Needs<u32>) {
        let known = self.walked.get(&key).cloned();
        let mut own = Needs::default();
        for record in records {
            tree.entries += u64::from(matches!(record, Record::Entry(_)));
            if known.is_none() {
                for extent in extents_of(&record) {
                    if let Some(id) = extent.chunk() {
                        self.refer(tree.what, id, Some(extent), &mut own);
                    }
                }
            }
            match tree.assembler.push(record) {
                Ok(Some(entry)) => self.entry(tree, &entry),
                Ok(None) => {}
                Err(problem) => self.findings.damage(tree.what, format!("a tree is damaged: {problem}")),
            }
        }
        let own = known.unwrap_or_else(|| self.walked.entry(key).or_insert(own).clone());
        needs.absorb(&own, |pack| pack);
    }

    fn entry(&mut self, tree: &mut Tree<'_>, entry: &Entry) {
        let Node::File(extents) = &entry.node else { return };
        if let Err(problem) = checked_size(extents) {
            self.findings.damage(tree.what, format!("{}: {problem}", entry.shown_path()));
        }
        let gone = |extent: &Extent| extent.chunk().is_some_and(|id| self.lost.contains(id));
        if !self.lost.is_empty() && extents.iter().any(gone) {
            tree.spoiled += 1;
            if tree.named.len() < NAMED_FILES {
                tree.named.push(entry.shown_path().to_string());
            }
        }
    }

    fn refer(&mut self, what: &str, id: &ChunkId, extent: Option<&Extent>, needs: &mut Needs<u32>) {
        let fits = |there: u32| match extent {
            Some(Extent::Chunk { len, .. }) => *len == there,
            Some(Extent::Slice { from, len, .. }) => from.saturating_add(*len) <= there,
            Some(Extent::Hole { .. }) | None => true,
        };
        match (self.places.sound.get(id), self.places.weak.get(id)) {
            (Some((pack, segment, there)), _) if fits(*there) => needs.add(*pack, *segment),
            (None, Some(weak)) if fits(weak.len) => {
                self.wanted.extend(&weak.packs);
                if !weak.readable {
                    self.lost.insert(*id);
                }
            }
            (None, None) => {
                // Whatever pack had it may be any that no index lists.
                self.gaps = true;
                self.lost.insert(*id);
            }
            _ => {
                self.lost.insert(*id);
                self.findings.damage(what, format!("chunk {} has another length", id.short()));
            }
        }
    }

    /// What the trees use must be what the manifest names: the rest could be deleted under it. Where
    /// a chunk lies in two packs the manifest may name either, so such segments prove nothing.
    fn compare_needs(&mut self, snapshot: &Snapshot, needs: &Needs<u32>) {
        let mut named: HashMap<PackId, &[[u32; 2]]> = HashMap::new();
        for need in &snapshot.manifest.needs {
            named.insert(need.pack, &need.segments);
        }
        let names = |id: &PackId, segment: u32| {
            let runs = named.get(id);
            runs.is_some_and(|runs| runs.iter().any(|[first, count]| segment >= *first && segment - first < *count))
        };
        let covered = |pack: u32, segment: u32| {
            let origins = self.places.origins.get(&(pack, segment)).map(Vec::as_slice).unwrap_or_default();
            self.places.packs.get(pack as usize).is_some_and(|id| names(id, segment))
                || origins.iter().any(|from| names(&from.pack, from.segment))
        };
        let uncovered =
            needs.segments().filter(|at| !covered(at.0, at.1) && !self.places.ambiguous.contains(at)).count();
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
