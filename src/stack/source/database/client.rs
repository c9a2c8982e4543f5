//! Running a database's client inside its container.
//!
//! The password goes by the environment of the client, never as an argument; what a client says about a
//! failure is kept short and the password is taken out of it.

use super::detect::{Database, Kind, Password};
use super::error::{Error, Result};
use crate::docker::{Engine, Exec, ExecEnd, ExecSpec};
use crate::monitor::Monitor;
use std::io::{Read, Write};
use std::time::Duration;

/// Small questions are answered in this time, or the server hangs.
const QUESTION_LIMIT: Duration = Duration::from_secs(300);
/// Longest reason that is shown, in bytes.
const REASON_BYTES_MAX: usize = 400;

/// The way into one container.
pub struct Client<'a> {
    pub engine: &'a Engine,
    pub container: &'a str,
    pub service: &'a str,
    env: Vec<(String, String)>,
    secret: String,
    pub monitor: &'a dyn Monitor,
}

impl<'a> Client<'a> {
    /// Fetches the password and prepares the environment of the clients.
    ///
    /// # Errors
    /// The file that holds the password cannot be read in the container.
    pub fn new(
        engine: &'a Engine,
        container: &'a str,
        database: &'a Database,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let locale = ("LC_ALL".to_owned(), "C".to_owned());
        let service = database.service.as_str();
        let mut client = Self { engine, container, service, env: vec![locale], secret: String::new(), monitor };
        let secret = match &database.password {
            Password::None => return Ok(client),
            Password::Known(value) => value.clone(),
            Password::File(path) => {
                let text = client.ask(&["cat", path], None).map_err(|error| match error {
                    Error::Database { .. } => {
                        Error::database(service, format!("the password's file {path} cannot be read in the container"))
                    }
                    other => other,
                })?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
        };
        let name = match database.kind {
            Kind::Postgresql => "PGPASSWORD",
            Kind::Mariadb | Kind::Mysql => "MYSQL_PWD",
            Kind::Redis => "REDISCLI_AUTH",
            Kind::Program => return Ok(client),
        };
        client.env.push((name.to_owned(), secret.clone()));
        client.secret = secret;
        Ok(client)
    }

    /// What is run, with the environment that it needs.
    pub fn spec<S: AsRef<str>>(&self, argv: &[S]) -> ExecSpec {
        ExecSpec { env: self.env.clone(), ..ExecSpec::new(argv.iter().map(|word| word.as_ref().to_owned())) }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// The container does not run, or the engine does not answer.
    pub fn start<S: AsRef<str>>(&self, subject: &str, argv: &[S], stdin: bool) -> Result<Exec<'a>> {
        let spec = ExecSpec { stdin, ..self.spec(argv) };
        self.engine.exec(self.container, &spec, self.monitor).map_err(|error| Error::engine(subject, &error))
    }

    /// What a program prints, which must end well.
    ///
    /// # Errors
    /// It does not.
    pub fn ask<S: AsRef<str>>(&self, argv: &[S], input: Option<&str>) -> Result<String> {
        self.ask_about(self.service, argv, input)
    }

    /// As [`Client::ask`], and errors are about `subject`.
    ///
    /// # Errors
    /// The program does not end well.
    pub fn ask_about<S: AsRef<str>>(&self, subject: &str, argv: &[S], input: Option<&str>) -> Result<String> {
        let spec = ExecSpec { limit: Some(QUESTION_LIMIT), ..self.spec(argv) };
        let mut bytes = input.map(str::as_bytes);
        let input = bytes.as_mut().map(|bytes| bytes as &mut (dyn Read + Send));
        let output = self.engine.run(self.container, &spec, input, self.monitor);
        let output = output.map_err(|error| Error::engine(subject, &error))?;
        if output.exit_code != 0 {
            let program = argv.first().map_or("", AsRef::as_ref);
            return Err(Error::database(subject, self.failure(program, output.exit_code, &output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The first of `names` that is a program in the container.
    ///
    /// # Errors
    /// None is.
    pub fn program(&self, names: &[&str]) -> Result<String> {
        let find = "for name do command -v \"$name\" && exit; done; exit 1";
        let argv: Vec<&str> = ["sh", "-c", find, "sh"].into_iter().chain(names.iter().copied()).collect();
        match self.ask(&argv, None) {
            Ok(path) => Ok(path.lines().next().unwrap_or_default().to_owned()),
            Err(Error::Database { reason, .. }) if reason.contains("cannot") => {
                Err(Error::database(self.service, reason))
            }
            Err(Error::Database { .. }) => {
                Err(Error::database(self.service, format!("{} is not in the container", names.join(" or "))))
            }
            Err(other) => Err(other),
        }
    }

    /// Why a program failed, in one line.
    pub fn failure(&self, program: &str, code: i64, stderr: &str) -> String {
        let name = program.rsplit('/').next().unwrap_or(program);
        let told = self.told(stderr);
        let how = match code {
            137 | 143 => "was killed".to_owned(),
            126 | 127 => "cannot be run".to_owned(),
            code => format!("failed with exit code {code}"),
        };
        if told.is_empty() { format!("{name} {how}") } else { format!("{name} {how}: {told}") }
    }

    /// The end of what a program says, in one line and without the password.
    pub fn told(&self, stderr: &str) -> String {
        let mut text: String =
            stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        if !self.secret.is_empty() {
            text = text.replace(&self.secret, "…");
        }
        if text.len() > REASON_BYTES_MAX {
            let from = (text.len() - REASON_BYTES_MAX..).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text = format!("…{}", &text[from..]);
        }
        text
    }
}

/// A client that is asked one thing after another: a transaction that stays open.
pub struct Talk<'a> {
    exec: Exec<'a>,
    stdin: Option<crate::docker::ExecStdin<'a>>,
    program: String,
    subject: String,
    rest: Vec<u8>,
}

impl<'a> Talk<'a> {
    /// Starts the client.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn begin<S: AsRef<str>>(client: &Client<'a>, subject: &str, argv: &[S]) -> Result<Self> {
        let mut exec = client.start(subject, argv, true)?;
        let stdin = exec.take_stdin();
        let program = argv.first().map_or("", AsRef::as_ref).to_owned();
        Ok(Self { exec, stdin, program, subject: subject.to_owned(), rest: Vec::new() })
    }

    /// Says something, and gives the lines of the answer up to the one that is `end`.
    ///
    /// # Errors
    /// The client ends before that, or says an error.
    pub fn ask(&mut self, client: &Client<'_>, text: &str, end: &str) -> Result<Vec<String>> {
        let written =
            self.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()));
        let mut lines = Vec::new();
        loop {
            while let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line == end {
                    return Ok(lines);
                }
                lines.push(line);
            }
            let mut buffer = [0; 16 << 10];
            match self.exec.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.subject, client, error)),
            }
        }
        let told = client.told(&self.exec.stderr());
        let what = if told.is_empty() { "it ended early".to_owned() } else { told };
        let name = self.program.rsplit('/').next().unwrap_or_default();
        let _the_answer_says_why = written;
        Err(Error::database(&self.subject, format!("{name}: {what}")))
    }

    /// Ends the client.
    ///
    /// # Errors
    /// It did not end well: what it said before may not hold.
    pub fn end(mut self, client: &Client<'_>) -> Result<ExecEnd> {
        let failed = |reason: String| Error::database(&self.subject, reason);
        if let Some(stdin) = self.stdin.take() {
            stdin.close().map_err(|error| failed(error.to_string()))?;
        }
        let end = self.exec.finish().map_err(|error| Error::engine(&self.subject, &error))?;
        if end.exit_code != 0 {
            return Err(failed(client.failure(&self.program, end.exit_code, &end.stderr)));
        }
        Ok(end)
    }
}

/// A failed stream: of the engine, or stopped by the person.
pub fn failed(subject: &str, client: &Client<'_>, error: std::io::Error) -> Error {
    match error.downcast::<crate::docker::Error>() {
        Ok(error) => Error::engine(subject, &error),
        Err(error) => Error::database(subject, client.told(&error.to_string())),
    }
}
