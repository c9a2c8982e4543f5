//! Containers: finding, making, starting, stopping, removing.

use super::container::{Container, ContainerAnswer, ContainerSummary};
use super::error::from_io;
use super::frames::Frames;
use super::json::{escaped, with_query};
use super::link::{Call, SMALL_CALL};
use super::{Engine, Result};
use crate::limits::EXEC_OUTPUT_BYTES_MAX;
use crate::monitor::Monitor;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Read;
use std::time::Duration;

impl Engine {
    /// All containers, running or not, that have all of `labels` (`name` or `name=value`).
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn containers(&self, labels: &[&str]) -> Result<Vec<ContainerSummary>> {
        self.list_containers(&json!({ "label": labels }))
    }

    /// All containers, running or not, in which the volume is mounted.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn containers_using(&self, volume: &str) -> Result<Vec<ContainerSummary>> {
        let found = self.list_containers(&json!({ "volume": [volume] }))?;
        // The engine's filter also takes paths in containers for names.
        let uses = |container: &ContainerSummary| container.mounts.iter().any(|mount| mount.name == volume);
        Ok(found.into_iter().filter(uses).collect())
    }

    fn list_containers(&self, filters: &Value) -> Result<Vec<ContainerSummary>> {
        let path = with_query("/containers/json", &[("all", "1"), ("filters", &filters.to_string())]);
        self.get("list", "containers", &path)
    }

    /// What is known of the container with this id or name.
    ///
    /// # Errors
    /// It is not there, or the engine does not answer.
    pub fn container(&self, container: &str) -> Result<Container> {
        let call = self.container_call("inspect", container, Method::GET, "/json");
        let problem = call.answer_error("its configuration has another shape");
        let answer: ContainerAnswer = self.fetch(call)?;
        Container::try_from(answer).map_err(|_| problem)
    }

    /// All that the engine says of a container, in its own form. It holds secrets.
    ///
    /// # Errors
    /// It is not there, or the engine does not answer.
    pub fn container_description(&self, container: &str) -> Result<Value> {
        self.fetch(self.container_call("inspect", container, Method::GET, "/json"))
    }

    /// Makes a container from a description in the engine's own form, and gives its id. An empty name
    /// lets the engine choose one.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn create_container(&self, name: &str, description: &Value) -> Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Made {
            id: String,
        }
        let image = description["Image"].as_str().unwrap_or("an image");
        let object = if name.is_empty() { format!("a container of {image}") } else { format!("container {name}") };
        let env = description["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let values: Vec<String> = env.filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())).collect();
        let path = with_query("/containers/create", &[("name", name)]);
        let call = self.call("create", object, Method::POST, &path).json(description).hiding(values);
        Ok(self.fetch::<Made>(call)?.id)
    }

    /// Starts a container; false if it ran already.
    ///
    /// # Errors
    /// The engine refuses, or its command cannot be started.
    pub fn start(&self, container: &str) -> Result<bool> {
        let call = self.container_call("start", container, Method::POST, "/start");
        self.changed(call.limit(Some(SMALL_CALL * 5)))
    }

    /// Stops a container; after `grace` the engine kills it. `None`: the container's own time. False
    /// if it did not run.
    ///
    /// # Errors
    /// The engine refuses, or the person stops the waiting.
    pub fn stop(&self, container: &str, grace: Option<Duration>, monitor: &dyn Monitor) -> Result<bool> {
        let seconds = grace.map(|grace| grace.as_secs().to_string()).unwrap_or_default();
        let tail = with_query("/stop", &[("t", &seconds)]);
        let call = self.container_call("stop", container, Method::POST, &tail);
        // Its own time is not known here.
        let limit = grace.map(|grace| grace + SMALL_CALL * 2);
        self.changed(call.limit(limit).monitor(monitor))
    }

    /// Sends a signal, `SIGKILL` for instance.
    ///
    /// # Errors
    /// The engine refuses: it does not run.
    pub fn kill(&self, container: &str, signal: &str) -> Result<()> {
        let tail = with_query("/kill", &[("signal", signal)]);
        self.done(self.container_call("kill", container, Method::POST, &tail)).map(drop)
    }

    /// Freezes its processes.
    ///
    /// # Errors
    /// The engine refuses: it does not run, or is frozen already.
    pub fn pause(&self, container: &str) -> Result<()> {
        self.done(self.container_call("pause", container, Method::POST, "/pause")).map(drop)
    }

    /// Lets its processes go on.
    ///
    /// # Errors
    /// The engine refuses: it is not frozen.
    pub fn unpause(&self, container: &str) -> Result<()> {
        self.done(self.container_call("unpause", container, Method::POST, "/unpause")).map(drop)
    }

    /// Waits until it does not run, and gives its exit code.
    ///
    /// # Errors
    /// It is not there, `limit` is over, or the person stops the waiting.
    pub fn wait(&self, container: &str, limit: Option<Duration>, monitor: &dyn Monitor) -> Result<i64> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Ended {
            status_code: i64,
        }
        let call = self.container_call("wait for", container, Method::POST, "/wait");
        Ok(self.fetch::<Ended>(call.limit(limit).monitor(monitor))?.status_code)
    }

    /// Removes a container with its anonymous volumes if `volumes`; a running one only if `force`.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn remove_container(&self, container: &str, force: bool, volumes: bool) -> Result<()> {
        let flag = |set: bool| if set { "1" } else { "" };
        let tail = with_query("", &[("force", flag(force)), ("v", flag(volumes))]);
        let call = self.container_call("remove", container, Method::DELETE, &tail);
        self.done(call.limit(Some(SMALL_CALL * 5))).map(drop)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// The engine refuses: the name is taken.
    pub fn rename_container(&self, container: &str, name: &str) -> Result<()> {
        let tail = with_query("/rename", &[("name", name)]);
        self.done(self.container_call("rename", container, Method::POST, &tail)).map(drop)
    }

    /// The last `lines` lines of what it has written to both its outputs, in order.
    ///
    /// # Errors
    /// The engine does not answer, or the answer is cut.
    pub fn logs(&self, container: &str, lines: u32, monitor: &dyn Monitor) -> Result<String> {
        let tty = self.container(container)?.tty;
        let tail = with_query("/logs", &[("stdout", "1"), ("stderr", "1"), ("tail", &lines.to_string())]);
        let mut call = self.container_call("read the log of", container, Method::GET, &tail);
        let body = self.inner.link.stream(&mut call, monitor)?;
        let mut text = Vec::new();
        let read = if tty {
            body.take(EXEC_OUTPUT_BYTES_MAX as u64).read_to_end(&mut text)
        } else {
            Frames::both(body).take(EXEC_OUTPUT_BYTES_MAX as u64).read_to_end(&mut text)
        };
        read.map_err(|source| from_io(call.operation, &call.object, source))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub(super) fn container_call<'a>(
        &self,
        operation: &'static str,
        container: &str,
        method: Method,
        tail: &str,
    ) -> Call<'a> {
        let path = format!("/containers/{}{tail}", escaped(container));
        self.call(operation, format!("container {container}"), method, &path)
    }
}
