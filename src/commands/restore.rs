//! `snap restore`: puts the files of a snapshot back.

use super::env::{host_name, threads};
use super::show::{absent, find, open_reader};
use super::{Env, Error, Result};
use crate::fs::create_dir_durable;
use crate::repo::manifest::{SourceEntry, SourceKind};
use crate::repo::select::Scope;
use crate::repo::{Repository, Snapshot};
use crate::stack::files::unfinished::UNFINISHED_PREFIX;
use crate::stack::files::{Difference, OwnFolders};
use crate::stack::restore::{FolderRestore, Lost, Restored, restore_folder};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How a snapshot is put back.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Which snapshot.
    pub id: String,
    /// Of which host and stack.
    pub scope: Scope,
    /// The folder to restore into; in place: where it was, if absent.
    pub target: Option<PathBuf>,
    /// Into a folder with content: only what differs is written.
    pub in_place: bool,
    /// In place: what the snapshot does not have is removed.
    pub exact: bool,
    /// Only these paths.
    pub paths: Vec<PathBuf>,
    /// Only these parts of an application: `KIND[:NAME]`.
    pub only: Vec<String>,
    /// Leave off set-id bits, capabilities, `trusted.*` attributes and devices.
    pub unprivileged: bool,
    /// Threads; 0 for one for each processor.
    pub workers: usize,
}

/// What `restore` says.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The snapshot's id.
    pub snapshot: String,
    /// Where its files are now.
    pub target: PathBuf,
    /// Regular files that are now as in the snapshot.
    pub files: u64,
    /// Of them, those that were right already.
    pub unchanged: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Things removed.
    pub removed: u64,
    /// What this host did not allow.
    pub differences: Vec<Difference>,
    /// What is not there, and why.
    pub lost: Vec<Lost>,
    /// True if the snapshot itself is complete.
    pub complete: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Restores a snapshot's files.
///
/// # Errors
/// Nothing was written: no such snapshot, or the target cannot be used; or the person stopped it.
pub fn restore(env: &Env, repository: &Repository, options: &RestoreOptions) -> Result<RestoreReport> {
    let started = Instant::now();
    let set = repository.snapshots()?;
    let snapshot = find(&set, &options.scope, &options.id)?;
    env.about.set(&snapshot.manifest.stack, None);
    if let (Some(target), false) = (&options.target, options.in_place)
        && snapshot.manifest.project.is_some()
    {
        return super::restore_parts::restore_parts(env, repository, snapshot, target, options);
    }
    if !options.only.is_empty() {
        let message = "--only selects among the parts of an application that is restored as plain files";
        return Err(Error::usage(message, "give --target DIR, and the snapshot of an application"));
    }
    let source = files_source(snapshot)?;
    let target = choose_target(snapshot, source, options)?;
    let keep = env.own_folders(repository, &target)?;
    refuse_own_folder(&target, &keep)?;
    if options.exact && !snapshot.manifest.complete {
        return Err(incomplete_for_exact(snapshot));
    }
    repository.require_owner("read what snapshots hold")?;
    let folder = folder_restore(options, keep.into_keys().chain(env.own_keys()).collect())?;
    if !folder.only.is_empty() {
        let absent = absent(&mut open_reader(repository, snapshot)?, source, &folder.only)?;
        refuse_absent(&absent, &snapshot.id.short())?;
    }
    prepare_target(&target, options.in_place)?;
    let done = restore_source(env, repository, snapshot, source, &target, &folder)?;
    if done.entries == 0 && !folder.only.is_empty() && done.lost.iter().all(|lost| !lost.damage) {
        let message = format!("nothing in snapshot {} is at that path", snapshot.id.short());
        return Err(Error::usage(message, format!("snap show {} --files lists what is", snapshot.id.short())));
    }
    Ok(report(snapshot, target, done, started))
}

