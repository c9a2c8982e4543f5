//! A store in memory, as one of several who share it sees it: listings lag, and any operation can fail
//! for good or let others run first.

use crate::id::object_name;
use crate::monitor::lock;
use crate::store::{Batch, Error, Key, Kind, Listed, Listing, Put, ReadStore, Result, Store, Upload};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Random numbers that can be had again.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// An object through time.
#[derive(Debug, Clone)]
struct Object {
    bytes: Vec<u8>,
    put: (u64, u8),
    removed: Option<(u64, u8)>,
}

/// Everything that all share.
#[derive(Debug)]
pub struct World {
    objects: BTreeMap<Key, Vec<Object>>,
    /// Seconds; each operation takes one.
    pub now: u64,
    /// Which run of the machine, and when it began.
    pub boot: u64,
    pub booted: u64,
    /// By how much the calendar is wrong.
    pub skew: i64,
    /// By how much a listing may lag.
    pub lag: u64,
    /// Objects that were removed.
    pub removals: u64,
    dice: Dice,
}

impl World {
    pub fn new(lag: u64, seed: u64) -> Self {
        let now = 1_790_000_000;
        Self { objects: BTreeMap::new(), now, boot: 0, booted: now, skew: 0, lag, removals: 0, dice: Dice(!seed) }
    }

    fn there(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)?.iter().rev().find(|object| object.removed.is_none())
    }
}

const SEES_ALL: u8 = 255;

type Others = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Plan {
    busy: bool,
    crash: Option<u64>,
    others: Option<(u64, Others)>,
    dead: bool,
}

/// The store of one actor.
#[derive(Clone)]
pub struct Handle {
    pub world: Arc<Mutex<World>>,
    actor: u8,
    plan: Arc<Mutex<Plan>>,
}

impl Handle {
    pub fn new(world: &Arc<Mutex<World>>, actor: u8) -> Self {
        Self { world: Arc::clone(world), actor, plan: Arc::default() }
    }

    /// One whose listings never lag.
    pub fn seeing_all(world: &Arc<Mutex<World>>) -> Self {
        Self::new(world, SEES_ALL)
    }

    pub fn is_busy(&self) -> bool {
        lock(&self.plan).busy
    }

    /// The command that begins now runs through.
    pub fn calm(&self) {
        *lock(&self.plan) = Plan { busy: true, ..Plan::default() };
    }

    /// It ends at its `at`th operation, which has no effect.
    pub fn crash_at(&self, at: u64) {
        *lock(&self.plan) = Plan { busy: true, crash: Some(at), ..Plan::default() };
    }

    /// Others run before its `at`th operation.
    pub fn interrupt_at(&self, at: u64, others: Others) {
        *lock(&self.plan) = Plan { busy: true, others: Some((at, others)), ..Plan::default() };
    }

    /// The command has ended; true if it had crashed.
    pub fn calm_down(&self) -> bool {
        std::mem::take(&mut *lock(&self.plan)).dead
    }

    fn tick(&self) -> Result<()> {
        let others = {
            let mut plan = lock(&self.plan);
            if let Some(left) = &mut plan.crash {
                if *left == 0 {
                    plan.dead = true;
                } else {
                    *left -= 1;
                }
            }
            if plan.dead {
                let source = io::Error::other("crashed");
                return Err(Error::Io { operation: "use", object: "the store".to_owned(), source });
            }
            match plan.others.take() {
                Some((0, others)) => Some(others),
                Some((left, others)) => {
                    plan.others = Some((left - 1, others));
                    None
                }
                None => None,
            }
        };
        if let Some(others) = others {
            others();
        }
        lock(&self.world).now += 1;
        Ok(())
    }
}

fn missing(key: &Key) -> Error {
    Error::NotFound { object: key.path() }
}

impl ReadStore for Handle {
    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        self.tick()?;
        lock(&self.world).there(key).map(|object| object.bytes.clone()).ok_or_else(|| missing(key))
    }

    fn get_range(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = self.get(key)?;
        let from = offset as usize;
        match bytes.get(from..from + buffer.len()) {
            Some(part) => {
                buffer.copy_from_slice(part);
                Ok(())
            }
            None => Err(Error::Short { object: key.path(), wanted: offset, found: bytes.len() as u64 }),
        }
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.tick()?;
        Ok(lock(&self.world).there(key).map(|object| object.bytes.len() as u64))
    }

    fn list(&self, wanted: Kind) -> Result<Listing> {
        self.tick()?;
        let mut world = lock(&self.world);
        let lag = world.lag;
        let seen = world.now - if lag == 0 || self.actor == SEES_ALL { 0 } else { world.dice.below(lag + 1) };
        let visible = |at: (u64, u8)| at.0 <= seen || at.1 == self.actor;
        let mut listing = Listing::default();
        for (key, versions) in &world.objects {
            if !matches!(key, Key::Object(kind, _) if *kind == wanted) {
                continue;
            }
            let object = versions.iter().rev().find(|object| visible(object.put));
            if let Some(object) = object.filter(|object| !object.removed.is_some_and(visible)) {
                listing.objects.push(Listed { key: key.clone(), bytes: object.bytes.len() as u64 });
            }
        }
        Ok(listing)
    }

    fn list_keys(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }

    fn listing_lag_seconds(&self) -> u64 {
        lock(&self.world).lag
    }
}

impl Store for Handle {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put> {
        self.tick()?;
        if let Key::Object(_, name) = key {
            assert_eq!(object_name(bytes), *name, "an object has the name of its bytes");
        }
        let mut world = lock(&self.world);
        if world.there(key).is_some() {
            return Ok(Put::Existed);
        }
        let object = Object { bytes: bytes.to_vec(), put: (world.now, self.actor), removed: None };
        world.objects.entry(key.clone()).or_default().push(object);
        Ok(Put::Created)
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Together { handle: self.clone(), objects: Vec::new() })
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(Bytes(Vec::new())))
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.tick()?;
        let mut world = lock(&self.world);
        let at = (world.now, self.actor);
        world.removals += 1;
        if let Some(versions) = world.objects.get_mut(key) {
            for object in versions.iter_mut().filter(|object| object.removed.is_none()) {
                object.removed = Some(at);
            }
        }
        Ok(())
    }
}

struct Bytes(Vec<u8>);

impl Upload for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

struct Together {
    handle: Handle,
    objects: Vec<(Key, Vec<u8>)>,
}

impl Batch for Together {
    fn add(&mut self, key: Key, upload: Box<dyn Upload>) -> Result<()> {
        match upload.into_any().downcast::<Bytes>() {
            Ok(bytes) => self.objects.push((key, bytes.0)),
            Err(_) => return Err(missing(&key)),
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        for (key, bytes) in &self.objects {
            self.handle.put(key, bytes)?;
        }
        Ok(())
    }
}
