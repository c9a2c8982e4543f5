//! What every command needs: where the repository is, who the person is, where caches lie.

use super::folders::{Folders, at_home};
use super::replicas::folders_of;
use super::{Error, Result};
use crate::crypto::people::{Passphrase, PersonIdentity, read_passphrase_file};
use crate::fs::{PRIVATE_DIR, create_dir_durable};
use crate::id::RepositoryId;
use crate::monitor::{Monitor, Warning, lock};
use crate::repo::{self, Repository};
use crate::stack::files::OwnFolders;
use crate::store::{self, Location, Store};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// How a person is asked for what must not stand on a command line.
pub trait Prompt: Send + Sync {
    /// A passphrase, asked for twice if it is a new one. `None` where nobody can be asked.
    fn passphrase(&self, what: &str, twice: bool) -> Option<Result<Passphrase>>;

    /// True if the person answers `question` by typing `word`; false where nobody can be asked.
    fn confirm(&self, question: &str, word: &str) -> bool;
}

/// The surroundings of a command.
pub struct Env {
    /// The repository's address as it was given, if it was.
    pub repository: Option<String>,
    /// True if it was named on the command line or in the environment, not by `snap.toml`.
    pub repository_given: bool,
    /// The server of buckets whose address names none.
    pub endpoint: Option<String>,
    /// Identity files as they were given.
    pub identities: Vec<PathBuf>,
    /// A file whose first line is the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// The person's folders.
    pub folders: Folders,
    /// Asks the person.
    pub prompt: Box<dyn Prompt>,
    /// Shows progress.
    pub monitor: Arc<dyn Monitor>,
    /// Stands in for the cache folder where that cannot be written.
    pub spare: SpareFolder,
    /// What the command turns out to be about.
    pub about: About,
}

/// The stack or replica that a command is about, and the folder that it captures, once they are known.
#[derive(Debug, Default)]
pub struct About(Mutex<Subject>);

/// What a command is about.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The stack or replica; empty for the whole repository.
    pub name: String,
    /// The folder that is captured.
    pub directory: Option<PathBuf>,
    /// What is said of its end, where that is more than the exit code tells.
    pub message: String,
}

impl About {
    /// It is about `subject`.
    pub fn set(&self, subject: &str, directory: Option<&Path>) {
        let mut about = lock(&self.0);
        about.name = subject.to_owned();
        if let Some(directory) = directory {
            about.directory = Some(directory.to_path_buf());
        }
    }

    /// It ends so.
    pub fn say(&self, message: String) {
        lock(&self.0).message = message;
    }

    /// What is known of it.
    pub fn get(&self) -> Subject {
        lock(&self.0).clone()
    }
}

/// A private temporary folder that is made when it is needed and gone when this is.
#[derive(Debug, Default)]
pub struct SpareFolder(OnceLock<PathBuf>);

/// What a catalog may take.
const CATALOG_BYTES: u64 = 64 << 20;

impl SpareFolder {
    /// Where there is room, since a full disk is one of the reasons to need it.
    pub(super) fn path(&self) -> Result<PathBuf> {
        if let Some(path) = self.0.get() {
            return Ok(path.clone());
        }
        let has_room = |folder: &PathBuf| {
            rustix::fs::statvfs(folder).is_ok_and(|found| found.f_bavail * found.f_frsize >= CATALOG_BYTES)
        };
        let failed =
            |path: &Path, source| Error::Path { operation: "make the folder", path: path.to_path_buf(), source };
        let folder = [std::env::temp_dir(), "/dev/shm".into()].into_iter().find(has_room);
        let folder = folder.unwrap_or_else(std::env::temp_dir);
        let name = crate::fs::random_hex().map_err(|source| failed(&folder, source))?;
        let path = folder.join(format!("snap-{name}"));
        let mode = rustix::fs::Mode::from_raw_mode(PRIVATE_DIR);
        rustix::fs::mkdir(&path, mode).map_err(|error| failed(&path, error.into()))?;
        Ok(self.0.get_or_init(|| path).clone())
    }
}

