//! Runs the program under test as a person would: its own home, a clean environment, and a
//! watchdog, so that a run that hangs is a failure with a name.

use crate::compare;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest run of one command before it counts as hung.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// Exit codes that the tests name.
pub mod exit {
    pub const DONE: i32 = 0;
    pub const FAILED: i32 = 1;
    pub const USAGE: i32 = 2;
    pub const INCOMPLETE: i32 = 3;
    pub const INTERRUPTED: i32 = 130;
    pub const DAMAGE: i32 = 4;
    pub const NO_REPOSITORY: i32 = 10;
    pub const WRONG_KEY: i32 = 11;
    /// A panic of the program (Rust's own code, and that of an abort), or a run that the watchdog ended.
    pub const CRASHES: [i32; 5] = [101, 132, 134, 136, 139];
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; 128 + n where signal n ended it.
    pub code: i32,
    /// What it wrote for machines.
    pub stdout: String,
    /// What it wrote for people.
    pub stderr: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, code, stdout, stderr } = self;
        write!(f, "`{line}` ended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}---")
    }
}

impl Run {
    /// The one JSON document on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        self.try_json().unwrap_or_else(|text| panic!("{text}"))
    }

    /// [`Run::json`], or why there is none.
    pub fn try_json(&self) -> Result<Value, String> {
        serde_json::from_str(&self.stdout).map_err(|error| format!("stdout is not one JSON document: {error}\n{self}"))
    }

    /// `Err` unless it ended with one of `codes` and without a panic.
    pub fn expect(self, codes: &[i32]) -> Result<Self, String> {
        if self.panicked() {
            return Err(format!("the program panicked: {self}"));
        }
        if let Some(raw) = RAW.iter().find(|raw| self.stdout.contains(**raw) || self.stderr.contains(**raw)) {
            return Err(format!("{raw:?} is not for people: {self}"));
        }
        if codes.contains(&self.code) { Ok(self) } else { Err(format!("expected {codes:?}: {self}")) }
    }

    /// The program broke down rather than answered.
    pub fn panicked(&self) -> bool {
        self.stderr.contains("panicked at") || exit::CRASHES.contains(&self.code)
    }

    /// The list `problems` of a `check --json`, one line each.
    pub fn problems(&self) -> Result<Vec<String>, String> {
        let document = self.try_json()?;
        let problems = document["problems"].as_array().ok_or_else(|| format!("no list of problems: {self}"))?;
        Ok(problems.iter().map(|p| format!("{} {}: {}", p["severity"], p["object"], p["message"])).collect())
    }
}

/// One user on one host: a home, a repository, and room for sources and targets.
#[derive(Debug)]
pub struct Sandbox {
    root: PathBuf,
    repo: PathBuf,
    /// What its environment has besides.
    pub vars: Vec<(&'static str, String)>,
    /// Removes the folder at the end, if the sandbox owns it.
    _owned: Option<tempfile::TempDir>,
}

impl Sandbox {
    /// A new one in a temporary folder of its own.
    pub fn new() -> Self {
        Self::owning(tempfile::tempdir().expect("a temporary folder"))
    }

    /// One in `dir`, which goes when the sandbox goes.
    pub fn owning(dir: tempfile::TempDir) -> Self {
        let root = dir.path().to_path_buf();
        let sandbox = Self { repo: root.join("repo"), root, vars: Vec::new(), _owned: Some(dir) };
        sandbox.lay_out();
        sandbox
    }

    /// One in a folder that somebody else removes.
    pub fn at(root: &Path) -> Self {
        Self::with_repo(root, &root.join("repo"))
    }

    /// One whose repository is elsewhere.
    pub fn with_repo(root: &Path, repo: &Path) -> Self {
        let sandbox = Self { root: root.to_path_buf(), repo: repo.to_path_buf(), vars: Vec::new(), _owned: None };
        sandbox.lay_out();
        sandbox
    }

    fn lay_out(&self) {
        for dir in [self.home(), self.path("tmp")] {
            std::fs::create_dir_all(dir).expect("a folder");
        }
    }

