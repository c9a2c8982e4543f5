//! The keys of a repository that is copied, as files: none of them is opened.

use super::Result;
use crate::id::to_hex;
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use crate::store::{Key, ReadStore};

/// A key's files: the card, if there is one, and the sealed secrets.
pub(super) type KeyFiles = Vec<(Key, Vec<u8>)>;

/// The keys, each card before its key; those that are not what their card says are left out.
pub(super) fn read_keys(from: &dyn ReadStore) -> Result<Vec<(String, std::result::Result<KeyFiles, String>)>> {
    #[derive(serde::Deserialize)]
    struct Card {
        sealed: String,
    }
    let files = from.list_keys()?;
    let mut out = Vec::new();
    for name in files.iter().filter_map(|file| file.strip_suffix(".age")) {
        let (sealed_key, card_key) = (Key::KeyFile(format!("{name}.age")), Key::KeyFile(format!("{name}.json")));
        if from.size(&sealed_key)?.is_none_or(|bytes| bytes > SMALL_OBJECT_BYTES_MAX as u64) {
            continue;
        }
        let sealed = from.get(&sealed_key)?;
        let card = match files.contains(&format!("{name}.json")) {
            true => Some(from.get(&card_key)?),
            false => None,
        };
        let says: Option<Card> = card.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let files = match (card, says) {
            (Some(card), Some(says)) if says.sealed == to_hex(blake3::hash(&sealed).as_bytes()) => {
                Ok(vec![(card_key, card), (sealed_key, sealed)])
            }
            _ => Err("it is not what is said of it beside it".to_owned()),
        };
        out.push((name.to_owned(), files));
    }
    Ok(out)
}
