//! Where the engine is: as the `docker` command finds it.
//!
//! `DOCKER_HOST`, else the context that `DOCKER_CONTEXT` or the configuration names, else the usual
//! socket. Only plain sockets are served: for the rest the refusal says how to get one.

use super::{Error, Result};
use crate::limits::ANSWER_BYTES_MAX;
use std::io::Read;
use std::path::{Path, PathBuf};

const SOCKET: &str = "/var/run/docker.sock";

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this host.
    Unix(PathBuf),
    /// Host and port, without encryption.
    Tcp(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// The engine that the `docker` command would use in this environment.
    ///
    /// # Errors
    /// The address is not served, or the named context is not there.
    pub fn from_env() -> Result<Self> {
        Self::find(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The same with `variable` as the environment.
    fn find(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        if let Some(host) = variable("DOCKER_HOST") {
            let tls = variable("DOCKER_TLS_VERIFY").is_some() || variable("DOCKER_TLS").is_some();
            return Self::parse(&host, tls);
        }
        let config = variable("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let current =
            || read_json(&config.as_ref()?.join("config.json"))?["currentContext"].as_str().map(str::to_owned);
        let context = variable("DOCKER_CONTEXT").or_else(current).filter(|name| !name.is_empty() && name != "default");
        match context {
            Some(name) => Self::of_context(config.as_deref(), &name),
            None => Ok(Self::Unix(PathBuf::from(SOCKET))),
        }
    }

    /// The endpoint that a text names; `tls` if the environment asks for encryption.
    fn parse(text: &str, tls: bool) -> Result<Self> {
        let refuse = |reason: &str| Err(Error::Address { address: text.to_owned(), reason: reason.to_owned() });
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("it has no scheme: write unix:///path or tcp://host:port");
        };
        let rest = rest.trim_end_matches('/');
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => refuse("the path of the socket must be absolute: unix:///path"),
            "tcp" | "http" if tls => refuse(
                "TLS is not served: run snap on the engine's host, or forward its socket: \
                 ssh -N -L /tmp/docker.sock:/var/run/docker.sock HOST, and DOCKER_HOST=unix:///tmp/docker.sock",
            ),
            "tcp" | "http" if rest.is_empty() => refuse("it names no host"),
            "tcp" | "http" => Ok(Self::Tcp(with_port(rest))),
            "ssh" => refuse(
                "ssh is not served: run snap on the engine's host, or forward its socket: \
                 ssh -N -L /tmp/docker.sock:/var/run/docker.sock HOST, and DOCKER_HOST=unix:///tmp/docker.sock",
            ),
            "https" => refuse("TLS is not served: run snap on the engine's host, or forward its socket with ssh -L"),
            _ => refuse("only unix:// and tcp:// are served"),
        }
    }

    fn of_context(config: Option<&Path>, name: &str) -> Result<Self> {
        let missing = || Error::Address {
            address: format!("context {name}"),
            reason: "there is no such context: `docker context ls` lists them".to_owned(),
        };
        let folder = config.ok_or_else(missing)?.join("contexts/meta");
        let metas = std::fs::read_dir(folder).map_err(|_| missing())?.filter_map(|entry| entry.ok());
        let found = metas
            .filter_map(|entry| read_json(&entry.path().join("meta.json")))
            .find(|meta| meta["Name"].as_str() == Some(name))
            .ok_or_else(missing)?;
        let host = found["Endpoints"]["docker"]["Host"].as_str().ok_or_else(missing)?;
        Self::parse(host, false)
    }
}

fn with_port(address: &str) -> String {
    let tail = address.rsplit(']').next().unwrap_or(address);
    if tail.contains(':') { address.to_owned() } else { format!("{address}:2375") }
}

fn read_json(path: &Path) -> Option<serde_json::Value> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pairs: &[(&str, &str)]) -> Result<Endpoint> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Endpoint::find(&|name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn the_variable_comes_first_and_the_usual_socket_last() {
        assert_eq!(find(&[]).unwrap(), Endpoint::Unix(SOCKET.into()));
        let unix = find(&[("DOCKER_HOST", "unix:///run/x.sock"), ("DOCKER_CONTEXT", "gone")]);
        assert_eq!(unix.unwrap(), Endpoint::Unix("/run/x.sock".into()));
        assert_eq!(find(&[("DOCKER_HOST", "tcp://h")]).unwrap(), Endpoint::Tcp("h:2375".into()));
        assert_eq!(find(&[("DOCKER_HOST", "tcp://[::1]:99")]).unwrap(), Endpoint::Tcp("[::1]:99".into()));
        assert_eq!(find(&[("DOCKER_HOST", "tcp://[::1]")]).unwrap(), Endpoint::Tcp("[::1]:2375".into()));
    }

    #[test]
    fn what_is_not_served_is_refused_with_a_way_out() {
        let tls = find(&[("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")]).unwrap_err();
        assert!(tls.to_string().contains("forward its socket"), "{tls}");
        for host in ["ssh://me@host", "npipe:////./pipe/docker", "docker", "unix://relative", "tcp://"] {
            assert!(matches!(find(&[("DOCKER_HOST", host)]), Err(Error::Address { .. })), "{host}");
        }
    }

    #[test]
    fn the_current_context_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta/0123");
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"lab","Endpoints":{"docker":{"Host":"unix:///run/lab.sock"}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"lab"}"#).unwrap();
        let config = dir.path().to_str().unwrap();
        assert_eq!(find(&[("DOCKER_CONFIG", config)]).unwrap(), Endpoint::Unix("/run/lab.sock".into()));
        let other = find(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "default")]);
        assert_eq!(other.unwrap(), Endpoint::Unix(SOCKET.into()));
        let gone = find(&[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "gone")]).unwrap_err();
        assert!(gone.to_string().contains("no such context"), "{gone}");
    }
}
