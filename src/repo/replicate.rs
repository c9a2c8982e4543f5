//! Copying a repository to another store, object by object, without any key.
//!
//! The order is that of writing: `config` and keys, packs, index objects, records of removals, and the
//! manifests last, each kind durable before the next begins. The listings are taken the other way
//! round, so that all that a listed manifest needs is listed too. It can end anywhere: what is there
//! is whole, and the next run goes on.
//!
//! An object is copied only if its bytes are what its name says, so no damage is carried over; and
//! only what is missing is copied, so nothing that is there is ever replaced. Marks are not copied:
//! what is deleted here is not deleted there. Records of removals are, since they delete nothing and
//! say why a chain goes on without some of its snapshots. What the replica has deleted by itself is
//! copied again unless the caller, who may have a key, says what that is ([`super::leave_out`]).

use super::config::Config;
use super::leave_out::LeaveOut;
use super::pace::Pace;
use super::replica_keys::{Fate, KeyFiles, altered, fate, read_keys, share_a_key};
use super::sync::Chain;
use super::{Error, Result, is_lost_config, read_config_bytes};
use crate::id::{RepositoryId, SnapshotId};
use crate::monitor::{Monitor, Unit};
use crate::store::{self, Batch, Key, Kind, Put, ReadStore, Store, Upload};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Kinds in the order in which they are copied.
const KINDS: [Kind; 5] = [Kind::Pack, Kind::Index, Kind::Removal, Kind::Log, Kind::Snapshot];
/// Bytes that are read and written at once.
const PIECE_BYTES: usize = 4 << 20;
/// After this many bytes or objects what was copied is made durable.
const BATCH_BYTES: u64 = 256 << 20;
/// See [`BATCH_BYTES`].
const BATCH_OBJECTS: usize = 256;

/// How often to look for what has taken the place of what a prune has removed meanwhile.
const FOLLOW_ROUNDS_MAX: u32 = 10;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct ReplicateOptions {
    /// Read back what was copied.
    pub verify: bool,
    /// At most so many bytes a second.
    pub bytes_per_second: Option<u64>,
    /// What the replica has removed by its own retention.
    pub leave_out: LeaveOut,
}

/// An object that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCopied {
    /// Its path.
    pub object: String,
    /// Why.
    pub message: String,
}

/// What a replication did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReplicateReport {
    /// Snapshots that were copied.
    pub snapshots: u64,
    /// Packs that were copied.
    pub packs: u64,
    /// Objects that were copied, keys and all others too.
    pub objects: u64,
    /// Bytes that were copied.
    pub bytes: u64,
    /// Objects that were read back.
    pub verified: u64,
    /// Snapshots that the source has and the replica has not, after it.
    pub behind: u64,
    /// Snapshots that the replica has removed by its own retention, and that were not copied again.
    pub left_out: u64,
    /// Snapshots in the replica.
    pub replica_snapshots: u64,
    /// Objects that are damaged in the source and were not copied.
    pub damaged: Vec<NotCopied>,
    /// Objects that are not in the replica as they should be: another size, or other bytes when they were
    /// read back. They were left as they are.
    pub replica_damaged: Vec<NotCopied>,
    /// Keys that differ; the replica's were left as they are.
    pub keys_differ: Vec<String>,
    /// The snapshots of the source.
    #[serde(skip)]
    pub ids: Vec<SnapshotId>,
    /// Those of them that the replica has, after it.
    #[serde(skip)]
    pub ids_there: Vec<SnapshotId>,
    /// Snapshots of the replica that the source does not have.
    #[serde(skip)]
    pub ids_only_there: Vec<SnapshotId>,
}

impl ReplicateReport {
    /// True if something is damaged, here or there.
    pub fn is_damaged(&self) -> bool {
        !(self.damaged.is_empty() && self.replica_damaged.is_empty())
    }
}

