//! What can be typed.

pub use super::check_args::CheckArgs;
use super::checked;
use super::compose_args::ComposeArgs;
use super::mend::RepairArgs;
use super::replicas::{self, ReplicateArgs};
pub use super::restore_args::RestoreArgs;
pub use super::schedule::ScheduleCommand;
use super::upkeep::{self, ForgetArgs, PruneArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed, nothing changed · 2 usage · 3 snapshot stored but incomplete · \
4 damage found · 5 another operation is in the way · 10 no repository · 11 wrong key · 130 interrupted";

/// Snapshots of whole applications: deduplicated, compressed, encrypted, proven, restorable.
///
/// Before an upgrade: snap create. When it goes wrong: snap restore ID. Every night: snap check.
#[derive(Debug, Parser)]
#[command(name = "snap", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What is the same for every command.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// The repository: a folder, or s3://BUCKET/PREFIX. Default: $SNAP_REPO, then snap.toml, then
    /// ~/.local/share/snap/repository
    #[arg(long, global = true, env = "SNAP_REPO", value_name = "PLACE", hide_env_values = true, value_parser = checked::filled)]
    pub repo: Option<String>,
    /// The server of buckets that are not Amazon's, such as https://minio.example:9000
    #[arg(long, global = true, env = "SNAP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub endpoint: Option<String>,
    /// A file with your identity (age, or an ssh key). Default: ~/.config/snap/identity.txt
    #[arg(long, global = true, env = "SNAP_IDENTITY", value_name = "FILE", hide_env_values = true)]
    pub identity: Vec<PathBuf>,
    /// A file whose first line is the passphrase
    #[arg(long, global = true, env = "SNAP_PASSPHRASE_FILE", value_name = "FILE", hide_env_values = true)]
    pub passphrase_file: Option<PathBuf>,
    /// Print one JSON document on standard output; progress and messages stay on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// Which snapshots are meant.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// Only snapshots of this stack (NAME, or NAME@HOST)
    #[arg(long, value_name = "NAME", value_parser = checked::stack_name)]
    pub stack: Option<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "NAME", value_parser = checked::stack_name)]
    pub host: Option<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository
    #[command(after_help = "Examples: snap init --repo /mnt/backup/snap · snap init --repo s3://vault/clinic\n\
        Without --passphrase or --recipient it makes an identity file for you and says where.\n\
        Exit codes: 0 made · 1 there is one already, or it cannot be written · 2 the folder is not empty")]
    Init(InitArgs),
    /// Capture an application or a folder as a snapshot
    #[command(after_help = "Examples: snap create /srv/clinic --tag pre-2.4 · snap create --plan\n\
        The first create makes the default repository and an identity for it, if there is none.\n\
        Exit codes: 0 complete · 3 stored but incomplete (what is missing is listed) · 1 nothing stored · \
        5 another snap is at work on it · 10 no repository · 11 wrong key · 130 interrupted")]
    Create(CreateArgs),
    /// List snapshots
    #[command(after_help = "Example: snap list --stack clinic --tag nightly\n\
        Exit codes: 0 listed · 4 some cannot be read or are gone · 10 no repository · 11 wrong key")]
    List(ListArgs),
    /// Show a snapshot, its files, or the content of one file
    #[command(
        after_help = "Examples: snap show latest · snap show 7f3a9c21 --files · snap show 7f3a9c21:conf/app.ini\n\
        Exit codes: 0 shown · 2 no such snapshot or file · 4 damaged · 11 the key cannot read content"
    )]
    Show(ShowArgs),
    /// Compare two snapshots, or a snapshot and a folder
    #[command(after_help = "Examples: snap diff 7f3a9c21 latest · snap diff latest /srv/clinic\n\
        Exit codes: 0 compared, whether they differ or not · 2 no such snapshot · 4 damaged")]
    Diff(DiffArgs),
    /// Bring an application back, or put the files of a snapshot somewhere
    #[command(after_help = super::restore_args::HELP)]
    Restore(RestoreArgs),
    /// Prove that the repository is intact
    #[command(after_help = super::check_args::HELP)]
    Check(CheckArgs),
    /// Mend the repository: from a replica, from its own packs, from live files
    #[command(after_help = super::mend::HELP)]
    Repair(RepairArgs),
    /// Forget snapshots: those that a policy does not keep, or by name
    #[command(after_help = upkeep::FORGET_HELP)]
    Forget(ForgetArgs),
    /// Take forgotten snapshots back
    #[command(after_help = "Example: snap undelete 7f3a9c21\n\
        Exit codes: 0 they are back · 2 no such forgotten snapshot · 11 only an owner can take them back")]
    Undelete {
        /// Which ones: `snap list --forgotten` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Free what no snapshot needs: mark it, and delete what was marked a day ago
    #[command(after_help = upkeep::PRUNE_HELP)]
    Prune(PruneArgs),
    /// Copy the repository elsewhere, or bring such a copy up to date
    #[command(after_help = replicas::HELP)]
    Replicate(ReplicateArgs),
    /// Say how far back, how sound, and what to see to next
    #[command(
        after_help = "Examples: snap status · snap status --json · snap status -q --prometheus /var/lib/node_exporter/snap.prom\n\
        Exit codes: 0 nothing is at risk · 4 something is, and it is listed · 10 no repository · 11 wrong key"
    )]
    Status(StatusArgs),
    /// Let systemd do by itself what snap.toml says: create, check, replicate, forget and prune
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Say who did what, when, and how it ended
    #[command(after_help = "Examples: snap log --stack clinic · snap log --last · snap log 7f3a9c21 --markdown\n\
        An ID is the beginning of a record's id, or of the id of a snapshot that was made or brought back.\n\
        Exit codes: 0 listed · 1 a newer snap wrote some · 2 no such record · 4 some are damaged")]
    Log(LogArgs),
    /// Add, remove, list and export keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write a snapshot's files as a tar
    #[command(after_help = "Example: snap export latest /mnt/usb/clinic.tar\n\
        Exit codes: 0 written · 1 the file exists or cannot be written · 2 no such snapshot · 4 damaged, nothing written")]
    Export(ExportArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example: snap completions bash > /etc/bash_completion.d/snap\nExit codes: 0 printed · 2 no such shell"
    )]
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder
    #[command(after_help = "Example: snap man /usr/local/share/man/man1\nExit codes: 0 written · 1 cannot be written")]
    Man {
        /// The folder
        dir: PathBuf,
    },
}

