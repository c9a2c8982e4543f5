//! What the engine says of a project: its containers, volumes and images, at one moment.

use super::Result;
use crate::docker::{Container, ContainerSummary, Engine, Image, Status, Volume};
use std::collections::BTreeMap;

/// Labels by which Compose knows what is its own.
pub const PROJECT: &str = "com.docker.compose.project";
/// The service of a container.
pub const SERVICE: &str = "com.docker.compose.service";
/// Which of a service's containers it is.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True` for containers of `run`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// The folder from which the project was started.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The files with which it was started.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The env files with which it was started.
pub const ENV_FILES: &str = "com.docker.compose.project.environment_file";
/// The version of the tool that started it.
pub const TOOL_VERSION: &str = "com.docker.compose.version";

/// What the engine says.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The engine.
    pub engine: Engine,
    /// True if its files can be read here.
    pub local: bool,
    /// The project's containers, those of `run` included.
    pub containers: Vec<Container>,
    /// All other containers.
    pub others: Vec<ContainerSummary>,
    /// All volumes by name.
    pub volumes: BTreeMap<String, Volume>,
    /// The images that the project names or runs, by what was asked for.
    pub images: BTreeMap<String, Image>,
}

impl Observed {
    /// Asks `engine` for what belongs to `project`; `all` are all its containers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn of(engine: Engine, project: &str, all: Vec<ContainerSummary>) -> Result<Self> {
        let own = |found: &ContainerSummary| found.labels.get(PROJECT).is_some_and(|name| name == project);
        let (mine, others): (Vec<_>, Vec<_>) = all.into_iter().partition(own);
        let mut containers = Vec::new();
        for found in mine {
            match engine.container(&found.id) {
                Ok(container) => containers.push(container),
                // It has gone since.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        containers.sort_by_key(|c| (service_of(c).to_owned(), number_of(c), c.name.clone()));
        let local = engine.is_local()?;
        let volumes = engine.volumes()?.into_iter().map(|volume| (volume.name.clone(), volume)).collect();
        Ok(Self { engine, local, containers, others, volumes, images: BTreeMap::new() })
    }

    /// Looks up `image`, by name or id; `None` if the engine does not have it.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn look_up(&mut self, image: &str) -> Result<Option<&Image>> {
        if !self.images.contains_key(image) {
            match self.engine.image(image) {
                Ok(found) => {
                    self.images.insert(image.to_owned(), found);
                }
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.images.get(image))
    }

    /// The containers of a service, without those of `run`.
    pub fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Container> + 'a {
        self.containers.iter().filter(move |c| service_of(c) == service && !is_one_off(c))
    }
}

/// The service of a container; empty if it has none.
pub fn service_of(container: &Container) -> &str {
    container.labels.get(SERVICE).map_or("", String::as_str)
}

/// Which of its service's containers it is.
pub fn number_of(container: &Container) -> u32 {
    container.labels.get(NUMBER).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// True for a container of `run`.
pub fn is_one_off(container: &Container) -> bool {
    container.labels.get(ONE_OFF).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// True if its processes exist, or will in a moment.
pub fn is_active(status: Status) -> bool {
    matches!(status, Status::Running | Status::Paused | Status::Restarting)
}
