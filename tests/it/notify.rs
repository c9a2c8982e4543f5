//! Whoever wants to know how commands end is told; whether that works changes nothing about them, and the
//! addresses, which are secrets, stand nowhere.

use crate::forget::history;
use crate::snap::{Run, Sandbox, exit};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

const SECRET: &str = "s3cr3t-7f3a9c21";

/// What a server was told.
#[derive(Debug, Clone)]
struct Message {
    path: String,
    headers: Vec<String>,
    body: String,
}

/// A server that answers each request as `answer` says, or not at all.
struct Server {
    port: u16,
    told: Receiver<Message>,
}

impl Server {
    fn new(answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, told) = channel();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                let Some(message) = read(&stream) else { continue };
                let _ = sender.send(message);
                match answer {
                    Some(status) => {
                        drop(write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
                    }
                    None => kept.push(stream),
                }
            }
        });
        Self { port, told }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{SECRET}/{path}", self.port)
    }

    /// All that it was told since, sorted by path: what goes to different places goes at once.
    fn told(&self) -> Vec<Message> {
        let mut all: Vec<Message> = self.told.try_iter().collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    fn paths(&self) -> Vec<String> {
        let start = format!("/{SECRET}/");
        self.told().into_iter().map(|one| one.path.replace(&start, "")).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Message> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    assert!(line.starts_with("POST "), "{line}");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            text => headers.push(text.to_owned()),
        }
    }
    let len = headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Message { path, headers, body: String::from_utf8(body).expect("a text") })
}

fn settings(sandbox: &Sandbox, text: &str) {
    for folder in ["", "source"] {
        fs::write(sandbox.path(folder).join("snap.toml"), text).expect("a file");
    }
}

#[track_caller]
fn keeps_the_secret(sandbox: &Sandbox, run: &Run) {
    assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{run}");
    for path in crate::compare::paths(&sandbox.path("home")) {
        let path = sandbox.path("home").join(path);
        let found = path.is_file()
            && fs::read(&path).expect("a file").windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        // The state cache names the file that holds it, and its content is sealed.
        assert!(!found, "{} holds it", path.display());
    }
}

