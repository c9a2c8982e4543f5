//! Files that a temporary server needs mounted: secrets, settings. They come from the snapshot, because what is there now
//! may belong to another state of the application.

use super::Result;
use super::prepare::{Planner, join};
use super::stage_files::make_stage;
use crate::repo::manifest::{SourceEntry, SourceKind};
use crate::repo::reader::Reader;
use crate::stack::restore::{FolderRestore, restore_folder};
use crate::stack::source::database::Server;
use std::path::{Path, PathBuf};

/// What is mounted in a server like `server`, for reading, as the engine takes it; `folder` takes what the snapshot has of
/// it. With `as_now` all of it is as it is now.
///
/// # Errors
/// Something of the snapshot cannot be restored.
pub(super) fn mounted(
    planner: &Planner<'_>,
    reader: &mut Reader<'_>,
    server: &Server,
    as_now: bool,
    folder: &Path,
) -> Result<Vec<String>> {
    let mut binds = Vec::new();
    for (number, mount) in server.inputs().enumerate() {
        // Folders that it writes to hold what it has made, not what it needs.
        if mount.writable && mount.source.is_dir() {
            continue;
        }
        let kept = if as_now { None } else { input_of(planner, &mount.source) };
        let mut host = mount.source.clone();
        if let Some((source, path)) = kept {
            let own = folder.join(number.to_string());
            make_stage(&own)?;
            let only = if path.is_empty() { Vec::new() } else { vec![path.clone()] };
            let options =
                FolderRestore { privileged: true, only, workers: planner.workers, ..FolderRestore::default() };
            restore_folder(reader, source, &own, &options, planner.monitor)?;
            let found = join(&own, &path);
            if found.exists() {
                host = found;
            }
        }
        if host.exists() {
            binds.push(format!("{}:{}:ro", host.display(), mount.target.display()));
        }
    }
    Ok(binds)
}

/// Which captured folder a path of the host was in, and where in it.
pub(super) fn input_of<'a>(planner: &Planner<'a>, path: &Path) -> Option<(&'a SourceEntry, Vec<u8>)> {
    let folders = planner.manifest.sources.iter().filter(|source| source.kind == SourceKind::Files);
    let within = |source: &'a SourceEntry| {
        let rest = path.strip_prefix(&source.root).ok()?.as_os_str().as_encoded_bytes().to_vec();
        Some((source, rest))
    };
    folders.filter_map(within).max_by_key(|(source, _)| source.root.len())
}

/// Where the files for the server beside `stage` are put.
pub(super) fn inputs_of(stage: &Path) -> PathBuf {
    let mut name = stage.as_os_str().to_owned();
    name.push("-inputs");
    name.into()
}
