//! Asking the tool that runs the project: `docker compose`, or the older `docker-compose`.
//!
//! Nothing of what the tool is told or says contains a secret on its command line. What it prints does (the values
//! of variables), and stays in memory; what it says when it refuses is its own message, in one line.

use super::model::Model;
use super::{Error, Result, Selection, parse, yaml};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A tool that has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which tool is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The newer one, or else the older one.
    #[default]
    Any,
    /// `docker compose`.
    Plugin,
    /// `docker-compose`.
    Program,
}

/// A tool that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// True for `docker compose`, false for `docker-compose`.
    pub plugin: bool,
    /// Its version.
    pub version: String,
}

impl Tool {
    /// Finds one.
    ///
    /// # Errors
    /// None is there.
    pub fn find(choice: ToolChoice) -> Result<Self> {
        for plugin in [true, false] {
            if matches!((choice, plugin), (ToolChoice::Plugin, false) | (ToolChoice::Program, true)) {
                continue;
            }
            let version = run(plugin, &["version".into(), "--short".into()], Path::new("/"));
            if let Ok(said) = version
                && said.success
                && let Ok(text) = String::from_utf8(said.out)
            {
                return Ok(Self { plugin, version: text.trim().trim_start_matches('v').to_owned() });
            }
        }
        Err(Error::NoTool)
    }

    /// Its name, as it is called.
    pub fn name(&self) -> &'static str {
        name(self.plugin)
    }

    /// The model of a project.
    ///
    /// # Errors
    /// The tool refuses the project, or cannot be run.
    pub fn model(&self, selection: &Selection) -> Result<Model> {
        let json = self.plugin || self.version.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(1) >= 2;
        let mut arguments = selection.arguments();
        arguments.push("config".into());
        if json {
            arguments.extend(["--format".into(), "json".into()]);
        }
        let said = run(self.plugin, &arguments, &selection.directory)?;
        if !said.success {
            let directory = selection.directory.clone();
            return Err(Error::Refused { tool: self.name(), directory, message: reason(&said.err) });
        }
        let wrong = |message: String| Error::Model { what: format!("the answer of {}", self.name()), message };
        let document: Value = match json {
            true => serde_json::from_slice(&said.out).map_err(|error| wrong(error.to_string()))?,
            false => yaml::parse(&String::from_utf8_lossy(&said.out)).map_err(wrong)?,
        };
        parse::model(&document, &selection.name(), selection.base())
    }
}

impl Selection {
    /// The project's name where the tool does not tell it: as given, as the environment says, or the folder's.
    pub fn name(&self) -> String {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        said(self.project.clone())
            .or_else(|| said(std::env::var("COMPOSE_PROJECT_NAME").ok()))
            .or_else(|| said(super::selection::read_env_file(&self.base().join(".env")).remove("COMPOSE_PROJECT_NAME")))
            .unwrap_or_else(|| self.folder_name())
    }
}

fn name(plugin: bool) -> &'static str {
    if plugin { "docker compose" } else { "docker-compose" }
}

/// What a run of the tool gave.
struct Said {
    success: bool,
    out: Vec<u8>,
    err: String,
}

fn run(plugin: bool, arguments: &[OsString], directory: &Path) -> Result<Said> {
    let failed = |message: String| Error::Tool { tool: name(plugin), message };
    let mut command = if plugin { Command::new("docker") } else { Command::new("docker-compose") };
    if plugin {
        command.arg("compose");
    }
    command.args(arguments).current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(move || read_all(out));
        let err = scope.spawn(move || read_all(err));
        let success = wait(&mut child).map_err(|error| failed(error.to_string()))?;
        let Some(success) = success else {
            return Err(failed(format!("it did not answer within {} s", PATIENCE.as_secs())));
        };
        let out = out.join().unwrap_or_default();
        let err = String::from_utf8_lossy(&err.join().unwrap_or_default()).into_owned();
        Ok(Said { success, out, err })
    })
}

fn read_all(from: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What could not be read is missing in what is parsed, and is refused there.
        let _ = from.read_to_end(&mut bytes);
    }
    bytes
}

/// True if it ended well; `None` if it had to be ended.
fn wait(child: &mut Child) -> std::io::Result<Option<bool>> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What a tool says on standard error, without its warnings, as one line.
fn reason(err: &str) -> String {
    let told = |line: &&str| !line.is_empty() && !line.contains("level=warning") && !line.starts_with("WARN");
    let lines: Vec<&str> = err.lines().map(str::trim).filter(told).collect();
    let text = lines.join(" ");
    match text.char_indices().nth(600) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_without_warnings() {
        let text =
            "time=\"x\" level=warning msg=\"A is not set\"\nThe Compose file is invalid because:\n  Service a has\n";
        assert_eq!(reason(text), "The Compose file is invalid because: Service a has");
        assert!(reason(&"x".repeat(5000)).len() < 700);
    }
}
