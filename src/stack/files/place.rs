//! The safe way back: things are made below one folder and nowhere else.
//!
//! Entry paths come from a repository that may be hostile, and the target may be changed by
//! somebody else meanwhile. So each path is checked, its folder is reached beneath the target's
//! handle through no link, and everything after that is relative to handles. Each thing is made
//! under a hidden name `.snap-restore-…`, gets its attributes by handle, and then its name; only
//! folders are made under their own, closed to others until [`Placer::finish_dir`]. Below a folder
//! that is hidden itself (`staged.rs`) files have their own names, too.
//!
//! A caller makes folders before what is in them, hard links after their first name, finishes the
//! folders from the last to the first so that their times hold, and calls [`Placer::sync`] once.

use super::beneath::{Beneath, Spot};
use super::found::file_type;
use super::handle::{folder_id, open_target, pin, stat_at, stat_fd};
use super::pending::{Hidden, PendingFile, unnamed};
use super::place_meta::{Difference, Placed, apply, open_up};
use super::remove::remove_tree;
use super::special::Special;
use super::staged::Stage;
pub use super::unfinished::UNFINISHED_PREFIX;
use super::writeout::WriteOut;
use super::{Error, Result};
use crate::monitor::lock;
use crate::repo::entry::{Meta, Node};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, Result as SysResult};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How often something that comes back is taken out of the way of a folder.
const ATTEMPTS_MAX: u32 = 16;

/// How things are placed.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlaceOptions {
    /// Whether what has a name already is replaced; otherwise it is an error. Folders that are
    /// there are kept in both cases.
    pub in_place: bool,
    /// Whether a folder with content is removed where something else belongs; otherwise it is an error.
    pub exact: bool,
    /// Whether set-id bits of files, capabilities, `trusted.*` attributes and devices are made.
    /// They give power on the host; without this they are returned as differences.
    pub privileged: bool,
}

/// Places things below one folder. May be used from several threads.
#[derive(Debug)]
pub struct Placer {
    pub(super) beneath: Arc<Beneath>,
    pub(super) options: PlaceOptions,
    dev: u64,
    /// Start of this placer's hidden names.
    prefix: String,
    counter: AtomicU64,
    /// Folders on other file systems that were met, one for each, to be synced at the end.
    mounts: Mutex<Vec<(u64, OwnedFd)>>,
    write_out: Arc<WriteOut>,
    /// Where everything is new and nobody looks yet.
    pub(super) stage: Option<Stage>,
}

impl Placer {
    /// Places below the folder `target`, which is there; a link at `target` itself is followed,
    /// because the operator named it.
    ///
    /// # Errors
    /// It is no folder or cannot be opened.
    pub fn open(target: &Path, options: PlaceOptions) -> Result<Self> {
        let shown = target.as_os_str().as_bytes();
        let root = open_target(target).map_err(|error| Error::io("open", shown, error))?;
        let dev = folder_id(&stat_fd(&root).map_err(|error| Error::io("look at", shown, error))?).0;
        let run = crate::fs::random_hex().map_err(|error| Error::io("name things in", shown, error))?;
        let beneath = Arc::new(Beneath::new(Arc::new(root)));
        Ok(Self {
            write_out: Arc::new(WriteOut::new(Arc::clone(beneath.root()))),
            beneath,
            options,
            dev,
            prefix: format!("{UNFINISHED_PREFIX}{run}-"),
            counter: AtomicU64::new(0),
            mounts: Mutex::default(),
            stage: None,
        })
    }

