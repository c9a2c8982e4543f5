//! Which volumes belong to a project, who writes to them, and how they can be read.
//!
//! Those that the model names, those that its containers have without naming them (`VOLUME` of an image), and those
//! that the engine labels as the project's although no active service mounts them: what is there may be missed.

use super::observe::{Observed, is_active, is_one_off, number_of, service_of};
use super::plan::{VolumeItem, Way};
use super::project::Project;
use super::select::Writer;
use super::{dbdir, observe};
use crate::docker::{Mount, Status, Volume};
use crate::fs::is_mount_point;
use crate::stack::compose::MountKind;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A volume before it is decided what becomes of it.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Its name in the stack.
    pub name: String,
    /// Its name in the engine.
    pub engine_name: String,
    /// True if it is not the project's own.
    pub external: bool,
    /// True if it has no name of its own.
    pub anonymous: bool,
    /// Services that mount it, and where.
    pub mounts: BTreeSet<(String, String)>,
}

/// All volumes of the project by their names in the engine.
pub fn find(project: &Project, observed: &Observed) -> Vec<Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for (name, service) in &project.model.services {
        for mount in &service.mounts {
            let MountKind::Volume(key) = &mount.kind else { continue };
            let declared = project.model.volumes.get(key);
            let engine_name = declared.map_or_else(|| key.clone(), |volume| volume.name.clone());
            let found = all.entry(engine_name.clone()).or_insert_with(|| Found {
                name: key.clone(),
                engine_name,
                external: declared.is_some_and(|volume| volume.external),
                ..Found::default()
            });
            found.mounts.insert((name.clone(), mount.target.clone()));
        }
    }
    for (key, volume) in &project.model.volumes {
        all.entry(volume.name.clone()).or_insert_with(|| Found {
            name: key.clone(),
            engine_name: volume.name.clone(),
            external: volume.external,
            ..Found::default()
        });
    }
    for container in observed.containers.iter().filter(|container| !is_one_off(container)) {
        let (service, number) = (service_of(container), number_of(container));
        for mount in container.mounts.iter().filter(|mount| mount.kind == "volume" && !mount.name.is_empty()) {
            let target = mount.destination.display().to_string();
            let found = all.entry(mount.name.clone()).or_insert_with(|| {
                let anonymous = is_random(&mount.name);
                let suffix = if number > 1 { format!("-{number}") } else { String::new() };
                let name = if anonymous { format!("{service}{suffix}:{target}") } else { mount.name.clone() };
                Found { name, engine_name: mount.name.clone(), anonymous, external: !anonymous, ..Found::default() }
            });
            found.mounts.insert((service.to_owned(), target));
        }
    }
    let own = |volume: &&Volume| volume.labels.get(observe::PROJECT) == Some(&project.model.name);
    for volume in observed.volumes.values().filter(own) {
        let key = volume.labels.get("com.docker.compose.volume").cloned();
        all.entry(volume.name.clone()).or_insert_with(|| Found {
            name: key.unwrap_or_else(|| volume.name.clone()),
            engine_name: volume.name.clone(),
            ..Found::default()
        });
    }
    all.into_values().collect()
}

/// The engine names what has no name by 64 random digits.
fn is_random(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Who can write to the volume now.
pub fn writers(observed: &Observed, volume: &str) -> BTreeSet<Writer> {
    let writes = |mounts: &[Mount]| mounts.iter().any(|mount| mount.name == volume && mount.writable);
    let own = observed.containers.iter().filter(|c| is_active(c.state.status) && writes(&c.mounts));
    let own = own.map(|c| Writer {
        service: if is_one_off(c) { String::new() } else { service_of(c).to_owned() },
        container: c.name.clone(),
        paused: c.state.status == Status::Paused,
    });
    let others = observed.others.iter().filter(|c| is_active(c.status) && writes(&c.mounts));
    let others = others.map(|c| Writer {
        service: String::new(),
        container: c.names.first().cloned().unwrap_or_else(|| c.id.clone()),
        paused: c.status == Status::Paused,
    });
    own.chain(others).collect()
}

/// The volume as it can be read: from disk where that is this host's, or else through a container that has it.
///
/// # Errors
/// The engine does not have it.
pub fn item(found: &Found, observed: &Observed) -> Result<VolumeItem, String> {
    let volume = observed.volumes.get(&found.engine_name).ok_or("the engine has no such volume")?;
    let way = match on_disk(volume, observed) {
        Some(way) => way,
        None => through_container(found, observed).unwrap_or(Way::Helper),
    };
    let databases = match &way {
        Way::Disk(path) => dbdir::recognise(path),
        Way::Archive { container, path } => database_in(observed, container, path),
        // Nobody writes to it.
        Way::Helper => Vec::new(),
    };
    Ok(VolumeItem {
        name: found.name.clone(),
        volume: volume.clone(),
        anonymous: found.anonymous,
        mounts: found.mounts.clone(),
        way,
        writers: writers(observed, &found.engine_name),
        database: databases.first().map(|(server, _)| *server),
        live: false,
    })
}

/// True if the volume's content is gone with the last container that uses it.
pub fn is_memory(observed: &Observed, volume: &str) -> bool {
    let options = observed.volumes.get(volume).filter(|volume| volume.driver == "local").map(|volume| &volume.options);
    options.and_then(|options| options.get("type")).is_some_and(|kind| kind == "tmpfs")
}

/// Where the volume lies on this host, if it can be read there.
fn on_disk(volume: &Volume, observed: &Observed) -> Option<Way> {
    if !observed.local || volume.driver != "local" || !rustix::process::geteuid().is_root() {
        return None;
    }
    let path = &volume.mountpoint;
    if !volume.options.is_empty() && !is_mount_point(path) {
        // The driver mounts it only while a container uses it: the folder is empty until then.
        let bind = volume.options.get("o").is_some_and(|o| o.split(',').any(|word| word == "bind"));
        let device = volume.options.get("device").map(PathBuf::from);
        return device.filter(|device| bind && device.is_dir()).map(Way::Disk);
    }
    std::fs::read_dir(path).ok().map(|_| Way::Disk(path.clone()))
}

fn through_container(found: &Found, observed: &Observed) -> Option<Way> {
    let has = |mounts: &[Mount]| {
        mounts.iter().find(|mount| mount.name == found.engine_name).map(|mount| mount.destination.display().to_string())
    };
    let own = observed.containers.iter().find_map(|c| Some((c.id.clone(), has(&c.mounts)?)));
    let other = || observed.others.iter().find_map(|c| Some((c.id.clone(), has(&c.mounts)?)));
    own.or_else(other).map(|(container, path)| Way::Archive { container, path })
}

/// Marks of a database at the top of what a container has mounted.
fn database_in(observed: &Observed, container: &str, path: &str) -> Vec<(&'static str, PathBuf)> {
    let quiet = crate::monitor::Quiet::default();
    let has = |name: &&str| observed.engine.read_archive(container, &format!("{path}/{name}"), &quiet).is_ok();
    dbdir::marks().find(has).and_then(|name| Some((dbdir::mark(name)?, PathBuf::from(path)))).into_iter().collect()
}
