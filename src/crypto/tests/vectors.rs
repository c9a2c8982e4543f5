//! The C2SP/CCTV vectors of the age format, fixtures/vectors/age (its README says where from).

use crate::crypto::open::{PayloadKey, open, whole};
use crate::crypto::people::{Passphrase, PersonIdentity};
use crate::crypto::{DataIdentity, Error, Result};
use aws_lc_rs::digest;
use std::path::Path;
use zeroize::Zeroizing;

/// Stanzas as early versions of age wrote them: the `age` crate reads them to this day, under the
/// header's MAC as all others.
const LEGACY: [&str; 2] = ["stanza_missing_body", "stanza_missing_final_line"];

struct Vector {
    expect: String,
    payload: Option<String>,
    identities: Vec<DataIdentity>,
    passphrases: Vec<String>,
    sealed: Vec<u8>,
}

fn parse(bytes: &[u8]) -> Vector {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
    let fields = std::str::from_utf8(&bytes[..end]).unwrap().lines().map(|line| line.split_once(": ").unwrap());
    let mut sealed = bytes[end + 2..].to_vec();
    let (mut expect, mut payload, mut identities, mut passphrases) = (String::new(), None, vec![], vec![]);
    for (name, value) in fields {
        match name {
            "expect" => expect = value.to_owned(),
            "payload" => payload = Some(value.to_owned()),
            "identity" => identities.push(DataIdentity::parse(value).unwrap()),
            "passphrase" => passphrases.push(value.to_owned()),
            "compressed" => sealed = zstd::decode_all(sealed.as_slice()).unwrap(),
            "file key" | "comment" => {}
            other => panic!("unknown field {other}"),
        }
    }
    Vector { expect, payload, identities, passphrases, sealed }
}

fn open_with_passphrase(passphrase: &str, sealed: &[u8], limit: usize) -> Result<Vec<u8>> {
    let passphrase = Passphrase::new(Zeroizing::new(passphrase.to_owned())).unwrap();
    let identity = PersonIdentity::from_passphrase(passphrase).to_age().unwrap();
    PayloadKey::unlock(sealed, &[identity.as_ref()]).map_err(whole)?.open_whole(sealed, limit)
}

#[test]
fn every_vector_ends_as_it_should() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors/age");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            continue;
        }
        seen += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let vector = parse(&std::fs::read(&path).unwrap());
        let limit = 32 << 20;
        let mut got = open(&vector.identities, &vector.sealed, limit);
        for passphrase in &vector.passphrases {
            if matches!(got, Err(Error::WrongKey { .. })) {
                got = open_with_passphrase(passphrase, &vector.sealed, limit);
            }
        }
        match (vector.expect.as_str(), &got) {
            ("success", Ok(plain)) => {
                let hash = crate::id::to_hex(digest::digest(&digest::SHA256, plain).as_ref());
                assert_eq!(Some(hash), vector.payload, "{name}");
            }
            ("no match", Err(Error::WrongKey { .. })) => {}
            ("HMAC failure" | "header failure" | "payload failure", Err(error)) => {
                assert!(!matches!(error, Error::WrongKey { .. } | Error::HeaderCut { .. }), "{name}: {error}");
            }
            ("header failure", Ok(_)) if LEGACY.contains(&name) => {}
            (expect, got) => panic!("{name}: {expect} is expected, and it is {:?}", got.as_ref().map(Vec::len)),
        }
    }
    assert!(seen > 80, "{seen} vectors");
}
