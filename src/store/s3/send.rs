//! Putting objects: on the condition that nothing is there, in one request or in parts.

use super::patience::GivenUp;
use super::trouble::Failure;
use super::upload::{Content, PART_BYTES};
use super::{LOOKS_MAX, Shared};
use crate::store::{Error, Key, Put, Result};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};
use std::fs::File;
use std::os::unix::fs::FileExt;

impl Shared {
    pub async fn put_once(&self, path: &Path, payload: &PutPayload) -> std::result::Result<(), GivenUp> {
        let client = &self.client;
        let bytes = payload.content_length() as u64;
        let put = || client.s3.put_opts(path, payload.clone(), PutMode::Create.into());
        client.patience.repeat(bytes, put).await.map(drop)
    }

    /// Stores an object if nothing is there under its name.
    pub async fn store(&self, key: &Key, content: Content) -> Result<Put> {
        let client = &self.client;
        self.forget(key);
        let failed = |given_up| client.error("write", key.path(), given_up);
        let payload = match content {
            Content::File(file, bytes) => return self.store_parts(key, &file, bytes).await,
            Content::Memory(payload) => payload,
        };
        let mut looks = 0;
        loop {
            looks += 1;
            let tries = match self.put_once(&client.path_of(key), &payload).await {
                Ok(()) => return Ok(Put::Created),
                Err(GivenUp { failure: Failure::Exists, tries }) => tries,
                Err(given_up) => return Err(failed(given_up)),
            };
            match (self.compare(key, &payload).await?, key) {
                // Nobody else could have written what is random in them.
                (Found::Same, Key::Config | Key::KeyFile(_)) => return Ok(Put::Created),
                (Found::Same, _) if tries > 1 || looks > 1 => return Ok(Put::Created),
                (Found::Same, _) | (Found::Other, Key::Config | Key::KeyFile(_)) => return Ok(Put::Existed),
                // Another's try was in the way, or what was there has gone.
                (Found::Nothing, _) if looks < LOOKS_MAX => {
                    tokio::time::sleep(client.patience.pause(looks)).await;
                }
                (Found::Other | Found::Nothing, _) => return Err(Error::Altered { object: key.path() }),
            }
        }
    }

    /// What is there under a name where nothing should be, or the same.
    async fn compare(&self, key: &Key, payload: &PutPayload) -> Result<Found> {
        match self.get_proven(key).await {
            Ok(there) => {
                let same = there.len() == payload.content_length() && {
                    let mut rest = there.as_slice();
                    payload.iter().all(|piece| {
                        let (now, behind) = rest.split_at(piece.len().min(rest.len()));
                        rest = behind;
                        now == &piece[..]
                    })
                };
                Ok(if same { Found::Same } else { Found::Other })
            }
            Err(Error::NotFound { .. }) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends what is too large for one request.
    async fn store_parts(&self, key: &Key, file: &File, bytes: u64) -> Result<Put> {
        let (client, path) = (&self.client, self.client.path_of(key));
        let failed = |given_up| client.error("write", key.path(), given_up);
        match self.size(key).await? {
            Some(there) if there == bytes => return Ok(Put::Existed),
            Some(_) => return Err(Error::Altered { object: key.path() }),
            None => {}
        }
        let id = client.patience.repeat(0, || client.s3.create_multipart(&path)).await.map_err(failed)?;
        let sent = self.send_parts(key, &path, &id, file, bytes).await;
        if sent.is_err() {
            // Who may not abort it leaves parts that nobody sees; the server's rules for such clear them away.
            let _ = client.s3.abort_multipart(&path, &id).await;
        }
        sent?;
        match self.size(key).await? {
            Some(there) if there == bytes => Ok(Put::Created),
            _ => Err(Error::Altered { object: key.path() }),
        }
    }

    async fn send_parts(&self, key: &Key, path: &Path, id: &String, file: &File, bytes: u64) -> Result<()> {
        let client = &self.client;
        let failed = |given_up| client.error("write", key.path(), given_up);
        let mut parts = Vec::new();
        while (parts.len() as u64) * PART_BYTES < bytes {
            let number = parts.len();
            let offset = number as u64 * PART_BYTES;
            let len = PART_BYTES.min(bytes - offset);
            let mut part = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
            let object = || format!("a part of {key} back");
            file.read_exact_at(&mut part, offset).map_err(|source| Error::Io {
                operation: "read",
                object: object(),
                source,
            })?;
            let payload = PutPayload::from(part);
            let send = || client.s3.put_part(path, id, number, payload.clone());
            parts.push(client.patience.repeat(len, send).await.map_err(failed)?);
        }
        let complete = || client.s3.complete_multipart(path, id, parts.clone());
        match client.patience.repeat(0, complete).await {
            Ok(_) => Ok(()),
            // An earlier try has completed it, and the parts are gone: the object's size tells.
            Err(GivenUp { failure: Failure::Missing, tries }) if tries > 1 => Ok(()),
            Err(given_up) => Err(failed(given_up)),
        }
    }
}

/// What is stored under a name.
enum Found {
    Same,
    Other,
    Nothing,
}
