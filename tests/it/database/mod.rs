//! Databases on real servers: what a dump must hold, and every way in which one can be bad.

mod harness;
mod mariadb;
mod postgresql;
mod redis;
mod restore;
