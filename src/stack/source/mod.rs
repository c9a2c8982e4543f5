//! The kinds of source beside folders: how each is captured.

pub mod volume;
