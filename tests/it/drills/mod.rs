//! The failure drills: five applications after operators' handbooks (`fixtures/stacks`), each broken in the eight ways
//! that the handbooks fear, and brought back by `snap restore`. After each, everything must be as it was at the moment
//! of capture, as an independent comparer sees it, and the handbook's own checks must pass.
//!
//! `fixtures/stacks/drill` runs all forty and writes `docs/DRILLS.md`; the tests here run a share.

mod drill;
mod instance;
mod report;
mod rows;
mod state;

use crate::need::{self, need};
use drill::{Drill, Outcome};
use instance::{Break, Instance};
use state::State;
use std::sync::Mutex;

/// The stacks, in the order of `fixtures/stacks/README.md`.
const STACKS: [&str; 5] = ["mailserver", "equipemed", "mgmt-vibe", "comicpile", "obcms"];

/// Runs some drills on one stack; the first that leaves it broken ends the row, and says so of the others.
fn run(stack: &'static str, all: &[Break], live: bool) -> Result<(Drill, Vec<Outcome>), String> {
    let drill = Drill::prepare(stack, live).map_err(|error| format!("{stack}: {error}"))?;
    let mut outcomes = Vec::new();
    for how in all {
        let outcome = drill.run(*how);
        let (letter, _, what) = how.told();
        let how = if live { ", captured live" } else { "" };
        println!("{stack} ({letter}) {what}{how}: {}", if outcome.passed() { "passed" } else { "FAILED" });
        outcomes.push(outcome);
    }
    Ok((drill, outcomes))
}

fn failures(outcomes: &[Outcome]) -> Vec<String> {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed());
    failed.map(|o| format!("{} ({}), exit {}:\n{}", o.stack, o.how.told().0, o.code, o.wrong.join("\n"))).collect()
}

/// Breaks a copy of `stack` in every way, and fails unless the comparer names each.
fn every_failure_is_seen(stack: &'static str) -> Result<(), String> {
    let instance = Instance::up(stack)?;
    let good = State::of(&instance)?;
    let unbroken = good.differences(&instance);
    if !unbroken.is_empty() {
        return Err(format!("{stack}: not the same as itself:\n{}", unbroken.join("\n")));
    }
    let seen_as = [
        (Break::Migration, "database"),
        (Break::Volume, "volume"),
        (Break::Image, "tag"),
        (Break::Database, "database:"),
        (Break::Compose, "file docker-compose"),
        (Break::Env, "file .env"),
    ];
    for (how, wanted) in seen_as {
        instance.break_it(how)?;
        let found = good.differences(&instance);
        if !found.iter().any(|line| line.starts_with(wanted)) {
            return Err(format!("{stack}, {how:?}: no {wanted:?} in\n{}", found.join("\n")));
        }
    }
    Ok(())
}

#[test]
fn the_comparer_sees_every_failure_of_the_drills() {
    need!(need::root(), need::images(), need::program("sqlite3"));
    every_failure_is_seen("equipemed").unwrap_or_else(|error| panic!("{error}"));
}

/// What concerns databases: this is tried also with captures of servers that run.
const LIVE: [Break; 3] = [Break::Migration, Break::Database, Break::All];

/// What an upgrade breaks most, and the restore that cannot succeed.
const SHARE: [Break; 4] = [Break::Image, Break::Migration, Break::All, Break::Newer];

fn comes_back_from_the_share(stack: &'static str) {
    let (_, outcomes) = run(stack, &SHARE, false).unwrap_or_else(|error| panic!("{error}"));
    let wrong = failures(&outcomes);
    assert!(wrong.is_empty(), "{} of {} failed:\n{}", wrong.len(), outcomes.len(), wrong.join("\n\n"));
}

#[test]
fn an_application_with_sqlite_comes_back_from_what_an_upgrade_breaks() {
    need!(need::root(), need::images(), need::program("sqlite3"), need::program("curl"));
    comes_back_from_the_share("equipemed");
}

#[test]
fn an_application_with_postgresql_under_the_older_compose_comes_back_from_what_an_upgrade_breaks() {
    need!(need::root(), need::images(), need::program("docker-compose"), need::program("curl"));
    comes_back_from_the_share("comicpile");
}

#[test]
#[ignore = "runs for five minutes: each of the five stacks"]
fn the_comparer_sees_every_failure_on_every_stack() {
    for stack in STACKS {
        every_failure_is_seen(stack).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
#[ignore = "runs for half an hour: `fixtures/stacks/drill`"]
fn all_forty_drills() {
    let chosen = std::env::var("SNAP_DRILL_STACKS").unwrap_or_else(|_| STACKS.join(" "));
    let letters = std::env::var("SNAP_DRILL_LETTERS").unwrap_or_else(|_| "abcdefgh".to_owned());
    let captures = std::env::var("SNAP_DRILL_CAPTURES").unwrap_or_else(|_| "stopped live".to_owned());
    let ways: Vec<Break> = Break::ALL.into_iter().filter(|how| letters.contains(how.told().0)).collect();
    let is_chosen = |stack: &&str| chosen.split_whitespace().any(|name| name == *stack);
    let rows = |live: bool| STACKS.into_iter().filter(is_chosen).map(move |stack| (stack, live));
    let is_wanted = |(stack, live): &(&str, bool)| {
        // The SQLite database is captured while it is used anyway.
        captures.contains(if *live { "live" } else { "stopped" }) && !(*live && *stack == "equipemed")
    };
    let all: Vec<_> = rows(false).chain(rows(true)).filter(is_wanted).collect();
    let (stacks, done) = (Mutex::new(all.into_iter()), Mutex::new(Vec::new()));
    // Two side by side: most of a drill is waiting for servers.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = stacks.lock().expect("a lock").next();
                    let Some((stack, live)) = next else { break };
                    let ways =
                        if live { LIVE.into_iter().filter(|how| ways.contains(how)).collect() } else { ways.clone() };
                    let row = run(stack, &ways, live).map(|(drill, outcomes)| {
                        let (create_seconds, compared) = (drill.create_seconds, drill.compared());
                        report::Row { stack, live, create_seconds, compared, outcomes }
                    });
                    done.lock().expect("a lock").push((stack, live, row));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("a lock");
    done.sort_by_key(|(stack, live, _)| (*live, STACKS.iter().position(|name| name == stack)));
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (_, _, row) in done {
        match row {
            Ok(row) => {
                wrong.extend(failures(&row.outcomes));
                rows.push(row);
            }
            Err(error) => wrong.push(error),
        }
    }
    if let Some(file) = std::env::var_os("SNAP_DRILL_REPORT") {
        std::fs::write(file, report::page(&rows)).expect("the report can be written");
    }
    assert!(wrong.is_empty(), "{} failed:\n{}", wrong.len(), wrong.join("\n\n"));
}
