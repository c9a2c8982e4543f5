//! What is captured of an application and how it is put back.

pub mod capture;
pub mod files;
pub mod restore;
