//! What programs read: one document on standard output with the fields that were promised, and what
//! people see: no escape codes on a pipe, colours on a terminal unless they are not wanted.

use crate::keys::on_a_terminal;
use crate::need;
use crate::snap::{self, Sandbox, WATCHDOG, exit};
use crate::trees::source_tree;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixListener;

/// Fields by their paths, each with the first letter of its type: text, number, boolean, list, object.
#[track_caller]
fn has(document: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (path, kind) = field.split_once(':').expect("a field and its type");
        let value = document.pointer(path).unwrap_or_else(|| panic!("no {path} in {document}"));
        let found = match value {
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
            Value::Null => "null",
        };
        assert!(kind.split('|').any(|kind| kind == found), "{path} is {found}, not {kind}: {document}");
    }
}

const VERBS: [&str; 23] = [
    "init",
    "create",
    "list",
    "show",
    "diff",
    "restore",
    "check",
    "repair",
    "forget",
    "undelete",
    "prune",
    "replicate",
    "status",
    "schedule install",
    "schedule show",
    "schedule remove",
    "key",
    "key list",
    "key add",
    "key remove",
    "key export",
    "export",
    "completions bash",
];

#[test]
fn each_document_has_what_was_promised() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 20, 2);
    let _socket = UnixListener::bind(source.join("socket")).expect("a socket");
    has(&sandbox.json("init"), "/repository:text /id:text /key:text /recipients/0:text /identity:text");
    let created = sandbox.json("create source --tag t");
    has(
        &created,
        "/snapshot/id:text /snapshot/time:text /snapshot/stack:text /snapshot/tags/0:text /snapshot/complete:boolean \
         /snapshot/sources/0/kind:text /snapshot/sources/0/name:text /snapshot/sources/0/bytes:number \
         /snapshot/sources/0/files:number /snapshot/sources/0/new_bytes:number /snapshot/sources/0/level:text \
         /stats/files:number /stats/files_changed:number /stats/bytes_read:number /stats/bytes_new:number \
         /stats/bytes_stored:number /stats/seconds:number /warnings/0/subject:text /warnings/0/message:text \
         /warnings/0/incomplete:boolean",
    );
    assert_eq!((&created["snapshot"]["stack"], &created["snapshot"]["tags"][0]), (&"source".into(), &"t".into()));
    assert_eq!((&created["stats"]["files"], &created["stats"]["files_changed"]), (&20.into(), &20.into()));
    let stored: u64 = sandbox
        .objects()
        .iter()
        .filter(|path| path.starts_with("packs") || path.starts_with("index"))
        .map(|path| fs::metadata(sandbox.repo().join(path)).expect("an object").len())
        .sum();
    assert_eq!(created["stats"]["bytes_stored"], stored, "packs and index objects");
    let bytes: u64 = crate::compare::paths(&source)
        .iter()
        .map(|path| fs::metadata(source.join(path)).expect("a file"))
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum();
    assert_eq!(
        (&created["stats"]["bytes_read"], &created["snapshot"]["sources"][0]["bytes"]),
        (&bytes.into(), &bytes.into())
    );
    let listed = sandbox.json("list");
    has(
        &listed,
        "/snapshots/0/id:text /snapshots/0/time:text /snapshots/0/stack:text /snapshots/0/tags:list \
         /snapshots/0/complete:boolean /snapshots/0/bytes:number /snapshots/0/stats/bytes_new:number \
         /snapshots/0/stats/bytes_stored:number",
    );
    assert_eq!(listed["snapshots"][0]["id"], created["snapshot"]["id"]);
    let checked = sandbox.json("check");
    has(&checked, "/problems:list /packs:number /bytes_read:number /oldest_unread_seconds:number|null");
    let checked = sandbox.json("check --read-data");
    has(&checked, "/problems:list /packs:number /bytes_read:number /oldest_unread_seconds:number");
    assert!(checked["bytes_read"].as_u64().is_some_and(|read| read > 0), "{checked}");
    let restored = sandbox.json("restore latest --target target");
    has(&restored, "/files:number /bytes:number /differences:list /seconds:number");
    assert_eq!((&restored["files"], &restored["bytes"]), (&20.into(), &bytes.into()));
    has(&sandbox.json("show latest"), "/id:text /manifest/sources/0/kind:text /manifest/needs/0/pack:text");
    has(&sandbox.json("show latest --files"), "/entries/0/path:text /entries/0/kind:text /lost:list");
    has(&sandbox.json("diff latest source"), "/before:text /after:text /differences:list /problems:list");
    has(&sandbox.json("status"), "/stacks/0/stack:text /stored_bytes:number /advice:list");
    has(&sandbox.json("key list"), "/keys/0/name:text /keys/0/role:text /keys/0/current:boolean");
    has(&sandbox.json("export latest out.tar"), "/file:text /entries:number /bytes:number");
    // A problem in a check.
    let pack = sandbox.objects().into_iter().find(|path| path.starts_with("packs")).expect("a pack");
    fs::remove_file(sandbox.repo().join(pack)).expect("a pack");
    let damaged = sandbox.must("check --json", exit::DAMAGE).json();
    has(&damaged, "/problems/0/severity:text /problems/0/object:text /problems/0/message:text");
}

