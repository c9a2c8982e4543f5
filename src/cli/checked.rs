//! Words that are checked as they are typed: what could be stored, and then not be named again, is refused.

use std::path::PathBuf;

/// More threads would wait for each other, and each takes memory.
const THREADS_MAX: usize = 256;

/// The name of a stack or a host.
pub fn stack_name(text: &str) -> Result<String, String> {
    match text {
        text if text.trim().is_empty() => Err("a name is expected".to_owned()),
        text => printable(text),
    }
}

/// A line of text that a terminal can show.
pub fn printable(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err("it has a control character, which no terminal could show".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// An address or path; an empty one is a variable that somebody forgot to set.
pub fn filled(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// The name of a file that is written: never the terminal, where a secret would stay to be read.
pub fn file_name(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        "-" => Err("a file is expected; this is never written to a terminal".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

/// A tag that `latest:TAG` and TAG itself can name.
pub fn tag(text: &str) -> Result<String, String> {
    let refused = |reason: &str| Err(format!("{reason}: no snapshot could be named by it"));
    match text {
        text if text.trim().is_empty() => refused("a tag has at least one letter"),
        "latest" => refused("“latest” is the newest snapshot"),
        text if text.starts_with('@') => refused("a time begins with @"),
        text if text.contains(':') => refused("a colon stands before a path"),
        text if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => refused("it looks like an id"),
        text => printable(text),
    }
}

/// A number of threads; 0 is one for each processor.
pub fn threads(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "a number is expected".to_owned())?;
    if number > THREADS_MAX { Err(format!("at most {THREADS_MAX} threads")) } else { Ok(number) }
}
