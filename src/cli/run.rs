//! From arguments to an exit code: the table of contents of the program.

use super::args::{Cli, Command, Common, CreateArgs, KeyCommand, RoleArg, ScopeArgs, ShowArgs};
use super::back;
use super::exit::{Exit, Purpose, exit_of, hint_of};
use super::manual;
use super::mend;
use super::progress::{Progress, Show, interruption};
use super::prompt::Terminal;
use super::render::Output;
use super::replicas;
use super::schedule::schedule;
use super::text::{self, Style};
use super::upkeep;
use super::watch::watched;
use crate::commands::folders::{Folders, at_home};
use crate::commands::rollback_resume::interrupted;
use crate::commands::runnable::Given;
use crate::commands::{self, Env, Error, Result};
use crate::crypto::secrets::Role;
use crate::repo::select::Scope;
use crate::repo::sync::Chain;
use crate::repo::{self, Repository};
use crate::stack::application::guard::repair;
use crate::stack::files::raise_open_file_limit;
use crate::store::BUCKET_SCHEME;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs the program on the process's arguments.
pub fn run() -> Exit {
    let cli = match Cli::command().try_get_matches().and_then(|words| {
        let cli = Cli::from_arg_matches(&words)?;
        text::will_repeat(typed(&cli.common, &words));
        Ok(cli)
    }) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, everything else is a mistake; clap knows where each goes.
            let _ = error.print();
            if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
                let text = error.to_string();
                give_error(text.trim_start_matches("error: ").trim_end(), None, Exit::Usage);
            }
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    raise_open_file_limit();
    no_core_dump();
    let common = &cli.common;
    let interrupted = match interruption() {
        Ok(flag) => flag,
        Err(error) => {
            return fail(
                &cli.command,
                common.json,
                &Error::Path { operation: "watch signals in", path: "this process".into(), source: error },
            );
        }
    };
    let show = Show {
        bar: !common.no_progress && !common.quiet && !common.json,
        events: common.json && !common.no_progress && !common.quiet,
        warnings: !common.json,
        steps: !common.json && !common.quiet,
        losses: !matches!(cli.command, Command::Create(_)),
        expected: !common.quiet,
    };
    let progress = Arc::new(Progress::new(show, Arc::clone(&interrupted)));
    let output = Output { json: common.json, quiet: common.quiet, verbose: common.verbose };
    let result = environment(common, &cli.command, &progress, interrupted)
        .and_then(|env| watched(&env, &cli.command, &progress, || dispatch(&env, &cli.command, output)));
    progress.clear();
    match result {
        Ok(exit) => exit,
        // Whoever reads has read enough.
        Err(error) if is_unheard(&error) => Exit::Done,
        Err(error) => fail(&cli.command, common.json, &error),
    }
}

