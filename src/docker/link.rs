//! The way to the engine: HTTP over a socket, asynchronous inside and synchronous outside.
//!
//! A hidden thread drives the sockets; callers wait for their own requests in steps of a tenth of a
//! second, and look between two steps whether the person wants to stop or the time is over. Each
//! request has its own connection, which costs some 50 µs on a socket of this host and leaves
//! nothing to clean up after an error.

use super::body::{Answer, Body, Payload, Piece, collect};
use super::endpoint::Endpoint;
use super::{Error, Result};
use crate::limits::ANSWER_HEADER_BYTES_MAX;
use crate::monitor::Monitor;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::Builder;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io::{self, Read};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// How long a small call may take.
pub(super) const SMALL_CALL: Duration = Duration::from_secs(60);
/// How often a waiting caller looks whether it should stop.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of an upload that are read at once, and how many such pieces wait.
const UPLOAD_PIECE: usize = 256 << 10;
const UPLOAD_PIECES: usize = 4;

/// What is asked of the engine.
pub(super) struct Call<'a> {
    pub operation: &'static str,
    pub object: String,
    pub method: Method,
    /// Path and query, from the slash behind the version on.
    pub path: String,
    /// JSON, or nothing.
    pub json: Option<Vec<u8>>,
    /// Values that must not come back in messages.
    pub secrets: Vec<String>,
    pub limit: Option<Duration>,
    pub monitor: Option<&'a dyn Monitor>,
}

impl<'a> Call<'a> {
    pub fn new(operation: &'static str, object: impl Into<String>, method: Method, path: impl Into<String>) -> Self {
        Self {
            operation,
            object: object.into(),
            method,
            path: path.into(),
            json: None,
            secrets: Vec::new(),
            limit: Some(SMALL_CALL),
            monitor: None,
        }
    }

    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.json = Some(body.to_string().into_bytes());
        self
    }

    pub fn limit(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit;
        self
    }

    pub fn monitor(mut self, monitor: &'a dyn Monitor) -> Self {
        self.monitor = Some(monitor);
        self
    }

    /// Takes the values of `NAME=value` pairs out of whatever the engine says.
    pub fn hiding(mut self, values: impl IntoIterator<Item = String>) -> Self {
        self.secrets = values.into_iter().filter(|value| value.len() >= 4).collect();
        self
    }

    pub fn answer_error(&self, problem: impl Into<String>) -> Error {
        Error::Answer { operation: self.operation, object: self.object.clone(), problem: problem.into() }
    }

    pub fn connection_error(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Connection { operation: self.operation, object: self.object.clone(), source: source.into() }
    }

    fn halted(&self, halt: Halt) -> Error {
        halt.into_error(self.operation, &self.object)
    }

    /// The error that an answer is, or nothing if its status says success.
    pub fn refusal(&self, status: StatusCode, body: &[u8]) -> Option<Error> {
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let json = serde_json::from_slice::<serde_json::Value>(body).ok();
        let said = json.as_ref().and_then(|json| json["message"].as_str());
        let mut message = said.map_or_else(|| first_line(body), str::to_owned);
        for secret in &self.secrets {
            message = message.replace(secret.as_str(), "…");
        }
        if message.is_empty() {
            message = status.canonical_reason().unwrap_or("no reason given").to_owned();
        }
        let (operation, object) = (self.operation, self.object.clone());
        Some(Error::Refused { operation, object, status: status.as_u16(), message })
    }
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Why waiting ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    Cancelled,
    Timeout { seconds: u64 },
}

impl Halt {
    pub fn into_error(self, operation: &'static str, object: &str) -> Error {
        let object = object.to_owned();
        match self {
            Self::Cancelled => Error::Cancelled { operation, object },
            Self::Timeout { seconds } => Error::Timeout { operation, object, seconds },
        }
    }
}

/// An engine's address and the thread that serves its sockets.
pub(super) struct Link {
    handle: Handle,
    endpoint: Endpoint,
    /// Dropped, it ends the thread.
    _thread: oneshot::Sender<()>,
}

impl Link {
    pub fn open(endpoint: Endpoint) -> Result<Arc<Self>> {
        let system = |source| Error::System { source };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(system)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            let _ended = runtime.block_on(stopped);
        };
        std::thread::Builder::new().name("docker".to_owned()).spawn(serve).map_err(system)?;
        Ok(Arc::new(Self { handle, endpoint, _thread: stop }))
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits for `future` on this thread.
    pub fn wait<F: Future>(
        &self,
        limit: Option<Duration>,
        monitor: Option<&dyn Monitor>,
        future: F,
    ) -> std::result::Result<F::Output, Halt> {
        let begun = Instant::now();
        self.handle.block_on(async {
            let mut future = pin!(future);
            loop {
                if let Ok(output) = tokio::time::timeout(TICK, &mut future).await {
                    return Ok(output);
                }
                if monitor.is_some_and(Monitor::cancelled) {
                    return Err(Halt::Cancelled);
                }
                if let Some(limit) = limit.filter(|limit| begun.elapsed() >= *limit) {
                    return Err(Halt::Timeout { seconds: limit.as_secs() });
                }
            }
        })
    }

    /// A small call: the whole answer, whatever its status.
    pub fn ask(&self, call: &mut Call<'_>) -> Result<Answer> {
        let payload = Payload::whole(call.json.take());
        let whole = async {
            let (response, _connected) = self.send(call, payload, false).await?;
            collect(call, response).await
        };
        self.wait(call.limit, call.monitor, whole).map_err(|halt| call.halted(halt))?
    }

