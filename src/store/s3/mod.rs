//! A repository in a bucket of an S3 server.
//!
//! The promises of a store are kept as follows. An object is put in one request, or in parts that the
//! server joins in one, so it is visible whole or not at all; and it is put on the condition that
//! nothing is there. “Something is there” may be the echo of one's own earlier try, whose answer was
//! lost, so what is there is read back and compared. Bytes that come back must be as many as were asked
//! for; whole objects must fit their names, and those whose names do not tell their content must come
//! twice the same. A 404 is asked again before it is believed.
//!
//! Nothing that adds to a repository removes anything: a person who may only put, get and list can
//! `create` and `replicate`.

mod client;
mod list;
mod patience;
mod prefix;
mod send;
mod trouble;
mod upload;
mod watch;

pub use patience::{PATIENCE, PATIENCE_VARIABLE};

use super::location::Bucket;
use super::{Batch, Error, Key, Kind, Listing, Put, ReadStore, Result, Store, Upload};
use crate::monitor::{Monitor, lock};
use client::Client;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use patience::GivenUp;
use prefix::{PREFIX_BYTES, Prefixes};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use trouble::{Failure, OddAnswer};
use upload::{Content, S3Batch, S3Upload};

/// Copies of one damaged object that are kept aside.
const ASIDE_MAX: u32 = 99;
/// How often something that should be there is looked for.
const LOOKS_MAX: u32 = 3;
/// How many reads at once keep a usual line busy, each of one segment.
const READS_AT_ONCE: usize = 8;

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    shared: Arc<Shared>,
}

/// What works in the background share.
#[derive(Debug)]
struct Shared {
    client: Client,
    /// `config` and keys that were read: they are never changed, and asked for again and again.
    small: Mutex<HashMap<Key, Vec<u8>>>,
    prefixes: Mutex<Prefixes>,
}

/// What one try gives.
type Tried<T> = object_store::Result<T>;

impl S3Store {
    /// The store at `bucket`. Nothing is asked of the server yet; `monitor` is told when it is waited for.
    ///
    /// # Errors
    /// What the surroundings say of it makes no sense.
    pub fn at(bucket: &Bucket, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let client = Client::open(bucket, monitor)?;
        Ok(Self { shared: Arc::new(Shared { client, small: Mutex::default(), prefixes: Mutex::default() }) })
    }

    fn client(&self) -> &Client {
        &self.shared.client
    }
}

impl ReadStore for S3Store {
    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        if let Some(known) = lock(&self.shared.small).get(key) {
            return Ok(known.clone());
        }
        let bytes = self.client().wait(self.shared.get_proven(key))?;
        if is_small(key) {
            lock(&self.shared.small).insert(key.clone(), bytes.clone());
        }
        Ok(bytes)
    }

    fn get_range(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if buffer.is_empty() || lock(&self.shared.prefixes).fill(key, offset, buffer) {
            return Ok(());
        }
        let (shared, wanted) = (&self.shared, buffer.len() as u64);
        let found = self.client().wait(shared.get_range(key, offset, wanted));
        let short = |found| Error::Short { object: key.path(), wanted: offset + wanted, found };
        match found {
            Ok((bytes, size)) if bytes.len() as u64 == wanted => {
                buffer.copy_from_slice(&bytes);
                debug_assert!(size >= wanted);
                Ok(())
            }
            Ok((_, size)) => Err(short(size)),
            Err(GivenUp { failure: Failure::BehindTheEnd, .. }) => {
                Err(short(self.client().wait(self.shared.size(key))?.unwrap_or(0)))
            }
            Err(given_up) => Err(self.client().error("read", key.path(), given_up)),
        }
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        if !matches!(key, Key::Object(Kind::Pack, _)) {
            return self.client().wait(self.shared.size(key));
        }
        let known = lock(&self.shared.prefixes).size(key);
        if known.is_some() {
            return Ok(known);
        }
        match self.client().wait(self.shared.get_range(key, 0, PREFIX_BYTES)) {
            Ok((bytes, size)) => {
                lock(&self.shared.prefixes).keep(key, bytes, size);
                Ok(Some(size))
            }
            Err(GivenUp { failure: Failure::Missing, .. }) => Ok(None),
            // It is empty.
            Err(GivenUp { failure: Failure::BehindTheEnd, .. }) => self.client().wait(self.shared.size(key)),
            Err(given_up) => Err(self.client().error("look for", key.path(), given_up)),
        }
    }

    fn read_anew(&self, key: &Key) {
        lock(&self.shared.prefixes).forget(key);
    }

    fn list(&self, kind: Kind) -> Result<Listing> {
        let names = self.client().wait(list::below(self.client(), kind.folder()))?;
        Ok(list::of_kind(kind, names))
    }

    fn list_keys(&self) -> Result<Vec<String>> {
        let names = self.client().wait(list::below(self.client(), "keys"))?;
        Ok(names.into_keys().filter(|name| !name.contains('/')).collect())
    }

    fn address(&self) -> String {
        self.client().bucket.to_string()
    }

    fn body(&self) -> String {
        format!("{} at {}", self.address(), self.client().server)
    }

    fn reads_at_once(&self) -> usize {
        READS_AT_ONCE
    }

    fn stranger(&self) -> Result<Option<String>> {
        self.client().wait(list::stranger(self.client()))
    }
}