#[test]
fn what_forgetting_says_is_a_document() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 5, 2);
    sandbox.init();
    let created = sandbox.json("create source");
    sandbox.json("create source");
    let forgotten = sandbox.json("forget --keep-last 1");
    has(
        &forgotten,
        "/stacks/0/host:text /stacks/0/stack:text /stacks/0/snapshots/0/id:text /stacks/0/snapshots/0/keep:boolean \
         /stacks/0/snapshots/0/reasons/0:text /stacks/0/suspects:list /stacks/0/held:boolean /forgotten:number \
         /mark:text /dry_run:boolean /repository:text",
    );
    let id = created["snapshot"]["id"].as_str().expect("an id");
    has(&sandbox.json(&format!("undelete {id}")), "/snapshots/0/id:text /mark:text");
}

#[test]
fn an_error_is_a_document_too() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 2, 2);
    let error = |line: &str, code: i32| {
        let run = sandbox.must(&format!("{line} --json"), code);
        has(&run.json(), "/error/message:text /error/exit_code:number /error/hint:text|null");
        assert_eq!(run.json()["error"]["exit_code"], code, "{run}");
        assert!(run.stderr.contains("error"), "people are told as well: {run}");
    };
    error("list", exit::NO_REPOSITORY);
    error("create nowhere", exit::USAGE);
    error("create --frobnicate", exit::USAGE);
    error("frobnicate", exit::USAGE);
    sandbox.init();
    error("show latest", exit::USAGE);
    fs::remove_file(sandbox.identity()).expect("an identity");
    error("list", exit::WRONG_KEY);
}

#[test]
fn quiet_says_only_what_went_wrong() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 20, 2);
    for line in
        ["init -q", "create source -q", "check -q", "restore latest --target target -q", "diff latest source -q"]
    {
        let run = sandbox.must(line, exit::DONE);
        assert!(run.stdout.is_empty() && run.stderr.is_empty(), "{run}");
    }
    let run = sandbox.must("restore latest --target target -q", exit::USAGE);
    assert!(run.stderr.contains("not empty"), "{run}");
    let pack = sandbox.objects().into_iter().find(|path| path.starts_with("packs")).expect("a pack");
    fs::remove_file(sandbox.repo().join(pack)).expect("a pack");
    assert!(sandbox.must("check -q", exit::DAMAGE).stdout.contains("damage"));
}

#[test]
fn events_are_lines_of_json_and_progress_leaves_a_pipe_alone() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 50, 2);
    sandbox.init();
    let run = sandbox.must("create source --json", exit::DONE);
    assert!(run.stderr.lines().count() > 0, "{run}");
    for line in run.stderr.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {run}"));
        has(&event, "/event:text /phase:text /unit:text /done:number /total:number|null");
    }
    let run = sandbox.must("create source --json --no-progress", exit::DONE);
    assert!(run.stderr.is_empty(), "{run}");
    let run = sandbox.must("create source", exit::DONE);
    assert!(run.stderr.is_empty() && run.stdout.contains("complete"), "{run}");
}

#[test]
fn a_terminal_has_colours_unless_they_are_not_wanted() {
    let sandbox = Sandbox::new();
    source_tree(&sandbox.path("source"), 5, 2);
    sandbox.init();
    let coloured = on_a_terminal(&sandbox, "", "create source", &[]);
    assert!(coloured.code == 0 && coloured.stdout.contains("\x1b[32m"), "{coloured}");
    let plain = on_a_terminal(&sandbox, "", "create source", &[("NO_COLOR", "1")]);
    assert!(plain.code == 0 && plain.stdout.contains("complete"), "{plain}");
    let colours = ["\x1b[3", "\x1b[1m", "\x1b[9"];
    assert!(!colours.iter().any(|colour| plain.stdout.contains(colour)), "{plain}");
}

#[test]
fn completions_load_and_each_verb_has_its_pages() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.must(&format!("completions {shell}"), exit::DONE).stdout;
        assert!(script.contains("restore") && script.contains("snap"), "{shell}");
        if need::program(shell).is_ok() {
            fs::write(sandbox.path("script"), script).expect("a file");
            let mut command = sandbox.command(shell);
            command.args(["-n", "script"]);
            let run = snap::run(command, WATCHDOG).and_then(|run| run.expect(&[0]));
            let run = run.unwrap_or_else(|text| panic!("{text}"));
            assert!(run.stderr.is_empty(), "{run}");
        }
    }
    sandbox.must("completions tcsh", exit::USAGE);
    sandbox.must("man pages", exit::DONE);
    for verb in VERBS.iter().map(|verb| verb.split(" bash").next().expect("a verb")) {
        let page = sandbox.path(&format!("pages/snap-{}.1", verb.replace(' ', "-")));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{verb}: {text}");
        let help = sandbox.must(&format!("{verb} --help"), exit::DONE).stdout;
        let wanted: &[&str] = if verb == "key" { &["add", "remove"] } else { &["Example", "Exit codes"] };
        assert!(wanted.iter().all(|word| help.contains(word)), "{verb}: {help}");
    }
    assert!(sandbox.path("pages/snap.1").exists());
    assert!(sandbox.must("--version", exit::DONE).stdout.starts_with("snap "));
    assert!(!sandbox.home().join(".config").exists() && !sandbox.repo().exists(), "help touches nothing");
}
