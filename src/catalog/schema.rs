//! The tables. A catalog of another version is thrown away and made anew, so there are no
//! migrations.

/// Raised whenever a table changes.
pub const VERSION: i64 = 4;

/// A chunk may lie in several packs, and has a row for each. `pack.present`: 0 no index lists it (any
/// more), 1 it can be relied on, 2 it is listed, and missing, cut short or known to be damaged.
///
/// One repository may be reached at several places, a copy among them. What is true of bytes wherever they
/// are is kept once; what somebody has seen or read is kept for the place where it was seen or read.
///
/// An `origin` says that segment `at` of pack number `pack` is a copy of segment `segment` of the pack `name`.
///
/// Pack numbers are never given twice (`AUTOINCREMENT`): a running process may hold one while
/// another process fills the catalog anew.
pub const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE index_object (name BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pack (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    name BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    present INTEGER NOT NULL
);
CREATE TABLE segment (
    pack INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    plain INTEGER NOT NULL,
    PRIMARY KEY (pack, segment)
) WITHOUT ROWID;
CREATE TABLE chunk (
    id BLOB NOT NULL,
    pack INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    len INTEGER NOT NULL,
    tag INTEGER NOT NULL,
    PRIMARY KEY (id, pack)
) WITHOUT ROWID;
CREATE TABLE origin (
    name BLOB NOT NULL,
    segment INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (name, segment, pack, at)
) WITHOUT ROWID;
CREATE TABLE snapshot (name BLOB PRIMARY KEY, manifest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sighting (place TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (place, name)) WITHOUT ROWID;
CREATE TABLE bad (place TEXT NOT NULL, pack BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (place, pack)) WITHOUT ROWID;
CREATE TABLE reading (place TEXT NOT NULL, pack BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (place, pack))
    WITHOUT ROWID;
";

/// Settings of every connection. A power cut may cost the newest rows, which are read from the
/// repository again, and never the file's form.
pub const PRAGMAS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 67108864;
";
