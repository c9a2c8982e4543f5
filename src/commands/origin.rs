//! Which folder a stack has its name from. Two folders of one name make one stack as long as nobody says --stack:
//! that is told when it happens, and holds a policy back.

use crate::monitor::{Monitor, Warning};
use crate::repo::manifest::Manifest;
use crate::repo::printable::one_line;
use crate::repo::{Snapshot, SnapshotSet};
use crate::stack::compose::selection::Selection;
use std::path::Path;

/// The folder that was captured, if the stack has its name from it.
pub(super) fn folder_of(manifest: &Manifest) -> Option<&str> {
    manifest.directory().filter(|folder| names(Path::new(folder), &manifest.stack))
}

/// True if a stack of this folder gets this name by itself.
fn names(folder: &Path, stack: &str) -> bool {
    let own = folder.file_name().map(|name| one_line(&name.to_string_lossy()));
    let by_compose = || Selection { directory: folder.to_path_buf(), ..Selection::default() }.folder_name();
    own.is_some_and(|own| own == stack) || by_compose() == stack
}

/// True if `snapshot`, of a stack of this name, is of another folder than `root`, and both give it that name.
pub(super) fn is_other(snapshot: &Snapshot, root: &Path) -> bool {
    let of = folder_of(&snapshot.manifest);
    of.is_some_and(|folder| folder != root.to_string_lossy() && names(root, &snapshot.manifest.stack))
}

/// Says if the last snapshot of this stack on this host was of another folder.
pub(super) fn tell_of_other(before: &SnapshotSet, host: &str, stack: &str, root: &Path, monitor: &dyn Monitor) {
    let Some(last) = before.newest(host, stack).filter(|last| is_other(last, root)) else { return };
    let folder = folder_of(&last.manifest).unwrap_or_default();
    let message = format!("its last snapshot was of {folder}: if that is another one, give one of them --stack NAME");
    monitor.warn(&Warning::note(stack, message));
}
