//! What can be typed of Compose projects.

use clap::Args;
use std::path::PathBuf;

/// Which Compose project, and how it is captured.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compose projects")]
pub struct ComposeArgs {
    /// A Compose file; may be given several times [default: as Compose finds it, or as the containers were started]
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// A file with variables; may be given several times
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Activate a profile; may be given several times
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// The project's name
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Stop every service that writes while what it writes to is captured, and start it again
    #[arg(long)]
    pub stop: bool,
    /// Only this: files, volume:NAME, image:NAME, database:NAME; may be given several times
    #[arg(long, value_name = "KIND[:NAME]", conflicts_with = "files_only")]
    pub only: Vec<String>,
    /// Only files: no volume, image or database
    #[arg(long)]
    pub files_only: bool,
}
