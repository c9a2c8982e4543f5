//! Volumes whose content lies where no folder can take another's place: those with options of the local driver, and those of
//! other drivers. They are mounted for as long as a restore is at work, by a container that never runs, and what differs in
//! them changes places name by name within them, as in a folder of the host.

use super::services::engine_error;
use super::{Error, Result, Staged};
use crate::docker::{Engine, Hold, Idle};
use crate::fs::is_mount_point;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Volumes that are mounted until this is dropped.
#[derive(Debug)]
pub struct Held {
    /// Before the container: until the volumes are given up the engine does nothing with it.
    _hold: Hold,
    _container: Idle,
    places: BTreeMap<String, PathBuf>,
}

impl Held {
    /// Has `volumes` mounted for the restore `restore` of `project`.
    ///
    /// # Errors
    /// The engine has no image to make a container of, a volume cannot be mounted, or is not seen on this host then.
    pub fn begin(engine: &Engine, project: &str, restore: &str, volumes: &[String]) -> Result<Self> {
        let name = format!("snap-restore-{restore}-held");
        let failed = |error: crate::docker::Error| engine_error(&format!("container {name}"), &error);
        let binds: Vec<String> =
            volumes.iter().enumerate().map(|(number, name)| format!("{name}:/snap-held/{number}:nocopy")).collect();
        let made = engine.idle_container(&name, ("snap.restore-of", project), &binds).map_err(failed)?;
        let container = made.ok_or_else(|| Error::Engine {
            subject: format!("volume {}", volumes.join(", ")),
            message: "it is mounted only while a container uses it, and the engine has no image to make one of"
                .to_owned(),
        })?;
        let hold = engine.hold_volumes(container.name()).map_err(|error| engine_error(&volumes.join(", "), &error))?;
        let places = volumes.iter().map(|name| Ok((name.clone(), place_of(engine, name)?))).collect::<Result<_>>()?;
        Ok(Self { _hold: hold, _container: container, places })
    }

    /// The same for a restore that was interrupted, by what it had announced; volumes that are gone are left out.
    ///
    /// # Errors
    /// As [`Held::begin`].
    pub fn again(engine: &Engine, project: &str, restore: &str, staged: &[Staged]) -> Result<Option<Self>> {
        let named = staged.iter().filter_map(|staged| match staged {
            Staged::Held(volumes) => Some(volumes),
            _ => None,
        });
        let mut volumes = Vec::new();
        for name in named.flatten() {
            match engine.volume(name) {
                Ok(_) => volumes.push(name.clone()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(engine_error(name, &error)),
            }
        }
        if volumes.is_empty() { Ok(None) } else { Self::begin(engine, project, restore, &volumes).map(Some) }
    }

    /// Where the content of `volume` is on this host.
    pub fn place(&self, volume: &str) -> Option<&Path> {
        self.places.get(volume).map(PathBuf::as_path)
    }
}

fn place_of(engine: &Engine, name: &str) -> Result<PathBuf> {
    let refused = |message: String| Error::Engine { subject: format!("volume {name}"), message };
    let found = engine.volume(name).map_err(|error| refused(error.to_string()))?;
    let path = &found.mountpoint;
    if found.driver == "local" && !is_mount_point(path) {
        return Err(refused(format!("the engine has mounted it where it is not seen here ({})", path.display())));
    }
    match std::fs::canonicalize(path) {
        Ok(path) if path.is_dir() => Ok(path),
        _ => Err(refused(format!("its driver keeps it where it is not seen here ({})", path.display()))),
    }
}
