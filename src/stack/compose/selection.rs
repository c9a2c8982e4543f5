//! Which project is meant: the files, profiles and names that the tool is called with.
//!
//! What is not said is found as Compose finds it: `COMPOSE_FILE` and `COMPOSE_PROFILES` in the environment and then
//! in `.env`, then the usual names in the project's folder with the override beside the first. The tool is then
//! always called with explicit `-f`: it must not look in the folders above, and the same call must be possible later,
//! from elsewhere, by whoever restores.

use super::parse::resolve;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Files that make a folder a Compose project, in Compose's own order.
pub const DEFAULT_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// What is merged into the file found first, if it is there.
pub const OVERRIDES: [&str; 4] =
    ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"];

/// Which project is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The project's folder.
    pub directory: PathBuf,
    /// Its Compose files in their order.
    pub files: Vec<PathBuf>,
    /// Files with variables that stand in for `.env`.
    pub env_files: Vec<PathBuf>,
    /// Profiles that are active.
    pub profiles: Vec<String>,
    /// Its name, if it is not the one that Compose gives it.
    pub project: Option<String>,
    /// True if relative paths are meant from `directory`, not from the first file's own folder.
    pub pin_directory: bool,
}

impl Selection {
    /// Completes what was not said from the environment `variable` and the folder.
    pub fn complete(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let dotenv = read_env_file(&self.directory.join(".env"));
        let said = |name: &str| variable(name).or_else(|| dotenv.get(name).cloned()).filter(|text| !text.is_empty());
        if self.files.is_empty()
            && let Some(text) = said("COMPOSE_FILE")
        {
            let separator = said("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
            self.files = text.split(separator.as_str()).filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        }
        if self.files.is_empty() {
            self.files = default_files(&self.directory);
        }
        let directory = self.directory.clone();
        let absolute = |path: &mut PathBuf| *path = resolve(&directory, &path.to_string_lossy());
        self.files.iter_mut().for_each(absolute);
        self.env_files.iter_mut().for_each(absolute);
        if self.profiles.is_empty() {
            let text = said("COMPOSE_PROFILES").unwrap_or_default();
            self.profiles = text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        }
        self
    }

    /// The folder from which relative paths are meant.
    pub fn base(&self) -> &Path {
        match self.files.first().and_then(|file| file.parent()) {
            Some(parent) if !self.pin_directory => parent,
            _ => &self.directory,
        }
    }

    /// The arguments that name the project, between the tool and its verb.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut out: Vec<OsString> = Vec::new();
        if self.pin_directory {
            out.extend(["--project-directory".into(), self.directory.clone().into()]);
        }
        if let Some(name) = &self.project {
            out.extend(["-p".into(), name.into()]);
        }
        out.extend(self.files.iter().flat_map(|file| ["-f".into(), file.into()]));
        out.extend(self.env_files.iter().flat_map(|file| ["--env-file".into(), file.into()]));
        out.extend(self.profiles.iter().flat_map(|name| ["--profile".into(), name.into()]));
        out
    }

    /// The name that Compose gives the project where nothing names it: its folder's, lower case, without what a name
    /// cannot have.
    pub fn folder_name(&self) -> String {
        let name = self.base().file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let kept: String =
            name.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c)).collect();
        Some(kept.trim_start_matches(['-', '_']).to_owned())
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "default".into())
    }
}

/// The Compose files that `directory` has under their usual names.
pub fn default_files(directory: &Path) -> Vec<PathBuf> {
    let found = |names: &[&str]| names.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    let first = found(&DEFAULT_FILES);
    let second = first.is_some().then(|| found(&OVERRIDES)).flatten();
    first.into_iter().chain(second).collect()
}

/// True if a file in `directory` is named as Compose files are, such as `docker-compose.prod.yml`: a project may have
/// been started with it.
pub fn looks_like_compose(directory: &Path) -> bool {
    let is_named = |name: &str| name.contains("compose") && (name.ends_with(".yml") || name.ends_with(".yaml"));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_named))
}

/// The variables of an env file; none if it cannot be read. Only plain lines are understood: what is needed here are
/// the few variables that name files.
pub fn read_env_file(path: &Path) -> BTreeMap<String, String> {
    let text = crate::fs::read_text(path).unwrap_or_default();
    let line = |line: &str| {
        let line = line.trim().strip_prefix("export ").unwrap_or(line.trim());
        let (name, value) = line.split_once('=')?;
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), unquote(value)))
    };
    text.lines().filter_map(line).collect()
}

fn unquote(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((inner, _)) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    text.split(" #").next().unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_found_as_compose_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let selection = || Selection { directory: dir.path().to_path_buf(), ..Selection::default() };
        assert!(selection().complete(|_| None).files.is_empty());
        for name in ["docker-compose.yml", "compose.override.yml", "prod.yaml"] {
            std::fs::write(at(name), "services: {}\n").unwrap();
        }
        assert_eq!(selection().complete(|_| None).files, [at("docker-compose.yml"), at("compose.override.yml")]);
        std::fs::write(
            at(".env"),
            "# COMPOSE_FILE=x\nCOMPOSE_FILE='prod.yaml:docker-compose.yml' # y\nCOMPOSE_PROFILES=a, b\n",
        )
        .unwrap();
        let found = selection().complete(|_| None);
        assert_eq!(found.files, [at("prod.yaml"), at("docker-compose.yml")]);
        assert_eq!(found.profiles, ["a", "b"]);
        let found = selection().complete(|name| (name == "COMPOSE_FILE").then(|| "prod.yaml".to_owned()));
        assert_eq!(found.files, [at("prod.yaml")]);
        let file = at("prod.yaml").display().to_string();
        let words: Vec<OsString> = ["-f", &file, "--profile", "a", "--profile", "b"].map(OsString::from).into();
        assert_eq!(found.arguments(), words);
    }

    #[test]
    fn a_folder_gives_the_name_that_compose_gives() {
        let of = |folder: &str| Selection { directory: folder.into(), ..Selection::default() }.folder_name();
        assert_eq!((of("/srv/My App.2"), of("/srv/_x-1"), of("/")), ("myapp2".into(), "x-1".into(), "default".into()));
    }
}
