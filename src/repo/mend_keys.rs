//! Mending what opens a repository: key files, which a replica may have whole, and `config`, all of which an
//! owner knows.
//!
//! A key that is gone altogether may have been removed, and does not come back; where no key is whole any
//! more, nobody has removed them all. A replica's key counts if its card was written with this repository's
//! secrets and speaks of the file beside it.

use super::keys::{ALTERED, KeyFile, MISSING, read_keys};
use super::repair::{Mended, State};
use super::{Repository, Result};
use crate::store::{Key, ReadStore};

/// Brings back what is damaged of key files, or says what can be.
///
/// # Errors
/// A store does not answer or refuses.
pub(super) fn mend_keys(repository: &Repository, from: Option<&dyn ReadStore>, dry_run: bool) -> Result<Vec<Mended>> {
    let secrets = repository.secrets();
    let here = read_keys(repository.store())?;
    let sound = |key: &KeyFile| key.fault(secrets).is_none();
    let mut there = from.map(read_keys).transpose()?.unwrap_or_default();
    there.retain(|key| sound(key));
    let mut out = Vec::new();
    for key in here.iter().filter(|key| !sound(key)) {
        match there.iter().find(|one| one.name == key.name) {
            Some(whole) if is_same_key(repository, key, whole) => put_files(repository, whole, key, dry_run, &mut out)?,
            other => {
                let Some((file, problem)) = key.fault(secrets) else { continue };
                let reason = match (from, other) {
                    (None, _) => None,
                    (Some(_), None) => Some("the replica does not have it whole".to_owned()),
                    (Some(_), Some(_)) => Some("the replica has another key of that name".to_owned()),
                };
                out.push(mended(&file, problem, State::Left, reason));
            }
        }
    }
    if !here.iter().any(sound) {
        for whole in there.iter().filter(|one| !here.iter().any(|key| key.name == one.name)) {
            let nothing = KeyFile { name: whole.name.clone(), sealed: Vec::new(), card: None };
            put_files(repository, whole, &nothing, dry_run, &mut out)?;
        }
    }
    Ok(out)
}

/// True unless the card here is genuine and speaks of another file than the replica has: then the key was made
/// anew here.
fn is_same_key(repository: &Repository, key: &KeyFile, whole: &KeyFile) -> bool {
    match key.card().filter(|card| key.card_is_genuine(repository.secrets()) && card.name == key.name) {
        Some(card) => whole.is_meant_by(&card),
        None => true,
    }
}

/// Puts those files of `whole` that differ from what is here, the card first.
fn put_files(
    repository: &Repository,
    whole: &KeyFile,
    here: &KeyFile,
    dry_run: bool,
    out: &mut Vec<Mended>,
) -> Result<()> {
    let store = &*repository.store;
    for (key, bytes) in whole.files() {
        if here.files().any(|(own, found)| own == key && found == bytes) {
            continue;
        }
        let there = store.size(&key)?.is_some();
        let problem = if there { ALTERED } else { MISSING };
        let state = if dry_run { State::CanBeFetched } else { State::Fetched };
        let mut done = mended(&key, problem, state, None);
        match (dry_run, there) {
            (true, _) => {}
            (false, true) => {
                done.aside = Some(store.keep_aside(&key)?);
                store.overwrite(&key, bytes)?;
            }
            (false, false) => drop(store.put(&key, bytes)?),
        }
        out.push(done);
    }
    Ok(())
}

/// Writes `config` again where it is lost or altered, or says that it can be.
///
/// # Errors
/// The key at hand is a writer's, or the store refuses.
pub(super) fn mend_config(repository: &Repository, dry_run: bool) -> Result<Option<Mended>> {
    let Some(problem) = repository.config_problem() else { return Ok(None) };
    let key = Key::Config;
    let mut done = mended(&key, problem, State::CanBeWritten, None);
    if !dry_run {
        if repository.store.size(&key)?.is_some() {
            done.aside = Some(repository.store.keep_aside(&key)?);
        }
        repository.heal_config()?;
        done.state = State::Written;
    }
    Ok(Some(done))
}

fn mended(key: &Key, problem: &str, state: State, reason: Option<String>) -> Mended {
    Mended { object: key.path(), problem: problem.to_owned(), state, reason, aside: None }
}
