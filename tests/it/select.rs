//! Which snapshot a text names.

use crate::snap::{Sandbox, exit, id_of};
use crate::trees::source_tree;
use ::snap::id::{RepositoryId, SnapshotId};
use ::snap::repo::manifest::{Manifest, Stats, VERSION};
use ::snap::repo::select::{Scope, select};
use ::snap::repo::{Snapshot, SnapshotSet};

fn snapshot(id: [u8; 2], time: &str, stack: &str, tags: &[&str]) -> Snapshot {
    let mut name = [7; 32];
    name[..2].copy_from_slice(&id);
    let manifest = Manifest {
        version: VERSION,
        requires: Vec::new(),
        repository: RepositoryId([1; 32]),
        predecessors: Vec::new(),
        time: time.to_owned(),
        host: "host".to_owned(),
        stack: stack.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        note: String::new(),
        tool: String::new(),
        project: None,
        git: None,
        complete: true,
        sources: Vec::new(),
        coverage: Vec::new(),
        warnings: Vec::new(),
        stats: Stats::default(),
        needs: Vec::new(),
    };
    Snapshot { id: SnapshotId(name), manifest }
}

#[test]
fn a_text_names_one_snapshot_or_none() {
    let whole = format!("1234{}", "07".repeat(30));
    let set = SnapshotSet {
        snapshots: vec![
            snapshot([0xab, 0xcd], "2026-01-01T00:00:00.000000Z", "app", &["nightly"]),
            snapshot([0xab, 0xce], "2026-01-02T00:00:00.000000Z", "app", &["nightly", "beef", &whole]),
            snapshot([0xab, 0xcd + 1 + 1], "2026-01-03T00:00:00.000000Z", "app", &[]),
            snapshot([0x12, 0x34], "2026-01-04T00:00:00.000000Z", "other", &["once"]),
            snapshot([0xbe, 0xef], "2026-01-05T00:00:00.000000Z", "other", &[]),
        ],
        ..SnapshotSet::default()
    };
    let app = Scope { stack: Some("app".to_owned()), host: None };
    let at = |scope: &Scope, text: &str| match select(&set, scope, text, &|time| Some(time.to_owned())) {
        Ok(found) => format!("{:02x}{:02x}", found.id.0[0], found.id.0[1]),
        Err(error) => error.to_string(),
    };
    let any = Scope::default();
    assert_eq!(at(&any, "abce"), "abce");
    assert_eq!(at(&any, "abcf07"), "abcf");
    assert_eq!(at(&app, "latest"), "abcf");
    assert_eq!(at(&app, "latest:nightly"), "abce");
    assert_eq!(at(&any, "nightly"), "abce");
    assert!(at(&any, "beef").contains("it is a tag, and the beginning of an id"), "{}", at(&any, "beef"));
    assert_eq!(at(&app, "beef"), "abce", "a tag that looks like an id of another stack");
    assert_eq!(at(&any, "latest:beef"), "abce");
    assert_eq!(at(&any, "beef07"), "beef");
    assert_eq!(at(&any, &whole), "1234", "no tag stands for a whole id");
    assert_eq!(at(&app, "@2026-01-02T12:00:00.000000Z"), "abce");
    assert!(at(&any, "latest").contains("--stack"), "{}", at(&any, "latest"));
    assert!(at(&any, "1234").starts_with("1234") && at(&app, "1234").contains("no snapshot"));
    assert!(at(&any, "abc").contains("four digits"), "{}", at(&any, "abc"));
    assert!(at(&app, "@2025-01-01").contains("no snapshot"));
    assert!(at(&any, "feed").contains("no snapshot") && at(&any, "latest:none").contains("no snapshot"));
    let mut twins = set;
    twins.snapshots[1].id.0[..2].copy_from_slice(&[0xab, 0xcd]);
    twins.snapshots[1].id.0[31] = 9;
    let error = select(&twins, &any, "abcd07", &|_| None).expect_err("two fit");
    assert!(error.to_string().contains("fits 2 snapshots: abcd"), "{error}");
}

