//! The single changes of a restore: each can be done, undone, and found half done.
//!
//! Each records inode numbers (or image ids) of the old and the new thing before anything is
//! touched. After a crash, where these are now says what was done; a change that finds neither
//! state refuses, because somebody else was at work.
//!
//! Two things change places in one step where the file system can do that. Elsewhere it takes three
//! renames by way of a third name, and every state between them is known.

use super::World;
use super::raw_path::from_hex;
use super::{Error, Result};
use crate::id::to_hex;
use crate::repo::entry::{Meta, Time};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "swap", rename_all = "lowercase")]
pub enum Swap {
    /// The new thing takes the old one's name, and the other way round.
    Exchange {
        /// The name that the application knows.
        #[serde(with = "super::raw_path")]
        live: PathBuf,
        /// Where the new thing waits, and the old one is kept.
        #[serde(with = "super::raw_path")]
        kept: PathBuf,
        /// The old thing's inode number.
        old: u64,
        /// The new thing's.
        new: u64,
    },
    /// A new thing comes to a name that nothing had.
    Come {
        /// The name that it gets.
        #[serde(with = "super::raw_path")]
        live: PathBuf,
        /// Where it waits.
        #[serde(with = "super::raw_path")]
        staged: PathBuf,
        /// Its inode number.
        new: u64,
    },
    /// An old thing goes aside, and its name stays free.
    Go {
        /// The name that it has.
        #[serde(with = "super::raw_path")]
        live: PathBuf,
        /// Where it is kept.
        #[serde(with = "super::raw_path")]
        kept: PathBuf,
        /// Its inode number.
        old: u64,
    },
    /// A folder gets other attributes.
    Attributes {
        /// The folder.
        #[serde(with = "super::raw_path")]
        path: PathBuf,
        /// What it had.
        old: Attributes,
        /// What it gets.
        new: Attributes,
    },
    /// A tag goes to another image.
    Tag {
        /// The tag.
        tag: String,
        /// The image that had it, if one had.
        old: Option<String>,
        /// The image that gets it; none if it goes.
        new: Option<String>,
        /// The tag that keeps the old image.
        kept: String,
    },
}

/// Attributes of a file or folder, for the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanos: u32,
    xattrs: Vec<(String, String)>,
}

impl From<&Meta> for Attributes {
    fn from(meta: &Meta) -> Self {
        Self {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            seconds: meta.mtime.seconds,
            nanos: meta.mtime.nanos,
            xattrs: meta.xattrs.iter().map(|(name, value)| (to_hex(name), to_hex(value))).collect(),
        }
    }
}

impl From<&Attributes> for Meta {
    fn from(found: &Attributes) -> Self {
        let pairs = found.xattrs.iter().filter_map(|(name, value)| Some((from_hex(name)?, from_hex(value)?)));
        Self {
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            mtime: Time { seconds: found.seconds, nanos: found.nanos },
            xattrs: pairs.collect(),
        }
    }
}

/// Which of two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// As it was before the restore.
    Old,
    /// As the snapshot has it.
    New,
}

impl Swap {
    /// Brings it to `side`, from wherever it is. Done twice, it does nothing the second time. On the
    /// way back only what was done is undone: what somebody else put at an untouched name stays.
    ///
    /// # Errors
    /// What is there is neither the old nor the new thing, or the system refuses.
    pub fn bring(&self, side: Side, world: &dyn World) -> Result<()> {
        if side == Side::Old && self.is_untouched(world)? {
            return Ok(());
        }
        match self {
            Self::Exchange { live, kept, old, new } => {
                let (wanted, other) = if side == Side::New { (*new, *old) } else { (*old, *new) };
                exchange(live, kept, wanted, other, world)
            }
            Self::Come { live, staged, new } => match side {
                Side::New => rename(staged, live, *new, world),
                Side::Old => rename(live, staged, *new, world),
            },
            Self::Go { live, kept, old } => match side {
                Side::New => rename(live, kept, *old, world),
                Side::Old => rename(kept, live, *old, world),
            },
            Self::Attributes { path, old, new } => {
                world.set_attributes(path, &Meta::from(if side == Side::New { new } else { old }))
            }
            Self::Tag { tag, old, new, kept } => tag_to(side, tag, old.as_deref(), new.as_deref(), kept, world),
        }
    }

