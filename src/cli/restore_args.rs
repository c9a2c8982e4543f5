//! What can be typed after `snap restore`.

use super::args::ScopeArgs;
use super::checked;
use clap::Args;
use std::path::PathBuf;

/// What `snap restore --help` says below its options.
pub const HELP: &str = "Examples: snap restore pre-2.4 --plan · snap restore pre-2.4 --yes · snap restore latest --only env\n\
    \x20         snap restore pre-2.4 --only db:shop/public.goods\n\
    \x20         snap restore latest --target /tmp/look · snap restore 7f3a9c21 --in-place --exact\n\
    A snapshot of an application comes back as a whole, services included: all of it, or it stays as it was. With \
    --target or --in-place only files are written.\n\
    An ID is the beginning of an id, a tag, latest, latest:TAG, or @2026-11-20T03:00 (newest at or before).\n\
    Exit codes: 0 everything is back · 1 nothing changed, or some files could not be written · 2 no such snapshot, or the \
    target is not empty · 4 some of it is damaged · 5 another restore is in the way · 6 failed or ended by a signal after services were stopped, the old state is back and runs · 7 failed, needs a person · 11 the key cannot read content · 130 interrupted";

/// See [`super::args::Command::Restore`].
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Which snapshot
    #[arg(default_value = "", hide_default_value = true)]
    pub id: String,
    /// Only these files and folders (relative to the captured folder)
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Of an application only this: files, volume:NAME, image:NAME, db:NAME, and without --target also env, file:PATH
    /// and one table, db:NAME/TABLE; may be given several times. NAME of a database is its service or its own name
    #[arg(long, value_name = "KIND[:NAME]")]
    pub only: Vec<String>,
    /// Of an application: only say what would be done
    #[arg(long, conflicts_with_all = ["target", "in_place", "paths"])]
    pub plan: bool,
    /// Of an application: do not ask
    #[arg(long, conflicts_with_all = ["target", "in_place", "paths"])]
    pub yes: bool,
    /// Go on with a restore that was interrupted
    #[arg(long, conflicts_with_all = ["abort", "target", "in_place", "paths", "only"])]
    pub resume: bool,
    /// Put back what was there before a restore that was interrupted
    #[arg(long, conflicts_with_all = ["target", "in_place", "paths", "only"])]
    pub abort: bool,
    /// The folder to restore into: new or empty, unless --in-place
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,
    /// Change only what differs, where the files were or in --target
    #[arg(long)]
    pub in_place: bool,
    /// In place, or of an application: what the snapshot does not have goes
    #[arg(long)]
    pub exact: bool,
    /// As root: leave off set-id bits, capabilities, trusted attributes and devices
    #[arg(long)]
    pub unprivileged: bool,
    /// Which ones.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = checked::threads)]
    pub threads: usize,
}
