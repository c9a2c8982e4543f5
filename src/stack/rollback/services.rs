//! A project's services, images and files as a transaction acts on them: through the engine and the Compose tool.

use super::compose_call::{Call, Place, Wanted, call_of, up_alike};
use super::hold::Held;
use super::origin::{Origin, bring_back, made_by_tool};
use super::probes::Probes;
use super::{Error, Ran, Result, Side, Staged, World};
use crate::docker::Container;
use crate::monitor::{Monitor, Unit, Warning, lock};
use crate::repo::entry::Meta;
use crate::repo::manifest::DatabaseDetail;
use crate::stack::application::observe::{is_active, service_of};
use crate::stack::files::Disk;
use crate::stack::health::{Check, Proof, ROWS, STEADY, TIMEOUT, checks_of_labels, prove};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A container that takes longer to stop is worth a word.
const SLOW_STOP: Duration = Duration::from_secs(2);
/// The exit code after SIGKILL.
const KILLED: i64 = 137;

/// A service of the new state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewService {
    /// Its name.
    pub name: String,
    /// Containers of it that ran.
    pub containers: usize,
    /// How it is started, if otherwise than the rest: alone, as it was started before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
}

/// The project that is restored.
pub struct Application {
    /// Its containers.
    pub probes: Probes,
    /// Its folder.
    pub directory: PathBuf,
    /// The folder of its journal.
    pub state: PathBuf,
    /// Its containers as they were before the restore.
    pub origins: Vec<Origin>,
    /// How the tool is called for the state of then.
    pub new_call: Call,
    /// How it is called for the state of now, where a container does not say.
    pub old_call: Call,
    /// What ran then, in the order in which it is started.
    pub new_services: Vec<NewService>,
    /// What runs now, in the order in which it is started.
    pub ran: Vec<Ran>,
    /// All services in the order in which they start.
    pub order: Vec<String>,
    /// Databases whose rows are compared with what was captured.
    pub databases: Vec<DatabaseDetail>,
    /// Shows what is done.
    pub monitor: Arc<dyn Monitor>,
    /// Volumes that are mounted only as long as this is here.
    pub held: Mutex<Option<Held>>,
}

pub(super) fn engine_error(subject: &str, error: &crate::docker::Error) -> Error {
    Error::Engine { subject: subject.to_owned(), message: error.to_string() }
}

