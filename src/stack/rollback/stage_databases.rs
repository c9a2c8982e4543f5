//! Making a database's part of a restore ready, where its dump is the authority: the dump is loaded into a new server's
//! folder beside the present one, proven there, and the two folders change places.
//!
//! The server is a temporary container of the captured image, described as the captured one was, without a network. Where
//! only parts come back the service stays as it is now, and so the server is one like that: a dump can be loaded into a
//! newer one, and the files of another version could not be read by it. Secrets and settings that were mounted in it come
//! from the snapshot too.
//!
//! A volume that was captured beside the dump, while the server ran, is left out: the dump is what counts.

use super::plan_folders::stage_of;
use super::prepare::{Plan, Planner};
use super::probes::listed;
use super::services::engine_error;
use super::stage_files::make_stage;
use super::stage_inputs::{inputs_of, mounted};
use super::stage_volumes::{NO_CONTAINER, exchange, make_volume, same_device};
use super::{Error, Result, STAGE_PREFIX, Staged, Swap};
use crate::monitor::Unit;
use crate::repo::manifest::{DatabaseDetail, Detail, SourceEntry};
use crate::repo::reader::Reader;
use crate::stack::capture;
use crate::stack::files::Disk;
use crate::stack::source::content::FileContent;
use crate::stack::source::database::restore::{Fresh, load_fresh};
use crate::stack::source::database::{self, Server, ServerMount, Settings, summary};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a new server needs beside what the dump has: its own tables, its log of writes.
const SERVER_BYTES: u64 = 100 << 20;

/// Where the loaded data goes.
#[derive(Debug)]
pub(super) enum Place {
    /// A folder changes places with one beside it, or comes where none is; `target` is where the server sees it.
    Folder { live: PathBuf, stage: PathBuf, target: PathBuf },
    /// A volume that is not there is made anew.
    Volume { stage: PathBuf },
}

/// A database that is loaded.
pub(super) struct DatabasePart<'m> {
    source: &'m SourceEntry,
    detail: &'m DatabaseDetail,
    server: Server,
    mount: ServerMount,
    /// True if the server is described as it is now.
    as_now: bool,
    pub(super) place: Place,
}

impl<'a> Planner<'a> {
    pub(super) fn database(
        &self,
        plan: &mut Plan<'a>,
        source: &'a SourceEntry,
        detail: &'a DatabaseDetail,
    ) -> Result<()> {
        let subject = format!("database {}", source.name);
        let refused = |message: &str| Error::Engine { subject: subject.clone(), message: message.to_owned() };
        let present = self.present_server(detail)?;
        let kept = Server::read(self.repository, source, detail).map_err(|error| failed(&subject, error))?;
        let (server, as_now) = match (kept, &present) {
            (_, Some(present)) if self.keeps_service(&detail.service) => (present.clone(), true),
            (Some(kept), _) => (kept, false),
            (None, Some(present)) => (present.clone(), true),
            (None, None) => return Err(refused("the snapshot does not say how its server was run, and none is there")),
        };
        let server = match detail.engine.as_str() {
            "program" => self.program(server, detail).map_err(|message| refused(&message))?,
            _ => server,
        };
        self.has_image(&server.image).map_err(|message| refused(&message))?;
        let Some((mount, rest)) = server.data_mount() else {
            return Err(refused("its data was in no volume and no folder of the host: it went with its container"));
        };
        let mut mount = mount.clone();
        // The name of an anonymous volume is another each time.
        let is_anonymous = mount.name.len() == 64 && mount.name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let now = present.iter().flat_map(|server| &server.mounts).find(|now| now.target == mount.target);
        if is_anonymous {
            mount = now.ok_or_else(|| refused(&format!("its volume: {NO_CONTAINER}")))?.clone();
        }
        let place = self.place(&subject, &mount, rest, &server.data)?;
        let (Place::Folder { stage, .. } | Place::Volume { stage }) = &place;
        let room = stage.parent().unwrap_or(Path::new("/"));
        plan.need(room, source.bytes.saturating_mul(2) + SERVER_BYTES)?;
        plan.changes.push(format!("{subject} is loaded anew from its dump: {}", summary(detail)));
        plan.databases.push(DatabasePart { source, detail, mount, server, as_now, place });
        Ok(())
    }

    /// A dump by command comes back by command, into the one place where the program writes.
    fn program(&self, server: Server, detail: &DatabaseDetail) -> std::result::Result<Server, String> {
        let said = self.settings.get(&detail.service).map(Settings::from_labels).unwrap_or_default();
        if said.or(server.settings()).restore.is_none() {
            return Err(
                "it was dumped by a command, and none says how its dump is taken back (snap.restore)".to_owned()
            );
        }
        server.with_only_data().map_err(|places| {
            format!(
                "its dump is loaded beside the volume or folder that it writes to, and it writes to {places} of them"
            )
        })
    }

