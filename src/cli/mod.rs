//! The command line: the only place that knows arguments, prints, and decides exit codes.

mod args;
mod back;
mod check_args;
mod check_screen;
mod checked;
mod compose_args;
mod exit;
mod listing;
mod manual;
mod mend;
mod progress;
mod prompt;
mod render;
mod replicas;
mod restore_args;
mod run;
mod schedule;
mod screens;
mod stack_screens;
mod status_screen;
mod text;
mod upkeep;
mod watch;

pub use exit::Exit;
pub use run::run;