impl Application {
    /// What of the project runs now, in the order in which `order` starts it.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn running(probes: &Probes, order: &[String], directory: &Path) -> Result<Vec<Ran>> {
        let found = probes.containers(None).map_err(|error| engine_error(&probes.project, &error))?;
        let mut all: BTreeMap<String, Ran> = BTreeMap::new();
        for container in found.iter().filter(|container| is_active(container.state.status)) {
            let service = service_of(container).to_owned();
            let call = call_of(container, &probes.project, directory);
            let new = || Ran { service: service.clone(), containers: Vec::new(), call };
            all.entry(service.clone()).or_insert_with(new).containers.push(container.id.clone());
        }
        let place = |service: &String| order.iter().position(|name| name == service).unwrap_or(usize::MAX);
        let mut ran: Vec<Ran> = all.into_values().collect();
        ran.sort_by_key(|ran| (place(&ran.service), ran.service.clone()));
        Ok(ran)
    }

    fn place(&self) -> Place<'_> {
        Place { directory: &self.directory, lock: &self.state }
    }

    /// Starts what ran, container by container; those that the new state has replaced are made anew first.
    fn start_old(&self) -> Result<()> {
        let now = match bring_back(&self.probes, &self.origins, &self.order) {
            Ok(now) => now,
            Err(error) => {
                let service = |ran: &'_ Ran| (ran.service.clone(), ran.containers.len(), ran.call.clone());
                let services: Vec<_> = self.ran.iter().map(service).collect();
                let services = wanted(&services, &self.old_call);
                // If that does not help either, the first failure is the one to be told.
                if up_alike(&services, self.place(), &Deaf).is_err() {
                    return Err(error);
                }
                self.monitor.warn(&Warning::note(&self.probes.project, made_by_tool(&error)));
                return Ok(());
            }
        };
        for id in self.ran.iter().flat_map(|ran| &ran.containers) {
            let was_paused = self.origins.iter().any(|origin| origin.id() == id && origin.is_paused());
            let id = now.get(id).unwrap_or(id);
            self.probes.engine.start(id).map_err(|error| engine_error(id, &error))?;
            if was_paused {
                self.probes.engine.pause(id).map_err(|error| engine_error(id, &error))?;
            }
        }
        Ok(())
    }

    /// One that has not reacted to its signal has cost time, and what it had not written.
    fn tell_killed(&self, service: &str, id: &str, took: Duration) {
        if took < SLOW_STOP {
            return;
        }
        if let Ok(found) = self.probes.engine.container(id)
            && found.state.exit_code == KILLED
        {
            let (name, seconds) = (&found.name, took.as_secs());
            let message = format!("{name} did not end when it was asked to, and was killed after {seconds} s");
            self.monitor.warn(&Warning::note(service, message));
        }
    }

    fn start_new(&self) -> Result<()> {
        let own = self.new_services.iter().any(|service| service.call.is_some());
        if !own {
            let services: Vec<(String, usize)> =
                self.new_services.iter().map(|service| (service.name.clone(), service.containers)).collect();
            return self.new_call.up(self.place(), &services, false, &*self.monitor);
        }
        let service = |new: &NewService| (new.name.clone(), new.containers, new.call.clone());
        let services: Vec<_> = self.new_services.iter().map(service).collect();
        let services = wanted(&services, &self.new_call);
        up_alike(&services, self.place(), &*self.monitor)
    }

    fn new_checks(&self) -> std::result::Result<Vec<Check>, String> {
        let mut checks = Vec::new();
        for NewService { name, .. } in &self.new_services {
            checks.push(Check::steady(name, STEADY));
            let found = self.probes.containers(Some(name)).map_err(|error| error.to_string())?;
            let Some(container) = found.first() else { continue };
            if found.iter().any(|container| container.state.health.is_some()) {
                checks.push(Check::container(name, patience(container)));
            }
            let mut labels = container.labels.clone();
            labels.extend(self.probes.settings.get(name).into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
            checks.extend(checks_of_labels(name, &labels).map_err(|error| error.to_string())?);
            let databases = self.databases.iter().filter(|detail| detail.service == *name);
            if labels.get(ROWS).is_none_or(|value| value != "false") {
                checks.extend(databases.map(|detail| Check::rows(detail, patience(container))));
            }
        }
        Ok(checks)
    }
}

/// Services with their own calls, or else the one of all.
fn wanted<'a>(services: &'a [(String, usize, Option<Call>)], all: &'a Call) -> Vec<Wanted<'a>> {
    services.iter().map(|(name, count, own)| (name.as_str(), *count, own.as_ref().unwrap_or(all))).collect()
}

/// How long a container's own healthcheck may take to say something: as long as it itself allows, at least a minute.
fn patience(container: &Container) -> Duration {
    let check = &container.config.0["Healthcheck"];
    let nanos = |name: &str, default: u64| check[name].as_u64().filter(|n| *n > 0).unwrap_or(default);
    let second = 1_000_000_000;
    let retries = nanos("Retries", 3);
    let all = nanos("StartPeriod", 0) + (nanos("Interval", 30 * second) + nanos("Timeout", 30 * second)) * retries;
    Duration::from_nanos(all).clamp(TIMEOUT, TIMEOUT * 10)
}

/// Shows nothing and cannot be stopped: the way back is not given up.
struct Deaf;
impl Monitor for Deaf {}

