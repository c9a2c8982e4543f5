//! Whether manifests are in the store as the catalog remembers them.
//!
//! The catalog keeps every manifest that was read once, and what only lists or restores may rely on it: an
//! object never changes. Who forgets or deletes must not. There the damage of a manifest, which hides behind
//! what is remembered of it, would cost the snapshots that were to be spared by it.

use super::sync::{SnapshotSet, Unreadable};
use super::{Repository, Result};
use crate::id::{SnapshotId, object_name};
use crate::store::{self, Key};

impl Repository {
    /// Reads the manifests of those snapshots of `set` that are `wanted` from the store. One whose bytes do not
    /// fit its name counts as unreadable from here on; what the catalog knows of it is among `set.damaged`.
    /// Forgotten ones are left alone: nothing relies on them.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn prove(&self, set: &mut SnapshotSet, wanted: &dyn Fn(&SnapshotId) -> bool) -> Result<()> {
        let mut sound = Vec::new();
        for snapshot in std::mem::take(&mut set.snapshots) {
            match wanted(&snapshot.id) && self.is_altered(snapshot.id)? {
                true => set.damaged.push(snapshot),
                false => sound.push(snapshot),
            }
        }
        set.snapshots = sound;
        for id in set.damaged.iter().map(|snapshot| snapshot.id) {
            if !set.unreadable.iter().any(|one| one.id == id) {
                let message = "its bytes do not fit its name".to_owned();
                set.unreadable.push(Unreadable { id, message, newer: false });
            }
        }
        Ok(())
    }

    fn is_altered(&self, id: SnapshotId) -> Result<bool> {
        match self.store.get(&Key::from(id)) {
            Ok(sealed) => Ok(object_name(&sealed) != id.0),
            // It went between the listing and this; the next listing misses it.
            Err(store::Error::NotFound { .. }) => Ok(false),
            Err(error) if error.is_outage() => Err(error.into()),
            Err(_) => Ok(true),
        }
    }
}
