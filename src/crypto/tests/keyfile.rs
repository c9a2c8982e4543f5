//! Key files: who opens them, who does not, and what is damage.

use super::interop::run;
use super::people::*;
use crate::crypto::Error;
use crate::crypto::keyfile::{open_secrets, seal_secrets, wants_passphrase};
use crate::crypto::people::{PersonIdentity, PersonRecipient, generate_identity_file};
use crate::crypto::secrets::Secrets;
use crate::id::RepositoryId;

#[test]
fn each_kind_of_person_opens_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let persons = persons(dir.path());
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    for (who, (recipient, _)) in persons.iter().enumerate() {
        let sealed = seal_secrets(&secrets, std::slice::from_ref(recipient), QUICK).unwrap();
        assert_eq!(wants_passphrase(&sealed), recipient.is_passphrase());
        for (other, (_, identity)) in persons.iter().enumerate() {
            match open_secrets(&sealed, std::slice::from_ref(identity)) {
                Ok(opened) => {
                    assert_eq!(who, other);
                    assert_eq!(*opened.to_bytes().unwrap(), *secrets.to_bytes().unwrap());
                }
                Err(error) => {
                    assert_ne!(who, other, "{recipient:?}: {error}");
                    assert!(matches!(error, Error::WrongKey { .. }), "{recipient:?}: {error}");
                }
            }
        }
        let all: Vec<_> = persons.iter().map(|(_, identity)| identity.clone()).collect();
        assert!(open_secrets(&sealed, &all).is_ok(), "{recipient:?} among others");
    }
}

#[test]
fn several_persons_share_a_key_file_but_not_with_a_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let persons = persons(dir.path());
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    let recipients: Vec<_> = persons.iter().map(|(recipient, _)| recipient.clone()).collect();
    let error = seal_secrets(&secrets, &recipients, QUICK).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let sealed = seal_secrets(&secrets, &recipients[..4], QUICK).unwrap();
    for (_, identity) in &persons[..4] {
        assert!(open_secrets(&sealed, std::slice::from_ref(identity)).is_ok(), "{identity:?}");
    }
    assert!(seal_secrets(&secrets, &[], QUICK).is_err());
}

#[test]
fn damage_is_told_from_a_wrong_key() {
    let dir = tempfile::tempdir().unwrap();
    let persons = persons(dir.path());
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    for (recipient, identity) in &persons {
        let sealed = seal_secrets(&secrets, std::slice::from_ref(recipient), QUICK).unwrap();
        let identities = std::slice::from_ref(identity);
        for (what, damaged) in [
            ("cut", sealed[..sealed.len() - 1].to_vec()),
            ("cut in the header", sealed[..30].to_vec()),
            ("longer", [sealed.as_slice(), &[0]].concat()),
            ("no age file", b"{}".to_vec()),
            ("another header MAC", sealed_with_other_mac(&sealed)),
        ] {
            let error = open_secrets(&damaged, identities).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
        }
    }
    let (recipient, identity) = &persons[4];
    let sealed = seal_secrets(&secrets, std::slice::from_ref(recipient), QUICK).unwrap();
    let wrong = [PersonIdentity::from_passphrase(passphrase("incorrect horse"))];
    assert!(matches!(open_secrets(&sealed, &wrong), Err(Error::WrongKey { .. })));
    assert!(matches!(open_secrets(&sealed, &[]), Err(Error::WrongKey { .. })));
    assert!(open_secrets(&sealed, std::slice::from_ref(identity)).is_ok());
}

fn sealed_with_other_mac(sealed: &[u8]) -> Vec<u8> {
    let at = sealed.windows(5).position(|bytes| bytes == b"\n--- ").unwrap() + 5;
    let mut changed = sealed.to_vec();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    changed
}

#[test]
fn a_passphrase_has_bounded_work() {
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    let recipient = [PersonRecipient::Passphrase(passphrase("x"))];
    for log_n in [0, 23, 64, 255] {
        let error = seal_secrets(&secrets, &recipient, log_n).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{log_n}: {error}");
    }
    let sealed = seal_secrets(&secrets, &recipient, QUICK).unwrap();
    let line_end = sealed.windows(3).position(|bytes| bytes == b" 4\n").unwrap();
    for work in ["23", "63", "200"] {
        let hostile = [&sealed[..=line_end], work.as_bytes(), &sealed[line_end + 2..]].concat();
        let error = open_secrets(&hostile, &[PersonIdentity::from_passphrase(passphrase("x"))]).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains(work), "{error}");
    }
}

#[test]
fn the_age_program_opens_a_key_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    let recipient = generate_identity_file(&path).unwrap();
    let secrets = Secrets::generate(RepositoryId([3; 32])).unwrap();
    let ssh =
        [recipient, PersonRecipient::parse(SSH_ED25519_PUB).unwrap(), PersonRecipient::parse(SSH_RSA_PUB).unwrap()];
    let sealed = seal_secrets(&secrets, &ssh, QUICK).unwrap();
    let keys = [path, file(dir.path(), "ed", SSH_ED25519, 0o600), file(dir.path(), "rsa", SSH_RSA, 0o600)];
    for key in keys {
        let Some(opened) = run("age", &["-d", "-i", key.to_str().unwrap()], &sealed) else { return };
        assert_eq!(opened, *secrets.to_bytes().unwrap());
    }
}
