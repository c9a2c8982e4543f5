//! Volumes and networks.

use super::json::{escaped, nullable};
use super::{Engine, Error, Result};
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver.
    #[serde(default)]
    pub driver: String,
    /// Where its content is on the engine's host.
    #[serde(default)]
    pub mountpoint: PathBuf,
    /// Its labels.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    #[serde(default, deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    /// `local` or `global`.
    #[serde(default)]
    pub scope: String,
    /// When it was made, RFC 3339.
    #[serde(default)]
    pub created_at: String,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NewVolume {
    /// Its name; empty lets the engine choose one.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// The driver's options.
    #[serde(rename = "DriverOpts")]
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its driver.
    #[serde(default)]
    pub driver: String,
    /// Its labels.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// All volumes.
    ///
    /// # Errors
    /// The engine does not answer, or a driver of volumes does not: the list is then not whole.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            #[serde(default, deserialize_with = "nullable")]
            volumes: Vec<Volume>,
            #[serde(default, deserialize_with = "nullable")]
            warnings: Vec<String>,
        }
        let listed: Listed = self.get("list", "volumes", "/volumes")?;
        if listed.warnings.is_empty() {
            return Ok(listed.volumes);
        }
        let problem = listed.warnings.join("; ");
        Err(Error::Answer { operation: "list", object: "volumes".to_owned(), problem })
    }

    /// One volume.
    ///
    /// # Errors
    /// It is not there, or the engine does not answer.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        self.get("inspect", &format!("volume {name}"), &format!("/volumes/{}", escaped(name)))
    }

    /// Makes a volume. One of that name that is there already is left as it is and given back.
    ///
    /// # Errors
    /// The engine or the driver refuses.
    pub fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        let body = serde_json::json!(new);
        // Options of network drives hold passwords.
        let call = self
            .call("create", format!("volume {}", new.name), Method::POST, "/volumes/create")
            .json(&body)
            .hiding(new.options.values().cloned());
        self.fetch(call)
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// It is not there, or a container uses it (a conflict).
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let path = format!("/volumes/{}", escaped(name));
        self.done(self.call("remove", format!("volume {name}"), Method::DELETE, &path)).map(drop)
    }

    /// All networks.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.get("list", "networks", "/networks")
    }

    /// One network, by its name or id.
    ///
    /// # Errors
    /// It is not there, or the engine does not answer.
    pub fn network(&self, network: &str) -> Result<Network> {
        self.get("inspect", &format!("network {network}"), &format!("/networks/{}", escaped(network)))
    }

    /// Connects a container with a network, as `endpoint` describes in the engine's own form.
    ///
    /// # Errors
    /// One of them is not there, or the engine refuses.
    pub fn connect_network(&self, network: &str, container: &str, endpoint: &serde_json::Value) -> Result<()> {
        let path = format!("/networks/{}/connect", escaped(network));
        let body = serde_json::json!({ "Container": container, "EndpointConfig": endpoint });
        self.done(self.call("connect", format!("network {network}"), Method::POST, &path).json(&body)).map(drop)
    }
}
