//! Whom secrets can be sealed to.

use super::{Passphrase, good_plugin_name};
use crate::crypto::keys::Recipient;
use crate::crypto::{Error, Result};
use crate::limits::SCRYPT_LOG_N_MAX;
use std::fmt;

/// Somebody to whom secrets can be sealed.
#[derive(Clone)]
pub enum PersonRecipient {
    /// An age recipient, `age1…`.
    X25519(Recipient),
    /// An ssh public key, ed25519 or RSA.
    Ssh {
        /// The key.
        recipient: age::ssh::Recipient,
        /// What stands behind it in its line.
        comment: String,
    },
    /// A recipient that the program `age-plugin-NAME` seals to, `age1NAME1…`.
    Plugin(age::plugin::Recipient),
    /// Whoever knows it.
    Passphrase(Passphrase),
}

impl PersonRecipient {
    /// The recipient that `text` spells: `age1…`, `age1NAME1…`, or a line of an ssh public key.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        // Only what a recipient begins with is looked at: the text may be a secret in the wrong place.
        if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("sk-") {
            return parse_ssh(text);
        }
        if !text.starts_with("age1") {
            return Err(not_one("it begins neither with “age1” nor with “ssh-”"));
        }
        match text.parse::<age::plugin::Recipient>() {
            Ok(plugin) if good_plugin_name(plugin.plugin()) => Ok(Self::Plugin(plugin)),
            Ok(_) => Err(not_one("no plugin has such a name")),
            Err(_) => Recipient::parse(text).map(Self::X25519),
        }
    }

    /// Short, for a list: enough to tell one from another, and no secret.
    pub fn describe(&self) -> String {
        match self {
            Self::X25519(recipient) => shorten(&recipient.to_string(), 12),
            Self::Plugin(recipient) => shorten(&recipient.to_string(), 5 + recipient.plugin().len() + 8),
            Self::Passphrase(_) => "passphrase".to_owned(),
            Self::Ssh { recipient, comment } => {
                let line = recipient.to_string();
                let (kind, key) = line.split_once(' ').unwrap_or((&line, ""));
                // All keys of a kind begin alike, so the end of it is shown.
                let tail = key.get(key.len().saturating_sub(8)..).unwrap_or_default();
                format!("{kind} AAAA…{tail} {comment}").trim_end().to_owned()
            }
        }
    }

    /// True for a passphrase, which must be the only recipient of what is sealed.
    pub fn is_passphrase(&self) -> bool {
        matches!(self, Self::Passphrase(_))
    }

    /// As the `age` crate takes it; `log_n` is the work that a passphrase costs.
    pub(in crate::crypto) fn to_age(&self, log_n: u8) -> Result<Box<dyn age::Recipient>> {
        let refused = |reason: String| Error::Refused { operation: "seal to", object: self.describe(), reason };
        match self {
            Self::X25519(recipient) => Ok(Box::new(recipient.0.clone())),
            Self::Ssh { recipient, .. } => Ok(Box::new(recipient.clone())),
            Self::Plugin(recipient) => {
                let alone = std::slice::from_ref(recipient);
                let plugin = age::plugin::RecipientPluginV1::new(recipient.plugin(), alone, &[], age::NoCallbacks);
                plugin.map(|plugin| Box::new(plugin) as _).map_err(|error| refused(error.to_string()))
            }
            Self::Passphrase(passphrase) => {
                if !(1..=SCRYPT_LOG_N_MAX).contains(&log_n) {
                    return Err(refused(format!(
                        "a work factor from 1 to {SCRYPT_LOG_N_MAX} is expected, not {log_n}"
                    )));
                }
                let mut recipient = age::scrypt::Recipient::new(passphrase.secret());
                recipient.set_work_factor(log_n);
                Ok(Box::new(recipient))
            }
        }
    }
}

/// All of it as text; a passphrase is only named.
impl fmt::Display for PersonRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X25519(recipient) => recipient.fmt(f),
            Self::Plugin(recipient) => recipient.fmt(f),
            Self::Passphrase(_) => f.write_str("passphrase"),
            Self::Ssh { recipient, comment } if comment.is_empty() => recipient.fmt(f),
            Self::Ssh { recipient, comment } => write!(f, "{recipient} {comment}"),
        }
    }
}

impl fmt::Debug for PersonRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PersonRecipient({})", self.describe())
    }
}

fn not_one(reason: &str) -> Error {
    Error::Text { object: "a recipient".to_owned(), reason: reason.to_owned() }
}

fn shorten(text: &str, length: usize) -> String {
    format!("{}…", text.get(..length).unwrap_or(text))
}

fn parse_ssh(text: &str) -> Result<PersonRecipient> {
    use age::ssh::ParseRecipientKeyError as Why;
    if text.lines().count() != 1 {
        return Err(not_one("it is more than one line"));
    }
    let mut parts = text.split_whitespace();
    let (kind, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if !sound_ssh_key(key) {
        return Err(not_one("it is no ssh public key"));
    }
    // The comment is shown on terminals.
    let visible = |part: &str| part.chars().filter(|c| !c.is_control()).collect::<String>();
    let comment = parts.map(visible).collect::<Vec<_>>().join(" ");
    match format!("{kind} {key}").parse() {
        Ok(recipient) => Ok(PersonRecipient::Ssh { recipient, comment }),
        Err(Why::RsaModulusTooSmall) => Err(not_one("RSA keys of less than 2048 bits are not safe")),
        Err(Why::RsaModulusTooLarge) => Err(not_one("RSA keys of more than 4096 bits are not known to age")),
        Err(Why::Unsupported(_)) => Err(not_one("of ssh keys, only ssh-ed25519 and ssh-rsa can be sealed to")),
        Err(Why::Ignore | Why::Invalid(_)) => Err(not_one("it is no ssh public key")),
        Err(_) => Err(not_one("it is no ssh public key that is known")),
    }
}

/// False if a field of the key is nothing but zero bytes: the `age` crate panics on such a number.
/// The key is base64 of fields, each with its length before it (RFC 4253 §6.6).
fn sound_ssh_key(key: &str) -> bool {
    let Some(bytes) = from_base64(key) else { return false };
    let mut rest = bytes.as_slice();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((field, after)) = after.split_at_checked(length) else { return false };
        if field.iter().all(|&byte| byte == 0) {
            return false;
        }
        rest = after;
    }
    rest.is_empty() && !bytes.is_empty()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|&known| known == digit)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}
