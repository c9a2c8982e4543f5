//! `snap schedule`: timers of systemd that do by themselves what `[schedule]` in `snap.toml` says.
//!
//! Jobs do not need to keep out of each other's way: captures, checks, replications and deletions may run side
//! by side on one repository. Only a capture and a restore of the same application may not; the journal of the
//! restore says that it is at work, and a scheduled capture is then left out by its service's condition, without
//! counting as a failure. One that comes later all the same ends with code 5. A restore that was interrupted
//! does fail captures, so that somebody hears of it.

mod scene;
mod systemd;
mod units;
mod when;

pub use when::When;

use super::env::host_name;
use super::folders::SetPath;
use super::notify::Notifier;
use super::project::Project;
use super::runs::{self, Run};
use super::{Env, Error, Result};
use crate::fs::write_replacing;
use crate::monitor::Warning;
use crate::stack::rollback::Journal;
use scene::{Scene, WANTS, is_of, remove};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What can be done by itself.
const JOBS: [&str; 4] = ["create", "check", "replicate", "prune"];
/// Units are read by systemd, and by everybody.
const MODE: u32 = 0o644;
/// A run that ended so many seconds ago was told of by itself.
const TOLD_SECONDS: i64 = 60;

/// `[schedule]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Schedule {
    create: Option<String>,
    check: Option<String>,
    replicate: Option<String>,
    prune: Option<String>,
    /// See `snap check --max-age`.
    check_max_age: Option<String>,
    /// See `snap check --budget`.
    check_budget: Option<String>,
    /// Variables that are secret, such as those that open a bucket.
    environment_file: Option<SetPath>,
}

impl Schedule {
    fn text(&self, job: &str) -> Option<&str> {
        let text = match job {
            "create" => &self.create,
            "check" => &self.check,
            "replicate" => &self.replicate,
            _ => &self.prune,
        };
        text.as_deref()
    }

    /// When a job is done; `None` if it is not done by itself.
    ///
    /// # Errors
    /// What is said of it is no time.
    pub fn when(&self, job: &str) -> Result<Option<When>> {
        self.text(job).map(When::parse).transpose()
    }
}

/// For which manager, and where its units lie.
#[derive(Debug, Clone, Default)]
pub struct ScheduleOptions {
    /// The project's folder.
    pub dir: PathBuf,
    /// For the person's own manager, not the system's.
    pub user: bool,
    /// Put the units here; no manager is told of them.
    pub folder: Option<PathBuf>,
}

/// One job.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduledJob {
    /// `create`, `check`, `replicate` or `prune`.
    pub job: &'static str,
    /// When, in the words of `snap.toml`; absent if only units are left of it.
    pub when: Option<String>,
    /// The timer's name.
    pub timer: String,
    /// True if timer and service are there.
    pub installed: bool,
    /// When it will start next, in seconds since 1970, as systemd says.
    pub next: Option<i64>,
    /// How the service last ended, as systemd says.
    pub result: Option<String>,
    /// How the command last ended on this machine, however it was started.
    pub last: Option<Run>,
}

/// What `schedule` says.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleReport {
    /// The stack.
    pub stack: String,
    /// Its folder.
    pub directory: PathBuf,
    /// Where the units are.
    pub units: PathBuf,
    /// True if a systemd that would start them was reached.
    pub running: bool,
    /// The jobs.
    pub jobs: Vec<ScheduledJob>,
    /// Files that were written or removed.
    pub changed: Vec<PathBuf>,
    /// What systemd refused.
    pub refused: Vec<String>,
}

/// Writes the units, or makes them what `snap.toml` says now, and starts the timers.
///
/// # Errors
/// `snap.toml` says nothing to be done, a name is taken, or a file cannot be written.
pub fn install(env: &Env, options: &ScheduleOptions) -> Result<ScheduleReport> {
    let scene = Scene::look(env, options)?.asked();
    let plan = scene.plan(env)?;
    let wanted = units::units(&plan);
    let there = scene.present()?;
    let failed = |operation, path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Path { operation, path, source }
    };
    let wants = scene.systemd.folder.join(WANTS);
    std::fs::create_dir_all(&wants).map_err(failed("make the folder", &wants))?;
    let stale: Vec<String> = there.into_iter().filter(|name| !wanted.iter().any(|unit| unit.0 == *name)).collect();
    let (mut changed, mut refused) = scene.take_away(&stale)?;
    std::fs::create_dir_all(&wants).map_err(failed("make the folder", &wants))?;
    for (name, text) in &wanted {
        let path = scene.path(name);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(text) {
            write_replacing(&path, text.as_bytes(), MODE).map_err(failed("write", &path))?;
            changed.push(path);
        }
    }
    let timers = || wanted.iter().map(|unit| unit.0.as_str()).filter(|name| name.ends_with(".timer"));
    for timer in timers() {
        let link = scene.link(timer);
        let target = Path::new("..").join(timer);
        if std::fs::read_link(&link).ok().as_ref() != Some(&target) {
            remove(&link)?;
            std::os::unix::fs::symlink(&target, &link).map_err(failed("make the link", &link))?;
            changed.push(link);
        }
    }
    scene.reload(&mut refused);
    for timer in timers() {
        // One that waits already takes up its new times.
        if !scene.systemd.order(&["restart", timer]) {
            refused.push(format!("restart {timer}"));
        }
    }
    scene.report(env, changed, refused)
}

