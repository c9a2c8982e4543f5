//! The keys of a repository that is copied, as files: none of them is opened.

use super::Result;
use super::keys::ALTERED;
use super::replicate::NotCopied;
use super::sync::Chain;
use crate::id::to_hex;
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use crate::store::{self, Key, ReadStore};

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

/// What is to be done about a key.
pub(super) enum Fate {
    /// These of its files are not there.
    Copy(KeyFiles),
    /// It is there.
    Same,
    /// Another key of that name is there.
    Other,
    /// One of its files there is not what was put there.
    Damaged(NotCopied),
}

/// Compares the `files` of a key that is whole here with what is under its name in `to`.
pub(super) fn fate(to: &dyn ReadStore, files: KeyFiles) -> Result<Fate> {
    let mut there = Vec::new();
    for (key, _) in &files {
        there.push(match to.get(key) {
            Ok(bytes) => Some(bytes),
            Err(store::Error::NotFound { .. }) => None,
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(error) => {
                return Ok(Fate::Damaged(NotCopied { object: key.path(), message: Chain(&error).to_string() }));
            }
        });
    }
    let differ = files.iter().zip(&there).filter(|((_, bytes), found)| found.as_ref().is_some_and(|f| f != bytes));
    let differ: Vec<&Key> = differ.map(|((key, _), _)| key).collect();
    let whole = differ.is_empty() && there.iter().all(Option::is_some);
    Ok(match differ.as_slice() {
        [] if whole => Fate::Same,
        [] => Fate::Copy(
            files.into_iter().zip(there).filter(|(_, found)| found.is_none()).map(|(file, _)| file).collect(),
        ),
        // The other one says what this one must be.
        [one] if there.iter().all(Option::is_some) => {
            Fate::Damaged(NotCopied { object: one.path(), message: ALTERED.to_owned() })
        }
        _ => Fate::Other,
    })
}

/// Keys in `to` that are not what their cards say, but for those of which a file is among the `told`.
pub(super) fn altered(to: &dyn ReadStore, told: &[NotCopied]) -> Result<Vec<NotCopied>> {
    let mut out = Vec::new();
    for (name, files) in read_keys(to)? {
        let Err(message) = files else { continue };
        if !told.iter().any(|one| one.object.starts_with(&format!("keys/{name}."))) {
            out.push(NotCopied { object: format!("keys/{name}.age"), message });
        }
    }
    Ok(out)
}

/// True if `to` has a key that `from` has too, byte by byte: both are one repository, whatever became of `config`.
pub(super) fn share_a_key(from: &dyn ReadStore, to: &dyn ReadStore) -> Result<bool> {
    for (_, files) in read_keys(from)? {
        let Ok(files) = files else { continue };
        if matches!(fate(to, files)?, Fate::Same) {
            return Ok(true);
        }
    }
    Ok(false)
}