/// Copies what `to` lacks of `from`. A store without anything in it becomes a replica; `prepare` makes
/// its layout.
///
/// # Errors
/// There is no repository in `from`, `to` holds another one, a listing fails, `to` refuses, or the
/// person stopped it. Objects that are damaged are in the report.
pub fn replicate(
    from: &dyn ReadStore,
    to: &dyn Store,
    prepare: &dyn Fn() -> Result<()>,
    options: &ReplicateOptions,
    monitor: &dyn Monitor,
) -> Result<ReplicateReport> {
    let config = read_config_bytes(from)?;
    let id = Config::decode(&from.address(), &config)?.repository;
    let (is_new, lost_config) = match is_new(to, id) {
        Err(error) if is_lost_config(&error) && share_a_key(from, to)? => (false, true),
        other => (other?, false),
    };
    // From the end to the beginning: what a listed object needs was there before it.
    let mut listed: BTreeMap<Kind, HashMap<Key, u64>> = BTreeMap::new();
    for kind in KINDS.into_iter().rev() {
        listed.insert(kind, list(from, kind)?);
    }
    let keys = read_keys(from)?;
    if is_new {
        prepare()?;
    }
    let pace = Pace::of(options.bytes_per_second);
    let mut copy = Copy { from, to, options, monitor, pace, gone: false, report: ReplicateReport::default() };
    // An interrupted run left a repository, if anything: with `config`, and perhaps no key yet.
    if is_new || lost_config {
        copy.put(&Key::Config, &config)?;
    }
    copy.keys(keys)?;
    let mut missing = BTreeMap::new();
    for (kind, there) in &listed {
        missing.insert(*kind, copy.missing(*kind, there)?);
    }
    let total = missing.values().flatten().map(|(_, bytes)| *bytes).sum();
    monitor.phase("copying", Unit::Bytes, Some(total));
    for kind in KINDS {
        copy.kind(kind, missing.remove(&kind).unwrap_or_default())?;
        if kind == Kind::Index {
            copy.follow()?;
        }
    }
    let mut report = copy.report;
    let there = list(to, Kind::Snapshot)?;
    report.replica_snapshots = there.len() as u64;
    let none = HashMap::new();
    let here = listed.get(&Kind::Snapshot).unwrap_or(&none);
    for key in there.keys().filter(|key| !here.contains_key(*key)) {
        let Key::Object(_, name) = key else { continue };
        report.ids_only_there.push(SnapshotId(*name));
    }
    for key in here.keys() {
        let Key::Object(_, name) = key else { continue };
        report.ids.push(SnapshotId(*name));
        match there.contains_key(key) {
            true => report.ids_there.push(SnapshotId(*name)),
            false if options.leave_out.has(key) => report.left_out += 1,
            false => report.behind += 1,
        }
    }
    Ok(report)
}

