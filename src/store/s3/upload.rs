//! Objects on their way into a bucket: written piece by piece, sent whole, several at a time.
//!
//! A pack has its name only when its last byte is known, and a server wants the name first. So a pack in
//! the making lies in memory; what grows past the size of any usual pack goes into a nameless local file
//! and leaves in parts. A batch sends what it is given at once, in the background, and never holds more
//! than a set amount: whoever gives it more waits. It may be visible before the batch is committed, and
//! durable only after.

use super::Shared;
use crate::fs::StagedFile;
use crate::store::{Batch, Error, Key, Put, Result, Upload};
use hyper::body::Bytes;
use object_store::PutPayload;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// More than this is not sent in one request, and not kept in memory.
pub(super) const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a large object that are sent at once.
pub(super) const PART_BYTES: u64 = 16 << 20;
/// Pieces of memory that an upload grows by.
const PIECE_BYTES: usize = 1 << 20;
/// What a batch may have in memory and on its way, in mebibytes: two packs, or many small objects.
const IN_FLIGHT_MIB: u32 = 72;
/// What the smallest object counts for, so that there are never more than some twenty requests.
const SMALLEST_MIB: u32 = 4;

/// The bytes of an object that is not stored yet.
pub(super) enum Content {
    Memory(PutPayload),
    File(File, u64),
}

impl Content {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Memory(payload) => payload.content_length() as u64,
            Self::File(_, bytes) => *bytes,
        }
    }
}

/// One object in the making.
pub(super) struct S3Upload {
    pieces: Vec<Vec<u8>>,
    bytes: u64,
    spilt: Option<StagedFile>,
}

impl S3Upload {
    pub fn new() -> Self {
        Self { pieces: Vec::new(), bytes: 0, spilt: None }
    }

    fn keep(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.pieces.last().map_or(0, |piece| PIECE_BYTES - piece.len());
            if room == 0 {
                self.pieces.push(Vec::with_capacity(PIECE_BYTES));
                continue;
            }
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            if let Some(piece) = self.pieces.last_mut() {
                piece.extend_from_slice(now);
            }
            bytes = rest;
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut staged = StagedFile::new(&std::env::temp_dir(), crate::fs::PRIVATE_FILE)?;
        for piece in std::mem::take(&mut self.pieces) {
            staged.file().write_all(&piece)?;
        }
        self.spilt = Some(staged);
        Ok(())
    }

    fn content(self) -> io::Result<Content> {
        match self.spilt {
            Some(mut staged) => Ok(Content::File(staged.file().try_clone()?, self.bytes)),
            None => Ok(Content::Memory(self.pieces.into_iter().map(Bytes::from).collect())),
        }
    }
}

impl Upload for S3Upload {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        let spilling = self.spilt.is_none() && self.bytes > WHOLE_BYTES_MAX;
        let spilt = if spilling { self.spill() } else { Ok(()) };
        let written = spilt.and_then(|()| match &mut self.spilt {
            Some(staged) => staged.file().write_all(bytes),
            None => {
                self.keep(bytes);
                Ok(())
            }
        });
        written.map_err(|source| {
            let object = format!("a large new object into {}", std::env::temp_dir().display());
            Error::Io { operation: "write", object, source }
        })
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

/// Objects that are being sent.
pub(super) struct S3Batch {
    shared: Arc<Shared>,
    sending: JoinSet<Result<()>>,
    room: Arc<Semaphore>,
}

impl S3Batch {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            sending: JoinSet::new(),
            room: Arc::new(Semaphore::new(IN_FLIGHT_MIB as usize)),
        }
    }
}

/// What counts is the first thing that went wrong.
fn outcome(ended: std::result::Result<Result<()>, JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| {
        let source = io::Error::other(error.to_string());
        Err(Error::Io { operation: "write", object: "a new object".to_owned(), source })
    })
}

impl Batch for S3Batch {
    fn add(&mut self, key: Key, upload: Box<dyn Upload>) -> Result<()> {
        while let Some(ended) = self.sending.try_join_next() {
            outcome(ended)?;
        }
        let upload = upload.into_any().downcast::<S3Upload>().map_err(|_| Error::Address {
            address: self.shared.client.bucket.to_string(),
            reason: format!("{key} was written for another store"),
        })?;
        let failed = |source| Error::Io { operation: "read back", object: key.path(), source };
        let content = upload.content().map_err(failed)?;
        let mebibytes = u32::try_from(content.bytes() >> 20).unwrap_or(u32::MAX).clamp(SMALLEST_MIB, IN_FLIGHT_MIB);
        let (shared, room) = (Arc::clone(&self.shared), Arc::clone(&self.room));
        let client = &self.shared.client;
        // Never closed.
        let Ok(permit) = client.wait(room.acquire_many_owned(mebibytes)) else { return Ok(()) };
        let send = async move {
            let stored = shared.store(&key, content).await;
            drop(permit);
            stored.map(|_: Put| ())
        };
        self.sending.spawn_on(send, &client.handle);
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        let client = &self.shared.client;
        while let Some(ended) = client.wait(self.sending.join_next()) {
            outcome(ended)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn an_upload_keeps_what_is_written_in_memory_and_in_a_file() {
        for (count, is_file) in [(3u8, false), (70, true)] {
            let mut upload = S3Upload::new();
            let mut expected = Vec::new();
            for at in 0..count {
                let bytes = vec![at; PIECE_BYTES - 3];
                upload.write(&bytes).unwrap();
                expected.extend(bytes);
            }
            let content = upload.content().unwrap();
            assert_eq!(content.bytes(), expected.len() as u64);
            let found = match content {
                Content::Memory(payload) => payload.iter().flat_map(|piece| piece.to_vec()).collect(),
                Content::File(file, bytes) => {
                    let mut found = vec![0; usize::try_from(bytes).unwrap()];
                    file.read_exact_at(&mut found, 0).unwrap();
                    assert!(is_file);
                    found
                }
            };
            assert!(found == expected, "{count}");
        }
    }
}
