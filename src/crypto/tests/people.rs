//! Identity files, ssh keys, passphrases, and the texts that are none.

use super::bech32;
use super::interop::run;
use crate::crypto::Error;
use crate::crypto::keyfile::{open_secrets, seal_secrets};
use crate::crypto::people::{
    Passphrase, PersonIdentity, PersonRecipient, generate_identity_file, read_passphrase_file,
};
use crate::crypto::secrets::Secrets;
use crate::id::RepositoryId;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub(super) const SSH_ED25519: &str = include_str!("../../../fixtures/keys/ssh_ed25519");
pub(super) const SSH_ED25519_PUB: &str = include_str!("../../../fixtures/keys/ssh_ed25519.pub");
pub(super) const SSH_RSA: &str = include_str!("../../../fixtures/keys/ssh_rsa");
pub(super) const SSH_RSA_PUB: &str = include_str!("../../../fixtures/keys/ssh_rsa.pub");
pub(super) const SSH_LOCKED: &str = include_str!("../../../fixtures/keys/ssh_locked");
pub(super) const SSH_LOCKED_PUB: &str = include_str!("../../../fixtures/keys/ssh_locked.pub");
pub(super) const SSH_ECDSA: &str = include_str!("../../../fixtures/keys/ssh_ecdsa");
pub(super) const SSH_ECDSA_PUB: &str = include_str!("../../../fixtures/keys/ssh_ecdsa.pub");
/// Work that is soon done.
pub(super) const QUICK: u8 = 4;

pub(super) fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
}

pub(super) fn file(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Each kind of person: a recipient and the identity for it.
pub(super) fn persons(dir: &Path) -> Vec<(PersonRecipient, PersonIdentity)> {
    let own = dir.join("own");
    let recipient = generate_identity_file(&own).unwrap();
    let load = |name, text, pass: Option<&Passphrase>| {
        PersonIdentity::load(&file(dir, name, text, 0o600), pass).unwrap().remove(0)
    };
    let secret = passphrase("correct horse");
    vec![
        (recipient, PersonIdentity::load(&own, None).unwrap().remove(0)),
        (PersonRecipient::parse(SSH_ED25519_PUB).unwrap(), load("ed", SSH_ED25519, None)),
        (PersonRecipient::parse(SSH_RSA_PUB).unwrap(), load("rsa", SSH_RSA, None)),
        (PersonRecipient::parse(SSH_LOCKED_PUB).unwrap(), load("locked", SSH_LOCKED, Some(&passphrase("open sesame")))),
        (PersonRecipient::Passphrase(secret.clone()), PersonIdentity::from_passphrase(secret)),
    ]
}

#[test]
fn files_that_others_can_get_at_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = "# a comment\n\nAGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";
    for mode in [0o640, 0o604, 0o620, 0o610, 0o601, 0o644, 0o666] {
        let path = file(dir.path(), "wide", text, mode);
        for error in [PersonIdentity::load(&path, None).unwrap_err(), read_passphrase_file(&path).unwrap_err()] {
            let told = error.to_string();
            assert!(matches!(error, Error::WideMode { .. }), "{mode:o}: {told}");
            assert!(
                told.contains(&format!("{mode:04o}")) && told.contains(&format!("chmod 600 {}", path.display())),
                "{told}"
            );
        }
        std::fs::remove_file(&path).unwrap();
    }
    let small = file(dir.path(), "small letters", &text.to_lowercase(), 0o644);
    assert!(matches!(PersonIdentity::load(&small, None), Err(Error::WideMode { .. })));
    for mode in [0o600, 0o400] {
        let path = file(dir.path(), &format!("{mode:o}"), text, mode);
        assert_eq!(PersonIdentity::load(&path, None).unwrap().len(), 1);
    }
}

#[test]
fn an_identity_file_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    let recipient = generate_identity_file(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(text.starts_with("# created: 20") && text.contains(&format!("# public key: {recipient}\n")), "{text}");
    let loaded = PersonIdentity::load(&path, None).unwrap();
    assert_eq!(loaded[0].recipient().unwrap().to_string(), recipient.to_string());
    let error = generate_identity_file(&path).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    if let Some(theirs) = run("age-keygen", &["-y", path.to_str().unwrap()], b"") {
        assert_eq!(String::from_utf8(theirs).unwrap().trim(), recipient.to_string());
    }
}

