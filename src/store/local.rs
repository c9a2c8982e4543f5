//! A repository in a folder of a local disk.
//!
//! Objects are nameless files until they are whole and synced, and then get their name with a hard
//! link, which never replaces anything (see [`crate::fs::StagedFile`]). A batch syncs all its files,
//! links them, and syncs each folder once.

use super::key::DAMAGED;
use super::{Batch, Error, Key, Kind, Listed, Listing, Put, ReadStore, Result, Store, Upload};
use crate::fs::{PRIVATE_DIR, StagedFile, create_dir_durable, parent_of, sync_dir, write_replacing};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

/// Objects belong to their owner and are never changed.
const OBJECT_MODE: u32 = 0o400;

/// Copies of one object that are kept aside, each damaged in another way.
const ASIDE_MAX: u32 = 99;

/// A store in a local folder.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// The store in the folder `root`, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folders of a new repository, durably.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create_layout(&self) -> Result<()> {
        let make = |dir: PathBuf| {
            create_dir_durable(&dir).map_err(|source| io_error("create", dir.display().to_string(), source))?;
            self.hand_over(&dir);
            Ok(())
        };
        make(self.root.join("keys"))?;
        for kind in Kind::ALL {
            make(self.root.join(kind.folder()))?;
        }
        // All at once now, so that no `create` has to wait for a new folder to become durable.
        let packs = self.root.join(Kind::Pack.folder());
        for byte in 0..=255u8 {
            let dir = packs.join(format!("{byte:02x}"));
            match rustix::fs::mkdir(&dir, rustix::fs::Mode::from_raw_mode(PRIVATE_DIR)) {
                Ok(()) => self.hand_over(&dir),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(io_error("create", dir.display().to_string(), error.into())),
            }
        }
        sync_dir(&packs).map_err(|source| io_error("create", packs.display().to_string(), source))
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.path())
    }

    /// Makes the folder of `path` durably if it is missing and the one above it is there.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let folder = parent_of(path);
        if folder.is_dir() || !parent_of(&folder).is_dir() {
            return Ok(());
        }
        create_dir_durable(&folder)?;
        self.hand_over(&folder);
        Ok(())
    }

    /// What root writes into somebody's repository is made his: he could not read it otherwise.
    fn hand_over(&self, path: &Path) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        if let Ok(root) = std::fs::metadata(&self.root)
            && root.uid() != 0
        {
            // A server that does not let root do that has made the file somebody else's already.
            let _ = chown(path, Some(root.uid()), Some(root.gid()));
        }
    }

    /// A new object without a name.
    fn stage(&self, dir: &Path) -> io::Result<StagedFile> {
        let mut staged = StagedFile::new(dir, OBJECT_MODE)?;
        self.hand_over(Path::new(&format!("/proc/self/fd/{}", staged.file().as_raw_fd())));
        Ok(staged)
    }

    fn open(&self, key: &Key) -> Result<File> {
        File::open(self.path(key)).map_err(|source| read_error(key, source))
    }
}

fn io_error(operation: &'static str, object: String, source: io::Error) -> Error {
    Error::Io { operation, object, source }
}

fn read_error(key: &Key, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::NotFound => Error::NotFound { object: key.path() },
        _ => io_error("read", key.path(), source),
    }
}

impl ReadStore for LocalStore {
    fn get(&self, key: &Key) -> Result<Vec<u8>> {
        std::fs::read(self.path(key)).map_err(|source| read_error(key, source))
    }

