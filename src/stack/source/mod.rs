//! The kinds of source beside folders: how each is captured.

pub mod content;
pub mod database;
pub mod image;
pub mod volume;
