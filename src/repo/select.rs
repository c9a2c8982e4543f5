//! Which snapshot a person means.

use super::sync::{Snapshot, SnapshotSet};
use super::{Error, Result};
use crate::id::SnapshotId;
use std::collections::{HashMap, HashSet};

/// Digits of a whole id.
const ID_DIGITS: usize = 64;

/// Only snapshots of this host and stack, where they are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The host.
    pub host: Option<String>,
    /// The stack.
    pub stack: Option<String>,
}

impl Scope {
    /// True if the snapshot is within.
    pub fn holds(&self, snapshot: &Snapshot) -> bool {
        let (host, stack) = snapshot.manifest.lineage();
        self.fits(host, stack)
    }

    /// True if this host and stack are within. A stack may be named with its host: `clinic@alpha`.
    pub fn fits(&self, host: &str, stack: &str) -> bool {
        let with_host = |text: &str| text.strip_suffix(host).and_then(|rest| rest.strip_suffix('@')) == Some(stack);
        self.host.as_deref().is_none_or(|h| h == host)
            && self.stack.as_deref().is_none_or(|s| s == stack || with_host(s))
    }

    /// As a person typed it.
    pub fn typed(&self) -> String {
        let option = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
        let all = [option("--stack", &self.stack), option("--host", &self.host)];
        all.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// The snapshot that `text` names: a unique beginning of an id, `latest`, `latest:TAG`, a tag, or
/// `@TIME` (the newest at or before it; `parse_time` turns the text into an RFC 3339 UTC time).
///
/// # Errors
/// None fits, or several do.
pub fn select<'s>(
    set: &'s SnapshotSet,
    scope: &Scope,
    text: &str,
    parse_time: &dyn Fn(&str) -> Option<String>,
) -> Result<&'s Snapshot> {
    let all: Vec<&Snapshot> = set.snapshots.iter().filter(|s| scope.holds(s)).collect();
    let newest = |fits: &dyn Fn(&Snapshot) -> bool| newest(set, scope, text, fits);
    if let Some(when) = text.strip_prefix('@') {
        let time = parse_time(when).ok_or_else(|| none(text, "; a time looks like @2026-11-20T03:00"))?;
        return newest(&|s| s.manifest.time <= time);
    }
    if text == "latest" {
        return newest(&|_| true);
    }
    if let Some(tag) = text.strip_prefix("latest:") {
        return newest(&|s| has_tag(s, tag));
    }
    // Whoever may write a snapshot may give it any tag: none may stand for another snapshot's id.
    let is_tag = text.len() != ID_DIGITS && all.iter().any(|s| has_tag(s, text));
    if is_tag && is_digits(text) && all.iter().any(|s| s.id.to_string().starts_with(text)) {
        let hint = format!(
            " alone: it is a tag, and the beginning of an id; latest:{text} is the tag, more digits are the id"
        );
        return Err(none(text, &hint));
    }
    if is_tag {
        return newest(&|s| has_tag(s, text));
    }
    by_prefix(text, &all, set)
}

/// The one snapshot whose id begins with `text` among those that were here before and are gone or damaged.
pub fn select_lost<'s>(set: &'s SnapshotSet, text: &str) -> Option<&'s Snapshot> {
    let lost = set.vanished.iter().chain(&set.damaged);
    let mut fits = lost.filter(|s| text.len() >= 4 && s.id.to_string().starts_with(text));
    fits.next().filter(|_| fits.next().is_none())
}

fn has_tag(snapshot: &Snapshot, tag: &str) -> bool {
    snapshot.manifest.tags.iter().any(|t| t == tag)
}

