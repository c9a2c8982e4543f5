//! The gate against containers and servers that lie, hang, drip, close and fall over.

mod gate;
mod settings;
mod web;

use super::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An engine whose answers are written down: the n-th question gets the n-th answer, and every
/// further one the last.
#[derive(Default)]
struct Fake {
    states: HashMap<&'static str, Vec<Vec<ContainerState>>>,
    asked: AtomicUsize,
    code: i64,
    output: &'static str,
    answer: &'static str,
    rows: u64,
    files: Vec<&'static str>,
}

impl Containers for Fake {
    fn states(&self, service: &str) -> Result<Vec<ContainerState>, String> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answers = self.states.get(service).ok_or("the engine knows no such service")?;
        Ok(answers[asked.min(answers.len() - 1)].clone())
    }
    fn address(&self, _: &str) -> Result<IpAddr, String> {
        Ok(IpAddr::from([127, 0, 0, 1]))
    }
    fn execute(&self, _: &str, _: &[String], _: Duration) -> Result<Executed, String> {
        Ok(Executed { code: self.code, output: self.output.to_owned() })
    }
    fn query(&self, _: &str, _: Option<&str>, _: &str, _: Duration) -> Result<String, String> {
        match self.answer {
            "" => Err("the server is starting up".to_owned()),
            answer => Ok(format!("{answer}\n")),
        }
    }
    fn counts(&self, _: &str, _: &DatabaseDetail) -> Result<Counts, String> {
        Ok([(("app".to_owned(), "users".to_owned()), self.rows)].into())
    }
    fn has_file(&self, _: &str, path: &str) -> Result<bool, String> {
        Ok(self.files.contains(&path))
    }
}

fn up(restarts: u64) -> ContainerState {
    ContainerState {
        id: "c1".to_owned(),
        running: true,
        health: None,
        restarts,
        exit_code: None,
        started: format!("start {restarts}"),
    }
}

fn check(question: Question, timeout_ms: u64) -> Check {
    let timeout = Duration::from_millis(timeout_ms);
    Check { name: "check".to_owned(), service: "web".to_owned(), question, timeout }
}
