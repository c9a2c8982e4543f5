//! In place: files with several names. One whose content is right may be left alone only if the names
//! that it has are those of the snapshot, all of them and no other, which is known at the end.

use crate::stack::files::Placer;
use std::collections::HashMap;

/// What is known of them, and which wait to be judged.
#[derive(Default)]
pub(super) struct Names {
    /// The other names, by the first one.
    others: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// The first names of files that are restored under another one alone.
    heirs: HashMap<Vec<u8>, Vec<u8>>,
    held: Vec<Vec<u8>>,
}

impl Names {
    /// The snapshot has `path` as another name of `first`.
    pub(super) fn add(&mut self, first: &[u8], path: &[u8]) {
        self.others.entry(first.to_vec()).or_default().push(path.to_vec());
    }

    /// The file `first` is restored as `heir`.
    pub(super) fn inherit(&mut self, first: &[u8], heir: &[u8]) {
        self.heirs.insert(heir.to_vec(), first.to_vec());
    }

    /// These have the right content and several names.
    pub(super) fn hold(&mut self, paths: Vec<Vec<u8>>) {
        self.held.extend(paths);
    }

    /// What was held, by the path that the snapshot has the content at: where it is restored to, and
    /// whether it is right there.
    pub(super) fn settle(&mut self, placer: &Placer) -> HashMap<Vec<u8>, (Vec<u8>, bool)> {
        let held = std::mem::take(&mut self.held).into_iter();
        let judged = held.map(|path| {
            let first = self.heirs.get(&path).unwrap_or(&path).clone();
            let others = self.others.get(&first).into_iter().flatten();
            let names: Vec<&[u8]> = std::iter::once(&first).chain(others).map(Vec::as_slice).collect();
            let is_right = placer.are_one_file(&names);
            (first, (path, is_right))
        });
        judged.collect()
    }
}
