//! The plan's part that concerns the host's files: the project's folder, binds, env files, configs, secrets.

use super::observe::{Observed, is_active, is_one_off, service_of};
use super::plan::{FolderItem, NOT_SELECTED, Plan, Wish};
use super::project::Project;
use super::select::{Writer, is_selected, level_of};
use super::{binds, dbdir};
use crate::docker::Status;
use crate::repo::manifest::{Coverage, Level, SourceKind};
use crate::stack::compose::{MountKind, files::Role};
use crate::stack::source::database::Database;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The project's folder and the binds outside of it.
pub(super) fn folders(plan: &mut Plan, project: &Project, observed: Option<&Observed>, wish: &Wish) {
    let root = &project.selection.directory;
    let (mut project_patterns, mut places) = (Vec::new(), Vec::new());
    for bind in all_binds(project) {
        let place = binds::place_of(&bind.path, root);
        let left_out = take_bind(plan, project, &bind, &place, observed, wish);
        match place {
            binds::Place::Inside => project_patterns.extend(left_out.iter().filter_map(|inner| pattern(root, inner))),
            binds::Place::Folder(real) if !left_out.contains(&real) => {
                places.push((binds::Place::Folder(real), left_out));
            }
            binds::Place::File(real) if !left_out.contains(&real) => places.push((binds::Place::File(real), left_out)),
            _ => {}
        }
    }
    for file in &project.files.files {
        places.push((binds::place_of(&file.path, root), Vec::new()));
    }
    let name = project.model.name.clone();
    let writers = folder_writers(observed, root);
    let project_folder = FolderItem { name, root: root.clone(), patterns: project_patterns, is_project: true, writers };
    let selected = is_selected(&wish.only, SourceKind::Files, &[&project_folder.name]);
    let line = if selected { ("captured", "all files that no rule leaves out") } else { ("skipped", NOT_SELECTED) };
    plan.coverage.insert(
        0,
        Coverage {
            kind: "files".to_owned(),
            what: root.display().to_string(),
            state: line.0.to_owned(),
            reason: line.1.to_owned(),
        },
    );
    if selected {
        plan.folders.push(project_folder);
    }
    let inner: Vec<PathBuf> = places.iter().flat_map(|(_, found)| found.clone()).collect();
    let outside = binds::outside(places.into_iter().map(|(place, _)| place));
    for folder in outside.folders {
        let patterns = inner.iter().filter_map(|inner| binds::without(&folder, inner)).collect();
        push_outside(plan, wish, folder, patterns, observed);
    }
    for (folder, names) in outside.files {
        push_outside(plan, wish, folder, binds::only_names(&names), observed);
    }
}

fn push_outside(plan: &mut Plan, wish: &Wish, root: PathBuf, patterns: Vec<String>, observed: Option<&Observed>) {
    let name = root.display().to_string();
    if is_selected(&wish.only, SourceKind::Files, &[&name]) {
        let writers = folder_writers(observed, &root);
        plan.folders.push(FolderItem { name, root, patterns, is_project: false, writers });
    }
}

/// The pattern that leaves out a file or a folder of the project.
fn pattern(root: &Path, path: &Path) -> Option<String> {
    let pattern = binds::without(root, path)?;
    Some(if path.is_dir() { pattern } else { pattern.trim_end_matches('/').to_owned() })
}

/// A bind of a service.
struct Bind {
    service: String,
    path: PathBuf,
    target: String,
}

fn all_binds(project: &Project) -> Vec<Bind> {
    let mut all = Vec::new();
    for (name, service) in &project.model.services {
        for mount in &service.mounts {
            if let MountKind::Bind(path) = &mount.kind {
                all.push(Bind { service: name.clone(), path: path.clone(), target: mount.target.clone() });
            }
        }
    }
    all
}

/// Gives a bind its line, and what of it is left out.
fn take_bind(
    plan: &mut Plan,
    project: &Project,
    bind: &Bind,
    place: &binds::Place,
    observed: Option<&Observed>,
    wish: &Wish,
) -> Vec<PathBuf> {
    let (what, rules) = (bind.path.display().to_string(), project.rules.get(&bind.service));
    let real = std::fs::canonicalize(&bind.path).unwrap_or_else(|_| bind.path.clone());
    if rules.is_some_and(|rules| rules.leaves_out(&bind.target, None)) {
        plan.line("bind", what, "skipped", format!("snap.exclude of the service {}", bind.service));
        return vec![real];
    }
    let by_default = wish.only.is_empty() || wish.only.iter().any(|only| only.kind == SourceKind::Files);
    let reason = match place {
        binds::Place::Left(reason) => {
            plan.line("bind", what, "skipped", *reason);
            return Vec::new();
        }
        binds::Place::Closed(reason) => {
            plan.unprotected("bind", &what, reason);
            return Vec::new();
        }
        _ if !by_default => {
            plan.line("bind", what, "skipped", NOT_SELECTED);
            return Vec::new();
        }
        binds::Place::Inside => "with the project's folder",
        binds::Place::Folder(_) => "a source of its own",
        binds::Place::File(_) => "a single file outside of the project",
    };
    let asked = rules.is_some_and(|rules| rules.copies_live(&bind.target, None));
    let left_out = databases_in(plan, &real, observed, asked);
    if !left_out.contains(&real) {
        plan.line("bind", what, "captured", reason);
    }
    left_out
}