/// True for what may be an id, or the beginning of one.
fn is_digits(text: &str) -> bool {
    (4..=ID_DIGITS).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn by_prefix<'s>(text: &str, all: &[&'s Snapshot], set: &SnapshotSet) -> Result<&'s Snapshot> {
    if !is_digits(text) {
        return Err(none(text, "; give at least four digits of an id, a tag, latest, or @TIME"));
    }
    let fits: Vec<&Snapshot> = all.iter().copied().filter(|s| s.id.to_string().starts_with(text)).collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => {
            let unreadable = set.unreadable.iter().map(|one| (&one.id, one.message.as_str(), one.newer));
            if let Some(one) = set.forgotten.iter().find(|s| s.id.to_string().starts_with(text)) {
                return Err(none(
                    text,
                    &format!("; it was forgotten: `snap undelete {}` takes it back", one.id.short()),
                ));
            }
            let gone = "it was here before and is gone; nobody has forgotten it";
            let mut lost = unreadable.chain(set.vanished.iter().map(|snapshot| (&snapshot.id, gone, false)));
            Err(match lost.find(|(id, ..)| id.to_string().starts_with(text)) {
                Some((id, _, true)) => Error::Newer { object: format!("snapshot {}", id.short()) },
                Some((id, reason, false)) => {
                    Error::Damaged { object: format!("snapshot {}", id.short()), what: reason.to_owned() }
                }
                None => none(text, "; `snap list` shows them all"),
            })
        }
        several => Err(Error::Ambiguous {
            text: text.to_owned(),
            ids: several.iter().map(|s| s.id.to_string()[..12].to_owned()).collect(),
        }),
    }
}

fn none(text: &str, hint: &str) -> Error {
    Error::NoSnapshot { text: text.to_owned(), hint: hint.to_owned() }
}

/// The newest snapshot within `scope` that `fits`. They must be of one lineage: nobody means the newest of
/// another stack. It must also be known to be the newest: one that cannot be read, or that is gone, may be
/// the one that the person means, and nobody is to get an older one unawares.
fn newest<'s>(
    set: &'s SnapshotSet,
    scope: &Scope,
    text: &str,
    fits: &dyn Fn(&Snapshot) -> bool,
) -> Result<&'s Snapshot> {
    let fitting: Vec<&Snapshot> = set.snapshots.iter().filter(|s| scope.holds(s) && fits(s)).collect();
    let mut stacks: Vec<String> = fitting.iter().map(|s| format!("{}@{}", s.manifest.stack, s.manifest.host)).collect();
    stacks.sort_unstable();
    stacks.dedup();
    if stacks.len() > 1 {
        let hint = format!(" alone: there are {}; say which with --stack", stacks.join(", "));
        return Err(none(text, &hint));
    }
    let found = fitting.last().copied();
    let followed = found.map(|found| ancestors(set, found)).unwrap_or_default();
    let lineage = found.map(|found| found.manifest.lineage());
    let doubt = |id: &SnapshotId, what: String| {
        let instead = match found {
            Some(older) => format!(
                "which may be the one that “{text}” means; name one by its id: the newest that can be read is {}",
                older.id.short()
            ),
            None => format!("which may be the one that “{text}” means"),
        };
        Error::Damaged { object: format!("snapshot {}", id.short()), what: format!("{what}, {instead}") }
    };
    let gone = set.vanished.iter().rev().find(|s| {
        scope.holds(s) && fits(s) && lineage.is_none_or(|l| l == s.manifest.lineage()) && !followed.contains(&s.id)
    });
    if let Some(gone) = gone {
        return Err(doubt(&gone.id, format!("that of {} was here before and is gone", gone.manifest.time)));
    }
    // Of what lineage an unreadable one is, only those tell that follow it.
    let others = set.snapshots.iter().filter(|s| lineage.is_some_and(|l| l != s.manifest.lineage()));
    let others: HashSet<SnapshotId> = others.flat_map(|s| s.manifest.predecessors.iter().copied()).collect();
    let unread = set.unreadable.iter().find(|one| !followed.contains(&one.id) && !others.contains(&one.id));
    match (unread, found) {
        (Some(one), _) if one.newer => Err(Error::Newer { object: format!("snapshot {}", one.id.short()) }),
        (Some(one), _) => Err(doubt(&one.id, one.message.clone())),
        (None, Some(found)) => Ok(found),
        (None, None) => Err(none(text, "; `snap list` shows them all")),
    }
}

/// The snapshots that `last` follows, as far as the chain can be read.
fn ancestors(set: &SnapshotSet, last: &Snapshot) -> HashSet<SnapshotId> {
    let all = set.snapshots.iter().chain(&set.forgotten).chain(&set.vanished);
    let mut before: HashMap<SnapshotId, &[SnapshotId]> =
        all.map(|s| (s.id, s.manifest.predecessors.as_slice())).collect();
    before.extend(set.removed.values().map(|gone| (gone.id, gone.predecessors.as_slice())));
    let (mut out, mut open) = (HashSet::new(), last.manifest.predecessors.clone());
    while let Some(id) = open.pop() {
        if out.insert(id) {
            open.extend(before.get(&id).copied().unwrap_or_default());
        }
    }
    out
}