impl World for Application {
    fn inode(&self, path: &Path) -> Result<Option<u64>> {
        Ok(Disk.inode(path)?)
    }
    fn exchange(&self, a: &Path, b: &Path) -> Result<bool> {
        Ok(Disk.exchange(a, b)?)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        Ok(Disk.rename(from, to)?)
    }
    fn set_attributes(&self, path: &Path, meta: &Meta) -> Result<()> {
        for difference in Disk.set_attributes(path, meta)? {
            let message = format!("{} is not as it was: {}", difference.attribute, difference.message);
            self.monitor.warn(&Warning::note(path.display().to_string(), message));
        }
        Ok(())
    }
    fn sync_folder_of(&self, path: &Path) -> Result<()> {
        Ok(Disk.sync_folder_of(path)?)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        Ok(Disk.remove(path)?)
    }

    fn image_of(&self, tag: &str) -> Result<Option<String>> {
        match self.probes.engine.image(tag) {
            Ok(image) => Ok(Some(image.id)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(engine_error(&format!("image {tag}"), &error)),
        }
    }
    fn tag(&self, image: &str, tag: &str) -> Result<()> {
        self.probes.engine.tag_image(image, tag).map_err(|error| engine_error(&format!("image {tag}"), &error))
    }
    fn untag(&self, tag: &str) -> Result<()> {
        match self.probes.engine.remove_image(tag) {
            Err(error) if !error.is_not_found() => Err(engine_error(&format!("image {tag}"), &error)),
            _ => Ok(()),
        }
    }

    fn stop(&self) -> Result<()> {
        let mut running = Self::running(&self.probes, &self.order, &self.directory)?;
        running.reverse();
        self.monitor.phase("stopping", Unit::Items, Some(running.len() as u64));
        for ran in running {
            self.monitor.item(&ran.service);
            for id in &ran.containers {
                // A restore that was begun is not stopped half way: the person's wish is heard when all stand.
                let began = Instant::now();
                match self.probes.engine.stop(id, None, &Deaf) {
                    Err(error) if !error.is_not_found() => return Err(engine_error(&ran.service, &error)),
                    Err(_) => {}
                    Ok(_) => self.tell_killed(&ran.service, id, began.elapsed()),
                }
            }
            self.monitor.advance(1);
        }
        Ok(())
    }

    fn start(&self, side: Side) -> Result<()> {
        self.monitor.phase("starting", Unit::Items, None);
        match side {
            Side::Old => self.start_old(),
            Side::New => self.start_new(),
        }
    }

    fn prove(&self, side: Side) -> Proof {
        if side == Side::Old {
            // As it was before: what ran was started. Whether it works is not this restore's to say.
            let checks: Vec<Check> = self.ran.iter().map(|ran| Check::steady(&ran.service, Duration::ZERO)).collect();
            let mut proof = prove(&checks, &self.probes, &Deaf);
            proof.evidence.retain(|found| found.passed || found.answer == "it has no container");
            return proof;
        }
        match self.new_checks() {
            Ok(checks) => prove(&checks, &self.probes, &*self.monitor),
            Err(message) => Proof {
                verdict: crate::stack::health::Verdict::Failed,
                evidence: vec![super::transaction::unasked(&message)],
                stopped: false,
            },
        }
    }

    fn discard(&self, staged: &Staged) -> Result<()> {
        let engine = &self.probes.engine;
        let (subject, done) = match staged {
            Staged::Path(path) => return Ok(Disk.remove(path)?),
            Staged::Held(_) => {
                *lock(&self.held) = None;
                return Ok(());
            }
            Staged::Volume(name) => (format!("volume {name}"), engine.remove_volume(name)),
            Staged::Container(name) => (format!("container {name}"), engine.remove_container(name, true, true)),
            Staged::Tag(tag) => (format!("image {tag}"), engine.remove_image(tag).map(drop)),
        };
        match done {
            Err(error) if !error.is_not_found() => Err(engine_error(&subject, &error)),
            _ => Ok(()),
        }
    }
}
