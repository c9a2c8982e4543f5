//! The repository's own keys: age X25519, as `age-keygen` makes them, and standard text.
//!
//! They are types of this crate so that a secret cannot be printed by mistake, and so that a
//! recipient that would be no secret is refused where it is read.

use super::{Error, Result};
use age::secrecy::ExposeSecret;
use age_core::primitives::bech32_decode;
use aws_lc_rs::agreement;
use std::fmt;
use zeroize::Zeroizing;

/// What objects are sealed to: the public half of a [`DataIdentity`].
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(pub(super) age::x25519::Recipient);

impl Recipient {
    /// The recipient that `text` (`age1…`) spells.
    ///
    /// # Errors
    /// The text is none, or is one of the few points for which everybody knows the shared secret.
    pub fn parse(text: &str) -> Result<Self> {
        let recipient = text.parse().map_err(|reason: &str| not_a_recipient(reason))?;
        if !has_secret(text) {
            return Err(not_a_recipient("what is sealed to it would not be secret"));
        }
        Ok(Self(recipient))
    }
}

fn not_a_recipient(reason: &str) -> Error {
    Error::Text { object: "a recipient".to_owned(), reason: reason.to_owned() }
}

/// False for the points of low order: the shared secret with them is zero, whatever the other half
/// is (RFC 7748 §6.1). The `age` crate panics when it seals to one.
fn has_secret(text: &str) -> bool {
    let point: std::result::Result<Vec<u8>, ()> =
        bech32_decode(text, |_| (), |_| Ok(()), |_, bytes| Ok(bytes.collect()));
    // Any scalar shows it, so a fixed one does: a random one would start the library's own random
    // generator, which takes 40 ms of every start of the program.
    let mine = agreement::PrivateKey::from_private_key(&agreement::X25519, &[0x5a; 32]);
    let (Ok(point), Ok(mine)) = (point, mine) else {
        return false;
    };
    let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, point);
    agreement::agree(&mine, peer, (), |_| Ok(())).is_ok()
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// What opens the objects that are sealed to its [`Recipient`]. Wiped when it is dropped.
#[derive(Clone)]
pub struct DataIdentity(pub(super) age::x25519::Identity);

impl DataIdentity {
    /// A new random identity.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The identity that `text` (`AGE-SECRET-KEY-1…`) spells.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self> {
        let not_one = |reason: &str| Error::Text { object: "an identity".to_owned(), reason: reason.to_owned() };
        text.parse().map(Self).map_err(not_one)
    }

    /// The secret, as text.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

impl fmt::Debug for DataIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataIdentity(secret of {})", self.0.to_public())
    }
}