    /// The same below the folder of `stage`.
    pub(super) fn below(self, stage: Stage) -> Self {
        Self { beneath: Arc::new(Beneath::new(Arc::clone(&stage.folder))), stage: Some(stage), ..self }
    }

    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        self.beneath.without_openat2();
        self
    }

    /// Makes the folder `path`, open to its owner alone. One that is there is kept; in place,
    /// something else that is there is removed: a link itself, never what it points to.
    ///
    /// # Errors
    /// The path is not valid, something else has the name, or the system refuses.
    pub fn make_dir(&self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let spot = self.beneath.spot(path)?;
        self.make_dir_at(&spot, path).map_err(|error| Error::io("make the folder", path, error))
    }

    fn make_dir_at(&self, spot: &Spot, path: &[u8]) -> SysResult<()> {
        for _ in 0..ATTEMPTS_MAX {
            match rustix::fs::mkdirat(&spot.dir, &spot.name, Mode::RWXU) {
                Ok(()) => {
                    self.beneath.forget(path);
                    return Ok(());
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            match pin(&spot.dir, &spot.name).and_then(|fd| Ok((stat_fd(&fd)?, fd))) {
                Ok((stat, fd)) if file_type(&stat) == FileType::Directory => return self.reuse(fd, folder_id(&stat).0),
                Ok(_) if !self.options.in_place => return Err(Errno::EXIST),
                Ok(_) => match rustix::fs::unlinkat(&spot.dir, &spot.name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(error) => return Err(error),
                },
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EXIST)
    }

    /// Prepares a folder that was there.
    fn reuse(&self, dir: OwnedFd, dev: u64) -> SysResult<()> {
        if !rustix::process::geteuid().is_root() {
            // A refusal shows in what is placed there next.
            let _ = open_up(dir.as_fd());
        }
        let mut mounts = lock(&self.mounts);
        if dev != self.dev && mounts.iter().all(|(known, _)| *known != dev) {
            mounts.push((dev, dir));
        }
        Ok(())
    }

    /// Begins the regular file `path` of `size` bytes.
    ///
    /// # Errors
    /// The path is not valid, its folder is not there, or the system refuses.
    pub fn begin_file(&self, path: &[u8], size: u64) -> Result<PendingFile> {
        let spot = self.beneath.spot(path)?;
        let hidden = if self.stage.is_some() { spot.name.clone() } else { self.hidden_name(path)? };
        PendingFile::new(spot, hidden, path, size, self.options, self.beneath.clone(), self.write_out.clone())
            .map_err(|error| Error::io("make the file", path, error))
    }

    /// Makes the symbolic link `path` that holds `target`, which is not looked at.
    ///
    /// # Errors
    /// The path is not valid, the name is taken, or the system refuses.
    pub fn symlink(&self, path: &[u8], target: &[u8], meta: &Meta) -> Result<Vec<Difference>> {
        self.special(path, &Special::Symlink(target), meta)
    }

    /// Makes the named pipe `path`.
    ///
    /// # Errors
    /// As [`Placer::symlink`].
    pub fn fifo(&self, path: &[u8], meta: &Meta) -> Result<Vec<Difference>> {
        self.special(path, &Special::Fifo, meta)
    }

    /// Makes the device `path`; `node` is a [`Node::CharDevice`] or [`Node::BlockDevice`]. Where
    /// that is not allowed, nothing is made and the difference says so.
    ///
    /// # Errors
    /// As [`Placer::symlink`], and `node` is something else.
    pub fn device(&self, path: &[u8], node: &Node, meta: &Meta) -> Result<Vec<Difference>> {
        let (kind, major, minor) = match *node {
            Node::CharDevice { major, minor } => (FileType::CharacterDevice, major, minor),
            Node::BlockDevice { major, minor } => (FileType::BlockDevice, major, minor),
            _ => return Err(Error::unfit(path, "is no device")),
        };
        let left_out =
            |message: String| vec![Difference { path: path.to_vec(), attribute: "device".to_owned(), message }];
        if !self.options.privileged {
            return Ok(left_out("not made: it gives power on this host".to_owned()));
        }
        match self.special(path, &Special::Device(kind, rustix::fs::makedev(major, minor)), meta) {
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                Ok(left_out(format!("not made: {source}")))
            }
            made => made,
        }
    }

    fn special(&self, path: &[u8], special: &Special<'_>, meta: &Meta) -> Result<Vec<Difference>> {
        let refused = |error| Error::io("make", path, error);
        let give = |pinned: &OwnedFd| apply(&Placed::Pinned(pinned.as_fd()), meta, self.options.privileged, path);
        let spot = self.beneath.spot(path)?;
        // One that is right stays the one it is: made anew it would look changed to whoever reads next.
        if self.options.in_place
            && let Ok(there) = pin(&*spot.dir, &spot.name)
            && special.is(&there)
        {
            return Ok(give(&there));
        }
        let name = self.hidden_name(path)?;
        special.make(&spot.dir, &name).map_err(refused)?;
        let hidden = Hidden::new(spot.dir, name);
        let pinned = pin(&hidden.dir, &hidden.name).map_err(refused)?;
        // Attributes must not go to something that was put there instead, or has another name.
        if !special.is(&pinned) {
            return Err(Error::unfit(path, "was replaced while it was made"));
        }
        let differences = give(&pinned);
        hidden.publish(&spot.name, self.options).map_err(|error| unnamed("make", path, error))?;
        if self.options.in_place {
            self.beneath.forget(path);
        }
        Ok(differences)
    }

    /// Makes `path` another name of the regular file `first`, which is in the target; false if in place
    /// it was that already.
    ///
    /// # Errors
    /// A path is not valid, `first` is no regular file, the name is taken, or the file system has
    /// no hard links.
    pub fn hardlink(&self, path: &[u8], first: &[u8]) -> Result<bool> {
        let refused = |error| Error::io("make the hard link", path, error);
        let from = self.beneath.spot(first)?;
        let to = self.beneath.spot(path)?;
        let stat = stat_at(&from.dir, &from.name).map_err(|error| Error::io("look at", first, error))?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(Error::unfit(first, "is no regular file to link to"));
        }
        let link = |name: &CStr| rustix::fs::linkat(&from.dir, &from.name, &to.dir, name, AtFlags::empty());
        match link(&to.name) {
            Err(Errno::EXIST) if self.options.in_place => {}
            other => return other.map(|()| true).map_err(refused),
        }
        if stat_at(&to.dir, &to.name).is_ok_and(|there| folder_id(&there) == folder_id(&stat)) {
            return Ok(false);
        }
        let name = self.hidden_name(path)?;
        link(&name).map_err(refused)?;
        let hidden = Hidden::new(to.dir.clone(), name.clone());
        hidden.publish(&to.name, self.options).map_err(|error| unnamed("make the hard link", path, error))?;
        self.beneath.forget(path);
        // A rename between two names of one file does nothing, and says that it went well.
        match rustix::fs::unlinkat(&to.dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(refused(error)),
        }
    }

    /// Gives the folder `path` its attributes; the empty path is the target itself.
    ///
    /// # Errors
    /// The path is not valid or leads to no folder. Attributes that cannot be set are no errors
    /// but returned.
    pub fn finish_dir(&self, path: &[u8], meta: &Meta) -> Result<Vec<Difference>> {
        let dir = self.beneath.folder(path)?;
        Ok(apply(&Placed::Pinned(dir.as_fd()), meta, self.options.privileged, path))
    }

    /// Removes `path` and, if it is a folder, all that is in it; nothing there is no error. Links
    /// are removed, not followed, and no mount point is entered.
    ///
    /// # Errors
    /// The path is not valid or is the target itself, or something in it cannot be removed.
    pub fn remove(&self, path: &[u8]) -> Result<()> {
        let spot = self.beneath.spot(path)?;
        self.beneath.forget(path);
        remove_tree(&spot.dir, &spot.name).map_err(|error| Error::io("remove", path, error))
    }

    /// Makes all that was placed durable.
    ///
    /// # Errors
    /// A disk refuses: what was placed must be taken for lost.
    pub fn sync(&self) -> Result<()> {
        let failed = |error| Error::io("make durable", b"", error);
        self.write_out.finish().map_err(failed)?;
        rustix::fs::syncfs(self.beneath.root()).map_err(failed)?;
        for (_, dir) in lock(&self.mounts).iter() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let open = rustix::fs::openat(dir, c".", flags, Mode::empty()).map_err(failed)?;
            rustix::fs::syncfs(open).map_err(failed)?;
        }
        Ok(())
    }

    fn hidden_name(&self, path: &[u8]) -> Result<CString> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("{}{number}", self.prefix)).map_err(|error| Error::io("name", path, error))
    }
}
