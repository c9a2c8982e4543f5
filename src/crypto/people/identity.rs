//! What opens what is sealed to a person.

use super::{Passphrase, PersonRecipient, good_plugin_name, read_private};
use crate::crypto::keys::{DataIdentity, Recipient};
use crate::crypto::{Error, Result};
use crate::limits::SCRYPT_LOG_N_MAX;
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// The secret half of a [`PersonRecipient`].
#[derive(Clone)]
pub struct PersonIdentity(Kind);

#[derive(Clone)]
enum Kind {
    X25519(DataIdentity),
    Ssh(Box<age::ssh::Identity>),
    Plugin(age::plugin::Identity),
    Passphrase(Passphrase),
}

/// True for what looks like an identity, of whatever kind; age reads its own in small letters too.
fn holds_identity(text: &str) -> bool {
    const AGE: &[u8] = b"AGE-";
    text.contains("-----BEGIN ") || text.as_bytes().windows(AGE.len()).any(|part| part.eq_ignore_ascii_case(AGE))
}

impl PersonIdentity {
    /// The identities in the file `path`: an age identity file (one or more lines of
    /// `AGE-SECRET-KEY-1…` or `AGE-PLUGIN-…`), or an OpenSSH private key, for which `passphrase` is
    /// taken if it is locked.
    ///
    /// # Errors
    /// The file cannot be read, others can get at it, there is no identity in it, or it is locked
    /// and the passphrase is missing or wrong.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<Vec<Self>> {
        let text = read_private(path, holds_identity)?;
        if text.trim_start().starts_with("-----BEGIN ") {
            return Ok(vec![load_ssh(path, text.trim_start(), passphrase)?]);
        }
        let mut identities = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line is not quoted: it may be a secret.
            let reason = || format!("line {} is no age identity that is known", number + 1);
            identities.push(parse_line(line).ok_or_else(|| not_identities(path, reason()))?);
        }
        if identities.is_empty() {
            return Err(not_identities(path, "there is no identity in it".to_owned()));
        }
        Ok(identities)
    }

    /// What opens the things that are sealed with `passphrase`.
    pub fn from_passphrase(passphrase: Passphrase) -> Self {
        Self(Kind::Passphrase(passphrase))
    }

    /// Whom to seal to, so that this identity opens it; `None` if it does not tell: a plugin's.
    pub fn recipient(&self) -> Option<PersonRecipient> {
        match &self.0 {
            Kind::X25519(identity) => Some(PersonRecipient::X25519(identity.recipient())),
            Kind::Passphrase(passphrase) => Some(PersonRecipient::Passphrase(passphrase.clone())),
            Kind::Plugin(_) => None,
            Kind::Ssh(identity) => {
                let recipient = age::ssh::Recipient::try_from(identity.as_ref().clone()).ok()?;
                Some(PersonRecipient::Ssh { recipient, comment: String::new() })
            }
        }
    }

    /// As the `age` crate takes it.
    pub(in crate::crypto) fn to_age(&self) -> Result<Box<dyn age::Identity>> {
        match &self.0 {
            Kind::X25519(identity) => Ok(Box::new(identity.0.clone())),
            Kind::Ssh(identity) => Ok(identity.clone()),
            Kind::Plugin(identity) => {
                let alone = std::slice::from_ref(identity);
                let plugin = age::plugin::IdentityPluginV1::new(identity.plugin(), alone, age::NoCallbacks);
                let missing = |error: age::plugin::ResolveError| Error::Unsupported {
                    object: format!("an identity of the plugin {}", identity.plugin()),
                    reason: error.to_string(),
                };
                plugin.map(|plugin| Box::new(plugin) as _).map_err(missing)
            }
            Kind::Passphrase(passphrase) => {
                let mut identity = age::scrypt::Identity::new(passphrase.secret());
                identity.set_max_work_factor(SCRYPT_LOG_N_MAX);
                Ok(Box::new(identity))
            }
        }
    }
}

impl fmt::Debug for PersonIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::X25519(_) => "PersonIdentity(age, hidden)",
            Kind::Ssh(_) => "PersonIdentity(ssh, hidden)",
            Kind::Plugin(_) => "PersonIdentity(plugin, hidden)",
            Kind::Passphrase(_) => "PersonIdentity(passphrase, hidden)",
        })
    }
}

fn not_identities(path: &Path, reason: String) -> Error {
    Error::Text { object: format!("identities from {}", path.display()), reason }
}

fn parse_line(line: &str) -> Option<PersonIdentity> {
    if let Ok(identity) = DataIdentity::parse(line) {
        return Some(PersonIdentity(Kind::X25519(identity)));
    }
    let plugin: age::plugin::Identity = line.parse().ok()?;
    good_plugin_name(plugin.plugin()).then_some(PersonIdentity(Kind::Plugin(plugin)))
}

/// An ssh key is unlocked here and now: the `age` crate would do it once for each stanza it looks at.
fn load_ssh(path: &Path, text: &str, passphrase: Option<&Passphrase>) -> Result<PersonIdentity> {
    use age::ssh::{Identity, UnsupportedKey};
    let unknown = |_| not_identities(path, "it is no ssh private key that is known".to_owned());
    let identity = match Identity::from_buffer(text.as_bytes(), None).map_err(unknown)? {
        Identity::Unencrypted(key) => Identity::Unencrypted(key),
        Identity::Encrypted(key) => {
            let Some(passphrase) = passphrase else {
                return Err(Error::NeedsPassphrase { path: path.to_path_buf() });
            };
            let wrong = |_| Error::WrongKey { object: path.display().to_string() };
            Identity::from(key.decrypt(passphrase.secret()).map_err(wrong)?)
        }
        Identity::Unsupported(why) => {
            let reason = match why {
                UnsupportedKey::EncryptedPem => {
                    format!("its old form cannot be unlocked; run: ssh-keygen -p -f {}", path.display())
                }
                UnsupportedKey::EncryptedSsh(cipher) => format!("it is locked with {cipher}, which is not known"),
                UnsupportedKey::Hardware(kind) => format!("a key on a device ({kind}) cannot open anything for age"),
                UnsupportedKey::Type(kind) => format!("of ssh keys, only ed25519 and RSA will do, not {kind}"),
            };
            return Err(Error::Unsupported { object: path.display().to_string(), reason });
        }
    };
    Ok(PersonIdentity(Kind::Ssh(Box::new(identity))))
}

/// Writes a new age identity to the new file `path`, durably and closed to everybody else, and
/// gives its recipient. The folder must be there.
///
/// # Errors
/// The file exists (it is never replaced: what is sealed to it would be lost), or cannot be written.
pub fn generate_identity_file(path: &Path) -> Result<PersonRecipient> {
    let identity = DataIdentity::generate();
    let recipient: Recipient = identity.recipient();
    let created = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let secret = identity.to_text();
    let text = Zeroizing::new(format!("# created: {created}\n# public key: {recipient}\n{}\n", secret.as_str()));
    crate::fs::write_new(path, text.as_bytes(), crate::fs::PRIVATE_FILE).map_err(|source| Error::Io {
        operation: "write",
        path: path.to_path_buf(),
        source,
    })?;
    Ok(PersonRecipient::X25519(recipient))
}
