//! Real servers in containers, a repository to capture them into, and a watch over every process's
//! arguments.

use snap::crypto::people::generate_identity_file;
use snap::docker::Engine;
use snap::monitor::{Monitor, Quiet};
use snap::repo::entry::{Node, Time};
use snap::repo::manifest::{DatabaseDetail, Detail};
use snap::repo::needs::Needs;
use snap::repo::reader::Reader;
use snap::repo::walk::TreeWalker;
use snap::repo::writer::Session;
use snap::repo::{self, Repository};
use snap::stack::source::database::{self, Captured, Error, Settings};
use snap::store::LocalStore;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A container that is removed with its anonymous volumes.
pub struct Server {
    pub name: String,
}

impl Server {
    /// Starts a container without any network.
    pub fn start(name: &str, args: &[&str]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("snap-it-db-{name}-{}-{number}", std::process::id());
        let mut all = vec!["run", "-d", "--name", &name, "--network", "none"];
        all.extend(args);
        docker(&all).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name }
    }

    /// What a shell command prints in the container, if it succeeds.
    pub fn try_sh(&self, command: &str) -> Result<String, String> {
        docker(&["exec", &self.name, "sh", "-c", command])
    }

    /// What a shell command prints in the container.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        self.try_sh(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Waits until a command succeeds.
    pub fn until(&self, command: &str) {
        let began = Instant::now();
        while let Err(error) = self.try_sh(command) {
            if began.elapsed() > Duration::from_secs(120) {
                let log = docker(&["logs", "--tail", "20", &self.name]);
                panic!("{}: {error}\n{log:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Kills the processes of the container whose arguments match `pattern`, which must not match itself. Not waited
    /// for: the engine says that a program has ended only when its output was read.
    pub fn kill(&self, pattern: &str) {
        let command = finding(pattern, "kill -9 $id");
        docker(&["exec", "-d", &self.name, "sh", "-c", &command]).expect("a command");
        std::thread::sleep(Duration::from_secs(2));
    }

    /// Kills the container, also without waiting for it.
    pub fn kill_all(&self) {
        let mut child = Command::new("docker").args(["kill", &self.name]).spawn().expect("docker");
        std::thread::sleep(Duration::from_secs(2));
        std::thread::spawn(move || child.wait());
    }

    /// Puts a script in front of a program of the container; gone when dropped.
    pub fn fake(&self, program: &str, script: &str) -> Fake<'_> {
        let path = format!("/usr/local/bin/{program}");
        let script = script.replace('\'', "'\\''");
        self.sh(&format!("printf '%s\\n' '#!/bin/bash' '{script}' >{path} && chmod 755 {path}"));
        Fake { server: self, path }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = docker(&["rm", "-f", "-v", &self.name]);
    }
}

/// A shell command that does `act` for each process whose arguments match; it fails where none does.
pub fn finding(pattern: &str, act: &str) -> String {
    format!(
        "(for p in /proc/[0-9]*; do id=${{p#/proc/}}; \
         if tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '{pattern}'; then {act}; found=1; fi; done; test -n \"$found\")"
    )
}

pub struct Fake<'s> {
    server: &'s Server,
    path: String,
}

impl Drop for Fake<'_> {
    fn drop(&mut self) {
        let _gone = self.server.try_sh(&format!("rm -f {}", self.path));
    }
}

pub fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A repository of the test's own.
pub struct Store {
    _dir: tempfile::TempDir,
    pub repository: Repository,
}

