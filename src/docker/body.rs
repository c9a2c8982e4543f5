//! What requests and answers carry.
//!
//! Bodies come piece by piece as they are read, so that memory is bounded. A body that is sent ends
//! only if its sender says so: a sender that fails or stops cuts the request instead of ending it, so
//! that the engine never takes a part for the whole.

use super::error::as_io;
use super::link::{Call, Connected, Link};
use super::{Error, Result};
use crate::limits::ANSWER_BYTES_MAX;
use crate::monitor::Monitor;
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::{Response, StatusCode};
use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A whole answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

async fn next_frame(incoming: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|context| Pin::new(&mut *incoming).poll_frame(context)).await
}

pub(super) async fn collect(call: &Call<'_>, response: Response<Incoming>) -> Result<Answer> {
    let (parts, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = next_frame(&mut incoming).await {
        let frame = frame.map_err(|error| call.connection_error(error))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(call.answer_error(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&data);
    }
    Ok(Answer { status: parts.status, body })
}

/// What a request carries.
pub(super) enum Payload {
    Nothing,
    Json(Option<Bytes>),
    Pieces(mpsc::Receiver<Piece>),
}

/// A part of an upload, or the word that it is whole.
pub(super) enum Piece {
    Data(Bytes),
    End,
}

impl Payload {
    pub fn whole(json: Option<Vec<u8>>) -> Self {
        json.map_or(Self::Nothing, |body| Self::Json(Some(Bytes::from(body))))
    }

    pub fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Json(_) => Some("application/json"),
            Self::Pieces(_) => Some("application/x-tar"),
        }
    }
}

impl hyper::body::Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Json(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Pieces(queue) => queue.poll_recv(context).map(|piece| match piece {
                Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Piece::End) => None,
                None => Some(Err(io::Error::other("the sender gave up"))),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing | Self::Json(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Nothing | Self::Json(None) => hyper::body::SizeHint::with_exact(0),
            Self::Json(Some(body)) => hyper::body::SizeHint::with_exact(body.len() as u64),
            Self::Pieces(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// The body of an answer, read as it comes. An end that the engine did not announce is an error.
pub struct Body<'m> {
    pub(super) link: Arc<Link>,
    /// Gone after the end.
    pub(super) incoming: Option<(Incoming, Connected)>,
    pub(super) current: Bytes,
    pub(super) monitor: &'m dyn Monitor,
    pub(super) operation: &'static str,
    pub(super) object: String,
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("operation", &self.operation).field("object", &self.object).finish()
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some((incoming, _)) = &mut self.incoming else { return Ok(0) };
            let frame = self.link.wait(None, Some(self.monitor), next_frame(incoming));
            match frame.map_err(|halt| as_io(halt.into_error(self.operation, &self.object)))? {
                None => self.incoming = None,
                Some(Ok(frame)) => self.current = frame.into_data().unwrap_or_default(),
                Some(Err(source)) => {
                    let (operation, object) = (self.operation, self.object.clone());
                    return Err(as_io(Error::Connection { operation, object, source: source.into() }));
                }
            }
        }
        let count = buffer.len().min(self.current.len());
        let taken = self.current.split_to(count);
        buffer[..count].copy_from_slice(&taken);
        Ok(count)
    }
}
