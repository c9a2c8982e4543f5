//! Histories of two writers, a pruner, crashes, clocks that jump and listings that lag, on the real
//! code with a store in memory: whatever was acknowledged and not forgotten can be restored.
//!
//! Any operation on the store can be the last one of a command, or the one during which others run
//! whole commands. `SNAP_MODEL=100000` runs so many histories, `SNAP_MODEL_SEED` one of them.

mod acts;
mod memory;
mod scale;

use super::*;
use crate::chunk::Namer;
use crate::crypto::people::PersonRecipient;
use crate::crypto::secrets::Secrets;
use crate::id::{ChunkId, PackId};
use crate::monitor::{Quiet, lock};
use crate::pack::PackKind;
use crate::repo::Error;
use crate::repo::forget::Forgetting;
use crate::repo::manifest::{Manifest, Stats};
use crate::repo::mark::ForgottenSnapshot;
use crate::repo::needs::Needs;
use crate::repo::reader::Reader;
use crate::repo::writer::{PackRef, Session};
use memory::{Dice, Handle, World};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const DAY: u64 = 86_400;
/// Somebody; nobody has to have its identity.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
/// Contents that captures choose from.
const CONTENTS: u64 = 8;

/// One who has a key, a catalog and a clock of his own.
struct Actor {
    handle: Handle,
    catalog: PathBuf,
}

/// What is known of a snapshot that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It must be there.
    Kept,
    /// It was forgotten, or perhaps.
    Open,
}

struct History {
    world: Arc<Mutex<World>>,
    actors: Vec<Actor>,
    secrets: Secrets,
    dice: Mutex<Dice>,
    kept: Mutex<Vec<(SnapshotId, Vec<ChunkId>, Known)>>,
    /// Snapshots that somebody has forgotten, acknowledged or not.
    forgotten: Mutex<HashSet<SnapshotId>>,
    deleted: Mutex<u64>,
    repacked: Mutex<u64>,
    log: Mutex<Vec<String>>,
    _dir: tempfile::TempDir,
}

/// What a command does at one of its operations on the store.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Crash(u64),
    Others(u64, u64),
}

impl Clock for Actor {
    fn moment(&self) -> Moment {
        let world = lock(&self.handle.world);
        Moment {
            boot: world.boot.to_string(),
            uptime_seconds: (world.now - world.booted) as i64,
            wall_seconds: world.now as i64 + world.skew,
        }
    }

    fn pause(&self, seconds: u64) {
        lock(&self.handle.world).now += seconds;
    }
}

impl History {
    fn new(seed: u64) -> Arc<Self> {
        let mut dice = Dice(seed);
        let dir = tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let world = Arc::new(Mutex::new(World::new(if dice.below(2) == 0 { 0 } else { 40 }, seed)));
        let actors: Vec<Actor> = (0..3)
            .map(|number| Actor { handle: Handle::new(&world, number), catalog: dir.path().join(number.to_string()) })
            .collect();
        let person = PersonRecipient::parse(RECIPIENT).unwrap();
        let secrets = crate::repo::initialise(
            &actors[0].handle,
            &crate::repo::keys::NewKey {
                name: "k",
                recipients: &[person],
                log_n: 1,
                created: "2026-01-01T00:00:00.000000Z",
                strict: true,
            },
        )
        .unwrap();
        Arc::new(Self {
            world,
            actors,
            secrets,
            dice: Mutex::new(dice),
            kept: Mutex::default(),
            forgotten: Mutex::default(),
            deleted: Mutex::default(),
            repacked: Mutex::default(),
            log: Mutex::default(),
            _dir: dir,
        })
    }

    fn roll(&self, below: u64) -> u64 {
        lock(&self.dice).below(below)
    }

    fn open(&self, actor: usize) -> Result<Repository> {
        let actor = &self.actors[actor];
        Repository::open(Arc::new(actor.handle.clone()), self.secrets.clone(), "k", &actor.catalog)
    }

    fn say(&self, text: String) {
        let now = lock(&self.world).now;
        lock(&self.log).push(format!("{now}: {text}"));
    }

    /// One command of one actor, with a turn at one of its operations. `depth` keeps others from being
    /// interrupted by others again.
    fn step(self: &Arc<Self>, depth: u32) {
        let what = self.roll(16);
        // Most prunes are one machine's: a mark ages by the knowledge of who saw it.
        let actor = if (7..=10).contains(&what) && self.roll(5) > 0 { 0 } else { self.roll(3) as usize };
        if self.actors[actor].handle.is_busy() {
            return;
        }
        let turn = match self.roll(4) {
            0 => Some(Turn::Crash(self.roll(30))),
            1 if depth == 0 => Some(Turn::Others(self.roll(30), self.roll(2) * (1 + self.roll(4)))),
            _ => None,
        };
        let handle = self.actors[actor].handle.clone();
        match turn {
            Some(Turn::Crash(at)) => handle.crash_at(at),
            Some(Turn::Others(at, count)) => {
                let others = Arc::clone(self);
                let run = move || match count {
                    0 => others.whole_deletion(),
                    _ => (0..count).for_each(|_| others.step(1)),
                };
                handle.interrupt_at(at, Box::new(run));
            }
            None => handle.calm(),
        }
        self.say(format!("{depth} actor {actor} begins {what} with {turn:?}"));
        let result = match what {
            0..=3 => self.create(actor),
            4 | 5 => self.forget(actor),
            6 => self.undelete(actor),
            7..=10 => self.prune(actor),
            11..=14 => self.time_passes(),
            _ => self.something_happens(actor),
        };
        let crashed = handle.calm_down();
        self.say(format!("{depth} actor {actor} ends {what}: {result:?}{}", if crashed { " (crashed)" } else { "" }));
        match result {
            Ok(()) | Err(Error::Overtaken { .. } | Error::NotSafe { .. } | Error::LastComplete { .. }) => {}
            Err(_) if crashed => {}
            // Another has merged or removed what was listed: nothing was done, and the next run does it.
            Err(Error::Store(crate::store::Error::NotFound { .. })) => {}
            Err(error) => self.fail(&format!("{error:?}")),
        }
    }

