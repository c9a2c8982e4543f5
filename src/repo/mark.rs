//! Marks and records of removals: what owners have said of deletions. docs/FORMAT.md §8.1.
//!
//! Nothing in a repository is changed, and what is deleted is deleted in steps that others can see:
//!
//! - a **mark** says what is to be deleted, or that it is not after all. A forgotten snapshot is there
//!   until `prune` has removed it, and can be taken back by another mark;
//! - a **record of a removal** says what was deleted: which snapshots, and which ones they followed.
//!   So the chain of a stack stays whole, and a removed snapshot cannot be taken for a hidden one.
//!
//! Both carry the MAC that every document carries, and a proof that only owners can make: a writer,
//! who may be a machine in somebody else's hands, can delete nothing by writing one. An owner ignores
//! marks without that proof. A writer cannot tell, and takes them as they are: it deletes nothing.

use super::signed::{sign_by_owner, verify, verify_owner};
use super::sync::Chain;
use super::{Error, Repository, Result};
use crate::crypto;
use crate::id::{MarkId, PackId, RemovalId, RepositoryId, SnapshotId, object_name, to_hex};
use crate::limits::MARK_BYTES_MAX;
use crate::store::{Key, Kind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The version that this snap writes.
const VERSION: u32 = 1;

/// A snapshot that somebody wants no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenSnapshot {
    /// Which.
    pub id: SnapshotId,
    /// Why, for people.
    pub reason: String,
}

/// A forgotten snapshot that is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeletedSnapshot {
    /// Which.
    pub id: SnapshotId,
    /// The mark that forgot it.
    pub mark: MarkId,
}

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "lowercase")]
pub enum Act {
    /// Snapshots are not wanted any more.
    Forget {
        /// Which, and why.
        snapshots: Vec<ForgottenSnapshot>,
        /// Snapshots that looked wrong (much smaller than before, of another time) and that a person
        /// has confirmed.
        accepted: Vec<SnapshotId>,
    },
    /// They are wanted after all.
    Undelete {
        /// Which.
        snapshots: Vec<UndeletedSnapshot>,
    },
    /// Phase one of a deletion: nothing new is built on these packs.
    Delete {
        /// Forgotten snapshots to be removed.
        snapshots: Vec<SnapshotId>,
        /// Packs that no other snapshot needs.
        packs: Vec<PackId>,
        /// The snapshots that were there: whoever deletes must see each of them, or its removal.
        seen: Vec<SnapshotId>,
        /// True if a person has confirmed that so much is to go.
        confirmed: bool,
    },
    /// Phase two: these are being deleted now, unless they turn out to be needed.
    Sweep {
        /// Forgotten snapshots.
        snapshots: Vec<SnapshotId>,
        /// Packs.
        packs: Vec<PackId>,
    },
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    version: u32,
    requires: Vec<String>,
    repository: RepositoryId,
    /// When it was made, RFC 3339, for people.
    pub time: String,
    /// On which host.
    pub host: String,
    /// With which key.
    pub key: String,
    /// What it says.
    #[serde(flatten)]
    pub act: Act,
}

/// The place of a removed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Its id.
    pub id: SnapshotId,
    /// The snapshots that it followed.
    pub predecessors: Vec<SnapshotId>,
    /// When its capture began.
    pub time: String,
    /// Its host.
    pub host: String,
    /// Its stack.
    pub stack: String,
}

/// The record of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    version: u32,
    requires: Vec<String>,
    repository: RepositoryId,
    /// When it was made, RFC 3339, for people.
    pub time: String,
    /// Snapshots that were removed.
    pub snapshots: Vec<Tombstone>,
    /// As in [`Act::Forget`].
    pub accepted: Vec<SnapshotId>,
}

/// Who writes a mark, and when.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The time, RFC 3339.
    pub time: String,
    /// The host.
    pub host: String,
}

/// A kind of document in a folder of its own.
trait Document: DeserializeOwned {
    const KIND: Kind;
    const DOMAIN: &'static str;
    fn head(&self) -> (u32, &[String], RepositoryId);
}

