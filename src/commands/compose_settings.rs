//! `snap.toml`: which Compose project a folder is, and what labels would say of its services.
//!
//! `[compose]` names files, env files, profiles, the project and the tool; `[services.NAME]` says what labels say,
//! without their `snap.`: `stop = true`, `hook.pre = "…"`. What is said on the command line counts more, and what
//! is said here counts more than labels.

use super::folders::SetPath;
use super::settings::{FILE, Settings};
use super::{Error, Result};
use crate::stack::application::Choice;
use crate::stack::compose::ToolChoice;
use std::collections::BTreeMap;
use std::path::Path;

/// Which Compose project a folder is.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ComposeSettings {
    files: Vec<SetPath>,
    env_files: Vec<SetPath>,
    profiles: Vec<String>,
    project: Option<String>,
    tool: Option<String>,
}

impl Settings {
    /// Completes what was not said on the command line.
    ///
    /// # Errors
    /// A setting says something that it cannot say.
    pub fn complete(self, choice: &mut Choice, dir: &Path) -> Result<()> {
        let wrong = |message: String| Error::Settings { path: dir.join(FILE), message };
        let said = self.compose;
        if choice.files.is_empty() {
            choice.files = said.files.iter().map(|file| file.below(dir)).collect();
        }
        if choice.env_files.is_empty() {
            choice.env_files = said.env_files.iter().map(|file| file.below(dir)).collect();
        }
        if choice.profiles.is_empty() {
            choice.profiles = said.profiles;
        }
        choice.project = choice.project.take().or(said.project);
        choice.tool = match said.tool.as_deref() {
            None => choice.tool,
            Some("docker compose") => ToolChoice::Plugin,
            Some("docker-compose") => ToolChoice::Program,
            Some(other) => {
                return Err(wrong(format!("compose.tool is “docker compose” or “docker-compose”, not “{other}”")));
            }
        };
        for (service, table) in self.services {
            let mut labels = BTreeMap::new();
            flatten("", &table, &mut labels)
                .map_err(|key| wrong(format!("services.{service}.{key} is no text, number or list")))?;
            choice.services.insert(service, labels);
        }
        Ok(())
    }
}

/// Settings as labels: `hook.pre = "x"` is the label `snap.hook.pre`.
fn flatten(above: &str, table: &toml::Table, out: &mut BTreeMap<String, String>) -> std::result::Result<(), String> {
    for (key, value) in table {
        let key = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(&key, inner, out)?;
                continue;
            }
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Array(items) => {
                let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                items.ok_or_else(|| key.clone())?.join(",")
            }
            _ => return Err(key),
        };
        out.insert(key, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn settings_say_what_labels_say() {
        let text = "[compose]\nfiles = [\"a.yml\"]\ntool = \"docker-compose\"\n[services.web]\nstop = true\nexclude = [\"/a\", \"b\"]\nhook.pre = \"sync\"\n";
        let settings: Settings = toml::from_str(text).unwrap();
        let mut choice = Choice::default();
        settings.complete(&mut choice, Path::new("/p")).unwrap();
        assert_eq!((choice.files, choice.tool), (vec![PathBuf::from("/p/a.yml")], ToolChoice::Program));
        let web = &choice.services["web"];
        assert_eq!((web["stop"].as_str(), web["exclude"].as_str(), web["hook.pre"].as_str()), ("true", "/a,b", "sync"));
        for wrong in ["[compose]\nfile = 1", "[compose]\ntool = \"podman\"", "[services.web]\nstop = 1.5"] {
            let read = toml::from_str::<Settings>(wrong).ok();
            assert!(
                read.is_none_or(|settings| settings.complete(&mut Choice::default(), Path::new("/p")).is_err()),
                "{wrong}"
            );
        }
    }
}