    fn is_untouched(&self, world: &dyn World) -> Result<bool> {
        Ok(match self {
            Self::Exchange { kept, new, .. } => {
                world.inode(kept)? == Some(*new) && world.inode(&third_name(kept))?.is_none()
            }
            Self::Come { staged, new, .. } => world.inode(staged)? == Some(*new),
            Self::Go { kept, .. } => world.inode(kept)?.is_none(),
            Self::Tag { tag, new, .. } => world.image_of(tag)? != *new,
            Self::Attributes { .. } => false,
        })
    }

    /// The names that it changes.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Exchange { live, kept, .. } | Self::Go { live, kept, .. } => vec![live, kept],
            Self::Come { live, staged, .. } => vec![live, staged],
            Self::Attributes { path, .. } => vec![path],
            Self::Tag { .. } => Vec::new(),
        }
    }

    /// True if it must come after all that changes names: they change the times of folders.
    pub fn comes_last(&self) -> bool {
        matches!(self, Self::Attributes { .. })
    }

    /// Where the other side's thing is, once this side stays.
    pub fn leftover(&self, side_that_stays: Side) -> Option<Leftover<'_>> {
        match (self, side_that_stays) {
            (Self::Exchange { kept, .. }, _) | (Self::Go { kept, .. }, Side::New) => Some(Leftover::Path(kept)),
            (Self::Come { staged, .. }, Side::Old) => Some(Leftover::Path(staged)),
            (Self::Tag { old: Some(_), kept, .. }, _) => Some(Leftover::Tag(kept)),
            _ => None,
        }
    }
}

/// What a finished restore still has to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover<'a> {
    /// A file or folder.
    Path(&'a Path),
    /// A tag.
    Tag(&'a str),
}

fn rename(from: &Path, to: &Path, inode: u64, world: &dyn World) -> Result<()> {
    match (world.inode(from)?, world.inode(to)?) {
        (_, Some(there)) if there == inode => Ok(()),
        (Some(here), None) if here == inode => world.rename(from, to),
        _ => Err(Error::Strange { path: to.to_path_buf() }),
    }
}

/// Brings the thing `wanted` to `live` and `other` to `kept`.
fn exchange(live: &Path, kept: &Path, wanted: u64, other: u64, world: &dyn World) -> Result<()> {
    let third = third_name(kept);
    let mut can_exchange = true;
    // Each turn does one rename; three are needed at most, four if another direction was begun.
    for _ in 0..8 {
        let (l, k, t) = (world.inode(live)?, world.inode(kept)?, world.inode(&third)?);
        let is = |found: Option<u64>, inode: u64| found == Some(inode);
        if is(l, wanted) && is(k, other) && t.is_none() {
            return Ok(());
        } else if is(l, other) && is(k, wanted) && t.is_none() {
            if can_exchange && world.exchange(live, kept)? {
                continue;
            }
            can_exchange = false;
            world.rename(live, &third)?;
        } else if l.is_none() && is(k, wanted) && is(t, other) {
            world.rename(kept, live)?;
        } else if is(l, wanted) && k.is_none() && is(t, other) {
            world.rename(&third, kept)?;
        } else if l.is_none() && is(k, other) && is(t, wanted) {
            world.rename(&third, live)?;
        } else if is(l, other) && k.is_none() && is(t, wanted) {
            world.rename(&third, kept)?;
        } else {
            break;
        }
    }
    Err(Error::Strange { path: live.to_path_buf() })
}

fn third_name(kept: &Path) -> PathBuf {
    let mut name = kept.as_os_str().to_owned();
    name.push("~");
    name.into()
}

fn tag_to(side: Side, tag: &str, old: Option<&str>, new: Option<&str>, kept: &str, world: &dyn World) -> Result<()> {
    let now = world.image_of(tag)?;
    let (wanted, other) = if side == Side::New { (new, old) } else { (old, new) };
    if now.as_deref() == wanted {
        return Ok(());
    }
    // A build or a pull meanwhile: that image would lose its name.
    if now.is_some() && now.as_deref() != other {
        return Err(Error::StrangeTag { tag: tag.to_owned() });
    }
    // Without any name the old image could be pruned.
    if side == Side::New
        && let Some(old) = old
    {
        world.tag(old, kept)?;
    }
    match wanted {
        Some(image) => world.tag(image, tag),
        None => world.untag(tag),
    }
}
