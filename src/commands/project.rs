//! What can be told of a folder without Docker: its name, whether it is a Compose project, its git
//! commit.

use super::{Error, Result, settings};
use crate::repo::printable::one_line;
use crate::stack::compose::selection::DEFAULT_FILES;
use std::path::{Path, PathBuf};

/// A folder to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its full path, without links.
    pub root: PathBuf,
    /// The stack's name.
    pub name: String,
    /// Its Compose file, if it has one.
    pub compose: Option<&'static str>,
    /// The git commit that is checked out, if any.
    pub git: Option<String>,
}

impl Project {
    /// Looks at the folder `dir`.
    ///
    /// # Errors
    /// It is no folder, or cannot be entered.
    pub fn look(dir: &Path) -> Result<Self> {
        let cannot = |source| Error::Path { operation: "open the folder", path: dir.to_path_buf(), source };
        let hint = "give the folder of a Compose project, or any other folder";
        let root = match std::fs::canonicalize(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::usage(format!("there is no folder {}", dir.display()), hint));
            }
            other => other.map_err(cannot)?,
        };
        if !std::fs::metadata(&root).map_err(cannot)?.is_dir() {
            let message = format!("{} is not a folder", dir.display());
            return Err(Error::usage(message, hint));
        }
        let compose = DEFAULT_FILES.into_iter().find(|name| root.join(name).is_file());
        let named = compose.and_then(|file| compose_name(&root, file));
        let folder = root.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = one_line(&named.or(folder).unwrap_or_else(|| "root".to_owned()));
        let git = git_commit(&root);
        Ok(Self { root, name, compose, git })
    }
}

/// Where `snap.toml` in `dir` says that the repository is, and which server buckets are on.
///
/// # Errors
/// The file cannot be understood.
pub fn repository_setting(dir: &Path) -> Result<(Option<String>, Option<String>)> {
    let settings = settings::read(dir)?;
    // A relative path is meant from the file's own folder.
    let repository = settings.repository.map(|text| settings::address_from(dir, text.as_str()));
    Ok((repository, settings.endpoint))
}

/// The project's name: `COMPOSE_PROJECT_NAME` in `.env`, then `name:` in the Compose file.
fn compose_name(root: &Path, file: &str) -> Option<String> {
    let from_env = crate::fs::read_text(root.join(".env"))
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.trim().strip_prefix("COMPOSE_PROJECT_NAME=").map(unquote)));
    let from_file = || {
        let text = crate::fs::read_text(root.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("name:").map(unquote))
    };
    // A name that is computed is left to Compose itself.
    from_env.or_else(from_file).filter(|name| !name.is_empty() && !name.contains('$'))
}

fn unquote(text: &str) -> String {
    let text = text.split(" #").next().unwrap_or(text).trim();
    text.trim_matches(|c| c == '"' || c == '\'').to_owned()
}

/// The commit that `HEAD` of the git repository at `root` names.
fn git_commit(root: &Path) -> Option<String> {
    let git = root.join(".git");
    let head = crate::fs::read_text(git.join("HEAD")).ok()?;
    let head = head.trim();
    let Some(reference) = head.strip_prefix("ref: ") else { return is_commit(head).then(|| head.to_owned()) };
    if let Ok(text) = crate::fs::read_text(git.join(reference)) {
        return Some(text.trim().to_owned()).filter(|text| is_commit(text));
    }
    let packed = crate::fs::read_text(git.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| {
        let (commit, name) = line.split_once(' ')?;
        (name == reference && is_commit(commit)).then(|| commit.to_owned())
    })
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_env_then_file_then_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("shop");
        std::fs::create_dir(&root).unwrap();
        assert_eq!(Project::look(&root).unwrap().name, "shop");
        std::fs::write(root.join("compose.yaml"), "name: \"clinic\" # it\nservices: {}\n").unwrap();
        assert_eq!(Project::look(&root).unwrap().name, "clinic");
        std::fs::write(root.join(".env"), "A=1\nCOMPOSE_PROJECT_NAME=ward\n").unwrap();
        assert_eq!(Project::look(&root).unwrap().name, "ward");
        assert!(Project::look(&root.join(".env")).is_err());
    }
}
