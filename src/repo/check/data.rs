//! Reading packs whole: every byte against the pack's name, and with an owner's key every chunk
//! against its id.
//!
//! Which packs: all, or a share, those first that were not read for longest; the ledger in the
//! catalog remembers each reading, so that a share every night reads everything in the end.

use super::structure::Listed;
use super::{CheckOptions, CheckReport};
use crate::id::{ChunkId, PackId, object_name};
use crate::monitor::{Monitor, Unit, lock};
use crate::pack::{IndexedPack, PackReader, Place};
use crate::repo::sync::Chain;
use crate::repo::{Error, Repository, Result};
use crate::store::{self, Key, Kind, Listing, ReadStore};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A part of the repository's packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// Of their bytes, between 0 and 1.
    Fraction(f64),
    /// At least so many bytes.
    Bytes(u64),
}

/// Which packs to read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Only so much, those first that were not read for longest.
    pub share: Option<Share>,
    /// Only packs that were not read within so many seconds.
    pub max_age: Option<u64>,
    /// Begin no pack after so many bytes, beside what `share` says.
    pub bytes: Option<u64>,
    /// Begin no pack after this moment.
    pub until: Option<Instant>,
}

/// A pack that is not as it was written.
pub(super) struct BadPack {
    /// What is wrong.
    pub problems: Vec<String>,
    /// The chunks that cannot be had from it; absent if that is not known, so that it may be all.
    pub lost: Option<HashSet<ChunkId>>,
}

/// What reading packs found.
#[derive(Default)]
pub(super) struct Readings {
    good: Vec<PackId>,
    /// The others.
    pub bad: HashMap<PackId, BadPack>,
    bytes: u64,
}

/// A reading may seem to be so many seconds ahead, by a clock that was put right since.
const CLOCK_SLACK_SECONDS: i64 = 60;

/// When each pack was last read here, in seconds since 1970. A reading of the future tells nothing: the
/// clock was wrong then, or is now.
///
/// # Errors
/// The catalog is damaged.
pub fn ledger(repository: &Repository, now: i64) -> Result<HashMap<PackId, i64>> {
    let mut readings = repository.catalog().readings()?;
    readings.retain(|_, at| *at <= now.saturating_add(CLOCK_SLACK_SECONDS));
    Ok(readings)
}

pub(super) fn read_packs(
    repository: &Repository,
    options: &CheckOptions,
    listed: &Listed,
    report: &mut CheckReport,
    monitor: &dyn Monitor,
) -> Result<Readings> {
    let ledger = ledger(repository, options.now)?;
    let due = options.read.map(|reading| choose(listed, &ledger, reading, options.now)).unwrap_or_default();
    // What is known to be damaged is looked at again each time, whatever the budget: it may have been mended.
    let suspects = repository.catalog().bad_packs()?;
    let mut packs: Vec<PackId> = suspects.keys().filter(|id| listed.sizes.contains_key(id)).copied().collect();
    let always = packs.len();
    packs.extend(due.into_iter().filter(|id| !suspects.contains_key(id)));
    let chosen = Chosen { packs, always, until: options.read.and_then(|reading| reading.until) };
    let mut readings = Readings::default();
    if !chosen.packs.is_empty() {
        report.opened = repository.require_owner("open packs").is_ok();
        readings = read_chosen(repository, listed, &chosen, report.opened, monitor)?;
        report.packs_read = (readings.good.len() + readings.bad.len()) as u64;
        report.bytes_read = readings.bytes;
        let bad: Vec<PackId> = readings.bad.keys().copied().collect();
        repository.catalog().note_readings(&readings.good, &bad, options.now)?;
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
    }
    sum_up(listed, &self::ledger(repository, options.now)?, options, report);
    Ok(readings)
}

/// What is known of all packs now, whoever read them.
fn sum_up(listed: &Listed, ledger: &HashMap<PackId, i64>, options: &CheckOptions, report: &mut CheckReport) {
    let max_age = options.read.and_then(|reading| reading.max_age);
    let age_of = |id: &PackId| ledger.get(id).map(|at| u64::try_from(options.now - at).unwrap_or(0));
    let (mut all_bytes, mut known_bytes, mut oldest) = (0, 0, Some(0));
    for (id, bytes) in &listed.sizes {
        let age = age_of(id);
        all_bytes += bytes;
        oldest = oldest.zip(age).map(|(oldest, age): (u64, u64)| oldest.max(age));
        report.packs_never_read += u64::from(age.is_none());
        match age {
            Some(age) if max_age.is_none_or(|limit| age <= limit) => known_bytes += bytes,
            _ => report.packs_overdue += u64::from(max_age.is_some()),
        }
    }
    report.oldest_unread_seconds = oldest;
    report.share_read = if all_bytes == 0 { 1.0 } else { known_bytes as f64 / all_bytes as f64 };
}

/// The packs to be read, in that order.
struct Chosen {
    packs: Vec<PackId>,
    /// So many of the first are read whatever the budget.
    always: usize,
    until: Option<Instant>,
}

impl Chosen {
    /// The pack whose turn it is, unless the budget is used up.
    fn get(&self, at: usize) -> Option<&PackId> {
        let over = at >= self.always && self.until.is_some_and(|until| Instant::now() >= until);
        self.packs.get(at).filter(|_| !over)
    }
}

