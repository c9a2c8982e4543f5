//! Planning what becomes of folders: the project's own, and those of binds.

use super::differences::Differences;
use super::prepare::{Plan, Planner};
use super::stage_files::{Folder, FolderPart};
use super::wanted::{Wanted, project_folder};
use super::{Error, Result, STAGE_PREFIX};
use crate::repo::entry::shown;
use crate::repo::reader::Reader;
use crate::stack::compose::selection::{DEFAULT_FILES, OVERRIDES};
use crate::stack::files::Disk;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Lines of changes that are told for one folder.
const LINES_MAX: usize = 20;

/// Names that are told of what stays in one folder.
const STAYS_MAX: usize = 5;

impl<'a> Planner<'a> {
    pub(super) fn folder(&self, plan: &mut Plan<'a>, wanted: &Wanted<'a>, reader: &mut Reader<'_>) -> Result<()> {
        let source = wanted.source;
        let root = PathBuf::from(&source.root);
        let root = match std::fs::canonicalize(&root) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_root(&root)?,
            Err(error) => return Err(Error::state("open the folder", &root, error)),
        };
        let is_project = project_folder(self.manifest).is_some_and(|project| std::ptr::eq(project, source));
        let inputs = if is_project { project_inputs().collect() } else { Vec::new() };
        let Some(without) = plan.loaded_in(&root) else { return Ok(()) };
        let folder = Folder {
            source,
            only: wanted.only.clone(),
            inputs,
            exact: if self.exact { vec![Vec::new()] } else { plan.cold_in(&root) },
            without,
            keep: self.keep.clone(),
            root,
            workers: self.workers,
        };
        let differences = folder.differences(reader, None, self.monitor)?;
        let stage = stage_of(&folder.root, self.restore)?;
        plan.changes.extend(lines_of(&folder.root, &differences));
        plan.need(&folder.root, differences.bytes)?;
        let before = stage.starts_with(&folder.root).then(|| Disk.attributes(&folder.root)).transpose()?;
        plan.folders.push(FolderPart { folder, differences, stage, before });
        Ok(())
    }
}

/// Names at the top of a project's folder that make it another application if they were not there then.
fn project_inputs() -> impl Iterator<Item = &'static str> {
    DEFAULT_FILES.into_iter().chain(OVERRIDES).chain([".env"])
}

/// What differs in a folder, and what stays in it, for people.
fn lines_of(root: &Path, differences: &Differences) -> Vec<String> {
    let line = |sign: &str, path: &[u8]| format!("{sign} {}/{}", root.display(), shown(path));
    let gone = differences.gone.iter().map(|path| line("goes aside:", path));
    let mut lines: Vec<String> = differences.changed.iter().map(|path| line("comes back:", path)).chain(gone).collect();
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    if more > 0 {
        lines.push(format!("… and {more} more in {}", root.display()));
    }
    if !differences.stays.is_empty() {
        let number = differences.stays.len();
        let first: Vec<String> = differences.stays.iter().take(STAYS_MAX).map(|path| shown(path)).collect();
        let more = if number > first.len() { " …" } else { "" };
        lines.push(format!(
            "stays: {number} {} in {} that the snapshot does not have (--exact removes them): {}{more}",
            if number == 1 { "file or folder" } else { "files or folders" },
            root.display(),
            first.join(", ")
        ));
    }
    lines
}

fn make_root(root: &Path) -> Result<PathBuf> {
    crate::fs::create_dir_durable(root).map_err(|source| Error::state("make the folder", root, source))?;
    std::fs::canonicalize(root).map_err(|source| Error::state("open the folder", root, source))
}

/// Where a folder's new things wait: beside it, or in it where that is another file system or closed.
pub(super) fn stage_of(root: &Path, restore: &str) -> Result<PathBuf> {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev());
    let here = device(root).map_err(|source| Error::state("look at", root, source))?;
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = root.parent().filter(|parent| {
        let writable = rustix::fs::access(*parent, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok();
        writable && device(parent).is_ok_and(|found| found == here)
    });
    Ok(match beside {
        Some(parent) => parent.join(format!("{STAGE_PREFIX}{restore}-{name}")),
        None => root.join(format!("{STAGE_PREFIX}{restore}")),
    })
}

/// The path of `path` in `root`, if it is there.
pub(super) fn below(root: &Path, path: &Path) -> Option<Vec<u8>> {
    Some(path.strip_prefix(root).ok()?.as_os_str().as_encoded_bytes().to_vec())
}