/// True if nothing is there; an error if it is something else than this repository, or its `config` is damaged.
fn is_new(to: &dyn Store, id: RepositoryId) -> Result<bool> {
    match read_config_bytes(to) {
        Ok(bytes) => match Config::decode(&to.address(), &bytes)?.repository == id {
            true => Ok(false),
            false => Err(Error::OtherRepository { address: to.address() }),
        },
        Err(Error::NoRepository { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn list(store: &dyn ReadStore, kind: Kind) -> Result<HashMap<Key, u64>> {
    Ok(store.list(kind)?.objects.into_iter().map(|object| (object.key, object.bytes)).collect())
}

struct Copy<'a> {
    from: &'a dyn ReadStore,
    to: &'a dyn Store,
    options: &'a ReplicateOptions,
    monitor: &'a dyn Monitor,
    pace: Pace,
    /// True if something went before it was copied.
    gone: bool,
    report: ReplicateReport,
}

/// What a batch has been given.
struct Sent {
    batch: Box<dyn Batch>,
    objects: Vec<(Key, u64)>,
    bytes: u64,
}

impl Sent {
    fn to(store: &dyn Store) -> Self {
        Self { batch: store.batch(), objects: Vec::new(), bytes: 0 }
    }
}

/// What became of one object.
enum Fetched {
    Whole(Box<dyn Upload>),
    Damaged(String),
    /// A prune has removed it meanwhile.
    Gone,
}

impl Copy<'_> {
    fn put(&mut self, key: &Key, bytes: &[u8]) -> Result<bool> {
        let created = self.to.put(key, bytes)? == Put::Created;
        if created {
            self.report.objects += 1;
            self.report.bytes += bytes.len() as u64;
        }
        Ok(created)
    }

    fn keys(&mut self, keys: Vec<(String, std::result::Result<KeyFiles, String>)>) -> Result<()> {
        let there = self.to.list_keys().unwrap_or_default();
        for (name, files) in keys {
            let files = match files {
                Ok(files) => files,
                Err(message) => {
                    if !there.contains(&format!("{name}.age")) {
                        self.report.damaged.push(NotCopied { object: format!("keys/{name}.age"), message });
                    }
                    continue;
                }
            };
            match fate(self.to, files)? {
                Fate::Same => {}
                Fate::Other => self.report.keys_differ.push(name),
                Fate::Damaged(one) => self.report.replica_damaged.push(one),
                Fate::Copy(files) => {
                    for (key, bytes) in &files {
                        self.put(key, bytes)?;
                    }
                }
            }
        }
        if self.options.verify {
            let more = altered(self.to, &self.report.replica_damaged)?;
            self.report.replica_damaged.extend(more);
        }
        Ok(())
    }

    /// What the replica lacks of a kind, by name.
    fn missing(&mut self, kind: Kind, here: &HashMap<Key, u64>) -> Result<Vec<(Key, u64)>> {
        let there = list(self.to, kind)?;
        let mut out = Vec::new();
        for (key, bytes) in here {
            match there.get(key) {
                None if self.options.leave_out.has(key) => {}
                None => out.push((key.clone(), *bytes)),
                Some(found) if found != bytes && self.is_whole(key) => {
                    let message = format!("it has {found} bytes there and {bytes} here");
                    self.report.replica_damaged.push(NotCopied { object: key.path(), message });
                }
                Some(_) => {}
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    fn is_whole(&self, key: &Key) -> bool {
        matches!(hash_of(self.from, key), Ok(name) if is_name(key, &name))
    }

    fn kind(&mut self, kind: Kind, missing: Vec<(Key, u64)>) -> Result<()> {
        let mut sent = Sent::to(self.to);
        for (key, bytes) in missing {
            if self.monitor.cancelled() {
                self.commit(kind, sent)?;
                return Err(Error::Interrupted);
            }
            self.monitor.item(&key.path());
            let mut fetched = self.fetch(&key, bytes)?;
            if matches!(fetched, Fetched::Damaged(_)) {
                // A slip on the way here is not damage; what is so twice is.
                self.from.read_anew(&key);
                fetched = self.fetch(&key, bytes)?;
            }
            match fetched {
                Fetched::Whole(upload) => {
                    sent.batch.add(key.clone(), upload)?;
                    sent.bytes += bytes;
                    sent.objects.push((key, bytes));
                }
                Fetched::Damaged(message) => self.report.damaged.push(NotCopied { object: key.path(), message }),
                Fetched::Gone => self.gone = true,
            }
            if sent.bytes >= BATCH_BYTES || sent.objects.len() >= BATCH_OBJECTS {
                self.commit(kind, std::mem::replace(&mut sent, Sent::to(self.to)))?;
            }
        }
        self.commit(kind, sent)
    }

    /// Where packs and index objects went before they were copied, copies what has taken their place: the
    /// snapshots that were listed may need it.
    fn follow(&mut self) -> Result<()> {
        let mut rounds = 0..FOLLOW_ROUNDS_MAX;
        while std::mem::take(&mut self.gone) && rounds.next().is_some() {
            let (indexes, packs) = (list(self.from, Kind::Index)?, list(self.from, Kind::Pack)?);
            for (kind, there) in [(Kind::Pack, packs), (Kind::Index, indexes)] {
                let missing = self.missing(kind, &there)?;
                self.kind(kind, missing)?;
            }
        }
        Ok(())
    }

    /// Makes what was sent durable, together.
    fn commit(&mut self, kind: Kind, sent: Sent) -> Result<()> {
        sent.batch.commit()?;
        for (key, bytes) in sent.objects {
            self.report.objects += 1;
            self.report.bytes += bytes;
            self.report.packs += u64::from(kind == Kind::Pack);
            self.report.snapshots += u64::from(kind == Kind::Snapshot);
            if self.options.verify {
                self.read_back(&key)?;
            }
        }
        Ok(())
    }

    fn read_back(&mut self, key: &Key) -> Result<()> {
        self.report.verified += 1;
        let mut read = hash_of(self.to, key);
        if !matches!(&read, Ok(name) if is_name(key, name)) {
            self.to.read_anew(key);
            read = hash_of(self.to, key);
        }
        let message = match read {
            Ok(name) if is_name(key, &name) => return Ok(()),
            Ok(_) => "its bytes do not fit its name".to_owned(),
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(error) => Chain(&error).to_string(),
        };
        self.report.replica_damaged.push(NotCopied { object: key.path(), message });
        Ok(())
    }

    fn fetch(&mut self, key: &Key, bytes: u64) -> Result<Fetched> {
        let mut upload = self.to.upload()?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let piece = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
            match self.from.get_range(key, offset, &mut buffer[..piece]) {
                Ok(()) => {}
                Err(store::Error::NotFound { .. }) => return Ok(Fetched::Gone),
                Err(error) if error.is_outage() => return Err(error.into()),
                Err(error) => return Ok(Fetched::Damaged(Chain(&error).to_string())),
            }
            hasher.update(&buffer[..piece]);
            upload.write(&buffer[..piece])?;
            offset += piece as u64;
            self.monitor.advance(piece as u64);
            self.pace.wait_for(piece as u64);
        }
        match is_name(key, hasher.finalize().as_bytes()) {
            true => Ok(Fetched::Whole(upload)),
            false => Ok(Fetched::Damaged("its bytes do not fit its name".to_owned())),
        }
    }
}

fn is_name(key: &Key, hash: &[u8; 32]) -> bool {
    matches!(key, Key::Object(_, name) if name == hash)
}

/// The hash of an object, piece by piece.
fn hash_of(store: &dyn ReadStore, key: &Key) -> store::Result<[u8; 32]> {
    let bytes = store.size(key)?.unwrap_or(0);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let piece = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        store.get_range(key, offset, &mut buffer[..piece])?;
        hasher.update(&buffer[..piece]);
        offset += piece as u64;
    }
    Ok(*hasher.finalize().as_bytes())
}
