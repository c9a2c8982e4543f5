//! The page that the forty drills write: what was broken, how `snap restore` ended, how long it took.

use super::drill::Outcome;
use super::instance::Break;
use std::fmt::Write;

/// One stack's drills.
pub struct Row {
    pub stack: &'static str,
    pub create_seconds: f64,
    pub outcomes: Vec<Outcome>,
}

/// The whole page, as Markdown.
pub fn page(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    let columns: Vec<String> = rows.iter().map(|row| row.stack.to_owned()).collect();
    line(&mut text, "", "what was broken", &columns);
    line(&mut text, "---", "---", &vec!["---".to_owned(); rows.len()]);
    for how in Break::ALL {
        let (letter, _, what) = how.told();
        let cells: Vec<String> = rows.iter().map(|row| cell(row, how)).collect();
        line(&mut text, &letter.to_string(), what, &cells);
    }
    let captured: Vec<String> = rows.iter().map(|row| format!("{:.1} s", row.create_seconds)).collect();
    line(&mut text, "", "first `snap create`", &captured);
    let all = || rows.iter().flat_map(|row| &row.outcomes);
    let passed = all().filter(|outcome| outcome.passed()).count();
    let _ = writeln!(text, "\n{passed} of {} drills passed.", all().count());
    for outcome in all().filter(|outcome| !outcome.passed()) {
        let first = outcome.wrong.first().and_then(|wrong| wrong.lines().next()).unwrap_or_default();
        let _ = writeln!(text, "\n- {} ({}): {first}", outcome.stack, outcome.how.told().0);
    }
    text
}

fn cell(row: &Row, how: Break) -> String {
    match row.outcomes.iter().find(|outcome| outcome.how == how) {
        None => "not run".to_owned(),
        Some(outcome) if outcome.passed() => format!("exit {}, {:.1} s", outcome.code, outcome.seconds),
        Some(outcome) => format!("**failed**, exit {}, {:.1} s", outcome.code, outcome.seconds),
    }
}

fn line(text: &mut String, letter: &str, what: &str, cells: &[String]) {
    let _ = writeln!(text, "| {letter} | {what} | {} |", cells.join(" | "));
}

const HEAD: &str = "# Drills

Five applications, each made after the rollback handbook of an operator (`fixtures/stacks/README.md`), are captured
once while they run, then broken in each of these ways and brought back with `snap restore ID --yes`. This page is
written by `fixtures/stacks/drill`, which runs all of it; a share runs with the tests.

A drill passes if the handbook's own checks fail on the broken application, `snap restore` ends with the code that
stands here, the handbook's checks pass at once, and an independent comparer (`tests/it/drills/state.rs`) finds all as
it was at the moment of capture: files and volumes with owners, modes and times, the volumes' labels, image ids and
tags, the containers' settings and Compose's own hash of them, every row, schema object, role and grant by SQL, and
everything running and healthy. In (h) the captured version needs a partner service that has been switched off since:
the restore must end with 6 and leave the newer version running, exactly as it was; with the partner back, the same
restore must end with 0.

";
