//! A server that others have written, in another language: that `snap` asks as S3 is asked.

use super::person;
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, exit, kill_group};
use crate::trees::source_tree;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LONGEST_START: Duration = Duration::from_secs(120);

/// A running `moto_server`.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// It takes a free port, and says which.
    fn start() -> Self {
        let said = tempfile::NamedTempFile::new().expect("a file");
        let to = || Stdio::from(said.reopen().expect("the file"));
        let mut command = Command::new(need::find_program("moto_server").expect("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to()).process_group(0);
        let mut moto = Self { child: command.spawn().expect("moto_server starts"), port: 0 };
        let begun = Instant::now();
        while moto.port == 0 {
            assert!(begun.elapsed() < LONGEST_START, "moto_server does not say where it is");
            std::thread::sleep(Duration::from_millis(50));
            let text = std::fs::read_to_string(said.path()).expect("what it says");
            let after = text.split("http://127.0.0.1:").nth(1).and_then(|rest| rest.split_once('\n'));
            moto.port = after.and_then(|(port, _)| port.trim().parse().ok()).unwrap_or(0);
        }
        moto
    }

    /// A request that needs no signature there; the status.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        let len = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        kill_group(&self.child);
        let _ = self.child.wait();
    }
}

#[test]
fn an_independent_server_is_understood() {
    need!(need::program("moto_server"));
    let moto = Moto::start();
    assert_eq!(moto.ask("PUT", "/outside", ""), "200");
    let versions = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(moto.ask("PUT", "/outside?versioning", versions), "200");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sandbox: Sandbox = person(dir.path(), "s3://outside/clinic", &format!("http://127.0.0.1:{}", moto.port));
    let source = sandbox.path("source");
    source_tree(&source, 30, 5);
    std::fs::write(source.join("large"), crate::trees::Random::new(3).bytes(40 << 20)).expect("a file");
    sandbox.must("list --repo s3://nowhere/x", exit::NO_REPOSITORY);
    sandbox.must("list", exit::NO_REPOSITORY);
    sandbox.init();
    sandbox.must("init", exit::FAILED);
    let (first, before) = super::capture(&sandbox, 1);
    let (second, after) = super::capture(&sandbox, 2);
    for (id, original) in [(&first, &before), (&second, &after)] {
        sandbox.restores_to(id, original).unwrap_or_else(|text| panic!("{text}"));
    }
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    sandbox.must("replicate s3://outside/second --verify", exit::DONE);
    sandbox.must("check --read-data --repo s3://outside/second", exit::DONE);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    assert_eq!(sandbox.json("prune --delay 0s --yes")["deleted"]["snapshots"], 1);
    let _ = std::fs::remove_dir_all(sandbox.cache());
    sandbox.restores_to(&second, &after).unwrap_or_else(|text| panic!("{text}"));
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}