/// See [`Command::Init`].
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Protect the repository with a passphrase, asked for twice
    #[arg(long, conflicts_with = "recipient")]
    pub passphrase: bool,
    /// Whose key opens it: age1…, ssh-ed25519 …, ssh-rsa …; may be given several times
    #[arg(long, value_name = "R")]
    pub recipient: Vec<String>,
    /// The key's name [default: user@host]
    #[arg(long, value_name = "NAME")]
    pub key_name: Option<String>,
    /// Take a server that lets a second object replace a first one: nobody else may ever add keys there
    #[arg(long)]
    pub single_writer: bool,
}

/// See [`Command::Create`].
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The folder: a Compose project or any other
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Label the snapshot; may be given several times
    #[arg(long, value_name = "T", value_parser = checked::tag)]
    pub tag: Vec<String>,
    /// Add a remark
    #[arg(long, value_name = "N", default_value = "", value_parser = checked::printable)]
    pub note: String,
    /// Leave out what matches (gitignore syntax); may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Leave out the content of folders that a CACHEDIR.TAG marks
    #[arg(long)]
    pub exclude_caches: bool,
    /// Do not read .snapignore files
    #[arg(long)]
    pub no_ignore: bool,
    /// Enter folders on which other file systems are mounted
    #[arg(long)]
    pub cross_mounts: bool,
    /// The stack's name [default: the Compose project's, or the folder's]
    #[arg(long, value_name = "NAME", value_parser = checked::stack_name)]
    pub stack: Option<String>,
    /// zstd level: 1 is fast, 19 small
    #[arg(long, value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub compression: i32,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = checked::threads)]
    pub threads: usize,
    /// Print what would become of every file, mount, image and database, and change nothing
    #[arg(long)]
    pub plan: bool,
    /// What is said of the Compose project.
    #[command(flatten)]
    pub compose: ComposeArgs,
}

