//! Exit codes and hints, in one place.

use super::args::Command;
use crate::commands::Error;
use crate::repo::OpenedBy;
use crate::stack::{application, compose, files, rollback};
use crate::store::{self, Trouble};
use crate::{crypto, repo};
use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed, nothing changed.
    Failed = 1,
    /// The request was not understood or makes no sense.
    Usage = 2,
    /// A snapshot was stored, but it is incomplete.
    Incomplete = 3,
    /// Damage was found.
    Damage = 4,
    /// Another operation is in the way.
    InTheWay = 5,
    /// A restore failed, and the old state is back and runs.
    PutBack = 6,
    /// A restore failed, and a person must look.
    NeedsPerson = 7,
    /// There is no repository.
    NoRepository = 10,
    /// Nothing at hand opens the repository.
    WrongKey = 11,
    /// The person stopped it.
    Interrupted = 130,
}

impl Exit {
    /// What it means; empty if all is done.
    pub fn words(self) -> &'static str {
        match self {
            Exit::Done => "",
            Exit::Failed => "it failed",
            Exit::Usage => "it was not understood",
            Exit::Incomplete => "not all of it was done",
            Exit::Damage => "damage was found",
            Exit::InTheWay => "another operation was in the way",
            Exit::PutBack => "the restore failed, and the old state is back and runs",
            Exit::NeedsPerson => "the restore failed, and a person must look",
            Exit::NoRepository => "there is no repository",
            Exit::WrongKey => "nothing at hand opens the repository",
            Exit::Interrupted => "it was interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The exit code that an error leads to.
pub fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Usage { .. } | Error::Settings { .. } | Error::Files(files::Error::Pattern { .. }) => Exit::Usage,
        Error::Path { .. } | Error::Stream { .. } | Error::Files(_) | Error::State { .. } => Exit::Failed,
        Error::Application(error) => exit_of_application(error),
        // Whatever is wrong with it: nothing at hand opens the repository.
        Error::Identity(_) => Exit::WrongKey,
        Error::Rollback(error) => exit_of_rollback(error),
        Error::Crypto(error) => exit_of_crypto(error),
        Error::Repo(error) => exit_of_repo(error),
    }
}

