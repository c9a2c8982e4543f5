//! An engine that gives broken answers: each must become an error, never an end or a wait.

use super::*;
use crate::monitor::Quiet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Answers each request with what `reply` says, given the request's first line.
fn serve(reply: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reply = std::sync::Arc::new(reply);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let reply = reply.clone();
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let head = read_head(&mut stream);
                let line = head.lines().next().unwrap_or_default().to_owned();
                // A connection that is closed with something unread is reset.
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                stream.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
                if line.starts_with("GET /version ") {
                    let body = r#"{"Version":"99","ApiVersion":"1.99","MinAPIVersion":"1.24"}"#;
                    return send(&mut stream, &whole("200 OK", body));
                }
                reply(&line, &mut stream);
            });
        }
    });
    Endpoint::Tcp(address)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _gone = stream.write_all(bytes);
}

fn whole(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn engine(answer: impl Into<Vec<u8>>) -> Engine {
    let answer = answer.into();
    Engine::connect(serve(move |_, stream| send(stream, &answer))).unwrap()
}

#[test]
fn the_version_of_the_api_is_negotiated() {
    let engine = engine(whole("200 OK", "[]"));
    assert_eq!((engine.version(), engine.api().as_str()), ("99", "1.47"));
    for (api, min) in [("1.39", "1.12"), ("1.60", "1.50")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let body = format!(r#"{{"ApiVersion":"{api}","MinAPIVersion":"{min}"}}"#);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            send(&mut stream, &whole("200 OK", &body));
        });
        let error = Engine::connect(Endpoint::Tcp(address)).unwrap_err();
        assert!(matches!(error, Error::ApiVersion { .. }), "{error}");
    }
}

#[test]
fn ways_in_which_there_is_no_engine_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Engine::connect(Endpoint::Unix(dir.path().join("gone.sock"))).unwrap_err();
    assert!(matches!(gone, Error::NoSocket { .. }) && gone.is_unreachable(), "{gone}");
    let path = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let dead = Engine::connect(Endpoint::Unix(path)).unwrap_err();
    assert!(matches!(dead, Error::NotRunning { .. }), "{dead}");
    assert!(dead.hint().is_some());
}

#[test]
fn refusals_keep_status_and_words() {
    let error = engine(whole("500 Internal Server Error", r#"{"message":"disk on fire"}"#)).volume("v").unwrap_err();
    assert_eq!(error.to_string(), "cannot inspect volume v: disk on fire (status 500)");
    let missing = engine(whole("404 Not Found", r#"{"message":"no such volume"}"#)).volume("v").unwrap_err();
    assert!(missing.is_not_found() && !missing.is_conflict());
    let conflict = engine(whole("409 Conflict", "plain words\nmore")).remove_volume("v").unwrap_err();
    assert!(conflict.is_conflict() && conflict.to_string().contains("plain words (status 409)"), "{conflict}");
    let same = engine("HTTP/1.1 304 Not Modified\r\n\r\n".as_bytes().to_vec());
    assert!(!same.start("c").unwrap());
}

#[test]
fn broken_answers_are_errors() {
    let cut_length = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]".to_vec();
    let cut_chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n".to_vec();
    let huge_header = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 1 << 20], b"\r\n\r\n"].concat();
    let no_http = b"SSH-2.0-OpenSSH\r\n".to_vec();
    for (name, answer) in [("length", cut_length), ("chunk", cut_chunk), ("header", huge_header), ("ssh", no_http)] {
        let error = engine(answer).networks().unwrap_err();
        assert!(matches!(error, Error::Connection { .. }), "{name}: {error}");
    }
    for body in ["<html>", "", r#"{"a":1}"#, r#"[{"Name":5}]"#] {
        let error = engine(whole("200 OK", body)).networks().unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{body}: {error}");
    }
}

#[test]
fn a_cut_stream_is_never_taken_for_whole() {
    let monitor = Quiet::default();
    let answers: [(&str, bool); 4] = [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", false),
    ];
    for (answer, is_whole) in answers {
        let engine = engine(answer.as_bytes().to_vec());
        let mut body = engine.export_images(&["x"], &monitor).unwrap();
        let mut text = String::new();
        let outcome = body.read_to_string(&mut text);
        assert_eq!(outcome.is_ok(), is_whole, "{answer}");
        assert!(!is_whole || text == "hello");
    }
    let endless = engine(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec());
    assert!(matches!(endless.export_images(&["x"], &monitor), Err(Error::Answer { .. })));
}

#[test]
fn an_error_in_the_middle_of_a_report_is_an_error() {
    let report =
        "{\"stream\":\"Loaded image: a:1\\n\"}\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\n";
    let error = engine(whole("200 OK", report)).load_images("x", &mut [0u8; 10].as_slice(), &Quiet::default());
    assert!(error.unwrap_err().to_string().contains("no space"));
    let good = engine(whole("200 OK", "{\"stream\":\"Loaded image: a:1\\n\"}\r\n"));
    let loaded = good.load_images("x", &mut [0u8; 10].as_slice(), &Quiet::default()).unwrap();
    assert_eq!(loaded.images, ["a:1"]);
}

#[test]
fn an_input_that_fails_cuts_the_upload() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 <= 3 {
                return Ok(buffer.len());
            }
            // What was given before is on its way by then.
            std::thread::sleep(Duration::from_millis(300));
            Err(std::io::Error::other("gone"))
        }
    }
    let (told, heard) = std::sync::mpsc::channel();
    let endpoint = serve(move |_, stream| {
        let mut body = Vec::new();
        let _reset = stream.read_to_end(&mut body);
        told.send((body.len(), body.ends_with(b"0\r\n\r\n"))).unwrap();
    });
    let engine = Engine::connect(endpoint).unwrap();
    let error = engine.load_images("x", &mut Failing(0), &Quiet::default()).unwrap_err();
    assert!(matches!(error, Error::Input { .. }), "{error}");
    let (bytes, ended) = heard.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(bytes > 3 * (256 << 10) && !ended, "the request ended as if it were whole");
}

