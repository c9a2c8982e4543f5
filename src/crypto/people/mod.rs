//! What a person holds, and how a person is addressed.
//!
//! Secrets may be sealed to an age recipient, an ssh key, an age plugin (a hardware key) or a
//! passphrase ([`PersonRecipient`]), and are opened by the other half ([`PersonIdentity`]). The files
//! that hold such halves must be closed to everybody else: a file that others can read or write is
//! refused, whatever is in it.

mod identity;
mod recipient;

pub use identity::{PersonIdentity, generate_identity_file};
pub use recipient::PersonRecipient;

use super::{Error, Result};
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use age::secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// A passphrase. It is wiped when it is dropped, and hides itself in debug output.
#[derive(Clone)]
pub struct Passphrase(SecretString);

impl Passphrase {
    /// `text` as a passphrase.
    ///
    /// # Errors
    /// It is empty: it would protect nothing.
    pub fn new(text: Zeroizing<String>) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::Text { object: "a passphrase".to_owned(), reason: "it is empty".to_owned() });
        }
        Ok(Self(SecretString::from(text.as_str())))
    }

    pub(super) fn secret(&self) -> SecretString {
        self.0.clone()
    }

    /// True if both are the same: for a passphrase that is asked for twice.
    pub fn equals(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.0.expose_secret().as_bytes(), other.0.expose_secret().as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(mine, theirs).is_ok()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(hidden)")
    }
}

/// The passphrase in the first line of the file `path`.
///
/// # Errors
/// The file cannot be read, others can get at it, or the line is empty or no text.
pub fn read_passphrase_file(path: &Path) -> Result<Passphrase> {
    let text = read_private(path, |_| true)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let reason = "its first line is empty, and should be the passphrase".to_owned();
        return Err(Error::Text { object: path.display().to_string(), reason });
    }
    Passphrase::new(Zeroizing::new(line.to_owned()))
}

/// The text in a file; if it is a secret, nobody else may get at the file.
fn read_private(path: &Path, is_secret: fn(&str) -> bool) -> Result<Zeroizing<String>> {
    let io_error = |source| Error::Io { operation: "read", path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io_error)?;
    // Asked of the open file, so that it is the one that is read.
    let mode = file.metadata().map_err(io_error)?.permissions().mode() & 0o7777;
    let bytes = read_limited(file).map_err(io_error)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if mode & 0o077 != 0 && is_secret(text) => Err(Error::WideMode { path: path.to_path_buf(), mode }),
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => {
            let reason = "it is no text: an identity file, an ssh key or a passphrase is expected".to_owned();
            Err(Error::Text { object: path.display().to_string(), reason })
        }
    }
}

/// All of `file`, at most [`SMALL_OBJECT_BYTES_MAX`]. Also a pipe will do, so its size is not asked.
fn read_limited(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SMALL_OBJECT_BYTES_MAX + 1));
    let read = file.take(SMALL_OBJECT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if read > SMALL_OBJECT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than a file of keys can be"));
    }
    Ok(bytes)
}

/// True for the names that an age plugin may have here. The name becomes part of the name of a
/// program that is run, and with a `/` in it, any program could be run (the advisories for age and
/// rage of December 2024).
fn good_plugin_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-._".contains(&byte);
    !name.is_empty() && name.bytes().all(good)
}
