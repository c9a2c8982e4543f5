//! From what a tool prints, or what stands in a Compose file, to the [`Model`].
//!
//! `docker compose config` prints everything in its long form and with absolute paths; `docker-compose config`
//! and files keep short forms (`media:/media:ro`), leave names out (`project_volume`), and give no project name.
//! Both are read here, so that both give the same model.

use super::model::{Build, Dependency, Model, Mount, MountKind, Network, Resource, Service, Volume};
use super::yaml::{is_set, list, members, pairs, text, text_at};
use super::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Reads a project. `name` counts where the document has none; relative paths are meant from `base`.
///
/// # Errors
/// It is no Compose project.
pub fn model(document: &Value, name: &str, base: &Path) -> Result<Model> {
    let wrong = |what: &str, message: &str| Error::Model { what: what.to_owned(), message: message.to_owned() };
    if !document.is_object() {
        return Err(wrong("the document", "it is no mapping"));
    }
    let own = text_at(document, "name");
    let name = if own.is_empty() { name.to_owned() } else { own };
    let mut services = BTreeMap::new();
    for (service, value) in members(document.get("services")) {
        if !value.is_object() {
            return Err(wrong(&format!("the service {service}"), "it is no mapping"));
        }
        services.insert(service.clone(), read_service(value, base));
    }
    let volumes =
        members(document.get("volumes")).map(|(key, value)| (key.clone(), read_volume(key, value, &name))).collect();
    let networks =
        members(document.get("networks")).map(|(key, value)| (key.clone(), read_network(key, value, &name))).collect();
    let resources = |kind| {
        let all = members(document.get(kind));
        all.map(|(key, value): (&String, &Value)| (key.clone(), read_resource(value, base))).collect()
    };
    let (configs, secrets) = (resources("configs"), resources("secrets"));
    Ok(Model { name, services, volumes, networks, configs, secrets })
}

fn read_service(value: &Value, base: &Path) -> Service {
    let build = value.get("build").filter(|build| !build.is_null()).map(|build| match text(build) {
        Some(context) => Build { context: shown(base, &context), dockerfile: String::new() },
        None => Build { context: shown(base, &text_at(build, "context")), dockerfile: dockerfile(build) },
    });
    let healthcheck = value.get("healthcheck").is_some_and(|check| {
        check.is_object() && !is_set(check, "disable") && list(check.get("test")).first().is_none_or(|t| t != "NONE")
    });
    let replicas = [value.get("scale"), value.get("deploy").and_then(|deploy| deploy.get("replicas"))];
    let replicas = replicas.into_iter().flatten().find_map(|n| text(n)?.parse().ok()).unwrap_or(1);
    let names = |key| members_or_items(value.get(key), "source");
    Service {
        image: text_at(value, "image"),
        build,
        container_name: value.get("container_name").and_then(text),
        depends_on: dependencies(value),
        profiles: list(value.get("profiles")).into_iter().collect(),
        labels: pairs(value.get("labels")),
        environment: pairs(value.get("environment")).into_keys().collect(),
        healthcheck,
        replicas,
        restart: text_at(value, "restart"),
        mounts: mounts(value, base),
        configs: names("configs"),
        secrets: names("secrets"),
        volumes_from: volumes_from(value).collect(),
    }
}

/// The Dockerfile, where it is not the usual one.
fn dockerfile(build: &Value) -> String {
    Some(text_at(build, "dockerfile")).filter(|name| name != "Dockerfile").unwrap_or_default()
}

fn shown(base: &Path, path: &str) -> String {
    match path.contains("://") || path.starts_with("git@") {
        true => path.to_owned(),
        false => resolve(base, path).display().to_string(),
    }
}

