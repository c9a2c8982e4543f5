//! Applications: real containers, run by Compose, captured by the program.

mod absent;
mod capture;
mod guard;
mod model;
mod refusals;
mod whole;

use crate::docker::busybox_image;
use crate::snap::Sandbox;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Compose project of its own in a folder of its own; everything of it goes when the test ends.
pub struct App {
    pub sandbox: Sandbox,
    pub name: String,
    pub dir: PathBuf,
}

impl App {
    /// A project with this `compose.yaml`, in which `IMAGE` is an image with a shell.
    pub fn new(name: &str, compose: &str) -> Self {
        let sandbox = Sandbox::new();
        let name = format!("stack-it-{name}");
        let dir = sandbox.path(&name);
        std::fs::create_dir_all(&dir).expect("a folder");
        let app = Self { sandbox, name, dir };
        app.write("compose.yaml", &compose.replace("IMAGE", busybox_image()));
        app.down();
        app
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }

    /// Runs `docker compose` in the project's folder.
    pub fn compose(&self, args: &[&str]) -> String {
        let mut command = self.sandbox.command("docker");
        command.env("SOME_SECRET", "canary-2718");
        output(command.arg("compose").args(args).current_dir(&self.dir))
    }

    pub fn up(&self) {
        self.compose(&["up", "-d", "--quiet-pull"]);
    }

    fn down(&self) {
        // Containers of `run` hold on to volumes.
        let label = format!("label=com.docker.compose.project={}", self.name);
        let ids = output(Command::new("docker").args(["ps", "-aq", "--filter", &label]));
        if !ids.is_empty() {
            output(Command::new("docker").args(["rm", "-f", "-v"]).args(ids.lines()));
        }
        let mut command = self.sandbox.command("docker");
        command.arg("compose").args(["-p", &self.name, "down", "-v", "-t", "0", "--remove-orphans"]);
        // There may be nothing yet.
        let _ = command.current_dir(&self.dir).output();
    }

    /// A program in a service's container.
    pub fn exec(&self, service: &str, script: &str) -> String {
        self.compose(&["exec", "-T", service, "sh", "-c", script])
    }

    /// [`App::exec`], or that it failed.
    pub fn try_exec(&self, service: &str, script: &str) -> Result<(), String> {
        let mut command = self.sandbox.command("docker");
        command.args(["compose", "exec", "-T", service, "sh", "-c", script]).current_dir(&self.dir);
        let done = command.output().map_err(|error| error.to_string())?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// The states of the project's containers: `service state`, sorted.
    pub fn states(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let format = "{{.Label \"com.docker.compose.service\"}} {{.State}}";
        let text = output(Command::new("docker").args(["ps", "-a", "--filter", &label, "--format", format]));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// `snap create` of its folder with `more`; it must end with `code`.
    #[track_caller]
    pub fn create(&self, more: &[&str], code: i32) -> Value {
        if !self.sandbox.repo().exists() && !more.contains(&"--plan") {
            self.sandbox.init();
        }
        let dir = self.dir.display().to_string();
        let args: Vec<&str> = ["create", &dir, "--json"].into_iter().chain(more.iter().copied()).collect();
        self.sandbox.expect(&args, &[code]).unwrap_or_else(|text| panic!("{text}")).json()
    }

    /// Where a volume lies on the engine's disk.
    pub fn mountpoint(&self, volume: &str) -> PathBuf {
        let name = format!("{}_{volume}", self.name);
        output(Command::new("docker").args(["volume", "inspect", "-f", "{{.Mountpoint}}", &name])).trim().into()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.down();
    }
}

/// The standard output of a program that must end well.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let done = command.output().expect("a program");
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {err}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The lines of the coverage as `kind what state`, where paths in `dir` are shown relative.
pub fn coverage(report: &Value, dir: &Path) -> Vec<String> {
    let lines = report["coverage"].as_array().expect("a list");
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let dir = std::fs::canonicalize(dir).expect("a folder").display().to_string();
    let line = |line: &Value| {
        let what = text(line, "what").replace(&format!("{dir}/"), "").replace(&dir, ".");
        format!("{} {what} {}", text(line, "kind"), text(line, "state"))
    };
    lines.iter().map(line).collect()
}