    /// True if the service is the same afterwards as it is now.
    fn keeps_service(&self, service: &str) -> bool {
        let is_of_it = |source: &&SourceEntry| match &source.detail {
            Some(Detail::Image(image)) => image.services.iter().any(|name| name == service),
            _ => false,
        };
        self.only && !self.wanted.iter().any(|wanted| is_of_it(&wanted.source))
    }

    /// The server as it is now, whether it runs or not.
    fn present_server(&self, detail: &DatabaseDetail) -> Result<Option<Server>> {
        let failed = |error: crate::docker::Error| engine_error(&detail.service, &error);
        let found = listed(self.engine, self.project, Some(&detail.service)).map_err(failed)?;
        let Some(found) = found.into_iter().next() else { return Ok(None) };
        let container = self.engine.container(&found.id).map_err(failed)?;
        let said = self.settings.get(&detail.service).map(Settings::from_labels).unwrap_or_default();
        let dump = said.dump.clone().filter(|_| detail.engine == "program");
        let settings = Settings { database: Some(detail.engine.clone()), dump, ..said };
        let database = database::find(&container, &settings).ok().flatten();
        Ok(database.map(|database| Server::of(self.engine, &container, &database.data)))
    }

    fn has_image(&self, id: &str) -> std::result::Result<(), String> {
        let comes = self
            .wanted
            .iter()
            .any(|wanted| matches!(&wanted.source.detail, Some(Detail::Image(image)) if image.id == id));
        if comes {
            return Ok(());
        }
        match self.engine.image(id) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => {
                Err(format!("the image of its server, {id}, is neither here nor in what is brought back"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn place(&self, subject: &str, mount: &ServerMount, rest: &Path, data: &Path) -> Result<Place> {
        let refused = |message: String| Error::Engine { subject: subject.to_owned(), message };
        let base = match mount.kind.as_str() {
            "volume" => {
                self.refuse_foreign(&mount.name)?;
                match self.engine.volume(&mount.name) {
                    Ok(found) if found.options.is_empty() && matches!(found.driver.as_str(), "" | "local") => {
                        found.mountpoint
                    }
                    Ok(found) => {
                        let what = "is of another driver or has options, and is not changed in place";
                        return Err(refused(format!("its volume {} {what}", found.name)));
                    }
                    Err(error) if error.is_not_found() => {
                        let info = self.engine.info().map_err(|error| refused(error.to_string()))?;
                        let stage = info.root_dir.join(format!("{STAGE_PREFIX}{}-{}", self.restore, mount.name));
                        return Ok(Place::Volume { stage });
                    }
                    Err(error) => return Err(refused(error.to_string())),
                }
            }
            "bind" => mount.source.clone(),
            other => return Err(refused(format!("its data is in a {other}, which is not restored"))),
        };
        let open =
            |path: &Path| std::fs::canonicalize(path).map_err(|source| Error::state("open the folder", path, source));
        if let (false, Some(parent), Some(name)) = (base.exists(), base.parent(), base.file_name()) {
            let (parent, name) = (open(parent)?, name.to_string_lossy());
            let stage = parent.join(format!("{STAGE_PREFIX}{}-{name}", self.restore));
            return Ok(Place::Folder { live: parent.join(&*name), stage, target: mount.target.clone() });
        }
        let base = open(&base)?;
        let live = if rest.as_os_str().is_empty() { base.clone() } else { base.join(rest) };
        let stage = match (mount.kind.as_str(), base.parent()) {
            ("volume", Some(parent)) => parent.join(format!("{STAGE_PREFIX}{}", self.restore)),
            _ => stage_of(&live, self.restore)?,
        };
        if stage.starts_with(&live) || !same_device(&base, stage.parent().unwrap_or(&base)) {
            return Err(refused(format!("{} is a file system of its own: it cannot be exchanged", live.display())));
        }
        Ok(Place::Folder { live, stage, target: data.to_path_buf() })
    }
}

impl Plan<'_> {
    /// Leaves out volumes whose content is a database that is loaded.
    ///
    /// # Errors
    /// A volume holds such a database and other things: one of them would replace the other.
    pub(super) fn without_doubles(&mut self) -> Result<()> {
        for part in &self.databases {
            let Place::Folder { live, .. } = &part.place else {
                self.volumes.retain(|volume| volume.target.volume != part.mount.name);
                continue;
            };
            let name = &part.mount.name;
            let is_it = |present: Option<&PathBuf>| present == Some(live);
            if self.volumes.iter().any(|volume| is_it(volume.target.present.as_ref())) {
                self.volumes.retain(|volume| !is_it(volume.target.present.as_ref()));
                self.changes.retain(|line| !line.starts_with(&format!("volume {name} ")));
            }
            let holds = |present: &PathBuf| live.starts_with(present);
            if self.volumes.iter().any(|volume| volume.target.present.as_ref().is_some_and(holds)) {
                let message =
                    format!("it is a part of the volume {name}, which is brought back too: choose with --only");
                return Err(Error::Engine { subject: format!("database {}", part.source.name), message });
            }
        }
        Ok(())
    }

    pub(super) fn made_for_databases(&self) -> impl Iterator<Item = String> {
        let made = self.databases.iter().filter(|part| matches!(part.place, Place::Volume { .. }));
        made.map(|part| part.mount.name.clone())
    }

    /// The folders that databases are exchanged with.
    pub(super) fn is_database(&self, path: &Path) -> bool {
        self.databases.iter().any(|part| matches!(&part.place, Place::Folder { live, .. } if live == path))
    }

    pub(super) fn staged_databases(&self) -> Vec<Staged> {
        let mut out = Vec::new();
        for (number, part) in self.databases.iter().enumerate() {
            out.push(Staged::Container(self.container_name(number)));
            match &part.place {
                Place::Folder { stage, .. } => out.extend([stage.clone(), inputs_of(stage)].map(Staged::Path)),
                Place::Volume { stage } => {
                    out.extend([Staged::Volume(part.mount.name.clone()), Staged::Path(inputs_of(stage))]);
                }
            }
        }
        out
    }

    fn container_name(&self, number: usize) -> String {
        format!("snap-restore-{}-{number}", self.restore)
    }

    /// Loads all databases; `images` says which image has become of a captured one.
    pub(super) fn load_databases(
        &self,
        planner: &Planner<'_>,
        reader: &mut Reader<'_>,
        images: &BTreeMap<String, String>,
    ) -> Result<Vec<Swap>> {
        let mut swaps = Vec::new();
        for (number, part) in self.databases.iter().enumerate() {
            planner.monitor.phase("loading databases", Unit::Items, None);
            planner.monitor.item(&part.source.name);
            let subject = format!("database {}", part.source.name);
            let (Place::Folder { stage, .. } | Place::Volume { stage }) = &part.place;
            let mut binds = mounted(planner, reader, &part.server, part.as_now, &inputs_of(stage))?;
            match &part.place {
                Place::Folder { live, stage, target } => {
                    make_stage(stage)?;
                    if live.is_dir() {
                        Disk.set_attributes(stage, &Disk.attributes(live)?)?;
                    }
                    binds.push(format!("{}:{}", stage.display(), target.display()));
                }
                Place::Volume { .. } => {
                    let mount = &part.mount;
                    make_volume(planner.engine, &mount.name, &mount.driver, &mount.options, &mount.labels)?;
                    binds.push(format!("{}:{}", part.mount.name, part.mount.target.display()));
                }
            }
            let server = &part.server;
            let said = planner.settings.get(&part.detail.service).map(Settings::from_labels).unwrap_or_default();
            let fresh = Fresh {
                name: self.container_name(number),
                image: images.get(&server.image).unwrap_or(&server.image).clone(),
                env: server.env.clone(),
                command: server.command.clone(),
                entrypoint: server.entrypoint.clone(),
                user: server.user.clone(),
                shm_bytes: server.shm_bytes,
                binds,
                labels: [("snap.restore-of".to_owned(), planner.project.to_owned())].into(),
                stop_seconds: server.stop_seconds,
                settings: said.or(server.settings()),
            };
            let loaded = load_fresh(planner.engine, planner.repository, part.source, &fresh, planner.monitor);
            if let Err(error) = loaded {
                // A dump that cannot be read says so by whom it is given to; that it is damaged is more.
                part.is_readable(planner)?;
                return Err(failed(&subject, error));
            }
            if let Place::Folder { live, stage, .. } = &part.place {
                swaps.push(match Disk.inode(live)? {
                    Some(_) => exchange(live, stage)?,
                    None => {
                        let new = Disk.inode(stage)?.ok_or_else(|| Error::Strange { path: stage.clone() })?;
                        Swap::Come { live: live.clone(), staged: stage.clone(), new }
                    }
                });
            }
        }
        Ok(swaps)
    }
}

impl DatabasePart<'_> {
    /// Reads its dumps once more, to tell a damaged one from one that a server refuses.
    fn is_readable(&self, planner: &Planner<'_>) -> Result<()> {
        for dump in &self.detail.dumps {
            let mut content =
                FileContent::of(planner.repository, &self.source.tree, dump.file.as_bytes(), planner.workers)?;
            if let Err(error) = std::io::copy(&mut content, &mut std::io::sink()) {
                let object = format!("{}/{}", self.source.name, dump.file);
                return Err(Error::Repo(crate::repo::Error::Damaged { object, what: error.to_string() }));
            }
        }
        Ok(())
    }
}

/// What went wrong with a database, named `subject`.
pub fn failed(subject: &str, error: database::Error) -> Error {
    match error {
        database::Error::Database { subject: about, reason } => {
            let message = if subject.ends_with(&format!(" {about}")) { reason } else { format!("{about}: {reason}") };
            Error::Engine { subject: subject.to_owned(), message }
        }
        database::Error::Capture(capture::Error::Repo(error)) => Error::Repo(error),
        database::Error::Capture(other) => Error::Engine { subject: subject.to_owned(), message: other.to_string() },
    }
}