#[test]
fn several_identities_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    let first = generate_identity_file(&one).unwrap();
    let second = generate_identity_file(&two).unwrap();
    let read = |path| std::fs::read_to_string(path).unwrap();
    let plugin = bech32("age-plugin-none-", b"x").to_uppercase();
    let text = format!("{}\r\n{plugin}\n{}", read(&one).replace('\n', "\r\n"), read(&two));
    let identities = PersonIdentity::load(&file(dir.path(), "all", &text, 0o600), None).unwrap();
    assert_eq!(identities.len(), 3);
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    for recipient in [first, second] {
        let sealed = seal_secrets(&secrets, &[recipient], QUICK).unwrap();
        assert!(open_secrets(&sealed, &identities).is_ok(), "the missing plugin is in the way");
    }
    let sealed = seal_secrets(&secrets, &[PersonRecipient::parse(SSH_RSA_PUB).unwrap()], QUICK).unwrap();
    let error = open_secrets(&sealed, &identities).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("age-plugin-none"), "{error}");
}

#[test]
fn files_that_hold_no_identity() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J3X";
    for text in
        ["", "# nothing\n", secret, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "-----BEGIN X-----\n", "\u{feff}"]
    {
        let error = PersonIdentity::load(&file(dir.path(), "k", text, 0o600), None).unwrap_err();
        assert!(matches!(error, Error::Text { .. }) && !error.to_string().contains("5J3X"), "{text:?}: {error}");
    }
    let error = PersonIdentity::load(&file(dir.path(), "ec", SSH_ECDSA, 0o600), None).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let locked = file(dir.path(), "locked", SSH_LOCKED, 0o600);
    assert!(matches!(PersonIdentity::load(&locked, None), Err(Error::NeedsPassphrase { .. })));
    let error = PersonIdentity::load(&locked, Some(&passphrase("wrong"))).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    let error = PersonIdentity::load(&dir.path().join("missing"), None).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let huge = file(dir.path(), "huge", &"#\n".repeat(1 << 20), 0o600);
    assert!(matches!(PersonIdentity::load(&huge, None), Err(Error::Io { .. })));
}

#[test]
fn recipients_are_told_apart() {
    let age = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
    let plugin = bech32("age1yubikey", &[2; 33]);
    for (text, shown) in [
        (age, "age1t7rxyev2…".to_owned()),
        (SSH_ED25519_PUB, format!("ssh-ed25519 AAAA…{} alice@snap", tail(SSH_ED25519_PUB))),
        (SSH_RSA_PUB, format!("ssh-rsa AAAA…{} bob@snap", tail(SSH_RSA_PUB))),
        (&plugin, format!("{}…", &plugin[..20])),
    ] {
        let recipient = PersonRecipient::parse(text).unwrap();
        assert_eq!(recipient.describe(), shown);
        assert_eq!(recipient.to_string(), text.trim());
    }
    assert_eq!(PersonRecipient::Passphrase(passphrase("x")).describe(), "passphrase");
}

fn tail(line: &str) -> &str {
    let key = line.split(' ').nth(1).unwrap();
    &key[key.len() - 8..]
}

#[test]
fn texts_that_are_no_recipient() {
    let evil = bech32("age1../../../tmp/x", b"x");
    let zero_mpint = "ssh-rsa AAAAB3NzaC1yc2EAAAABAAAAAAEA";
    let secret = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
    for text in [
        "",
        "age1",
        "age1xyz",
        "ssh-rsa",
        "ssh-ed25519 AAAA",
        "hunter2",
        &evil,
        zero_mpint,
        secret,
        SSH_ECDSA_PUB,
        "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pb",
        &format!("{}\n{}", SSH_ED25519_PUB.trim(), SSH_RSA_PUB),
    ] {
        let error = PersonRecipient::parse(text).expect_err(text);
        assert!(matches!(error, Error::Text { .. }), "{text}: {error}");
        assert!(text.len() < 5 || !error.to_string().contains(text), "{error}");
    }
    // A good name, but no such program.
    let recipient = PersonRecipient::parse(&bech32("age1snap-none", b"x")).unwrap();
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    let error = seal_secrets(&secrets, &[recipient], QUICK).unwrap_err();
    assert!(error.to_string().contains("age-plugin-snap-none"), "{error}");
}

#[test]
fn passphrases() {
    let dir = tempfile::tempdir().unwrap();
    let read = |text| read_passphrase_file(&file(dir.path(), "p", text, 0o600));
    for text in ["secret words", "secret words\n", "secret words\r\nsecond line\n"] {
        assert!(read(text).unwrap().equals(&passphrase("secret words")), "{text:?}");
    }
    assert!(!read(" secret words\n").unwrap().equals(&passphrase("secret words")), "blanks count");
    for text in ["", "\n", "\r\n", "\nsecond line\n"] {
        assert!(matches!(read(text), Err(Error::Text { .. })), "{text:?}");
    }
    assert!(Passphrase::new(Zeroizing::new(String::new())).is_err());
    let secret = passphrase("secret words");
    let shown = format!(
        "{secret:?} {:?} {:?}",
        PersonRecipient::Passphrase(secret.clone()),
        PersonIdentity::from_passphrase(secret.clone())
    );
    assert!(!shown.contains("secret words"), "{shown}");
}
