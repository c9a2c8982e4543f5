//! Asks one question once and says whether the answer is right.
//!
//! What fails is told with the answer that came, so that the evidence alone explains it. Outputs
//! and pages are not repeated, only what of them was looked for: they may hold anything.

use super::http::{self, Request};
use super::{Answer, Check, ContainerHealth, ContainerState, Containers, Place, Question};
use crate::stack::source::database::judge;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// One check that is being asked; it remembers how the containers were at first.
pub(super) struct Asker<'a> {
    check: &'a Check,
    containers: &'a dyn Containers,
    steady_since: Option<(Instant, Vec<ContainerState>)>,
}

type Outcome = Result<String, String>;

impl<'a> Asker<'a> {
    pub(super) fn new(check: &'a Check, containers: &'a dyn Containers) -> Self {
        Self { check, containers, steady_since: None }
    }

    /// Asks once; the answer comes within about `limit`.
    pub(super) fn ask(&mut self, limit: Duration) -> Answer {
        let (service, containers) = (self.check.service.as_str(), self.containers);
        let outcome = match &self.check.question {
            Question::Steady(steady) => return self.steady(*steady),
            Question::Container => return container(containers, service),
            Question::Http { place, host, path, status, contains } => self.address(place, limit).and_then(|address| {
                let host = host.as_deref().or(place.host.as_deref()).unwrap_or("localhost");
                http::get(&Request { address, host, path, limit })
                    .and_then(|page| page.judge(*status, contains.as_deref()))
            }),
            Question::Tcp(place) => self.address(place, limit).and_then(|address| connect(address, limit)),
            Question::Sql { database, query, expect } => containers
                .query(service, database.as_deref(), query, limit)
                .and_then(|found| fits(found.trim(), expect.as_deref())),
            Question::Rows(detail) => containers.counts(service, detail).and_then(|found| judge(detail, &found)),
            Question::Command { command, contains } => containers.execute(service, command, limit).and_then(|ended| {
                let has = contains.as_deref().is_none_or(|wanted| ended.output.contains(wanted));
                match (ended.code, has) {
                    (0, true) => Ok("exit code 0".to_owned()),
                    (0, false) => Err("exit code 0, but the output does not contain what it must".to_owned()),
                    (code, _) => Err(format!("exit code {code}")),
                }
            }),
            Question::File(path) => containers.has_file(service, path).and_then(|there| match there {
                true => Ok("it is there".to_owned()),
                false => Err("it is not there".to_owned()),
            }),
        };
        let (passed, text) = match outcome {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        Answer { passed, is_final: false, text }
    }

    fn address(&self, place: &Place, limit: Duration) -> Result<SocketAddr, String> {
        let ip = match &place.host {
            None => self.containers.address(&self.check.service)?,
            Some(host) => resolve(host, limit)?,
        };
        Ok(SocketAddr::new(ip, place.port))
    }

    /// Passes once the containers have stayed the same and up for `steady`.
    fn steady(&mut self, steady: Duration) -> Answer {
        let again = |text: String| Answer { passed: false, is_final: false, text };
        let states = match self.containers.states(&self.check.service) {
            Ok(states) => states,
            Err(text) => {
                self.steady_since = None;
                return again(text);
            }
        };
        if states.is_empty() {
            self.steady_since = None;
            return again("it has no container".to_owned());
        }
        if let Some(down) = states.iter().find(|state| !state.running) {
            self.steady_since = None;
            let code = down.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
            return again(format!("its container does not run{code}; it was restarted {} times", down.restarts));
        }
        let same = self.steady_since.take().filter(|(_, before)| same_run(before, &states));
        let restarted = states.iter().map(|state| state.restarts).sum::<u64>();
        let (since, first) = same.unwrap_or_else(|| (Instant::now(), states));
        let stood = since.elapsed();
        self.steady_since = Some((since, first));
        match stood >= steady {
            true => Answer { passed: true, is_final: true, text: "it runs".to_owned() },
            false => again(format!("it runs for {:.1} s now; it was restarted {restarted} times", stood.as_secs_f64())),
        }
    }
}

fn same_run(before: &[ContainerState], now: &[ContainerState]) -> bool {
    let run = |states: &[ContainerState]| {
        let mut runs: Vec<_> = states.iter().map(|s| (s.id.clone(), s.restarts, s.started.clone())).collect();
        runs.sort();
        runs
    };
    run(before) == run(now)
}

/// A healthcheck that calls its container unhealthy may recover: it is asked until time is over.
fn container(containers: &dyn Containers, service: &str) -> Answer {
    let (passed, text) = match containers.states(service) {
        Err(text) => (false, text),
        Ok(states) => {
            let of = |wanted| states.iter().filter(|state| state.running && state.health == Some(wanted)).count();
            let healthy = of(ContainerHealth::Healthy);
            let silent = states.iter().filter(|state| state.health.is_none()).count();
            let text = match (of(ContainerHealth::Unhealthy), of(ContainerHealth::Starting)) {
                _ if states.is_empty() => "it has no container".to_owned(),
                _ if silent > 0 => "its container has no healthcheck".to_owned(),
                (0, 0) if healthy == states.len() => "healthy".to_owned(),
                (0, 0) => "its container does not run".to_owned(),
                (0, _) => "starting".to_owned(),
                _ => "unhealthy".to_owned(),
            };
            (!states.is_empty() && healthy == states.len(), text)
        }
    };
    Answer { passed, is_final: false, text }
}

/// The resolver of the system knows no time limit of ours: it is asked in a thread of its own.
fn resolve(host: &str, limit: Duration) -> Result<IpAddr, String> {
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let name = host.to_owned();
    std::thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(|addresses| addresses.map(|a| a.ip()).collect::<Vec<_>>());
        // Nobody listens any more once the time is over.
        let _ = sender.send(found);
    });
    match receiver.recv_timeout(limit) {
        Ok(Ok(found)) => {
            let v4 = found.iter().find(|ip| ip.is_ipv4()).or(found.first());
            v4.copied().ok_or_else(|| format!("{host} has no address"))
        }
        Ok(Err(error)) => Err(format!("{host} cannot be found: {error}")),
        Err(_) => Err(format!("{host} cannot be found: the resolver does not answer")),
    }
}

