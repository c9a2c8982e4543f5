//! Index objects: writing one, and writing anew what a lost one listed.
//!
//! A pack says itself what it holds, so a lost index object loses nothing to an owner: the next run
//! that writes reads the footers of the packs that snapshots need and no index lists any more.

use super::manifest::Need;
use super::sync::Chain;
use super::{Error, Repository, Result};
use crate::crypto;
use crate::id::{IndexId, PackId, object_name};
use crate::monitor::{Monitor, Quiet, Unit, Warning};
use crate::pack::{Footer, IndexedPack, PackReader, encode_index};
use crate::store::Key;
use std::collections::{BTreeSet, HashMap, HashSet};

impl Repository {
    /// Stores an index object that lists `packs`, and gives its size in bytes.
    pub(super) fn put_index(&self, packs: &[IndexedPack]) -> Result<u64> {
        let plain = encode_index(packs)?;
        let sealed = crypto::seal::seal(&[self.secrets.index_recipient()], &plain)
            .map_err(|source| Error::Crypto { object: "cannot seal an index object".to_owned(), source })?;
        let id = IndexId(object_name(&sealed));
        self.store.put(&Key::from(id), &sealed)?;
        self.catalog.add_index(id, packs)?;
        Ok(sealed.len() as u64)
    }

    /// Packs that are there, that no index lists, and that have what was in the packs `gone`.
    pub(super) fn moved_from(
        &self,
        gone: &BTreeSet<PackId>,
        sizes: &HashMap<PackId, u64>,
        listed: &HashSet<PackId>,
        monitor: &dyn Monitor,
    ) -> Result<Vec<IndexedPack>> {
        let mut found = Vec::new();
        if gone.is_empty() {
            return Ok(found);
        }
        for (id, sealed_bytes) in sizes.iter().filter(|(id, _)| !listed.contains(*id)) {
            if monitor.cancelled() {
                return Err(Error::Interrupted);
            }
            let footer = match self.footer_of(*id) {
                Ok(footer) => footer,
                Err(crate::pack::Error::Store(error)) if error.is_outage() => return Err(error.into()),
                // Whatever it is, it is of no use here.
                Err(_) => continue,
            };
            if footer.segments.iter().flat_map(|segment| &segment.origins).any(|from| gone.contains(&from.pack)) {
                found.push(IndexedPack { id: *id, sealed_bytes: *sealed_bytes, footer });
            }
        }
        Ok(found)
    }

    fn footer_of(&self, id: PackId) -> crate::pack::Result<Footer> {
        PackReader::open(&*self.store, id, &self.secrets.data_identities())?.footer(&*self.store)
    }

    pub(super) fn listed_packs(&self) -> Result<HashSet<PackId>> {
        Ok(self.catalog.packs()?.into_iter().map(|pack| pack.id).collect())
    }

    /// Lists again the packs that a snapshot needs, that are there (`sizes`), and that no index lists.
    ///
    /// Packs that no snapshot needs are left alone: another run may be about to list them, or somebody
    /// may be about to delete them. A writer cannot read what a pack holds, and leaves all of them.
    pub(super) fn relist(&self, sizes: &HashMap<PackId, u64>, monitor: &dyn Monitor) -> Result<()> {
        let listed = self.listed_packs()?;
        if sizes.keys().all(|id| listed.contains(id)) || self.require_owner("read packs").is_err() {
            return Ok(());
        }
        let set = self.snapshots()?;
        // Another run may have committed since the index objects were read. It put its own before its manifest.
        self.sync_indexes(&Quiet::default())?;
        let listed = self.listed_packs()?;
        let needs = set.snapshots.iter().chain(&set.forgotten).flat_map(|snapshot| &snapshot.manifest.needs);
        let needs: Vec<&Need> = needs.collect();
        let needed = self.packs_of(&needs, &|id| sizes.contains_key(id))?;
        let (lost, gone): (BTreeSet<PackId>, BTreeSet<PackId>) =
            needed.into_iter().filter(|id| !listed.contains(id)).partition(|id| sizes.contains_key(id));
        let mut found = self.moved_from(&gone, sizes, &listed, monitor)?;
        if lost.is_empty() && found.is_empty() {
            return Ok(());
        }
        let lost: Vec<(PackId, u64)> =
            lost.into_iter().filter_map(|id| sizes.get(&id).map(|bytes| (id, *bytes))).collect();
        monitor.phase("index", Unit::Items, Some(lost.len() as u64));
        for (id, sealed_bytes) in lost {
            match self.footer_of(id) {
                Ok(footer) => found.push(IndexedPack { id, sealed_bytes, footer }),
                Err(crate::pack::Error::Store(error)) if error.is_outage() => return Err(error.into()),
                Err(error) => monitor.warn(&Warning::note(Key::from(id).path(), Chain(&error).to_string())),
            }
            monitor.advance(1);
        }
        for group in super::writer::groups(&found) {
            self.put_index(group)?;
        }
        let message = format!("no index listed {} packs that snapshots need; they are listed again", found.len());
        monitor.warn(&Warning::note("index", message));
        Ok(())
    }
}
