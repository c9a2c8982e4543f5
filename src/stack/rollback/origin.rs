//! The containers of before, made anew as they were.
//!
//! When the new state starts, Compose replaces a container whose service has changed, and with it goes how it was made:
//! from files that may have been edited or lost since, with variables of somebody's shell. So all that the engine says
//! of the project's containers is written down before anything is touched. On the way back those that are gone are made
//! from that, with their names and labels, so that Compose takes them for its own; neither a file nor the tool is needed.
//!
//! What is different afterwards is their ids, and what they had written to no volume. A container that shares the
//! network of another is given that one's new id. Anonymous volumes are mounted again by their names.

use super::probes::Probes;
use super::services::engine_error;
use super::{Error, Result};
use crate::docker::Engine;
use crate::stack::application::observe::{SERVICE, is_active, service_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Digits of an id that stand for it as a name.
const SHORT: usize = 12;

/// A container as the engine described it. It holds secrets and is not shown.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(Value);

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

impl Origin {
    /// All containers of a project, without those of `run`.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn all(probes: &Probes) -> Result<Vec<Self>> {
        let failed = |error: crate::docker::Error| engine_error(&probes.project, &error);
        let mut out = Vec::new();
        for container in probes.containers(None).map_err(failed)? {
            match probes.engine.container_description(&container.id) {
                Ok(description) => out.push(Self(description)),
                // It has gone since.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(out)
    }

    #[cfg(test)]
    pub(super) fn of(description: Value) -> Self {
        Self(description)
    }

    /// The part of it that concerns the host.
    pub(super) fn host_config(&self) -> &Value {
        &self.0["HostConfig"]
    }

    /// True if it ran.
    pub(super) fn runs(&self) -> bool {
        self.0["State"]["Running"] == true
    }

    pub(super) fn is_paused(&self) -> bool {
        self.0["State"]["Paused"] == true
    }

    pub(super) fn id(&self) -> &str {
        self.0["Id"].as_str().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.0["Name"].as_str().unwrap_or_default().trim_start_matches('/')
    }

    pub(super) fn service(&self) -> &str {
        self.0["Config"]["Labels"][SERVICE].as_str().unwrap_or_default()
    }

    /// Makes it anew, without starting it; `now` knows the ids of those that were made before it.
    fn make(&self, engine: &Engine, now: &BTreeMap<String, String>) -> Result<String> {
        let failed = |error: crate::docker::Error| engine_error(&format!("container {}", self.name()), &error);
        let (mut body, more) = recipe(&self.0, now);
        let image = self.0["Image"].as_str().unwrap_or_default();
        let named = body["Image"].as_str().and_then(|name| engine.image(name).ok());
        // Its tag may be another image's.
        if named.is_none_or(|named| named.id != image) {
            body["Image"] = json!(image);
        }
        let id = engine.create_container(self.name(), &body).map_err(failed)?;
        for (network, endpoint) in &more {
            engine.connect_network(network, &id, endpoint).map_err(failed)?;
        }
        Ok(id)
    }
}

/// Makes all of `origins` that are gone anew, in the order in which services start, in place of what Compose has made
/// for the new state. Gives the ids of now by those of before.
///
/// # Errors
/// One cannot be made. Done again, it goes on.
pub fn bring_back(probes: &Probes, origins: &[Origin], order: &[String]) -> Result<BTreeMap<String, String>> {
    let failed = |error: crate::docker::Error| engine_error(&probes.project, &error);
    let known: BTreeSet<&str> = origins.iter().map(Origin::id).collect();
    let services: BTreeSet<&str> = origins.iter().map(Origin::service).collect();
    let mut there = BTreeMap::new();
    for container in probes.containers(None).map_err(failed)? {
        if known.contains(container.id.as_str()) {
            there.insert(container.id.clone(), container.id);
            continue;
        }
        let service = service_of(&container);
        // What is still up now was started by somebody else. One of a service that had none leaves nothing behind.
        if !is_active(container.state.status) || services.contains(service) {
            match probes.engine.remove_container(&container.id, true, !services.contains(service)) {
                Err(error) if !error.is_not_found() => return Err(failed(error)),
                _ => {}
            }
        }
    }
    let place = |origin: &&Origin| order.iter().position(|name| name == origin.service()).unwrap_or(usize::MAX);
    let mut gone: Vec<&Origin> = origins.iter().filter(|origin| !there.contains_key(origin.id())).collect();
    gone.sort_by_key(place);
    for origin in gone {
        let id = origin.make(&probes.engine, &there)?;
        there.insert(origin.id().to_owned(), id);
    }
    Ok(there)
}

/// What a container is made from: a description for the engine, and the networks that it is connected with afterwards
/// (older engines take only one at first).
fn recipe(found: &Value, now: &BTreeMap<String, String>) -> (Value, Vec<(String, Value)>) {
    let short = found["Id"].as_str().and_then(|id| id.get(..SHORT)).unwrap_or_default();
    let mut body = found["Config"].clone();
    let mut host = found["HostConfig"].clone();
    for key in ["NetworkMode", "IpcMode", "PidMode"] {
        if let Some(other) = host[key].as_str().and_then(|mode| mode.strip_prefix("container:")) {
            host[key] = json!(format!("container:{}", now.get(other).map_or(other, String::as_str)));
        }
    }
    if let Some(list) = host["VolumesFrom"].as_array_mut() {
        for item in list {
            let text = item.as_str().unwrap_or_default();
            let (other, mode) = text.split_once(':').map_or((text, None), |(other, mode)| (other, Some(mode)));
            let other = now.get(other).map_or(other, String::as_str);
            *item = json!(mode.map_or(other.to_owned(), |mode| format!("{other}:{mode}")));
        }
    }
    let mode = host["NetworkMode"].as_str().unwrap_or_default().to_owned();
    let shares = mode.starts_with("container:");
    if let Some(body) = body.as_object_mut() {
        let is_given = body.get("Hostname").and_then(Value::as_str).is_some_and(|name| name != short);
        if !is_given || shares || mode == "host" || host["UTSMode"] == "host" {
            body.remove("Hostname");
            body.remove("Domainname");
        }
        if shares {
            body.remove("ExposedPorts");
        }
    }
    mount_by_name(&mut host, &found["Mounts"]);
    let mut more = Vec::new();
    for (name, endpoint) in found["NetworkSettings"]["Networks"].as_object().into_iter().flatten() {
        match name.as_str() {
            _ if shares => {}
            "host" | "none" | "bridge" => {}
            name if name == mode => {
                body["NetworkingConfig"] = json!({ "EndpointsConfig": { name: clean(endpoint, short) } })
            }
            name => more.push((name.to_owned(), clean(endpoint, short))),
        }
    }
    body["HostConfig"] = host;
    (body, more)
}

/// What was given of a container's place in a network, without what the engine itself made of it.
fn clean(endpoint: &Value, short: &str) -> Value {
    let given = ["IPAMConfig", "Links", "DriverOpts", "GwPriority"];
    let mut out: Map<String, Value> = given
        .iter()
        .filter(|key| !endpoint[**key].is_null())
        .map(|key| ((*key).to_owned(), endpoint[*key].clone()))
        .collect();
    let aliases = endpoint["Aliases"].as_array().into_iter().flatten().filter(|alias| alias.as_str() != Some(short));
    out.insert("Aliases".to_owned(), aliases.cloned().collect());
    Value::Object(out)
}

/// Anonymous volumes are in no description but by the path at which they are mounted.
fn mount_by_name(host: &mut Value, mounts: &Value) {
    for mount in mounts.as_array().into_iter().flatten().filter(|mount| mount["Type"] == "volume") {
        let (Some(name), Some(at)) = (mount["Name"].as_str(), mount["Destination"].as_str()) else { continue };
        let mut listed = host["Mounts"].as_array_mut().into_iter().flatten();
        if let Some(found) = listed.find(|found| found["Target"] == at) {
            if found["Source"].as_str().unwrap_or_default().is_empty() {
                found["Source"] = json!(name);
            }
            continue;
        }
        let binds = host["Binds"].as_array().cloned().unwrap_or_default();
        if binds.iter().filter_map(Value::as_str).any(|bind| bind.split(':').nth(1) == Some(at)) {
            continue;
        }
        let way = if mount["RW"] == false { ":ro" } else { "" };
        host["Binds"] = binds.into_iter().chain([json!(format!("{name}:{at}{way}"))]).collect();
    }
}

/// What a person must know where a container could be made anew only by the Compose tool.
pub(super) fn made_by_tool(error: &Error) -> String {
    let cause = crate::repo::sync::Chain(error).to_string();
    format!("made anew from its files as they are now, since it could not be made as it was: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Value {
        json!({
            "Id": "0123456789abcdef", "Name": "/app-web-1", "Image": "sha256:aa",
            "Config": { "Hostname": "0123456789ab", "Domainname": "", "Image": "web:1", "Env": ["A=1"],
                "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/cache": {} }, "Labels": { SERVICE: "web" } },
            "HostConfig": { "NetworkMode": "app_default", "Binds": ["app_media:/media:rw"], "VolumesFrom": ["old:ro"],
                "Mounts": [{ "Type": "volume", "Source": "", "Target": "/data" }] },
            "Mounts": [
                { "Type": "volume", "Name": "app_media", "Destination": "/media", "RW": true },
                { "Type": "volume", "Name": "c0ffee", "Destination": "/cache", "RW": true },
                { "Type": "volume", "Name": "beef", "Destination": "/data", "RW": true },
                { "Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": true }],
            "NetworkSettings": { "Networks": {
                "app_default": { "Aliases": ["web", "0123456789ab"], "IPAddress": "172.1.1.1", "IPAMConfig": null },
                "app_back": { "Aliases": ["web"], "IPAMConfig": { "IPv4Address": "10.0.0.5" }, "MacAddress": "02:42" } } }
        })
    }

    #[test]
    fn a_container_is_described_as_it_was_given_and_not_as_the_engine_completed_it() {
        let now = BTreeMap::from([("old".to_owned(), "new".to_owned())]);
        let (body, more) = recipe(&description(), &now);
        assert_eq!(body.get("Hostname"), None);
        assert_eq!((&body["Env"], &body["Labels"][SERVICE]), (&json!(["A=1"]), &json!("web")));
        assert_eq!(body["HostConfig"]["Binds"], json!(["app_media:/media:rw", "c0ffee:/cache"]));
        assert_eq!(body["HostConfig"]["Mounts"][0]["Source"], "beef");
        assert_eq!(body["HostConfig"]["VolumesFrom"], json!(["new:ro"]));
        assert_eq!(body["NetworkingConfig"], json!({ "EndpointsConfig": { "app_default": { "Aliases": ["web"] } } }));
        let back = json!({ "Aliases": ["web"], "IPAMConfig": { "IPv4Address": "10.0.0.5" } });
        assert_eq!(more, [("app_back".to_owned(), back)]);
    }

    #[test]
    fn a_container_in_the_network_of_another_is_given_what_that_one_is_now() {
        let mut found = description();
        found["Config"]["Hostname"] = json!("other");
        found["HostConfig"]["NetworkMode"] = json!("container:old");
        let (body, more) = recipe(&found, &BTreeMap::from([("old".to_owned(), "new".to_owned())]));
        assert_eq!(body["HostConfig"]["NetworkMode"], "container:new");
        for refused in ["Hostname", "ExposedPorts", "NetworkingConfig"] {
            assert_eq!(body.get(refused), None, "{refused}");
        }
        assert!(more.is_empty());
        // A name that somebody gave stays.
        let mut found = description();
        found["Config"]["Hostname"] = json!("web.example.org");
        assert_eq!(recipe(&found, &BTreeMap::new()).0["Hostname"], "web.example.org");
    }

    #[test]
    fn a_description_is_not_shown() {
        let text = format!("{:?}", Origin(description()));
        assert_eq!(text, "0123456789abcdef");
    }
}
