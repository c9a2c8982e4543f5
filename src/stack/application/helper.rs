//! A container that is there only so that a volume can be read through it: it is never run.

use crate::docker::{Engine, Result};
use serde_json::json;
use std::io;

/// Where it has the volume.
const PLACE: &str = "/snap-volume";

/// The container, until this is dropped.
pub(super) struct Helper<'e> {
    engine: &'e Engine,
    /// Its name: the same each time, so that one that was left behind is found.
    pub(super) name: String,
}

impl<'e> Helper<'e> {
    /// Makes one that has `volume`.
    ///
    /// # Errors
    /// The engine has no image to make it of, or refuses.
    pub(super) fn begin(engine: &'e Engine, volume: &str) -> io::Result<Self> {
        let sum = blake3::hash(volume.as_bytes()).to_hex();
        let helper = Self { engine, name: format!("snap-read-{}", &sum.as_str()[..16]) };
        helper.remove().map_err(io::Error::other)?;
        let image = engine.images().map_err(io::Error::other)?.into_iter().next();
        let image = image.ok_or_else(|| io::Error::other("the engine has no image to make a container of"))?;
        let description = json!({
            "Image": image.id, "Cmd": ["never"], "Labels": { "snap.reads": volume },
            "HostConfig": { "NetworkMode": "none", "Binds": [format!("{volume}:{PLACE}:ro,nocopy")] },
        });
        engine.create_container(&helper.name, &description).map_err(io::Error::other)?;
        Ok(helper)
    }

    /// Where it has the volume.
    pub(super) fn place(&self) -> &'static str {
        PLACE
    }

    fn remove(&self) -> Result<()> {
        match self.engine.remove_container(&self.name, true, true) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        // The next one removes it first.
        let _left = self.remove();
    }
}
