//! Which files took part in a project: what the tool's answer does not tell.
//!
//! Compose files name others: `include`, `extends`, `env_file`, `label_file`. All of them are the project's
//! configuration and must come back with it, wherever they lie. Paths are meant from the folder of the file that
//! names them, or from where an include says.

use super::fallback::interpolate;
use super::model::Model;
use super::parse::resolve;
use super::yaml::{list, members, text, text_at};
use super::{Result, Selection, yaml};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a file is to the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A Compose file, be it included or extended.
    Compose,
    /// Variables: `.env`, `--env-file`, `env_file`, `label_file`.
    Env,
    /// A config's content.
    Config,
    /// A secret's content.
    Secret,
}

impl Role {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Role::Compose => "compose file",
            Role::Env => "env file",
            Role::Config => "config",
            Role::Secret => "secret",
        }
    }
}

/// A file of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProjectFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub role: Role,
    /// False if the project does without it.
    pub required: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFiles {
    /// The files.
    pub files: BTreeSet<ProjectFile>,
    /// What lies elsewhere (a URL, a registry), as it is written.
    pub remote: BTreeSet<String>,
}

/// Finds all files of a project.
///
/// # Errors
/// A Compose file cannot be read.
pub fn project_files(selection: &Selection, model: &Model) -> Result<ProjectFiles> {
    let mut search = Search { variables: variables(selection), out: ProjectFiles::default(), seen: BTreeSet::new() };
    let dotenv = selection.base().join(".env");
    if selection.env_files.is_empty() && dotenv.is_file() {
        search.add(dotenv, Role::Env, false);
    }
    for path in &selection.env_files {
        search.add(path.clone(), Role::Env, true);
    }
    for file in &selection.files {
        search.compose_file(file, selection.base())?;
    }
    for (resources, role) in [(&model.configs, Role::Config), (&model.secrets, Role::Secret)] {
        for path in resources.values().filter_map(|resource| resource.file.clone()) {
            search.add(path, role, true);
        }
    }
    Ok(search.out)
}

/// The variables with which Compose reads the project's files.
pub fn variables(selection: &Selection) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    match selection.env_files.is_empty() {
        true => all.extend(super::selection::read_env_file(&selection.base().join(".env"))),
        false => all.extend(selection.env_files.iter().flat_map(|path| super::selection::read_env_file(path))),
    }
    all.extend(
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    all
}

struct Search {
    variables: BTreeMap<String, String>,
    out: ProjectFiles,
    seen: BTreeSet<PathBuf>,
}

impl Search {
    fn add(&mut self, path: PathBuf, role: Role, required: bool) {
        self.out.files.insert(ProjectFile { path, role, required });
    }

    /// A Compose file whose relative paths are meant from `base`.
    fn compose_file(&mut self, path: &Path, base: &Path) -> Result<()> {
        self.add(path.to_path_buf(), Role::Compose, true);
        if !self.seen.insert(path.to_path_buf()) {
            return Ok(());
        }
        let document = yaml::read(path)?;
        for item in items(document.get("include")) {
            self.include(item, base)?;
        }
        for (_, service) in members(document.get("services")) {
            for key in ["env_file", "label_file"] {
                for item in items(service.get(key)) {
                    self.env_file(item, base);
                }
            }
            let extended = service.get("extends").map(|extends| text_at(extends, "file")).unwrap_or_default();
            if let Some(path) = self.local(&extended, base) {
                let folder = path.parent().unwrap_or(base).to_path_buf();
                self.compose_file(&path, &folder)?;
            }
        }
        Ok(())
    }

    fn include(&mut self, item: &Value, base: &Path) -> Result<()> {
        let written = match text(item) {
            Some(path) => vec![path],
            None => list(item.get("path")),
        };
        let paths: Vec<PathBuf> = written.iter().filter_map(|path| self.local(path, base)).collect();
        let Some(first) = paths.first() else { return Ok(()) };
        let folder = match self.local(&text_at(item, "project_directory"), base) {
            Some(folder) => folder,
            None => first.parent().unwrap_or(base).to_path_buf(),
        };
        let env_files = items(item.get("env_file")).collect::<Vec<_>>();
        if env_files.is_empty() && folder.join(".env").is_file() {
            self.add(folder.join(".env"), Role::Env, false);
        }
        for env_file in env_files {
            self.env_file(env_file, base);
        }
        paths.iter().try_for_each(|path| self.compose_file(path, &folder))
    }

    fn env_file(&mut self, item: &Value, base: &Path) {
        let path = text(item).unwrap_or_else(|| text_at(item, "path"));
        let required = item.get("required") != Some(&Value::Bool(false));
        if let Some(path) = self.local(&path, base) {
            self.add(path, Role::Env, required);
        }
    }

    /// Where `written` is on this host.
    fn local(&mut self, written: &str, base: &Path) -> Option<PathBuf> {
        let path = interpolate(written, &self.variables);
        if path.is_empty() {
            return None;
        }
        if path.contains("://") || path.starts_with("git@") || path.starts_with("oci:") {
            self.out.remote.insert(path);
            return None;
        }
        Some(resolve(base, &path))
    }
}

/// The items of a list, or what stands alone.
fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let several = value.and_then(Value::as_array).into_iter().flatten();
    several.chain(value.filter(|value| !value.is_array() && !value.is_null()))
}

#[cfg(test)]
mod tests {
    use super::super::model::Resource;
    use super::*;

    #[test]
    fn every_file_that_takes_part_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), text).unwrap();
        };
        write(".env", "STAGE=prod\n");
        write(
            "compose.yaml",
            "include:\n  - sub/inc.yaml\n  - path: [a/one.yaml, a/two.yaml]\n    project_directory: .\n    env_file: inc.env\n  \
             - oci://registry/x\nservices:\n  web:\n    extends: {file: base/base.yaml, service: b}\n    env_file:\n      \
             - ${STAGE:-dev}.env\n      - {path: maybe.env, required: false}\n  other: {extends: web}\n",
        );
        write("sub/inc.yaml", "services: {i: {env_file: i.env}}\n");
        write("sub/.env", "");
        write("a/one.yaml", "services: {o: {env_file: [o.env]}}\n");
        write("a/two.yaml", "include: [compose.yaml]\n");
        write("base/base.yaml", "services: {b: {env_file: ./b.env}}\n");
        let selection = Selection { directory: dir.path().into(), ..Selection::default() }.complete(|_| None);
        let secret = Resource { file: Some(at("pw.txt")), ..Resource::default() };
        let model = Model { secrets: [("pw".to_owned(), secret)].into(), ..Model::default() };
        let found = project_files(&selection, &model).unwrap();
        let shown: Vec<String> = found
            .files
            .iter()
            .map(|file| format!("{} {}", file.path.strip_prefix(dir.path()).unwrap().display(), file.role.word()))
            .collect();
        let expected = [
            ".env env file",
            "a/one.yaml compose file",
            "a/two.yaml compose file",
            "base/b.env env file",
            "base/base.yaml compose file",
            "compose.yaml compose file",
            "inc.env env file",
            "maybe.env env file",
            "o.env env file",
            "prod.env env file",
            "pw.txt secret",
            "sub/.env env file",
            "sub/i.env env file",
            "sub/inc.yaml compose file",
        ];
        assert_eq!(shown, expected);
        assert!(found.files.iter().any(|file| !file.required && file.path == at("maybe.env")));
        assert_eq!(found.remote, ["oci://registry/x".to_owned()].into());
    }
}
