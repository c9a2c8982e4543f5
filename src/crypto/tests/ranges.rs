//! Any range of a sealed object is the same range of its plaintext.

use super::{lengths, new_key, pattern};
use crate::crypto::Error;
use crate::crypto::open::PayloadKey;
use crate::crypto::seal::seal;
use crate::limits::AGE_HEADER_BYTES_MAX;
use proptest::prelude::*;

fn read(key: &PayloadKey, sealed: &[u8], offset: u64, len: u64) -> crate::crypto::Result<Vec<u8>> {
    let range = key.blocks_for(sealed.len() as u64, offset, len)?;
    let from = range.sealed_offset as usize;
    let mut bytes = sealed[from..from + range.sealed_len].to_vec();
    Ok(key.open_blocks(&range, &mut bytes)?.to_vec())
}

#[test]
fn every_edge_of_every_length() {
    let (identity, recipients) = new_key();
    for len in lengths() {
        let plain = pattern(len);
        let sealed = seal(&recipients, &plain).unwrap();
        let key = PayloadKey::parse(&sealed[..sealed.len().min(2000)], std::slice::from_ref(&identity)).unwrap();
        assert_eq!(key.plain_len(sealed.len() as u64).unwrap(), len as u64);
        let mut edges: Vec<usize> = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, len - len.min(1), len].to_vec();
        edges.retain(|&edge| edge <= len);
        for &from in &edges {
            for &to in edges.iter().filter(|&&to| to >= from) {
                let got = read(&key, &sealed, from as u64, (to - from) as u64).unwrap();
                assert!(got == plain[from..to], "{from}..{to} of {len}");
            }
        }
        for (from, more) in [(0, len + 1), (len, 1), (len + 1, 0), (usize::MAX, 2)] {
            assert!(key.blocks_for(sealed.len() as u64, from as u64, more as u64).is_err(), "{from} + {more} of {len}");
        }
    }
}

#[test]
fn lengths_that_no_object_has_are_refused() {
    let (identity, recipients) = new_key();
    let sealed = seal(&recipients, b"").unwrap();
    let key = PayloadKey::parse(&sealed, &[identity]).unwrap();
    let offset = key.payload_offset();
    assert_eq!(offset + 16, sealed.len() as u64);
    let full = 65_536 + 16;
    for payload in [16, 17, full, full + 17, 2 * full, 2 * full + 17] {
        assert!(key.plain_len(offset + payload).is_ok(), "{payload}");
    }
    for payload in [0, 1, 15, full + 1, full + 15, full + 16, 2 * full + 16] {
        assert!(key.plain_len(offset + payload).is_err(), "{payload}");
    }
    assert!(key.plain_len(offset - 1).is_err() && key.plain_len(0).is_err());
}

#[test]
fn a_short_beginning_asks_for_more() {
    let (identity, recipients) = new_key();
    let sealed = seal(&recipients, b"x").unwrap();
    let identities = [identity];
    let offset = PayloadKey::parse(&sealed, &identities).unwrap().payload_offset() as usize;
    for have in 0..offset {
        let error = PayloadKey::parse(&sealed[..have], &identities).unwrap_err();
        assert!(matches!(error, Error::HeaderCut { have: told } if told == have), "{have}: {error}");
    }
    assert!(PayloadKey::parse(&sealed[..offset], &identities).is_ok());
}

#[test]
fn a_header_without_end_is_not_read_for_ever() {
    let (identity, _) = new_key();
    let mut endless = b"age-encryption.org/v1\n".to_vec();
    while endless.len() < AGE_HEADER_BYTES_MAX {
        endless.extend_from_slice(b"-> a\n\n");
    }
    let identities = [identity];
    let error = PayloadKey::parse(&endless, &identities).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    // With an end it is parsed, in no time worth telling, and opens nothing.
    endless.truncate(AGE_HEADER_BYTES_MAX - 100);
    endless.truncate(endless.len() - (endless.len() - 22) % 6);
    endless.extend_from_slice(b"--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n0123456789abcdef");
    let start = std::time::Instant::now();
    let error = PayloadKey::parse(&endless, &identities).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    assert!(start.elapsed().as_secs() < 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_range(len in 1usize..400_000, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let (identity, recipients) = new_key();
        let plain = pattern(len);
        let sealed = seal(&recipients, &plain).unwrap();
        let key = PayloadKey::parse(&sealed[..500.min(sealed.len())], &[identity]).unwrap();
        let (a, b) = (a.index(len + 1), b.index(len + 1));
        let (from, to) = (a.min(b), a.max(b));
        prop_assert!(read(&key, &sealed, from as u64, (to - from) as u64).unwrap() == plain[from..to]);
    }
}
