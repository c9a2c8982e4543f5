//! Letting the Compose tool start services: always without building and without asking a registry, because the images
//! of a restore are here, and others than these would not be the application.

use super::{Error, Result};
use crate::docker::Container;
use crate::monitor::Monitor;
use crate::stack::application::observe::{CONFIG_FILES, ENV_FILES, TOOL_VERSION, WORKING_DIR};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A start that has not ended by then is given up: it may wait for dependencies to become healthy.
const PATIENCE: Duration = Duration::from_secs(600);
/// Characters of what the tool says that are kept.
const SAID_CHARS: usize = 600;

/// How a project is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// True for `docker compose`, false for `docker-compose`.
    pub plugin: bool,
    /// What means the project, before the verb.
    pub arguments: Vec<String>,
}

/// How a container was started, as its labels say; `None` if they do not. Profiles are in no label: services are always
/// named, and a name activates its profile.
pub fn call_of(container: &Container, project: &str, directory: &Path) -> Option<Call> {
    let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
    let absolute = |path: &str| directory.join(path).display().to_string();
    let list = |text: &str| text.split(',').filter(|part| !part.is_empty()).map(absolute).collect::<Vec<String>>();
    let files = list(label(CONFIG_FILES));
    if files.is_empty() {
        return None;
    }
    let base = Some(label(WORKING_DIR)).filter(|base| !base.is_empty());
    let base = base.map_or_else(|| directory.display().to_string(), str::to_owned);
    let mut arguments = vec!["--project-directory".to_owned(), base, "-p".to_owned(), project.to_owned()];
    arguments.extend(files.into_iter().flat_map(|file| ["-f".to_owned(), file]));
    let env_files = list(label(ENV_FILES)).into_iter().filter(|file| Path::new(file).is_file());
    arguments.extend(env_files.flat_map(|file| ["--env-file".to_owned(), file]));
    Some(Call { plugin: !label(TOOL_VERSION).starts_with("1."), arguments })
}

/// A service, how many containers of it, and how they are started.
pub type Wanted<'a> = (&'a str, usize, &'a Call);

/// Where the tool is called, and the file that is locked until it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project's folder.
    pub directory: &'a Path,
    /// See [`super::journal::tool_lock`].
    pub lock: &'a Path,
}

/// Starts services in their order, each as it was started before and without those that it depends on: those that
/// follow each other and are started alike go together.
///
/// # Errors
/// As [`Call::up`].
pub fn up_alike(services: &[Wanted<'_>], place: Place<'_>, monitor: &dyn Monitor) -> Result<()> {
    for group in services.chunk_by(|a, b| a.2 == b.2) {
        let named: Vec<(String, usize)> = group.iter().map(|(name, count, _)| ((*name).to_owned(), *count)).collect();
        if let Some((_, _, call)) = group.first() {
            call.up(place, &named, true, monitor)?;
        }
    }
    Ok(())
}

impl Call {
    /// Starts services, each with so many containers; `alone` without those that they depend on.
    ///
    /// # Errors
    /// The tool refuses, does not end in time, or the person stops the work.
    pub fn up(&self, place: Place<'_>, services: &[(String, usize)], alone: bool, monitor: &dyn Monitor) -> Result<()> {
        if services.is_empty() {
            return Ok(());
        }
        let mut words: Vec<OsString> = self.arguments.iter().map(OsString::from).collect();
        words.extend(["up", "-d", "--no-build"].map(OsString::from));
        if self.plugin {
            words.extend(["--pull", "never"].map(OsString::from));
        }
        if alone {
            words.push("--no-deps".into());
        }
        for (service, count) in services.iter().filter(|(_, count)| *count > 1) {
            words.extend(["--scale".into(), format!("{service}={count}").into()]);
        }
        words.extend(services.iter().map(|(service, _)| OsString::from(service)));
        self.run(words, place, monitor)
    }

    fn name(&self) -> &'static str {
        if self.plugin { "docker compose up" } else { "docker-compose up" }
    }

    fn run(&self, words: Vec<OsString>, place: Place<'_>, monitor: &dyn Monitor) -> Result<()> {
        let failed = |message: String| Error::Engine { subject: self.name().to_owned(), message };
        let mut command = if self.plugin { Command::new("docker") } else { Command::new("docker-compose") };
        if self.plugin {
            command.arg("compose");
        }
        command.args(words).current_dir(place.directory);
        // It goes on if this program is killed. What comes after waits for it, because it holds the lock as its input,
        // which is empty.
        let lock = super::journal::tool_lock(place.lock)?;
        command.stdin(Stdio::from(lock)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let pipe = child.stderr.take();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                // What cannot be read cannot be told; the exit code says whether it went well.
                let _ = pipe.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let started = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| failed(error.to_string()))? {
                Some(status) => break status,
                None if monitor.cancelled() || started.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(match monitor.cancelled() {
                        true => Error::Signal { step: format!("before {} had ended", self.name()) },
                        false => failed("it did not end in time".to_owned()),
                    });
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let said = reader.join().unwrap_or_default();
        if status.success() { Ok(()) } else { Err(failed(last_words(&said))) }
    }
}

/// What a tool says when it fails: the end of it, without the lines that only show progress.
fn last_words(said: &str) -> String {
    let is_progress = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        let last = line.split_whitespace().last().unwrap_or_default();
        matches!(first, "Container" | "Network" | "Volume")
            && matches!(
                last,
                "Creating"
                    | "Created"
                    | "Starting"
                    | "Started"
                    | "Running"
                    | "Recreate"
                    | "Recreated"
                    | "Waiting"
                    | "Healthy"
            )
    };
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains("level=warning") && !is_progress(line))
        .collect();
    let text = lines.join(" ");
    let from = text.char_indices().rev().nth(SAID_CHARS).map_or(0, |(at, _)| at);
    if text.is_empty() { "it failed and did not say why".to_owned() } else { text[from..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn a_failure_is_told_without_progress() {
        let said = " Container a-db-1  Creating\n Container a-db-1  Created\ntime=\"x\" level=warning msg=\"y\"\n\
            Error response from daemon: No such image: web:1\n";
        assert_eq!(last_words(said), "Error response from daemon: No such image: web:1");
        assert_eq!(last_words(" Container a  Created\n"), "it failed and did not say why");
        assert!(last_words(&"x".repeat(5000)).len() < 700);
    }
}
