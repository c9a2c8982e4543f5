//! What is scheduled for a project, and what of it is there.

use super::systemd::Systemd;
use super::units::{self, Job, Plan};
use super::{JOBS, Schedule, ScheduleOptions, ScheduleReport, ScheduledJob};
use crate::commands::project::Project;
use crate::commands::runs::{self, Run};
use crate::commands::settings::{self, Settings, parse_age};
use crate::commands::{Env, Error, Result};
use crate::monitor::Warning;
use std::path::{Path, PathBuf};

const CHECK_MAX_AGE: &str = "30d";
/// Where timers are linked that are to start with the manager.
pub(super) const WANTS: &str = "timers.target.wants";

/// What is scheduled, and where.
pub(super) struct Scene {
    pub project: Project,
    pub settings: Settings,
    pub systemd: Systemd,
}

impl Scene {
    pub fn look(env: &Env, options: &ScheduleOptions) -> Result<Self> {
        let project = Project::look(&options.dir)?;
        let settings = settings::read(&project.root)?;
        let systemd = Systemd::at(!options.user, options.folder.as_deref(), &env.folders.config);
        Ok(Self { project, settings, systemd })
    }

    /// With a manager that was asked whether it is there.
    pub fn asked(mut self) -> Self {
        self.systemd.ask();
        self
    }

    pub fn path(&self, unit: &str) -> PathBuf {
        self.systemd.folder.join(unit)
    }

    pub fn link(&self, timer: &str) -> PathBuf {
        self.systemd.folder.join(WANTS).join(timer)
    }

