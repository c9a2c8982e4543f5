//! Many hosts on one repository at once, each with a catalog and a name of its own: whatever was acknowledged
//! and not forgotten comes back, from the repository and from its replica.
//!
//! `SNAP_HOSTS_SECONDS=300` lets them run for so long; a few seconds otherwise.

use crate::need;
use crate::need::need;
use crate::snap::{Run, Sandbox, WATCHDOG, exit, id_of, program, run};
use crate::trees::Random;
use crate::work::heavy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Hosts that work at the same time.
const HOSTS: u64 = 4;
/// Files of each host, and different contents that they may have: so that content goes and comes back.
const FILES: u64 = 6;
const CONTENTS: u64 = 12;

type Files = BTreeMap<String, Vec<u8>>;

/// A machine with a name, a home and a folder that it captures.
pub struct Host {
    name: String,
    sandbox: Sandbox,
}

impl Host {
    pub fn new(name: &str, sandbox: Sandbox) -> Self {
        fs::create_dir_all(sandbox.path("app")).expect("a folder");
        Self { name: name.to_owned(), sandbox }
    }

    /// Runs the program under the host's name.
    fn run(&self, line: &str) -> Run {
        let mut command = self.sandbox.command("unshare");
        let script = "echo \"$1\" >/proc/sys/kernel/hostname; shift; exec \"$@\"";
        command.args(["--uts", "sh", "-c", script, "sh", &self.name]).arg(program()).args(line.split_whitespace());
        run(command, WATCHDOG).unwrap_or_else(|text| panic!("{}: {text}", self.name))
    }

    fn must(&self, line: &str) -> Value {
        let run = self.run(&format!("{line} --json"));
        run.expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{}: {text}", self.name)).json()
    }
}

/// Gives `host` the identity of `owner`.
fn shares_the_key(owner: &Sandbox, host: &Sandbox) {
    let folder = host.identity().parent().expect("a folder").to_path_buf();
    fs::create_dir_all(&folder).expect("a folder");
    fs::copy(owner.identity(), host.identity()).expect("an identity");
    for (path, mode) in [(folder, 0o700), (host.identity(), 0o600)] {
        crate::trees::set_mode(&path, mode);
    }
}

