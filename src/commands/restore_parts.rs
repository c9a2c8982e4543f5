//! `snap restore ID --target DIR` of an application: plain files, without touching Docker.
//!
//! ```text
//! DIR/files/               the project's folder
//! DIR/outside/etc/app/     files and folders outside of it, by where they were
//! DIR/volumes/media/       volumes by name
//! DIR/images/web_1.tar     images, for `docker load`
//! DIR/databases/db/        dumps by service
//! ```
//!
//! A path that is given is meant in this layout: `volumes/media/logo.png`.

use super::restore::{
    RestoreOptions, RestoreReport, folder_restore, inner_path, prepare_target, refuse_own_folder, report,
    restore_source,
};
use super::{Env, Error, Result};
use crate::fs::create_dir_durable;
use crate::repo::manifest::{Detail, SourceEntry};
use crate::repo::{Repository, Snapshot};
use crate::stack::application::Only;
use crate::stack::restore::{FolderRestore, Restored};
use crate::stack::source::image::write_image;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Restores the parts of an application that `options` select below `target`.
///
/// # Errors
/// Nothing was written: nothing is selected, or the target cannot be used; or the person stopped it.
pub(super) fn restore_parts(
    env: &Env,
    repository: &Repository,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
) -> Result<RestoreReport> {
    let started = Instant::now();
    if options.exact {
        return Err(Error::usage("--exact removes files, and that only makes sense in place", "add --in-place"));
    }
    let target = std::path::absolute(target).map_err(|source| Error::Path {
        operation: "use",
        path: target.to_path_buf(),
        source,
    })?;
    let keep = env.own_folders(repository, &target)?;
    refuse_own_folder(&target, &keep)?;
    let parts = select(snapshot, options)?;
    repository.require_owner("read what snapshots hold")?;
    prepare_target(&target, false)?;
    let folder = folder_restore(
        &RestoreOptions { paths: Vec::new(), ..options.clone() },
        keep.into_keys().chain(env.own_keys()).collect(),
    )?;
    let mut all = Restored::default();
    for Part { source, place, only } in parts {
        let at = target.join(&place);
        let parent = at.parent().unwrap_or(&target);
        let made = if source_is_image(source) { create_dir_durable(parent) } else { create_dir_durable(&at) };
        made.map_err(|source| Error::Path { operation: "make the folder", path: at.clone(), source })?;
        if source_is_image(source) {
            all.bytes += write_tar(repository, source, &at, folder.workers)?;
            (all.entries, all.files) = (all.entries + 1, all.files + 1);
            continue;
        }
        let options = FolderRestore { only, in_place: true, ..folder.clone() };
        let done = restore_source(env, repository, snapshot, source, &at, &options)?;
        add(&mut all, &place, done);
    }
    if all.entries == 0 && !options.paths.is_empty() {
        let id = snapshot.id.short();
        let message = format!("nothing in snapshot {id} is at that path");
        return Err(Error::usage(message, format!("snap show {id} --files lists what is")));
    }
    Ok(report(snapshot, target, all, started))
}

/// Writes an image as `NAME.tar`.
fn write_tar(repository: &Repository, source: &SourceEntry, at: &Path, workers: usize) -> Result<u64> {
    let mut path = at.as_os_str().to_owned();
    path.push(".tar");
    let path = PathBuf::from(path);
    write_image(repository, source, &path, workers).map_err(|source| Error::Path { operation: "write", path, source })
}

/// A source, where it goes, and what of it; all if that is empty.
struct Part<'s> {
    source: &'s SourceEntry,
    place: String,
    only: Vec<Vec<u8>>,
}

