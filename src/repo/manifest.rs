//! Manifests: one snapshot each. docs/FORMAT.md §8.
//!
//! Putting the manifest commits the snapshot. Its id is the BLAKE3 hash of its sealed bytes. It
//! names the heads of its lineage that it follows, so that order never comes from a clock, and
//! carries a MAC, so that nobody without the secrets can write or change one.

pub use super::detail::{
    Authority, ContainerEntry, DatabaseDetail, Detail, Dump, DumpedTable, ImageDetail, ProjectEntry, ServiceEntry,
    VolumeDetail, VolumeMount,
};
use super::printable;
use super::signed::{sign, verify};
use super::tree::TreeRoot;
use super::{Error, Result};
use crate::id::{PackId, RepositoryId, SnapshotId};
use crate::limits::{MANIFEST_BYTES_MAX, PACK_SEGMENTS_MAX};
use crate::monitor::Warning;
use serde::{Deserialize, Serialize};

/// The version that this snap writes.
pub const VERSION: u32 = 1;

const DOMAIN: &str = "snapshot";

/// The kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A folder.
    Files,
    /// A Docker volume.
    Volume,
    /// A Docker image.
    Image,
    /// A database's dump.
    Database,
}

impl SourceKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            SourceKind::Files => "files",
            SourceKind::Volume => "volume",
            SourceKind::Image => "image",
            SourceKind::Database => "database",
        }
    }
}

/// How consistent a source's capture is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing that writes to it was running.
    Stopped,
    /// A database's own dump or backup, of one moment.
    Dump,
    /// Everything that writes to it was paused.
    Paused,
    /// Read while it was in use; each file is whole, their moments differ.
    Live,
}

/// What a manifest says of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// Which kind.
    pub kind: SourceKind,
    /// Its name within the stack.
    pub name: String,
    /// Where it was, on the host.
    pub root: String,
    /// How consistent it is.
    pub level: Level,
    /// Its entries.
    pub tree: TreeRoot,
    /// Entries in the tree.
    pub entries: u64,
    /// Regular files in it.
    pub files: u64,
    /// Bytes of their content, holes left out.
    pub bytes: u64,
    /// Bytes of content that the repository did not have.
    pub new_bytes: u64,
    /// SQLite databases in it that were captured through SQLite's own backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sqlite: Vec<String>,
    /// By which rules something was left out; a later comparison needs them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
    /// What only its kind has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What was left out of a folder by rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Patterns (gitignore syntax).
    pub exclude: Vec<String>,
    /// `.snapignore` files counted.
    pub ignore_files: bool,
    /// The content of folders with a `CACHEDIR.TAG` was left out.
    pub cache_tags: bool,
    /// Other file systems below the folder were entered.
    pub cross_mounts: bool,
}

/// One line of what was captured and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// What kind of thing it is; absent for a folder that is no application.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "printable::line")]
    pub kind: String,
    /// A file, mount, image, database.
    #[serde(deserialize_with = "printable::line")]
    pub what: String,
    /// captured, skipped, or not protected.
    #[serde(deserialize_with = "printable::line")]
    pub state: String,
    /// Why.
    #[serde(deserialize_with = "printable::line")]
    pub reason: String,
}

/// The segments of one pack that a snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The pack.
    pub pack: PackId,
    /// Runs of segment numbers: the first, and how many.
    pub segments: Vec<[u32; 2]>,
}

/// What a snapshot cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Regular files seen.
    pub files: u64,
    /// Of them, those that were read.
    pub files_changed: u64,
    /// Bytes of content that were read.
    pub bytes_read: u64,
    /// Of them, those that the repository did not have.
    pub bytes_new: u64,
    /// Bytes that the repository grew by.
    pub bytes_stored: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The content of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The manifest's version.
    pub version: u32,
    /// Features without whose knowledge the snapshot must not be restored. None exist yet.
    #[serde(default)]
    pub requires: Vec<String>,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The heads of its lineage that it follows; several after two ran at once.
    pub predecessors: Vec<SnapshotId>,
    /// When the capture began, RFC 3339.
    pub time: String,
    /// The host.
    #[serde(deserialize_with = "printable::line")]
    pub host: String,
    /// The stack: a Compose project or a folder.
    #[serde(deserialize_with = "printable::line")]
    pub stack: String,
    /// Labels.
    #[serde(deserialize_with = "printable::lines")]
    pub tags: Vec<String>,
    /// A person's remark.
    #[serde(deserialize_with = "printable::line")]
    pub note: String,
    /// Program and version.
    #[serde(deserialize_with = "printable::line")]
    pub tool: String,
    /// The Compose project, if it was captured as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectEntry>,
    /// The project's git commit, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
    /// True if every selected thing is in it, whole.
    pub complete: bool,
    /// The sources.
    pub sources: Vec<SourceEntry>,
    /// What was captured and what was not.
    pub coverage: Vec<Coverage>,
    /// What the person was told.
    pub warnings: Vec<StoredWarning>,
    /// What it cost.
    pub stats: Stats,
    /// What must be in the repository for it to be restored.
    pub needs: Vec<Need>,
}