/// What happened.
#[derive(Default)]
struct Count {
    created: AtomicU64,
    overtaken: AtomicU64,
    forgotten: AtomicU64,
    pruned: AtomicU64,
    refused: AtomicU64,
    replicated: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Lets all hosts work until the time is over, and proves what they acknowledged. `replica` is a place that
/// all of them reach, `fresh` somebody who has seen nothing.
pub fn storm(what: &str, hosts: &[Host], replica: &str, fresh: &Sandbox) {
    let seconds = std::env::var("SNAP_HOSTS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let until = Instant::now() + Duration::from_secs(seconds);
    let count = Count::default();
    let kept: Vec<BTreeMap<String, Files>> = std::thread::scope(|scope| {
        let count = &count;
        let threads: Vec<_> = hosts
            .iter()
            .zip(0..)
            .map(|(host, number)| scope.spawn(move || work(host, number, until, replica, count)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a host")).collect()
    });
    let said = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    writeln!(
        std::io::stderr(),
        "{what}: {seconds} s, {} hosts: {} created, {} overtaken, {} forgotten, {} pruned, {} refused to prune, \
         {} replicated; {} are kept",
        hosts.len(),
        said(&count.created),
        said(&count.overtaken),
        said(&count.forgotten),
        said(&count.pruned),
        said(&count.refused),
        said(&count.replicated),
        kept.iter().map(BTreeMap::len).sum::<usize>()
    )
    .expect("standard error");
    hosts[0].must(&format!("replicate {replica}"));
    for place in [None, Some(replica)] {
        let at = place.map(|place| format!(" --repo {place}")).unwrap_or_default();
        fresh.must(&format!("check --read-data{at}"), exit::DONE);
        for (id, files) in kept.iter().flatten() {
            fresh.must(&format!("restore {id} --target t{at}"), exit::DONE);
            assert_eq!(read(&fresh.path("t")), *files, "{what}: {id}{at}");
            fs::remove_dir_all(fresh.path("t")).expect("a target");
        }
    }
}

/// What one host does until the time is over: the snapshots of it that must be there then.
fn work(host: &Host, number: u64, until: Instant, replica: &str, count: &Count) -> BTreeMap<String, Files> {
    let mut dice = Random::new(number + 1);
    let mut roll = |below: u64| u64::from_le_bytes(dice.bytes(8).try_into().expect("eight bytes")) % below;
    let mut kept = BTreeMap::new();
    let source = host.sandbox.path("app");
    // However short the time, each has something at the end.
    while Instant::now() < until || kept.is_empty() {
        match roll(10) {
            0..=4 => {
                for _ in 0..2 {
                    let (file, content) = (roll(FILES), roll(CONTENTS));
                    let bytes = Random::new(1000 + content).bytes(20_000 + 1000 * content as usize);
                    fs::write(source.join(format!("file-{file}")), bytes).expect("a file");
                }
                let run = host.run("create app --json").expect(&[exit::DONE, exit::FAILED]);
                let run = run.unwrap_or_else(|text| panic!("{}: {text}", host.name));
                if run.code == exit::DONE {
                    kept.insert(id_of(&run.json()["snapshot"]).expect("an id"), read(&source));
                    add(&count.created, 1);
                } else {
                    assert!(run.stdout.contains("a prune that runs at the same time"), "{}: {run}", host.name);
                    add(&count.overtaken, 1);
                }
            }
            // Whoever has no snapshot yet has none to forget.
            5 | 6 if !kept.is_empty() => {
                let report = host.must(&format!("forget --host {} --keep-last 3 --yes", host.name));
                let judged = report["stacks"].as_array().into_iter().flatten();
                let judged = judged.flat_map(|stack| stack["snapshots"].as_array().into_iter().flatten());
                for one in judged.filter(|one| one["keep"] == false) {
                    kept.remove(&id_of(one).expect("an id"));
                    add(&count.forgotten, 1);
                }
            }
            7 | 8 => {
                // Without any delay: the hardest for those who capture meanwhile.
                let run = host.run("prune --delay 0s --yes --repack-below 90%").expect(&[exit::DONE, exit::FAILED]);
                let run = run.unwrap_or_else(|text| panic!("{}: {text}", host.name));
                add(if run.code == exit::DONE { &count.pruned } else { &count.refused }, 1);
            }
            _ => {
                let run = host.run(&format!("replicate {replica}")).expect(&[exit::DONE, exit::FAILED, exit::DAMAGE]);
                run.unwrap_or_else(|text| panic!("{}: {text}", host.name));
                add(&count.replicated, 1);
            }
        }
    }
    kept
}

fn read(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let one = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file"))
    };
    entries.map(one).collect()
}

/// Hosts whose repository is at `address`, each in a folder of its own below `root`.
pub fn hosts(root: &Path, open: impl Fn(&Path) -> Sandbox) -> (Vec<Host>, Sandbox) {
    let owner = open(&root.join("owner"));
    owner.init();
    let at = |name: &str| {
        let sandbox = open(&root.join(name));
        shares_the_key(&owner, &sandbox);
        sandbox
    };
    let hosts = (0..HOSTS).map(|number| Host::new(&format!("host-{number}"), at(&format!("host-{number}")))).collect();
    (hosts, at("fresh"))
}

#[test]
fn many_hosts_on_one_folder_lose_nothing() {
    need!(need::root(), need::program("unshare"));
    let _alone = heavy();
    let dir = need::fast_tempdir();
    let repo = dir.path().join("repo");
    let (hosts, fresh) = hosts(dir.path(), |root| Sandbox::with_repo(root, &repo));
    storm("a folder", &hosts, dir.path().join("replica").to_str().expect("a path"), &fresh);
}

/// Two applications of one name, on two hosts: neither follows, counts for or pushes out the other's snapshots.
#[test]
fn stacks_of_one_name_on_two_hosts_are_two() {
    need!(need::root(), need::program("unshare"));
    let dir = tempfile::tempdir().expect("a folder");
    let repo = dir.path().join("repo");
    let (hosts, fresh) = hosts(dir.path(), |root| Sandbox::with_repo(root, &repo));
    let mut ids: [Vec<String>; 2] = Default::default();
    for round in 0..3 {
        for (host, ids) in hosts.iter().zip(&mut ids) {
            fs::write(host.sandbox.path("app/file"), format!("{} {round}", host.name)).expect("a file");
            ids.push(id_of(&host.must("create app")["snapshot"]).expect("an id"));
        }
    }
    for (host, ids) in hosts.iter().zip(&ids) {
        for (at, id) in ids.iter().enumerate() {
            let manifest = fresh.json(&format!("show {id}"))["manifest"].clone();
            let before: Vec<&str> =
                manifest["predecessors"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
            let expected: Vec<&str> = at.checked_sub(1).map(|before| ids[before].as_str()).into_iter().collect();
            assert_eq!((&manifest["host"], before), (&host.name.as_str().into(), expected));
        }
        fresh.must(&format!("restore latest --host {} --target t", host.name), exit::DONE);
        assert_eq!(fs::read_to_string(fresh.path("t/file")).expect("a file"), format!("{} 2", host.name));
        fs::remove_dir_all(fresh.path("t")).expect("a target");
    }
    // A policy counts for each by itself, and what one forgets is the other's no loss.
    hosts[0].must("forget --keep-last 1 --host host-0 --yes");
    let left = |name: &str| {
        let list = fresh.list().into_iter().filter(|one| one["host"] == name).map(|one| id_of(&one).expect("an id"));
        list.collect::<Vec<String>>()
    };
    assert_eq!((left("host-0"), left("host-1")), (ids[0][2..].to_vec(), ids[1].clone()));
    hosts[1].must("forget --keep-last 2 --yes");
    assert_eq!((left("host-0"), left("host-1")), (ids[0][2..].to_vec(), ids[1][1..].to_vec()));
    fresh.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}
