//! Kills the program, and fails its calls, at every system call that changes something; after each
//! fault a fresh process must find the repository clean, give back every acknowledged snapshot, and
//! capture again without any manual step.
//!
//! `SNAP_SWEEP=all` sweeps every point; otherwise an even sample that has every link, rename and
//! sync of the main thread in it, at least [`POINTS_MIN`] in all.

use crate::inject::{Point, inject, is_a_step, points, record};
use crate::need::{self, need};
use crate::scene::Scene;
use crate::snap::{Sandbox, copy_folder, create_args, exit, id_of};
use crate::work::{assert_none, heavy, on_two, sample, sweeps_all};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Points that a sweep reaches at the least, over all commands.
const POINTS_MIN: usize = 300;
/// Points that are tried, so that a few that no thread reaches do not matter.
const POINTS_TRIED: usize = 360;
/// Some age recipient; nobody has to have its identity.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

const INIT: &str = "init";

/// What happens at a point.
const FAULTS: [&str; 3] = ["signal=SIGKILL", "error=EIO", "error=ENOSPC"];

/// A command, a point of it, and what happens there.
type Case<'a> = (&'a Act, Point, &'static str);

/// A command in a prepared repository.
struct Act {
    name: &'static str,
    /// Folder with home and repository before the command.
    template: PathBuf,
    args: Vec<OsString>,
    scene: Scene,
}

impl Act {
    /// A command after `captures` snapshots of a folder that changed after each.
    fn new(name: &'static str, dir: &Path, captures: usize, args: &dyn Fn(&Path) -> Vec<OsString>) -> Self {
        let template = dir.join("template");
        std::fs::create_dir_all(&template).expect("a folder");
        let scene = Scene::new(&Sandbox::at(&template), dir, captures);
        Self { name, template, args: args(&scene.source), scene }
    }

    /// The very first command: nothing is there yet.
    fn init(dir: &Path) -> Self {
        let template = dir.join("template");
        std::fs::create_dir_all(&template).expect("a folder");
        Sandbox::at(&template);
        Self { name: INIT, template, args: vec![INIT.into()], scene: Scene::before_init(dir) }
    }

    /// All points of the command with each fault, from a run in a copy of the template.
    fn cases(&self, dir: &Path) -> Vec<Case<'_>> {
        let copy = dir.join("recorded");
        copy_folder(&self.template, &copy).expect("a copy");
        let (_, calls) = record(&Sandbox::at(&copy), &self.args).unwrap_or_else(|text| panic!("{text}"));
        let points = points(&calls);
        let with_faults = FAULTS.iter().flat_map(|fault| points.iter().map(move |point| (self, point.clone(), *fault)));
        with_faults.filter(|(_, point, fault)| *fault != "error=ENOSPC" || takes_space(&point.name)).collect()
    }

    /// One fault and all that must hold after it; `None` where no thread came to the point.
    fn suffer(&self, work: &Path, point: &Point, fault: &str) -> Result<Option<String>, String> {
        if work.exists() {
            std::fs::remove_dir_all(work).map_err(|error| format!("{}: {error}", work.display()))?;
        }
        copy_folder(&self.template, work)?;
        let sandbox = Sandbox::at(work);
        let (run, hit) = inject(&sandbox, &self.args, point, fault)?;
        if run.panicked() {
            return Err(format!("the program panicked: {run}"));
        }
        let Some(hit) = hit else { return Ok(None) };
        let told = |text| format!("after {run}\nthat was hit at {hit}:\n{text}");
        if self.name == INIT {
            begins_again(&sandbox, run.code == exit::DONE).map_err(told)?;
        }
        if self.name.starts_with("forget") {
            take_back_all(&sandbox).map_err(told)?;
        }
        let mut acknowledged = Vec::new();
        if run.code == exit::DONE && self.args[0] == "create" {
            acknowledged.push(id_of(&run.try_json()?["snapshot"])?);
        }
        self.scene.holds(&sandbox, &acknowledged).map_err(told)?;
        Ok(Some(hit))
    }
}

/// After a fault in `init` the next one makes the repository, unless it is there already.
fn begins_again(sandbox: &Sandbox, acknowledged: bool) -> Result<(), String> {
    let made = sandbox.repo().join("config").exists();
    let again = sandbox.expect(&[INIT], &[if made { 1 } else { exit::DONE }])?;
    match (made, acknowledged) {
        (false, true) => Err("an acknowledged repository is gone".to_owned()),
        (true, _) if !again.stderr.contains("already") => Err(format!("does not say that there is one: {again}")),
        _ => Ok(()),
    }
}

