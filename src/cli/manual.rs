//! Completions and manual pages, made from the arguments themselves.

use super::args::Cli;
use crate::commands::{Error, Result};
use clap::CommandFactory;
use std::path::Path;

/// The completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "snap", &mut out);
    out
}

/// Writes `snap.1` and a page for each verb into `dir`; gives their number.
///
/// # Errors
/// The folder cannot be written.
pub fn manual_pages(dir: &Path) -> Result<usize> {
    let cannot = |source| Error::Path { operation: "write manual pages into", path: dir.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(cannot)?;
    let mut command = in_paragraphs(Cli::command()).disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, dir).map_err(cannot)?;
    Ok(std::fs::read_dir(dir).map_err(cannot)?.count())
}

/// Examples and exit codes are lines of their own on a terminal; a manual page runs lines together, but for paragraphs.
fn in_paragraphs(command: clap::Command) -> clap::Command {
    let help = command.get_after_help().map(|help| help.to_string().replace('\n', "\n\n"));
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    command.mut_subcommands(in_paragraphs)
}
