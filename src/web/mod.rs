//! Small messages to web servers: one request, a bounded time, and an answer of which only the status counts.
//!
//! The client, its TLS and its roots of trust are those that buckets are reached with. Addresses of such
//! servers are often their own passwords: no error tells them.

use reqwest::StatusCode;
use reqwest::blocking::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use std::time::{Duration, Instant};

/// A server that fails is asked once more after this time, if there is enough left.
const PAUSE: Duration = Duration::from_secs(1);
const REDIRECTS_MAX: usize = 3;

/// One request: a POST.
#[derive(Clone, PartialEq, Eq)]
pub struct Post {
    /// Where to; it may be a secret.
    pub url: String,
    /// Headers; their values may be secrets.
    pub headers: Vec<(&'static str, String)>,
    /// What is said.
    pub body: Vec<u8>,
}

/// Why it was not delivered. The address is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("its url is no address of a web server")]
    Address,
    /// A header cannot be sent.
    #[error("a header has characters that cannot be sent")]
    Header,
    /// No answer in time.
    #[error("the server did not answer within {seconds} s")]
    Late {
        /// The time that there was.
        seconds: u64,
    },
    /// No connection, or none that can be trusted.
    #[error("the server cannot be reached")]
    Unreachable,
    /// The server refused.
    #[error("the server answered with {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
}

/// Sends `post` and waits for the answer, `limit` at most. A server that cannot be reached, or says that it
/// fails, is asked a second time.
///
/// # Errors
/// It was not delivered, as far as is known.
pub fn send(post: &Post, limit: Duration) -> Result<(), Error> {
    let begun = Instant::now();
    let url = reqwest::Url::parse(&post.url).map_err(|_| Error::Address)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Error::Address);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &post.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header)?;
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Error::Header)?);
    }
    let agent = concat!("snap/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder().user_agent(agent).redirect(Policy::limited(REDIRECTS_MAX)).build();
    let client = client.map_err(|_| Error::Unreachable)?;
    let left = || limit.saturating_sub(begun.elapsed());
    let once = || -> Result<(), Error> {
        let request = client.post(url.clone()).headers(headers.clone()).body(post.body.clone()).timeout(left());
        match request.send() {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Error::Refused { status: answer.status().as_u16() }),
            Err(error) if error.is_timeout() => Err(Error::Late { seconds: limit.as_secs() }),
            Err(_) => Err(Error::Unreachable),
        }
    };
    match once() {
        Err(error) if may_pass(&error) && left() > 2 * PAUSE => {
            std::thread::sleep(PAUSE);
            once()
        }
        done => done,
    }
}

fn may_pass(error: &Error) -> bool {
    match error {
        Error::Unreachable => true,
        Error::Refused { status } => {
            StatusCode::from_u16(*status).is_ok_and(|status| status.is_server_error() || status.as_u16() == 429)
        }
        _ => false,
    }
}
