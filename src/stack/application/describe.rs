//! What a manifest says of the project and its services: all that a restore needs to run it again.

use super::Project;
use super::images::named;
use super::observe::{is_active, is_one_off, service_of};
use super::select::Stops;
use crate::docker::{Container, Health, Status, published_ports};
use crate::repo::manifest::{ContainerEntry, ProjectEntry, ServiceEntry};

/// Describes the project as it was before anything was stopped.
pub fn describe(project: &Project, stops: &Stops) -> ProjectEntry {
    let selection = &project.selection;
    let shown = |paths: &[std::path::PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    let engine = match &project.observed {
        Ok(observed) => format!("Docker {} (API {})", observed.engine.version(), observed.engine.api()),
        Err(_) => String::new(),
    };
    let compose = project.tool.as_ref().map(|tool| format!("{} {}", tool.name(), tool.version));
    ProjectEntry {
        name: project.model.name.clone(),
        directory: selection.directory.display().to_string(),
        files: shown(&selection.files),
        env_files: shown(&selection.env_files),
        profiles: selection.profiles.clone(),
        arguments: arguments(project),
        compose: compose.unwrap_or_default(),
        engine,
        services: project.order.iter().map(|name| service(project, name, stops)).collect(),
    }
}

/// The arguments that mean this project from anywhere, with its name said.
fn arguments(project: &Project) -> Vec<String> {
    let mut selection = project.selection.clone();
    selection.project = Some(project.model.name.clone());
    selection.directory = selection.base().to_path_buf();
    selection.pin_directory = true;
    selection.arguments().into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn service(project: &Project, name: &str, stops: &Stops) -> ServiceEntry {
    let model = project.model.services.get(name);
    let containers: Vec<&Container> = match &project.observed {
        Ok(observed) => observed.containers.iter().filter(|c| service_of(c) == name && !is_one_off(c)).collect(),
        Err(_) => Vec::new(),
    };
    let count = |test: &dyn Fn(&Container) -> bool| {
        u32::try_from(containers.iter().filter(|container| test(container)).count()).unwrap_or(u32::MAX)
    };
    ServiceEntry {
        name: name.to_owned(),
        image: named(project, name, model.map_or("", |model| &model.image)),
        image_id: containers.first().map_or_else(String::new, |container| container.image_id.clone()),
        running: count(&|container| is_active(container.state.status)),
        healthy: count(&|container| container.state.health == Some(Health::Healthy)),
        stopped: stops.stop.contains(name),
        paused: stops.pause.contains(name),
        depends_on: model.map(|model| model.depends_on.keys().cloned().collect()).unwrap_or_default(),
        containers: containers.iter().map(|container| entry(container)).collect(),
    }
}

fn entry(container: &Container) -> ContainerEntry {
    let health = container.state.health.map(|health| match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
        Health::None => "none",
    });
    ContainerEntry {
        name: container.name.clone(),
        state: status_word(container.state.status).to_owned(),
        health: health.map(str::to_owned),
        exit_code: (!is_active(container.state.status)).then_some(container.state.exit_code),
        image_id: container.image_id.clone(),
        ports: published_ports(&container.host_config.0),
    }
}

/// A container's state in the engine's own word.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Removing => "removing",
        Status::Exited => "exited",
        Status::Dead => "dead",
        Status::Unknown => "unknown",
    }
}
