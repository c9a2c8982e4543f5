//! A repository with a past, and what must be true of it whatever has happened to it: clean, every
//! acknowledged snapshot there and the same, ready for the next capture.

use crate::snap::{Sandbox, copy_folder, id_of};
use crate::trees::{mutate, source_tree};
use std::path::{Path, PathBuf};

/// What was captured, and what is there to capture next.
pub struct Scene {
    /// What a capture finds now.
    pub source: PathBuf,
    /// Acknowledged snapshots: id and a copy of what they were made from.
    pub kept: Vec<(String, PathBuf)>,
}

impl Scene {
    /// Initialises the sandbox's repository and captures a small folder in `dir` `captures` times,
    /// with changes after each.
    pub fn new(sandbox: &Sandbox, dir: &Path, captures: usize) -> Self {
        let source = dir.join("source");
        source_tree(&source, 40, 11);
        sandbox.init();
        let mut kept = Vec::new();
        for i in 0..captures {
            let report = sandbox.create(&source);
            let original = dir.join(format!("original-{i}"));
            copy_folder(&source, &original).expect("a copy");
            kept.push((id_of(&report["snapshot"]).expect("an id"), original));
            mutate(&source, i as u64);
        }
        Self { source, kept }
    }

    /// A folder to capture, and no repository yet.
    pub fn before_init(dir: &Path) -> Self {
        let source = dir.join("source");
        source_tree(&source, 40, 11);
        Self { source, kept: Vec::new() }
    }

    /// Fresh processes find all as it must be. `acknowledged` are snapshots of the present source
    /// beside those kept from the past.
    pub fn holds(&self, sandbox: &Sandbox, acknowledged: &[String]) -> Result<(), String> {
        sandbox.checks_clean()?;
        let listed = sandbox.try_list()?;
        let mut ids = Vec::new();
        for snapshot in &listed {
            let id = id_of(snapshot)?;
            // One that says it is incomplete was acknowledged to nobody as whole.
            if snapshot["complete"] != false {
                let original =
                    self.kept.iter().find(|(kept, _)| *kept == id).map_or(&self.source, |(_, original)| original);
                sandbox.restores_to(&id, original)?;
                ids.push(id);
            }
        }
        let wanted = self.kept.iter().map(|(id, _)| id).chain(acknowledged);
        if let Some(lost) = wanted.into_iter().find(|id| !ids.contains(id)) {
            return Err(format!("acknowledged snapshot {lost} is not listed as complete: {listed:?}"));
        }
        let next = sandbox.try_create(&self.source)?;
        sandbox.restores_to(&id_of(&next["snapshot"])?, &self.source)?;
        sandbox.checks_clean()
    }
}
