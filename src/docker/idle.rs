//! Containers that are there only for the volumes that they have: they are never run.

use super::{Engine, Result};
use serde_json::json;

/// A container that is removed when this is dropped.
#[derive(Debug)]
pub struct Idle {
    engine: Engine,
    name: String,
}

impl Engine {
    /// Makes the container `name` with one label and `binds` (`VOLUME:PATH:OPTIONS`), of whichever image there is:
    /// nothing of it is used. One of that name that was left behind is removed first. `None` if the engine has no
    /// image at all.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn idle_container(&self, name: &str, label: (&str, &str), binds: &[String]) -> Result<Option<Idle>> {
        let idle = Idle { engine: self.clone(), name: name.to_owned() };
        idle.remove()?;
        let Some(image) = self.images()?.into_iter().next() else { return Ok(None) };
        let description = json!({
            "Image": image.id, "Cmd": ["never"], "Labels": { label.0: label.1 },
            "HostConfig": { "NetworkMode": "none", "Binds": binds, "RestartPolicy": { "Name": "no" } },
        });
        self.create_container(name, &description)?;
        Ok(Some(idle))
    }
}

impl Idle {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn remove(&self) -> Result<()> {
        match self.engine.remove_container(&self.name, true, true) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // The next one of its name is preceded by its removal.
        let _left = self.remove();
    }
}