fn choose(listed: &Listed, ledger: &HashMap<PackId, i64>, reading: Reading, now: i64) -> Vec<PackId> {
    let read_at = |id: &PackId| ledger.get(id).copied().unwrap_or(i64::MIN);
    let mut due: Vec<(i64, PackId)> = listed.sizes.keys().map(|id| (read_at(id), *id)).collect();
    due.sort_unstable();
    if let Some(age) = reading.max_age {
        let limit = now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
        due.retain(|(at, _)| *at < limit);
    }
    let total: u64 = listed.sizes.values().sum();
    let budget = match reading.share {
        None => u64::MAX,
        Some(Share::Bytes(bytes)) => bytes,
        Some(Share::Fraction(share)) => (total as f64 * share).ceil() as u64,
    };
    let budget = budget.min(reading.bytes.unwrap_or(u64::MAX));
    let mut taken = 0u64;
    due.into_iter()
        .map(|(_, id)| id)
        .take_while(|id| {
            let more = taken < budget;
            taken += listed.sizes.get(id).copied().unwrap_or(0);
            more
        })
        .collect()
}

fn read_chosen(
    repository: &Repository,
    listed: &Listed,
    chosen: &Chosen,
    open: bool,
    monitor: &dyn Monitor,
) -> Result<Readings> {
    let size = |id: &PackId| listed.sizes.get(id).copied().unwrap_or(0);
    monitor.phase("reading packs", Unit::Bytes, Some(chosen.packs.iter().map(size).sum()));
    let outcome = Mutex::new(Readings::default());
    let outage = Mutex::new(None);
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(crate::limits::WORKERS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(chosen.packs.len()) {
            scope.spawn(|| {
                while let Some(id) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if monitor.cancelled() || lock(&outage).is_some() {
                        return;
                    }
                    let bad = match read_pack(repository, *id, listed.indexed.get(id), open) {
                        Ok(bad) => bad,
                        Err(error) => {
                            lock(&outage).get_or_insert(error);
                            return;
                        }
                    };
                    let mut outcome = lock(&outcome);
                    outcome.bytes += size(id);
                    match bad {
                        None => outcome.good.push(*id),
                        Some(bad) => drop(outcome.bad.insert(*id, bad)),
                    }
                    monitor.advance(size(id));
                }
            });
        }
    });
    if let Some(error) = lock(&outage).take() {
        return Err(error);
    }
    Ok(outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// `None` if the pack is sound.
///
/// # Errors
/// A server does not give it, so that nothing is known of it.
fn read_pack(
    repository: &Repository,
    id: PackId,
    indexed: Option<&IndexedPack>,
    open: bool,
) -> Result<Option<BadPack>> {
    let key = Key::from(id);
    let sealed = match repository.store().get(&key) {
        Ok(sealed) => sealed,
        Err(error) if error.is_outage() => return Err(error.into()),
        Err(error) => return Ok(Some(BadPack { problems: vec![Chain(&error).to_string()], lost: None })),
    };
    let mut bad = BadPack { problems: Vec::new(), lost: None };
    if object_name(&sealed) != id.0 {
        bad.problems.push("its bytes do not fit its name".to_owned());
    }
    if open {
        let object = OneObject { key, bytes: &sealed };
        match open_pack(repository, id, &object, indexed, &mut bad.problems) {
            Ok(lost) => bad.lost = Some(lost),
            Err(error) => bad.problems.push(Chain(&error).to_string()),
        }
    }
    Ok((!bad.problems.is_empty()).then_some(bad))
}

/// Gives the chunks that cannot be had. Where the pack's own listing cannot be read the index serves.
fn open_pack(
    repository: &Repository,
    id: PackId,
    object: &OneObject<'_>,
    indexed: Option<&IndexedPack>,
    problems: &mut Vec<String>,
) -> std::result::Result<HashSet<ChunkId>, crate::pack::Error> {
    let reader = PackReader::open(object, id, &repository.secrets().data_identities())?;
    let own = reader.footer(object);
    let footer = match (&own, indexed) {
        (Ok(footer), Some(pack)) => {
            if pack.footer != *footer {
                problems.push("its own listing is not the one in the index".to_owned());
            }
            &pack.footer
        }
        (Ok(footer), None) => footer,
        (Err(error), Some(pack)) => {
            problems.push(Chain(error).to_string());
            &pack.footer
        }
        (Err(_), None) => return own.map(|_| HashSet::new()),
    };
    let mut lost = HashSet::new();
    for segment in &footer.segments {
        let plain = match reader.segment(object, Place::from(segment)) {
            Ok(plain) => plain,
            Err(error) => {
                problems.push(Chain(&error).to_string());
                lost.extend(segment.chunks.iter().map(|chunk| chunk.id));
                continue;
            }
        };
        let mut rest = plain.as_slice();
        for chunk in &segment.chunks {
            let (bytes, behind) = rest.split_at_checked(chunk.len as usize).unwrap_or((rest, &[]));
            rest = behind;
            if repository.namer.name(bytes) != chunk.id {
                problems.push(format!("chunk {} is not what its id says", chunk.id.short()));
                lost.insert(chunk.id);
            }
        }
    }
    Ok(lost)
}

/// One object in memory, as a store.
struct OneObject<'a> {
    key: Key,
    bytes: &'a [u8],
}

impl ReadStore for OneObject<'_> {
    fn get(&self, _: &Key) -> store::Result<Vec<u8>> {
        Ok(self.bytes.to_vec())
    }

    fn get_range(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> store::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.bytes.get(from..from.saturating_add(buffer.len())) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(store::Error::Short {
                object: key.path(),
                wanted: offset.saturating_add(buffer.len() as u64),
                found: self.bytes.len() as u64,
            }),
        }
    }

    fn size(&self, _: &Key) -> store::Result<Option<u64>> {
        Ok(Some(self.bytes.len() as u64))
    }

    fn list(&self, _: Kind) -> store::Result<Listing> {
        Ok(Listing::default())
    }

    fn list_keys(&self) -> store::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn address(&self) -> String {
        self.key.path()
    }
}