fn select<'s>(snapshot: &'s Snapshot, options: &RestoreOptions) -> Result<Vec<Part<'s>>> {
    let manifest = &snapshot.manifest;
    let only = options.only.iter().map(|text| {
        let hint = "give files, volume:NAME, image:NAME or database:NAME";
        Only::parse(text).ok_or_else(|| Error::usage(format!("--only {text} means nothing"), hint))
    });
    let only: Vec<Only> = only.collect::<Result<_>>()?;
    let paths: Vec<Vec<u8>> = options.paths.iter().map(|path| inner_path(path)).collect::<Result<_>>()?;
    let mut parts = Vec::new();
    for source in &manifest.sources {
        let Some(place) = manifest.place_of(source) else { continue };
        let names = names_of(source);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !only.is_empty() && !only.iter().any(|only| only.means(source.kind, &names)) {
            continue;
        }
        match below(&paths, place.as_bytes()) {
            Below::Nothing => {}
            Below::Whole => parts.push(Part { source, place, only: Vec::new() }),
            Below::Only(only) => parts.push(Part { source, place, only }),
        }
    }
    if parts.is_empty() {
        let id = snapshot.id.short();
        let message = format!("nothing in snapshot {id} is selected by that");
        return Err(Error::usage(message, format!("snap show {id} lists its parts")));
    }
    Ok(parts)
}

/// By what names a source goes.
fn names_of(source: &SourceEntry) -> Vec<String> {
    let mut names = vec![source.name.clone()];
    match &source.detail {
        Some(Detail::Volume(volume)) => names.push(volume.volume.clone()),
        Some(Detail::Image(image)) => {
            names.extend(image.tags.iter().chain(&image.services).cloned());
            names.push(image.id.clone());
        }
        Some(Detail::Database(database)) => names.push(database.service.clone()),
        None => {}
    }
    names
}

enum Below {
    Nothing,
    Whole,
    Only(Vec<Vec<u8>>),
}

/// What of the part at `place` the paths name.
fn below(paths: &[Vec<u8>], place: &[u8]) -> Below {
    if paths.is_empty() {
        return Below::Whole;
    }
    let is_in =
        |inner: &[u8], outer: &[u8]| inner == outer || inner.strip_prefix(outer).is_some_and(|r| r.starts_with(b"/"));
    if paths.iter().any(|path| is_in(place, path)) {
        return Below::Whole;
    }
    let inner = paths.iter().filter_map(|path| path.strip_prefix(place)?.strip_prefix(b"/")).map(<[u8]>::to_vec);
    let inner: Vec<Vec<u8>> = inner.collect();
    if inner.is_empty() { Below::Nothing } else { Below::Only(inner) }
}

fn source_is_image(source: &SourceEntry) -> bool {
    matches!(source.detail, Some(Detail::Image(_)))
}

/// Adds what one part has become, its paths as they are below the target.
fn add(all: &mut Restored, place: &str, done: Restored) {
    all.entries += done.entries;
    all.files += done.files;
    all.unchanged += done.unchanged;
    all.bytes += done.bytes;
    all.removed += done.removed;
    all.differences.extend(done.differences.into_iter().map(|mut found| {
        found.path = [place.as_bytes(), b"/", &found.path].concat();
        found
    }));
    all.lost.extend(done.lost.into_iter().map(|mut lost| {
        lost.path = format!("{place}/{}", lost.path);
        lost.raw = [place.as_bytes(), b"/", &lost.raw].concat();
        lost
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_part_or_what_is_in_it() {
        let of = |path: &str, place: &str| match below(&[path.as_bytes().to_vec()], place.as_bytes()) {
            Below::Nothing => "nothing".to_owned(),
            Below::Whole => "whole".to_owned(),
            Below::Only(only) => String::from_utf8(only.concat()).unwrap(),
        };
        assert_eq!(of("volumes", "volumes/media"), "whole");
        assert_eq!(of("volumes/media", "volumes/media"), "whole");
        assert_eq!(of("volumes/media/a/b", "volumes/media"), "a/b");
        assert_eq!(of("volumes/med", "volumes/media"), "nothing");
        assert_eq!(of("files", "volumes/media"), "nothing");
    }
}
