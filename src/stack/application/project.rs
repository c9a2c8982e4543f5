//! Everything that is known of a project before anything is done: from Compose, from its files, from the engine.
//!
//! A project that runs tells by its containers' labels with which files, env files and name it was started, and by
//! which tool; where nothing else was said, those count: `docker compose -f docker-compose.prod.yml up` is
//! captured as what it is, without saying so again. A service that runs although its profile is not active activates
//! that profile here.

use super::Result;
use super::observe::{CONFIG_FILES, ENV_FILES, Observed, PROJECT, TOOL_VERSION, WORKING_DIR, is_active};
use crate::docker::{ContainerSummary, Engine};
use crate::monitor::{Monitor, Warning};
use crate::stack::compose::files::{ProjectFiles, project_files};
use crate::stack::compose::parse::resolve;
use crate::stack::compose::{self, Model, Selection, ServiceRules, Tool, ToolChoice, fallback, order};
use crate::stack::health::checks_of_labels;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was said of the project.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The project's folder, its full path.
    pub directory: PathBuf,
    /// Compose files.
    pub files: Vec<PathBuf>,
    /// Env files.
    pub env_files: Vec<PathBuf>,
    /// Profiles.
    pub profiles: Vec<String>,
    /// Its name.
    pub project: Option<String>,
    /// Which tool is asked.
    pub tool: ToolChoice,
    /// What settings say of services: label without `snap.`, and its value.
    pub services: BTreeMap<String, BTreeMap<String, String>>,
}

/// What is known of a project.
#[derive(Debug)]
pub struct Project {
    /// Which project it is, as a tool is told.
    pub selection: Selection,
    /// The tool, if one is there.
    pub tool: Option<Tool>,
    /// The model.
    pub model: Model,
    /// Its files.
    pub files: ProjectFiles,
    /// What is said of each service.
    pub rules: BTreeMap<String, ServiceRules>,
    /// The labels of each service, with what settings say.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Its services in the order in which they start.
    pub order: Vec<String>,
    /// What the engine says, or why it says nothing.
    pub observed: std::result::Result<Observed, String>,
}

/// Puts together what is known; `None` if no file says what the project is.
///
/// # Errors
/// Compose refuses the project, or a label of snap's is wrong. An engine that does not answer is no error here.
pub fn load(choice: &Choice, monitor: &dyn Monitor) -> Result<Option<Project>> {
    let asked = Engine::from_env().and_then(|engine| engine.containers(&[]).map(|all| (engine, all)));
    let asked = asked.map_err(|error| error.with_hint());
    let mut selection = Selection {
        directory: choice.directory.clone(),
        files: choice.files.clone(),
        env_files: choice.env_files.clone(),
        profiles: choice.profiles.clone(),
        project: choice.project.clone(),
        pin_directory: false,
    };
    let mut tool_choice = choice.tool;
    let usual = selection.clone().complete(|name| std::env::var(name).ok());
    match &asked {
        Ok((_, all)) if choice.files.is_empty() => {
            selection = adopt(usual, all, &choice.directory, &mut tool_choice, monitor);
        }
        _ => selection = usual,
    }
    if selection.files.is_empty() {
        return Ok(None);
    }
    let (tool, mut model) = read_model(&selection, tool_choice)?;
    let observed = match asked {
        Ok((engine, all)) => {
            let observed = Observed::of(engine, &model.name, all).map_err(|error| error.to_string());
            if let (Some(tool), Ok(observed)) = (&tool, &observed) {
                model = with_running_profiles(tool, &mut selection, model, observed, monitor)?;
            }
            observed
        }
        Err(reason) => Err(reason),
    };
    let files = project_files(&selection, &model)?;
    let (mut rules, mut all_labels) = (BTreeMap::new(), BTreeMap::new());
    for (name, service) in &model.services {
        let mut labels = service.labels.clone();
        let settings = choice.services.get(name).into_iter().flatten();
        labels.extend(settings.map(|(key, value)| (format!("{}{key}", compose::labels::PREFIX), value.clone())));
        rules.insert(name.clone(), ServiceRules::read(name, &labels)?);
        // A check that cannot be asked is found now, not when a restore needs it.
        checks_of_labels(name, &labels)?;
        all_labels.insert(name.clone(), labels);
    }
    for name in choice.services.keys().filter(|name| !model.services.contains_key(*name)) {
        monitor
            .warn(&Warning::note(name, "snap.toml has settings for this service, and the project has no such service"));
    }
    let order = order::start_order(&model);
    Ok(Some(Project { selection, tool, model, files, rules, labels: all_labels, order, observed }))
}