    /// The units of this project that are there.
    ///
    /// # Errors
    /// One of these names is somebody else's.
    pub fn present(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in units::names(&self.project.name) {
            let path = self.path(&name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            match units::made_for(&text) {
                Some(directory) if directory == self.project.root => found.push(name),
                other => {
                    let of = other.map_or("snap did not make it".to_owned(), |d| format!("it is for {}", d.display()));
                    let message = format!("{} is in the way: {of}", path.display());
                    return Err(Error::usage(message, "remove it there, or give one of the two stacks another name"));
                }
            }
        }
        Ok(found)
    }

    pub fn plan(&self, env: &Env) -> Result<Plan> {
        let example = "add [schedule] with create = \"hourly\", check = \"daily 03:00\" and the like";
        let schedule = self.settings.schedule.as_ref();
        let schedule = schedule.ok_or_else(|| Error::usage("snap.toml has no [schedule]", example))?;
        let mut jobs = Vec::new();
        for name in JOBS {
            if let Some(when) = schedule.when(name)? {
                jobs.push(Job { name, when, calls: calls(name, schedule, &self.settings)? });
            }
        }
        if jobs.is_empty() {
            return Err(Error::usage("[schedule] in snap.toml names nothing to be done", example));
        }
        let program = std::env::current_exe().map_err(|source| Error::Path {
            operation: "find",
            path: "this program".into(),
            source,
        })?;
        let texts = [&self.project.root, &program].map(|path| path.to_str().map(str::to_owned));
        if texts
            .iter()
            .any(|text| text.as_ref().is_none_or(|text| text.contains(char::is_control) || text.ends_with('\\')))
        {
            let message = "the project's folder or this program has a name that cannot stand in a unit of systemd";
            return Err(Error::usage(message, "rename it"));
        }
        let environment_file = schedule.environment_file.as_ref().map(|file| file.below(&self.project.root));
        if let Some(file) = environment_file.as_ref().filter(|file| !file.is_file()) {
            self.miss(env, file)?;
        }
        Ok(Plan {
            stack: self.project.name.clone(),
            directory: self.project.root.clone(),
            program,
            system: self.systemd.system,
            variables: variables(env)?,
            environment_file,
            jobs,
        })
    }

    /// Without the file with secrets no job would start; units for another machine may name what is only there.
    fn miss(&self, env: &Env, file: &Path) -> Result<()> {
        let message = "there is no such file, which snap.toml names as environment-file: without it no job starts";
        match self.systemd.elsewhere {
            true => env.monitor.warn(&Warning::note(file.display().to_string(), message)),
            false => {
                let message = format!("{}: {message}", file.display());
                return Err(Error::usage(message, "make it first, readable by its owner alone"));
            }
        }
        Ok(())
    }

    pub fn report(&self, env: &Env, changed: Vec<PathBuf>, refused: Vec<String>) -> Result<ScheduleReport> {
        let runs = env.location().map(|place| runs::all(env, &place.settled())).unwrap_or_default();
        let there = self.present()?;
        let mut jobs = Vec::new();
        for job in JOBS {
            let name = format!("{}-{job}", units::prefix(&self.project.name));
            let (timer, service) = (format!("{name}.timer"), format!("{name}.service"));
            let when = self.settings.schedule.as_ref().and_then(|schedule| schedule.text(job));
            let installed = there.contains(&timer) && there.contains(&service) && self.link(&timer).exists();
            if when.is_none() && !installed {
                continue;
            }
            jobs.push(ScheduledJob {
                job,
                when: when.map(str::to_owned),
                installed,
                next: self.systemd.next(&timer),
                result: self.systemd.result(&service),
                last: runs.iter().find(|run| is_of(run, job, &self.project)).cloned(),
                timer,
            });
        }
        Ok(ScheduleReport {
            stack: self.project.name.clone(),
            directory: self.project.root.clone(),
            units: self.systemd.folder.clone(),
            running: self.systemd.runs,
            jobs,
            changed,
            refused,
        })
    }

    /// Takes units away, with their links.
    pub fn take_away(&self, names: &[String]) -> Result<(Vec<PathBuf>, Vec<String>)> {
        let (mut removed, mut refused) = (Vec::new(), Vec::new());
        for timer in names.iter().filter(|name| name.ends_with(".timer")) {
            if !self.systemd.order(&["stop", timer]) {
                refused.push(format!("stop {timer}"));
            }
            let link = self.link(timer);
            if link.is_symlink() {
                remove(&link)?;
                removed.push(link);
            }
        }
        for name in names {
            let path = self.path(name);
            remove(&path)?;
            removed.push(path);
        }
        // If it holds nothing else: an empty one would be ours.
        let _ = std::fs::remove_dir(self.systemd.folder.join(WANTS));
        Ok((removed, refused))
    }

    pub fn reload(&self, refused: &mut Vec<String>) {
        if !self.systemd.order(&["daemon-reload"]) {
            refused.push("daemon-reload".to_owned());
        }
    }
}

/// True if that was the job: a capture of this project, or anything else of the whole repository.
pub(super) fn is_of(run: &Run, job: &str, project: &Project) -> bool {
    run.command == job && if job == "create" { run.directory == project.root } else { run.subject.is_empty() }
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Path { operation: "remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

fn calls(job: &str, schedule: &Schedule, settings: &Settings) -> Result<Vec<Vec<String>>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    Ok(match job {
        "create" => vec![words(&["create", ".", "--tag", "scheduled", "--no-progress"])],
        "check" => {
            let age = schedule.check_max_age.as_deref().unwrap_or(CHECK_MAX_AGE);
            parse_age(age)?;
            let mut check = words(&["check", "--no-progress", "--max-age", age]);
            if let Some(budget) = &schedule.check_budget {
                check.extend(words(&["--budget", budget]));
            }
            vec![check]
        }
        "replicate" if !settings.has_replicas() => {
            let message = "[schedule] says when to replicate, and snap.toml names no replica";
            return Err(Error::usage(message, "add [replica.NAME] with url = \"…\""));
        }
        "replicate" => vec![words(&["replicate", "--all", "--no-progress"])],
        _ => {
            let forget = settings.retention.as_ref().map(|_| words(&["forget", "--no-progress"]));
            forget.into_iter().chain([words(&["prune", "--no-progress"])]).collect()
        }
    })
}

/// What was said of the repository and the key when the units were made, and what snap.toml does not say.
fn variables(env: &Env) -> Result<Vec<(&'static str, String)>> {
    let full = |path: &Path| {
        let full = std::path::absolute(path).map_err(|source| Error::Path {
            operation: "find",
            path: path.to_path_buf(),
            source,
        })?;
        let text = full.to_str().filter(|text| !text.contains(char::is_control)).map(str::to_owned);
        text.ok_or_else(|| Error::usage(format!("{} cannot stand in a unit of systemd", full.display()), "rename it"))
    };
    let mut out = Vec::new();
    if env.repository_given {
        out.push(("SNAP_REPO", env.location()?.settled()));
        out.extend(env.endpoint.clone().map(|endpoint| ("SNAP_ENDPOINT", endpoint)));
    }
    match env.identities.as_slice() {
        [] => {}
        [one] => out.push(("SNAP_IDENTITY", full(one)?)),
        _ => return Err(Error::usage("one identity can be named for what is scheduled", "give one --identity")),
    }
    if let Some(file) = &env.passphrase_file {
        out.push(("SNAP_PASSPHRASE_FILE", full(file)?));
    }
    // The same folders as for whoever says this: a restore that he begins has its journal there.
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        if let Some(path) = std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute()) {
            out.push((name, full(&path)?));
        }
    }
    Ok(out)
}