/// `path` as it is meant in a file of the folder `base`; nothing on disk is looked at.
pub fn resolve(base: &Path, path: &str) -> PathBuf {
    let path = match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => base.join(path),
    };
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// Names in a list of texts, a list of mappings with the name at `key`, or the keys of a mapping.
fn members_or_items(value: Option<&Value>, key: &str) -> BTreeSet<String> {
    match value {
        Some(Value::Array(items)) => {
            items.iter().filter_map(|item| text(item).or_else(|| text(item.get(key)?))).collect()
        }
        other => members(other).map(|(name, _)| name.clone()).collect(),
    }
}

/// What must be there first: said, or implied by what is shared with another service.
fn dependencies(value: &Value) -> BTreeMap<String, Dependency> {
    let mut out = BTreeMap::new();
    for name in volumes_from(value) {
        out.insert(name, Dependency::default());
    }
    for link in list(value.get("links")) {
        out.insert(link.split(':').next().unwrap_or_default().to_owned(), Dependency::default());
    }
    for key in ["network_mode", "ipc", "pid"] {
        if let Some(name) = text_at(value, key).strip_prefix("service:") {
            out.insert(name.to_owned(), Dependency::default());
        }
    }
    match value.get("depends_on") {
        Some(Value::Object(map)) => {
            for (name, how) in map {
                let condition = Some(text_at(how, "condition")).filter(|text| !text.is_empty());
                let required = how.get("required").is_none_or(|required| *required != Value::Bool(false));
                let usual = Dependency::default();
                out.insert(name.clone(), Dependency { condition: condition.unwrap_or(usual.condition), required });
            }
        }
        other => out.extend(list(other).into_iter().map(|name| (name, Dependency::default()))),
    }
    out
}

fn volumes_from(value: &Value) -> impl Iterator<Item = String> {
    let all = list(value.get("volumes_from")).into_iter();
    all.filter(|text| !text.starts_with("container:")).map(|text| match text.split_once(':') {
        Some((name, _mode)) => name.to_owned(),
        None => text,
    })
}

fn mounts(value: &Value, base: &Path) -> Vec<Mount> {
    let mut out = Vec::new();
    if let Some(Value::Array(items)) = value.get("volumes") {
        out.extend(items.iter().filter_map(|item| match text(item) {
            Some(short) => Some(short_mount(&short, base)),
            None => long_mount(item, base),
        }));
    }
    for target in list(value.get("tmpfs")) {
        let target = target.split(':').next().unwrap_or_default().to_owned();
        out.push(Mount { target, kind: MountKind::Tmpfs, read_only: false });
    }
    out.sort();
    out
}

fn long_mount(value: &Value, base: &Path) -> Option<Mount> {
    let source = text_at(value, "source");
    let kind = match text_at(value, "type").as_str() {
        "volume" if source.is_empty() => MountKind::Anonymous,
        "volume" => MountKind::Volume(source),
        "bind" => MountKind::Bind(resolve(base, &source)),
        "tmpfs" => MountKind::Tmpfs,
        other => MountKind::Other(other.to_owned()),
    };
    let target = value.get("target").and_then(text)?;
    Some(Mount { target, kind, read_only: is_set(value, "read_only") })
}

/// `[SOURCE:]TARGET[:MODE]`.
fn short_mount(short: &str, base: &Path) -> Mount {
    let parts: Vec<&str> = short.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [target, mode] if !mode.starts_with('/') => ("", *target, *mode),
        [source, target] => (*source, *target, ""),
        [source, target, mode @ ..] => (*source, *target, mode.first().copied().unwrap_or_default()),
        [] => ("", "", ""),
    };
    let kind = match source.chars().next() {
        None => MountKind::Anonymous,
        Some('.' | '/' | '~') => MountKind::Bind(resolve(base, source)),
        Some(_) => MountKind::Volume(source.to_owned()),
    };
    Mount { target: target.to_owned(), kind, read_only: mode.split(',').any(|option| option == "ro") }
}

fn read_volume(key: &str, value: &Value, project: &str) -> Volume {
    let external = is_set(value, "external");
    Volume {
        name: engine_name(key, value, project, external),
        external,
        driver: text_at(value, "driver"),
        options: pairs(value.get("driver_opts")),
        labels: pairs(value.get("labels")),
    }
}