    fn get_range(&self, key: &Key, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = self.open(key)?;
        match file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let found = file.metadata().map_err(|source| read_error(key, source))?.len();
                Err(Error::Short { object: key.path(), wanted: offset + buffer.len() as u64, found })
            }
            Err(source) => Err(read_error(key, source)),
        }
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        match std::fs::metadata(self.path(key)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(read_error(key, source)),
        }
    }

    fn list(&self, kind: Kind) -> Result<Listing> {
        let mut listing = Listing::default();
        let folder = self.root.join(kind.folder());
        match kind {
            Kind::Pack => {
                for shard in sorted_names(&folder)? {
                    let dir = folder.join(&shard);
                    if shard.len() == 2 && dir.is_dir() {
                        list_folder(&dir, &format!("packs/{shard}"), kind, &mut listing)?;
                    } else {
                        listing.foreign.push(format!("packs/{shard}"));
                    }
                }
            }
            // Copies made by programs that keep no empty folders lack these. The others are never empty
            // once there is a snapshot, so where they are missing something has gone.
            Kind::Mark | Kind::Removal | Kind::Log if self.root.is_dir() && !folder.exists() => {}
            _ => list_folder(&folder, kind.folder(), kind, &mut listing)?,
        }
        Ok(listing)
    }

    fn list_keys(&self) -> Result<Vec<String>> {
        let names = sorted_names(&self.root.join("keys"))?;
        Ok(names.into_iter().filter(|name| !is_hidden(name)).collect())
    }

    fn address(&self) -> String {
        self.root.display().to_string()
    }

    fn body(&self) -> String {
        // No device number: it changes when a disk is attached anew.
        let wanted = rustix::fs::StatxFlags::INO | rustix::fs::StatxFlags::BTIME;
        let folder = rustix::fs::statx(rustix::fs::CWD, &self.root, rustix::fs::AtFlags::empty(), wanted);
        let body = folder.map(|s| format!("{} {} {}", s.stx_ino, s.stx_btime.tv_sec, s.stx_btime.tv_nsec));
        format!("{} {}", self.address(), body.unwrap_or_default())
    }

    fn stranger(&self) -> Result<Option<String>> {
        let failed = |source| io_error("look into", self.root.display().to_string(), source);
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // A disk of its own has this.
            if name != "lost+found" && !name.to_str().is_some_and(Key::is_at_root) {
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
        }
        Ok(None)
    }
}

/// Files that a killed process left on a file system without nameless files.
fn is_hidden(name: &str) -> bool {
    name.starts_with(".snap-tmp-")
}