/// Takes everything away again.
///
/// # Errors
/// A name is somebody else's, or a file cannot be removed.
pub fn uninstall(env: &Env, options: &ScheduleOptions) -> Result<ScheduleReport> {
    let scene = Scene::look(env, options)?.asked();
    let there = scene.present()?;
    let (changed, mut refused) = scene.take_away(&there)?;
    if !changed.is_empty() {
        scene.reload(&mut refused);
    }
    scene.report(env, changed, refused)
}

/// What is scheduled, when it comes next, and how it last ended.
///
/// # Errors
/// `snap.toml` cannot be understood.
pub fn show(env: &Env, options: &ScheduleOptions) -> Result<ScheduleReport> {
    let scene = Scene::look(env, options)?.asked();
    for job in JOBS {
        scene.settings.schedule.as_ref().map(|schedule| schedule.when(job)).transpose()?;
    }
    scene.report(env, Vec::new(), Vec::new())
}

/// True if the system's or the person's systemd has a timer for captures of what is in `dir`.
pub fn is_installed(env: &Env, dir: &Path) -> bool {
    [false, true].into_iter().any(|user| {
        let options = ScheduleOptions { dir: dir.to_path_buf(), user, folder: None };
        let scene = Scene::look(env, &options).ok();
        scene.is_some_and(|scene| {
            let timer = format!("{}-create.timer", units::prefix(&scene.project.name));
            scene.present().is_ok_and(|there| there.contains(&timer)) && scene.link(&timer).exists()
        })
    })
}

/// True unless a restore of the application in `dir` is at work.
///
/// # Errors
/// There is no such folder.
pub fn may_create(env: &Env, dir: &Path) -> Result<bool> {
    let root = Project::look(dir)?.root;
    let all = std::fs::read_dir(env.folders.data.join("restores")).into_iter().flatten().flatten();
    let at_work = all.map(|entry| entry.path()).filter(|folder| Journal::is_at_work(folder));
    // One whose journal cannot be read may be of this application.
    let is_ours = |folder: PathBuf| match Journal::left_over(&folder) {
        Ok(Some(begun)) => begun.directory == root,
        Ok(None) => false,
        Err(_) => true,
    };
    Ok(!at_work.into_iter().any(is_ours))
}

/// Remembers, and tells whoever is to be told, that a unit has failed; nothing if the command that it ran has
/// said so itself.
///
/// # Errors
/// There is no such folder.
pub fn failed(env: &Env, dir: &Path, unit: &str) -> Result<Vec<Warning>> {
    let project = Project::look(dir)?;
    let job = unit.trim_end_matches(".service").rsplit('-').next().unwrap_or_default();
    let Some(job) = JOBS.into_iter().find(|known| *known == job) else {
        return Err(Error::usage(format!("{unit} is none of snap's units"), "snap schedule show lists them"));
    };
    let repository = env.location()?.settled();
    let subject = if job == "create" { project.name.as_str() } else { "" };
    let now = jiff::Timestamp::now().as_second();
    let is_told = |run: &Run| {
        let same = is_of(run, job, &project) || (job == "prune" && is_of(run, "forget", &project));
        same && !run.is_good() && now - run.at <= TOLD_SECONDS
    };
    if runs::all(env, &repository).iter().any(is_told) {
        return Ok(Vec::new());
    }
    // systemd says it in the service's own words since its version 251.
    let why = std::env::var("MONITOR_SERVICE_RESULT").ok().filter(|text| !text.contains(char::is_control));
    let why = why.map_or_else(|| "systemd knows more".to_owned(), |why| format!("systemd says: {why}"));
    let run = Run {
        command: job.to_owned(),
        subject: subject.to_owned(),
        repository,
        directory: project.root.clone(),
        at: now,
        seconds: 0,
        exit_code: 1,
        message: format!("{unit} on {} ended before snap could say how ({why}); journalctl -u {unit}", host_name()),
        last_good: None,
    };
    runs::note(env, run.clone());
    Ok(Notifier::quiet(&project.root).end(&run))
}
