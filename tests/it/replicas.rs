//! Where replicas are and what they are called: no slip of the fingers makes one, none is taken for another, each
//! failure is told by itself, and what is advised runs as it is printed.

use crate::forget::{capture, history};
use crate::snap::{Run, Sandbox, WATCHDOG, copy_folder, exit, run, warns};
use crate::trees::set_mode;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The program with the words of `line` in the folder `dir`.
#[track_caller]
fn must_in(sandbox: &Sandbox, dir: &Path, line: &str, code: i32) -> Run {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = sandbox.snap_command(&words);
    command.current_dir(dir).env_remove("SNAP_REPO");
    run(command, WATCHDOG).and_then(|run| run.expect(&[code])).unwrap_or_else(|text| panic!("{text}"))
}

/// Runs a command as it was printed, by a shell.
#[track_caller]
fn as_printed(sandbox: &Sandbox, line: &str) -> Run {
    let program = crate::snap::program();
    let mut command = sandbox.command("sh");
    command.args(["-c", &format!("snap() {{ {} \"$@\"; }}; {line}", program.display())]).env_remove("SNAP_REPO");
    run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"))
}

fn settings(sandbox: &Sandbox, text: &str) {
    fs::write(sandbox.path("snap.toml"), text).expect("a file");
}

fn damage(path: &Path) {
    set_mode(path, 0o600);
    fs::write(path, b"ten bytes!").expect("an object");
}

fn first_below(folder: PathBuf) -> PathBuf {
    let mut paths = crate::compare::paths(&folder).into_iter().map(|path| folder.join(path));
    paths.find(|path| path.is_file()).expect("a file")
}

fn advice(sandbox: &Sandbox, text: &str) -> Option<Value> {
    let run = sandbox.snap(&["status", "--json"]);
    let found = run.json()["advice"].as_array().expect("advice").clone();
    found.into_iter().find(|one| one["message"].as_str().is_some_and(|message| message.contains(text)))
}

#[test]
fn a_tilde_in_the_settings_is_the_home_folder_and_replicas_are_not_captured() {
    let (sandbox, _) = history(1);
    let project = sandbox.path("project");
    fs::create_dir(&project).expect("a folder");
    fs::write(project.join("notes"), "dear").expect("a file");
    let text = "repository = \"~/r\"\n[replica.v]\nurl = \"~/rep-v\"\n[replica.in]\nurl = \"copy\"\n";
    fs::write(project.join("snap.toml"), text).expect("a file");
    sandbox.must("init --repo ~/r", exit::DONE);
    must_in(&sandbox, &project, "create", exit::DONE);
    must_in(&sandbox, &project, "replicate --all", exit::DONE);
    must_in(&sandbox, &project, "replicate ~/rep-w", exit::DONE);
    must_in(&sandbox, &project, "replicate ./once", exit::DONE);
    for there in ["r/config", "rep-v/config", "rep-w/config"] {
        assert!(sandbox.home().join(there).exists(), "{there}");
    }
    must_in(&sandbox, &project, "restore latest --target=~/back", exit::DONE);
    assert!(sandbox.home().join("back/notes").exists());
    assert!(!project.join("~").exists() && !sandbox.path("~").exists());
    // Those that are in what is captured are left out, whether the settings name them or not.
    let report = must_in(&sandbox, &project, "create --json", exit::DONE).json();
    for name in ["copy", "once"] {
        assert!(warns(&report, name, "a replica of the repository"), "{report}");
    }
    let listed = must_in(&sandbox, &project, "show latest --files", exit::DONE).stdout;
    assert!(listed.contains("notes") && !listed.contains("config") && !listed.contains("packs"), "{listed}");
    let run = must_in(&sandbox, &project, "create -q", exit::DONE);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{run}");
    // Somebody else's home only a shell knows.
    fs::write(project.join("snap.toml"), "repository = \"~root/r\"\n").expect("a file");
    let run = must_in(&sandbox, &project, "list", exit::USAGE);
    assert!(run.stderr.contains("~root/r") && run.stderr.contains("snap.toml"), "{run}");
    sandbox.must("list --repo ~root/r", exit::USAGE);
}

