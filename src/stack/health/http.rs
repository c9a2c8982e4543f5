//! One GET over plain HTTP, against servers that lie, hang, drip or close.
//!
//! A whole library would bring its own timeouts, redirects and pools; what is needed here is the
//! opposite: one request, one deadline for all of it, nothing followed, and a page of bounded size.
//! A page that ends before its announced length is no answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of status line and headers that are read.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers that are read.
const HEADERS_MAX: usize = 256;
/// Bytes of a page that are looked at.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A range of status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    /// The least.
    pub first: u16,
    /// The greatest.
    pub last: u16,
}

impl Statuses {
    /// What is right if nobody says otherwise.
    pub const SUCCESS: Self = Self { first: 200, last: 299 };

    /// `200`, `2xx` or `200-399`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        if let Some(class) = text.strip_suffix("xx") {
            let first = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))? * 100;
            return Some(Self { first, last: first + 99 });
        }
        match text.split_once('-') {
            Some((first, last)) => {
                Some(Self { first: code(first)?, last: code(last)? }).filter(|range| range.first <= range.last)
            }
            None => code(text).map(|code| Self { first: code, last: code }),
        }
    }

    fn holds(self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

/// What is asked for.
pub(super) struct Request<'a> {
    pub address: SocketAddr,
    pub host: &'a str,
    pub path: &'a str,
    pub limit: Duration,
}

/// What came.
#[derive(Debug)]
pub(super) struct Page {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

impl Page {
    /// Whether it is the right one.
    pub(super) fn judge(&self, wanted: Statuses, contains: Option<&str>) -> Result<String, String> {
        if !wanted.holds(self.status) {
            let to = self.location.as_deref().map(|_| ", it leads elsewhere").unwrap_or_default();
            return Err(format!("status {}{to}", self.status));
        }
        let has = |text: &str| self.body.windows(text.len()).any(|part| part == text.as_bytes());
        match contains.filter(|text| !text.is_empty()) {
            Some(text) if !has(text) => Err(format!("status {}, but the page does not contain “{text}”", self.status)),
            Some(text) => Ok(format!("status {}, the page contains “{text}”", self.status)),
            None => Ok(format!("status {}", self.status)),
        }
    }
}

/// Gets a page before the request's time is over.
pub(super) fn get(request: &Request<'_>) -> Result<Page, String> {
    let deadline = Instant::now() + request.limit;
    let address = request.address;
    let failed = |error: std::io::Error| refusal(address, &error);
    let stream = TcpStream::connect_timeout(&address, request.limit).map_err(failed)?;
    let mut connection = Connection { stream, deadline, buffer: Vec::new(), at: 0, ended: false };
    let port = address.port();
    let host = match port {
        80 => request.host.to_owned(),
        _ => format!("{}:{port}", request.host),
    };
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: snap/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        request.path,
        env!("CARGO_PKG_VERSION")
    );
    connection.send(text.as_bytes()).map_err(failed)?;
    let (status, headers) = head(&mut connection).map_err(failed)?;
    let value =
        |name: &str| headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let has_body = !matches!(status, 204 | 304);
    let chunked = value("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().ends_with("chunked"));
    let length = match value("content-length").map(str::parse::<u64>) {
        Some(Err(_)) => return Err(failed(no_http("its length is no number"))),
        Some(Ok(length)) => Some(length),
        None => None,
    };
    let body = match (has_body, chunked, length) {
        (false, ..) => Vec::new(),
        (true, true, _) => chunks(&mut connection).map_err(failed)?,
        (true, false, Some(length)) => {
            let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(BODY_BYTES_MAX);
            connection.take(wanted).map_err(failed)?
        }
        (true, false, None) => connection.rest().map_err(failed)?,
    };
    Ok(Page { status, location: value("location").map(str::to_owned), body })
}

/// Why there was no answer, without the system's way of saying it.
pub(super) fn refusal(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("nothing listens at {address}"),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("{address} does not answer in time"),
        ErrorKind::UnexpectedEof => format!("{address} closed the connection before the end of its answer"),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => format!("{address} broke the connection off"),
        ErrorKind::InvalidData => format!("{address} does not speak HTTP: {error}"),
        _ => format!("{address}: {error}"),
    }
}

fn no_http(why: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, why.to_owned())
}

type Head = (u16, Vec<(String, String)>);

fn head(connection: &mut Connection) -> std::io::Result<Head> {
    loop {
        let first = connection.line()?;
        let mut words = first.split(' ');
        let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
        let status = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|code| (100..=599).contains(code));
        let Some(status) = status.filter(|_| is_http) else { return Err(no_http("its first line is none of HTTP")) };
        let mut headers = Vec::new();
        loop {
            let line = connection.line()?;
            if line.is_empty() {
                break;
            }
            match line.split_once(':') {
                Some(_) if headers.len() >= HEADERS_MAX => return Err(no_http("headers without an end")),
                Some((name, value)) => headers.push((name.trim().to_owned(), value.trim().to_owned())),
                None => return Err(no_http("a header without a colon")),
            }
        }
        // 1xx announces the answer proper.
        if status >= 200 {
            return Ok((status, headers));
        }
    }
}

fn chunks(connection: &mut Connection) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX {
        let line = connection.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).map_err(|_| no_http("a chunk without a length"))?;
        if length == 0 {
            break;
        }
        let wanted = length.min(BODY_BYTES_MAX - body.len());
        body.extend(connection.take(wanted)?);
        if wanted < length {
            break;
        }
        if !connection.line()?.is_empty() {
            return Err(no_http("a chunk of another length"));
        }
    }
    Ok(body)
}

/// A stream with one deadline for all that is done with it.
struct Connection {
    stream: TcpStream,
    deadline: Instant,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Connection {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(bytes)
    }

    /// Reads some more; false at the end.
    fn fill(&mut self) -> std::io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.buffer.drain(..self.at);
        self.at = 0;
        let mut part = [0; 16 << 10];
        let found = loop {
            match self.stream.read(&mut part) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffer.extend_from_slice(&part[..found]);
        self.ended = found == 0;
        Ok(!self.ended)
    }

    /// One line of the head, without its end.
    fn line(&mut self) -> std::io::Result<String> {
        loop {
            let unread = &self.buffer[self.at..];
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..end]).trim_end_matches('\r').to_owned();
                self.at += end + 1;
                return Ok(line);
            }
            if unread.len() > HEAD_BYTES_MAX {
                return Err(no_http("a line without an end"));
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Exactly `wanted` bytes.
    fn take(&mut self, wanted: usize) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < wanted {
            if self.at == self.buffer.len() && !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let part = (wanted - out.len()).min(self.buffer.len() - self.at);
            out.extend_from_slice(&self.buffer[self.at..self.at + part]);
            self.at += part;
        }
        Ok(out)
    }

    /// What comes until the server closes, or the first mebibyte of it.
    fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            out.extend_from_slice(&self.buffer[self.at..]);
            self.at = self.buffer.len();
            if out.len() >= BODY_BYTES_MAX || !self.fill()? {
                out.truncate(BODY_BYTES_MAX);
                return Ok(out);
            }
        }
    }
}
