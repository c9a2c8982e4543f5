//! The verdict, and checks that an engine answers.

use super::*;
use crate::monitor::Quiet;
use crate::repo::manifest::{Authority, Dump, DumpedTable};

fn fake(states: Vec<Vec<ContainerState>>) -> Fake {
    Fake { states: HashMap::from([("web", states)]), ..Fake::default() }
}

fn steady(ms: u64) -> Question {
    Question::Steady(Duration::from_millis(ms))
}

#[test]
fn without_any_check_nothing_is_verified() {
    let proof = prove(&[], &Fake::default(), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::NotVerified);
    assert_eq!(proof.verdict.words(), "not verified");
}

#[test]
fn a_container_that_merely_runs_is_not_called_healthy() {
    let proof = prove(&[check(steady(300), 2000)], &fake(vec![vec![up(0)]]), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::NotVerified);
    assert!(proof.evidence[0].passed && !proof.evidence[0].proves);
    assert!(proof.evidence[0].seconds >= 0.3, "{:?}", proof.evidence);
}

#[test]
fn a_service_that_restarts_again_and_again_fails() {
    let states = (0..100).map(|n| vec![up(n)]).collect();
    let proof = prove(&[check(steady(500), 1500)], &fake(states), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::Failed);
    assert!(proof.evidence[0].attempts > 2);
}

#[test]
fn a_service_that_has_ended_fails_with_its_exit_code() {
    let down = ContainerState { running: false, exit_code: Some(3), ..up(4) };
    let proof = prove(&[check(steady(100), 600)], &fake(vec![vec![down]]), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::Failed);
    assert!(proof.evidence[0].answer.contains("exit code 3"), "{:?}", proof.evidence);
    let proof = prove(&[check(steady(100), 400)], &fake(vec![vec![]]), &Quiet::default());
    assert_eq!(proof.evidence[0].answer, "it has no container");
    let proof = prove(&[check(steady(100), 400)], &Fake::default(), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::Failed);
}

#[test]
fn a_healthcheck_is_waited_for_and_unhealthy_is_a_failure() {
    let health = |health| vec![ContainerState { health, ..up(0) }];
    let starting = health(Some(ContainerHealth::Starting));
    let recovers =
        vec![starting.clone(), health(Some(ContainerHealth::Unhealthy)), health(Some(ContainerHealth::Healthy))];
    let proof = prove(&[check(Question::Container, 5000)], &fake(recovers), &Quiet::default());
    assert_eq!((proof.verdict, proof.evidence[0].attempts), (Verdict::Healthy, 3));
    for (states, answer) in [
        (starting, "starting"),
        (health(Some(ContainerHealth::Unhealthy)), "unhealthy"),
        (health(None), "its container has no healthcheck"),
    ] {
        let proof = prove(&[check(Question::Container, 500)], &fake(vec![states]), &Quiet::default());
        assert_eq!((proof.verdict, proof.evidence[0].answer.as_str()), (Verdict::Failed, answer));
    }
}

#[test]
fn a_service_that_falls_over_after_it_had_passed_fails() {
    let down = ContainerState { running: false, exit_code: Some(1), ..up(0) };
    let checks = [check(steady(0), 1000)];
    let proof = prove(&checks, &fake(vec![vec![up(0)], vec![down]]), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::Failed);
    assert!(proof.evidence[0].answer.starts_with("after it had passed"), "{:?}", proof.evidence);
}

#[test]
fn rows_queries_commands_and_files_are_judged() {
    let sql = |expect: Option<&str>| {
        let expect = expect.map(str::to_owned);
        Question::Sql { database: None, query: "select count(*) from users".to_owned(), expect }
    };
    let rows = |rows| {
        let table = DumpedTable { name: "users".to_owned(), rows, offset: None, bytes: None };
        let dump = Dump { file: "f".to_owned(), database: "app".to_owned(), tables: vec![table] };
        let (engine, version, service) = ("postgresql".to_owned(), String::new(), "db".to_owned());
        let detail = DatabaseDetail { engine, version, service, authority: Authority::Dump, dumps: vec![dump] };
        Question::Rows(Box::new(detail))
    };
    let command = |contains: Option<&str>| Question::Command {
        command: vec!["true".to_owned()],
        contains: contains.map(str::to_owned),
    };
    let engine = Fake { answer: "5", rows: 5, output: "all well", files: vec!["/s/m.json"], ..Fake::default() };
    let cases = [
        (sql(Some("5")), true),
        (sql(Some(">= 6")), false),
        (sql(None), true),
        (rows(5), true),
        (rows(6), false),
        (command(None), true),
        (command(Some("well")), true),
        (command(Some("ill")), false),
        (Question::File("/s/m.json".to_owned()), true),
        (Question::File("/s/x".to_owned()), false),
    ];
    for (question, passes) in cases {
        let proof = prove(&[check(question.clone(), 300)], &engine, &Quiet::default());
        assert_eq!(proof.verdict == Verdict::Healthy, passes, "{question:?}: {:?}", proof.evidence);
    }
    let failing = Fake { code: 1, output: "s3cret", ..Fake::default() };
    let proof = prove(&[check(command(None), 300), check(sql(None), 300)], &failing, &Quiet::default());
    let answers: Vec<_> = proof.evidence.iter().map(|found| found.answer.as_str()).collect();
    assert_eq!(answers, ["exit code 1", "the server is starting up"]);
}

#[test]
fn the_person_can_stop_the_waiting() {
    let monitor = Quiet::default();
    monitor.cancel();
    let started = Instant::now();
    let proof = prove(&[check(Question::File("/x".to_owned()), 60_000)], &Fake::default(), &monitor);
    assert!(proof.stopped && started.elapsed() < Duration::from_secs(5));
    assert_eq!(proof.verdict, Verdict::Failed);
}
