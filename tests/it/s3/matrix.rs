//! Every fault at every request of every command: it ends in success or with the truth, and then everything
//! that was acknowledged restores.
//!
//! `SNAP_S3_CASES=all cargo test --test it s3::matrix` runs all of them, a number so many; otherwise a small
//! sample is taken.

use super::fault::{ALL, Fault, Turn};
use super::server::{BUCKET, Objects, Server};
use super::{capture, person};
use crate::compare;
use crate::snap::{Run, Sandbox, WATCHDOG, copy_folder, exit, run};
use crate::trees::source_tree;
use crate::work::{assert_none, heavy, on_two, sample};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CASES: usize = 48;
const REMOTE: &str = "clinic";

/// A command that is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Restore,
    Check,
    /// Into the bucket.
    Replicate,
    /// Out of it.
    Fetch,
    Mark,
    Sweep,
}

const VERBS: [Verb; 7] =
    [Verb::Create, Verb::Restore, Verb::Check, Verb::Replicate, Verb::Fetch, Verb::Mark, Verb::Sweep];

#[derive(Debug, Clone, Copy)]
struct Case {
    verb: Verb,
    turn: Turn,
}

/// What all cases begin with.
struct Base {
    home: PathBuf,
    objects: Objects,
    /// Marked, and ready to be swept.
    marked: Objects,
    local: PathBuf,
    /// Snapshots and what they hold; the first is forgotten.
    kept: Vec<(String, PathBuf)>,
}

fn address() -> String {
    format!("s3://{BUCKET}/{REMOTE}")
}

/// Two snapshots that stay and one that goes, in a bucket and in a folder.
fn base(root: &Path) -> Base {
    let server = Server::start();
    let sandbox = person(root, &address(), &server.endpoint());
    source_tree(&sandbox.path("source"), 4, 5);
    sandbox.init();
    let first = capture(&sandbox, 0);
    fs::remove_file(sandbox.path("source/file-0")).expect("a file");
    let kept = vec![first, capture(&sandbox, 1), capture(&sandbox, 2)];
    sandbox.must("replicate local", exit::DONE);
    sandbox.must(&format!("forget {}", kept[0].0), exit::DONE);
    let objects = server.state().objects.clone();
    sandbox.must("prune --yes", exit::DONE);
    let marked = server.state().objects.clone();
    Base { home: sandbox.home(), objects, marked, local: sandbox.path("local"), kept }
}

/// A person with a server, used for one case after the other.
struct Worker {
    server: Server,
    sandbox: Sandbox,
    _dir: tempfile::TempDir,
}

impl Worker {
    fn new() -> Self {
        let dir = crate::need::fast_tempdir();
        let server = Server::start();
        let sandbox = person(dir.path(), &address(), &server.endpoint());
        source_tree(&sandbox.path("source"), 4, 5);
        fs::write(sandbox.path("source/new"), "what the next snapshot has").expect("a file");
        Self { server, sandbox, _dir: dir }
    }

    fn begin(&self, base: &Base, verb: Verb) -> Result<(), String> {
        for name in ["home", "target", "out", "local"] {
            let _ = fs::remove_dir_all(self.sandbox.path(name));
        }
        copy_folder(&base.home, &self.sandbox.home())?;
        if matches!(verb, Verb::Replicate | Verb::Fetch) {
            copy_folder(&base.local, &self.sandbox.path("local"))?;
        }
        if verb == Verb::Fetch {
            let newest = fs::read_dir(self.sandbox.path("local/snapshots")).map_err(|error| error.to_string())?;
            for entry in newest.flatten() {
                fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
            }
        }
        let objects = match verb {
            Verb::Sweep => base.marked.clone(),
            // Something is there, and something is missing.
            Verb::Replicate => {
                let wanted = |(at, (key, _)): &(usize, (&String, _))| {
                    let is_data = ["/packs/", "/index/", "/log/"].iter().any(|folder| key.contains(folder));
                    !key.contains("/snapshots/") && (at % 2 == 0 || !is_data)
                };
                let some = base.objects.iter().enumerate().filter(wanted);
                some.map(|(_, (key, object))| (key.clone(), Arc::clone(object))).collect()
            }
            _ => base.objects.clone(),
        };
        self.server.state().objects = objects;
        Ok(())
    }

