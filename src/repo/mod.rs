//! Snapshots, trees, the order of writes, reading back, checking.

pub mod entry;