/// What an incomplete snapshot lacks would be taken for what it does not have.
pub(super) fn incomplete_for_exact(snapshot: &Snapshot) -> Error {
    let id = snapshot.id.short();
    let message = format!("snapshot {id} is incomplete: --exact would remove what it lacks");
    Error::usage(message, format!("snap show {id} says what that is; restore without --exact"))
}

/// How one source's files are put back.
pub(super) fn folder_restore(options: &RestoreOptions, keep: Vec<(u64, u64)>) -> Result<FolderRestore> {
    Ok(FolderRestore {
        in_place: options.in_place,
        exact: options.exact,
        privileged: rustix::process::geteuid().is_root() && !options.unprivileged,
        only: options.paths.iter().map(|path| inner_path(path)).collect::<Result<_>>()?,
        keep,
        workers: threads(options.workers),
    })
}

/// What was done, for whoever asked.
pub(super) fn report(snapshot: &Snapshot, target: PathBuf, done: Restored, started: Instant) -> RestoreReport {
    RestoreReport {
        snapshot: snapshot.id.to_string(),
        target,
        files: done.files,
        unchanged: done.unchanged,
        bytes: done.bytes,
        removed: done.removed,
        differences: done.differences,
        lost: done.lost,
        complete: snapshot.manifest.complete,
        seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    }
}

/// Puts one source's files into `target`; what looks damaged is tried once more with what is learnt anew.
pub(super) fn restore_source(
    env: &Env,
    repository: &Repository,
    snapshot: &Snapshot,
    source: &SourceEntry,
    target: &Path,
    folder: &FolderRestore,
) -> Result<Restored> {
    let mut reader = open_reader(repository, snapshot)?;
    match restore_folder(&mut reader, source, target, folder, &*env.monitor).map_err(Error::from) {
        Err(error) if error.is_catalog_damage() => {
            // The first attempt may have placed something: the second completes it.
            repository.catalog().discard()?;
            reader = open_reader(repository, snapshot)?;
            let again = FolderRestore { in_place: true, ..folder.clone() };
            Ok(restore_folder(&mut reader, source, target, &again, &*env.monitor)?)
        }
        Ok(done) if done.lost.iter().any(|lost| lost.damage) => {
            // Before something is called damaged, the catalog must be ruled out.
            repository.relearn()?;
            reader = open_reader(repository, snapshot)?;
            again_where_lost(done, folder, |options| {
                restore_folder(&mut reader, source, target, options, &*env.monitor)
            })
        }
        other => other,
    }
}

/// What a first attempt had lost is tried once more, and all of it if that cannot be told apart.
fn again_where_lost(
    first: Restored,
    folder: &FolderRestore,
    attempt: impl FnOnce(&FolderRestore) -> crate::stack::restore::Result<Restored>,
) -> Result<Restored> {
    let whole = folder.exact || first.lost.iter().any(|lost| lost.raw.is_empty());
    let only = if whole { folder.only.clone() } else { first.lost.iter().map(|lost| lost.raw.clone()).collect() };
    let second = attempt(&FolderRestore { in_place: true, only, ..folder.clone() })?;
    if whole {
        // What the first attempt wrote was not right before.
        let unchanged = first.unchanged.min(second.unchanged);
        return Ok(Restored { bytes: first.bytes + second.bytes, unchanged, ..second });
    }
    let known = |found: &Difference| first.differences.contains(found);
    let differences = second.differences.into_iter().filter(|found| !known(found)).collect::<Vec<_>>();
    Ok(Restored {
        entries: first.entries,
        files: first.files + second.files,
        unchanged: first.unchanged + second.unchanged,
        bytes: first.bytes + second.bytes,
        removed: first.removed,
        differences: [first.differences, differences].concat(),
        lost: second.lost,
    })
}

/// Before anything is written: is all there that is asked for?
fn refuse_absent(absent: &[Vec<u8>], id: &str) -> Result<()> {
    if absent.is_empty() {
        return Ok(());
    }
    let absent: Vec<String> = absent.iter().map(|path| crate::repo::entry::shown(path)).collect();
    let message = format!("snapshot {id} has nothing at {}", absent.join(", "));
    Err(Error::usage(message, format!("snap show {id} --files lists what is")))
}