impl Store {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = LocalStore::at(dir.path().join("repository"));
        store.create_layout().expect("a layout");
        let recipient = generate_identity_file(&dir.path().join("identity")).expect("an identity");
        let secrets = repo::initialise(
            &store,
            &repo::keys::NewKey {
                name: "owner",
                recipients: &[recipient],
                log_n: 10,
                created: "2026-01-01T00:00:00Z",
                strict: true,
            },
        )
        .expect("secrets");
        let cache = dir.path().join("cache");
        let repository = Repository::open(Arc::new(store), secrets, "owner", &cache).expect("a repository");
        Self { _dir: dir, repository }
    }

    /// Captures the database of a server.
    pub fn capture(&self, server: &Server, settings: &Settings) -> Result<Captured, Error> {
        self.capture_with(server, settings, &Quiet::default())
    }

    pub fn capture_with(&self, server: &Server, settings: &Settings, monitor: &dyn Monitor) -> Result<Captured, Error> {
        let engine = Engine::from_env().expect("an engine");
        let container = engine.container(&server.name).expect("a container");
        let found = database::find(&container, settings).expect("settings").expect("a database");
        let quiet = Quiet::default();
        self.repository.sync_for_writing(&quiet).expect("a synced catalog");
        let session = Session::begin(&self.repository, 1).expect("a session");
        let time = Time { seconds: 1_700_000_000, nanos: 0 };
        // One worker: while a monitor acts, nothing more is read.
        let into = database::Into { repository: &self.repository, session: &session, workers: 1, time };
        let mut needs = Needs::default();
        let captured = database::capture(&engine, &container, &found, &into, &mut needs, monitor);
        if captured.is_err() {
            assert_eq!(needs.packs().count(), 0, "a dump that failed is needed by nothing");
        }
        session.checkpoint().expect("a checkpoint");
        captured
    }

    /// The files of a captured source.
    pub fn files(&self, captured: &Captured) -> BTreeMap<String, Vec<u8>> {
        let mut reader = Reader::new(&self.repository).expect("a reader");
        let mut walk = TreeWalker::new(&captured.source.tree);
        let mut entries = Vec::new();
        while walk.next(&mut reader, &mut entries, 100).expect("a tree") {}
        let mut files = BTreeMap::new();
        for entry in entries {
            if let Node::File(extents) = &entry.node {
                let content = extents.iter().flat_map(|extent| reader.content(extent).expect("content")).collect();
                files.insert(entry.shown_path(), content);
            }
        }
        files
    }
}

pub fn detail(captured: &Captured) -> &DatabaseDetail {
    match &captured.source.detail {
        Some(Detail::Database(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

/// Rows of one database's tables by name.
pub fn rows(captured: &Captured, database: &str) -> BTreeMap<String, u64> {
    let dump = detail(captured).dumps.iter().find(|dump| dump.database == database).expect("a dump");
    dump.tables.iter().map(|table| (table.name.clone(), table.rows)).collect()
}

/// The capture must fail for the database's own reasons, in these words.
#[track_caller]
pub fn fails(outcome: Result<Captured, Error>, subject: &str, words: &[&str]) {
    match outcome {
        Err(Error::Database { subject: about, reason }) => {
            assert_eq!(about, subject, "{reason}");
            for word in words {
                assert!(reason.contains(word), "{about}: {reason:?} does not say {word:?}");
            }
        }
        other => panic!("{subject}: {words:?}: {other:?}"),
    }
}

/// Something must fail for the database's own reasons, in these words.
#[track_caller]
pub fn fails_with<T: std::fmt::Debug>(outcome: Result<T, Error>, words: &[&str]) {
    match outcome {
        Err(Error::Database { reason, .. }) => {
            assert!(words.iter().all(|word| reason.contains(word)), "{reason:?} does not say {words:?}");
        }
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Does something once so many bytes have been stored.
pub struct At<F: Fn() + Send + Sync> {
    pub bytes: u64,
    pub done: AtomicU64,
    pub stop: AtomicBool,
    pub act: F,
}

impl<F: Fn() + Send + Sync> At<F> {
    pub fn new(bytes: u64, act: F) -> Self {
        Self { bytes, done: AtomicU64::new(0), stop: AtomicBool::new(false), act }
    }
}

impl<F: Fn() + Send + Sync> Monitor for At<F> {
    fn advance(&self, amount: u64) {
        let before = self.done.fetch_add(amount, Ordering::Relaxed);
        if before < self.bytes && before + amount >= self.bytes {
            (self.act)();
        }
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Looks at the arguments of every process, again and again, while `work` runs; those that hold `canary`.
pub fn arguments_with<T>(canary: &str, work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen: Vec<String> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
                    let bytes = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
                    if text.contains(canary) && !seen.contains(&text) {
                        seen.push(text);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        (result, watch.join().expect("the watch"))
    })
}
