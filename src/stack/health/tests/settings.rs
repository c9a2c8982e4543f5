//! Checks as people write them.

use super::super::settings::{CheckSetting, checks_of_labels, checks_of_settings};
use super::*;
use std::collections::BTreeMap;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn labels_name_checks() {
    let found = checks_of_labels(
        "web",
        &labels(&[
            ("com.example", "x"),
            ("snap.stop", "true"),
            ("snap.health.http", ":8000/health/"),
            ("snap.health.contains", "ok"),
            ("snap.health.login.http", "http://127.0.0.1:8080/login?next=/"),
            ("snap.health.login.status", "200-399"),
            ("snap.health.login.timeout", "2m"),
            ("snap.health.users.sql", "select count(*) from users"),
            ("snap.health.users.expect", ">= 5"),
            ("snap.health.smtp.tcp", ":587"),
            ("snap.health.static.file", "/static/manifest.json"),
            ("snap.health.django.command", "python manage.py check --database default"),
        ]),
    )
    .unwrap();
    let names: Vec<_> = found.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["GET :8000/health/", "django", "login", "smtp", "static", "users"]);
    assert_eq!(
        found[0].question,
        Question::Http {
            place: Place { host: None, port: 8000 },
            host: None,
            path: "/health/".to_owned(),
            status: Statuses::SUCCESS,
            contains: Some("ok".to_owned()),
        }
    );
    assert_eq!(found[2].timeout, Duration::from_secs(120));
    assert_eq!(found[3].question, Question::Tcp(Place { host: None, port: 587 }));
    assert!(found.iter().all(|check| check.service == "web"));
}

#[test]
fn what_belongs_to_a_check_stands_beside_it_and_a_label_below_it_is_told_so() {
    let said = [("snap.health.http", ":8000/"), ("snap.health.http.timeout", "2m")];
    let error = checks_of_labels("web", &labels(&said)).unwrap_err().to_string();
    let wanted = ["snap.health.http.timeout of service web", "write snap.health.timeout", "snap.health.NAME.timeout"];
    assert!(wanted.iter().all(|wanted| error.contains(wanted)), "{error}");
    // A check may have any name.
    let said = [("snap.health.http.http", ":8000/"), ("snap.health.http.timeout", "2m")];
    assert_eq!(checks_of_labels("web", &labels(&said)).unwrap()[0].timeout, Duration::from_secs(120));
}

#[test]
fn what_cannot_be_understood_is_an_error_and_no_silence() {
    let wrong = [
        ("snap.health.htpp", ":80/"),
        ("snap.health.http", "https://x/"),
        ("snap.health.http", "localhost:80/"),
        ("snap.health.http", ":port/"),
        ("snap.health.http", ":80/a b"),
        ("snap.health.http", "http://me:secret@x/"),
        ("snap.health.tcp", "5432"),
        ("snap.health.tcp", ":0"),
        ("snap.health.file", "manifest.json"),
        ("snap.health.status", "200"),
        ("snap.health.expect", "5"),
        ("snap.health.a.timeout", "5s"),
    ];
    for (name, value) in wrong {
        let error = checks_of_labels("web", &labels(&[(name, value)])).expect_err(name);
        assert!(error.to_string().contains("of service web"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for (name, value) in [("snap.health.status", "2000"), ("snap.health.timeout", "soon"), ("snap.health.host", "a b")]
    {
        checks_of_labels("web", &labels(&[("snap.health.http", ":80"), (name, value)])).expect_err(name);
    }
}

#[test]
fn settings_name_checks() {
    let text = "name = \"page\"\nservice = \"web\"\nhttp = \":8000\"\nhost = \"clinic.example\"\ntcp = \"[::1]:25\"";
    let setting: CheckSetting = toml::from_str(text).unwrap();
    let found = checks_of_settings(&[setting]).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].question, Question::Tcp(Place { host: Some("::1".to_owned()), port: 25 }));
    assert!(matches!(&found[0].question, Question::Http { path, .. } if path == "/"));
    assert!(toml::from_str::<CheckSetting>("htpp = \":80\"").is_err());
    let error = checks_of_settings(&[CheckSetting { tcp: Some(":1".to_owned()), ..Default::default() }]).unwrap_err();
    assert_eq!(error.to_string(), "check 1 in snap.toml: it names no service");
}

#[test]
fn ranges_of_status_codes() {
    assert_eq!(Statuses::parse("2xx"), Some(Statuses { first: 200, last: 299 }));
    assert_eq!(Statuses::parse("200-399"), Some(Statuses { first: 200, last: 399 }));
    assert_eq!(Statuses::parse(" 204 "), Some(Statuses { first: 204, last: 204 }));
    for wrong in ["", "xx", "6xx", "99", "399-200", "200-", "ok"] {
        assert_eq!(Statuses::parse(wrong), None, "{wrong}");
    }
}