impl Document for Mark {
    const KIND: Kind = Kind::Mark;
    const DOMAIN: &'static str = "mark";
    fn head(&self) -> (u32, &[String], RepositoryId) {
        (self.version, &self.requires, self.repository)
    }
}

impl Document for Removal {
    const KIND: Kind = Kind::Removal;
    const DOMAIN: &'static str = "removal";
    fn head(&self) -> (u32, &[String], RepositoryId) {
        (self.version, &self.requires, self.repository)
    }
}

/// A mark or record that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its path in the repository.
    pub object: String,
    /// Why.
    pub message: String,
    /// True if a newer snap wrote it.
    pub newer: bool,
}

/// All that is known of deletions.
#[derive(Debug, Default)]
pub struct Marks {
    /// The marks that count.
    pub marks: BTreeMap<MarkId, Mark>,
    /// The records that count.
    pub removals: BTreeMap<RemovalId, Removal>,
    /// What does not count: unreadable, or not an owner's.
    pub unread: Vec<Unread>,
}

impl Marks {
    /// The forgotten snapshots, each with the marks that say so and the reason of the first.
    pub fn forgotten(&self) -> BTreeMap<SnapshotId, (Vec<MarkId>, &str)> {
        let mut undone = HashSet::new();
        for mark in self.marks.values() {
            if let Act::Undelete { snapshots } = &mark.act {
                undone.extend(snapshots.iter().map(|one| (one.id, one.mark)));
            }
        }
        let mut out: BTreeMap<SnapshotId, (Vec<MarkId>, &str)> = BTreeMap::new();
        for (id, mark) in &self.marks {
            let Act::Forget { snapshots, .. } = &mark.act else { continue };
            for one in snapshots.iter().filter(|one| !undone.contains(&(one.id, *id))) {
                out.entry(one.id).or_insert_with(|| (Vec::new(), &one.reason)).0.push(*id);
            }
        }
        out
    }

    /// The removed snapshots.
    pub fn removed(&self) -> BTreeMap<SnapshotId, Tombstone> {
        self.removals.values().flat_map(|record| &record.snapshots).map(|one| (one.id, one.clone())).collect()
    }

    /// Snapshots that looked wrong and that a person has confirmed.
    pub fn accepted(&self) -> BTreeSet<SnapshotId> {
        let by_marks = self.marks.values().filter_map(|mark| match &mark.act {
            Act::Forget { accepted, .. } => Some(accepted),
            _ => None,
        });
        by_marks.chain(self.removals.values().map(|record| &record.accepted)).flatten().copied().collect()
    }
}

impl Repository {
    /// Everything under `marks` and `removed` that counts, and what does not.
    ///
    /// # Errors
    /// A listing fails, or the catalog does.
    pub fn marks(&self) -> Result<Marks> {
        let mut out = Marks::default();
        for (name, mark) in self.read_documents::<Mark>(&mut out.unread)? {
            out.marks.insert(MarkId(name), mark);
        }
        for (name, record) in self.read_documents::<Removal>(&mut out.unread)? {
            out.removals.insert(RemovalId(name), record);
        }
        Ok(out)
    }

    fn read_documents<D: Document>(&self, unread: &mut Vec<Unread>) -> Result<Vec<([u8; 32], D)>> {
        let mut out = Vec::new();
        for object in self.store.list(D::KIND)?.objects {
            let Key::Object(_, name) = object.key else { continue };
            match self.read_document::<D>(&name) {
                Ok(document) => out.push((name, document)),
                // It went between the two calls; what it said has been done or is said elsewhere.
                Err(Error::Store(crate::store::Error::NotFound { .. })) => {}
                Err(error @ Error::Catalog(_)) => return Err(error),
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => unread.push(Unread {
                    object: object.key.path(),
                    message: Chain(&error).to_string(),
                    newer: error.is_newer(),
                }),
            }
        }
        Ok(out)
    }