impl Drop for SpareFolder {
    fn drop(&mut self) {
        if let Some(path) = self.0.get() {
            // It is in a folder for such things.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Env {
    /// Where the repository is: as given, or the default folder.
    ///
    /// # Errors
    /// The address is none.
    pub fn location(&self) -> Result<Location> {
        self.repository
            .as_deref()
            .map_or_else(|| Ok(Location::Folder(self.folders.repository())), |text| self.place(text))
    }

    /// The place that an address names.
    ///
    /// # Errors
    /// It is none that this build knows.
    pub fn place(&self, text: &str) -> Result<Location> {
        Location::parse(&at_home(text)?, self.endpoint.as_deref()).map_err(|error| {
            Error::usage(error.to_string(), "give a path, such as /mnt/backup/snap, or s3://BUCKET/PREFIX")
        })
    }

    /// The store of the repository.
    ///
    /// # Errors
    /// As [`Self::location`].
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        Ok(store::open(&self.location()?, &self.monitor)?)
    }

    /// The folders that are snap's own: they are never captured, compared or removed as if they were content.
    /// They are the repository, its catalog, and its replicas, of those that the settings in `root` name, too.
    ///
    /// # Errors
    /// As [`Self::location`].
    pub fn own_folders(&self, repository: &Repository, root: &Path) -> Result<OwnFolders> {
        let replicas = folders_of(repository.catalog(), repository.id(), root);
        let own = replicas.iter().map(|folder| (folder.as_path(), "a replica of the repository"));
        let location = self.location()?;
        let own = own.chain([(repository.catalog().folder(), "the catalog of the repository")]);
        // The last one counts where two are the same.
        let own = own.chain(location.folder().map(|folder| (folder, "the repository itself")));
        Ok(own.filter_map(|(folder, what)| Some((id_of(folder)?, what))).collect())
    }

    /// The files that open it, those in use and the default one, by device and inode number.
    pub fn own_keys(&self) -> Vec<(u64, u64)> {
        let default = [self.folders.identity()];
        let files = self.identities.iter().chain(&default).chain(&self.passphrase_file);
        files.filter_map(|file| id_of(file)).collect()
    }

    /// Where the catalog of the repository can lie. One that cannot be written would be of no use; all
    /// that it knows can be learnt again.
    pub(super) fn cache_folder(&self, id: RepositoryId) -> Result<PathBuf> {
        use rustix::fs::{Access, access};
        if let Some(spare) = self.spare.0.get() {
            return Ok(spare.clone());
        }
        let cache = &self.folders.cache;
        let own = cache.join(id.to_string());
        let usable = create_dir_durable(&own).and_then(|()| Ok(access(&own, Access::WRITE_OK | Access::EXEC_OK)?));
        match usable {
            Err(error) if is_closed(&error) => {
                let message =
                    format!("this folder for caches cannot be written ({error}): all is learnt anew each time");
                self.monitor.warn(&Warning::note(own.display().to_string(), message));
                self.spare.path()
            }
            _ => Ok(cache.clone()),
        }
    }

    /// A passphrase that the repository may have; `None` where none can be had.
    pub(super) fn ask_passphrase(&self, address: &str) -> Result<Option<Passphrase>> {
        if let Some(path) = &self.passphrase_file {
            return read_passphrase_file(path).map(Some).map_err(Error::Identity);
        }
        self.prompt.passphrase(&format!("passphrase of the repository at {address}"), false).transpose()
    }

    /// A new passphrase.
    ///
    /// # Errors
    /// None can be had, or the two did not agree.
    pub fn new_passphrase(&self, what: &str) -> Result<Passphrase> {
        if let Some(path) = &self.passphrase_file {
            return Ok(read_passphrase_file(path)?);
        }
        match self.prompt.passphrase(what, true) {
            Some(answer) => answer,
            None => Err(Error::usage(
                "a passphrase is needed, and there is no terminal to ask on",
                "put it into a file with mode 0600 and name that file in SNAP_PASSPHRASE_FILE",
            )),
        }
    }

    pub(super) fn identity_files(&self, keys: &[repo::keys::KeyFile]) -> Result<(Vec<PersonIdentity>, String)> {
        let default = self.folders.identity();
        let files: Vec<PathBuf> = match (self.identities.is_empty(), default.exists()) {
            (false, _) => self.identities.clone(),
            (true, true) => vec![default],
            (true, false) => Vec::new(),
        };
        let mut identities = Vec::new();
        for file in &files {
            identities.extend(self.load_identity(file)?);
        }
        let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let tried = match shown.is_empty() {
            false => format!("{} was tried", shown.join(", ")),
            true if keys.iter().any(repo::keys::KeyFile::wants_passphrase) => "no passphrase was given".to_owned(),
            true => format!("there is none at {}", self.folders.identity().display()),
        };
        Ok((identities, tried))
    }

    /// The identities in `file`.
    ///
    /// # Errors
    /// It cannot be used, whatever the reason: then it opens nothing.
    pub fn load_identity(&self, file: &Path) -> Result<Vec<PersonIdentity>> {
        match PersonIdentity::load(file, None) {
            Err(crate::crypto::Error::NeedsPassphrase { path }) => {
                let what = format!("passphrase of {}", path.display());
                let by_file = self.passphrase_file.as_deref().map(read_passphrase_file);
                let passphrase = match by_file.transpose()? {
                    Some(passphrase) => passphrase,
                    None => match self.prompt.passphrase(&what, false) {
                        Some(answer) => answer?,
                        None => return Err(Error::Identity(crate::crypto::Error::NeedsPassphrase { path })),
                    },
                };
                PersonIdentity::load(file, Some(&passphrase)).map_err(Error::Identity)
            }
            other => other.map_err(Error::Identity),
        }
    }
}

/// Device and inode number.
fn id_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok()
}

fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // The home of a user who has none is often /dev/null.
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory)
}

/// The present, RFC 3339 with microseconds, UTC: such texts sort as their times do.
pub fn now_text() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// So many threads as were asked for; for 0 one for each processor.
pub(super) fn threads(asked: usize) -> usize {
    if asked == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { asked }
}

/// The name of this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