    fn run(&self, base: &Base, verb: Verb, patience: &str) -> Result<Run, String> {
        let line = match verb {
            Verb::Create => "create source --json".to_owned(),
            Verb::Restore => format!("restore {} --target out --json", base.kept[2].0),
            Verb::Check => "check --read-data --json".to_owned(),
            Verb::Replicate => format!("replicate {} --repo local --json", address()),
            Verb::Fetch => "replicate local --json".to_owned(),
            Verb::Mark => "prune --yes --json".to_owned(),
            Verb::Sweep => "prune --delay 0s --yes --json".to_owned(),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = self.sandbox.snap_command(&words);
        command.env("SNAP_S3_PATIENCE", patience);
        run(command, WATCHDOG)
    }

    /// Everything that was acknowledged restores, from the bucket and from what was copied.
    fn proves(&self, base: &Base, verb: Verb, new: Option<String>) -> Result<(), String> {
        let _ = fs::remove_dir_all(self.sandbox.path("out"));
        let place = if verb == Verb::Fetch { "local".to_owned() } else { address() };
        // The first is forgotten; what the others hold is read by the check.
        let mut wanted: Vec<(&str, PathBuf)> = vec![(base.kept[2].0.as_str(), base.kept[2].1.clone())];
        if let Some(id) = &new {
            wanted.push((id.as_str(), self.sandbox.path("source")));
        }
        for (id, original) in wanted {
            let words = ["restore", id, "--target", "out", "--repo", &place];
            self.sandbox.expect(&words, &[exit::DONE])?;
            compare::same(&original, &self.sandbox.path("out"))?;
            fs::remove_dir_all(self.sandbox.path("out")).map_err(|error| error.to_string())?;
        }
        self.sandbox.expect(&["check", "--read-data", "--json", "--repo", &place], &[exit::DONE]).map(drop)
    }
}

/// How many requests each command makes when nothing is wrong.
fn requests(base: &Base, worker: &Worker, verb: Verb) -> usize {
    worker.begin(base, verb).expect("a beginning");
    worker.server.count_anew(None);
    worker.run(base, verb, "60").and_then(|run| run.expect(&[exit::DONE])).unwrap_or_else(|text| panic!("{text}"));
    let count = worker.server.requests().len();
    worker.proves(base, verb, None).unwrap_or_else(|text| panic!("{verb:?}: {text}"));
    count
}

fn cases(base: &Base) -> Vec<Case> {
    let worker = Worker::new();
    let mut cases = Vec::new();
    for verb in VERBS {
        let count = requests(base, &worker, verb);
        worker.begin(base, verb).expect("a beginning");
        worker.server.count_anew(None);
        worker.run(base, verb, "60").expect("a run");
        let log = worker.server.requests();
        for index in 0..count {
            for fault in ALL {
                if log.get(index).is_some_and(|request| fault.concerns(request)) {
                    cases.push(Case { verb, turn: Turn { fault, index, forever: false } });
                }
            }
            // From here on the server is gone, or busy, or lets nobody in.
            for fault in [Fault::SlowDown, Fault::ClosedBefore, Fault::Denied] {
                cases.push(Case { verb, turn: Turn { fault, index, forever: true } });
            }
        }
    }
    cases
}

/// The exit codes that tell the truth about a fault.
fn truthful(case: &Case) -> &'static [i32] {
    let Turn { fault, forever, .. } = case.turn;
    match (fault, forever) {
        // What a server says of the repository is what can be told of it.
        (fault, _) if fault.is_a_lie() => &[
            exit::DONE,
            exit::FAILED,
            exit::USAGE,
            exit::INCOMPLETE,
            exit::DAMAGE,
            exit::NO_REPOSITORY,
            exit::WRONG_KEY,
        ],
        (fault, _) if fault.is_a_refusal() => &[exit::DONE, exit::FAILED],
        (_, true) => &[exit::DONE, exit::FAILED],
        // Everything else passes, and is asked for again.
        (_, false) => &[exit::DONE],
    }
}

fn case(base: &Base, worker: &Worker, case: &Case) -> Result<(), String> {
    let Case { verb, turn } = *case;
    worker.begin(base, verb)?;
    worker.server.count_anew(Some(turn));
    let hangs = matches!(turn.fault, Fault::Hang | Fault::HangAfter);
    let patience = if turn.forever {
        "1"
    } else if hangs {
        "12"
    } else {
        "30"
    };
    let told = |text: String| format!("{case:?}: {text}");
    let run = worker.run(base, verb, patience).and_then(|run| run.expect(truthful(case))).map_err(told)?;
    worker.server.count_anew(None);
    if run.code != exit::DONE && run.stderr.is_empty() && run.stdout.is_empty() {
        return Err(told(format!("nothing is said: {run}")));
    }
    let new = match (verb, run.code) {
        (Verb::Create, exit::DONE) => run.try_json()?["snapshot"]["id"].as_str().map(str::to_owned),
        (Verb::Restore, exit::DONE) => {
            compare::same(&base.kept[2].1, &worker.sandbox.path("out")).map_err(told)?;
            None
        }
        _ => None,
    };
    // What failed goes on where it ended.
    if run.code != exit::DONE || turn.fault.is_a_lie() {
        let _ = fs::remove_dir_all(worker.sandbox.path("out"));
        worker.run(base, verb, "60").and_then(|run| run.expect(&[exit::DONE])).map_err(told)?;
    }
    worker.proves(base, verb, new).map_err(told)
}

#[test]
fn every_fault_ends_in_success_or_with_the_truth() {
    let _one_at_a_time = heavy();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let base = base(dir.path());
    let all = cases(&base);
    assert!(all.len() >= 1000, "{} cases", all.len());
    let chosen = match std::env::var("SNAP_S3_CASES") {
        Ok(text) if text == "all" => all.clone(),
        Ok(text) => sample(&all, text.parse().expect("a number of cases, or all")),
        Err(_) => sample(&all, CASES),
    };
    let failures = on_two(
        &chosen,
        |_| Worker::new(),
        |worker, _, one| case(&base, worker, one).inspect_err(|text| println!("{text}")),
    );
    println!("{} of {} cases", chosen.len(), all.len());
    assert_none(&failures, chosen.len());
}