fn files_source(snapshot: &Snapshot) -> Result<&SourceEntry> {
    snapshot
        .manifest
        .sources
        .iter()
        .find(|source| source.kind == SourceKind::Files)
        .ok_or_else(|| Error::Usage { message: format!("snapshot {} holds no files", snapshot.id.short()), hint: None })
}

pub(super) fn inner_path(path: &Path) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    if crate::repo::entry::is_valid_path(bytes) {
        return Ok(bytes.to_vec());
    }
    let message = format!("{} is not a path inside a snapshot", path.display());
    Err(Error::usage(message, "paths are relative to the captured folder, such as conf/app.ini"))
}

fn choose_target(snapshot: &Snapshot, source: &SourceEntry, options: &RestoreOptions) -> Result<PathBuf> {
    if options.exact && !options.in_place {
        return Err(Error::usage("--exact removes files, and that only makes sense in place", "add --in-place"));
    }
    if options.exact && !options.paths.is_empty() {
        return Err(Error::usage("--exact and single paths do not go together", "leave one of them out"));
    }
    let here = snapshot.manifest.host == host_name();
    let root = PathBuf::from(&source.root);
    match &options.target {
        Some(target) => {
            let target = std::path::absolute(target).map_err(|source| Error::Path {
                operation: "use",
                path: target.clone(),
                source,
            })?;
            let real = crate::fs::real_path(&target);
            if !options.in_place && here && root.is_dir() && real.starts_with(&root) {
                let message =
                    format!("{} lies inside {}, which the snapshot was taken of", target.display(), source.root);
                return Err(Error::usage(
                    message,
                    "give a folder outside of it, or --in-place to put things back where they were",
                ));
            }
            Ok(target)
        }
        None if !options.in_place => {
            let id = snapshot.id.short();
            let hint = format!("snap restore {id} --target DIR, or snap restore {id} --in-place");
            Err(Error::usage("where to? neither --target nor --in-place is given", hint))
        }
        // Its bytes were no text, and the text that stands for them is another folder.
        None if here && source.root.contains('\u{fffd}') => {
            let message =
                format!("the folder that the snapshot was taken of, {}, has a name that is no text", source.root);
            Err(Error::usage(message, "name it: --in-place --target DIR"))
        }
        None if here => Ok(root),
        None => {
            let message = format!("the snapshot is of {} on the host {}", source.root, snapshot.manifest.host);
            Err(Error::usage(message, "name the folder: --in-place --target DIR"))
        }
    }
}

/// Nothing may be restored over a folder of snap's own, or into it.
pub(super) fn refuse_own_folder(target: &Path, own: &OwnFolders) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let real = crate::fs::real_path(target);
    let own_of = |folder: &Path| own.get(&std::fs::metadata(folder).map(|s| (s.dev(), s.ino())).ok()?);
    if let Some(what) = real.ancestors().find_map(own_of) {
        let message = format!("{} is {what}, or lies inside it", target.display());
        return Err(Error::usage(message, "give a folder outside of it"));
    }
    Ok(())
}

pub(super) fn prepare_target(target: &Path, in_place: bool) -> Result<()> {
    let cannot = |operation| move |source| Error::Path { operation, path: target.to_path_buf(), source };
    match std::fs::read_dir(target) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(cannot("look into"))?.file_name();
                if in_place || name == "lost+found" {
                    continue;
                }
                let unfinished = name.as_encoded_bytes().starts_with(UNFINISHED_PREFIX.as_bytes());
                let message = format!("{} is not empty: it has {}", target.display(), name.to_string_lossy());
                let hint = if unfinished {
                    "an interrupted restore left it: empty the folder, or add --in-place to complete it"
                } else {
                    "give an empty or new folder, or --in-place to change only what differs"
                };
                return Err(Error::usage(message, hint));
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_dir_durable(target).map_err(cannot("make the folder"))
        }
        Err(source) => Err(cannot("open the folder")(source)),
    }
}