    /// One document, from the catalog if that has it: it never changes.
    fn read_document<D: Document>(&self, name: &[u8; 32]) -> Result<D> {
        let key = Key::Object(D::KIND, *name);
        let object = key.path();
        let kept = format!("{}/{}", D::KIND.folder(), to_hex(name));
        let known = self.catalog.value(&kept)?;
        let document = match &known {
            Some(document) => document.clone(),
            None => {
                let plain = self.open_sealed(&key, name, MARK_BYTES_MAX)?;
                decompress(&object, &plain)?
            }
        };
        let forged = || Error::Forged { object: object.clone() };
        if !verify(&document, &self.secrets.mac_key(), D::DOMAIN) {
            return Err(forged());
        }
        if let Some(owner) = self.secrets.owner_key()
            && !verify_owner(&document, &owner, D::DOMAIN)
        {
            return Err(Error::NotByOwner { object });
        }
        let decoded = decode::<D>(&object, &document)?;
        if decoded.head().2 != self.id() {
            return Err(forged());
        }
        if known.is_none() {
            self.catalog.set_value(&kept, &document)?;
        }
        Ok(decoded)
    }

    fn put_document<D: Document + Serialize>(&self, document: &D) -> Result<[u8; 32]> {
        let noun = D::KIND.noun();
        let Some(owner) = self.secrets.owner_key() else {
            return Err(Error::NotOwner { key: self.key_name.clone(), operation: "delete" });
        };
        let signed = sign_by_owner(document, &self.secrets.mac_key(), &owner, D::DOMAIN)
            .map_err(|source| Error::Json { object: format!("a {noun}"), source })?;
        let plain = zstd::bulk::compress(&signed, 3).map_err(|source| Error::Compress { source })?;
        let sealed = crypto::seal::seal(&[self.secrets.index_recipient()], &plain)
            .map_err(|source| Error::Crypto { object: format!("cannot seal a {noun}"), source })?;
        let name = object_name(&sealed);
        self.store.put(&Key::Object(D::KIND, name), &sealed)?;
        Ok(name)
    }

    /// Publishes a mark; durable on return.
    ///
    /// # Errors
    /// The key at hand is a writer's; the store refuses.
    pub(super) fn put_mark(&self, stamp: &Stamp, act: Act) -> Result<MarkId> {
        let mark = Mark {
            version: VERSION,
            requires: Vec::new(),
            repository: self.id(),
            time: stamp.time.clone(),
            host: stamp.host.clone(),
            key: self.key_name.clone(),
            act,
        };
        self.put_document(&mark).map(MarkId)
    }

    /// Publishes the record of a removal; durable on return.
    ///
    /// # Errors
    /// The key at hand is a writer's; the store refuses.
    pub(super) fn put_removal(
        &self,
        stamp: &Stamp,
        snapshots: Vec<Tombstone>,
        accepted: Vec<SnapshotId>,
    ) -> Result<RemovalId> {
        let (version, requires, repository) = (VERSION, Vec::new(), self.id());
        let record = Removal { version, requires, repository, time: stamp.time.clone(), snapshots, accepted };
        self.put_document(&record).map(RemovalId)
    }
}

fn decompress(object: &str, plain: &[u8]) -> Result<Vec<u8>> {
    let damaged = |what: String| Error::Damaged { object: object.to_owned(), what };
    match zstd::zstd_safe::get_frame_content_size(plain) {
        Ok(Some(len)) if len <= MARK_BYTES_MAX as u64 => {
            zstd::bulk::decompress(plain, len as usize).map_err(|e| damaged(e.to_string()))
        }
        _ => Err(damaged("it is not a zstd frame of a possible size".to_owned())),
    }
}

fn decode<D: Document>(object: &str, document: &[u8]) -> Result<D> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
        #[serde(default)]
        requires: Vec<String>,
    }
    let damaged = |error: serde_json::Error| Error::Damaged { object: object.to_owned(), what: error.to_string() };
    let head: Head = serde_json::from_slice(document).map_err(damaged)?;
    if head.version > VERSION || !head.requires.is_empty() {
        return Err(Error::Newer { object: object.to_owned() });
    }
    serde_json::from_slice(document).map_err(damaged)
}