/// See [`Command::List`].
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only snapshots with this tag
    #[arg(long, value_name = "T", value_parser = checked::tag)]
    pub tag: Option<String>,
    /// Show the forgotten ones too
    #[arg(long)]
    pub forgotten: bool,
}

/// See [`Command::Log`].
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Only what concerns this record or snapshot
    pub id: Option<String>,
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Only the newest
    #[arg(long)]
    pub last: bool,
    /// The newest of them as the report of an incident, in Markdown
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

impl ListArgs {
    /// The options that leave snapshots out, as they are typed; empty if there are none.
    pub fn filter(&self) -> String {
        let given = [("--stack", &self.scope.stack), ("--host", &self.scope.host), ("--tag", &self.tag)];
        let given = given.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_deref()?)));
        given.collect::<Vec<_>>().join(" ")
    }
}

/// See [`Command::Show`].
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A snapshot, or SNAPSHOT:PATH for the content of a file
    #[arg(value_name = "ID[:PATH]")]
    pub id: OsString,
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// List every entry
    #[arg(long)]
    pub files: bool,
}

/// See [`Command::Diff`].
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A snapshot
    pub before: String,
    /// A snapshot or a folder
    pub after: String,
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
}

/// See [`Command::Status`].
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only start what an interrupted capture has left standing still (every command does), and say what
    #[arg(long)]
    pub repair: bool,
    /// Also write it into this file, for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE", conflicts_with = "repair")]
    pub prometheus: Option<PathBuf>,
}

/// See [`Command::Key`].
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys that open the repository
    #[command(after_help = "Example: snap key list\nExit codes: 0 listed · 10 no repository · 11 wrong key")]
    List,
    /// Let another person or host open the repository
    #[command(after_help = "Example: snap key add web-1 --writer --recipient age1…\n\
        Exit codes: 0 added · 2 the name is taken or a recipient is none · 11 only an owner can add keys")]
    Add(KeyAddArgs),
    /// Remove a key
    #[command(after_help = "Example: snap key remove web-1\n\
        Exit codes: 0 removed · 2 there is none, or it is the last owner's · 11 only an owner can remove keys")]
    Remove {
        /// The key's name
        name: String,
    },
    /// Write the repository's own identities into a new file, to be kept elsewhere
    #[command(after_help = "Example: snap key export /mnt/usb/clinic-identities.txt\n\
        With that file, age and zstd alone open everything.\n\
        Exit codes: 0 written · 1 the file exists or cannot be written · 11 only an owner can export")]
    Export {
        /// The file
        #[arg(value_parser = checked::file_name)]
        file: PathBuf,
    },
}

/// See [`KeyCommand::Add`].
#[derive(Debug, Args)]
pub struct KeyAddArgs {
    /// The key's name
    pub name: String,
    /// What it can do: everything, or create and list without reading history
    #[arg(long, value_enum, default_value_t = RoleArg::Owner)]
    pub role: RoleArg,
    /// The same as --role writer
    #[arg(long, conflicts_with = "role")]
    pub writer: bool,
    /// Whose key: age1…, ssh-ed25519 …, ssh-rsa …; may be given several times
    #[arg(long, value_name = "R")]
    pub recipient: Vec<String>,
    /// A passphrase, asked for twice
    #[arg(long)]
    pub passphrase: bool,
}

/// The roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Everything.
    Owner,
    /// Create, list, check structure.
    Writer,
}

/// See [`Command::Export`].
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Which snapshot
    pub id: String,
    /// The new file
    pub file: PathBuf,
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
}
