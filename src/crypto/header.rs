//! The joint with the `age` crate: headers are its work, and only the file key is kept.
//!
//! The crate shows the file key to every recipient when it writes a header, and gets it from an
//! identity when it reads one. [`Witness`] stands between: it forwards to the real recipient or
//! identity and keeps the key that passed. So the crate still makes the stanzas, checks the rules
//! for them and the header's MAC, and the payload can be done without it.

use super::stream::{FileKey, NONCE_BYTES, StreamKey};
use super::{Error, Result};
use crate::limits;
use age::secrecy::ExposeSecret;
use age::{DecryptError, EncryptError};
use age_core::format::Stanza;
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use zeroize::Zeroizing;

/// What every age file begins with; the version follows.
const MAGIC: &[u8] = b"age-encryption.org/";
/// The first line of the only version there is.
pub(super) const V1: &[u8] = b"age-encryption.org/v1\n";

/// Forwards to a recipient or an identity and keeps the file key that passes.
struct Witness<'a, T: ?Sized> {
    inner: &'a T,
    seen: &'a RefCell<Option<FileKey>>,
}

impl<T: ?Sized> Witness<'_, T> {
    fn keep(&self, key: &age_core::format::FileKey) {
        *self.seen.borrow_mut() = Some(Zeroizing::new(*key.expose_secret()));
    }
}

impl age::Recipient for Witness<'_, dyn age::Recipient + '_> {
    fn wrap_file_key(
        &self,
        file_key: &age_core::format::FileKey,
    ) -> std::result::Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        self.keep(file_key);
        self.inner.wrap_file_key(file_key)
    }
}

impl age::Identity for Witness<'_, dyn age::Identity + '_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<std::result::Result<age_core::format::FileKey, DecryptError>> {
        let found = self.inner.unwrap_stanza(stanza);
        if let Some(Ok(key)) = &found {
            self.keep(key);
        }
        found
    }

    fn unwrap_stanzas(
        &self,
        stanzas: &[Stanza],
    ) -> Option<std::result::Result<age_core::format::FileKey, DecryptError>> {
        let found = self.inner.unwrap_stanzas(stanzas);
        if let Some(Ok(key)) = &found {
            self.keep(key);
        }
        found
    }
}

/// A new age file's header and nonce, and the key for its payload.
pub(super) fn start(recipients: &[&dyn age::Recipient]) -> Result<(Vec<u8>, StreamKey)> {
    let seen = RefCell::new(None);
    let witnesses: Vec<_> = recipients.iter().map(|&inner| Witness { inner, seen: &seen }).collect();
    let encryptor = age::Encryptor::with_recipients(witnesses.iter().map(|witness| witness as &dyn age::Recipient))
        .map_err(refused)?;
    let mut begin = Vec::with_capacity(512);
    // The writer is dropped unfinished: what it has written by now is the header and the nonce.
    drop(encryptor.wrap_output(&mut begin).map_err(|error| refused(error.into()))?);
    let nonce = begin.len().checked_sub(NONCE_BYTES).map(|at| &begin[at..]);
    match (seen.take(), nonce) {
        (Some(file_key), Some(nonce)) => {
            let key = StreamKey::derive(&file_key, nonce)?;
            Ok((begin, key))
        }
        _ => Err(refused(EncryptError::MissingRecipients)),
    }
}

fn refused(error: EncryptError) -> Error {
    Error::Refused { operation: "seal", object: "an object".to_owned(), reason: error.to_string() }
}