#[test]
fn a_mistyped_name_makes_no_replica() {
    let (sandbox, _) = history(1);
    settings(&sandbox, "[replica.one]\nurl = \"1\"\n[replica.two]\nurl = \"2\"\n");
    let run = sandbox.must("replicate three", exit::USAGE);
    assert!(run.stderr.contains("one, two") && run.stderr.contains("./three"), "{run}");
    assert!(!sandbox.path("three").exists());
    sandbox.must("replicate ./three", exit::DONE);
    sandbox.must("replicate one", exit::DONE);
    // The same place by its path is the same replica.
    assert_eq!(sandbox.json("replicate ./1")[0]["name"], "one");
    // A file is no place, and it is the target that is wrong.
    fs::write(sandbox.path("afile"), "dear").expect("a file");
    let run = sandbox.must("replicate ./afile", exit::USAGE);
    assert!(run.stderr.contains("afile is a file") && !run.stderr.contains("--repo"), "{run}");
    assert_eq!(advice(&sandbox, "failed"), None);
}

#[test]
fn neither_lies_inside_the_other() {
    let (sandbox, _) = history(1);
    for place in ["repo", "repo/sub", "repo/packs/x/y", "."] {
        let before = sandbox.objects();
        let run = sandbox.must(&format!("replicate {place}"), exit::USAGE);
        assert!(run.stderr.contains("inside") || run.stderr.contains("itself"), "{run}");
        assert_eq!(sandbox.objects(), before);
    }
    std::os::unix::fs::symlink(sandbox.repo(), sandbox.path("link")).expect("a link");
    sandbox.must("replicate link/sub", exit::USAGE);
}

#[test]
fn each_of_all_replicas_has_its_line_and_a_failing_one_is_urgent() {
    let (sandbox, _) = history(1);
    fs::write(sandbox.path("wall"), "no folder").expect("a file");
    settings(&sandbox, "[replica.a]\nurl = \"a\"\n[replica.bad]\nurl = \"wall/x\"\n[replica.c]\nurl = \"c\"\n");
    let entries = sandbox.must("replicate --all --json", exit::USAGE).json();
    let names: Vec<&Value> = entries.as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["a", "bad", "c"], "{entries}");
    assert_eq!((&entries[0]["snapshots"], &entries[2]["snapshots"]), (&json!(1), &json!(1)), "{entries}");
    let error = &entries[1]["error"];
    assert!(error["message"].as_str().is_some_and(|text| text.contains("wall/x")), "{entries}");
    assert!(error["exit_code"] == exit::USAGE && entries[0]["error"].is_null(), "{entries}");
    let run = sandbox.must("replicate --all", exit::USAGE);
    assert!(["✓ a has", "✗ bad:", "✓ c has"].iter().all(|line| run.stdout.contains(line)), "{run}");
    // It never worked, and the settings want it: that is no attempt of somebody's.
    sandbox.must("status", exit::DAMAGE);
    let told = advice(&sandbox, "the last replicate of bad failed").expect("an advice");
    assert_eq!((&told["urgent"], &told["command"]), (&json!(true), &json!("snap replicate bad")), "{told}");
    // The job of the schedule is that command, and how it ended is known.
    settings(
        &sandbox,
        "[schedule]\nreplicate = \"daily 04:00\"\n[replica.a]\nurl = \"a\"\n[replica.bad]\nurl = \"wall/x\"\n",
    );
    let job = &sandbox.json("schedule show --unit-dir units")["jobs"][0];
    assert!(job["last"]["message"].as_str().is_some_and(|text| text.contains("bad: ")), "{job}");
    assert_eq!(sandbox.json("replicate --drop bad")["dropped"], json!(["bad"]));
    assert_eq!(advice(&sandbox, "failed"), None);
    sandbox.must("replicate bad", exit::USAGE);
    assert!(advice(&sandbox, "the last replicate of bad failed").is_some());
    // It is mended, or not wanted any more.
    settings(&sandbox, "[schedule]\nreplicate = \"daily 04:00\"\n[replica.a]\nurl = \"a\"\n");
    assert_eq!(advice(&sandbox, "failed"), None);
    sandbox.must("replicate --all", exit::DONE);
    let job = &sandbox.json("schedule show --unit-dir units")["jobs"][0];
    assert_eq!(job["last"]["exit_code"], 0, "one replica alone is the job too: {job}");
    assert!(sandbox.must("schedule show --unit-dir units", exit::DONE).stdout.contains("done"));
}

