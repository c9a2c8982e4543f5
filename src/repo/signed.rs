//! JSON documents that carry their own MAC. docs/FORMAT.md §4.
//!
//! The document's last member is `"mac"`, 64 hexadecimal digits, and the MAC covers every byte
//! before it. No canonical form of JSON is needed: the bytes that were written are the bytes that
//! are checked.

use crate::crypto::secrets::{mac, verify_mac};
use crate::id::{from_hex32, to_hex};
use serde::Serialize;

const BEFORE: &[u8] = b",\"mac\":\"";
const BEHIND: &[u8] = b"\"}\n";
const TAIL: usize = BEFORE.len() + 64 + BEHIND.len();

/// The document of `value`, a JSON object with at least one member, with its MAC under `key`.
/// `domain` says what kind of document it is, so that none can stand in for another.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn sign<T: Serialize>(value: &T, key: &[u8; 32], domain: &str) -> serde_json::Result<Vec<u8>> {
    let mut out = serde_json::to_vec(value)?;
    out.pop();
    seal_with(&mut out, key, domain);
    Ok(out)
}

fn seal_with(out: &mut Vec<u8>, key: &[u8; 32], domain: &str) {
    let sum = mac(key, domain, out);
    out.extend_from_slice(BEFORE);
    out.extend_from_slice(to_hex(&sum).as_bytes());
    out.extend_from_slice(BEHIND);
}

const PROOF_BEFORE: &[u8] = b",\"owner\":\"";
const PROOF: usize = PROOF_BEFORE.len() + 64 + 1;

/// Like [`sign`], with a member `owner` before the MAC: a MAC under `owner`, the key that only owners
/// have, over every byte before it.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn sign_by_owner<T: Serialize>(
    value: &T,
    key: &[u8; 32],
    owner: &[u8; 32],
    domain: &str,
) -> serde_json::Result<Vec<u8>> {
    let mut out = serde_json::to_vec(value)?;
    out.pop();
    let proof = mac(owner, domain, &out);
    out.extend_from_slice(PROOF_BEFORE);
    out.extend_from_slice(to_hex(&proof).as_bytes());
    out.push(b'"');
    seal_with(&mut out, key, domain);
    Ok(out)
}

/// True if a document whose MAC is right carries an owner's proof too.
pub fn verify_owner(document: &[u8], owner: &[u8; 32], domain: &str) -> bool {
    let Some(split) = document.len().checked_sub(TAIL + PROOF) else { return false };
    let (body, tail) = document.split_at(split);
    let digits = &tail[PROOF_BEFORE.len()..PROOF_BEFORE.len() + 64];
    let framed = tail.starts_with(PROOF_BEFORE) && tail[PROOF - 1] == b'"';
    match std::str::from_utf8(digits).ok().and_then(from_hex32) {
        Some(sum) if framed => verify_mac(owner, domain, body, &sum),
        _ => false,
    }
}

/// True if the document carries the right MAC.
pub fn verify(document: &[u8], key: &[u8; 32], domain: &str) -> bool {
    let Some(split) = document.len().checked_sub(TAIL) else { return false };
    let (body, tail) = document.split_at(split);
    let digits = &tail[BEFORE.len()..BEFORE.len() + 64];
    let framed = tail.starts_with(BEFORE) && tail.ends_with(BEHIND);
    match std::str::from_utf8(digits).ok().and_then(from_hex32) {
        Some(sum) if framed => verify_mac(key, domain, body, &sum),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owners_proof_is_nobody_elses() {
        let value = serde_json::json!({"a": 1});
        let document = sign_by_owner(&value, &[1; 32], &[2; 32], "d").unwrap();
        assert!(verify(&document, &[1; 32], "d") && verify_owner(&document, &[2; 32], "d"));
        assert!(!verify_owner(&document, &[1; 32], "d") && !verify_owner(&document, &[2; 32], "e"));
        assert!(serde_json::from_slice::<serde_json::Value>(&document).unwrap()["owner"].is_string());
        let by_writer = sign_by_owner(&value, &[1; 32], &[1; 32], "d").unwrap();
        assert!(verify(&by_writer, &[1; 32], "d") && !verify_owner(&by_writer, &[2; 32], "d"));
        assert!(!verify_owner(&sign(&value, &[1; 32], "d").unwrap(), &[2; 32], "d"));
    }

    #[test]
    fn only_the_same_bytes_verify_under_the_same_key_and_domain() {
        let document = sign(&serde_json::json!({"a": [1, 2], "b": "x"}), &[1; 32], "d").unwrap();
        assert!(verify(&document, &[1; 32], "d"));
        assert!(serde_json::from_slice::<serde_json::Value>(&document).unwrap()["mac"].is_string());
        assert!(!verify(&document, &[2; 32], "d"));
        assert!(!verify(&document, &[1; 32], "e"));
        for at in 0..document.len() {
            let mut changed = document.clone();
            changed[at] ^= 1;
            assert!(!verify(&changed, &[1; 32], "d"), "{at}");
        }
        assert!(!verify(b"{}", &[1; 32], "d"));
    }
}
