//! What was changed, cut, moved or added to is refused.

use super::{bech32, new_key, pattern};
use crate::crypto::keys::{DataIdentity, Recipient};
use crate::crypto::open::{PayloadKey, open};
use crate::crypto::seal::seal;
use crate::crypto::{Error, stream};

const SEALED_BLOCK: usize = 65_536 + 16;

fn payload_offset(identity: &DataIdentity, sealed: &[u8]) -> usize {
    PayloadKey::parse(sealed, std::slice::from_ref(identity)).unwrap().payload_offset() as usize
}

#[test]
fn every_flipped_bit() {
    let (identity, recipients) = new_key();
    let sealed = seal(&recipients, b"forty bytes that nobody may ever change.").unwrap();
    let identities = [identity];
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            assert!(open(&identities, &changed, 1000).is_err(), "bit {bit} of byte {at}");
        }
    }
    assert!(open(&identities, &sealed, 1000).is_ok());
}

#[test]
fn a_flipped_bit_in_any_block() {
    let (identity, recipients) = new_key();
    let plain = pattern(3 * 65_536 + 100);
    let sealed = seal(&recipients, &plain).unwrap();
    let offset = payload_offset(&identity, &sealed);
    let identities = [identity];
    for block in 0..4 {
        for within in [0, 50, 100, 115] {
            let mut changed = sealed.clone();
            changed[offset + block * SEALED_BLOCK + within] ^= 0x10;
            assert!(open(&identities, &changed, plain.len()).is_err(), "byte {within} of block {block}");
        }
    }
}

#[test]
fn blocks_in_another_order() {
    let (identity, recipients) = new_key();
    let plain = pattern(4 * 65_536);
    let sealed = seal(&recipients, &plain).unwrap();
    let offset = payload_offset(&identity, &sealed);
    let block = |number: usize| offset + number * SEALED_BLOCK..offset + (number + 1) * SEALED_BLOCK;
    let identities = [identity];
    for (a, b) in [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)] {
        let mut swapped = sealed.clone();
        swapped.copy_within(block(b), block(a).start);
        swapped[block(b)].copy_from_slice(&sealed[block(a)]);
        assert!(open(&identities, &swapped, plain.len()).is_err(), "{a} and {b}");
        // Asked for alone, a block out of its place does not open either.
        let key = PayloadKey::parse(&swapped, &identities).unwrap();
        let range = key.blocks_for(swapped.len() as u64, a as u64 * 65_536, 65_536).unwrap();
        let error = key.open_blocks(&range, &mut swapped[block(a)]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

#[test]
fn cut_at_every_block_and_around_it() {
    let (identity, recipients) = new_key();
    let plain = pattern(3 * 65_536 + 5);
    let sealed = seal(&recipients, &plain).unwrap();
    let offset = payload_offset(&identity, &sealed);
    let identities = [identity];
    for block in 0..4 {
        for around in [-17i64, -16, -1, 0, 1, 15, 16, 17] {
            let end = (offset + block * SEALED_BLOCK) as i64 + around;
            let end = usize::try_from(end).unwrap().min(sealed.len() - 1);
            assert!(open(&identities, &sealed[..end], plain.len()).is_err(), "{end} of {}", sealed.len());
        }
    }
    for end in 0..offset {
        let error = open(&identities, &sealed[..end], plain.len()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

#[test]
fn garbage_behind_the_end() {
    let (identity, recipients) = new_key();
    let identities = [identity];
    for len in [0, 5, 65_536, 65_541] {
        let sealed = seal(&recipients, &pattern(len)).unwrap();
        for more in [1, 16, 17, 100, SEALED_BLOCK] {
            let mut longer = sealed.clone();
            longer.resize(sealed.len() + more, 0);
            assert!(open(&identities, &longer, 1 << 20).is_err(), "{len} + {more}");
        }
    }
}

#[test]
fn one_object_behind_the_header_of_another() {
    let (identity, recipients) = new_key();
    let (one, two) = (seal(&recipients, b"one").unwrap(), seal(&recipients, b"two").unwrap());
    let mixed = [&one[..payload_offset(&identity, &one)], &two[payload_offset(&identity, &two)..]].concat();
    assert!(matches!(open(&[identity], &mixed, 10), Err(Error::Damaged { .. })));
}

#[test]
fn an_empty_last_block_behind_full_ones() {
    let (_, recipients) = new_key();
    let payload = SEALED_BLOCK as u64;
    assert_eq!(stream::Layout::of(payload + 16), None);
    assert_eq!(stream::Layout::of(0), None);
    // And the bytes that are made have the length that is foretold.
    for len in super::lengths() {
        let sealed = seal(&recipients, &pattern(len)).unwrap();
        assert!(sealed.len() > stream::payload_bytes(len));
        let layout = stream::Layout::of(stream::payload_bytes(len) as u64).unwrap();
        assert_eq!(layout.plain_bytes, len as u64);
    }
}

#[test]
fn more_than_is_expected() {
    let (identity, recipients) = new_key();
    let sealed = seal(&recipients, &pattern(1000)).unwrap();
    let error = open(std::slice::from_ref(&identity), &sealed, 999).unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 1000, limit: 999 }), "{error}");
    assert!(open(&[identity], &sealed, 1000).is_ok());
}

#[test]
fn another_identity_is_told_from_damage() {
    let (identity, recipients) = new_key();
    let mut sealed = seal(&recipients, b"x").unwrap();
    for others in [vec![], vec![DataIdentity::generate()]] {
        assert!(matches!(open(&others, &sealed, 1), Err(Error::WrongKey { .. })));
    }
    *sealed.last_mut().unwrap() ^= 1;
    assert!(matches!(open(&[identity], &sealed, 1), Err(Error::Damaged { .. })));
}

#[test]
fn other_versions_are_not_called_damaged() {
    let (identity, _) = new_key();
    let identities = [identity];
    let error = open(&identities, b"age-encryption.org/v2\nwhatever\n", 1).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let error = open(&identities, b"PK\x03\x04", 1).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// The `age` crate panics when it seals to a point of low order.
#[test]
fn recipients_without_a_secret() {
    let mut one = [0; 32];
    one[0] = 1;
    let order_8 = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    for point in [[0; 32], one, order_8] {
        let error = Recipient::parse(&bech32("age", &point)).unwrap_err();
        assert!(matches!(error, Error::Text { .. }), "{error}");
    }
    let good = DataIdentity::generate().recipient();
    assert_eq!(Recipient::parse(&good.to_string()).unwrap(), good);
}
