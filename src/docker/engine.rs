//! An engine that answers, and what it says of itself.

use super::body::Answer;
use super::endpoint::Endpoint;
use super::json::nullable;
use super::link::{Call, Link};
use super::{Error, Result};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Versions of the API that are spoken, oldest and newest.
const API_OLDEST: (u32, u32) = (1, 40);
const API_NEWEST: (u32, u32) = (1, 47);

/// A Docker engine. Clones share one thread.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub link: Arc<Link>,
    version: String,
    api: (u32, u32),
    pub local: OnceLock<bool>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("endpoint", self.inner.link.endpoint())
            .field("version", &self.version())
            .finish()
    }
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// The version of the API that is used with it.
    pub api: String,
    /// Its own id.
    pub id: String,
    /// Its host's name.
    pub name: String,
    /// Where it keeps its data, on its host.
    pub root_dir: PathBuf,
    /// Its storage driver or snapshotter.
    pub storage_driver: String,
    /// True if containerd keeps the images, not the engine itself.
    pub containerd_store: bool,
    /// The operating system of its containers.
    pub os: String,
    /// Its processor, as the engine writes it (`x86_64`).
    pub architecture: String,
    /// How many containers and images it has.
    pub containers: u64,
    /// See `containers`.
    pub images: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionAnswer {
    #[serde(default)]
    version: String,
    api_version: String,
    #[serde(default, rename = "MinAPIVersion")]
    min_api_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InfoAnswer {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    name: String,
    docker_root_dir: PathBuf,
    #[serde(default)]
    driver: String,
    #[serde(default, deserialize_with = "nullable")]
    driver_status: Vec<Vec<String>>,
    #[serde(default, rename = "OSType")]
    os_type: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    containers: u64,
    #[serde(default)]
    images: u64,
}

impl Engine {
    /// The engine that the `docker` command would use.
    ///
    /// # Errors
    /// There is none, it does not run, this user may not use it, or it speaks no version of the API
    /// that is known here.
    pub fn from_env() -> Result<Self> {
        Self::connect(Endpoint::from_env()?)
    }

    /// The engine at `endpoint`.
    ///
    /// # Errors
    /// As [`Engine::from_env`].
    pub fn connect(endpoint: Endpoint) -> Result<Self> {
        let link = Link::open(endpoint)?;
        let mut call = Call::new("ask", "the Docker engine for its version", Method::GET, "/version");
        let answer = link.ask(&mut call)?;
        let found: VersionAnswer = parse(&call, &answer)?;
        let most = api_version(&found.api_version)
            .ok_or_else(|| call.answer_error(format!("version {:?}", found.api_version)))?;
        let least = api_version(&found.min_api_version).unwrap_or((1, 0));
        let api = most.min(API_NEWEST);
        if api < API_OLDEST || api < least {
            return Err(Error::ApiVersion {
                least: shown(least),
                most: shown(most),
                ours: format!("{} to {}", shown(API_OLDEST), shown(API_NEWEST)),
            });
        }
        let inner = Inner { link, version: found.version, api, local: OnceLock::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its address.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.link.endpoint()
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// The version of the API that is used with it.
    pub fn api(&self) -> String {
        shown(self.inner.api)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn info(&self) -> Result<Info> {
        let found: InfoAnswer = self.get("ask", "the Docker engine for its state", "/info")?;
        let containerd = |pair: &Vec<String>| pair.iter().any(|word| word.starts_with("io.containerd.snapshotter"));
        Ok(Info {
            version: found.server_version,
            api: self.api(),
            id: found.id,
            name: found.name,
            root_dir: found.docker_root_dir,
            storage_driver: found.driver,
            containerd_store: found.driver_status.iter().any(containerd),
            os: found.os_type,
            architecture: found.architecture,
            containers: found.containers,
            images: found.images,
        })
    }

    /// The path of a call with the version before it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("/v{}{path}", shown(self.inner.api))
    }

    pub(super) fn call<'a>(
        &self,
        operation: &'static str,
        object: impl Into<String>,
        method: Method,
        path: &str,
    ) -> Call<'a> {
        Call::new(operation, object, method, self.path(path))
    }

    /// A small call that must succeed.
    pub(super) fn done(&self, mut call: Call<'_>) -> Result<Answer> {
        let answer = self.inner.link.ask(&mut call)?;
        call.refusal(answer.status, &answer.body).map_or(Ok(answer), Err)
    }

    /// A small call whose answer is JSON.
    pub(super) fn fetch<T: DeserializeOwned>(&self, mut call: Call<'_>) -> Result<T> {
        let answer = self.inner.link.ask(&mut call)?;
        parse(&call, &answer)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, operation: &'static str, object: &str, path: &str) -> Result<T> {
        self.fetch(self.call(operation, object, Method::GET, path))
    }

    /// Like [`Engine::done`]; false if there was nothing to do.
    pub(super) fn changed(&self, call: Call<'_>) -> Result<bool> {
        match self.done(call) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_modified() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The JSON of a successful answer.
pub(super) fn parse<T: DeserializeOwned>(call: &Call<'_>, answer: &Answer) -> Result<T> {
    if let Some(error) = call.refusal(answer.status, &answer.body) {
        return Err(error);
    }
    // The position alone: the parser's words may quote content.
    serde_json::from_slice(&answer.body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let kind = if error.is_data() { "a field is missing or of another kind" } else { "it is no JSON" };
        call.answer_error(format!("{kind} (line {line}, column {column})"))
    })
}

fn api_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn shown((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}