fn exit_of_application(error: &application::Error) -> Exit {
    match error {
        application::Error::Compose(compose::Error::Label { .. })
        | application::Error::Health(_)
        | application::Error::NothingSelected { .. } => Exit::Usage,
        application::Error::Busy { .. } => Exit::InTheWay,
        application::Error::Docker(error) if error.is_cancelled() => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn exit_of_rollback(error: &rollback::Error) -> Exit {
    match error {
        rollback::Error::Busy | rollback::Error::Unfinished { .. } => Exit::InTheWay,
        rollback::Error::Damaged { .. } => Exit::NeedsPerson,
        rollback::Error::Repo(error) => exit_of_repo(error),
        _ => Exit::Failed,
    }
}

fn exit_of_crypto(error: &crypto::Error) -> Exit {
    match error {
        crypto::Error::WrongKey { .. } | crypto::Error::WideMode { .. } | crypto::Error::NeedsPassphrase { .. } => {
            Exit::WrongKey
        }
        crypto::Error::Text { .. } | crypto::Error::Refused { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn exit_of_repo(error: &repo::Error) -> Exit {
    match error {
        repo::Error::NoRepository { .. } | repo::Error::NotARepository { .. } => Exit::NoRepository,
        repo::Error::Store(store::Error::Remote { trouble: Trouble::NoBucket, .. }) => Exit::NoRepository,
        repo::Error::Store(store::Error::Address { .. }) => Exit::Usage,
        repo::Error::WrongKey { .. } | repo::Error::NotOwner { .. } => Exit::WrongKey,
        repo::Error::NoSnapshot { .. } | repo::Error::Ambiguous { .. } | repo::Error::Key { .. } => Exit::Usage,
        repo::Error::LastComplete { .. } | repo::Error::OtherRepository { .. } => Exit::Usage,
        repo::Error::Interrupted => Exit::Interrupted,
        repo::Error::Exists { .. } => Exit::Failed,
        error if error.is_damage() => Exit::Damage,
        _ => Exit::Failed,
    }
}

/// What a command is for, as far as a hint depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Something new is stored.
    Capture,
    /// Something is put back.
    Restore,
    /// Anything else.
    Other,
}

impl Command {
    /// What hints to its person depend on.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Create(_) => Purpose::Capture,
            Self::Restore(_) => Purpose::Restore,
            _ => Purpose::Other,
        }
    }
}

/// A way out, where one is known.
pub fn hint_of(error: &Error, purpose: Purpose) -> Option<String> {
    match error {
        Error::Usage { hint, .. } => hint.clone(),
        Error::Repo(repo::Error::NoRepository { .. }) => {
            Some("make one with `snap init`, or name another with --repo or SNAP_REPO".to_owned())
        }
        Error::Repo(repo::Error::NotARepository { .. }) => Some("name another with --repo or SNAP_REPO".to_owned()),
        Error::Repo(repo::Error::WrongKey { by, .. }) => Some(hint_of_key(*by).to_owned()),
        Error::Repo(repo::Error::NotOwner { .. }) => {
            Some("give an owner's identity with --identity FILE or SNAP_IDENTITY".to_owned())
        }
        Error::Repo(repo::Error::Exists { .. }) => {
            Some("use it as it is, or name another place with --repo".to_owned())
        }
        Error::Application(application::Error::Compose(compose::Error::Refused { .. })) => {
            Some("mend it, or capture its folder alone with --files-only".to_owned())
        }
        Error::Application(
            application::Error::Compose(compose::Error::Label { .. }) | application::Error::Health(_),
        ) => Some("docs/LABELS.md lists the labels and what they can say".to_owned()),
        Error::Rollback(rollback::Error::Busy) => Some("wait until it has ended".to_owned()),
        Error::Rollback(rollback::Error::Unfinished { project }) => Some(format!(
            "snap restore --resume --stack {project} goes on with it, snap restore --abort --stack {project} puts the old \
             state back"
        )),
        Error::Rollback(rollback::Error::Damaged { .. }) => None,
        Error::Rollback(_) => Some("this changed nothing of the application".to_owned()),
        Error::Application(application::Error::Busy { .. }) => Some("wait until it has ended".to_owned()),
        Error::Application(application::Error::Docker(error)) => error.hint().map(str::to_owned),
        Error::Repo(repo::Error::Overwrites { .. }) => Some(
            "use a server that knows If-None-Match: *, or give --single-writer if nobody else will ever add keys there"
                .to_owned(),
        ),
        Error::Repo(repo::Error::Damaged { object, .. }) if object.starts_with("keys") => Some(
            "`snap repair --from REPLICA` takes it from a replica; else put a copy of the file in its place".to_owned(),
        ),
        Error::Repo(error) if error.is_outage() => hint_of_outage(error),
        Error::Repo(error) if error.is_damage() => {
            Some("`snap check --read-data` shows all of it, `snap repair` mends what can be".to_owned())
        }
        Error::Identity(crypto::Error::Io { .. }) => {
            Some("name your identity with --identity FILE or SNAP_IDENTITY".to_owned())
        }
        _ => io_kind(error).and_then(|kind| hint_of_io(kind, purpose)),
    }
}

fn hint_of_key(by: OpenedBy) -> &'static str {
    match by {
        OpenedBy::Identity => "give the right one with --identity FILE or SNAP_IDENTITY",
        OpenedBy::Passphrase => {
            "give the right passphrase in a file, with --passphrase-file FILE or SNAP_PASSPHRASE_FILE, or type it at a terminal"
        }
        OpenedBy::Either => {
            "give the right passphrase with --passphrase-file FILE or SNAP_PASSPHRASE_FILE, or an identity with --identity FILE"
        }
    }
}

fn hint_of_outage(error: &repo::Error) -> Option<String> {
    let (repo::Error::Store(store::Error::Remote { trouble, .. })
    | repo::Error::Pack(crate::pack::Error::Store(store::Error::Remote { trouble, .. }))) = error
    else {
        return None;
    };
    let text = match trouble {
        Trouble::NoBucket => "make the bucket first, or name another place; --endpoint says which server it is on",
        Trouble::Denied => {
            "the credentials need s3:GetObject, s3:PutObject and s3:ListBucket there; prune needs s3:DeleteObject too"
        }
        Trouble::NoCredentials => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        Trouble::BadCredentials => "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
        Trouble::Clock => "set the clock of this machine, as by NTP",
        Trouble::Region => "set AWS_REGION to the bucket's region, or --endpoint to its server",
        Trouble::Unreachable => {
            "look at the network and --endpoint; run it again: what is stored already is not stored twice"
        }
        Trouble::Busy => "run it again later: what is stored already is not stored twice",
        Trouble::Unable => "see docs/S3.md for what a server has to do",
        Trouble::Answer => "look whether a proxy or another service answers at this endpoint",
    };
    Some(text.to_owned())
}

fn hint_of_io(kind: std::io::ErrorKind, purpose: Purpose) -> Option<String> {
    use std::io::ErrorKind;
    let text = match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => match purpose {
            Purpose::Capture => {
                "make room there and run it again: nothing was published, and what is stored already is not stored twice"
            }
            Purpose::Restore => "make room there and run it again with --in-place: what is right already is left alone",
            Purpose::Other => "make room there and run it again",
        },
        ErrorKind::PermissionDenied => "run it as a user who may, or change the permissions",
        ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The kind of the system's error at the bottom, if that is what it comes down to.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut at = Some(error);
    while let Some(cause) = at {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        // A transparent error hides the one inside from `source`.
        if let Some(Error::Repo(repo::Error::Store(store::Error::Io { source, .. }))) = cause.downcast_ref::<Error>() {
            return Some(source.kind());
        }
        at = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_several_snapshots_is_a_mistake_of_the_request() {
        let ids = vec!["abcd1111".to_owned(), "abcd2222".to_owned()];
        let error = Error::Repo(repo::Error::Ambiguous { text: "abcd".to_owned(), ids });
        assert_eq!(exit_of(&error), Exit::Usage);
        assert_eq!(error.to_string(), "“abcd” fits 2 snapshots: abcd1111, abcd2222");
    }

    #[test]
    fn a_full_disk_has_a_hint_wherever_it_is_met() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let io = || store::Error::Io { operation: "write", object: "packs/x".to_owned(), source: full() };
        let errors = [
            Error::Path { operation: "write", path: "x".into(), source: full() },
            Error::Repo(repo::Error::Store(io())),
            Error::Repo(repo::Error::Pack(crate::pack::Error::Store(io()))),
        ];
        for error in errors {
            assert_eq!(exit_of(&error), Exit::Failed);
            for purpose in [Purpose::Capture, Purpose::Restore, Purpose::Other] {
                let hint = hint_of(&error, purpose).expect("a hint");
                assert!(hint.starts_with("make room"), "{error}");
                assert_eq!(hint.contains("published"), purpose == Purpose::Capture, "{hint}");
            }
        }
    }
}
