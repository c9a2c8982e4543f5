//! Tests that need more than one of this layer's modules.

mod interop;
mod keyfile;
mod people;
mod ranges;
mod refusals;
mod secrets;
mod vectors;

use super::keys::{DataIdentity, Recipient};
use super::stream::BLOCK_BYTES;

/// A new identity, and the recipients to seal to it.
fn new_key() -> (DataIdentity, Vec<Recipient>) {
    let identity = DataIdentity::generate();
    let recipient = identity.recipient();
    (identity, vec![recipient])
}

/// `len` bytes that do not repeat at any block's length.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

/// The lengths at which a STREAM goes wrong if it goes wrong.
fn lengths() -> Vec<usize> {
    let (one, two) = (BLOCK_BYTES, 2 * BLOCK_BYTES);
    vec![0, 1, one - 1, one, one + 1, two - 1, two, two + 1, 3 * one, 300_001]
}

/// Bech32 of any length (BIP 173), also of what no program would write.
fn bech32(name: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const STEPS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let checksum = |values: &[u8]| {
        values.iter().fold(1u32, |sum, &value| {
            let next = (sum & 0x1ff_ffff) << 5 ^ u32::from(value);
            (0..5).filter(|bit| sum >> (25 + bit) & 1 == 1).fold(next, |next, bit| next ^ STEPS[bit])
        })
    };
    let (mut values, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for &byte in bytes {
        (bits, count) = ((bits << 8 | u32::from(byte)) & 0xfff, count + 8);
        while count >= 5 {
            count -= 5;
            values.push((bits >> count & 31) as u8);
        }
    }
    if count > 0 {
        values.push((bits << (5 - count) & 31) as u8);
    }
    let mut all: Vec<u8> = name.bytes().map(|b| b >> 5).chain([0]).chain(name.bytes().map(|b| b & 31)).collect();
    all.extend_from_slice(&values);
    all.extend_from_slice(&[0; 6]);
    let sum = checksum(&all) ^ 1;
    values.extend((0..6).map(|at| (sum >> (5 * (5 - at)) & 31) as u8));
    let digits: String = values.iter().map(|&value| char::from(DIGITS[usize::from(value)])).collect();
    format!("{name}1{digits}")
}

/// Workers share keys and secrets.
#[test]
fn what_threads_share() {
    fn shared<T: Send + Sync>() {}
    shared::<super::seal::Sealer>();
    shared::<super::open::PayloadKey>();
    shared::<super::secrets::Secrets>();
    shared::<super::people::PersonIdentity>();
    shared::<super::people::PersonRecipient>();
    shared::<super::Error>();
}