fn connect(address: SocketAddr, limit: Duration) -> Outcome {
    match TcpStream::connect_timeout(&address, limit) {
        Ok(_) => Ok("it accepts connections".to_owned()),
        Err(error) => Err(http::refusal(address, &error)),
    }
}

/// The answer of a query against `expect`. It is repeated only where it is a number: anything else
/// could be somebody's data.
fn fits(found: &str, expect: Option<&str>) -> Outcome {
    let shown = if found.parse::<f64>().is_ok() { found } else { "another text" };
    let Some(expect) = expect else {
        return match found {
            "" => Err("no row".to_owned()),
            _ => Ok("it answers".to_owned()),
        };
    };
    let compared = [">=", "<=", ">", "<", "="].into_iter().find_map(|sign| Some((sign, expect.strip_prefix(sign)?)));
    let right = match compared.map(|(sign, wanted)| (sign, found.parse::<f64>(), wanted.trim().parse::<f64>())) {
        Some((sign, Ok(found), Ok(wanted))) => match sign {
            ">=" => found >= wanted,
            "<=" => found <= wanted,
            ">" => found > wanted,
            "<" => found < wanted,
            _ => (found - wanted).abs() < f64::EPSILON,
        },
        Some(("=", _, _)) => compared.is_some_and(|(_, wanted)| wanted.trim() == found),
        Some(_) => false,
        None => found == expect,
    };
    match right {
        true => Ok(format!("as expected: {expect}")),
        false => Err(format!("{shown}, expected is {expect}")),
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn an_answer_is_compared_as_number_or_text() {
        for (found, expect) in [("5", "5"), ("5", ">= 5"), ("5", "<=5"), ("5", "> 4.5"), ("5", "=5.0"), ("a", "=a")] {
            assert!(fits(found, Some(expect)).is_ok(), "{found} {expect}");
        }
        for (found, expect) in [("5", "6"), ("4", ">= 5"), ("", ">= 0"), ("ERROR", "> 0"), ("x", "<= y"), ("", "5")] {
            assert!(fits(found, Some(expect)).is_err(), "{found} {expect}");
        }
        assert!(fits("", None).is_err() && fits("0", None).is_ok());
        assert!(!fits("s3cret", Some("5")).unwrap_err().contains("s3cret"));
    }
}
