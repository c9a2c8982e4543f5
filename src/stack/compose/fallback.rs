//! Reading a project without any tool: enough to know its binds, volumes and services.
//!
//! Where neither `docker compose` nor `docker-compose` is installed, the project's files and the folders that it
//! mounts can still be captured. Merging, `extends`, `include` and profiles are followed in their plain forms; what
//! only the engine knows is then reported as not protected.

use super::model::Model;
use super::parse::{self, resolve};
use super::yaml::{list, members, text, text_at};
use super::{Result, Selection, files, yaml};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// How deep files may name each other.
const DEPTH_MAX: u32 = 16;

/// The model as far as reading tells it.
///
/// # Errors
/// A file cannot be read, or is no Compose file.
pub fn model(selection: &Selection) -> Result<Model> {
    let variables = files::variables(selection);
    let mut whole = Value::Object(Map::new());
    for file in &selection.files {
        merge(&mut whole, load(file, selection.base(), &variables, 0)?);
    }
    let mut model = parse::model(&whole, &selection.name(), selection.base())?;
    let active = &selection.profiles;
    let all = active.iter().any(|name| name == "*");
    model.services.retain(|_, s| all || s.profiles.is_empty() || s.profiles.iter().any(|name| active.contains(name)));
    Ok(model)
}

/// A file with what it includes and extends, and with absolute paths where it is not the first.
fn load(path: &Path, base: &Path, variables: &BTreeMap<String, String>, depth: u32) -> Result<Value> {
    let mut document = yaml::read(path)?;
    interpolate_all(&mut document, variables);
    if depth >= DEPTH_MAX {
        return Ok(document);
    }
    let mut whole = Value::Object(Map::new());
    let includes = document.get("include").cloned().unwrap_or_default();
    for item in includes.as_array().into_iter().flatten() {
        let paths = text(item).map_or_else(|| list(item.get("path")), |path| vec![path]);
        for path in paths.iter().filter(|path| !path.contains("://")) {
            let path = resolve(base, path);
            let folder = path.parent().unwrap_or(base).to_path_buf();
            let mut included = load(&path, &folder, variables, depth + 1)?;
            make_absolute(&mut included, &folder);
            merge(&mut whole, included);
        }
    }
    let extended = members(document.get("services"))
        .filter_map(|(name, service)| {
            let extends = service.get("extends")?;
            let (file, other) =
                (text_at(extends, "file"), text(extends).unwrap_or_else(|| text_at(extends, "service")));
            Some((name.clone(), file, other))
        })
        .collect::<Vec<_>>();
    for (name, file, other) in extended {
        let mut from = document.clone();
        if !file.is_empty() {
            let path = resolve(base, &file);
            let folder = path.parent().unwrap_or(base).to_path_buf();
            from = load(&path, &folder, variables, depth + 1)?;
            make_absolute(&mut from, &folder);
        }
        let Some(mut service) = from.get_mut("services").and_then(|all| all.get_mut(&other)).map(Value::take) else {
            continue;
        };
        if let Some(own) = document.get_mut("services").and_then(|all| all.get_mut(&name)) {
            merge(&mut service, own.take());
            *own = service;
        }
    }
    merge(&mut whole, document);
    Ok(whole)
}

/// Lets relative bind mounts and files stay where they are meant from.
fn make_absolute(document: &mut Value, folder: &Path) {
    let absolute = |path: &str| resolve(folder, path).display().to_string();
    let services = document.get_mut("services").and_then(Value::as_object_mut);
    for service in services.into_iter().flat_map(|services| services.values_mut()) {
        for mount in service.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::String(short) = mount {
                if short.starts_with('.') {
                    *short = absolute(short);
                }
            } else if text_at(mount, "type") == "bind" {
                let source = absolute(&text_at(mount, "source"));
                mount["source"] = Value::String(source);
            }
        }
    }
    for kind in ["configs", "secrets"] {
        let all = document.get_mut(kind).and_then(Value::as_object_mut);
        for resource in all.into_iter().flat_map(|all| all.values_mut()) {
            if let Some(Value::String(file)) = resource.get_mut("file") {
                *file = absolute(file);
            }
        }
    }
}

