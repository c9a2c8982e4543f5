//! The secrets, their stable form, and what it refuses.

use crate::crypto::Error;
use crate::crypto::open::open;
use crate::crypto::seal::seal;
use crate::crypto::secrets::{Role, Secrets, mac, verify_mac};
use crate::id::{RepositoryId, to_hex};
use serde_json::{Value, json};

fn new_secrets() -> Secrets {
    let mut secrets = Secrets::generate(RepositoryId([7; 32])).unwrap();
    secrets.rotate_data().unwrap();
    secrets
}

fn value(secrets: &Secrets) -> Value {
    serde_json::from_slice(&secrets.to_bytes().unwrap()).unwrap()
}

fn read(value: &Value) -> crate::crypto::Result<Secrets> {
    Secrets::from_bytes(&serde_json::to_vec(value).unwrap())
}

#[test]
fn there_and_back() {
    let owner = new_secrets();
    for secrets in [owner.writer(), owner] {
        let bytes = secrets.to_bytes().unwrap();
        let again = Secrets::from_bytes(&bytes).unwrap();
        assert_eq!(*again.to_bytes().unwrap(), *bytes);
        assert_eq!(again.repository(), RepositoryId([7; 32]));
        assert_eq!(again.role(), secrets.role());
        assert_eq!(again.chunk_id_key(), secrets.chunk_id_key());
        assert_eq!(again.data_recipient(), secrets.data_recipient());
        assert_eq!(again.data_recipient(), &again.epochs()[1].recipient);
        assert_eq!(again.index_recipient(), secrets.index_recipient());
    }
}

#[test]
fn the_form_is_the_documented_one() {
    let owner = value(&new_secrets());
    let text = serde_json::to_string(&owner).unwrap();
    assert_eq!(owner["repository"], to_hex(&[7; 32]));
    assert_eq!(owner["role"], "owner");
    assert_eq!(owner["dedup"].as_str().unwrap().len(), 64);
    assert!(owner["index_identity"].as_str().unwrap().starts_with("AGE-SECRET-KEY-1"));
    assert_eq!(owner["epochs"][0]["epoch"], 1);
    assert_eq!(owner["epochs"][1]["epoch"], 2);
    assert!(owner["epochs"][1]["recipient"].as_str().unwrap().starts_with("age1"));
    assert!(!text.contains('\n'));
    let writer = value(&new_secrets().writer());
    assert_eq!(writer["role"], "writer");
    assert_eq!(writer["epochs"][0]["identity"], Value::Null);
}

/// What is derived must never change: these values are part of the format.
#[test]
fn derived_keys() {
    let mut known = value(&new_secrets());
    known["dedup"] = json!(to_hex(&[0x42; 32]));
    let secrets = read(&known).unwrap();
    let expected = [
        ("snap 2026-11 chunk id", secrets.chunk_id_key()),
        ("snap 2026-11 gear table", secrets.gear_seed()),
        ("snap 2026-11 manifest mac", secrets.mac_key()),
    ];
    for (context, key) in expected {
        assert_eq!(key, blake3::derive_key(context, &[0x42; 32]), "{context}");
    }
    assert_eq!(to_hex(&secrets.chunk_id_key()), CHUNK_ID_KEY_OF_42);
}

const CHUNK_ID_KEY_OF_42: &str = "feff1b97c1340e6f34dd64f19a0266d4d776a7a188cf1c25142a86842399df64";

fn refuses(what: &str, change: impl FnOnce(&mut Value)) {
    let mut changed = value(&new_secrets());
    change(&mut changed);
    let error = read(&changed).expect_err(what);
    let told = error.to_string();
    assert!(matches!(error, Error::Damaged { .. }), "{what}: {told}");
    assert!(!told.to_uppercase().contains("AGE-SECRET"), "{what}: {told}");
}

