//! Asking systemd: which of the timers will start next, and how the services ended. Where it does not run,
//! nobody answers, and that is said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Made by systemd when it manages the system.
const RUNNING: &str = "/run/systemd/system";

/// Which manager, and where its units lie.
#[derive(Debug, Clone)]
pub(super) struct Systemd {
    pub system: bool,
    /// Where the units are.
    pub folder: PathBuf,
    /// False if no manager runs here that would start them, or it was not asked.
    pub runs: bool,
    /// True if they are put somewhere for somebody else.
    pub elsewhere: bool,
}

impl Systemd {
    /// `folder` if the units are to lie elsewhere than where the manager looks.
    pub fn at(system: bool, folder: Option<&Path>, config: &Path) -> Self {
        let usual = match system {
            true => PathBuf::from("/etc/systemd/system"),
            // Beside snap's own folder of settings.
            false => config.parent().unwrap_or(config).join("systemd/user"),
        };
        Self { system, folder: folder.map_or(usual, Path::to_path_buf), runs: false, elsewhere: folder.is_some() }
    }

    /// Looks whether the manager is there.
    pub fn ask(&mut self) {
        let answers = || Self::command(self.system, &["show", "--property=Version"]);
        self.runs = !self.elsewhere
            && Path::new(RUNNING).is_dir()
            && answers().is_some_and(|text| text.starts_with("Version="));
    }

    fn command(system: bool, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("systemctl");
        command.args((!system).then_some("--user")).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        // Times are read by a program.
        command.env("LC_ALL", "C").env("TZ", "UTC");
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives the manager an order; false if it refused.
    pub fn order(&self, arguments: &[&str]) -> bool {
        !self.runs || Self::command(self.system, arguments).is_some()
    }

    /// When the timer will start next, in seconds since 1970; `None` if nobody knows.
    pub fn next(&self, timer: &str) -> Option<i64> {
        let text = self.property(timer, "NextElapseUSecRealtime")?;
        // Such as `Thu 2026-11-26 02:00:00 UTC`.
        let mut words = text.split(' ').skip(1);
        let (date, time) = (words.next()?, words.next()?);
        format!("{date}T{time}Z").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
    }

    /// How the service last ended, in systemd's word; `None` if nobody knows.
    pub fn result(&self, service: &str) -> Option<String> {
        self.property(service, "ExecMainExitTimestamp")?;
        self.property(service, "Result")
    }

    fn property(&self, unit: &str, name: &str) -> Option<String> {
        if !self.runs {
            return None;
        }
        let text = Self::command(self.system, &["show", &format!("--property={name}"), "--value", unit])?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}