/// Whatever was forgotten when the fault came is there and can be had back.
fn take_back_all(sandbox: &Sandbox) -> Result<(), String> {
    let list = sandbox.expect(&["list", "--json"], &[exit::DONE])?.try_json()?;
    for snapshot in list["forgotten"].as_array().into_iter().flatten() {
        sandbox.expect(&["undelete", &id_of(snapshot)?], &[exit::DONE])?;
    }
    Ok(())
}

fn takes_space(call: &str) -> bool {
    !["fchmod", "fchmodat", "chmod", "unlink", "unlinkat", "rmdir", "sync_file_range"].contains(&call)
}

#[test]
fn every_fault_leaves_a_whole_repository() {
    need!(need::strace());
    let _alone = heavy();
    let dir = need::fast_tempdir();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let act = |name: &'static str, captures, args: &dyn Fn(&Path) -> Vec<OsString>| {
        Act::new(name, &dir.path().join(name), captures, args)
    };
    let acts = [
        Act::init(&dir.path().join(INIT)),
        act("create-first", 0, &create_args),
        act("create-again", 1, &create_args),
        act("key-add", 1, &|_| words(&["key", "add", "second", "--recipient", RECIPIENT])),
        act("forget", 3, &|_| words(&["forget", "--keep-last", "1", "--yes"])),
        act("check", 2, &|_| words(&["check", "--read-data", "--json"])),
    ];
    let all: Vec<_> = acts.iter().flat_map(|act| act.cases(&dir.path().join(act.name))).collect();
    let cases = choose(&all);
    let reached = Reached::default();
    let failures = on_two(
        &cases,
        |worker| dir.path().join(format!("work-{worker}")),
        |work, _, (act, point, fault)| {
            let hit = act
                .suffer(work, point, fault)
                .map_err(|text| format!("[{}] {fault} at {point:?}: {text}", act.name))?;
            reached.add(act.name, fault, hit);
            Ok(())
        },
    );
    reached.tell(all.len(), cases.len());
    assert_none(&failures, cases.len());
    reached.is_enough();
}

/// All steps with a kill, and an even share of the rest for each command; everything where that is
/// asked for.
fn choose<'a>(all: &[Case<'a>]) -> Vec<Case<'a>> {
    if sweeps_all() {
        return all.to_vec();
    }
    let (steps, rest): (Vec<_>, Vec<_>) =
        all.iter().cloned().partition(|(_, point, fault)| is_a_step(point) && *fault == FAULTS[0]);
    let wanted = POINTS_TRIED.saturating_sub(steps.len()).max(POINTS_TRIED / 2);
    let mut groups: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for case in rest {
        groups.entry(case.0.name).or_default().push(case);
    }
    // The smallest first: what they leave of their share goes to the others.
    let mut groups: Vec<Vec<Case>> = groups.into_values().collect();
    groups.sort_by_key(Vec::len);
    let mut chosen = steps;
    let mut room = wanted;
    for (done, group) in groups.iter().enumerate() {
        let share = sample(group, (room / (groups.len() - done)).min(group.len()));
        room -= share.len();
        chosen.extend(share);
    }
    chosen
}

/// What the sweep came to.
#[derive(Default)]
struct Reached {
    counts: Mutex<BTreeMap<(&'static str, &'static str), usize>>,
    hits: Mutex<Vec<String>>,
    missed: AtomicUsize,
}

impl Reached {
    fn add(&self, scene: &'static str, fault: &'static str, hit: Option<String>) {
        match hit {
            Some(hit) => {
                *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry((scene, fault)).or_default() += 1;
                self.hits.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{scene} {fault} {hit}"));
            }
            None => {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn tell(&self, all: usize, tried: usize) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = counts.values().sum();
        let missed = self.missed.load(Ordering::Relaxed);
        let by_scene: Vec<String> = counts.iter().map(|((scene, fault), n)| format!("{scene} {fault} {n}")).collect();
        // Not `println!`: the test runner swallows that of a test that passes.
        let told = writeln!(
            std::io::stderr(),
            "sweep: {total} points reached of {tried} tried and {all} in all, {missed} not reached: {}",
            by_scene.join(", ")
        );
        told.expect("standard error can be written");
    }

    /// Enough points, and among them the ones that matter most: on both sides of the publication.
    fn is_enough(&self) {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(hits.len() >= POINTS_MIN, "only {} points were reached", hits.len());
        for scene in ["create-first", "create-again"] {
            let killed = |what: &str, call: &str| {
                hits.iter().any(|hit| {
                    hit.starts_with(&format!("{scene} {}", FAULTS[0])) && hit.contains(call) && hit.contains(what)
                })
            };
            for (what, call) in
                [("/snapshots/", "link"), ("/snapshots", "sync"), ("/packs/", "link"), ("/index", "link")]
            {
                assert!(killed(what, call), "{scene} was never killed at a {call} in {what}");
            }
        }
    }
}
