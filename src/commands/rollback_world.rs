//! The project that a restore is about: as it runs, and as it is to run.

use super::{Env, Result};
use crate::docker::Engine;
use crate::repo::manifest::{DatabaseDetail, Detail, ProjectEntry};
use crate::stack::application::Choice;
use crate::stack::compose::labels::PREFIX;
use crate::stack::rollback::compose_call::Call;
use crate::stack::rollback::origin::Origin;
use crate::stack::rollback::probes::Probes;
use crate::stack::rollback::services::{Application, NewService};
use crate::stack::rollback::wanted::{Part, Wanted};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The project as it runs, and as it is to run.
pub(super) fn world_of(
    env: &Env,
    engine: &Engine,
    project: &ProjectEntry,
    directory: &Path,
    state: &Path,
    parts: &[Part],
) -> Result<Application> {
    let settings = labels(directory)?;
    let probes = Probes { engine: engine.clone(), project: project.name.clone(), settings };
    let order: Vec<String> = project.services.iter().map(|service| service.name.clone()).collect();
    let ran = Application::running(&probes, &order, directory)?;
    let then = Call { plugin: !project.compose.starts_with("docker-compose"), arguments: project.arguments.clone() };
    let now = ran.iter().find_map(|ran| ran.call.clone()).unwrap_or_else(|| then.clone());
    // Where only parts come back, what runs now is what runs afterwards; with `.env` or files, as they say.
    let whole = parts.is_empty();
    let services_then = project.services.iter().filter(|service| service.running > 0);
    let new_services: Vec<NewService> = match whole {
        true => services_then
            .map(|service| NewService { name: service.name.clone(), containers: service.running as usize, call: None })
            .collect(),
        false => ran
            .iter()
            .map(|ran| NewService {
                name: ran.service.clone(),
                containers: ran.containers.len(),
                call: Some(ran.call.clone().unwrap_or_else(|| now.clone())),
            })
            .collect(),
    };
    let origins = Origin::all(&probes)?;
    Ok(Application {
        probes,
        directory: directory.to_path_buf(),
        state: state.to_path_buf(),
        origins,
        new_call: if whole { then } else { now.clone() },
        old_call: now,
        new_services,
        ran,
        order,
        databases: Vec::new(),
        monitor: Arc::clone(&env.monitor),
        held: Mutex::new(None),
    })
}

/// The databases of what is brought back, whose rows are compared afterwards.
pub(super) fn databases(wanted: &[Wanted<'_>]) -> Vec<DatabaseDetail> {
    let detail = |wanted: &Wanted<'_>| match &wanted.source.detail {
        Some(Detail::Database(detail)) if detail.engine != "program" => Some(detail.clone()),
        _ => None,
    };
    wanted.iter().filter_map(detail).collect()
}

/// What `snap.toml` says of services, as labels.
pub(super) fn labels(directory: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut choice = Choice { directory: directory.to_path_buf(), ..Choice::default() };
    super::settings::read(directory)?.complete(&mut choice, directory)?;
    let named = |table: BTreeMap<String, String>| table.into_iter().map(|(k, v)| (format!("{PREFIX}{k}"), v)).collect();
    Ok(choice.services.into_iter().map(|(service, table)| (service, named(table))).collect())
}