    /// What takes days, while somebody is in the middle of one command: a laptop that sleeps.
    fn whole_deletion(self: &Arc<Self>) {
        let Some(actor) = (0..3).find(|actor| !self.actors[*actor].handle.is_busy()) else { return };
        self.say(format!("1 actor {actor} deletes"));
        self.actors[actor].handle.calm();
        let steps: [fn(&Self, usize) -> Result<()>; 5] =
            [Self::forget, Self::prune, Self::a_day_passes, Self::prune, Self::create];
        let results: Vec<Result<()>> = steps.iter().map(|step| step(self, actor)).collect();
        self.actors[actor].handle.calm_down();
        self.say(format!("1 actor {actor} has deleted: {results:?}"));
    }

    fn a_day_passes(&self, _: usize) -> Result<()> {
        lock(&self.world).now += DAY + 1;
        Ok(())
    }

    fn fail(&self, text: &str) -> ! {
        panic!("{text}\n{}", lock(&self.log).join("\n"));
    }

    /// The repository as somebody finds it who has seen nothing of it, and all that is there.
    fn fresh(&self) -> Repository {
        let catalog = self._dir.path().join("fresh");
        let _ = std::fs::remove_dir_all(&catalog);
        let handle = Handle::seeing_all(&self.world);
        let opened = Repository::open(Arc::new(handle), self.secrets.clone(), "k", &catalog);
        opened.unwrap_or_else(|error| self.fail(&error.to_string()))
    }

    fn holds(&self) {
        let repository = self.fresh();
        let set = repository.snapshots().unwrap_or_else(|error| self.fail(&error.to_string()));
        repository.sync_indexes(&Quiet::default()).unwrap_or_else(|error| self.fail(&error.to_string()));
        let mut reader = Reader::new(&repository).unwrap_or_else(|error| self.fail(&error.to_string()));
        for (id, chunks, known) in lock(&self.kept).iter().filter(|one| one.2 == Known::Kept) {
            if !set.snapshots.iter().any(|s| s.id == *id) {
                self.fail(&format!("{} is not there ({known:?})", id.short()));
            }
            for chunk in chunks {
                if let Err(error) = reader.chunk(chunk) {
                    self.fail(&format!("{}: {error}", id.short()));
                }
            }
        }
    }
}

/// How many objects were deleted, and how many packs were copied first.
fn run(seed: u64) -> [u64; 2] {
    let history = History::new(seed);
    let steps = 15 + history.roll(30);
    let mut removals = 0;
    for _ in 0..steps {
        history.step(0);
        // Nothing but a removal can take something away.
        let removed = lock(&history.world).removals;
        if removed != removals {
            removals = removed;
            history.holds();
        }
    }
    history.holds();
    [*lock(&history.deleted), *lock(&history.repacked)]
}

#[test]
fn whatever_happens_what_was_acknowledged_is_there() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SNAP_MODEL_SEED") {
        run(seed);
        return;
    }
    let histories = number("SNAP_MODEL").unwrap_or(300);
    let next = AtomicU64::new(0);
    let [deleted, repacked] = [0, 0].map(AtomicU64::new);
    let begun = std::time::Instant::now();
    // In the usual run both processors; for hours one, so that others can work.
    let threads = if histories > 1_000 { 1 } else { 2 };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        return;
                    }
                    match std::panic::catch_unwind(|| run(seed)) {
                        Ok(counts) => {
                            for (total, count) in [&deleted, &repacked].into_iter().zip(counts) {
                                total.fetch_add(count, Ordering::Relaxed);
                            }
                            if (seed + 1).is_multiple_of(1_000) {
                                let [deleted, repacked] =
                                    [&deleted, &repacked].map(|total| total.load(Ordering::Relaxed));
                                eprintln!(
                                    "{} histories, {deleted} objects deleted, {repacked} packs copied, {:?}",
                                    seed + 1,
                                    begun.elapsed()
                                );
                            }
                        }
                        Err(cause) => {
                            let text = cause.downcast_ref::<String>().cloned().unwrap_or_default();
                            panic!("history {seed} (SNAP_MODEL_SEED={seed}): {text}");
                        }
                    }
                }
            });
        }
    });
    let (deleted, repacked) = (deleted.into_inner(), repacked.into_inner());
    // A pruner that does nothing is safe and of no use.
    assert!(deleted > histories / 2, "only {deleted} objects were deleted in {histories} histories");
    assert!(repacked > histories / 4, "only {repacked} packs were copied in {histories} histories");
}

#[test]
fn namers_of_two_repositories_differ() {
    let first = History::new(1);
    let second = History::new(2);
    let name = |history: &History| Namer::new(history.secrets.chunk_id_key()).name(b"x");
    assert_ne!(name(&first), name(&second));
}
