//! Ports of the host: one that somebody else has taken would let the start fail when everything has been changed already.

use super::origin::Origin;
use super::{Error, Result};
use crate::docker::published_ports;
use crate::repo::manifest::ProjectEntry;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// A port as the engine publishes it: `0.0.0.0:8080/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    address: SocketAddr,
    is_udp: bool,
}

impl Port {
    fn parse(text: &str) -> Option<Self> {
        let (address, protocol) = text.rsplit_once('/')?;
        let (ip, port) = address.rsplit_once(':')?;
        let ip: IpAddr = match ip.trim_start_matches('[').trim_end_matches(']') {
            "" => Ipv4Addr::UNSPECIFIED.into(),
            ip => ip.parse().ok()?,
        };
        let port = port.parse().ok().filter(|port| *port > 0)?;
        matches!(protocol, "tcp" | "udp")
            .then(|| Self { address: SocketAddr::new(ip, port), is_udp: protocol == "udp" })
    }

    /// Whoever listens there keeps others out. Any other trouble is for the engine to tell.
    fn is_taken(&self) -> bool {
        let tried = match self.is_udp {
            true => UdpSocket::bind(self.address).map(drop),
            false => TcpListener::bind(self.address).map(drop),
        };
        tried.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    }
}

/// Looks at the ports that the services of then had published. What the project's own containers hold now is free once
/// they have stopped.
///
/// # Errors
/// Another program has one.
pub fn refuse_taken(project: &ProjectEntry, own: &[Origin]) -> Result<()> {
    let own: BTreeSet<Port> = own
        .iter()
        .filter(|origin| origin.runs())
        .flat_map(|origin| published_ports(origin.host_config()))
        .filter_map(parse)
        .collect();
    for service in project.services.iter().filter(|service| service.running > 0) {
        for port in service.containers.iter().flat_map(|container| &container.ports) {
            let Some(found) = Port::parse(port) else { continue };
            let is_own = own.iter().any(|own| own.address.port() == found.address.port() && own.is_udp == found.is_udp);
            if !is_own && found.is_taken() {
                return Err(Error::Engine {
                    subject: format!("service {}", service.name),
                    message: format!("its port {port} is taken by another program; stop that first"),
                });
            }
        }
    }
    Ok(())
}

fn parse(text: String) -> Option<Port> {
    Port::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::manifest::{ContainerEntry, ServiceEntry};
    use serde_json::json;

    fn project(port: &str) -> ProjectEntry {
        let container = ContainerEntry {
            name: "web-1".to_owned(),
            state: "running".to_owned(),
            health: None,
            exit_code: None,
            image_id: String::new(),
            ports: vec![port.to_owned()],
        };
        let service: ServiceEntry = serde_json::from_value(json!({
            "name": "web", "image": "", "image_id": "", "running": 1, "healthy": 0, "stopped": false
        }))
        .unwrap();
        let services = vec![ServiceEntry { containers: vec![container], ..service }];
        ProjectEntry { services, ..ProjectEntry::default() }
    }

    #[test]
    fn a_port_that_somebody_else_has_is_told_before_anything_is_done() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let port = format!("127.0.0.1:{number}/tcp");
        let error = refuse_taken(&project(&port), &[]).unwrap_err().to_string();
        assert!(error.contains("service web") && error.contains(&port), "{error}");
        let own = |running: bool| {
            Origin::of(json!({ "State": { "Running": running }, "HostConfig": { "PortBindings": {
            "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": number.to_string() }] } } }))
        };
        refuse_taken(&project(&port), &[own(true)]).unwrap();
        assert!(refuse_taken(&project(&port), &[own(false)]).is_err());
        drop(taken);
        refuse_taken(&project(&port), &[]).unwrap();
        // What the engine chooses anew each time, and what nobody understands, is nobody's.
        for free in ["0.0.0.0:0/tcp", "x", ":70000/tcp", "0.0.0.0:1/sctp"] {
            refuse_taken(&project(free), &[]).unwrap();
        }
    }
}
