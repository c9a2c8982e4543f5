//! `keys/NAME.age`: the secrets of a repository, sealed to what a person holds.
//!
//! One small age file, which `age -d -i IDENTITY keys/NAME.age` opens too. Adding or removing a
//! person writes or removes such a file and touches no data.

use super::open::{PayloadKey, whole};
use super::people::{PersonIdentity, PersonRecipient};
use super::secrets::Secrets;
use super::{Error, Result, header, seal};
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use zeroize::Zeroizing;

/// The work that trying a passphrase costs, as the power of two of scrypt's N: 256 MiB of memory
/// and about a second, as age has it.
pub const SCRYPT_LOG_N: u8 = 18;

/// The key file for `recipients`, each of whom can open it. `log_n` is the work of trying a
/// passphrase, [`SCRYPT_LOG_N`] but in tests.
///
/// # Errors
/// There is no recipient, a passphrase is not the only one (age's rule: it must not be weakened by
/// others), or a plugin is missing or fails.
pub fn seal_secrets(secrets: &Secrets, recipients: &[PersonRecipient], log_n: u8) -> Result<Vec<u8>> {
    let refused = |reason: &str| {
        let object = "the secrets".to_owned();
        Err(Error::Refused { operation: "seal", object, reason: reason.to_owned() })
    };
    if recipients.is_empty() {
        return refused("nobody is named who could open them");
    }
    if recipients.len() > 1 && recipients.iter().any(PersonRecipient::is_passphrase) {
        return refused("a passphrase must be the only recipient of a key file");
    }
    let recipients = recipients.iter().map(|recipient| recipient.to_age(log_n)).collect::<Result<Vec<_>>>()?;
    let recipients: Vec<&dyn age::Recipient> = recipients.iter().map(AsRef::as_ref).collect();
    let (begin, key) = header::start(&recipients)?;
    seal::seal_whole(key, begin, &secrets.to_bytes()?)
}

/// The secrets in the key file `sealed`, opened by the first of `identities` that fits.
///
/// # Errors
/// [`Error::WrongKey`] if none fits, [`Error::Damaged`] if the file is not what was sealed. A
/// damaged line for a recipient cannot be told from one for somebody else, and counts as the first.
pub fn open_secrets(sealed: &[u8], identities: &[PersonIdentity]) -> Result<Secrets> {
    let mut failure = None;
    for identity in identities {
        // One at a time: a plugin that is missing must not hide an identity that fits.
        match unlock(sealed, identity) {
            Ok(key) => {
                let plain = key.open_whole(sealed, SMALL_OBJECT_BYTES_MAX).map_err(name_it)?;
                return Secrets::from_bytes(&Zeroizing::new(plain));
            }
            Err(Error::WrongKey { .. }) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(name_it(failure.unwrap_or(Error::WrongKey { object: String::new() })))
}

fn unlock(sealed: &[u8], identity: &PersonIdentity) -> Result<PayloadKey> {
    let identity = identity.to_age()?;
    PayloadKey::unlock(sealed, &[identity.as_ref()]).map_err(whole)
}

/// The error, with the key file as its object where it tells of sealed objects in general.
fn name_it(error: Error) -> Error {
    let object = "the key file".to_owned();
    match error {
        Error::WrongKey { .. } => Error::WrongKey { object },
        Error::Damaged { reason, .. } => Error::Damaged { object, reason },
        other => other,
    }
}

/// True if the key file `sealed` is opened by a passphrase. Nothing is tried or proven.
pub fn wants_passphrase(sealed: &[u8]) -> bool {
    sealed.strip_prefix(header::V1).is_some_and(|stanzas| stanzas.starts_with(b"-> scrypt "))
}
