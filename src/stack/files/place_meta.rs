//! Giving a placed thing its attributes, by handle, in the order that is safe and that works.
//!
//! - `user.*` attributes and the removal of foreign ones first: they need a writable mode.
//! - The owner before the mode: a file must not be set-uid for the wrong owner for one instant,
//!   and changing the owner takes set-id bits and capabilities away.
//! - ACLs and capabilities after the mode, which would change them; times last of all.
//!
//! What is right already is not set again: that would change the time of the last change of attributes, by which
//! a capture knows what it need not read.
//!
//! What the system refuses is not an error of the restore: it is a [`Difference`], and the rest is
//! set all the same.

use super::handle::{proc_path, stat_fd};
use super::xattr::Subject;
use crate::repo::entry::Meta;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Statx, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result as SysResult};
use std::os::fd::{AsFd, BorrowedFd};

const SET_ID: u32 = 0o6000;

/// Something that is not as the snapshot has it, because this host does not allow it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Path relative to the target.
    #[serde(serialize_with = "shown_path")]
    pub path: Vec<u8>,
    /// What differs: `owner`, `mode`, `times`, `device`, or `xattr` and its name.
    pub attribute: String,
    /// Why, in one sentence.
    pub message: String,
}

fn shown_path<S: serde::Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::repo::entry::shown(path))
}

/// A placed thing, by a handle.
pub(super) enum Placed<'a> {
    /// A file that is open.
    Open(BorrowedFd<'a>),
    /// Something that is only pinned.
    Pinned(BorrowedFd<'a>),
}

impl Placed<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(fd) | Self::Pinned(fd) => *fd,
        }
    }

    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> SysResult<()> {
        // All ones would mean "leave as it is".
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(self.fd(), c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    fn chmod(&self, mode: u32) -> SysResult<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Pinned(fd) => rustix::fs::chmod(proc_path(fd), mode),
        }
    }

    fn set_mtime(&self, meta: &Meta) -> SysResult<()> {
        // Larger numbers have meanings of their own.
        if meta.mtime.nanos >= 1_000_000_000 {
            return Err(Errno::INVAL);
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: meta.mtime.seconds, tv_nsec: meta.mtime.nanos.into() },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times),
            Self::Pinned(fd) => rustix::fs::utimensat(CWD, proc_path(fd), &times, AtFlags::empty()),
        }
    }

    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Open(fd) => Subject::Open(fd.as_fd()),
            Self::Pinned(fd) => Subject::Pinned(proc_path(fd).into_bytes()),
        }
    }
}

/// Gives `placed` the attributes `meta`; with `privileged` also those that give power.
pub(super) fn apply(placed: &Placed<'_>, meta: &Meta, privileged: bool, path: &[u8]) -> Vec<Difference> {
    let mut work = Apply { placed, meta, privileged, path, touched: false, differences: Vec::new() };
    match stat_fd(placed.fd()) {
        Ok(now) => work.all(&now),
        Err(error) => work.differs("mode", reason(error)),
    }
    work.differences
}

/// Gives the owner of the folder `dir` all access until it is finished.
pub(super) fn open_up(dir: BorrowedFd<'_>) -> SysResult<()> {
    let mode = u32::from(stat_fd(dir)?.stx_mode) & 0o7777;
    if mode & 0o700 == 0o700 { Ok(()) } else { Placed::Pinned(dir).chmod(mode | 0o700) }
}

struct Apply<'a> {
    placed: &'a Placed<'a>,
    meta: &'a Meta,
    privileged: bool,
    path: &'a [u8],
    /// True once something was set that may change the mode.
    touched: bool,
    differences: Vec<Difference>,
}

