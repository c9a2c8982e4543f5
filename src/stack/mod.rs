//! What is captured of an application and how it is put back.

pub mod application;
pub mod capture;
pub mod compose;
pub mod files;
pub mod health;
pub mod restore;
pub mod rollback;
pub mod source;
