//! Whether a dump is whole, seen while it streams by.
//!
//! An exit code of 0 says little: clients end well after losing the server, a pipe may end anywhere, and
//! a text that ends between two statements loads without an error. So each format is read as far as is
//! needed to know its end and its rows: `postgresql` and `mariadb` follow quotes, comments and data,
//! `redis` walks the keys and checks the sum. Memory is bounded: of a row nothing is kept.

pub mod mariadb;
pub mod postgresql;
pub mod redis;

use std::io::{self, Read};

/// A table as it is in a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTable {
    /// Its schema; empty where there are none.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Where its rows begin in the dump, in bytes.
    pub offset: u64,
    /// How long they are there.
    pub bytes: u64,
}

impl FoundTable {
    /// Its name as people write it.
    pub fn full_name(&self) -> String {
        if self.schema.is_empty() { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }
}

/// What is known of a dump that is whole; else why it is not.
pub type Judged<T> = Result<T, String>;

/// The tables of a dump that is whole.
pub type Verdict = Judged<Vec<FoundTable>>;

/// Follows one format, piece by piece.
pub trait Follow {
    /// Takes the next bytes, however they are cut.
    fn push(&mut self, bytes: &[u8]);
    /// The end: was it whole?
    ///
    /// # Errors
    /// It was not; the text says why.
    fn finish(self) -> Verdict;
}

/// Reads `stream` to its end and judges it.
///
/// # Errors
/// The stream fails. That the dump is not whole is the verdict's business.
pub fn follow(mut follower: impl Follow, stream: &mut dyn Read) -> io::Result<Verdict> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(follower.finish()),
            Ok(count) => follower.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