/// A warning as a manifest keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWarning {
    /// What it is about.
    #[serde(deserialize_with = "printable::line")]
    pub subject: String,
    /// What happened.
    #[serde(deserialize_with = "printable::line")]
    pub message: String,
    /// True if it makes the snapshot incomplete.
    pub incomplete: bool,
}

impl From<&Warning> for StoredWarning {
    fn from(w: &Warning) -> Self {
        Self { subject: w.subject.clone(), message: w.message.clone(), incomplete: w.incomplete }
    }
}

impl Manifest {
    /// Its bytes, with their MAC under `key`, as one zstd frame: what is sealed.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn encode(&self, key: &[u8; 32]) -> Result<Vec<u8>> {
        let failed = |source| Error::Json { object: "a new snapshot".to_owned(), source };
        let document = sign(self, key, DOMAIN).map_err(failed)?;
        zstd::bulk::compress(&document, 3).map_err(|source| Error::Compress { source })
    }

    /// The JSON document inside the opened bytes of a manifest.
    ///
    /// # Errors
    /// They are not a zstd frame of a possible size.
    pub fn document(object: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let damaged = |what: String| Error::Damaged { object: object.to_owned(), what };
        match zstd::zstd_safe::get_frame_content_size(plain) {
            Ok(Some(len)) if len <= MANIFEST_BYTES_MAX as u64 => {
                zstd::bulk::decompress(plain, len as usize).map_err(|e| damaged(e.to_string()))
            }
            _ => Err(damaged("it is not a zstd frame of a possible size".to_owned())),
        }
    }

    /// Decodes and authenticates a document.
    ///
    /// # Errors
    /// Forged, of another repository, of a newer version, or damaged.
    pub fn decode(object: &str, document: &[u8], key: &[u8; 32], repository: RepositoryId) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            #[serde(default)]
            requires: Vec<String>,
        }
        if !verify(document, key, DOMAIN) {
            return Err(Error::Forged { object: object.to_owned() });
        }
        let damaged = |error: serde_json::Error| Error::Damaged { object: object.to_owned(), what: error.to_string() };
        let head: Head = serde_json::from_slice(document).map_err(damaged)?;
        if head.version > VERSION || !head.requires.is_empty() {
            return Err(Error::Newer { object: object.to_owned() });
        }
        let manifest: Self = serde_json::from_slice(document).map_err(damaged)?;
        if manifest.repository != repository {
            return Err(Error::Forged { object: object.to_owned() });
        }
        if manifest.needs_beyond_any_pack() {
            let what = "it needs segments of a number that none has".to_owned();
            return Err(Error::Damaged { object: object.to_owned(), what });
        }
        Ok(manifest)
    }

    /// True if it names a segment of a higher number than any pack has.
    fn needs_beyond_any_pack(&self) -> bool {
        let of_images = self.sources.iter().filter_map(|source| match &source.detail {
            Some(Detail::Image(image)) => Some(&image.needs),
            _ => None,
        });
        let mut runs = of_images.chain([&self.needs]).flatten().flat_map(|need| &need.segments);
        runs.any(|[first, count]| first.saturating_add(*count) > PACK_SEGMENTS_MAX)
    }

    /// The lineage: one for each host and stack.
    pub fn lineage(&self) -> (&str, &str) {
        (&self.host, &self.stack)
    }

    /// The folder that was captured: the project's, or the one of plain files.
    pub fn directory(&self) -> Option<&str> {
        let project = self.project.as_ref().map(|project| project.directory.as_str());
        project.or_else(|| self.sources.first().map(|source| source.root.as_str()))
    }

    /// Where a source lies among an application's, as a path of plain files: `files`, `outside/etc/app`,
    /// `volumes/media`, `images/web_1`, `databases/db`. `None` for a capture of a folder, which has only one.
    pub fn place_of(&self, source: &SourceEntry) -> Option<String> {
        let project = self.project.as_ref()?;
        let name: String = source.name.chars().map(|c| if c == '/' || c == ':' { '_' } else { c }).collect();
        // A name that a folder cannot have.
        let name = if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name };
        Some(match source.kind {
            SourceKind::Files if source.root == project.directory => "files".to_owned(),
            SourceKind::Files => {
                // What leads elsewhere is left out: somebody with a writer's key may have written it.
                let parts = source.root.split('/').filter(|part| !["", ".", ".."].contains(part));
                std::iter::once("outside").chain(parts).collect::<Vec<_>>().join("/")
            }
            SourceKind::Volume => format!("volumes/{name}"),
            SourceKind::Image => format!("images/{name}"),
            SourceKind::Database => format!("databases/{name}"),
        })
    }

    /// Bytes of all sources.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }

    /// Regular files of all sources.
    pub fn files(&self) -> u64 {
        self.sources.iter().map(|source| source.files).sum()
    }
}
