//! Which snapshot a person means.

use super::sync::{Snapshot, SnapshotSet};
use super::{Error, Result};

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
        self.host.as_deref().is_none_or(|h| h == host) && self.stack.as_deref().is_none_or(|s| s == stack)
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
    if let Some(when) = text.strip_prefix('@') {
        let time = parse_time(when).ok_or_else(|| none(text, "; a time looks like @2026-11-20T03:00"))?;
        let before: Vec<&Snapshot> = all.into_iter().filter(|s| s.manifest.time <= time).collect();
        return newest(text, before);
    }
    if text == "latest" {
        return newest(text, all);
    }
    if let Some(tag) = text.strip_prefix("latest:") {
        return newest(text, with_tag(&all, tag));
    }
    let tagged = with_tag(&all, text);
    if !tagged.is_empty() {
        return newest(text, tagged);
    }
    by_prefix(text, &all, set)
}

fn with_tag<'s>(all: &[&'s Snapshot], tag: &str) -> Vec<&'s Snapshot> {
    all.iter().copied().filter(|s| s.manifest.tags.iter().any(|t| t == tag)).collect()
}

fn by_prefix<'s>(text: &str, all: &[&'s Snapshot], set: &SnapshotSet) -> Result<&'s Snapshot> {
    let digits = text.len() <= 64 && text.len() >= 4 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !digits {
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

/// The newest of several, which must be of one lineage: nobody means the newest of another stack.
fn newest<'s>(text: &str, fitting: Vec<&'s Snapshot>) -> Result<&'s Snapshot> {
    let mut stacks: Vec<String> = fitting.iter().map(|s| format!("{}@{}", s.manifest.stack, s.manifest.host)).collect();
    stacks.sort_unstable();
    stacks.dedup();
    if stacks.len() > 1 {
        let hint = format!(" alone: there are {}; say which with --stack", stacks.join(", "));
        return Err(none(text, &hint));
    }
    fitting.into_iter().next_back().ok_or_else(|| none(text, "; `snap list` shows them all"))
}