#[test]
fn webhooks_pings_and_ntfy_are_told_how_commands_end() {
    let (sandbox, _) = history(1);
    let server = Server::new(Some("200 OK"));
    fs::write(sandbox.path("token"), "tk_word\n").expect("a file");
    fs::write(sandbox.path("source/token"), "tk_word\n").expect("a file");
    let text = format!(
        "[notify.webhook]\nurl = \"{}\"\n[notify.ntfy]\nurl = \"{}\"\ntoken-file = \"token\"\n\
         [notify.ping]\ncreate = \"{}\"\ncheck = \"{}\"\n",
        server.url("hook"),
        server.url("topic"),
        server.url("ping?create=1"),
        server.url("checked")
    );
    settings(&sandbox, &text);
    let run = sandbox.must("create source", exit::DONE);
    keeps_the_secret(&sandbox, &run);
    let told = server.told();
    let paths: Vec<&str> = told.iter().map(|one| one.path.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(paths, ["hook", "start?create=1", "ping?create=1"], "{told:?}");
    let hook: Value = serde_json::from_str(&told[0].body).expect("JSON");
    let expected = [("command", "create"), ("subject", "source"), ("result", "ok"), ("event", "end"), ("message", "")];
    for (field, value) in expected {
        assert_eq!(hook[field], value, "{hook}");
    }
    assert_eq!((&hook["exit_code"], hook["time"].is_number()), (&0.into(), true), "{hook}");
    assert_eq!(hook["repository"], sandbox.repo().display().to_string().as_str());
    assert!(told[0].headers.iter().any(|line| line.eq_ignore_ascii_case("content-type: application/json")), "{told:?}");
    // What fails is told to all, with the reason.
    fs::rename(sandbox.repo(), sandbox.path("away")).expect("a folder");
    let run = sandbox.must("create source", exit::NO_REPOSITORY);
    keeps_the_secret(&sandbox, &run);
    let told = server.told();
    let paths: Vec<&str> = told.iter().map(|one| one.path.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(paths, ["hook", "fail?create=1", "start?create=1", "topic"], "{told:?}");
    let hook: Value = serde_json::from_str(&told[0].body).expect("JSON");
    assert_eq!((&hook["result"], &hook["exit_code"]), (&"failed".into(), &exit::NO_REPOSITORY.into()), "{hook}");
    assert!(
        told[1].body.contains("there is no repository at") && told[3].body.contains("create of source"),
        "{told:?}"
    );
    let has = |line: &str| told[3].headers.iter().any(|found| found.eq_ignore_ascii_case(line));
    assert!(has("authorization: Bearer tk_word") && has("priority: high"), "{told:?}");
    fs::rename(sandbox.path("away"), sandbox.repo()).expect("a folder");
    // A check whose budget has ended did its part, and says so to the webhook.
    sandbox.must("check --max-age 1d --budget 0s", exit::INCOMPLETE);
    assert_eq!(server.paths(), ["checked", "checked/start", "hook"]);
    for line in ["prune", "replicate replica", "restore latest --target t"] {
        sandbox.must(line, exit::DONE);
        assert_eq!(server.paths(), ["hook"], "{line}");
    }
    // What only looks is not told.
    for line in ["list", "status", "prune --dry-run", "create source --plan"] {
        sandbox.snap(&line.split(' ').collect::<Vec<_>>());
        assert!(server.paths().is_empty(), "{line}");
    }
}

#[test]
fn a_message_that_is_not_delivered_changes_nothing_but_a_warning() {
    let (sandbox, _) = history(1);
    let refuses = Server::new(Some("403 Forbidden"));
    let silent = Server::new(None);
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let cases = [
        (refuses.url("x"), "answered with 403"),
        (silent.url("x"), "did not answer within 1 s"),
        (format!("http://127.0.0.1:{gone}/{SECRET}"), "cannot be reached"),
        (SECRET.to_owned(), "no address"),
        (format!("ftp://{SECRET}/"), "no address"),
    ];
    for (url, text) in cases {
        settings(&sandbox, &format!("[notify]\ntimeout = \"1s\"\nwebhook.url = \"{url}\"\n"));
        let run = sandbox.must("create source --json", exit::DONE);
        assert!(run.json()["snapshot"]["complete"] == true && run.stderr.contains(text), "{run}");
        let run = sandbox.must("check", exit::DONE);
        assert!(run.stderr.contains("[notify] webhook") && run.stderr.contains(text), "{text}: {run}");
        keeps_the_secret(&sandbox, &run);
    }
    assert_eq!(refuses.told().len(), 2, "a refusal is not asked again");
    // A server that fails is asked a second time.
    let failing = Server::new(Some("503 Busy"));
    settings(&sandbox, &format!("[notify]\nwebhook.url = \"{}\"\n", failing.url("x")));
    assert!(sandbox.must("check", exit::DONE).stderr.contains("answered with 503"));
    assert_eq!(failing.told().len(), 2);
    // Settings that make no sense are told of too, without the address in them.
    for wrong in [
        format!("webhook = \"http://{SECRET}/\""),
        format!("ping.list = \"http://{SECRET}/\""),
        format!("webhook = {{ url = \"http://{SECRET}/\", often = true }}"),
        format!("ntfy = {{ url = \"http://{SECRET}/\", token-file = \"nowhere\" }}"),
    ] {
        settings(&sandbox, &format!("[notify]\n{wrong}\n"));
        let run = sandbox.must("check", exit::DONE);
        assert!(run.stderr.contains("nobody is told of this"), "{wrong}: {run}");
        keeps_the_secret(&sandbox, &run);
    }
}