/// What was said of the repository on the command line, not by the environment.
fn typed(common: &Common, words: &ArgMatches) -> Given {
    let mut given = Given::default();
    let is_typed = |id: &str| words.value_source(id) == Some(ValueSource::CommandLine);
    let text = |path: &PathBuf| path.display().to_string();
    let options: [(&'static str, &str, Vec<String>); 4] = [
        ("--repo", "repo", common.repo.iter().cloned().collect()),
        ("--endpoint", "endpoint", common.endpoint.iter().cloned().collect()),
        ("--identity", "identity", common.identity.iter().map(text).collect()),
        ("--passphrase-file", "passphrase_file", common.passphrase_file.iter().map(text).collect()),
    ];
    for (option, _, values) in options.into_iter().filter(|(_, id, _)| is_typed(id)) {
        values.iter().for_each(|value| given.add(option, value));
    }
    given
}

/// True if nobody listens on standard output any more.
fn is_unheard(error: &Error) -> bool {
    matches!(error, Error::Path { operation: commands::show::WRITE_OUT, source, .. }
        if source.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A core file would hold the repository's secrets in plain.
fn no_core_dump() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering a limit is always allowed.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

fn environment(
    common: &Common,
    command: &Command,
    progress: &Arc<Progress>,
    interrupted: Arc<AtomicBool>,
) -> Result<Env> {
    let folders = Folders::from_environment();
    let given = common.repo.clone().filter(|text| !text.is_empty());
    let endpoint = common.endpoint.clone().filter(|text| !text.is_empty());
    let wants_endpoint = given.as_ref().is_some_and(|text| text.starts_with(BUCKET_SCHEME)) && endpoint.is_none();
    let (set, set_endpoint) = match given.is_none() || wants_endpoint {
        true => commands::project::repository_setting(command.folder())?,
        false => (None, None),
    };
    Ok(Env {
        repository_given: given.is_some(),
        repository: given.or(set),
        endpoint: endpoint.or(set_endpoint),
        identities: common.identity.iter().map(|file| file_at_home(file)).collect::<Result<_>>()?,
        passphrase_file: common.passphrase_file.as_deref().map(file_at_home).transpose()?,
        folders,
        prompt: Box::new(Terminal { interrupted }),
        monitor: Arc::clone(progress) as Arc<dyn crate::monitor::Monitor>,
        spare: commands::env::SpareFolder::default(),
        about: commands::env::About::default(),
    })
}

/// Shells leave a `~` alone that is quoted, or stands behind a `=`.
pub(super) fn file_at_home(file: &Path) -> Result<PathBuf> {
    file.to_str().map_or_else(|| Ok(file.to_path_buf()), |text| at_home(text).map(PathBuf::from))
}

fn dispatch(env: &Env, command: &Command, output: Output) -> Result<Exit> {
    // What an interrupted capture has left standing still runs again before anything else is done.
    let repaired = repair(&env.folders.stopped(), &*env.monitor);
    match command {
        Command::Init(args) => {
            let options = commands::init::InitOptions {
                passphrase: args.passphrase,
                recipients: args.recipient.clone(),
                key_name: args.key_name.clone(),
                single_writer: args.single_writer,
            };
            Ok(output.init(&commands::init::init(env, &options)?))
        }
        Command::Create(args) => create(env, args, output),
        Command::List(args) => {
            let options = commands::list::ListOptions { scope: scope(&args.scope), tag: args.tag.clone() };
            with_repository(env, |repository| {
                Ok(output.list(&commands::list::list(env, repository, &options)?, args.forgotten, &args.filter()))
            })
        }
        Command::Show(args) => show(env, args, output),
        Command::Diff(args) => with_repository(env, |repository| {
            let report = commands::diff::diff(env, repository, &scope(&args.scope), &args.before, &args.after)?;
            Ok(output.diff(&report))
        }),
        Command::Restore(args) => back::restore(env, args, output),
        Command::Check(args) => {
            let reading = args.reading()?;
            let opened = env.open();
            if let Some(report) = opened.as_ref().err().and_then(commands::check::unopened) {
                return Ok(output.check(&report));
            }
            with_open(env, opened, |repository| Ok(output.check(&commands::check::check(env, repository, reading)?)))
        }
        Command::Repair(args) => mend::repair(env, args, output),
        Command::Forget(args) => upkeep::forget(env, args, output),
        Command::Prune(args) => upkeep::prune(env, args, output),
        Command::Replicate(args) => replicas::run(env, args, output),
        Command::Undelete { ids } => upkeep::undelete(env, ids, output),
        Command::Status(args) if args.repair => Ok(output.repaired(&repaired, &interrupted(env))),
        Command::Status(args) => with_repository(env, |repository| {
            let report = commands::status::status(env, repository)?;
            if let Some(file) = &args.prometheus {
                commands::status_metrics::write(&report, jiff::Timestamp::now().as_second(), file)?;
            }
            Ok(output.status(report))
        }),
        Command::Schedule(command) => schedule(env, command, output),
        Command::Log(args) => {
            let scope = scope(&args.scope);
            let (id, last) = (args.id.clone(), args.last || args.markdown);
            let options = commands::log::LogOptions { id, stack: scope.stack, host: scope.host, last };
            with_repository(env, |repository| Ok(output.log(&commands::log::log(repository, &options)?, args.markdown)))
        }
        Command::Key(command) => key(env, command, output),
        Command::Export(args) => with_repository(env, |repository| {
            let report = commands::export::export(env, repository, &scope(&args.scope), &args.id, &args.file)?;
            Ok(output.export(&report))
        }),
        Command::Completions { shell } => Ok(output.raw(&manual::completions(*shell))),
        Command::Man { dir } => Ok(output.man(manual::manual_pages(dir)?, dir)),
    }
}

/// Opens the repository and works on it; if the local catalog turns out to be damaged, it is thrown
/// away and the work is done once more.
pub(super) fn with_repository(env: &Env, work: impl Fn(&Repository) -> Result<Exit>) -> Result<Exit> {
    with_open(env, env.open(), work)
}

pub(super) fn with_open(
    env: &Env,
    opened: Result<Repository>,
    work: impl Fn(&Repository) -> Result<Exit>,
) -> Result<Exit> {
    let done = opened.and_then(|repository| match work(&repository) {
        Err(error) if error.is_catalog_damage() => {
            repository.catalog().discard()?;
            work(&repository)
        }
        Err(error) if error.is_overtaken() => work(&repository),
        other => other,
    });
    match done {
        Err(error) if error.is_catalog_full() => work(&env.open_elsewhere()?),
        other => other,
    }
}

fn create(env: &Env, args: &CreateArgs, output: Output) -> Result<Exit> {
    // Before a repository is made: is there anything to capture, and can it be?
    let folder = commands::project::Project::look(&args.dir)?;
    let options = create_options(args);
    env.about.set(args.stack.as_deref().unwrap_or(&folder.name), Some(&folder.root));
    let prepared = commands::application::prepare(env, &folder, &options)?;
    let stack = prepared.as_ref().map_or(folder.name.as_str(), commands::application::Prepared::stack);
    env.about.set(args.stack.as_deref().unwrap_or(stack), None);
    commands::rollback_resume::refuse_unfinished(env, &folder.root, stack)?;
    if args.plan {
        return Ok(output.plan(&commands::application::plan_report(&folder, prepared.as_ref())));
    }
    if env.repository.is_none() && !env.folders.repository().join("config").exists() {
        match commands::init::init(env, &commands::init::InitOptions::default()) {
            Ok(made) => output.first_init(&made),
            // Another `create` has made it a moment ago.
            Err(Error::Repo(repo::Error::Exists { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    with_repository(env, |repository| {
        // A writer's capture does not need it.
        if repository.secrets().role() == Role::Owner {
            repository.heal_config()?;
        }
        Ok(output.create(&commands::log::create_and_log(env, repository, &options, prepared.as_ref())?))
    })
}

fn create_options(args: &CreateArgs) -> commands::create::CreateOptions {
    let compose = &args.compose;
    commands::create::CreateOptions {
        dir: args.dir.clone(),
        tags: args.tag.clone(),
        note: args.note.clone(),
        exclude: args.exclude.clone(),
        skip_caches: args.exclude_caches,
        no_ignore_files: args.no_ignore,
        cross_mounts: args.cross_mounts,
        stack: args.stack.clone(),
        level: args.compression,
        workers: args.threads,
        compose: commands::application::ComposeOptions {
            files: compose.file.clone(),
            env_files: compose.env_file.clone(),
            profiles: compose.profile.clone(),
            project: compose.project_name.clone(),
            only: compose.only.clone(),
            files_only: compose.files_only,
            stop: compose.stop,
            as_is: false,
            absent: Vec::new(),
        },
    }
}

fn show(env: &Env, args: &ShowArgs, output: Output) -> Result<Exit> {
    let scope = scope(&args.scope);
    // `latest:TAG` and `@2026-11-20T03:00` name snapshots too: a snapshot wins over a file.
    let bytes = args.id.as_bytes();
    let is_time = bytes.starts_with(b"@");
    let is_colon = |byte: &u8| *byte == b':';
    let colon = if is_time { bytes.iter().rposition(is_colon) } else { bytes.iter().position(is_colon) };
    // A path may be no text, a snapshot's name is.
    let whole = args.id.to_string_lossy();
    if let Some(colon) = colon.filter(|_| !args.files) {
        let (id, path) = (&*String::from_utf8_lossy(&bytes[..colon]), &bytes[colon + 1..]);
        let may_be_snapshot = is_time || id == "latest";
        return with_repository(env, |repository| {
            if may_be_snapshot && commands::show::show(env, repository, &scope, &whole).is_ok() {
                return Ok(output.show(&commands::show::show(env, repository, &scope, &whole)?));
            }
            commands::show::cat(env, repository, &scope, id, path, &mut std::io::stdout().lock())?;
            Ok(Exit::Done)
        });
    }
    with_repository(env, |repository| {
        if !args.files {
            return Ok(output.show(&commands::show::show(env, repository, &scope, &whole)?));
        }
        let mut listing = output.listing();
        let lost =
            commands::show::entries(env, repository, &scope, &whole, &mut |_, entry| listing.entry(&entry.into()))?;
        Ok(listing.finish(&lost))
    })
}

fn key(env: &Env, command: &KeyCommand, output: Output) -> Result<Exit> {
    with_repository(env, |repository| match command {
        KeyCommand::List => Ok(output.keys(&commands::key::list(env, repository)?)),
        KeyCommand::Add(args) => {
            let options = commands::key::AddOptions {
                name: args.name.clone(),
                writer: args.writer || args.role == RoleArg::Writer,
                recipients: args.recipient.clone(),
                passphrase: args.passphrase,
            };
            Ok(output.keys(&commands::key::add(env, repository, &options)?))
        }
        KeyCommand::Remove { name } => Ok(output.keys(&commands::key::remove(env, repository, name)?)),
        KeyCommand::Export { file } => Ok(output.key_export(&commands::key::export(env, repository, file)?)),
    })
}

pub(super) fn scope(args: &ScopeArgs) -> Scope {
    Scope { host: args.host.clone(), stack: args.stack.clone() }
}

/// Tells a person, and a program that reads JSON, what went wrong.
fn fail(command: &Command, json: bool, error: &Error) -> Exit {
    let exit = exit_of(error);
    let message = text::runnable(&Chain(error).to_string());
    let hint = hint_of(error, command.purpose()).map(|hint| text::runnable(&hint));
    if exit != Exit::Interrupted || json {
        let style = Style::for_stderr();
        text::tell(&format!("{}: {message}", style.bad("error")));
        if let Some(hint) = &hint {
            text::tell(&format!("  {hint}"));
        }
    } else {
        text::tell(match command.purpose() {
            Purpose::Capture => "interrupted; what was stored so far is kept and will not be stored again",
            Purpose::Restore => "interrupted; what was restored so far is there, and --in-place completes it",
            Purpose::Other => "interrupted",
        });
    }
    if json {
        give_error(&message, hint.as_deref(), exit);
    }
    exit
}

/// What went wrong, for a program that reads JSON.
fn give_error(message: &str, hint: Option<&str>, exit: Exit) {
    let document = serde_json::json!({ "error": { "message": message, "hint": hint, "exit_code": exit as u8 } });
    // A closed pipe changes nothing about the exit code.
    let _ = std::io::stdout().lock().write_all(format!("{document}\n").as_bytes());
}
