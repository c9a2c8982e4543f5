//! The page that the forty drills write: where they ran, what was broken, how `snap restore` ended, how long it took,
//! and how much was compared.

use super::drill::Outcome;
use super::instance::{Break, docker};
use super::state::Compared;
use crate::snap::{WATCHDOG, program, run};
use std::fmt::Write;
use std::process::{Command, Stdio};

/// One stack's drills.
pub struct Row {
    pub stack: &'static str,
    /// Captured while its servers ran.
    pub live: bool,
    pub create_seconds: f64,
    pub compared: Compared,
    pub outcomes: Vec<Outcome>,
}

/// The whole page, as Markdown.
pub fn page(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    let all = || rows.iter().flat_map(|row| &row.outcomes);
    let passed = all().filter(|outcome| outcome.passed()).count();
    let _ = writeln!(text, "**{passed} of {} drills passed.** {}\n", all().count(), setting());
    let (live, stopped): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.live);
    if !stopped.is_empty() {
        table(&mut text, &stopped, &Break::ALL);
    }
    text.push_str(KEY);
    if !live.is_empty() {
        text.push_str(LIVE);
        table(&mut text, &live, &super::LIVE);
    }
    for outcome in all().filter(|outcome| !outcome.passed()) {
        let first = outcome.wrong.first().and_then(|wrong| wrong.lines().next()).unwrap_or_default();
        let _ = writeln!(text, "\n- {} ({}): {first}", outcome.stack, outcome.how.told().0);
    }
    text.push_str("\n## How much was captured and compared\n\n");
    text.push_str("| stack | first `snap create` | files, folders, links | volumes | containers | image tags | tables with all rows | other answers of the servers |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for Row { stack, live, create_seconds, compared, .. } in rows {
        let stack = format!("{stack}{}", if *live { ", live" } else { "" });
        let Compared { files, volumes, containers, tags, tables, answers } = compared;
        let _ = writeln!(
            text,
            "| {stack} | {create_seconds:.1} s | {files} | {volumes} | {containers} | {tags} | {tables} | {answers} |"
        );
    }
    text
}

fn table(text: &mut String, rows: &[&Row], ways: &[Break]) {
    let columns: Vec<String> = rows.iter().map(|row| row.stack.to_owned()).collect();
    line(text, "", "what was broken", &columns);
    line(text, "---", "---", &vec!["---".to_owned(); rows.len()]);
    for how in ways {
        let (letter, _, what) = how.told();
        let cells: Vec<String> = rows.iter().map(|row| cell(row, *how)).collect();
        line(text, &letter.to_string(), what, &cells);
    }
}

fn cell(row: &Row, how: Break) -> String {
    match row.outcomes.iter().find(|outcome| outcome.how == how) {
        None => "not run".to_owned(),
        Some(outcome) => {
            let failed = if outcome.passed() { "" } else { "**failed**, " };
            format!("{failed}exit {}, {:.1} s, down {:.1} s", outcome.code, outcome.seconds, outcome.down_seconds)
        }
    }
}

fn line(text: &mut String, letter: &str, what: &str, cells: &[String]) {
    let _ = writeln!(text, "| {letter} | {what} | {} |", cells.join(" | "));
}

/// When, where and with what: everything that a time depends on.
fn setting() -> String {
    let said = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        let told = run(command, WATCHDOG).ok().filter(|done| done.code == 0).map(|done| done.stdout.trim().to_owned());
        told.unwrap_or_else(|| format!("{program}: unknown"))
    };
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let gigabytes =
        field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1048576.0;
    let engine = docker(&["info", "--format", "{{.ServerVersion}} ({{.Driver}})"]).unwrap_or_default();
    format!(
        "Run on {} on a machine with {} cores ({}), {gigabytes:.0} GiB of memory and Linux {}, with snap {} ({}), \
         Docker {}, Compose {} and {}, and the servers of `fixtures/images/README.md`.",
        said("date", &["+%F"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        field("/proc/cpuinfo", "model name"),
        said("uname", &["-r"]).split('-').next().unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
        if program().components().any(|part| part.as_os_str() == "release") {
            "a release build"
        } else {
            "the tests' build, which is slower"
        },
        engine.trim(),
        said("docker", &["compose", "version", "--short"]),
        said("docker-compose", &["version", "--short"]),
    )
}

const HEAD: &str = "# Drills

Five applications, each made after the rollback handbook of an operator (`fixtures/stacks/README.md`), are captured
once, then broken in each of these ways and brought back with `snap restore ID --yes`. This page is written by
`fixtures/stacks/drill`, which runs all of it; (c), (d), (g) and (h) on two of the stacks run with the tests.

A drill passes if the handbook's own checks fail on the broken application, `snap restore` ends with the code that
stands here, the handbook's checks pass at once, and an independent comparer (`tests/it/drills/state.rs`) finds all as
it was at the moment of capture: files and volumes with owners, modes and times, the volumes' labels, image ids and
tags, the containers' settings and Compose's own hash of them, every row, schema object, role and grant by SQL, and
everything running and healthy. In (h) the captured version needs a partner service that has been switched off since:
the restore must end with 6 and leave the newer version running, exactly as it was; with the partner back, the same
restore must end with 0. Servers are stopped for the capture (`create --stop`), so that their own files are kept; the
SQLite database is captured while it is used.

";

const LIVE: &str = "
## Captured live

The same while the servers run: their databases are captured as dumps, and brought back from them. SQLite's is captured
like that above.

";

const KEY: &str = "
Seconds from the command to its end, and, of them, how long services were down: from the first stop until the last had
proved itself. A restore that must fail (h) gives the application a minute to become healthy, and then goes back.
Two stacks were drilled side by side, and other work ran beside: the times are upper bounds.
";