    /// A path below the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The repository.
    pub fn repo(&self) -> PathBuf {
        self.repo.clone()
    }

    /// The identity file that the first use writes.
    pub fn identity(&self) -> PathBuf {
        self.home().join(".config/snap/identity.txt")
    }

    /// The folder of all catalogs.
    pub fn cache(&self) -> PathBuf {
        self.home().join(".cache/snap")
    }

    /// A command in this sandbox's environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.root).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("TMPDIR", self.path("tmp"));
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("SNAP_REPO", self.repo());
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The program with `args`, to be changed before it is run.
    pub fn snap_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = self.command(program());
        command.args(args);
        command
    }

    /// Runs the program to its end, whatever that is.
    #[track_caller]
    pub fn snap<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        run(self.snap_command(args), WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
    }

    /// Runs the program; `Err` if it hangs, panics or ends with none of `codes`.
    pub fn expect<S: AsRef<OsStr>>(&self, args: &[S], codes: &[i32]) -> Result<Run, String> {
        run(self.snap_command(args), WATCHDOG)?.expect(codes)
    }

    /// Runs the program with the words of `line`, where paths are relative to the sandbox; it must end
    /// with `code`.
    #[track_caller]
    pub fn must(&self, line: &str, code: i32) -> Run {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.expect(&words, &[code]).unwrap_or_else(|text| panic!("{text}"))
    }

    /// [`Sandbox::must`] end with 0: the JSON document that it gives.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        self.must(&format!("{line} --json"), exit::DONE).json()
    }

    /// `snap init`.
    #[track_caller]
    pub fn init(&self) {
        self.expect(&["init"], &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    }

    /// `snap create SOURCE`: the JSON report of a complete snapshot.
    #[track_caller]
    pub fn create(&self, source: &Path) -> Value {
        self.try_create(source).unwrap_or_else(|text| panic!("{text}"))
    }

    /// [`Sandbox::create`], or why it failed.
    pub fn try_create(&self, source: &Path) -> Result<Value, String> {
        let run = self.expect(&create_args(source), &[exit::DONE])?;
        let report = run.try_json()?;
        match (id_of(&report["snapshot"]), report["snapshot"]["complete"].as_bool()) {
            (Ok(_), Some(true)) => Ok(report),
            _ => Err(format!("exit 0 without a complete snapshot: {run}")),
        }
    }

    /// `snap restore ID --target TARGET`: the JSON report.
    #[track_caller]
    pub fn restore(&self, id: &str, target: &Path) -> Value {
        self.try_restore(id, target).unwrap_or_else(|text| panic!("{text}"))
    }

    /// [`Sandbox::restore`], or why it failed.
    pub fn try_restore(&self, id: &str, target: &Path) -> Result<Value, String> {
        self.expect(&restore_args(id, target), &[exit::DONE])?.try_json()
    }

    /// Restores `id` into a new folder and compares it with `original` in every attribute.
    pub fn restores_to(&self, id: &str, original: &Path) -> Result<(), String> {
        let target = self.path(&format!("target-{}", &id[..id.len().min(8)]));
        self.try_restore(id, &target)?;
        compare::same(original, &target)?;
        std::fs::remove_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))
    }

    /// `snap check --read-data`: clean, or `Err` with the problems.
    pub fn checks_clean(&self) -> Result<(), String> {
        let run = self.expect(&CHECK, &[exit::DONE])?;
        run.try_json().map(|_| ())
    }

    /// `snap list`: the snapshots as the program orders them.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        self.try_list().unwrap_or_else(|text| panic!("{text}"))
    }

    /// [`Sandbox::list`], or why it failed.
    pub fn try_list(&self) -> Result<Vec<Value>, String> {
        let run = self.expect(&["list", "--json"], &[exit::DONE])?;
        let document = run.try_json()?;
        document["snapshots"].as_array().cloned().ok_or_else(|| format!("no list of snapshots: {run}"))
    }

    /// All objects of the repository, relative, sorted: `config`, `keys/…`, `packs/…`, …
    pub fn objects(&self) -> Vec<PathBuf> {
        let repo = self.repo();
        compare::paths(&repo).into_iter().filter(|path| repo.join(path).is_file()).collect()
    }
}