impl Store for S3Store {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put> {
        let content = Content::Memory(PutPayload::from(bytes.to_vec()));
        self.client().wait(self.shared.store(key, content))
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(S3Batch::new(&self.shared))
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(S3Upload::new()))
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.shared.forget(key);
        let (client, path) = (self.client(), self.client().path_of(key));
        let removed = client.wait(client.patience.repeat(0, || client.s3.delete(&path)));
        match removed {
            Ok(()) | Err(GivenUp { failure: Failure::Missing, .. }) => Ok(()),
            Err(given_up) => Err(client.error("remove", key.path(), given_up)),
        }
    }

    fn keep_aside(&self, key: &Key) -> Result<String> {
        let client = self.client();
        let bytes = client.wait(self.shared.get(key))?;
        let payload = PutPayload::from(bytes);
        // One more than an interrupted run has made does no harm.
        for number in 1..=ASIDE_MAX {
            let aside = key.path_aside(number);
            match client.wait(self.shared.put_once(&client.path(&aside), &payload)) {
                Ok(()) => return Ok(aside),
                Err(GivenUp { failure: Failure::Exists, .. }) => {}
                Err(given_up) => return Err(client.error("keep a copy of", key.path(), given_up)),
            }
        }
        Err(Error::Altered { object: key.path_aside(ASIDE_MAX) })
    }

    fn overwrite(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.shared.forget(key);
        let (client, path) = (self.client(), self.client().path_of(key));
        let payload = PutPayload::from(bytes.to_vec());
        let put = || client.s3.put_opts(&path, payload.clone(), PutMode::Overwrite.into());
        let done = client.wait(client.patience.repeat(bytes.len() as u64, put));
        done.map(drop).map_err(|given_up| client.error("replace", key.path(), given_up))
    }

    fn keeps_first(&self, key: &Key, bytes: &[u8]) -> Result<bool> {
        let client = self.client();
        let payload = PutPayload::from(bytes.to_vec());
        let again = client.wait(self.shared.put_once(&client.path_of(key), &payload));
        match again {
            Ok(()) => Ok(false),
            Err(GivenUp { failure: Failure::Exists, .. }) => Ok(true),
            Err(given_up) => Err(client.error("write", key.path(), given_up)),
        }
    }
}

/// True of what is small and has a name that does not tell its content.
fn is_small(key: &Key) -> bool {
    matches!(key, Key::Config | Key::KeyFile(_))
}

impl Shared {
    /// Forgets what was read of an object that is about to be another.
    fn forget(&self, key: &Key) {
        lock(&self.small).remove(key);
        lock(&self.prefixes).forget(key);
    }

    /// A slip of the line or of the server's memory is not damage; what is so twice is.
    async fn get_proven(&self, key: &Key) -> Result<Vec<u8>> {
        let mut looks = 0;
        let mut before = None;
        loop {
            looks += 1;
            match self.get(key).await {
                Ok(bytes) => {
                    let fits = matches!(key, Key::Object(_, name) if blake3::hash(&bytes).as_bytes() == name);
                    if fits || before.as_ref() == Some(&bytes) || looks > LOOKS_MAX {
                        return Ok(bytes);
                    }
                    before = Some(bytes);
                }
                Err(Error::NotFound { .. }) if looks < LOOKS_MAX => {
                    tokio::time::sleep(self.client.patience.pause(looks)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Vec<u8>> {
        let (client, path) = (&self.client, self.client.path_of(key));
        // How long it may take is known only with its size.
        let head = async || -> Tried<u64> { Ok(client.s3.head(&path).await?.size) };
        let large = matches!(key, Key::Object(Kind::Pack, _));
        let size = if large { client.patience.repeat(0, head).await } else { Ok(1 << 20) };
        let failed = |given_up| client.error("read", key.path(), given_up);
        let size = size.map_err(failed)?;
        let got = client.patience.repeat(size, || whole(client, &path)).await;
        got.map_err(failed)
    }

    /// The bytes, and the whole object's size.
    async fn get_range(&self, key: &Key, offset: u64, wanted: u64) -> std::result::Result<(Vec<u8>, u64), GivenUp> {
        let (client, path) = (&self.client, self.client.path_of(key));
        let mut looks = 0;
        loop {
            looks += 1;
            let got = client.patience.repeat(wanted, || range(client, &path, offset, wanted)).await;
            match got {
                Err(GivenUp { failure: Failure::Missing, .. }) if looks < LOOKS_MAX => {
                    tokio::time::sleep(client.patience.pause(looks)).await;
                }
                other => return other,
            }
        }
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        let (client, path) = (&self.client, self.client.path_of(key));
        match client.patience.repeat(0, || client.s3.head(&path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(GivenUp { failure: Failure::Missing, .. }) => Ok(None),
            Err(given_up) => Err(client.error("look for", key.path(), given_up)),
        }
    }
}

async fn whole(client: &Client, path: &Path) -> Tried<Vec<u8>> {
    let answer = client.s3.get_opts(path, GetOptions::default()).await?;
    let size = answer.meta.size;
    let bytes = answer.bytes().await?;
    if bytes.len() as u64 != size {
        return Err(OddAnswer(format!("{} of {size} bytes came", bytes.len())).into());
    }
    Ok(bytes.into())
}

async fn range(client: &Client, path: &Path, offset: u64, wanted: u64) -> Tried<(Vec<u8>, u64)> {
    let range = Some(GetRange::Bounded(offset..offset + wanted));
    let answer = client.s3.get_opts(path, GetOptions { range, ..GetOptions::default() }).await?;
    let (size, promised) = (answer.meta.size, answer.range.end - answer.range.start);
    let bytes = answer.bytes().await?;
    if bytes.len() as u64 != promised {
        return Err(OddAnswer(format!("{} of {promised} bytes came", bytes.len())).into());
    }
    Ok((bytes.into(), size))
}