/// Folders of running databases in a bind: they are left out, and each gets its line.
fn databases_in(plan: &mut Plan, path: &Path, observed: Option<&Observed>, asked: bool) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for (server, inner) in dbdir::recognise(path) {
        let inner = std::fs::canonicalize(&inner).unwrap_or(inner);
        let writers = folder_writers(observed, &inner);
        if writers.is_empty() && observed.is_some() {
            continue;
        }
        let what = inner.display().to_string();
        match fate(server, &writers, plan, asked) {
            Fate::Copy(_) => {}
            Fate::Dumped(reason) => {
                plan.line("bind", what, "skipped", reason);
                out.push(inner);
            }
            Fate::Torn(reason) => {
                plan.unprotected("bind", &what, &reason);
                out.push(inner);
            }
        }
    }
    out
}

/// What becomes of a database's files.
pub(super) enum Fate {
    /// They are copied; said if that was asked for.
    Copy(Option<String>),
    /// They are not kept: the dump is.
    Dumped(String),
    /// They would be torn.
    Torn(String),
}

pub(super) fn fate(server: &str, writers: &BTreeSet<Writer>, plan: &Plan, asked: bool) -> Fate {
    if level_of(writers, &plan.stops) == Level::Stopped {
        return Fate::Copy(None);
    }
    if asked {
        return Fate::Copy(Some(format!("a live copy of {server}'s files, as asked: it may be torn")));
    }
    let of = |database: &Database| writers.iter().any(|writer| writer.service == database.service);
    let dumped = plan.databases.iter().map(|item| &item.database).find(|database| of(database));
    match dumped {
        Some(database) => Fate::Dumped(format!("the dump of {} is the authority", database.service)),
        None if writers.iter().any(|writer| writer.paused) => Fate::Torn(format!(
            "{server} is paused in the middle of its work, and cannot be dumped: docker compose unpause, or --stop"
        )),
        None if plan.running.iter().any(of) => Fate::Torn(format!(
            "{server} writes to it and its dump is not selected: a live copy would be torn; select the database too, or --stop"
        )),
        None => Fate::Torn(format!(
            "{server} writes to it and there is no dump: a live copy would be torn; --stop or the label snap.stop makes a whole one"
        )),
    }
}

/// Running containers that can write to a folder of the host.
pub(super) fn folder_writers(observed: Option<&Observed>, root: &Path) -> BTreeSet<Writer> {
    let Some(observed) = observed else { return BTreeSet::new() };
    let active = observed.containers.iter().filter(|container| is_active(container.state.status));
    let writes = active.filter(|container| {
        container.mounts.iter().any(|mount| {
            let source = std::fs::canonicalize(&mount.source).unwrap_or_else(|_| mount.source.clone());
            mount.kind == "bind" && mount.writable && (source.starts_with(root) || root.starts_with(&source))
        })
    });
    writes
        .map(|container| Writer {
            service: if is_one_off(container) { String::new() } else { service_of(container).to_owned() },
            container: container.name.clone(),
            paused: container.state.status == Status::Paused,
        })
        .collect()
}

/// A line for each Compose file, env file, config and secret.
pub(super) fn project_files(plan: &mut Plan, project: &Project, wish: &Wish) {
    let root = &project.selection.directory;
    for file in &project.files.files {
        let (kind, what) = (file.role.word(), file.path.display().to_string());
        let selected = is_selected(&wish.only, SourceKind::Files, &[&what]) || wish.only.is_empty();
        match binds::place_of(&file.path, root) {
            _ if !selected => plan.line(kind, what, "skipped", NOT_SELECTED),
            binds::Place::Inside => plan.line(kind, what, "captured", "with the project's folder"),
            binds::Place::File(_) => plan.line(kind, what, "captured", "a single file outside of the project"),
            binds::Place::Folder(_) => plan.line(kind, what, "captured", "a folder outside of the project"),
            binds::Place::Left(reason) if !file.required && file.role == Role::Env => {
                plan.line(kind, what, "skipped", reason);
            }
            binds::Place::Left(reason) => plan.unprotected(kind, &what, reason),
            binds::Place::Closed(reason) => plan.unprotected(kind, &what, &reason),
        }
    }
    for url in &project.files.remote {
        plan.line("compose file", url.clone(), "not protected", "it is not on this host");
    }
    for (kind, resources) in [("config", &project.model.configs), ("secret", &project.model.secrets)] {
        for (name, resource) in resources.iter().filter(|(_, resource)| resource.file.is_none()) {
            match (&resource.environment, resource.inline) {
                (_, true) => plan.line(kind, name, "captured", "it stands in the Compose file"),
                (Some(variable), _) => {
                    let reason = format!("it comes from the variable {variable} of whoever runs Compose");
                    plan.line(kind, name, "not protected", reason);
                }
                _ => plan.line(kind, name, "not protected", "it is kept elsewhere (external)"),
            }
        }
    }
}