#[test]
fn what_does_not_fit_together() {
    let other = new_secrets();
    refuses("a repository that is none", |v| v["repository"] = json!("abc"));
    refuses("a role that is none", |v| v["role"] = json!("Owner"));
    refuses("a short dedup secret", |v| v["dedup"] = json!("00"));
    refuses("no index identity", |v| v["index_identity"] = Value::Null);
    refuses("an index identity that is none", |v| v["index_identity"] = json!("AGE-SECRET-KEY-1XYZ"));
    refuses("no epoch", |v| v["epochs"] = json!([]));
    refuses("an owner without an old identity", |v| v["epochs"][0]["identity"] = Value::Null);
    refuses("a writer with an identity", |v| v["role"] = json!("writer"));
    refuses("a recipient of another identity", |v| {
        v["epochs"][0]["recipient"] = json!(other.data_recipient().to_string());
    });
    refuses("a recipient that is none", |v| v["epochs"][0]["recipient"] = json!("age1xyz"));
    refuses("an epoch twice", |v| v["epochs"][1]["epoch"] = json!(1));
    refuses("an epoch with a secret for a number", |v| v["epochs"][1]["epoch"] = v["index_identity"].clone());
    for field in ["repository", "role", "dedup", "index_identity", "epochs"] {
        refuses(field, |v| drop(v.as_object_mut().unwrap().remove(field)));
    }
}

#[test]
fn fields_of_a_newer_version_are_not_damage() {
    let mut newer = value(&new_secrets());
    newer["colour"] = json!("blue");
    let error = read(&newer).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("colour"), "{error}");
    assert!(matches!(Secrets::from_bytes(b"{"), Err(Error::Damaged { .. })));
}

#[test]
fn a_writer_reads_no_history() {
    let owner = new_secrets();
    let mut writer = Secrets::from_bytes(&owner.writer().to_bytes().unwrap()).unwrap();
    let pack = seal(std::slice::from_ref(writer.data_recipient()), b"history").unwrap();
    assert!(writer.data_identities().is_empty());
    assert!(matches!(open(&writer.data_identities(), &pack, 100), Err(Error::WrongKey { .. })));
    let index_alone = [writer.index_identity().clone()];
    assert!(matches!(open(&index_alone, &pack, 100), Err(Error::WrongKey { .. })));
    let text = String::from_utf8(writer.to_bytes().unwrap().to_vec()).unwrap();
    assert_eq!(text.matches("AGE-SECRET-KEY-").count(), 1, "the index identity and nothing else");
    assert!(writer.rotate_data().is_err());
    // But it works with what describes the snapshots, and its owner reads what it wrote.
    let manifest = seal(&[writer.index_recipient()], b"manifest").unwrap();
    assert_eq!(open(&[writer.index_identity().clone()], &manifest, 100).unwrap(), b"manifest");
    assert_eq!(open(&owner.data_identities(), &pack, 100).unwrap(), b"history");
}

#[test]
fn old_epochs_stay_readable() {
    let mut secrets = Secrets::generate(RepositoryId([1; 32])).unwrap();
    let before = seal(std::slice::from_ref(secrets.data_recipient()), b"old").unwrap();
    let old = secrets.clone();
    assert_eq!(secrets.rotate_data().unwrap(), 2);
    let after = seal(std::slice::from_ref(secrets.data_recipient()), b"new").unwrap();
    assert_eq!(open(&secrets.data_identities(), &before, 9).unwrap(), b"old");
    assert_eq!(open(&secrets.data_identities(), &after, 9).unwrap(), b"new");
    assert!(matches!(open(&old.data_identities(), &after, 9), Err(Error::WrongKey { .. })));
}

#[test]
fn debug_output_holds_no_secret() {
    let secrets = new_secrets();
    let shown = format!("{secrets:?} {:?} {:?}", secrets.epochs(), secrets.index_identity()).to_uppercase();
    assert!(!shown.contains("AGE-SECRET"), "{shown}");
    let dedup = value(&secrets)["dedup"].as_str().unwrap().to_uppercase();
    assert!(!shown.contains(&dedup));
}

#[test]
fn a_mac_is_for_one_key_one_domain_and_one_text() {
    let key = [9; 32];
    let good = mac(&key, "config", b"text");
    assert!(verify_mac(&key, "config", b"text", &good));
    assert!(!verify_mac(&[8; 32], "config", b"text", &good));
    assert!(!verify_mac(&key, "manifest", b"text", &good));
    assert!(!verify_mac(&key, "config", b"texT", &good));
    assert_ne!(mac(&key, "a", b"b"), mac(&key, "ab", b""));
    for bit in 0..256 {
        let mut changed = good;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify_mac(&key, "config", b"text", &changed), "bit {bit}");
    }
    assert_eq!(good, *blake3::keyed_hash(&key, b"config\0text").as_bytes());
}

#[test]
fn roles_have_names() {
    assert_eq!((Role::Owner.to_string(), Role::Writer.to_string()), ("owner".into(), "writer".into()));
}
