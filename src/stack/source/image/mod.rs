//! Images: captured by id, put back with the same id and tags.
//!
//! An image never changes, so one whose id the repository knows is not read at all. A new one is read
//! from the engine's own store where that is possible, else as the engine saves it; either way the
//! source is made only if its configuration and every layer have their digests. Its tree is one file,
//! `image.tar`, which every engine loads; it holds no tags, because those may move while the image
//! stays: they are in the manifest.

mod digest;
mod load;
mod named;
mod saved;
mod split;
mod store;

pub use load::{TagMove, give_back, load_image, move_tags, plan_tags, release, write_image};

use crate::docker::{self, Engine, Image};
use crate::monitor::{Monitor, Warning};
use crate::repo::entry::{Meta, Time};
use crate::repo::manifest::{Coverage, Detail, ImageDetail, Level, SourceEntry, SourceKind};
use crate::repo::needs::Needs;
use crate::repo::writer::{PackRef, Session};
use crate::repo::{self, Repository, SnapshotSet};
use crate::stack::capture::stream::{StreamFile, capture_stream, store_tree};
use crate::stack::capture::{self, Error};
use saved::Saved;
use std::collections::HashMap;
use std::io::Read;

/// The file that an image's tree holds.
pub const IMAGE_FILE: &str = "image.tar";

/// Images that snapshots hold, by id, newest first in doubt.
#[derive(Default)]
pub struct KnownImages(HashMap<String, SourceEntry>);

impl KnownImages {
    /// The images of `set`. A source is only ever made of an image that was proven, so snapshots that
    /// are incomplete for other reasons count too.
    pub fn of(set: &SnapshotSet) -> Self {
        let mut known = HashMap::new();
        for source in set.snapshots.iter().flat_map(|snapshot| &snapshot.manifest.sources) {
            if let Some(Detail::Image(detail)) = &source.detail {
                known.insert(detail.id.clone(), source.clone());
            }
        }
        Self(known)
    }
}

/// An image that is wanted.
#[derive(Debug, Clone)]
pub struct WantedImage {
    /// As the engine describes it, with its layers.
    pub image: Image,
    /// The source's name in the manifest.
    pub name: String,
    /// Services that run it.
    pub services: Vec<String>,
}

/// How an image was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The repository knows its id: nothing was read.
    Known,
    /// From the engine's own store.
    Store,
    /// As the engine saves it.
    Saved,
}

impl Way {
    fn reason(self) -> &'static str {
        match self {
            Self::Known => "known by its id, nothing was read",
            Self::Store => "read from the engine's store, every layer's digest proven",
            Self::Saved => "as the engine saves it, every layer's digest proven",
        }
    }
}

/// A captured image.
pub struct CapturedImage {
    /// The source for the manifest. [`CapturedImage::name_needs`] completes it.
    pub source: SourceEntry,
    /// How it was captured.
    pub way: Way,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// The line for the manifest.
    pub coverage: Coverage,
    needs: Needs<PackRef>,
}

/// What became of a wanted image.
pub enum Outcome {
    /// It is stored.
    Captured(Box<CapturedImage>),
    /// It could not be read whole: the snapshot is incomplete.
    Missed {
        /// The line for the manifest.
        coverage: Coverage,
        /// What the person is told.
        warning: Warning,
    },
}

impl CapturedImage {
    /// Writes down which segments the image needs, so that later snapshots need not read it. After a
    /// checkpoint of the session.
    ///
    /// # Errors
    /// A pack has no name yet.
    pub fn name_needs(&mut self, session: &Session<'_>) -> repo::Result<()> {
        let named = session.named(&self.needs)?;
        if let Some(Detail::Image(detail)) = &mut self.source.detail {
            detail.needs = named;
        }
        Ok(())
    }
}

/// With what images are captured.
pub struct ImageCapture<'a, 's> {
    /// The repository.
    pub repository: &'a Repository,
    /// The run.
    pub session: &'a Session<'s>,
    /// The engine.
    pub engine: &'a Engine,
    /// What the repository has.
    pub known: &'a KnownImages,
    /// Threads.
    pub workers: usize,
}

impl ImageCapture<'_, '_> {
    /// Captures one image, and adds the segments it needs to `needs`.
    ///
    /// # Errors
    /// The repository cannot be written, the engine does not answer, or the person stops the work.
    /// What is wrong with the image itself is an [`Outcome`].
    pub fn capture(
        &self,
        wanted: &WantedImage,
        needs: &mut Needs<PackRef>,
        monitor: &dyn Monitor,
    ) -> capture::Result<Outcome> {
        monitor.item(&wanted.name);
        let captured = match self.refer(wanted)? {
            Some(captured) => Ok(captured),
            None => self.read(wanted, monitor)?,
        };
        match captured {
            Ok(captured) => {
                needs.absorb(&captured.needs, |pack| pack);
                Ok(Outcome::Captured(Box::new(captured)))
            }
            Err(reason) => {
                let what = format!("image {}", wanted.name);
                let message = format!("the image {} was not captured: {reason}", wanted.image.id);
                let warning = Warning::missing(what.clone(), message);
                Ok(Outcome::Missed { coverage: line(what, "not protected", &reason), warning })
            }
        }
    }