    /// A call whose answer is read as it comes.
    pub fn stream<'m>(self: &Arc<Self>, call: &mut Call<'_>, monitor: &'m dyn Monitor) -> Result<Body<'m>> {
        let payload = Payload::whole(call.json.take());
        let sent = self.wait(call.limit, Some(monitor), self.send(call, payload, false));
        let (response, connected) = sent.map_err(|halt| call.halted(halt))??;
        if !response.status().is_success() {
            let answer = self.wait(Some(SMALL_CALL), Some(monitor), collect(call, response));
            let answer = answer.map_err(|halt| call.halted(halt))??;
            return Err(call
                .refusal(answer.status, &answer.body)
                .unwrap_or_else(|| call.answer_error("no reason is given")));
        }
        let framed =
            response.headers().contains_key(CONTENT_LENGTH) || response.headers().contains_key(TRANSFER_ENCODING);
        if !framed {
            return Err(call.answer_error("nothing says where its content ends"));
        }
        Ok(Body {
            link: self.clone(),
            incoming: Some((response.into_body(), connected)),
            current: Bytes::new(),
            monitor,
            operation: call.operation,
            object: call.object.clone(),
        })
    }

    /// A call that sends what `source` has. The answer is taken while it is sent.
    pub fn upload(self: &Arc<Self>, call: &mut Call<'_>, source: &mut dyn Read) -> Result<Answer> {
        let (pieces, queue) = mpsc::channel(UPLOAD_PIECES);
        let (done, mut answered) = oneshot::channel();
        let (link, owned) = (self.clone(), Call { monitor: None, json: None, ..call.copy() });
        let task = self.handle.spawn(async move {
            let whole = async {
                let (response, _connected) = link.send(&owned, Payload::Pieces(queue), false).await?;
                collect(&owned, response).await
            };
            let _nobody_waits = done.send(whole.await);
        });
        let fed = self.feed(call, source, &pieces);
        drop(pieces);
        if let Err(error) = fed {
            task.abort();
            return Err(error);
        }
        let answer = self.wait(call.limit, call.monitor, &mut answered).map_err(|halt| {
            task.abort();
            call.halted(halt)
        })?;
        answer.map_err(|_| call.connection_error("the request ended without an answer"))?
    }

    fn feed(&self, call: &Call<'_>, source: &mut dyn Read, pieces: &mpsc::Sender<Piece>) -> Result<()> {
        loop {
            let mut buffer = vec![0; UPLOAD_PIECE];
            let count = match source.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::Input { operation: call.operation, object: call.object.clone(), source });
                }
                Ok(count) => count,
            };
            buffer.truncate(count);
            let piece = if count == 0 { Piece::End } else { Piece::Data(Bytes::from(buffer)) };
            let sent = self.wait(None, call.monitor, pieces.send(piece)).map_err(|halt| call.halted(halt))?;
            // The engine may answer before it has everything: what it says counts.
            if sent.is_err() || count == 0 {
                return Ok(());
            }
        }
    }

    /// A call after which the connection carries bytes both ways.
    pub fn upgrade(&self, call: &mut Call<'_>) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
        let payload = Payload::whole(call.json.take());
        let call = &*call;
        let switched = async {
            let (mut response, _connected) = self.send(call, payload, true).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upgraded = hyper::upgrade::on(&mut response).await;
                return upgraded.map(TokioIo::new).map_err(|error| call.connection_error(error));
            }
            let status = response.status();
            let body = if status.is_success() { Vec::new() } else { collect(call, response).await?.body };
            Err(call.refusal(status, &body).unwrap_or_else(|| call.answer_error("the connection was not handed over")))
        };
        self.wait(call.limit, call.monitor, switched).map_err(|halt| call.halted(halt))?
    }

    async fn send(&self, call: &Call<'_>, payload: Payload, upgrade: bool) -> Result<(Response<Incoming>, Connected)> {
        let stream = self.connect(call).await?;
        let handshake = Builder::new().max_buf_size(ANSWER_HEADER_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| call.connection_error(error))?;
        let serving = self.handle.spawn(async move {
            // Its errors come out where the answer is read.
            let _ended = connection.with_upgrades().await;
        });
        let connected = Connected(serving.abort_handle());
        let mut request = Request::builder().method(call.method.clone()).uri(&call.path).header(HOST, "docker");
        if let Some(kind) = payload.content_type() {
            request = request.header(CONTENT_TYPE, kind);
        }
        if upgrade {
            request = request.header(hyper::header::CONNECTION, "Upgrade").header(hyper::header::UPGRADE, "tcp");
        }
        let request = request.body(payload).map_err(|error| call.connection_error(error))?;
        let response = sender.send_request(request).await.map_err(|error| call.connection_error(error))?;
        Ok((response, connected))
    }

    async fn connect(&self, call: &Call<'_>) -> Result<Box<dyn Socket>> {
        match &self.endpoint {
            Endpoint::Unix(path) => match tokio::net::UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(source) => Err(match source.kind() {
                    io::ErrorKind::NotFound => Error::NoSocket { path: path.clone() },
                    io::ErrorKind::PermissionDenied => Error::NoPermission { path: path.clone() },
                    io::ErrorKind::ConnectionRefused => {
                        Error::NotRunning { address: self.endpoint.to_string(), source }
                    }
                    _ => call.connection_error(source),
                }),
            },
            Endpoint::Tcp(address) => match tokio::net::TcpStream::connect(address.as_str()).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(source) => Err(Error::NotRunning { address: self.endpoint.to_string(), source }),
            },
        }
    }
}

impl Call<'_> {
    fn copy(&self) -> Call<'static> {
        Call {
            operation: self.operation,
            object: self.object.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            json: None,
            secrets: self.secrets.clone(),
            limit: self.limit,
            monitor: None,
        }
    }
}

/// A connection, which is cut when this is dropped.
pub(super) struct Connected(AbortHandle);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}
