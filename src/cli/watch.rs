//! Remembers how the commands end that keep snapshots, and tells whoever asked for it in `snap.toml`: what a timer
//! runs at night is known in the morning.

use super::args::{Command, KeyCommand};
use super::exit::{Exit, exit_of};
use super::progress::Progress;
use super::text::{self, Style};
use crate::commands::notify::Notifier;
use crate::commands::runs::{self, Run};
use crate::commands::{Env, Result};
use crate::repo::sync::Chain;
use std::path::{Path, PathBuf};

impl Command {
    /// Its verb, if it is remembered how it ended; not if it only looks.
    fn remembered(&self) -> Option<&'static str> {
        match self {
            Self::Create(args) if !args.plan => Some("create"),
            Self::Restore(args) if !args.plan => Some("restore"),
            Self::Check(_) => Some("check"),
            Self::Replicate(_) => Some("replicate"),
            Self::Forget(args) if !args.dry_run => Some("forget"),
            Self::Prune(args) if !args.dry_run => Some("prune"),
            Self::Key(KeyCommand::Export { .. }) => Some("key export"),
            _ => None,
        }
    }

    /// The folder whose `snap.toml` counts.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Create(args) => &args.dir,
            Self::Schedule(command) => command.folder(),
            _ => Path::new("."),
        }
    }
}

/// Does `work`, the command's, and remembers how it ended.
pub(super) fn watched(
    env: &Env,
    command: &Command,
    progress: &Progress,
    work: impl FnOnce() -> Result<Exit>,
) -> Result<Exit> {
    let Some(verb) = command.remembered() else { return work() };
    let begun = jiff::Timestamp::now().as_second();
    let notifier = Notifier::begin(command.folder(), verb);
    let result = work();
    let (exit, message) = match &result {
        Ok(exit) => (*exit, exit.words().to_owned()),
        Err(error) => (exit_of(error), Chain(error).to_string()),
    };
    let about = env.about.get();
    let message = if about.message.is_empty() { message } else { about.message };
    // What was not understood, and is about nothing that is known, was a slip of somebody's fingers.
    let slip = exit == Exit::Usage && result.is_err() && (about.name.is_empty() || verb == "restore");
    let noted = if slip { None } else { noted(env, verb, &about.name, begun, exit, message) };
    let Some(run) = noted else { return result };
    let problems = notifier.end(&run);
    progress.clear();
    for problem in problems {
        let style = Style::for_stderr();
        text::tell(&format!("{}: {}: {}", style.warn("note"), problem.subject, problem.message));
    }
    result
}

/// Remembers how `verb` has ended that concerned `subject`; nothing where the repository is not known.
pub(super) fn noted(env: &Env, verb: &str, subject: &str, begun: i64, exit: Exit, message: String) -> Option<Run> {
    let at = jiff::Timestamp::now().as_second();
    let directory = env.about.get().directory.or_else(|| std::env::current_dir().ok());
    let run = Run {
        command: verb.to_owned(),
        subject: subject.to_owned(),
        repository: env.location().ok()?.settled(),
        directory: directory.unwrap_or_else(|| PathBuf::from(".")),
        at,
        seconds: u64::try_from(at - begun).unwrap_or(0),
        exit_code: exit as u8,
        message,
        last_good: None,
    };
    runs::note(env, run.clone());
    Some(run)
}
