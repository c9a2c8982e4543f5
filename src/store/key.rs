//! The layout of a repository: which object has which name. docs/FORMAT.md §2.

use crate::id::{IndexId, LogId, MarkId, PackId, RemovalId, SnapshotId, from_hex32, to_hex};
use std::fmt;

/// The kinds of object whose name is the BLAKE3 hash of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Sealed segments of chunks.
    Pack,
    /// The footers of one run's packs.
    Index,
    /// A manifest: one snapshot.
    Snapshot,
    /// What is to be deleted, and what is not after all.
    Mark,
    /// What was deleted: the places of snapshots in the chain of their stack.
    Removal,
    /// What was done, by whom, and how it ended.
    Log,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [Kind::Pack, Kind::Index, Kind::Snapshot, Kind::Mark, Kind::Removal, Kind::Log];

    /// The folder that holds the kind.
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Pack => "packs",
            Kind::Index => "index",
            Kind::Snapshot => "snapshots",
            Kind::Mark => "marks",
            Kind::Removal => "removed",
            Kind::Log => "log",
        }
    }

    /// What a person calls one of them.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Pack => "pack",
            Kind::Index => "index",
            Kind::Snapshot => "snapshot",
            Kind::Mark => "mark",
            Kind::Removal => "record of a removal",
            Kind::Log => "record",
        }
    }
}

/// The folder for what was damaged and has been replaced.
pub(super) const DAMAGED: &str = "damaged";

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The repository's description: `config`.
    Config,
    /// A file under `keys/`, by its file name.
    KeyFile(String),
    /// An object named by its content.
    Object(Kind, [u8; 32]),
}

impl Key {
    /// The object's path below the repository's root.
    pub fn path(&self) -> String {
        match self {
            Key::Config => "config".to_owned(),
            Key::KeyFile(name) => format!("keys/{name}"),
            Key::Object(Kind::Pack, name) => format!("packs/{}/{}", to_hex(&name[..1]), to_hex(name)),
            Key::Object(kind, name) => format!("{}/{}", kind.folder(), to_hex(name)),
        }
    }

    /// Where a copy of it is kept once it is damaged; `number` tells several from each other.
    pub(super) fn path_aside(&self, number: u32) -> String {
        format!("{DAMAGED}/{}-{number}", self.path().replace('/', "-"))
    }

    /// True if a repository may have something called `name` right below its root.
    pub fn is_at_root(name: &str) -> bool {
        matches!(name, "config" | "keys" | DAMAGED) || Kind::ALL.iter().any(|kind| kind.folder() == name)
    }

    /// The key of an object of `kind` whose file name is `name`, if that is such a name.
    pub fn parse_object(kind: Kind, name: &str) -> Option<Self> {
        from_hex32(name).map(|bytes| Key::Object(kind, bytes))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl From<PackId> for Key {
    fn from(id: PackId) -> Self {
        Key::Object(Kind::Pack, id.0)
    }
}

impl From<IndexId> for Key {
    fn from(id: IndexId) -> Self {
        Key::Object(Kind::Index, id.0)
    }
}

impl From<SnapshotId> for Key {
    fn from(id: SnapshotId) -> Self {
        Key::Object(Kind::Snapshot, id.0)
    }
}

impl From<MarkId> for Key {
    fn from(id: MarkId) -> Self {
        Key::Object(Kind::Mark, id.0)
    }
}

impl From<RemovalId> for Key {
    fn from(id: RemovalId) -> Self {
        Key::Object(Kind::Removal, id.0)
    }
}

impl From<LogId> for Key {
    fn from(id: LogId) -> Self {
        Key::Object(Kind::Log, id.0)
    }
}
