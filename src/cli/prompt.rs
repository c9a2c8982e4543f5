//! Asking for a passphrase on the terminal.

use crate::commands::{Error, Prompt, Result};
use crate::crypto::people::Passphrase;
use std::io::IsTerminal;
use zeroize::Zeroizing;

/// Asks on the terminal; nobody, where there is none.
pub struct Terminal;

impl Prompt for Terminal {
    fn passphrase(&self, what: &str, twice: bool) -> Option<Result<Passphrase>> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        Some(ask(what, twice))
    }
}

fn ask(what: &str, twice: bool) -> Result<Passphrase> {
    let first = read(&format!("{what}: "))?;
    let passphrase = Passphrase::new(first)?;
    if twice {
        let again = Passphrase::new(read("the same again: ")?)?;
        if !passphrase.equals(&again) {
            return Err(Error::usage("the two passphrases are not the same", "try again"));
        }
    }
    Ok(passphrase)
}

fn read(prompt: &str) -> Result<Zeroizing<String>> {
    match rpassword::prompt_password(prompt) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(source) => Err(Error::Path { operation: "read a passphrase from", path: "the terminal".into(), source }),
    }
}