#[test]
fn an_engine_that_hangs_does_not_hold_up_who_wants_to_stop() {
    let hang = || {
        let endpoint = serve(|_, _| std::thread::sleep(Duration::from_secs(60)));
        Engine::connect(endpoint).unwrap()
    };
    let (begun, monitor) = (Instant::now(), Quiet::default());
    let limited = hang().wait("c", Some(Duration::from_millis(300)), &monitor).unwrap_err();
    assert!(matches!(limited, Error::Timeout { .. }), "{limited}");
    monitor.cancel();
    assert!(hang().wait("c", None, &monitor).unwrap_err().is_cancelled());
    assert!(hang().export_images(&["x"], &monitor).unwrap_err().is_cancelled());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn passwords_come_out_nowhere() {
    let body = r#"{"message":"invalid environment variable: PW=canary-1234"}"#;
    let engine = engine(whole("400 Bad Request", body));
    let spec = ExecSpec { env: vec![("PW".into(), "canary-1234".into())], ..ExecSpec::new(["true"]) };
    let error = engine.exec("c", &spec, &Quiet::default()).unwrap_err();
    let made = engine.create_container("c", &serde_json::json!({"Env": ["PW=canary-1234"]})).unwrap_err();
    let environment = Environment::from(vec!["PW=canary-1234".to_owned()]);
    for text in [format!("{error} {error:?} {made} {made:?}"), format!("{spec:?} {environment:?}")] {
        assert!(text.contains("PW") && !text.contains("canary"), "{text}");
    }
    assert_eq!(environment.get("PW"), Some("canary-1234"));
}

#[test]
fn a_program_whose_output_is_cut_has_failed() {
    let frame = |content: &[u8]| [&[1, 0, 0, 0, 0, 0, 0, 5], content].concat();
    for (output, is_whole) in [(frame(b"hello"), true), (frame(b"hel"), false), (b"hello".to_vec(), false)] {
        let endpoint = serve(move |line, stream| match line {
            _ if line.contains("/exec/e/start") => {
                send(stream, b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
                send(stream, &output);
            }
            _ if line.contains("/exec/e/json") => {
                send(stream, &whole("200 OK", r#"{"Running":false,"ExitCode":0}"#));
            }
            _ => send(stream, &whole("201 Created", r#"{"Id":"e"}"#)),
        });
        let engine = Engine::connect(endpoint).unwrap();
        let outcome = engine.run("c", &ExecSpec::new(["true"]), None, &Quiet::default());
        assert_eq!(outcome.is_ok(), is_whole, "{outcome:?}");
        assert!(!is_whole || outcome.unwrap().stdout == b"hello");
    }
}

#[test]
fn a_program_without_an_exit_code_has_failed() {
    let endpoint = serve(|line, stream| match line {
        _ if line.contains("/exec/e/start") => {
            send(stream, b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
        }
        _ if line.contains("/exec/e/json") => send(stream, &whole("404 Not Found", r#"{"message":"no such exec"}"#)),
        _ => send(stream, &whole("201 Created", r#"{"Id":"e"}"#)),
    });
    let engine = Engine::connect(endpoint).unwrap();
    let outcome = engine.run("c", &ExecSpec::new(["true"]), None, &Quiet::default());
    assert!(outcome.is_err_and(|error| error.is_not_found()));
}
