//! Where a person's folders are, and what a `~` stands for.

use super::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The folders of a person, by the XDG rules.
#[derive(Debug, Clone)]
pub struct Folders {
    /// For identities and settings.
    pub config: PathBuf,
    /// For the default repository.
    pub data: PathBuf,
    /// For catalogs.
    pub cache: PathBuf,
}

impl Folders {
    /// From the environment; where HOME is not set, as in many services, from the list of users. A user
    /// without a home has folders below `HOMELESS`, which root alone can make: others work with
    /// what they name, and a cache for the time being.
    pub fn from_environment() -> Self {
        let home = home();
        let folder =
            |variable: &str, below_home: &str| absolute(variable).unwrap_or_else(|| home.join(below_home)).join("snap");
        Self {
            config: folder("XDG_CONFIG_HOME", ".config"),
            data: folder("XDG_DATA_HOME", ".local/share"),
            cache: folder("XDG_CACHE_HOME", ".cache"),
        }
    }

    /// Where the identity lies that is made and used when none is named.
    pub fn identity(&self) -> PathBuf {
        self.config.join("identity.txt")
    }

    /// Where it is remembered which services stand still for a capture.
    pub fn stopped(&self) -> PathBuf {
        self.data.join("stopped")
    }

    /// Where the repository lies when none is named.
    pub fn repository(&self) -> PathBuf {
        self.data.join("repository")
    }
}

/// The home of whoever runs this.
fn home() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    let listed = || home_of(user, &std::fs::read("/etc/passwd").ok()?);
    absolute("HOME").or_else(listed).unwrap_or_else(|| Path::new(HOMELESS).join(user.to_string()))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `text`, a path or an address, with the home folder for a `~` before its first slash, as shells do it where
/// nothing is quoted.
///
/// # Errors
/// It begins with the home folder of somebody else, which only a shell knows.
pub fn at_home(text: &str) -> Result<String> {
    match text.strip_prefix('~') {
        None => Ok(text.to_owned()),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(format!("{}{rest}", home().display())),
        Some(_) => {
            let message = format!("“{text}”: of home folders only your own can be written so, as ~/…");
            Err(Error::usage(message, format!("write the whole path, or ./{text} for a folder of that name")))
        }
    }
}

/// A path or an address in `snap.toml`: see [`at_home`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SetPath(String);

impl SetPath {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From the folder `dir` on, if it is relative.
    pub fn below(&self, dir: &Path) -> PathBuf {
        dir.join(&self.0)
    }
}

impl TryFrom<String> for SetPath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        at_home(&text).map(Self)
    }
}

/// Where the folders of users lie that have no home.
const HOMELESS: &str = "/var/lib/snap";

/// The home of the user number `user` by `passwd`, the content of /etc/passwd.
fn home_of(user: u32, passwd: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let number = std::str::from_utf8(fields.get(2)?).ok()?.parse::<u32>().ok()?;
        let home = Path::new(std::ffi::OsStr::from_bytes(fields.get(5)?));
        (number == user && home.is_absolute()).then(|| home.to_path_buf())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_the_number_of_its_user() {
        let passwd = b"root:x:0:0:root:/root:/bin/bash\nodd\nnobody:x:65534:65534::/nonexistent:/bin/false\n\
            web:x:33:33:caf\xe9:/var/www:/bin/sh\nrelative:x:7:7::home:/bin/sh\n";
        assert_eq!(home_of(0, passwd).as_deref(), Some(Path::new("/root")));
        assert_eq!(home_of(33, passwd).as_deref(), Some(Path::new("/var/www")));
        assert_eq!([3, 7, 34].map(|user| home_of(user, passwd)), [None, None, None]);
    }
}