#[test]
fn replicas_are_told_apart_by_where_they_are() {
    let (sandbox, _) = history(1);
    for name in ["d1", "d2"] {
        fs::create_dir(sandbox.path(name)).expect("a folder");
        must_in(&sandbox, &sandbox.path(name), "replicate --repo ../repo rr", exit::DONE);
    }
    let replicas = sandbox.json("status")["replicas"].clone();
    let addresses: Vec<&str> =
        replicas.as_array().expect("replicas").iter().filter_map(|one| one["address"].as_str()).collect();
    let wanted =
        ["d1/rr", "d2/rr"].map(|name| sandbox.path(name).canonicalize().expect("a folder").display().to_string());
    assert_eq!(addresses, wanted);
    // One whose folder is gone is called so, and can be dropped.
    fs::remove_dir_all(sandbox.path("d1")).expect("a folder");
    let replicas = sandbox.json("status")["replicas"].clone();
    assert_eq!((&replicas[0]["is_there"], &replicas[1]["is_there"]), (&json!(false), &json!(true)), "{replicas}");
    assert!(sandbox.must("status", exit::DONE).stdout.contains("not there now"));
    assert_eq!(sandbox.json(&format!("replicate --drop {}", wanted[0]))["dropped"], json!([wanted[0]]));
    assert_eq!(sandbox.json("status")["replicas"].as_array().map(Vec::len), Some(1));
    // A name is one place at a time.
    settings(&sandbox, "[replica.v]\nurl = \"v1\"\n");
    sandbox.must("replicate v", exit::DONE);
    settings(&sandbox, "[replica.v]\nurl = \"v2\"\n");
    sandbox.must("replicate v", exit::DONE);
    let replicas = sandbox.json("status")["replicas"].clone();
    let names: Vec<&str> =
        replicas.as_array().expect("replicas").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, [wanted[1].as_str(), &sandbox.path("v1").canonicalize().expect("v1").display().to_string(), "v"]);
}

#[test]
fn what_is_damaged_there_is_mended_by_what_is_advised() {
    let (sandbox, _) = history(1);
    fs::create_dir(sandbox.path("a b")).expect("a folder");
    settings(&sandbox, "[replica.near]\nurl = \"a b/near\"\n");
    sandbox.must("replicate near", exit::DONE);
    damage(&first_below(sandbox.path("a b/near/packs")));
    let run = sandbox.must("replicate near", exit::DAMAGE);
    let told = advice(&sandbox, "the replica near is damaged").expect("an advice");
    let command = told["command"].as_str().expect("a command");
    assert!(command.contains("snap repair --repo ") && run.stdout.contains(command), "{told} {run}");
    let mended = as_printed(&sandbox, &format!("{command} --yes"));
    assert_eq!(mended.code, exit::DONE, "{mended}");
    sandbox.must("replicate near", exit::DONE);
    assert_eq!(advice(&sandbox, "damaged"), None);
    // Damage here does not go over, and is not mended by this replica.
    let id = capture(&sandbox, 5);
    let show = sandbox.json(&format!("show {id}"));
    assert!(show.is_object());
    let there = |path: &PathBuf| sandbox.path("a b/near").join(path).exists();
    let new = sandbox.objects().into_iter().find(|path| path.starts_with("packs") && !there(path)).expect("a pack");
    damage(&sandbox.repo().join(new));
    let run = sandbox.must("replicate near", exit::DAMAGE);
    assert!(run.stdout.contains("snap repair --from REPLICA"), "{run}");
}

