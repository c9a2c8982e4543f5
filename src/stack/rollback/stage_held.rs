//! Volumes with options, and those of other drivers: what differs in them is restored in a folder within them and changes
//! places there, while a container that never runs has them mounted ([`super::hold`]).
//!
//! One that is not there any more is made anew, with its driver, options and labels, so that Compose takes it for its own.
//! Its content may be there all the same: a folder of the host, a share. What is only memory comes back empty.

use super::hold::Held;
use super::prepare::{Plan, Planner, amount_of, late};
use super::services::engine_error;
use super::stage_files::{Folder, FolderPart};
use super::stage_volumes::{is_plain, make_volume};
use super::{Error, Result, STAGE_PREFIX, Staged};
use crate::amount;
use crate::docker::Volume;
use crate::repo::manifest::{SourceEntry, VolumeDetail};
use crate::repo::reader::Reader;
use crate::stack::files::Disk;

/// Such a volume.
pub(super) struct HeldPart<'m> {
    source: &'m SourceEntry,
    detail: &'m VolumeDetail,
    name: String,
    is_there: bool,
}

impl HeldPart<'_> {
    /// True if its content is gone with the last container that uses it.
    fn is_memory(&self) -> bool {
        self.detail.options.get("type").is_some_and(|kind| kind == "tmpfs")
    }

    fn is_local(&self) -> bool {
        matches!(self.detail.driver.as_str(), "" | "local")
    }
}

impl<'a> Planner<'a> {
    /// Plans a volume that `found` is now, if it is there.
    pub(super) fn held_volume(
        &self,
        plan: &mut Plan<'a>,
        source: &'a SourceEntry,
        detail: &'a VolumeDetail,
        name: &str,
        found: Option<&Volume>,
    ) -> Result<()> {
        self.refuse_foreign(name)?;
        if let Some(found) = found {
            let is_same = found.driver == detail.driver && found.options == detail.options;
            if !is_same {
                let message =
                    "a volume of this name exists with another driver or other options: bring the other parts back \
                               with --only, or remove it first"
                        .to_owned();
                return Err(Error::Engine { subject: format!("volume {name}"), message });
            }
        }
        let part = HeldPart { source, detail, name: name.to_owned(), is_there: found.is_some() };
        let made = if part.is_there { "" } else { "is made anew, and " };
        let with = match part.is_local() {
            true => "options of its driver".to_owned(),
            false => format!("the driver {}", detail.driver),
        };
        plan.changes.push(match part.is_memory() {
            true => format!("volume {name} {made}stays empty: it is memory"),
            false => format!(
                "volume {name} {made}is changed in place, mounted by a container that does not run ({with}): {}",
                amount_of(source)
            ),
        });
        plan.held.push(part);
        Ok(())
    }
}

impl<'m> Plan<'m> {
    /// What of such volumes is announced first.
    pub(super) fn staged_held(&self) -> Vec<Staged> {
        // Removing one of another driver may remove what its driver had found for it: that one stays.
        let made = self.held.iter().filter(|part| !part.is_there && part.is_local());
        let made = made.map(|part| Staged::Volume(part.name.clone()));
        let names = self.names_held();
        let held = (!names.is_empty()).then_some(Staged::Held(names));
        made.chain(held).collect()
    }

    pub(super) fn made_held(&self) -> impl Iterator<Item = String> {
        self.held.iter().filter(|part| !part.is_there).map(|part| part.name.clone())
    }

    fn names_held(&self) -> Vec<String> {
        self.held.iter().filter(|part| !part.is_memory()).map(|part| part.name.clone()).collect()
    }

    /// Makes those that are not there, has all of them mounted, and compares them. Gives who holds them, and what is then
    /// going to be made in them.
    ///
    /// # Errors
    /// The engine or the driver refuses, one is not seen on this host or has no room, or the snapshot is damaged.
    pub fn hold(&self, planner: &Planner<'_>, reader: &mut Reader<'_>) -> Result<(Option<Held>, Vec<Staged>)> {
        for part in self.held.iter().filter(|part| !part.is_there) {
            make_volume(planner.engine, &part.name, &part.detail.driver, &part.detail.options, &part.detail.labels)?;
        }
        let names = self.names_held();
        if names.is_empty() {
            return Ok((None, Vec::new()));
        }
        let held = Held::begin(planner.engine, planner.project, &self.restore, &names)?;
        let mut parts: Vec<FolderPart<'m>> = Vec::new();
        for part in self.held.iter().filter(|part| !part.is_memory()) {
            let subject = format!("volume {}", part.name);
            let root = held
                .place(&part.name)
                .ok_or_else(|| Error::Engine { subject: subject.clone(), message: "it is not mounted".to_owned() })?;
            let folder = Folder {
                source: part.source,
                root: root.to_path_buf(),
                only: Vec::new(),
                inputs: Vec::new(),
                exact: vec![Vec::new()],
                without: Vec::new(),
                keep: Vec::new(),
                workers: planner.workers,
            };
            let differences = folder.differences(reader, None, planner.monitor)?;
            let room = rustix::fs::statvfs(root).map_err(|error| Error::state("look at", root, error.into()))?;
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            // A driver that does not know how large it is says 0.
            if room.f_blocks > 0 && differences.bytes > free {
                let (needed, free) = (amount::bytes(differences.bytes), amount::bytes(free));
                let message = format!("staging needs {needed} in it, and {free} are free");
                return Err(Error::Engine { subject, message });
            }
            let stage = root.join(format!("{STAGE_PREFIX}{}", self.restore));
            let before = Some(Disk.attributes(root)?);
            parts.push(FolderPart { folder, differences, stage, before });
        }
        let staged = parts.iter().flat_map(|part| [part.stage.clone(), late(&part.stage)]).map(Staged::Path).collect();
        if self.in_held.set(parts).is_err() {
            let message = "they are mounted twice".to_owned();
            return Err(Error::Engine { subject: names.join(", "), message });
        }
        Ok((Some(held), staged))
    }
}

/// The volume `name`, if it is there.
///
/// # Errors
/// The engine does not answer.
pub(super) fn present(planner: &Planner<'_>, name: &str) -> Result<Option<Volume>> {
    match planner.engine.volume(name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(engine_error(&format!("volume {name}"), &error)),
    }
}

/// True if a volume of this kind lies where two folders can change places.
pub(super) fn is_exchanged(detail: &VolumeDetail) -> bool {
    is_plain(&detail.driver, detail.options.len())
}
