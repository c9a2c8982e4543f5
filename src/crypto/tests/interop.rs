//! The `age` crate and the `age` program open what is sealed here, and the other way round.

use super::{lengths, new_key, pattern};
use crate::crypto::keys::DataIdentity;
use crate::crypto::open::open;
use crate::crypto::seal::{Sealer, seal};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

fn crate_seals(identity: &DataIdentity, plain: &[u8]) -> Vec<u8> {
    let recipient = identity.recipient();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient.0 as _)).unwrap();
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).unwrap();
    writer.write_all(plain).unwrap();
    writer.finish().unwrap();
    sealed
}

fn crate_opens(identity: &DataIdentity, sealed: &[u8]) -> Vec<u8> {
    let decryptor = age::Decryptor::new(sealed).unwrap();
    let mut plain = Vec::new();
    decryptor.decrypt(std::iter::once(&identity.0 as _)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

/// Runs `program` on `input`; `None`, said aloud, if it is not installed. In CI it must be.
pub(super) fn run(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("SNAP_CI").is_none(), "{program} is not installed, and SNAP_CI asks for it");
            eprintln!("left out: {program} is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", output.status);
    Some(output.stdout)
}

fn identity_file(dir: &Path, identity: &DataIdentity) -> String {
    let path = dir.join("identity");
    std::fs::write(&path, identity.to_text().as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_crate_opens_ours_and_we_open_the_crates() {
    let (identity, recipients) = new_key();
    for len in lengths() {
        let plain = pattern(len);
        assert!(crate_opens(&identity, &seal(&recipients, &plain).unwrap()) == plain, "{len}");
        let theirs = crate_seals(&identity, &plain);
        assert!(open(std::slice::from_ref(&identity), &theirs, len).unwrap() == plain, "{len}");
    }
}

#[test]
fn the_program_opens_ours_and_we_open_the_programs() {
    let (identity, recipients) = new_key();
    let dir = tempfile::tempdir().unwrap();
    let file = identity_file(dir.path(), &identity);
    for len in lengths() {
        let plain = pattern(len);
        let sealed = seal(&recipients, &plain).unwrap();
        let Some(opened) = run("age", &["-d", "-i", &file], &sealed) else { return };
        assert!(opened == plain, "{len}");
        let theirs = run("age", &["-r", &recipients[0].to_string()], &plain).unwrap();
        assert!(open(std::slice::from_ref(&identity), &theirs, len).unwrap() == plain, "{len}");
    }
}

#[test]
fn every_one_of_several_recipients_opens() {
    let keys = [DataIdentity::generate(), DataIdentity::generate(), DataIdentity::generate()];
    let recipients: Vec<_> = keys.iter().map(DataIdentity::recipient).collect();
    let sealed = seal(&recipients, b"for three").unwrap();
    for identity in keys {
        assert_eq!(open(&[DataIdentity::generate(), identity], &sealed, 9).unwrap(), b"for three");
    }
}

#[test]
fn nobody_is_no_recipient() {
    assert!(seal(&[], b"x").is_err());
    assert!(Sealer::new(&[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the plaintext is cut into pieces, the crate reads it back.
    #[test]
    fn pieces_make_the_same_file(pieces in prop::collection::vec(
        prop_oneof![0usize..200, 65_530usize..65_540, 131_070usize..131_075, 0usize..150_000], 0..6,
    )) {
        let (identity, recipients) = new_key();
        let plain = pattern(pieces.iter().sum());
        let (mut sealer, mut sealed) = Sealer::new(&recipients).unwrap();
        let mut rest = plain.as_slice();
        for piece in pieces {
            let (now, later) = rest.split_at(piece);
            sealer.update(now, &mut sealed).unwrap();
            rest = later;
        }
        sealer.finish(&mut sealed).unwrap();
        prop_assert!(crate_opens(&identity, &sealed) == plain);
        prop_assert!(open(&[identity], &sealed, plain.len()).unwrap() == plain);
    }
}
