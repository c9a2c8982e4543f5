//! Comparing, showing, and handing a snapshot to people who have no snap.

use crate::compare::{Difference, compare};
use crate::need::{self, need};
use crate::snap::{self, Sandbox, WATCHDOG, exit};
use crate::trees::{Extras, nasty_tree, set_mode, set_owner, set_time, set_xattr, source_tree};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

/// `+path`, `-path` or `~path:what` of each difference.
fn lines(report: &Value) -> Vec<String> {
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    let one = |line: &Value| {
        let path = line["path"].as_str().unwrap_or_default();
        let what: Vec<&str> = line["what"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match line["change"].as_str() {
            Some("added") => format!("+{path}"),
            Some("removed") => format!("-{path}"),
            _ => format!("~{path}:{}", what.join(",")),
        }
    };
    report["differences"].as_array().expect("a list").iter().map(one).collect()
}

#[test]
fn a_difference_is_told_by_its_kind() {
    need!(need::root());
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(source.join("dir")).expect("a folder");
    for name in ["content", "grown", "mode", "owner", "time", "xattr", "gone", "dir/same", "type"] {
        fs::write(source.join(name), name).expect("a file");
        set_time(&source.join(name), 1_600_000_000, 5);
    }
    symlink("a", source.join("link")).expect("a link");
    sandbox.init();
    sandbox.create(&source);
    fs::write(source.join("content"), "CONTENT").expect("a file");
    fs::write(source.join("grown"), "grown and more").expect("a file");
    set_mode(&source.join("mode"), 0o600);
    set_owner(&source.join("owner"), 77, 88);
    set_time(&source.join("time"), 1_600_000_001, 5);
    set_xattr(&source.join("xattr"), b"user.a", b"b");
    fs::remove_file(source.join("gone")).expect("a file");
    fs::remove_file(source.join("link")).expect("a link");
    symlink("b", source.join("link")).expect("a link");
    fs::remove_file(source.join("type")).expect("a file");
    fs::create_dir(source.join("type")).expect("a folder");
    fs::write(source.join("new"), "new").expect("a file");
    for name in ["content", "grown"] {
        set_time(&source.join(name), 1_600_000_000, 5);
    }
    let against_folder = sandbox.json("diff latest source");
    sandbox.create(&source);
    let list = sandbox.list();
    let id = |at: usize| list[at]["id"].as_str().expect("an id").to_owned();
    let between = sandbox.json(&format!("diff {} {}", id(0), id(1)));
    let found = lines(&between);
    assert_eq!(found, lines(&against_folder), "a snapshot and the folder it was made of");
    let wanted = [
        "~.:mtime",
        "~content:content",
        "-gone",
        "~grown:content",
        "~link:target,mtime",
        "~mode:mode",
        "+new",
        "~owner:owner",
        "~time:mtime",
        "~type:type,mode,mtime",
        "~xattr:xattrs",
    ];
    assert_eq!(found, wanted);
    let grown = &between["differences"][3];
    assert_eq!((&grown["bytes_before"], &grown["bytes_after"]), (&5.into(), &14.into()));
    let text = sandbox.must(&format!("diff {} {}", id(0), id(1)), exit::DONE).stdout;
    assert!(text.contains("1 added, 1 removed, 9 changed") && text.contains("5 B → 14 B"), "{text}");
    assert!(lines(&sandbox.json("diff latest source")).is_empty());
    assert!(lines(&sandbox.json("diff latest latest")).is_empty());
    sandbox.must("diff latest nowhere", exit::USAGE);
}

#[test]
fn a_snapshot_is_shown_with_its_files_and_their_content() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 20, 8);
    fs::write(source.join("binary"), [0, 255, 10, 0]).expect("a file");
    fs::hard_link(source.join("binary"), source.join("other-name")).expect("a link");
    fs::create_dir(source.join("folder")).expect("a folder");
    fs::write(source.join("new\nline"), "odd").expect("a file");
    sandbox.init();
    sandbox.must("create source --tag t1 --note n1", exit::DONE);
    let text = sandbox.must("show latest", exit::DONE).stdout;
    for word in ["t1", "n1", "complete", "yes", "source", "needs"] {
        assert!(text.contains(word), "{word} is not shown: {text}");
    }
    let listing = sandbox.must("show latest --files", exit::DONE).stdout;
    assert!(listing.contains("new\\nline") && listing.lines().count() >= 25, "{listing}");
    let raw = |path: &str| {
        let run = sandbox.snap_command(&["show", &format!("latest:{path}")]).output().expect("the program");
        (run.status.code(), run.stdout)
    };
    for name in ["binary", "other-name", "new\nline", "./binary"] {
        let wanted = fs::read(source.join(name)).expect("a file");
        assert_eq!(raw(name), (Some(0), wanted), "{name:?}");
    }
    let run = sandbox.must("show latest:nowhere", exit::USAGE);
    assert!(run.stderr.contains("nowhere") && run.stdout.is_empty(), "{run}");
    assert!(sandbox.must("show latest:folder", exit::USAGE).stderr.contains("not a regular file"));
}

#[test]
fn an_exported_tar_holds_everything() {
    need!(need::root(), need::program("tar"));
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.path("source"), sandbox.path("target"));
    nasty_tree(&source, Extras::default());
    sandbox.init();
    sandbox.create(&source);
    let run = sandbox.must("export latest out.tar", exit::DONE);
    assert!(run.stdout.contains("not encrypted"), "{run}");
    assert_eq!(fs::metadata(sandbox.path("out.tar")).expect("a tar").mode() & 0o777, 0o600);
    fs::create_dir(&target).expect("a folder");
    let mut tar = sandbox.command("tar");
    tar.args(["-x", "-p", "-S", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*", "-f", "out.tar"]);
    tar.args(["-C", "target"]);
    snap::run(tar, WATCHDOG).and_then(|run| run.expect(&[0])).unwrap_or_else(|text| panic!("{text}"));
    // tar gives odd names of attributes and the room of sparse files back in its own way.
    let own = |d: &&Difference| !matches!(d.what, "blocks" | "sparse") && !d.path.starts_with("xattr/file");
    let found = compare(&source, &target);
    let wrong: Vec<String> = found.iter().filter(own).map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let again = sandbox.must("export latest out.tar", exit::FAILED);
    assert!(again.stderr.contains("out.tar"), "{again}");
    sandbox.must("export feedfeed other.tar", exit::USAGE);
    assert!(!sandbox.path("other.tar").exists());
}
