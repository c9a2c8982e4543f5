//! Databases whose files were captured while their servers stood still: those count more than the dump, and come back with
//! the volume, or the folder of the host, that holds them.
//!
//! Of such a folder everything comes back and nothing else stays in it: files of tables that the snapshot does not have
//! would be in the server's way. The other way round, a folder into which a dump is loaded is not changed file by file too.

use super::plan_folders::below;
use super::prepare::{Plan, Planner};
use super::stage_databases::{Place, failed};
use super::stage_inputs::input_of;
use super::wanted::{Wanted, add};
use super::{Error, Result};
use crate::repo::manifest::{Authority, DatabaseDetail, Detail, SourceEntry, SourceKind};
use crate::repo::reader::Reader;
use crate::repo::walk::TreeWalker;
use crate::stack::source::database::Server;
use std::path::{Path, PathBuf};

impl<'a> Planner<'a> {
    /// Plans a database: by its files if they are the authority, and are there, else by its dump.
    pub(super) fn any_database(
        &self,
        plan: &mut Plan<'a>,
        source: &'a SourceEntry,
        others: &mut Vec<Wanted<'a>>,
        reader: &mut Reader<'_>,
    ) -> Result<()> {
        let detail = match &source.detail {
            Some(Detail::Database(detail)) => detail,
            _ => return Err(unsaid(source.kind, source)),
        };
        if detail.authority == Authority::Dump {
            return self.database(plan, source, detail);
        }
        let server = self.server_of(source, detail)?;
        let mount = server.as_ref().and_then(Server::data_mount).map(|(mount, _)| mount);
        if let Some(mount) = mount.filter(|mount| mount.kind == "bind") {
            return match self.captured(&real(&mount.source), reader)? {
                Some(wanted) => {
                    add(others, wanted);
                    Ok(())
                }
                // A rule had left it out.
                None => self.database(plan, source, detail),
            };
        }
        self.volume_of(plan, source, mount.map(|mount| mount.name.as_str()))
    }

    /// The volume that is the authority of a database, if it is not brought back anyway.
    fn volume_of(&self, plan: &mut Plan<'a>, source: &'a SourceEntry, name: Option<&str>) -> Result<()> {
        if !self.only {
            return Ok(());
        }
        for other in &self.manifest.sources {
            if let Some(Detail::Volume(volume)) = &other.detail
                && Some(volume.volume.as_str()) == name
            {
                let is_wanted = self.wanted.iter().any(|wanted| std::ptr::eq(wanted.source, other));
                return if is_wanted { Ok(()) } else { self.volume(plan, other, volume) };
            }
        }
        let message = "its files were captured while it stood still, and count more than its dump: name what holds them \
                       (--only volume:NAME or files)";
        Err(Error::Engine { subject: format!("database {}", source.name), message: message.to_owned() })
    }

    /// What the snapshot has of a folder of the host, if it has it.
    fn captured(&self, folder: &Path, reader: &mut Reader<'_>) -> Result<Option<Wanted<'a>>> {
        let Some((source, path)) = input_of(self, folder) else { return Ok(None) };
        let (mut walker, mut entries, mut more) = (TreeWalker::new(&source.tree), Vec::new(), true);
        while more {
            more = walker.next(reader, &mut entries, 1024)?;
            if entries.drain(..).any(|entry| entry.path == path) {
                let only = if path.is_empty() { Vec::new() } else { vec![path] };
                return Ok(Some(Wanted { source, only }));
            }
        }
        Ok(None)
    }

    /// Folders of the host with the files of servers that stood still.
    pub(super) fn cold_folders(&self) -> Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        for source in &self.manifest.sources {
            let Some(Detail::Database(detail)) = &source.detail else { continue };
            if detail.authority == Authority::Volume
                && let Some(server) = self.server_of(source, detail)?
                && let Some((mount, _)) = server.data_mount()
                && mount.kind == "bind"
            {
                out.push(real(&mount.source));
            }
        }
        Ok(out)
    }

    fn server_of(&self, source: &SourceEntry, detail: &DatabaseDetail) -> Result<Option<Server>> {
        let subject = || format!("database {}", source.name);
        Server::read(self.repository, source, detail).map_err(|error| failed(&subject(), error))
    }
}

impl Plan<'_> {
    /// Where in `root` there are files of servers that stood still.
    pub(super) fn cold_in(&self, root: &Path) -> Vec<Vec<u8>> {
        self.cold.iter().filter_map(|folder| below(root, folder)).collect()
    }

    /// Where in `root` dumps are loaded; `None` if it is itself such a place.
    pub(super) fn loaded_in(&self, root: &Path) -> Option<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        for part in &self.databases {
            if let Place::Folder { live, .. } = &part.place {
                if root.starts_with(live) {
                    return None;
                }
                out.extend(below(root, live));
            }
        }
        Some(out)
    }
}

fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A source that does not say what is needed to bring it back.
pub(super) fn unsaid(kind: SourceKind, source: &SourceEntry) -> Error {
    let subject = format!("{} {}", kind.word(), source.name);
    Error::Engine { subject, message: "the snapshot does not say what it was".to_owned() }
}
