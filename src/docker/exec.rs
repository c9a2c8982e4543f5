//! Running a program in a container.
//!
//! Never with a terminal: a terminal changes bytes and mixes the outputs. The standard output is read
//! as it comes, of the error output the end is kept, and the exit code is asked for when both have
//! ended: without one nothing is known of the result, which is an error. Input and output go their
//! ways side by side. The engine has no call to end a program, so one that is given up is looked for
//! by a mark in its environment and killed (see `kill`).

use super::error::from_io;
use super::frames::Frames;
use super::json::escaped;
use super::stdio::{ExecStdin, Fed, Flags, Outputs, Shared, feed};
use super::{Engine, Error, Result, kill};
use crate::limits::EXEC_OUTPUT_BYTES_MAX;
use crate::monitor::Monitor;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the engine may take to know the exit code after the outputs have ended.
const END_WAIT: Duration = Duration::from_secs(10);
const END_STEP: Duration = Duration::from_millis(20);

/// What is run, and how. Its environment is not shown: it holds passwords.
#[derive(Clone, Default)]
pub struct ExecSpec {
    /// The program and its arguments. Everybody on the host can read these.
    pub argv: Vec<String>,
    /// Variables added to the container's environment.
    pub env: Vec<(String, String)>,
    /// The user, if not the container's.
    pub user: Option<String>,
    /// The folder, if not the container's.
    pub workdir: Option<String>,
    /// True if something is written to its input.
    pub stdin: bool,
    /// How long it may take in all.
    pub limit: Option<Duration>,
}

impl std::fmt::Debug for ExecSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ExecSpec").field("argv", &self.argv).field("env", &names).field("user", &self.user).finish()
    }
}

impl ExecSpec {
    /// A program with its arguments, as the container's own user.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecEnd {
    /// Its exit code; from 128 on usually a signal.
    pub exit_code: i64,
    /// The end of its error output.
    pub stderr: String,
}

/// The whole output of a program. The content is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub exit_code: i64,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The end of its error output.
    pub stderr: String,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.stdout.len();
        f.debug_struct("Output").field("exit_code", &self.exit_code).field("stdout_bytes", &bytes).finish()
    }
}

/// A running program; reading it gives its standard output. Dropped before its end it is killed.
pub struct Exec<'m> {
    engine: Engine,
    container: String,
    id: String,
    object: String,
    /// Unset for programs that must not be looked for themselves.
    mark: Option<String>,
    frames: Frames<Outputs<'m>>,
    stdin: Option<ExecStdin<'m>>,
    flags: Arc<Flags>,
    finished: bool,
}

impl std::fmt::Debug for Exec<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("container", &self.container).field("object", &self.object).finish()
    }
}

impl Engine {
    /// Starts a program in a running container.
    ///
    /// # Errors
    /// The container does not run or is paused (a conflict), or the engine does not answer. A program
    /// that is not there shows by its exit code, 126 or 127.
    pub fn exec<'m>(&self, container: &str, spec: &ExecSpec, monitor: &'m dyn Monitor) -> Result<Exec<'m>> {
        let mark = kill::new_mark()?;
        self.exec_marked(container, spec, Some(mark), monitor)
    }

    pub(super) fn exec_marked<'m>(
        &self,
        container: &str,
        spec: &ExecSpec,
        mark: Option<String>,
        monitor: &'m dyn Monitor,
    ) -> Result<Exec<'m>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Made {
            id: String,
        }
        let program = spec.argv.first().map_or("", String::as_str);
        let object = format!("{program} in container {container}");
        let begun = Instant::now();
        let path = format!("/containers/{}/exec", escaped(container));
        let mut call = self.call("run", object.clone(), Method::POST, &path);
        let sound =
            |(name, value): &(String, String)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        if program.is_empty() || !spec.env.iter().all(sound) {
            return Err(call.answer_error("a program without a name, or a variable that cannot be one"));
        }
        let mut env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.extend(mark.clone());
        call = call.hiding(spec.env.iter().map(|(_, value)| value.clone())).json(&json!({
            "AttachStdin": spec.stdin, "AttachStdout": true, "AttachStderr": true, "Tty": false,
            "Cmd": spec.argv, "Env": env, "User": spec.user, "WorkingDir": spec.workdir,
        }));
        let id = self.fetch::<Made>(call.monitor(monitor))?.id;
        let path = format!("/exec/{}/start", escaped(&id));
        let call = self.call("run", object.clone(), Method::POST, &path);
        let mut call = call.json(&json!({ "Detach": false, "Tty": false })).monitor(monitor);
        let link = self.inner.link.clone();
        let (read, write) = tokio::io::split(link.upgrade(&mut call)?);
        let flags = Arc::new(Flags::default());
        let shared = Shared { link, monitor, flags: flags.clone(), object: object.clone() };
        let stdin = spec.stdin.then(|| ExecStdin { half: write, shared: shared.clone(), closed: false });
        let outputs = Outputs { half: read, shared, begun, limit: spec.limit };
        let (engine, container) = (self.clone(), container.to_owned());
        let frames = Frames::new(outputs);
        Ok(Exec { engine, container, id, object, mark, frames, stdin, flags, finished: false })
    }

    /// Runs a program to its end with `input` as its input, and keeps its output in memory.
    ///
    /// # Errors
    /// As [`Engine::exec`]; the output is too long or cut; the input cannot be read; the time is over.
    /// A program that ends well without having read all of its input is an error too.
    pub fn run(
        &self,
        container: &str,
        spec: &ExecSpec,
        input: Option<&mut (dyn Read + Send)>,
        monitor: &dyn Monitor,
    ) -> Result<Output> {
        let spec = ExecSpec { stdin: input.is_some(), ..spec.clone() };
        let mut exec = self.exec(container, &spec, monitor)?;
        let mut stdout = Vec::new();
        let end = exec.pump(input, &mut |bytes| {
            if stdout.len() + bytes.len() > EXEC_OUTPUT_BYTES_MAX {
                return Err(io::Error::other(format!("its output is longer than {EXEC_OUTPUT_BYTES_MAX} bytes")));
            }
            stdout.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Output { exit_code: end.exit_code, stdout, stderr: end.stderr })
    }
}