    /// The image as an older snapshot has it, if all of that is still there.
    fn refer(&self, wanted: &WantedImage) -> repo::Result<Option<CapturedImage>> {
        let Some(source) = self.known.0.get(&wanted.image.id) else { return Ok(None) };
        let Some(Detail::Image(old)) = &source.detail else { return Ok(None) };
        if old.needs.is_empty() || (!wanted.image.layers.is_empty() && old.layers != wanted.image.layers) {
            return Ok(None);
        }
        let Some(needs) = self.session.refer(&old.needs)? else { return Ok(None) };
        let detail = ImageDetail { needs: old.needs.clone(), ..detail_of(wanted) };
        let source = SourceEntry {
            name: wanted.name.clone(),
            root: root_of(&wanted.image),
            new_bytes: 0,
            detail: Some(Detail::Image(detail)),
            ..source.clone()
        };
        Ok(Some(captured(wanted, source, Way::Known, 0, needs)))
    }

    /// Reads the image; inside, why it cannot be had.
    fn read(
        &self,
        wanted: &WantedImage,
        monitor: &dyn Monitor,
    ) -> capture::Result<std::result::Result<CapturedImage, String>> {
        let id = wanted.image.id.as_str();
        let stored = match self.stored(id) {
            Ok(stored) => stored,
            Err(reason) => return Ok(Err(reason)),
        };
        match stored {
            Some(stored) => self.store(wanted, Way::Store, Box::new(stored.archive()), monitor),
            None => match self.engine.export_images(&[id], monitor) {
                Ok(body) => {
                    let watched = Saved::new(body, id, &wanted.image.layers);
                    self.store(wanted, Way::Saved, Box::new(watched), monitor)
                }
                Err(error) if error.is_cancelled() => Err(repo::Error::Interrupted.into()),
                Err(error) => Ok(Err(self.explain(wanted, &error))),
            },
        }
    }

    /// The image in the engine's store, if it is one that can be read here.
    fn stored(&self, id: &str) -> std::result::Result<Option<store::StoredImage>, String> {
        let ask = |error: docker::Error| error.to_string();
        if !self.engine.is_local().map_err(ask)? {
            return Ok(None);
        }
        store::find(&self.engine.info().map_err(ask)?, id).map_err(|error| error.to_string())
    }

    fn store(
        &self,
        wanted: &WantedImage,
        way: Way,
        content: Box<dyn Read + Send + '_>,
        monitor: &dyn Monitor,
    ) -> capture::Result<std::result::Result<CapturedImage, String>> {
        let meta = Meta { mode: 0o600, mtime: Time::default(), ..Meta::default() };
        let profile = crate::chunk::Profile::FILES;
        let file = StreamFile { path: IMAGE_FILE.as_bytes().to_vec(), meta, content, profile };
        let mut needs = Needs::default();
        let stored = capture_stream(self.repository, self.session, file, self.workers, &mut needs, monitor);
        let stored = match stored {
            Ok(stored) => stored,
            Err(Error::Stream { source, .. }) if !monitor.cancelled() => return Ok(Err(self.explain(wanted, &source))),
            Err(Error::Stream { .. }) => return Err(repo::Error::Interrupted.into()),
            Err(error) => return Err(error),
        };
        let folder = Meta { mode: 0o700, ..Meta::default() };
        let (tree, entries) = store_tree(self.session, vec![stored.entry], &folder, &mut needs)?;
        let source = SourceEntry {
            kind: SourceKind::Image,
            name: wanted.name.clone(),
            root: root_of(&wanted.image),
            // Nothing can write to an image.
            level: Level::Stopped,
            tree,
            entries,
            files: 1,
            bytes: stored.bytes,
            new_bytes: stored.bytes_new,
            sqlite: Vec::new(),
            rules: None,
            detail: Some(Detail::Image(detail_of(wanted))),
        };
        Ok(Ok(captured(wanted, source, way, stored.bytes, needs)))
    }

    /// Why it cannot be read: an image that is removed meanwhile loses its files one by one, and
    /// engines then complain of those.
    fn explain(&self, wanted: &WantedImage, source: &dyn std::error::Error) -> String {
        match self.engine.image(&wanted.image.id) {
            Err(error) if error.is_not_found() => "it was removed from the engine".to_owned(),
            _ => source.to_string(),
        }
    }
}

fn captured(
    wanted: &WantedImage,
    source: SourceEntry,
    way: Way,
    bytes_read: u64,
    needs: Needs<PackRef>,
) -> CapturedImage {
    let coverage = line(format!("image {}", wanted.name), "captured", way.reason());
    CapturedImage { source, way, bytes_read, coverage, needs }
}

fn line(what: String, state: &str, reason: &str) -> Coverage {
    Coverage { what, state: state.to_owned(), reason: reason.to_owned(), kind: "image".to_owned() }
}

fn root_of(image: &Image) -> String {
    image.tags.first().unwrap_or(&image.id).clone()
}

fn detail_of(wanted: &WantedImage) -> ImageDetail {
    let image = &wanted.image;
    ImageDetail {
        id: image.id.clone(),
        tags: image.tags.clone(),
        digests: image.digests.clone(),
        platform: image.platform(),
        layers: image.layers.clone(),
        services: wanted.services.clone(),
        needs: Vec::new(),
    }
}