fn sorted_names(dir: &Path) -> Result<Vec<String>> {
    let failed = |source| io_error("list", dir.display().to_string(), source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn list_folder(dir: &Path, shown: &str, kind: Kind, listing: &mut Listing) -> Result<()> {
    for name in sorted_names(dir)? {
        if is_hidden(&name) {
            continue;
        }
        let path = format!("{shown}/{name}");
        let key = Key::parse_object(kind, &name).filter(|key| key.path() == path);
        let Some(key) = key else {
            listing.foreign.push(path);
            continue;
        };
        match std::fs::metadata(dir.join(&name)) {
            Ok(found) if found.is_file() => listing.objects.push(Listed { key, bytes: found.len() }),
            Ok(_) => listing.foreign.push(path),
            // Removed by somebody between the two calls.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(read_error(&key, source)),
        }
    }
    Ok(())
}

impl Store for LocalStore {
    fn prepare(&self) -> Result<()> {
        self.create_layout()
    }

    fn keep_aside(&self, key: &Key) -> Result<String> {
        let failed = |source| io_error("keep a copy of", key.path(), source);
        let path = self.path(key);
        let own = std::fs::metadata(&path).map_err(|source| read_error(key, source))?;
        let folder = self.root.join(DAMAGED);
        create_dir_durable(&folder).map_err(failed)?;
        self.hand_over(&folder);
        for number in 1..=ASIDE_MAX {
            let aside = key.path_aside(number);
            match std::fs::hard_link(&path, self.root.join(&aside)) {
                Ok(()) => {}
                // An interrupted run has made it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let there = std::fs::metadata(self.root.join(&aside)).map_err(failed)?;
                    if (there.dev(), there.ino()) != (own.dev(), own.ino()) {
                        continue;
                    }
                }
                Err(source) => return Err(failed(source)),
            }
            sync_dir(&folder).map_err(failed)?;
            return Ok(aside);
        }
        Err(failed(ErrorKind::AlreadyExists.into()))
    }

    fn overwrite(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let path = self.path(key);
        write_replacing(&path, bytes, OBJECT_MODE).map_err(|source| io_error("replace", key.path(), source))?;
        self.hand_over(&path);
        Ok(())
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put> {
        let path = self.path(key);
        let written = self
            .make_folder(&path)
            .and_then(|()| self.stage(&parent_of(&path)))
            .and_then(|staged| staged.write_as(&path, bytes));
        match written {
            Ok(()) => Ok(Put::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Put::Existed),
            Err(source) => Err(io_error("write", key.path(), source)),
        }
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(LocalBatch { store: self.clone(), staged: Vec::new() })
    }

    fn upload(&self) -> Result<Box<dyn Upload>> {
        let dir = self.root.join(Kind::Pack.folder());
        let staged = self.stage(&dir).map_err(|source| io_error("write into", dir.display().to_string(), source))?;
        Ok(Box::new(LocalUpload { staged, dir }))
    }

    fn remove(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(io_error("remove", key.path(), source)),
        }
        sync_dir(&parent_of(&path)).map_err(|source| io_error("remove", key.path(), source))
    }
}

struct LocalUpload {
    staged: StagedFile,
    /// For messages: of several places that may be full this one is.
    dir: PathBuf,
}

impl Upload for LocalUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = |source| io_error("write", format!("a new pack in {}", self.dir.display()), source);
        self.staged.file().write_all(bytes).map_err(failed)
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

struct LocalBatch {
    store: LocalStore,
    staged: Vec<(Key, StagedFile)>,
}

impl Batch for LocalBatch {
    fn add(&mut self, key: Key, upload: Box<dyn Upload>) -> Result<()> {
        match upload.into_any().downcast::<LocalUpload>() {
            Ok(upload) => {
                self.staged.push((key, upload.staged));
                Ok(())
            }
            Err(_) => Err(Error::Address {
                address: self.store.address(),
                reason: format!("{key} was written for another store"),
            }),
        }
    }

    fn commit(self: Box<Self>) -> Result<()> {
        for (key, staged) in &self.staged {
            staged.sync().map_err(|source| io_error("write", key.path(), source))?;
        }
        let mut folders = BTreeSet::new();
        for (key, staged) in self.staged {
            let path = self.store.path(&key);
            match self.store.make_folder(&path).and_then(|()| staged.publish(&path)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => return Err(io_error("write", key.path(), source)),
            }
            folders.insert(parent_of(&path));
        }
        for folder in folders {
            sync_dir(&folder).map_err(|source| io_error("write into", folder.display().to_string(), source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies by git, or from an object store, have no empty folders.
    #[test]
    fn missing_folders_below_the_root_are_made_when_they_are_needed() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::at(dir.path().join("repository"));
        store.create_layout().unwrap();
        for name in ["packs/ab", "marks"] {
            std::fs::remove_dir(store.root().join(name)).unwrap();
        }
        assert!(store.list(Kind::Mark).unwrap().objects.is_empty());
        assert_eq!(store.list(Kind::Pack).unwrap(), Listing::default());
        let (pack, mark) = (Key::Object(Kind::Pack, [0xab; 32]), Key::Object(Kind::Mark, [1; 32]));
        let mut upload = store.upload().unwrap();
        upload.write(b"sealed").unwrap();
        let mut batch = store.batch();
        batch.add(pack.clone(), upload).unwrap();
        batch.commit().unwrap();
        assert_eq!(store.put(&mark, b"mark").unwrap(), Put::Created);
        assert_eq!(store.get(&pack).unwrap(), b"sealed");
        assert_eq!(store.list(Kind::Mark).unwrap().objects, [Listed { key: mark, bytes: 4 }]);
    }

    /// A disk that is not mounted must not get a repository of its own on the one below.
    #[test]
    fn a_missing_root_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::at(dir.path().join("not/mounted"));
        assert!(store.put(&Key::Object(Kind::Index, [1; 32]), b"x").is_err());
        assert!(Kind::ALL.iter().all(|kind| store.list(*kind).is_err()));
        assert!(!dir.path().join("not").exists());
    }
}