#[test]
fn a_source_that_went_back_in_time_is_told_of() {
    let (sandbox, _) = history(1);
    copy_folder(&sandbox.repo(), &sandbox.path("old")).expect("a copy");
    capture(&sandbox, 5);
    sandbox.must("replicate replica", exit::DONE);
    fs::remove_dir_all(sandbox.repo()).expect("a folder");
    fs::rename(sandbox.path("old"), sandbox.repo()).expect("a folder");
    let _ = fs::remove_dir_all(sandbox.cache());
    let report = sandbox.json("replicate replica");
    let one = &report[0];
    assert!(one["newest_there"].as_str() > one["newest_here"].as_str() && one["newest_here"].is_string(), "{report}");
    assert_eq!((&one["only_there"], &one["newest_only_there"]), (&json!(1), &one["newest_there"]), "{report}");
    let run = sandbox.must("replicate replica", exit::DONE);
    assert!(run.stdout.contains("may be an old copy") && !run.stdout.contains("the same"), "{run}");
    let status = sandbox.json("status");
    let replica = &status["replicas"][0];
    assert_eq!(
        (&replica["behind"], &replica["lag_seconds"], &replica["only_there"]),
        (&json!(0), &json!(0), &json!(1))
    );
    assert!(replica["newest_there"].as_str() > replica["newest_here"].as_str(), "{status}");
    assert!(advice(&sandbox, "may be an old copy").is_some(), "{status}");
    // What was removed here on purpose is no sign of it.
    let (sandbox, _) = history(2);
    sandbox.must("replicate replica", exit::DONE);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    sandbox.must("prune --delay 0s", exit::DONE);
    let report = sandbox.json("replicate replica");
    assert_eq!((&report[0]["replica_snapshots"], &report[0]["only_there"]), (&json!(2), &json!(0)), "{report}");
}

#[test]
fn what_is_advised_names_the_repository_that_was_typed() {
    let (sandbox, _) = history(1);
    copy_folder(&sandbox.repo(), &sandbox.path("my repo")).expect("a copy");
    let words = ["create", "source", "--repo", "my repo"];
    let run = sandbox.expect(&words, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let line = run.stdout.lines().find(|line| line.contains("to look:")).expect("a line");
    let look = line.split("to look:").nth(1).expect("a command").trim();
    assert!(look.starts_with("snap --repo 'my repo' restore "), "{run}");
    let looked = as_printed(&sandbox, &look.replace("DIR", "looked"));
    assert!(looked.code == exit::DONE && sandbox.path("looked").exists(), "{looked}");
    let words = ["status", "--repo", "my repo", "--json"];
    let status = sandbox.expect(&words, &[exit::DONE, exit::DAMAGE]).unwrap_or_else(|text| panic!("{text}")).json();
    let commands: Vec<&str> =
        status["advice"].as_array().expect("advice").iter().filter_map(|one| one["command"].as_str()).collect();
    assert!(!commands.is_empty() && commands.iter().all(|one| one.starts_with("snap --repo 'my repo' ")), "{status}");
    let run = sandbox.must("list --repo nowhere", exit::NO_REPOSITORY);
    assert!(run.stderr.contains("`snap --repo nowhere init`"), "{run}");
    // What the surroundings say they say to the next command too.
    assert!(sandbox.must("create source", exit::DONE).stdout.contains("to look:  snap restore "));
}