#[test]
fn every_way_to_name_a_snapshot_works() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 3, 1);
    sandbox.init();
    let create = |options: &str| id_of(&sandbox.json(&format!("create {options}"))["snapshot"]).expect("an id");
    let first = create("source --tag nightly --tag first --note remark");
    let between = jiff_now();
    let second = create("source --tag nightly");
    let third = create("source");
    let shown = |text: &str| sandbox.json(&format!("show {text}"))["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        [shown(&first), shown(&first[..8]), shown("first"), shown("latest:first")],
        [(); 4].map(|()| first.clone())
    );
    assert_eq!([shown("nightly"), shown("latest:nightly")], [(); 2].map(|()| second.clone()));
    assert_eq!(shown("latest"), third);
    assert_eq!([shown(&format!("@{between}")), shown("@2999-01-01")], [first.clone(), third.clone()]);
    assert_eq!(shown("@2999-01-01T03:00"), third);
    assert!(sandbox.must("show @2999-01-01T03:00 --files", exit::DONE).stdout.contains("file-00000"));
    let name = crate::compare::paths(&source).into_iter().find(|path| source.join(path).is_file()).expect("a file");
    let run = sandbox.snap_command(&["show", &format!("@2999-01-01T03:00:{}", name.display())]).output();
    assert_eq!(run.expect("the program").stdout, std::fs::read(source.join(&name)).expect("a file"));
    for (text, said) in
        [("feedfeed", "feedfeed"), ("@2001-01-01", "2001"), ("@soon", "a time looks like"), ("ab", "four")]
    {
        let run = sandbox.must(&format!("show {text}"), exit::USAGE);
        assert!(run.stderr.contains(said), "{run}");
    }
    let listed = |options: &str| {
        let list = sandbox.json(&format!("list {options}"))["snapshots"].clone();
        list.as_array().expect("a list").iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(""), [first.clone(), second.clone(), third.clone()]);
    assert_eq!(listed("--tag nightly"), [first.clone(), second]);
    create("source --stack other");
    assert_eq!((listed("--stack other").len(), listed("--stack source").len(), listed("--host x").len()), (1, 3, 0));
    assert!(sandbox.must("show latest", exit::USAGE).stderr.contains("--stack"));
    assert_eq!(shown("latest --stack source"), third);
    let text = sandbox.must("list", exit::DONE).stdout;
    assert!(["nightly", "first", "remark", &first[..8], "other"].iter().all(|word| text.contains(word)), "{text}");
}

/// Nobody gets an older snapshot unawares: the newest is only the newest if no other can be newer.
#[test]
fn the_newest_is_named_only_if_it_is_known() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 3, 1);
    sandbox.init();
    let ids: Vec<String> = (0..3).map(|_| id_of(&sandbox.create(&source)["snapshot"]).expect("an id")).collect();
    let object = |at: usize| sandbox.repo().join("snapshots").join(&ids[at]);
    let sound: Vec<Vec<u8>> = (0..3).map(|at| std::fs::read(object(at)).expect("a manifest")).collect();
    let spoil = |at: usize| {
        crate::trees::set_mode(&object(at), 0o600);
        std::fs::write(object(at), &sound[at][..sound[at].len() - 2]).expect("a manifest");
        std::fs::remove_dir_all(sandbox.cache()).expect("a catalog");
    };
    // One that others follow is older than they are.
    spoil(1);
    assert_eq!(sandbox.json("show latest")["id"], ids[2].as_str());
    std::fs::write(object(1), &sound[1]).expect("a manifest");
    spoil(2);
    for command in ["show latest", "restore latest --target t", "diff latest source", "show @2999-01-01"] {
        let run = sandbox.must(command, exit::DAMAGE);
        assert!(run.stderr.contains(&ids[2][..8]) && run.stderr.contains(&ids[1][..8]), "{run}");
    }
    assert!(!sandbox.path("t").exists());
    assert_eq!(sandbox.json(&format!("show {}", ids[1]))["id"], ids[1].as_str());
    // One that was seen here and is gone.
    std::fs::write(object(2), &sound[2]).expect("a manifest");
    assert_eq!(sandbox.json("show latest")["id"], ids[2].as_str());
    std::fs::remove_file(object(2)).expect("a manifest");
    assert!(sandbox.must("restore latest --target t", exit::DAMAGE).stderr.contains("is gone"));
    // None can be read.
    for at in 0..3 {
        std::fs::write(object(at), b"x").expect("a manifest");
    }
    std::fs::remove_dir_all(sandbox.cache()).expect("a catalog");
    sandbox.must("show latest", exit::DAMAGE);
}

/// The present as RFC 3339, by a program that shares no code with this one.
fn jiff_now() -> String {
    let now = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).output().expect("date");
    String::from_utf8_lossy(&now.stdout).trim().to_owned()
}
