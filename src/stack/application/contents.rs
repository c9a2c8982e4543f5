//! The plan's part that concerns the engine's things: volumes and images.

use super::folders::{Fate, fate};
use super::observe::Observed;
use super::plan::{ImageItem, NOT_SELECTED, Plan, VolumeItem, Way, Wish};
use super::project::Project;
use super::select::{Only, Stops, is_named, is_selected, level_of};
use super::take_engine::find_databases;
use super::{Result, images, volumes};
use crate::docker::Status;
use crate::repo::manifest::{Level, SourceKind};
use crate::stack::source::database::Database;

/// Decides what becomes of each volume.
pub(super) fn take_volumes(plan: &mut Plan, project: &Project, observed: &Observed, wish: &Wish) {
    for found in volumes::find(project, observed) {
        let name = found.name.as_str();
        let names = [name, found.engine_name.as_str()];
        let rules = |service: &String| project.rules.get(service);
        let excluded = !found.mounts.is_empty()
            && found
                .mounts
                .iter()
                .all(|(service, target)| rules(service).is_some_and(|r| r.leaves_out(target, Some(name))));
        let labelled = observed.volumes.get(&found.engine_name).and_then(|volume| volume.labels.get("snap.exclude"));
        let declared = project.model.volumes.get(name).and_then(|volume| volume.labels.get("snap.exclude"));
        if !is_selected(&wish.only, SourceKind::Volume, &names) {
            plan.line("volume", name, "skipped", NOT_SELECTED);
            continue;
        }
        if excluded || labelled.or(declared).is_some_and(|text| text == "true") {
            plan.line("volume", name, "skipped", "snap.exclude");
            continue;
        }
        if !observed.volumes.contains_key(&found.engine_name) || wish.absent.contains(&found.engine_name) {
            match (found.external, found.mounts.is_empty()) {
                _ if wish.as_is => plan.line("volume", name, "skipped", "the engine has no such volume"),
                (false, true) => plan.line("volume", name, "skipped", "no service mounts it, and it was never made"),
                (true, _) => {
                    plan.unprotected("volume", name, "it is not there: the engine has no such external volume")
                }
                (false, false) => plan.unprotected("volume", name, "it is not there: the engine has no such volume"),
            }
            continue;
        }
        if volumes::is_memory(observed, &found.engine_name) {
            plan.line("volume", name, "skipped", "memory, gone with the last container that uses it");
            continue;
        }
        let mut item = match volumes::item(&found, observed) {
            Ok(item) => item,
            Err(reason) => {
                plan.unprotected("volume", name, &reason);
                continue;
            }
        };
        let asked = is_named(&wish.only, SourceKind::Volume, &names)
            || found
                .mounts
                .iter()
                .any(|(service, target)| rules(service).is_some_and(|r| r.copies_live(target, Some(name))));
        let holds = |database: &&Database| database.mounts.iter().any(|mount| mount.name == item.volume.name);
        if let Some(database) = plan.running.iter().find(holds) {
            item.database = Some(database.kind.name());
        }
        let fate = item.database.map_or(Fate::Copy(None), |server| fate(server, &item.writers, plan, asked));
        match fate {
            Fate::Copy(said) => {
                item.live = said.is_some();
                let reason = said.unwrap_or_else(|| describe(&item, &plan.stops));
                plan.line("volume", name, "captured", reason);
                plan.volumes.push(item);
            }
            Fate::Dumped(reason) => plan.line("volume", name, "skipped", reason),
            Fate::Torn(reason) => plan.unprotected("volume", name, &reason),
        }
    }
}

/// How a volume is captured, for people.
fn describe(item: &VolumeItem, stops: &Stops) -> String {
    let level = match level_of(&item.writers, stops) {
        Level::Stopped if item.writers.is_empty() => "nothing writes to it",
        Level::Stopped => "stopped meanwhile",
        Level::Paused => "paused meanwhile",
        _ => "live, file by file",
    };
    match &item.way {
        Way::Disk(_) => level.to_owned(),
        Way::Archive { .. } => format!("{level}; through the engine's archive API"),
        Way::Helper => format!("{level}; through the engine's archive API, from a container made for it"),
    }
}

/// True if `only` means the image, by any of its names.
pub(super) fn is_image(only: &Only, item: &ImageItem) -> bool {
    let id = item.image.id.trim_start_matches("sha256:");
    let short = id.get(..12).unwrap_or(id);
    let mut names: Vec<&str> = item.names.iter().map(String::as_str).collect();
    names.extend(item.image.tags.iter().map(String::as_str));
    names.extend(item.services.iter().map(String::as_str));
    names.extend([id, short, item.image.id.as_str()]);
    only.means(SourceKind::Image, &names)
}

/// Decides what becomes of each image.
pub(super) fn take_images(plan: &mut Plan, project: &Project, observed: &mut Observed, wish: &Wish) -> Result<()> {
    let (items, absent) = images::find(project, observed)?;
    for item in items {
        let excluded = item.services.iter().all(|name| project.rules.get(name).is_some_and(|rules| rules.exclude_all));
        let what = item.name();
        if !wish.only.is_empty() && !wish.only.iter().any(|only| is_image(only, &item)) {
            plan.line("image", what, "skipped", NOT_SELECTED);
        } else if excluded {
            plan.line("image", what, "skipped", "snap.exclude");
        } else {
            let id = item.image.id.trim_start_matches("sha256:").chars().take(8).collect::<String>();
            plan.line("image", what, "captured", format!("sha256:{id}"));
            plan.images.push(item);
        }
    }
    for found in absent {
        let excluded = project.rules.get(&found.service).is_some_and(|rules| rules.exclude_all);
        if !is_selected(&wish.only, SourceKind::Image, &[&found.image, &found.service]) {
            plan.line("image", found.image, "skipped", NOT_SELECTED);
        } else if excluded {
            plan.line("image", found.image, "skipped", "snap.exclude");
        } else if found.has_containers {
            plan.unprotected("image", &found.image, "the engine does not have it any more, although containers run it");
        } else if wish.as_is {
            plan.line("image", found.image, "skipped", "the engine does not have it, and nothing runs it");
        } else {
            plan.unprotected("image", &found.image, "it is not there: the engine does not have it");
        }
    }
    Ok(())
}

/// Decides which databases are dumped. One that does not run is not: its files are copied as they lie.
pub(super) fn take_databases(plan: &mut Plan, project: &Project, observed: &Observed, wish: &Wish) {
    if wish.files_only {
        return;
    }
    let (found, wrong) = find_databases(project, observed);
    for warning in wrong {
        let name = warning.subject.trim_start_matches("database ").to_owned();
        plan.unprotected("database", &name, &warning.message);
    }
    for item in found {
        let (name, kind) = (item.database.service.clone(), item.database.kind.name());
        match item.container.state.status {
            Status::Running | Status::Paused => plan.running.push(item.database.clone()),
            _ => {
                plan.line("database", name, "skipped", format!("{kind} does not run; its files are copied"));
                continue;
            }
        }
        if !is_selected(&wish.only, SourceKind::Database, &[&name]) {
            plan.line("database", name, "skipped", NOT_SELECTED);
        } else if item.container.state.status == Status::Paused && plan.stops.stop.contains(&name) {
            let reason = format!("{kind} is paused and cannot answer; its files are copied while it is stopped");
            plan.line("database", name, "skipped", reason);
        } else if item.container.state.status == Status::Paused {
            plan.unprotected("database", &name, "its container is paused: the server cannot answer");
        } else {
            plan.line("database", name, "captured", format!("{kind}, by its own client"));
            plan.databases.push(item);
        }
    }
}
