//! Transactions against plain folders and an engine that is written down, killed at every step.

mod journal;
mod kill;
mod swap;

use super::*;
use crate::repo::evidence::{Evidence, Verdict};
use crate::stack::files::Disk;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// What lives in another process and survives a kill of this one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Engine {
    tags: BTreeMap<String, String>,
    /// Services that run, and the content of `.env` that each was started with.
    running: BTreeMap<String, String>,
    volumes: BTreeMap<String, String>,
}

/// Folders and an engine; the n-th thing that is done kills the process, before or after it.
struct Toy {
    root: PathBuf,
    engine: RefCell<Engine>,
    ran: Vec<String>,
    healthy: bool,
    can_exchange: bool,
    /// What is left to do until the kill.
    fuse: Cell<Option<u32>>,
    /// What somebody renames while the application is proved.
    lost: Cell<Option<PathBuf>>,
    /// How long the journal was when something was done last.
    written: Cell<u64>,
}

/// Passed to `std::panic::panic_any`: the process was killed.
struct Killed;

impl Toy {
    fn new(root: &Path) -> Self {
        let engine = RefCell::default();
        let root = root.to_path_buf();
        let (fuse, lost, written) = (Cell::new(None), Cell::new(None), Cell::new(0));
        Self { root, engine, ran: Vec::new(), healthy: true, can_exchange: true, fuse, lost, written }
    }

    /// Runs `work`; it may be killed before or after.
    fn step<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.burn();
        let journal = std::fs::metadata(self.root.join("state/journal"));
        self.written.set(journal.map_or(0, |found| found.len()));
        let done = work();
        self.burn();
        done
    }

    fn burn(&self) {
        if let Some(left) = self.fuse.get() {
            if left == 0 {
                std::panic::panic_any(Killed);
            }
            self.fuse.set(Some(left - 1));
        }
    }

    fn proof(&self, passed: bool) -> Proof {
        let evidence = Evidence {
            check: "GET /health".to_owned(),
            service: "web".to_owned(),
            passed,
            proves: true,
            attempts: 1,
            answer: if passed { "status 200" } else { "status 500" }.to_owned(),
            time: String::new(),
            seconds: 0.0,
        };
        Proof { verdict: Verdict::of(std::slice::from_ref(&evidence)), evidence: vec![evidence], stopped: false }
    }
}

impl World for Toy {
    fn inode(&self, path: &Path) -> Result<Option<u64>> {
        Ok(Disk.inode(path)?)
    }
    fn exchange(&self, a: &Path, b: &Path) -> Result<bool> {
        if !self.can_exchange {
            return Ok(false);
        }
        self.step(|| Ok(Disk.exchange(a, b)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step(|| Ok(Disk.rename(from, to)?))
    }
    fn set_attributes(&self, path: &Path, meta: &Meta) -> Result<()> {
        self.step(|| Ok(Disk.set_attributes(path, meta).map(|_| ())?))
    }
    fn sync_folder_of(&self, path: &Path) -> Result<()> {
        Ok(Disk.sync_folder_of(path)?)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.step(|| Ok(Disk.remove(path)?))
    }
    fn image_of(&self, tag: &str) -> Result<Option<String>> {
        Ok(self.engine.borrow().tags.get(tag).cloned())
    }
    fn tag(&self, image: &str, tag: &str) -> Result<()> {
        self.step(|| {
            self.engine.borrow_mut().tags.insert(tag.to_owned(), image.to_owned());
            Ok(())
        })
    }
    fn untag(&self, tag: &str) -> Result<()> {
        self.step(|| {
            self.engine.borrow_mut().tags.remove(tag);
            Ok(())
        })
    }
    fn stop(&self) -> Result<()> {
        // One service after the other: a kill may come between them.
        for service in ["web", "db", "new"] {
            self.step(|| {
                self.engine.borrow_mut().running.remove(service);
                Ok(())
            })?;
        }
        Ok(())
    }
    fn start(&self, side: Side) -> Result<()> {
        let services: Vec<String> = match side {
            Side::Old => self.ran.clone(),
            Side::New => ["db", "web", "new"].map(str::to_owned).to_vec(),
        };
        for service in services {
            self.step(|| {
                let env = std::fs::read_to_string(self.root.join("project/.env")).unwrap_or_default();
                self.engine.borrow_mut().running.insert(service, env);
                Ok(())
            })?;
        }
        Ok(())
    }
    fn prove(&self, side: Side) -> Proof {
        self.burn();
        if let Some(path) = self.lost.take() {
            std::fs::rename(&path, path.with_extension("lost")).unwrap();
        }
        self.proof(side == Side::Old || self.healthy)
    }
    fn discard(&self, staged: &Staged) -> Result<()> {
        self.step(|| {
            match staged {
                Staged::Path(path) => Disk.remove(path)?,
                Staged::Volume(name) => {
                    self.engine.borrow_mut().volumes.remove(name);
                }
                Staged::Container(_) | Staged::Tag(_) | Staged::Held(_) => {}
            }
            Ok(())
        })
    }
}
