//! Which images belong to a project: what its containers run, and what its services name.
//!
//! Both are kept where they differ: the containers run what was right, and the tag may have moved since.

use super::Result;
use super::observe::{Observed, is_one_off, service_of};
use super::plan::ImageItem;
use super::project::Project;
use std::collections::{BTreeMap, BTreeSet};

/// What a service names and the engine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The name.
    pub image: String,
    /// The service.
    pub service: String,
    /// True if containers of the service exist.
    pub has_containers: bool,
}

/// The images of the project by id, and those that the engine does not have.
///
/// # Errors
/// The engine does not answer.
pub fn find(project: &Project, observed: &mut Observed) -> Result<(Vec<ImageItem>, Vec<Absent>)> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in observed.containers.iter().filter(|container| !is_one_off(container)) {
        wanted.entry(container.image_id.clone()).or_default().insert(service_of(container).to_owned());
    }
    for (name, service) in &project.model.services {
        let image = named(project, name, &service.image);
        wanted.entry(image).or_default().insert(name.clone());
    }
    let (mut items, mut absent) = (BTreeMap::<String, ImageItem>::new(), Vec::new());
    for (image, services) in wanted {
        let Some(found) = observed.look_up(&image)?.cloned() else {
            for service in services {
                let has_containers = observed.of_service(&service).next().is_some();
                absent.push(Absent { image: image.clone(), service, has_containers });
            }
            continue;
        };
        let id = found.id.clone();
        let item = items.entry(id).or_insert_with(|| ImageItem {
            image: found,
            names: BTreeSet::new(),
            services: BTreeSet::new(),
        });
        if !image.starts_with("sha256:") {
            item.names.insert(image);
        }
        item.services.extend(services);
    }
    // What is built here is not missed as long as nothing runs it.
    absent.retain(|absent| absent.has_containers || !absent.image.is_empty());
    Ok((items.into_values().collect(), absent))
}

/// The image's name: as it is given, or as the tool names what it builds.
pub fn named(project: &Project, service: &str, image: &str) -> String {
    if !image.is_empty() {
        return image.to_owned();
    }
    let separator = if project.tool.as_ref().is_none_or(|tool| tool.plugin) { '-' } else { '_' };
    format!("{}{separator}{service}", project.model.name)
}