/// What no person should see on a pipe: an error as the compiler prints it, an escape code.
const RAW: [&str; 5] = ["Os {", "Custom {", "Error(", "panicked", "\x1b["];

/// The arguments of a whole check.
pub const CHECK: [&str; 3] = ["check", "--read-data", "--json"];

/// The arguments of a capture.
pub fn create_args(source: &Path) -> Vec<OsString> {
    vec!["create".into(), source.into(), "--json".into()]
}

/// The arguments of a restore.
pub fn restore_args(id: &str, target: &Path) -> Vec<OsString> {
    vec!["restore".into(), id.into(), "--target".into(), target.into(), "--json".into()]
}

/// True if a warning about `subject` says `text`.
pub fn warns(report: &Value, subject: &str, text: &str) -> bool {
    let said = |field: &Value, wanted: &str| field.as_str().is_some_and(|found| found.contains(wanted));
    report["warnings"].as_array().is_some_and(|warnings| {
        warnings.iter().any(|warning| said(&warning["subject"], subject) && said(&warning["message"], text))
    })
}

/// The id in a JSON snapshot.
pub fn id_of(snapshot: &Value) -> Result<String, String> {
    let id = snapshot["id"].as_str().filter(|id| id.len() >= 8);
    id.map(str::to_owned).ok_or_else(|| format!("no id in {snapshot}"))
}

/// The program under test; `SNAP_BIN` names another build of it, for people at work on the tests.
pub fn program() -> PathBuf {
    std::env::var_os("SNAP_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_snap")), PathBuf::from)
}

/// Runs `command` to its end; after `limit` it and its children are killed and it is an error.
pub fn run(mut command: Command, limit: Duration) -> Result<Run, String> {
    let line = shown(&command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("`{line}` does not start: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    let stdout = read_all(child.stdout.take(), sender.clone());
    let stderr = read_all(child.stderr.take(), sender);
    // Both pipes close when the last process that holds them ends.
    let hung = (0..2).any(|_| receiver.recv_timeout(limit).is_err());
    if hung {
        kill_group(&child);
    }
    let status = child.wait().map_err(|error| format!("`{line}`: {error}"))?;
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let run = Run { line, code: code_of(status), stdout: text(stdout), stderr: text(stderr) };
    if hung { Err(format!("hung for {} s: {run}", limit.as_secs())) } else { Ok(run) }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The command line as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn read_all(pipe: Option<impl Read + Send + 'static>, done: mpsc::Sender<()>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody listens any more after a hang.
        let _ = done.send(());
        bytes
    })
}

/// Kills the child and all that it started.
pub fn kill_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// Copies a sandbox's folder; what is mutable in it is then its own.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    let mut command = Command::new("cp");
    command.arg("-a").arg("--").arg(from).arg(to);
    run(command, WATCHDOG)?.expect(&[0]).map(|_| ())
}

#[test]
fn a_run_that_hangs_is_ended_and_named() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo begun; sleep 600 & wait"]).stdin(Stdio::null());
    let error = run(command, Duration::from_millis(300)).expect_err("a hang");
    assert!(error.starts_with("hung") && error.contains("begun"), "{error}");
}

#[test]
fn a_run_keeps_code_signal_and_both_streams() {
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, WATCHDOG).expect("a run that ends")
    };
    let plain = shell("echo '{\"a\":1}'; echo seen >&2; exit 4");
    assert_eq!((plain.code, plain.stderr.as_str()), (4, "seen\n"));
    assert_eq!(plain.json()["a"], 1);
    assert!(plain.clone().expect(&[4]).is_ok() && plain.expect(&[0]).is_err());
    assert_eq!(shell("kill -9 $$").code, 137);
    assert!(shell("echo \"thread 'main' panicked at x\" >&2; exit 4").expect(&[4]).is_err());
}
