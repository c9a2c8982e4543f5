//! Web servers that answer, lie, hang, drip and close.

use super::*;
use crate::monitor::Quiet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// A server on a port of its own; each connection is given to `serve` once its request is read.
fn server(serve: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = std::sync::Arc::clone(&serve);
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    request.push(byte[0]);
                }
                serve(&mut stream, &String::from_utf8_lossy(&request));
            });
        }
    });
    port
}

fn replies(text: &'static str) -> u16 {
    server(move |stream, _| {
        let _ = stream.write_all(text.as_bytes());
    })
}

fn question(port: u16, status: &str, contains: Option<&str>) -> Question {
    Question::Http {
        place: Place { host: None, port },
        host: None,
        path: "/health?deep=1".to_owned(),
        status: Statuses::parse(status).unwrap(),
        contains: contains.map(str::to_owned),
    }
}

fn ask(port: u16, contains: Option<&str>, timeout_ms: u64) -> Evidence {
    let mut proof = prove(&[check(question(port, "200", contains), timeout_ms)], &Fake::default(), &Quiet::default());
    proof.evidence.remove(0)
}

#[track_caller]
fn fails(reply: &'static str, contains: Option<&str>, why: &str) {
    let found = ask(replies(reply), contains, 300);
    assert!(!found.passed && found.answer.contains(why), "{found:?}");
}

#[track_caller]
fn passes(reply: &'static str, contains: Option<&str>) {
    let found = ask(replies(reply), contains, 2000);
    assert!(found.passed, "{found:?}");
}

#[test]
fn answers_of_every_shape_are_read() {
    passes("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, trailing", Some("hello"));
    passes("HTTP/1.0 200 OK\r\n\r\nall until the end", Some("the end"));
    passes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", Some("hello"));
    passes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None);
}

#[test]
fn wrong_answers_fail_and_say_why() {
    fails("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", None, "status 500");
    fails("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", None, "it leads elsewhere");
    fails("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nerror", Some("ok"), "does not contain");
    fails("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nok", Some("ok"), "before the end");
    fails("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nok", Some("ok"), "before the end");
    fails("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok", Some("ok"), "does not speak HTTP");
    fails("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nok", None, "does not speak HTTP");
    fails("SSH-2.0-OpenSSH_9.2\r\n", None, "does not speak HTTP");
    fails("HTTP/1.1 200", None, "before the end");
    fails("", None, "before the end");
}

#[test]
fn a_request_is_what_a_server_expects() {
    let port = server(|stream, request| {
        let right = request.starts_with("GET /health?deep=1 HTTP/1.1\r\nHost: localhost:")
            && request.contains("\r\nConnection: close\r\n");
        let _ = stream.write_all(if right { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 400 No\r\n\r\n" });
    });
    assert!(ask(port, None, 2000).passed);
}

#[test]
fn a_server_that_hangs_or_drips_is_given_up_in_time() {
    let hang = server(|_, _| std::thread::sleep(Duration::from_secs(30)));
    let drip = server(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        for _ in 0..300 {
            let _ = stream.write_all(b".");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let flood = server(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X: y\r\n").is_ok() {}
    });
    let started = Instant::now();
    for (port, why) in [(hang, "does not answer in time"), (drip, "does not answer in time"), (flood, "without an end")]
    {
        let found = ask(port, None, 700);
        assert!(!found.passed && found.answer.contains(why), "{found:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_page_without_end_is_looked_at_as_far_as_it_goes() {
    let port = server(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nneedle");
        while stream.write_all(&[b'.'; 4096]).is_ok() {}
    });
    assert!(ask(port, Some("needle"), 5000).passed);
    assert!(!ask(port, Some("thread"), 300).passed);
}

#[test]
fn a_server_that_is_slow_to_start_is_waited_for() {
    let place = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        let listener = TcpListener::bind(place).unwrap();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let found = ask(place.port(), Some("ok"), 10_000);
    assert!(found.passed && found.attempts > 1, "{found:?}");
}

#[test]
fn a_port_is_open_or_closed() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = |port| check(Question::Tcp(Place { host: Some("localhost".to_owned()), port }), 300);
    let proof = prove(&[tcp(open.local_addr().unwrap().port()), tcp(closed)], &Fake::default(), &Quiet::default());
    assert!(proof.evidence[0].passed && !proof.evidence[1].passed, "{proof:?}");
    assert!(proof.evidence[1].answer.starts_with("nothing listens at"), "{proof:?}");
}

#[test]
fn one_that_hangs_holds_up_no_other() {
    let hang = server(|_, _| std::thread::sleep(Duration::from_secs(30)));
    let good = replies("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let checks = [check(question(hang, "200", None), 1500), check(question(good, "2xx", None), 1500)];
    let proof = prove(&checks, &Fake::default(), &Quiet::default());
    assert_eq!(proof.verdict, Verdict::Failed);
    assert!(proof.evidence[1].passed && proof.evidence[1].seconds < 1.0, "{proof:?}");
}
