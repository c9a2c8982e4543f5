//! Killed at every step, resumed or aborted, killed again: always all old or all new.

use super::*;
use crate::stack::rollback::transaction::Refresh;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An application of which everything differs from its snapshot, made ready to be swapped.
struct Scene {
    dir: tempfile::TempDir,
    swaps: Vec<Swap>,
    staged: Vec<Staged>,
    before: Engine,
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn ino(path: &Path) -> u64 {
    Disk.inode(path).unwrap().unwrap()
}

impl Scene {
    fn new() -> Self {
        let base = Path::new("/dev/shm");
        let dir = if base.is_dir() { tempfile::tempdir_in(base) } else { tempfile::tempdir() }.unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (project, volume) = (root.join("project"), root.join("volumes/media"));
        let stage = root.join(format!("{STAGE_PREFIX}r1"));
        let volume_stage = volume.join(format!("{STAGE_PREFIX}r1"));
        for (side, project, data) in [("old", &project, volume.join("_data")), ("new", &stage, volume_stage.clone())] {
            write(&project.join(".env"), &format!("TAG={side}"));
            write(&project.join("conf/app.ini"), side);
            write(&data.join("a/b"), side);
            write(&data.join(side), "x");
        }
        write(&project.join("same"), "same");
        write(&project.join("compose.override.yaml"), "old");
        write(&stage.join("added/deep/x"), "new");
        let exchange = |live: PathBuf, kept: PathBuf| {
            let (old, new) = (ino(&live), ino(&kept));
            Swap::Exchange { live, kept, old, new }
        };
        let gone = project.join("compose.override.yaml");
        let meta = |path: &Path, seconds: i64, mode: u32| {
            let mtime = crate::repo::entry::Time { seconds, nanos: 5 };
            let meta = Meta { mtime, mode, ..Disk.attributes(path).unwrap() };
            Disk.set_attributes(path, &meta).unwrap();
            meta
        };
        let attributes = |path: PathBuf| {
            let (old, new) = (meta(&path, 1_000_000, 0o755), meta(&path, 2_000_000, 0o711));
            Disk.set_attributes(&path, &old).unwrap();
            Swap::Attributes { path, old: (&old).into(), new: (&new).into() }
        };
        let swaps = vec![
            exchange(project.join(".env"), stage.join(".env")),
            exchange(project.join("conf/app.ini"), stage.join("conf/app.ini")),
            Swap::Come { live: project.join("added"), staged: stage.join("added"), new: ino(&stage.join("added")) },
            Swap::Go { old: ino(&gone), live: gone, kept: stage.join("aside-1") },
            exchange(volume.join("_data"), volume_stage.clone()),
            Swap::Tag {
                tag: "web:1".to_owned(),
                old: Some("sha256:old".to_owned()),
                new: Some("sha256:new".to_owned()),
                kept: "snap-rollback/r1/web:1".to_owned(),
            },
            Swap::Tag {
                tag: "worker:1".to_owned(),
                old: None,
                new: Some("sha256:worker".to_owned()),
                kept: "snap-rollback/r1/worker:1".to_owned(),
            },
            attributes(project.join("conf")),
            attributes(project.clone()),
        ];
        let before = Engine {
            tags: BTreeMap::from([("web:1".to_owned(), "sha256:old".to_owned())]),
            running: ["db", "web"].map(|service| (service.to_owned(), "TAG=old".to_owned())).into(),
            volumes: BTreeMap::new(),
        };
        let staged = vec![Staged::Path(stage), Staged::Path(volume_stage), Staged::Volume("fresh".to_owned())];
        Self { dir, swaps, staged, before }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn toy(&self) -> Toy {
        let mut engine = self.before.clone();
        engine.volumes.insert("fresh".to_owned(), "new".to_owned());
        let ran = vec!["db".to_owned(), "web".to_owned()];
        Toy { engine: RefCell::new(engine), ran, ..Toy::new(&self.root()) }
    }

    fn prepared(&self, safety_complete: bool) -> Journal {
        let mut journal = Journal::begin(&self.root().join("state"), super::journal::begun(), &[]).unwrap();
        journal.append(Event::Staging { staged: self.staged.clone() }).unwrap();
        journal
            .append(Event::Safety { snapshot: "s".to_owned(), complete: safety_complete, lacks: Vec::new() })
            .unwrap();
        journal.append(Event::Prepared { swaps: self.swaps.clone() }).unwrap();
        journal
    }

    /// All that a person could tell the difference by, but the journal.
    fn looks(&self, toy: &Toy) -> String {
        let root = self.root();
        let mut out = format!("{:?}\n", toy.engine.borrow());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            for path in entries.iter().filter(|path| !path.starts_with(root.join("state"))) {
                let found = std::fs::symlink_metadata(path).unwrap();
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                let times = name.starts_with("project") && found.is_dir() && !name.contains("added");
                let when = if times { found.mtime() } else { 0 };
                let content = if found.is_dir() { String::new() } else { std::fs::read_to_string(path).unwrap() };
                writeln!(out, "{name} {:o} {when} {content}", found.mode()).unwrap();
                if found.is_dir() {
                    folders.push(path.clone());
                }
            }
        }
        out
    }
}

/// What an undisturbed run in each direction leaves.
fn wanted(can_exchange: bool) -> (String, String) {
    let scene = Scene::new();
    let toy = Toy { can_exchange, ..scene.toy() };
    let outcome = Transaction::new(scene.prepared(true), &toy).run();
    assert!(
        matches!(&outcome, Outcome::Restored { left, kept, .. } if left.is_empty() && kept.is_empty()),
        "{outcome:?}"
    );
    let new = scene.looks(&toy);
    let scene = Scene::new();
    let toy = Toy { can_exchange, ..scene.toy() };
    // As it was before anything was staged.
    for staged in &scene.staged {
        toy.discard(staged).unwrap();
    }
    let Some(Swap::Attributes { path, old, .. }) = scene.swaps.last() else { panic!("no attributes") };
    Disk.set_attributes(path, &old.into()).unwrap();
    let old = scene.looks(&toy);
    assert!(new.contains("TAG=new") && !new.contains("old\n") && !new.contains(STAGE_PREFIX), "{new}");
    assert!(old.contains("TAG=old") && !old.contains("new\n") && !old.contains(STAGE_PREFIX), "{old}");
    (old, new)
}

/// Runs `work` and says whether it was killed.
fn killed(work: impl FnOnce() -> Outcome) -> Option<Outcome> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => Some(outcome),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => std::panic::resume_unwind(cause),
    }
}

