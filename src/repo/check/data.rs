//! Reading packs whole: every byte against the pack's name, and with an owner's key every chunk
//! against its id.
//!
//! Which packs: all, or a share, those first that were not read for longest; the ledger in the
//! catalog remembers each reading, so that a share every night reads everything in the end.

use super::structure::Listed;
use super::{CheckOptions, CheckReport, Findings};
use crate::id::{PackId, object_name};
use crate::monitor::{Monitor, Unit, lock};
use crate::pack::{IndexedPack, PackReader, Place};
use crate::repo::sync::Chain;
use crate::repo::{Error, Repository, Result};
use crate::store::{self, Key, Kind, Listing, ReadStore};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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
}

pub(super) fn read_packs(
    repository: &Repository,
    options: &CheckOptions,
    listed: &Listed,
    findings: &mut Findings,
    report: &mut CheckReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    if let Some(reading) = options.read {
        let ledger = repository.catalog().readings()?;
        let chosen = choose(listed, &ledger, reading, options.now);
        report.opened = repository.require_owner("open packs").is_ok();
        let outcome = read_chosen(repository, listed, &chosen, report.opened, monitor);
        for (pack, problems) in &outcome.bad {
            for problem in problems {
                findings.damage(Key::from(*pack).path(), problem.clone());
            }
        }
        report.packs_read = (outcome.good.len() + outcome.bad.len()) as u64;
        report.bytes_read = outcome.bytes;
        let bad: Vec<PackId> = outcome.bad.into_iter().map(|(pack, _)| pack).collect();
        repository.catalog().note_readings(&outcome.good, Some(options.now))?;
        repository.catalog().note_readings(&bad, None)?;
        if monitor.cancelled() {
            return Err(Error::Interrupted);
        }
    }
    let ledger = repository.catalog().readings()?;
    let ages = |id: &PackId| ledger.get(id).map(|at| u64::try_from(options.now - at).unwrap_or(0));
    report.packs_never_read = listed.sizes.keys().filter(|id| ages(id).is_none()).count() as u64;
    report.oldest_unread_seconds =
        listed.sizes.keys().map(ages).try_fold(0, |oldest, age| age.map(|age| oldest.max(age)));
    Ok(())
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

#[derive(Default)]
struct Outcome {
    good: Vec<PackId>,
    bad: Vec<(PackId, Vec<String>)>,
    bytes: u64,
}

fn read_chosen(
    repository: &Repository,
    listed: &Listed,
    chosen: &[PackId],
    open: bool,
    monitor: &dyn Monitor,
) -> Outcome {
    let size = |id: &PackId| listed.sizes.get(id).copied().unwrap_or(0);
    monitor.phase("reading packs", Unit::Bytes, Some(chosen.iter().map(size).sum()));
    let outcome = Mutex::new(Outcome::default());
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(crate::limits::WORKERS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(chosen.len()) {
            scope.spawn(|| {
                while let Some(id) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if monitor.cancelled() {
                        return;
                    }
                    let problems = read_pack(repository, *id, listed.indexed.get(id), open);
                    let mut outcome = lock(&outcome);
                    outcome.bytes += size(id);
                    if problems.is_empty() {
                        outcome.good.push(*id);
                    } else {
                        outcome.bad.push((*id, problems));
                    }
                    monitor.advance(size(id));
                }
            });
        }
    });
    outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn read_pack(repository: &Repository, id: PackId, indexed: Option<&IndexedPack>, open: bool) -> Vec<String> {
    let key = Key::from(id);
    let sealed = match repository.store().get(&key) {
        Ok(sealed) => sealed,
        Err(error) => return vec![Chain(&error).to_string()],
    };
    let mut problems = Vec::new();
    if object_name(&sealed) != id.0 {
        problems.push("its bytes do not fit its name".to_owned());
    }
    if open {
        let object = OneObject { key, bytes: &sealed };
        if let Err(error) = open_pack(repository, id, &object, indexed, &mut problems) {
            problems.push(Chain(&error).to_string());
        }
    }
    problems
}

fn open_pack(
    repository: &Repository,
    id: PackId,
    object: &OneObject<'_>,
    indexed: Option<&IndexedPack>,
    problems: &mut Vec<String>,
) -> std::result::Result<(), crate::pack::Error> {
    let reader = PackReader::open(object, id, &repository.secrets().data_identities())?;
    let footer = reader.footer(object)?;
    if indexed.is_some_and(|pack| pack.footer != footer) {
        problems.push("its own listing is not the one in the index".to_owned());
    }
    for segment in &footer.segments {
        let place = Place {
            codec: segment.codec,
            offset: segment.offset,
            stored_len: segment.stored_len,
            plain_len: segment.plain_len,
        };
        let plain = match reader.segment(object, place) {
            Ok(plain) => plain,
            Err(error) => {
                problems.push(Chain(&error).to_string());
                continue;
            }
        };
        let mut rest = plain.as_slice();
        for chunk in &segment.chunks {
            let (bytes, behind) = rest.split_at_checked(chunk.len as usize).unwrap_or((rest, &[]));
            rest = behind;
            if repository.namer.name(bytes) != chunk.id {
                problems.push(format!("chunk {} is not what its id says", chunk.id.short()));
            }
        }
    }
    Ok(())
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