impl<'m> Exec<'m> {
    /// The way to its input, once.
    pub fn take_stdin(&mut self) -> Option<ExecStdin<'m>> {
        self.stdin.take()
    }

    /// The end of its error output so far.
    pub fn stderr(&self) -> String {
        self.frames.stderr.text()
    }

    /// Writes `input` and reads the output at the same time, to the end of both.
    ///
    /// # Errors
    /// `input` cannot be read or `output` fails; the output is cut; the time is over. A program that
    /// ends well without having read all of its input is an error too. It is killed on an error.
    pub fn pump(
        &mut self,
        input: Option<&mut (dyn Read + Send)>,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<ExecEnd> {
        let (operation, object) = ("run", self.object.clone());
        let stdin = self.take_stdin();
        let (fed, read) = std::thread::scope(|scope| {
            let feeder = stdin.zip(input).map(|(stdin, input)| scope.spawn(move || feed(stdin, input)));
            let read = self.read_all(output);
            if read.is_err() {
                // Its input must not wait for a program that nobody reads.
                let _unfinished = self.kill();
            }
            let ended_early = || Err(io::Error::other("a thread ended early"));
            let fed = feeder.map_or(Ok(Fed::All), |feeder| feeder.join().unwrap_or_else(|_| ended_early()));
            (fed, read)
        });
        let input_error = |source: io::Error| match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Input { operation, object: object.clone(), source },
        };
        let fed = fed.map_err(input_error)?;
        read.map_err(|source| from_io(operation, &object, source))?;
        let end = self.end()?;
        if fed == Fed::Part && end.exit_code == 0 {
            let problem = "it ended without having read all of its input".to_owned();
            return Err(Error::Answer { operation, object, problem });
        }
        Ok(end)
    }

    fn read_all(&mut self, output: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.frames.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => output(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what is left of the output, and gives the program's end.
    ///
    /// # Errors
    /// The output is cut, or the engine does not know the exit code.
    pub fn finish(mut self) -> Result<ExecEnd> {
        if let Some(stdin) = self.stdin.take() {
            stdin.close().map_err(|source| from_io("run", &self.object, source))?;
        }
        self.read_all(&mut |_| Ok(())).map_err(|source| from_io("run", &self.object, source))?;
        self.end()
    }

    fn end(&mut self) -> Result<ExecEnd> {
        let begun = Instant::now();
        loop {
            let state = self.engine.exec_state(&self.id, &self.object)?;
            match (state.running, state.exit_code) {
                (false, Some(exit_code)) => {
                    self.finished = true;
                    self.flags.over.store(true, Ordering::Relaxed);
                    return Ok(ExecEnd { exit_code, stderr: self.frames.stderr.text() });
                }
                _ if begun.elapsed() < END_WAIT => std::thread::sleep(END_STEP),
                (running, _) => {
                    let what = if running { "its outputs ended and it still runs" } else { "it has no exit code" };
                    let object = self.object.clone();
                    return Err(Error::Answer { operation: "run", object, problem: what.to_owned() });
                }
            }
        }
    }

    /// Ends the program and its children.
    ///
    /// # Errors
    /// It may still run.
    pub fn kill(&mut self) -> Result<()> {
        self.finished = true;
        // Before its input may end: it would take what it has for the whole.
        let killed = match &self.mark {
            Some(mark) => kill::kill_marked(&self.engine, &self.container, &self.id, mark),
            None => Ok(()),
        };
        self.flags.over.store(true, Ordering::Relaxed);
        killed
    }
}

impl Read for Exec<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.frames.read(buffer)
    }
}

impl Drop for Exec<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let _nobody_to_tell = self.kill();
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecState {
    pub running: bool,
    pub exit_code: Option<i64>,
}

impl Engine {
    pub(super) fn exec_state(&self, id: &str, object: &str) -> Result<ExecState> {
        self.get("follow", object, &format!("/exec/{}/json", escaped(id)))
    }
}
