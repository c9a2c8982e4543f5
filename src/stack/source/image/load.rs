//! Images back into an engine: the same id, the same tags, and a way back.
//!
//! Loading an image changes no tag, because the archive holds none. Tags are moved afterwards, by a
//! plan that is made first and can be written down: which tag points where now, and under which name
//! that image is kept (`snap-rollback/…`). Moving and giving back can each be done again after they
//! were interrupted, and end in the same state.

use super::IMAGE_FILE;
use super::named::copy_with_tags;
use crate::docker::{Engine, Error, Result};
use crate::monitor::Monitor;
use crate::repo::manifest::{Detail, ImageDetail, SourceEntry};
use crate::repo::{self, Repository};
use crate::stack::source::content::FileContent;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Under this name images are kept whose tags were moved.
const KEPT: &str = "snap-rollback";

/// A tag that a restore moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagMove {
    /// The tag.
    pub tag: String,
    /// The image that it shall name.
    pub to: String,
    /// The image that it names now; `None` if there is none.
    pub from: Option<String>,
    /// The tag under which that image is kept meanwhile.
    pub kept: String,
    /// True if the restored image was in the engine before, so that it must not go with this tag.
    pub was_there: bool,
}

/// Sees that the engine has the image of a source; gives its id there and whether it had to be
/// loaded. Nothing is tagged.
///
/// # Errors
/// The snapshot cannot be read, the engine refuses the image, or makes another of it.
pub fn load_image(
    engine: &Engine,
    repository: &Repository,
    source: &SourceEntry,
    detail: &ImageDetail,
    workers: usize,
    monitor: &dyn Monitor,
) -> Result<(String, bool)> {
    if is_there(engine, &detail.id, detail)? {
        return Ok((detail.id.clone(), false));
    }
    let object = format!("image {}", source.name);
    let input = |error: repo::Error| Error::Input {
        operation: "load",
        object: object.clone(),
        source: io::Error::other(error),
    };
    let mut archive = FileContent::of(repository, &source.tree, IMAGE_FILE.as_bytes(), workers).map_err(input)?;
    let loaded = engine.load_images(&object, &mut archive, monitor)?;
    // An engine that keeps images in another way may know it by another digest: the layers tell.
    let ids = std::iter::once(&detail.id).chain(&loaded.images);
    for id in ids {
        if is_there(engine, id, detail)? {
            return Ok((engine.image(id)?.id, true));
        }
    }
    let problem = "it took the archive and does not have the image".to_owned();
    Err(Error::Answer { operation: "load", object, problem })
}

fn is_there(engine: &Engine, id: &str, detail: &ImageDetail) -> Result<bool> {
    match engine.image(id) {
        Ok(found) => Ok(found.layers == detail.layers),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which tags have to move so that they name the image `id`. `mark` tells this restore from others in
/// the names of what is kept: letters and digits. Changes nothing.
///
/// # Errors
/// The engine does not answer.
pub fn plan_tags(engine: &Engine, id: &str, tags: &[String], was_there: bool, mark: &str) -> Result<Vec<TagMove>> {
    let mut moves = Vec::new();
    for tag in tags {
        let from = match engine.image(tag) {
            Ok(found) if found.id == id => continue,
            Ok(found) => Some(found.id),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        moves.push(TagMove { tag: tag.clone(), to: id.to_owned(), from, kept: kept_name(tag, mark), was_there });
    }
    Ok(moves)
}

/// Moves the tags; what they named is kept first.
///
/// # Errors
/// The engine refuses; some tags may have moved.
pub fn move_tags(engine: &Engine, moves: &[TagMove]) -> Result<()> {
    for one in moves {
        if let Some(from) = &one.from {
            engine.tag_image(from, &one.kept)?;
        }
        engine.tag_image(&one.to, &one.tag)?;
    }
    Ok(())
}

/// Gives the tags back to the images that had them, and lets go of the names under which those were
/// kept.
///
/// # Errors
/// The engine refuses; some tags may not be back.
pub fn give_back(engine: &Engine, moves: &[TagMove]) -> Result<()> {
    for one in moves {
        match &one.from {
            Some(from) => {
                engine.tag_image(from, &one.tag)?;
                untag(engine, &one.kept)?;
            }
            None => {
                let Some(found) = found(engine, &one.tag)? else { continue };
                // An image goes with its last tag: one that was there before keeps this one.
                if found.id == one.to && (!one.was_there || found.tags.len() > 1) {
                    untag(engine, &one.tag)?;
                }
            }
        }
    }
    Ok(())
}

/// Lets go of what was kept. An image without another tag or container goes with it.
///
/// # Errors
/// The engine refuses.
pub fn release(engine: &Engine, moves: &[TagMove]) -> Result<()> {
    moves.iter().filter(|one| one.from.is_some()).try_for_each(|one| untag(engine, &one.kept))
}

fn found(engine: &Engine, name: &str) -> Result<Option<crate::docker::Image>> {
    match engine.image(name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A container that uses the image by this name keeps the engine from removing it: then it stays.
fn untag(engine: &Engine, name: &str) -> Result<()> {
    match engine.remove_image(name) {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// A name under which the image that `tag` names is kept.
fn kept_name(tag: &str, mark: &str) -> String {
    let (repository, version) = match tag.rsplit_once(':') {
        Some((repository, version)) if !version.contains('/') => (repository, version),
        _ => (tag, "latest"),
    };
    let mark = mark.to_ascii_lowercase();
    // The port of a registry's host is no part of a name that stands further behind.
    format!("{KEPT}/{mark}/{}:{version}", repository.replace(':', "-").to_ascii_lowercase())
}

/// Writes a source's image as the new file `path`, which `docker load` takes, tags included; gives
/// its size in bytes.
///
/// # Errors
/// The snapshot cannot be read, or the file cannot be written; a half one is removed.
pub fn write_image(repository: &Repository, source: &SourceEntry, path: &Path, workers: usize) -> io::Result<u64> {
    let content = FileContent::of(repository, &source.tree, IMAGE_FILE.as_bytes(), workers);
    let mut content = content.map_err(io::Error::other)?;
    let tags = match &source.detail {
        Some(Detail::Image(detail)) => detail.tags.as_slice(),
        _ => &[],
    };
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = copy_with_tags(&mut content, &mut out, tags)
        .and_then(|bytes| out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all().map(|()| bytes));
    if written.is_err() {
        // The error that led here is the one to tell.
        let _half = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_names_are_names_that_engines_take() {
        assert_eq!(kept_name("web:1.2", "AB12"), "snap-rollback/ab12/web:1.2");
        assert_eq!(kept_name("host:5000/a/b:x", "m"), "snap-rollback/m/host-5000/a/b:x");
        assert_eq!(kept_name("host:5000/a", "m"), "snap-rollback/m/host-5000/a:latest");
    }
}
