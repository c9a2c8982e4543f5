//! One drill: capture a running application, break it, bring it back by `snap restore`, compare.

use super::instance::{Break, Instance};
use super::state::{Compared, State};
use crate::snap::{Run, Sandbox, exit, id_of, run};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Longest `snap create` or `snap restore` of an example stack.
const LIMIT: Duration = Duration::from_secs(300);
/// The restore failed, and the old state is back and running.
const PUT_BACK: i32 = 6;

/// What a drill showed.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub stack: &'static str,
    pub how: Break,
    /// The code with which `snap restore` ended.
    pub code: i32,
    pub seconds: f64,
    /// How long services were down, as the restore says.
    pub down_seconds: f64,
    /// Nothing, or all that is wrong.
    pub wrong: Vec<String>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// A captured application.
pub struct Drill {
    pub instance: Instance,
    sandbox: Sandbox,
    id: String,
    good: State,
    /// Seconds of the first capture.
    pub create_seconds: f64,
}

impl Drill {
    /// Brings `stack` up and captures it: with its servers stopped, so that their own files are kept, or live, with
    /// their dumps.
    pub fn prepare(stack: &'static str, live: bool) -> Result<Self, String> {
        let instance = Instance::up(stack)?;
        let sandbox = Sandbox::new();
        sandbox.init();
        let began = Instant::now();
        let dir = instance.dir().display().to_string();
        let live = live || instance.fact("DB_KIND") == "sqlite";
        let args = [&["create", dir.as_str(), "--json"][..], if live { &[] } else { &["--stop"] }].concat();
        let report = snap(&sandbox, &args, &[exit::DONE])?;
        let create_seconds = began.elapsed().as_secs_f64();
        let report = report.try_json()?;
        if report["snapshot"]["complete"] != Value::Bool(true) {
            return Err(format!("exit 0 without a complete snapshot: {report}"));
        }
        let id = id_of(&report["snapshot"])?;
        instance.becomes_valid().map_err(|error| format!("capturing broke it: {error}"))?;
        let good = State::of(&instance)?;
        Ok(Self { instance, sandbox, id, good, create_seconds })
    }

    /// How much is compared after each drill.
    pub fn compared(&self) -> Compared {
        self.good.compared()
    }

    /// Breaks the application in one way and brings it back. It is then whole for the next drill, unless the outcome
    /// says otherwise.
    pub fn run(&self, how: Break) -> Outcome {
        let mut outcome =
            Outcome { stack: self.instance.stack, how, code: -1, seconds: 0.0, down_seconds: 0.0, wrong: Vec::new() };
        let result =
            if how == Break::Newer { self.goes_back(&mut outcome) } else { self.comes_back(how, &mut outcome) };
        outcome.wrong.extend(result.err());
        outcome
    }

    fn comes_back(&self, how: Break, outcome: &mut Outcome) -> Result<(), String> {
        self.instance.break_it(how)?;
        self.restore(exit::DONE, outcome)?;
        // No waiting: a restore that ends with 0 has proved that the application works.
        self.instance.validate()?;
        outcome.wrong.extend(self.good.differences(&self.instance));
        Ok(())
    }

    /// The older version needs a partner that is no longer there: the newer one must be running again afterwards.
    fn goes_back(&self, outcome: &mut Outcome) -> Result<(), String> {
        self.instance.break_it(Break::Newer)?;
        let newer = State::of(&self.instance)?;
        self.restore(PUT_BACK, outcome)?;
        // It runs; that it is healthy again shows when its healthchecks were asked.
        self.instance.becomes_valid()?;
        outcome.wrong.extend(newer.differences(&self.instance));
        // With the partner there, the same restore works.
        self.instance.operate(&["partner", "start"])?;
        self.restore(exit::DONE, &mut outcome.clone())?;
        self.instance.validate()?;
        outcome.wrong.extend(self.good.differences(&self.instance));
        Ok(())
    }

    fn restore(&self, code: i32, outcome: &mut Outcome) -> Result<(), String> {
        let began = Instant::now();
        let done = snap(&self.sandbox, &["restore", &self.id, "--yes", "--json"], &[])?;
        (outcome.code, outcome.seconds) = (done.code, began.elapsed().as_secs_f64());
        let report = done.expect(&[code])?.try_json()?;
        outcome.down_seconds =
            report["down_seconds"].as_f64().ok_or("the restore does not say how long it was down")?;
        Ok(())
    }
}

/// Runs the program where it finds this machine's compose plugins; any code, if none is named.
fn snap(sandbox: &Sandbox, args: &[&str], codes: &[i32]) -> Result<Run, String> {
    let mut command = sandbox.snap_command(args);
    if let Some(home) = std::env::var_os("HOME") {
        command.env("DOCKER_CONFIG", std::path::Path::new(&home).join(".docker"));
    }
    let done = run(command, LIMIT)?;
    if codes.is_empty() { Ok(done) } else { done.expect(codes) }
}
