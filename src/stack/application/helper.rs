//! A container that is there only so that a volume can be read through it.

use crate::docker::{Engine, Idle};
use std::io;

/// Where it has the volume.
pub(super) const PLACE: &str = "/snap-volume";

/// Makes one that has `volume`. Its name is the same each time, so that one that was left behind is found.
///
/// # Errors
/// The engine has no image to make it of, or refuses.
pub(super) fn begin(engine: &Engine, volume: &str) -> io::Result<Idle> {
    let sum = blake3::hash(volume.as_bytes()).to_hex();
    let name = format!("snap-read-{}", &sum.as_str()[..16]);
    let binds = [format!("{volume}:{PLACE}:ro,nocopy")];
    let made = engine.idle_container(&name, ("snap.reads", volume), &binds).map_err(io::Error::other)?;
    made.ok_or_else(|| io::Error::other("the engine has no image to make a container of"))
}
