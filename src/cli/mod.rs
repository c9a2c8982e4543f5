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
mod restore_args;
mod run;
mod screens;
mod stack_screens;
mod text;
mod upkeep;

pub use exit::Exit;
pub use run::run;
