//! Whether an engine's files are this host's files.
//!
//! A socket may lead to another host (forwarded by ssh) or into a virtual machine, and the engine's
//! folder may exist here all the same, with another engine's data in it. So a folder of the right
//! name is not enough: what the engine says must lie in it. From 23.0 on the engine writes its id
//! there. Before, what it lists is looked for: names of containers, of image configurations and of
//! volumes. Ids are random, and one that is found is proof. An engine that has nothing at all proves
//! nothing, and nothing would be read from it.

use super::{Endpoint, Engine, Info, Result};
use std::path::Path;

impl Engine {
    /// True if the engine's data folder is a folder of this host that this user can read. What was
    /// proven is remembered.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn is_local(&self) -> Result<bool> {
        if let Some(known) = self.inner.local.get() {
            return Ok(*known);
        }
        if !matches!(self.endpoint(), Endpoint::Unix(_)) {
            return Ok(*self.inner.local.get_or_init(|| false));
        }
        let info = self.info()?;
        let verdict = self.verdict(&info)?;
        if let Some(local) = verdict {
            self.inner.local.get_or_init(|| local);
        }
        Ok(verdict.unwrap_or(false))
    }

    /// `None` if nothing is proven either way.
    fn verdict(&self, info: &Info) -> Result<Option<bool>> {
        if !info.root_dir.is_absolute() || std::fs::read_dir(&info.root_dir).is_err() {
            return Ok(Some(false));
        }
        if let Ok(id) = std::fs::read_to_string(info.root_dir.join("engine-id")) {
            return Ok(Some(!info.id.is_empty() && id.trim() == info.id));
        }
        let mut places = Vec::new();
        for container in self.containers(&[])? {
            places.push(info.root_dir.join("containers").join(container.id));
        }
        let configurations = info.root_dir.join("image").join(&info.storage_driver).join("imagedb/content/sha256");
        for image in self.images()? {
            places.push(configurations.join(image.id.trim_start_matches("sha256:")));
        }
        if let Some(found) = any_is_there(&places) {
            return Ok(Some(found));
        }
        let volumes: Vec<_> = self.volumes()?.into_iter().filter(|volume| volume.driver == "local").collect();
        let places: Vec<_> = volumes.into_iter().map(|volume| volume.mountpoint).collect();
        Ok(any_is_there(&places))
    }
}

/// `None` without places. One that is gone since the listing does not matter.
fn any_is_there(places: &[impl AsRef<Path>]) -> Option<bool> {
    if places.is_empty() {
        return None;
    }
    Some(places.iter().any(|place| place.as_ref().exists()))
}
