//! The journal: torn, damaged, locked, full.

use super::super::compose_call::Call;
use super::super::journal::{Decision, folder_of};
use super::super::services::NewService;
use super::*;

pub(super) fn begun() -> Begun {
    Begun {
        restore: "r1".to_owned(),
        snapshot: "ab".repeat(32),
        project: "clinic".to_owned(),
        directory: "/srv/clinic".into(),
        exact: false,
        only: Vec::new(),
        began: "2026-11-20T14:40:00.000000Z".to_owned(),
        ran: vec![Ran { service: "web".to_owned(), containers: vec!["c1".to_owned()], call: None }],
        old_call: Call { plugin: true, arguments: vec!["-p".to_owned(), "clinic".to_owned()] },
        new_call: Call { plugin: false, arguments: Vec::new() },
        new_services: vec![NewService { name: "web".to_owned(), containers: 2, call: None }],
        order: vec!["db".to_owned(), "web".to_owned()],
    }
}

fn prepared() -> Event {
    use std::os::unix::ffi::OsStringExt;
    let live: PathBuf = std::ffi::OsString::from_vec(b"/srv/clinic/\xff".to_vec()).into();
    Event::Prepared { swaps: vec![Swap::Exchange { live, kept: "/srv/k".into(), old: 1, new: u64::MAX }] }
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    assert!(Journal::open(&folder).unwrap().is_none() && Journal::left_over(&folder).unwrap().is_none());
    let mut journal = Journal::begin(&folder, begun(), &[]).unwrap();
    let events = [
        Event::Staging { staged: vec![Staged::Path("/x".into()), Staged::Volume("v".to_owned())] },
        Event::Safety { snapshot: "s1".to_owned(), complete: false, lacks: Vec::new() },
        prepared(),
        Event::Stopping,
        Event::Proved { verdict: Verdict::Failed, evidence: Toy::new(dir.path()).proof(false).evidence },
        Event::Undoing { reason: "web: status 500".to_owned() },
    ];
    for event in &events {
        journal.append(event.clone()).unwrap();
    }
    drop(journal);
    assert_eq!(Journal::left_over(&folder).unwrap(), Some(begun()));
    let journal = Journal::open(&folder).unwrap().unwrap();
    assert_eq!(journal.begun().unwrap(), &begun());
    let read: Vec<_> = journal.lines().iter().skip(1).map(|line| line.event.clone()).collect();
    assert_eq!(read, events);
    assert_eq!(journal.safety(), Some(("s1", false)));
    assert_eq!(journal.decision(), Some(Decision::Back));
    assert_eq!((journal.swaps().len(), journal.staged().len()), (1, 2));
    journal.finish().unwrap();
    assert!(Journal::open(&folder).unwrap().is_none());
    // The next one can begin.
    Journal::begin(&folder, begun(), &[]).unwrap();
}

#[test]
fn two_restores_never_meet() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::begin(dir.path(), begun(), &[]).unwrap();
    assert!(matches!(Journal::begin(dir.path(), begun(), &[]), Err(Error::Busy)));
    assert!(matches!(Journal::open(dir.path()), Err(Error::Busy)));
    drop(journal);
    assert!(matches!(Journal::begin(dir.path(), begun(), &[]), Err(Error::Unfinished { .. })));
    assert!(Journal::open(dir.path()).unwrap().is_some());
}

#[test]
fn a_journal_that_is_cut_at_any_byte_says_what_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(dir.path(), begun(), &[]).unwrap();
    for event in [Event::Stopping, prepared(), Event::Committed] {
        journal.append(event).unwrap();
    }
    let lines = journal.lines().to_vec();
    drop(journal);
    let path = dir.path().join("journal");
    let bytes = std::fs::read(&path).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in first..=bytes.len() {
        for tail in [&b""[..], &[0; 7], b"\0\0\n"] {
            std::fs::write(&path, [&bytes[..length], tail].concat()).unwrap();
            let mut journal = Journal::open(dir.path()).unwrap().unwrap();
            let whole = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(journal.lines(), &lines[..whole], "cut at {length}");
            // What follows is readable again.
            journal.append(Event::Undone).unwrap();
            drop(journal);
            assert_eq!(Journal::open(dir.path()).unwrap().unwrap().lines().len(), whole + 1);
        }
    }
}

#[test]
fn damage_before_the_end_is_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(dir.path(), begun(), &[]).unwrap();
    for event in [Event::Stopping, Event::Stopped, Event::Swapping] {
        journal.append(event).unwrap();
    }
    drop(journal);
    let path = dir.path().join("journal");
    let bytes = std::fs::read(&path).unwrap();
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for at in (0..last).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x04;
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(Error::Damaged { .. })), "{at}");
    }
}

#[test]
fn every_project_has_a_folder_of_its_own() {
    let folder =
        |host: &str, project: &str, directory: &str| folder_of(Path::new("/d"), host, project, Path::new(directory));
    let all = [folder("a", "b", "/c"), folder("a", "b", "/d"), folder("a", "c", "/c"), folder("b", "b", "/c")];
    assert_eq!(std::collections::BTreeSet::from(all.clone()).len(), 4);
    assert!(all.iter().all(|path| path.starts_with("/d/restores")));
}