impl Apply<'_> {
    fn all(&mut self, now: &Statx) {
        let kind = FileType::from_raw_mode(now.stx_mode.into());
        let subject = self.placed.subject();
        let present = subject.names().unwrap_or_default();
        self.remove_foreign(&subject, &present);
        self.set_xattrs(&subject, &present, true);
        let owned = self.own(now);
        if kind != FileType::Symlink {
            self.set_mode(now, kind, owned);
        }
        self.set_xattrs(&subject, &present, false);
        let mtime = (now.stx_mtime.tv_sec, now.stx_mtime.tv_nsec);
        if mtime != (self.meta.mtime.seconds, self.meta.mtime.nanos)
            && let Err(error) = self.placed.set_mtime(self.meta)
        {
            self.differs("times", reason(error));
        }
    }

    /// Removes the attributes that the snapshot does not have, among them ACLs that a new thing
    /// has inherited. Labels that the system itself gives stay.
    fn remove_foreign(&mut self, subject: &Subject<'_>, present: &[Vec<u8>]) {
        for name in present.iter().filter(|name| is_content(name)) {
            if self.meta.xattrs.iter().any(|(wanted, _)| wanted == name) {
                continue;
            }
            self.touched = true;
            if let Err(error) = subject.unset(name)
                && error != Errno::NODATA
            {
                self.differs(&attribute(name), format!("it is there but not in the snapshot: {}", reason(error)));
            }
        }
    }

    fn set_xattrs(&mut self, subject: &Subject<'_>, present: &[Vec<u8>], of_user: bool) {
        let meta = self.meta;
        for (name, value) in meta.xattrs.iter().filter(|(name, _)| name.starts_with(b"user.") == of_user) {
            if !self.privileged && gives_power(name) {
                self.differs(&attribute(name), "withheld: it gives power on this host".to_owned());
                continue;
            }
            // What is right already may be something that only the system may set.
            let same = present.contains(name) && subject.value(name).is_ok_and(|now| now.as_ref() == Some(value));
            self.touched |= !same;
            if !same && let Err(error) = subject.set(name, value) {
                self.differs(&attribute(name), reason(error));
            }
        }
    }

    /// True if owner and group are now those of the snapshot.
    fn own(&mut self, now: &Statx) -> bool {
        let Meta { uid, gid, .. } = *self.meta;
        if (now.stx_uid, now.stx_gid) == (uid, gid) {
            return true;
        }
        self.touched = true;
        let Err(error) = self.placed.chown(Some(uid), Some(gid)) else { return true };
        // The group alone may be allowed.
        let group = now.stx_gid == gid || self.placed.chown(None, Some(gid)).is_ok();
        let what = if group { format!("user {uid}") } else { format!("user {uid}, group {gid}") };
        self.differs("owner", format!("{what} could not be set: {}", reason(error)));
        false
    }

    fn set_mode(&mut self, now: &Statx, kind: FileType, owned: bool) {
        let wanted = self.meta.mode & 0o7777;
        let set_id = wanted & SET_ID != 0;
        let mut mode = wanted;
        if set_id && !owned {
            mode &= !SET_ID;
            self.differs("mode", "set-id bits left off: the owner could not be set".to_owned());
        } else if set_id && !self.privileged && kind == FileType::RegularFile {
            mode &= !SET_ID;
            self.differs("mode", "set-id bits withheld: they give power on this host".to_owned());
        }
        if !self.touched && u32::from(now.stx_mode) & 0o7777 == mode {
            return;
        }
        if let Err(error) = self.placed.chmod(mode) {
            return self.differs("mode", reason(error));
        }
        // The kernel drops the set-gid bit without a word for who is not in the group.
        if mode & SET_ID != 0
            && stat_fd(self.placed.fd()).is_ok_and(|now| u32::from(now.stx_mode) & 0o7777 & SET_ID != mode & SET_ID)
        {
            self.differs("mode", "the system dropped the set-id bits".to_owned());
        }
    }

    fn differs(&mut self, attribute: &str, message: String) {
        self.differences.push(Difference { path: self.path.to_vec(), attribute: attribute.to_owned(), message });
    }
}

fn attribute(name: &[u8]) -> String {
    format!("xattr {}", crate::repo::entry::shown(name))
}

fn is_content(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

fn gives_power(name: &[u8]) -> bool {
    name.starts_with(b"trusted.") || name == b"security.capability"
}

pub(super) fn reason(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}