/// The model from a tool, or from reading where none is there.
fn read_model(selection: &Selection, choice: ToolChoice) -> Result<(Option<Tool>, Model)> {
    match Tool::find(choice) {
        Ok(tool) => {
            let model = tool.model(selection)?;
            Ok((Some(tool), model))
        }
        Err(compose::Error::NoTool) => Ok((None, fallback::model(selection)?)),
        Err(error) => Err(error.into()),
    }
}

/// What the containers of the folder say of how they were started, where nothing else was said.
fn adopt(
    usual: Selection,
    all: &[ContainerSummary],
    directory: &Path,
    tool: &mut ToolChoice,
    monitor: &dyn Monitor,
) -> Selection {
    let here = |found: &&ContainerSummary| {
        found.labels.get(WORKING_DIR).is_some_and(|dir| std::fs::canonicalize(dir).is_ok_and(|dir| dir == directory))
    };
    let mine: Vec<&ContainerSummary> = all.iter().filter(here).collect();
    let projects: BTreeSet<&String> = mine.iter().filter_map(|found| found.labels.get(PROJECT)).collect();
    let wanted = usual.project.clone().unwrap_or_else(|| usual.name());
    let name = match (projects.iter().find(|name| ***name == wanted), projects.len()) {
        (Some(name), _) => (**name).clone(),
        (None, 1) => projects.first().map_or_else(String::new, |name| (**name).clone()),
        _ => return usual,
    };
    // Compose makes anew what has changed: the newest tells how the project was started last.
    let named = mine.iter().rev().filter(|found| found.labels.get(PROJECT) == Some(&name));
    let Some(newest) = named.max_by_key(|found| found.created) else { return usual };
    let paths = |label: &str| -> Vec<PathBuf> {
        let text = newest.labels.get(label).map(String::as_str).unwrap_or_default();
        text.split(',').filter(|path| !path.is_empty()).map(|path| resolve(directory, path)).collect()
    };
    if *tool == ToolChoice::Any && newest.labels.get(TOOL_VERSION).is_some_and(|version| version.starts_with("1.")) {
        *tool = match Tool::find(ToolChoice::Program) {
            Ok(_) => ToolChoice::Program,
            Err(_) => ToolChoice::Any,
        };
    }
    let mut adopted = usual.clone();
    let files = paths(CONFIG_FILES);
    if !files.is_empty() && files.iter().all(|file| file.is_file()) && files != usual.files {
        let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let message = format!("its containers were started with {}: that is what is captured", shown.join(" "));
        monitor.warn(&Warning::note(&name, message));
        adopted.files = files;
    }
    if adopted.env_files.is_empty() {
        let usual_file = adopted.base().join(".env");
        adopted.env_files = paths(ENV_FILES).into_iter().filter(|file| file.is_file() && *file != usual_file).collect();
    }
    adopted.pin_directory = adopted.base() != directory;
    if name != wanted || adopted.project.is_some() {
        adopted.project = Some(name);
    }
    adopted
}

/// Activates the profiles of services that run.
fn with_running_profiles(
    tool: &Tool,
    selection: &mut Selection,
    model: Model,
    observed: &Observed,
    monitor: &dyn Monitor,
) -> Result<Model> {
    let active = observed.containers.iter().filter(|c| is_active(c.state.status) && !super::observe::is_one_off(c));
    let running: BTreeSet<&str> = active.map(super::observe::service_of).collect();
    if running.iter().all(|name| model.services.contains_key(*name)) {
        return Ok(model);
    }
    let every = Selection { profiles: vec!["*".to_owned()], ..selection.clone() };
    // The older tool always shows all.
    let Ok(whole) = tool.model(&every) else { return Ok(model) };
    let hidden = running.iter().filter(|name| !model.services.contains_key(**name));
    let profiles: BTreeSet<String> =
        hidden.filter_map(|name| whole.services.get(*name)?.profiles.first().cloned()).collect();
    if profiles.is_empty() {
        return Ok(model);
    }
    let shown = profiles.iter().cloned().collect::<Vec<_>>().join(", ");
    monitor.warn(&Warning::note(&model.name, format!("services of the profile {shown} run: it is captured too")));
    selection.profiles.extend(profiles);
    Ok(tool.model(selection)?)
}