/// A later file over an earlier one: mappings are joined, lists are put behind each other, all else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    // What Compose replaces whole.
                    Some(_) if matches!(key.as_str(), "command" | "entrypoint") => {
                        into.insert(key, value);
                    }
                    Some(there) => merge(there, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (into, from) if !from.is_null() => *into = from,
        _ => {}
    }
}

fn interpolate_all(value: &mut Value, variables: &BTreeMap<String, String>) {
    match value {
        Value::String(text) if text.contains('$') => *text = interpolate(text, variables),
        Value::Array(items) => items.iter_mut().for_each(|item| interpolate_all(item, variables)),
        Value::Object(map) => map.values_mut().for_each(|item| interpolate_all(item, variables)),
        _ => {}
    }
}

/// `text` with its variables: `$A`, `${A}`, `${A:-x}`, `${A-x}`, `${A:+x}`, `${A+x}`; `$$` is a dollar.
pub fn interpolate(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('{') {
            let Some(end) = closing(inner) else {
                out.push_str("${");
                rest = inner;
                continue;
            };
            out.push_str(&expression(&inner[..end], variables));
            rest = &inner[end + 1..];
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            if end == 0 {
                out.push('$');
            }
            out.push_str(variables.get(&after[..end]).map_or("", String::as_str));
            rest = &after[end..];
        }
    }
    out + rest
}

/// Where the brace that is open before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn expression(inner: &str, variables: &BTreeMap<String, String>) -> String {
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, operator) = inner.split_at(end);
    let value = variables.get(name);
    let filled = value.filter(|value| !value.is_empty());
    let other = |text: &str| interpolate(text, variables);
    let value_or_empty = || value.cloned().unwrap_or_default();
    if let Some(text) = operator.strip_prefix(":-") {
        filled.cloned().unwrap_or_else(|| other(text))
    } else if let Some(text) = operator.strip_prefix('-') {
        value.cloned().unwrap_or_else(|| other(text))
    } else if let Some(text) = operator.strip_prefix(":+") {
        filled.map_or_else(String::new, |_| other(text))
    } else if let Some(text) = operator.strip_prefix('+') {
        value.map_or_else(String::new, |_| other(text))
    } else {
        value_or_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::MountKind;
    use super::*;

    #[test]
    fn variables_are_filled_in_as_compose_does() {
        let variables: BTreeMap<String, String> =
            [("A", "1"), ("E", ""), ("P", "/p")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (text, expected) in [
            ("$A-${A}", "1-1"),
            ("${E:-x}${E-x}${N-y}${N:-${A}}", "xy1"),
            ("${A:+on}${E:+on}${E+set}", "onset"),
            ("$$A ${P}/x ${N:?needed} $", "$A /p/x  $"),
            ("${open", "${open"),
        ] {
            assert_eq!(interpolate(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn a_project_is_known_without_any_tool() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at(".env"), "DATA=./data\n").unwrap();
        std::fs::write(
            at("compose.yaml"),
            "name: clinic\ninclude: [sub/inc.yaml]\nservices:\n  web:\n    extends: {file: sub/base.yaml, service: b}\n    \
             volumes: ['${DATA}:/data', media:/media]\n  dbg: {image: x, profiles: [dbg]}\nvolumes: {media: {}}\n",
        )
        .unwrap();
        std::fs::write(at("sub/inc.yaml"), "services: {inc: {image: i, volumes: [./inc:/inc]}}\n").unwrap();
        std::fs::write(at("sub/base.yaml"), "services: {b: {image: base, volumes: [./b:/b:ro]}}\n").unwrap();
        let selection = Selection { directory: dir.path().into(), ..Selection::default() }.complete(|_| None);
        let model = model(&selection).unwrap();
        assert_eq!(model.name, "clinic");
        assert_eq!(model.services.keys().collect::<Vec<_>>(), ["inc", "web"]);
        let web = &model.services["web"];
        assert_eq!(web.image, "base");
        let kinds: Vec<&MountKind> = web.mounts.iter().map(|mount| &mount.kind).collect();
        assert!(kinds.contains(&&MountKind::Bind(at("sub/b"))) && kinds.contains(&&MountKind::Bind(at("data"))));
        assert_eq!(model.services["inc"].mounts[0].kind, MountKind::Bind(at("sub/inc")));
        assert_eq!(model.volumes["media"].name, "clinic_media");
    }
}
