//! What becomes of services beside their content: how many containers of each run, what they are called, and whether the
//! networks that others have made are there.

use super::origin::Origin;
use super::services::{NewService, engine_error};
use super::{Error, Ran, Result};
use crate::docker::Engine;
use crate::repo::manifest::{Manifest, ProjectEntry};
use std::collections::{BTreeMap, BTreeSet};

/// A line for each service of which another number runs afterwards, or whose containers get other names.
pub fn service_changes(project: &ProjectEntry, ran: &[Ran], new: &[NewService], origins: &[Origin]) -> Vec<String> {
    let count = |of: &BTreeMap<&str, usize>, name: &str| of.get(name).copied().unwrap_or(0);
    let now: BTreeMap<&str, usize> = ran.iter().map(|ran| (ran.service.as_str(), ran.containers.len())).collect();
    let then: BTreeMap<&str, usize> = new.iter().map(|new| (new.name.as_str(), new.containers)).collect();
    let names: BTreeSet<&str> = now.keys().chain(then.keys()).copied().collect();
    let mut lines = Vec::new();
    for name in names {
        match (count(&now, name), count(&then, name)) {
            (now, then) if now == then => {}
            (_, 0) => lines.push(format!("service {name} stays stopped: it did not run when the snapshot was made")),
            (0, _) => lines.push(format!("service {name} is started: it does not run now")),
            (now, then) => lines.push(format!("service {name}: {now} of its containers run now, {then} afterwards")),
        }
    }
    for service in &project.services {
        let then: BTreeSet<&str> = service.containers.iter().map(|container| container.name.as_str()).collect();
        let now = origins.iter().filter(|origin| origin.service() == service.name);
        let now: BTreeSet<&str> = now.map(Origin::name).collect();
        if now.len() == then.len() {
            for (old, new) in now.difference(&then).zip(then.difference(&now)) {
                lines.push(format!("service {}: its container {old} is called {new} afterwards", service.name));
            }
        }
    }
    lines
}

/// Networks that the project expects others to have made.
///
/// # Errors
/// One is not there, and no container could be started; or the engine does not answer.
pub fn refuse_missing_networks(engine: &Engine, manifest: &Manifest) -> Result<()> {
    let wanted: Vec<&str> =
        manifest.coverage.iter().filter(|line| line.kind == "network").map(|line| line.what.as_str()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let found = engine.networks().map_err(|error| engine_error("networks", &error))?;
    match wanted.into_iter().find(|name| found.iter().all(|network| network.name != *name)) {
        None => Ok(()),
        Some(name) => Err(Error::Engine {
            subject: format!("network {name}"),
            message: format!(
                "the project expects that it is there (external), and it is not: docker network create {name}"
            ),
        }),
    }
}
