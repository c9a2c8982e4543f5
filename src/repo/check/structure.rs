//! Everything but the content of data packs.

use super::{Findings, Severity};
use crate::id::{IndexId, LogId, PackId, SnapshotId};
use crate::monitor::{Monitor, Unit};
use crate::pack::IndexedPack;
use crate::repo::keys::read_keys;
use crate::repo::manifest::Need;
use crate::repo::moved::Moves;
use crate::repo::sync::{Chain, Snapshot};
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
    /// Index objects that cannot be read, and why.
    pub unread: Vec<(String, Error)>,
}

impl Listed {
    /// Where segments have moved to.
    pub fn moves(&self) -> Moves {
        let mut moves = Moves::default();
        for (id, pack) in &self.indexed {
            moves.add(*id, &pack.footer);
        }
        moves
    }
}

pub(super) fn check_keys(repository: &Repository, findings: &mut Findings) -> Result<()> {
    let keys = read_keys(repository.store())?;
    for key in &keys {
        if let Some((file, what)) = key.fault(repository.secrets()) {
            findings.damage(file.path(), what);
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
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => listed.unread.push((object.key.path(), error)),
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
    let (marks, removed) = (store.list(Kind::Mark)?.foreign, store.list(Kind::Removal)?.foreign);
    let records = store.list(Kind::Log)?;
    for object in &records.objects {
        if let Key::Object(_, name) = object.key
            && let Err(error) = repository.read_log(LogId(name))
        {
            if error.is_outage() {
                return Err(error);
            }
            findings.fault(object.key.path(), &error);
        }
    }
    let foreign = [indexes.foreign, packs.foreign, marks, removed, records.foreign].concat();
    for path in foreign {
        findings.note(path, "it is no object of a repository and is left alone");
    }
    for id in listed.sizes.keys().filter(|id| !listed.indexed.contains_key(*id)) {
        findings.note(Key::from(*id).path(), "no index lists it: an interrupted run or a lost index left it");
    }
    Ok(listed)
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
    findings: &mut Findings,
) -> Result<Vec<Snapshot>> {
    // Read anew, whatever the catalog remembers of them.
    let verified = published.iter().map(|id| (*id, repository.verify_manifest(*id)));
    let mut faults: Vec<(SnapshotId, Error)> = verified.filter_map(|(id, result)| Some((id, result.err()?))).collect();
    if let Some((_, error)) = faults.extract_if(.., |(_, error)| error.is_outage()).next() {
        return Err(error);
    }
    let mut set = repository.snapshots()?;
    // One that a prune has removed meanwhile is no damage.
    for (id, error) in faults.iter().filter(|(id, _)| !set.removed.contains_key(id)) {
        findings.fault(Key::from(*id).path(), error);
    }
    // A forgotten snapshot can be taken back, so it must be as sound as any.
    set.snapshots.append(&mut set.forgotten);
    set.snapshots.retain(|snapshot| published.contains(&snapshot.id));
    for unread in &set.marks.unread {
        let severity = if unread.newer { Severity::Unknown } else { Severity::Damage };
        findings.add(severity, unread.object.clone(), unread.message.clone());
    }
    for snapshot in &set.vanished {
        let manifest = &snapshot.manifest;
        let message = format!(
            "the snapshot of {} at {} was here before and is gone; nobody has forgotten it",
            manifest.stack, manifest.time
        );
        findings.damage(Key::from(snapshot.id).path(), message);
    }
    let unreadable = set.unreadable.iter().map(|one| one.id);
    let forgotten = set.marks.forgotten().into_keys();
    let removed = set.removed.keys().copied().chain(forgotten);
    let there: HashSet<SnapshotId> = set.snapshots.iter().map(|s| s.id).chain(unreadable).chain(removed).collect();
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
    }
    Ok(set.snapshots)
}

/// What index objects that cannot be read are worth. Nothing is lost with one if all that snapshots need
/// is listed elsewhere; `all_read` says whether all snapshots are known.
pub(super) fn check_unread_indexes(snapshots: &[Snapshot], all_read: bool, listed: &Listed, findings: &mut Findings) {
    let needs = || snapshots.iter().flat_map(|snapshot| &snapshot.manifest.needs);
    let moves = listed.moves();
    let is_listed = |need: &Need| listed.indexed.contains_key(&need.pack) || moves.cover(need);
    let elsewhere = all_read && needs().all(is_listed);
    for (object, error) in &listed.unread {
        if elsewhere && !error.is_newer() {
            let what = Chain(error);
            findings.note(object.clone(), format!("{what}; all that snapshots need is listed elsewhere"));
        } else {
            findings.fault(object.clone(), error);
        }
    }
}

/// Whether the packs are there that a snapshot names. `intact` are the snapshots whose every chunk
/// was found: what those name and do not need is worth a word only.
pub(super) fn check_needs(
    snapshots: &[Snapshot],
    listed: &Listed,
    intact: &HashSet<SnapshotId>,
    findings: &mut Findings,
) {
    let moves = listed.moves();
    for snapshot in snapshots {
        let object = Key::from(snapshot.id).path();
        for need in &snapshot.manifest.needs {
            let pack = need.pack.short();
            if !listed.indexed.contains_key(&need.pack) && moves.cover(need) {
                continue;
            }
            let known = listed.indexed.get(&need.pack).map(|pack| pack.footer.segments.len() as u64);
            let wanted = need.segments.iter().map(|[first, count]| u64::from(*first) + u64::from(*count)).max();
            let lack = match known {
                None if listed.sizes.contains_key(&need.pack) => "no index lists",
                None => "is missing",
                Some(segments) if wanted.unwrap_or(0) > segments => {
                    findings.damage(object.clone(), format!("it needs more of pack {pack} than there is"));
                    continue;
                }
                Some(_) => continue,
            };
            if intact.contains(&snapshot.id) {
                let message = format!("it names pack {pack}, which {lack}; all that it uses is elsewhere");
                findings.note(object.clone(), message);
            } else {
                findings.damage(object.clone(), format!("it needs pack {pack}, which {lack}"));
            }
        }
    }
}