fn read_network(key: &str, value: &Value, project: &str) -> Network {
    let external = is_set(value, "external");
    Network { name: engine_name(key, value, project, external), external }
}

/// The name that the engine knows something by.
fn engine_name(key: &str, value: &Value, project: &str, external: bool) -> String {
    let names = [value.get("name"), value.get("external").and_then(|external| external.get("name"))];
    names.into_iter().flatten().find_map(text).unwrap_or_else(|| match external {
        true => key.to_owned(),
        false => format!("{project}_{key}"),
    })
}

fn read_resource(value: &Value, base: &Path) -> Resource {
    Resource {
        file: value.get("file").and_then(text).map(|path| resolve(base, &path)),
        environment: value.get("environment").and_then(text),
        inline: value.get("content").is_some(),
        external: is_set(value, "external"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    const LONG: &str = r#"{"name":"p1","services":{
      "web":{"image":"web:1","build":{"context":"/p1/web","dockerfile":"Dockerfile"},
        "depends_on":{"db":{"condition":"service_healthy","required":true}},"environment":{"PASSWORD":"s3cret"},
        "healthcheck":{"test":["CMD","true"]},"labels":{"snap.stop":"true"},"configs":[{"source":"cfg"}],
        "secrets":[{"source":"pw","target":"/run/secrets/pw"}],"deploy":{"replicas":2},"tmpfs":["/run"],
        "volumes":[{"type":"volume","source":"media","target":"/media","volume":{}},{"type":"volume","target":"/anon"},
          {"type":"bind","source":"/p1/conf","target":"/conf","read_only":true}]},
      "db":{"image":"db:1","network_mode":"service:net"},"net":{"image":"net:1"}},
      "volumes":{"media":{"name":"p1_media"},"old":{"name":"ext","external":true}},
      "networks":{"default":{"name":"p1_default"}},
      "configs":{"cfg":{"name":"p1_cfg","file":"/p1/cfg.txt"}},"secrets":{"pw":{"environment":"PW"}}}"#;

    const SHORT: &str = r#"
services:
  web:
    image: web:1
    build: ./web
    depends_on: {db: {condition: service_healthy}}
    environment: [PASSWORD=s3cret]
    healthcheck: {test: [CMD, "true"]}
    labels: [snap.stop=true]
    configs: [{source: cfg}]
    secrets: [pw]
    scale: 2
    tmpfs: /run
    volumes: ["media:/media:rw", /anon, "./conf:/conf:ro"]
  db: {image: "db:1", network_mode: "service:net"}
  net: {image: "net:1"}
volumes:
  media:
  old: {external: {name: ext}}
networks: {default: {}}
configs: {cfg: {file: ../p1/cfg.txt}}
secrets: {pw: {environment: PW}}
"#;

    #[test]
    fn both_ways_of_writing_give_the_same_model() {
        let long = model(&serde_json::from_str(LONG).unwrap(), "", Path::new("/")).unwrap();
        let short = model(&yaml::parse(SHORT).unwrap(), "p1", Path::new("/p1")).unwrap();
        assert_eq!(long, short);
        let web = &long.services["web"];
        assert_eq!((web.replicas, web.mounts.len(), web.healthcheck), (2, 4, true));
        assert_eq!(web.mounts[2].kind, MountKind::Volume("media".to_owned()));
        assert!(long.services["db"].depends_on.contains_key("net"));
        assert_eq!(long.volumes["old"].name, "ext");
    }

    #[test]
    fn no_value_of_a_variable_is_kept() {
        let model = model(&serde_json::from_str(LONG).unwrap(), "", Path::new("/")).unwrap();
        assert!(!format!("{model:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_no_project_is_refused() {
        for text in ["[]", "3", "services: {a: 1}"] {
            assert!(model(&yaml::parse(text).unwrap(), "x", Path::new("/")).is_err(), "{text}");
        }
    }
}