/// The key of the payload that begins where the returned offset says. `prefix` is the object, or
/// as much of its beginning as is at hand.
pub(super) fn unlock(prefix: &[u8], identities: &[&dyn age::Identity]) -> Result<(StreamKey, usize)> {
    let header_bytes = header_len(prefix)?;
    let payload_offset = header_bytes + NONCE_BYTES;
    let (header, rest) = prefix.split_at(header_bytes);
    let Some(nonce) = rest.get(..NONCE_BYTES) else { return Err(cut(prefix)) };
    let decryptor =
        age::Decryptor::new_buffered(InOneGo { header, rest: nonce }).map_err(|error| decrypt_error(error, false))?;
    let passphrase = decryptor.is_scrypt();
    let seen = RefCell::new(None);
    let witnesses: Vec<_> = identities.iter().map(|&inner| Witness { inner, seen: &seen }).collect();
    decryptor
        .decrypt(witnesses.iter().map(|witness| witness as &dyn age::Identity))
        .map_err(|error| decrypt_error(error, passphrase))?;
    match seen.take() {
        Some(file_key) => Ok((StreamKey::derive(&file_key, nonce)?, payload_offset)),
        None => Err(Error::WrongKey { object: "a sealed object".to_owned() }),
    }
}

/// Bytes of the header at the beginning of `prefix`, with its last line's end. What is between the
/// first line and the last is the crate's to judge.
fn header_len(prefix: &[u8]) -> Result<usize> {
    let common = prefix.len().min(V1.len());
    if prefix[..common] != V1[..common] {
        return Err(if prefix.starts_with(MAGIC) {
            let object = "a sealed object".to_owned();
            Error::Unsupported { object, reason: "its version of the age format is not v1".to_owned() }
        } else {
            Error::damaged("it does not begin as an age file does")
        });
    }
    let prefix = &prefix[..prefix.len().min(limits::AGE_HEADER_BYTES_MAX)];
    let mac_line = prefix.windows(4).position(|bytes| bytes == b"\n---").map(|at| at + 1);
    let end = mac_line.and_then(|from| prefix[from..].iter().position(|&byte| byte == b'\n').map(|at| from + at + 1));
    end.ok_or_else(|| cut(prefix))
}

fn cut(prefix: &[u8]) -> Error {
    if prefix.len() < limits::AGE_HEADER_BYTES_MAX {
        return Error::HeaderCut { have: prefix.len() };
    }
    Error::damaged(format!("its header has no end within {} bytes", limits::AGE_HEADER_BYTES_MAX))
}

/// What the crate says of a header. Its own text for excessive work is not asked for: it shifts by
/// a difference of two untrusted numbers, which can overflow.
fn decrypt_error(error: DecryptError, passphrase: bool) -> Error {
    let object = "a sealed object".to_owned();
    match error {
        DecryptError::NoMatchingKeys => Error::WrongKey { object },
        // A wrong passphrase and a changed stanza look the same.
        DecryptError::DecryptionFailed if passphrase => Error::WrongKey { object },
        DecryptError::ExcessiveWork { required, .. } => Error::Unsupported {
            object,
            reason: format!(
                "its passphrase needs work 2^{required}, and at most 2^{} is tried",
                limits::SCRYPT_LOG_N_MAX
            ),
        },
        DecryptError::DecryptionFailed => Error::damaged("its header is sealed to this identity, but does not open"),
        DecryptError::InvalidMac => Error::damaged("its header is not what was written"),
        DecryptError::InvalidHeader | DecryptError::UnknownFormat | DecryptError::Io(_) => {
            Error::damaged("its header is not one of an age file")
        }
        other => Error::Unsupported { object, reason: other.to_string() },
    }
}

/// A header, handed over whole at the first call of `read_until`, and the nonce behind it.
///
/// The crate parses all it has got after each line; line by line, a hostile header of many short
/// lines would take time in the square of its length.
struct InOneGo<'a> {
    header: &'a [u8],
    rest: &'a [u8],
}

impl Read for InOneGo<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for InOneGo<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(if self.header.is_empty() { self.rest } else { self.header })
    }

    fn consume(&mut self, count: usize) {
        let from = if self.header.is_empty() { &mut self.rest } else { &mut self.header };
        *from = from.get(count..).unwrap_or_default();
    }

    fn read_until(&mut self, _byte: u8, out: &mut Vec<u8>) -> io::Result<usize> {
        let whole = std::mem::take(&mut self.header);
        out.extend_from_slice(whole);
        Ok(whole.len())
    }
}