fn quietly(work: impl FnOnce()) {
    // A kill is no message for the terminal; anything else is.
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Killed>() {
                usual(info);
            }
        }));
    });
    work();
}

fn open(scene: &Scene) -> Option<Journal> {
    Journal::open(&scene.root().join("state")).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum After {
    Resume,
    Abort,
}

fn go_on(after: After, journal: Journal, toy: &Toy) -> Outcome {
    match after {
        After::Resume => Transaction::new(journal, toy).resume(),
        After::Abort => Transaction::new(journal, toy).abort("the person asked for it"),
    }
}

/// Kills a restore at step `first`, what goes on with it at step `second`, and lets a third one end.
/// False once `first` is beyond the end.
fn sweep(first: u32, second: Option<u32>, after: After, healthy: bool, can_exchange: bool) -> (bool, bool) {
    let scene = Scene::new();
    let mut toy = Toy { healthy, can_exchange, ..scene.toy() };
    let journal = scene.prepared(true);
    toy.fuse.set(Some(first));
    if killed(|| Transaction::new(journal, &toy).run()).is_some() {
        return (false, false);
    }
    let mut was_killed = false;
    if let Some(second) = second {
        toy.fuse.set(Some(second));
        if let Some(journal) = open(&scene) {
            was_killed = killed(|| go_on(after, journal, &toy)).is_none();
        }
    }
    toy.fuse.set(None);
    if let Some(journal) = open(&scene) {
        let committed = journal.decision() == Some(crate::stack::rollback::journal::Decision::Forward);
        let outcome = go_on(after, journal, &toy);
        let right = match &outcome {
            Outcome::Restored { left, .. } => left.is_empty() && (committed || after == After::Resume) && healthy,
            Outcome::PutBack { left, .. } => left.is_empty() && !committed,
            Outcome::BeginAnew { left } => left.is_empty() && after == After::Resume,
            Outcome::NeedsPerson { .. } => false,
        };
        assert!(right, "killed at {first} and {second:?}, then {after:?}: {outcome:?}");
    }
    assert!(open(&scene).is_none(), "the journal stayed");
    toy.healthy = true;
    let looks = scene.looks(&toy);
    let (old, new) = wanted(can_exchange);
    assert!(
        looks == old || looks == new,
        "killed at {first} and {second:?}, then {after:?}: neither old nor new:\n{looks}\n--- old\n{old}\n--- new\n{new}"
    );
    (true, was_killed)
}

#[test]
fn a_restore_that_is_killed_at_any_step_ends_all_old_or_all_new() {
    quietly(|| {
        for after in [After::Resume, After::Abort] {
            for (healthy, can_exchange) in [(true, true), (false, true), (true, false)] {
                let mut steps = 0;
                while sweep(steps, None, after, healthy, can_exchange).0 {
                    steps += 1;
                }
                assert!(steps > 50, "only {steps} steps were killed");
            }
        }
    });
}

#[test]
fn going_on_may_be_killed_too() {
    quietly(|| {
        for after in [After::Resume, After::Abort] {
            for healthy in [true, false] {
                for first in (0..).step_by(5) {
                    let mut second = 0;
                    let (mut was_there, mut again) = sweep(first, Some(second), after, healthy, first % 2 == 0);
                    if !was_there {
                        break;
                    }
                    while again {
                        second += 3;
                        (was_there, again) = sweep(first, Some(second), after, healthy, first % 2 == 0);
                        assert!(was_there);
                    }
                }
            }
        }
    });
}

#[test]
fn a_line_that_a_power_cut_tears_has_announced_nothing_that_was_done() {
    quietly(|| {
        let mut torn = 0;
        for after in [After::Resume, After::Abort] {
            for (first, way) in (0..).flat_map(|first| (0..8).map(move |way| (first, way))) {
                let scene = Scene::new();
                let toy = scene.toy();
                let journal = scene.prepared(true);
                toy.fuse.set(Some(first));
                if killed(|| Transaction::new(journal, &toy).run()).is_some() {
                    break;
                }
                toy.fuse.set(None);
                let path = scene.root().join("state/journal");
                let Ok(bytes) = std::fs::read(&path) else { continue };
                let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
                // A line is durable before what it announces is done: only one after which nothing was can be torn.
                if (last as u64) < toy.written.get() {
                    continue;
                }
                torn += 1;
                let cut = [last, last + 1, last + 20, bytes.len() - 1][way % 4];
                let zeros = vec![0; if way < 4 { bytes.len() - cut } else { 0 }];
                std::fs::write(&path, [&bytes[..cut], &zeros].concat()).unwrap();
                let outcome = go_on(after, open(&scene).unwrap(), &toy);
                assert!(!matches!(outcome, Outcome::NeedsPerson { .. }), "torn at {first}: {outcome:?}");
                let (looks, (old, new)) = (scene.looks(&toy), wanted(true));
                assert!(looks == old || looks == new, "torn at {first}, then {after:?}: neither:\n{looks}");
            }
        }
        assert!(torn >= 80, "only {torn} lines were torn");
    });
}

#[test]
fn an_unhealthy_application_goes_back_to_what_it_was() {
    let scene = Scene::new();
    let toy = Toy { healthy: false, ..scene.toy() };
    let outcome = Transaction::new(scene.prepared(true), &toy).run();
    let Outcome::PutBack { reason, proof: Some(proof), left, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("web: GET /health: status 500"), "{reason}");
    assert_eq!((proof.verdict, left.len()), (Verdict::Failed, 0));
    assert_eq!(scene.looks(&toy), wanted(true).0);
}

#[test]
fn what_no_snapshot_holds_is_kept() {
    let scene = Scene::new();
    let toy = scene.toy();
    let outcome = Transaction::new(scene.prepared(false), &toy).run();
    let Outcome::Restored { kept, left, .. } = outcome else { panic!("{outcome:?}") };
    assert!(left.is_empty(), "{left:?}");
    let data = scene.root().join(format!("volumes/media/{STAGE_PREFIX}r1"));
    assert!(kept.contains(&data.display().to_string()), "{kept:?}");
    assert_eq!(std::fs::read_to_string(data.join("a/b")).unwrap(), "old");
    assert!(kept.contains(&"image snap-rollback/r1/web:1".to_owned()), "{kept:?}");
    assert_eq!(toy.image_of("snap-rollback/r1/web:1").unwrap().as_deref(), Some("sha256:old"));
    let env = scene.root().join(format!("{STAGE_PREFIX}r1/.env"));
    assert_eq!(std::fs::read_to_string(env).unwrap(), "TAG=old");
}

#[test]
fn somebody_elses_change_is_not_overwritten() {
    let scene = Scene::new();
    let toy = scene.toy();
    let journal = scene.prepared(true);
    let env = scene.root().join("project/.env");
    std::fs::write(env.with_extension("tmp"), "TAG=theirs").unwrap();
    std::fs::rename(env.with_extension("tmp"), &env).unwrap();
    let outcome = Transaction::new(journal, &toy).run();
    let Outcome::PutBack { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains(".env is not what it was"), "{reason}");
    assert_eq!(std::fs::read_to_string(&env).unwrap(), "TAG=theirs");
    let running = toy.engine.borrow().running.clone();
    assert_eq!(running.into_keys().collect::<Vec<_>>(), ["db", "web"]);
}

#[test]
fn what_cannot_be_undone_stays_in_the_journal_for_a_person() {
    let scene = Scene::new();
    let toy = Toy { healthy: false, ..scene.toy() };
    let data = scene.root().join("volumes/media/_data");
    let journal = scene.prepared(true);
    // The new data vanishes while it is proved: where the old is can be told, but not what is new.
    toy.lost.set(Some(data.clone()));
    let Outcome::NeedsPerson { reason, trouble, lines } = Transaction::new(journal, &toy).run() else {
        panic!("it must not go on")
    };
    assert!(reason.contains("status 500") && trouble.contains("_data is not what it was"), "{reason} {trouble}");
    assert!(lines.iter().any(|line| matches!(line.event, Event::Undoing { .. })));
    // The old data is still there, and once the person has made way, the same is tried again.
    let kept = scene.root().join(format!("volumes/media/{STAGE_PREFIX}r1"));
    assert_eq!(std::fs::read_to_string(kept.join("a/b")).unwrap(), "old");
    std::fs::rename(data.with_extension("lost"), &data).unwrap();
    toy.lost.set(None);
    let journal = open(&scene).unwrap();
    assert!(matches!(Transaction::new(journal, &toy).abort("again"), Outcome::PutBack { .. }));
    assert_eq!(scene.looks(&toy), wanted(true).0);
}

#[test]
fn what_changed_until_the_services_stood_still_is_prepared_anew() {
    let scene = Scene::new();
    let toy = scene.toy();
    let env = scene.root().join("project/.env");
    let refresh: &Refresh<'_> = &|swaps| {
        // The application replaced its file a moment before it was stopped.
        std::fs::write(env.with_extension("tmp"), "TAG=late").unwrap();
        std::fs::rename(env.with_extension("tmp"), &env).unwrap();
        let mut swaps = swaps.to_vec();
        if let Some(Swap::Exchange { old, .. }) = swaps.first_mut() {
            *old = ino(&env);
        }
        Ok(Some(swaps))
    };
    let outcome = Transaction::new(scene.prepared(true), &toy).refreshed_by(refresh).run();
    assert!(matches!(outcome, Outcome::Restored { .. }), "{outcome:?}");
    assert_eq!(scene.looks(&toy), wanted(true).1);
}
