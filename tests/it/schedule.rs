//! Timers of systemd: what `snap.toml` says is what is there, systemd understands it, nothing of it stays, and a
//! capture by itself keeps out of a restore's way.

use crate::forget::history;
use crate::need;
use crate::need::need;
use crate::snap::{Sandbox, exit};
use ::snap::commands::env::host_name;
use ::snap::stack::rollback::Journal;
use ::snap::stack::rollback::journal::folder_of;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const SCHEDULE: &str = "[schedule]\ncreate = \"hourly :20\"\ncheck = \"daily 03:00\"\ncheck-budget = \"20m\"\n\
    replicate = \"every 6h\"\nprune = \"weekly sun 05:00\"\nenvironment-file = \"secrets.env\"\n\
    [retention]\nkeep-daily = 7\n[replica.near]\nurl = \"near\"\n";

/// A project with the settings in a folder whose name systemd must not take apart.
fn scheduled() -> (Sandbox, PathBuf) {
    let (sandbox, _) = history(1);
    let project = sandbox.path("100% \"our\" $HOME clinic");
    fs::create_dir(&project).expect("a folder");
    fs::write(project.join("notes"), "dear").expect("a file");
    fs::write(project.join("snap.toml"), SCHEDULE).expect("a file");
    fs::write(project.join("secrets.env"), "AWS_SECRET_ACCESS_KEY=s3cr3t\n").expect("a file");
    (sandbox, project)
}

fn schedule(sandbox: &Sandbox, verb: &str, project: &Path, code: i32) -> Value {
    let units = sandbox.path("units");
    let words = ["schedule", verb].map(Into::into).into_iter();
    let words = words.chain([project.as_os_str().to_owned(), "--unit-dir".into(), units.into(), "--json".into()]);
    let words: Vec<std::ffi::OsString> = words.collect();
    sandbox.expect(&words, &[code]).unwrap_or_else(|text| panic!("{text}")).json()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let below = crate::compare::paths(folder).into_iter().filter(|path| !folder.join(path).is_dir());
    below.map(|path| (path.clone(), fs::read_to_string(folder.join(&path)).expect("a file"))).collect()
}

#[test]
fn what_is_installed_is_what_the_settings_say_and_nothing_of_it_stays() {
    let (sandbox, project) = scheduled();
    let units = sandbox.path("units");
    let made = schedule(&sandbox, "install", &project, exit::DONE);
    let jobs: Vec<(&str, bool)> = made["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| (job["job"].as_str().expect("a name"), job["installed"] == true))
        .collect();
    assert_eq!(jobs, [("create", true), ("check", true), ("replicate", true), ("prune", true)]);
    assert_eq!((&made["running"], made["changed"].as_array().map(Vec::len)), (&json!(false), Some(13)), "{made}");
    let before = files(&units);
    assert_eq!(before.len(), 13, "{:?}", before.keys());
    let text = |end: &str| before.iter().find(|(path, _)| path.ends_with(end)).expect(end).1.as_str();
    let prefix = "snap-100___our___HOME_clinic";
    let create = text(&format!("{prefix}-create.service"));
    assert!(create.contains("ExecCondition=") && create.contains("\"schedule\" \"may-create\""), "{create}");
    assert!(create.contains("EnvironmentFile=") && !create.contains("s3cr3t"), "{create}");
    assert!(create.contains(&format!("OnFailure={prefix}-failed@%n.service")), "{create}");
    assert!(create.contains(&format!("\"SNAP_REPO={}\"", sandbox.repo().display())), "{create}");
    assert!(text(&format!("{prefix}-create.timer")).contains("OnCalendar=*-*-* *:20:00"));
    let prune = text(&format!("{prefix}-prune.service"));
    assert!(prune.find("\"forget\"") < prune.find("\"prune\"") && prune.contains("\"forget\""), "{prune}");
    assert!(text(&format!("{prefix}-check.service")).contains("SuccessExitStatus=3"));
    // Once more is nothing more; another time is one file; one job less is two files and a link less.
    assert_eq!(schedule(&sandbox, "install", &project, exit::DONE)["changed"], json!([]));
    assert_eq!(files(&units), before);
    let change = |from: &str, to: &str| {
        let text = fs::read_to_string(project.join("snap.toml")).expect("settings");
        fs::write(project.join("snap.toml"), text.replace(from, to)).expect("settings");
    };
    change("hourly :20", "hourly :25");
    assert_eq!(schedule(&sandbox, "install", &project, exit::DONE)["changed"].as_array().map(Vec::len), Some(1));
    change("replicate = \"every 6h\"\n", "");
    schedule(&sandbox, "install", &project, exit::DONE);
    assert_eq!(files(&units).len(), 10);
    let shown = schedule(&sandbox, "show", &project, exit::DONE);
    assert_eq!(shown["jobs"].as_array().map(Vec::len), Some(3), "{shown}");
    // What is somebody else's stays, and so does what is for another folder.
    let other = sandbox.path("elsewhere").join(project.file_name().expect("a name"));
    fs::create_dir_all(&other).expect("a folder");
    fs::write(other.join("snap.toml"), SCHEDULE).expect("a file");
    let refused = schedule(&sandbox, "install", &other, exit::USAGE);
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("is in the way")), "{refused}");
    fs::write(units.join("other.service"), "[Service]\n").expect("a file");
    schedule(&sandbox, "remove", &project, exit::DONE);
    assert_eq!(files(&units).into_keys().collect::<Vec<_>>(), [PathBuf::from("other.service")]);
    assert!(!units.join("timers.target.wants").exists());
    assert_eq!(schedule(&sandbox, "remove", &project, exit::DONE)["changed"], json!([]));
}

#[test]
fn a_file_with_secrets_that_is_not_there_is_missed_before_the_night() {
    let (sandbox, project) = scheduled();
    let service = |end: &str| {
        let units = files(&sandbox.path("units"));
        units.into_iter().find(|(path, _)| path.display().to_string().ends_with(end)).expect(end).1
    };
    let installed = schedule(&sandbox, "install", &project, exit::DONE)["changed"].as_array().map(Vec::len);
    assert!(service("-check.service").contains("\nEnvironmentFile=/"), "a job needs it");
    assert!(service("-failed@.service").contains("\nEnvironmentFile=-/"), "what tells of it does not");
    // As many are taken away as were put there, links and all.
    assert_eq!(schedule(&sandbox, "remove", &project, exit::DONE)["changed"].as_array().map(Vec::len), installed);
    fs::remove_file(project.join("secrets.env")).expect("a file");
    let words = ["schedule", "install", "--user"].map(std::ffi::OsString::from);
    let words: Vec<_> = words.into_iter().chain([project.as_os_str().to_owned()]).collect();
    let run = sandbox.expect(&words, &[exit::USAGE]).unwrap_or_else(|text| panic!("{text}"));
    assert!(run.stderr.contains("secrets.env") && run.stderr.contains("environment-file"), "{run}");
    assert!(!sandbox.home().join(".config/systemd").exists());
    // For another machine it is only said.
    let words = ["schedule", "install", "--unit-dir", "units"].map(std::ffi::OsString::from);
    let words: Vec<_> = words.into_iter().chain([project.as_os_str().to_owned()]).collect();
    let run = sandbox.expect(&words, &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    assert!(run.stderr.contains("secrets.env"), "{run}");
}

#[test]
fn settings_that_say_nothing_to_be_done_are_refused() {
    let (sandbox, project) = scheduled();
    for wrong in [
        "",
        "[schedule]\n",
        "[schedule]\ncreate = \"often\"\n",
        "[schedule]\ncreate = \"daily 25:00\"\n",
        "[schedule]\nreplicate = \"hourly\"\n",
        "[schedule]\nrestore = \"hourly\"\n",
        "[schedule]\ncheck = \"hourly\"\ncheck-max-age = \"soon\"\n",
    ] {
        fs::write(project.join("snap.toml"), wrong).expect("a file");
        schedule(&sandbox, "install", &project, exit::USAGE);
        assert!(!sandbox.path("units").exists(), "{wrong}");
    }
}

#[test]
fn systemd_understands_the_units() {
    need!(need::program("systemd-analyze"));
    let (sandbox, project) = scheduled();
    schedule(&sandbox, "install", &project, exit::DONE);
    let units = sandbox.path("units");
    let mut verify = sandbox.command("systemd-analyze");
    // Of all others only what these need is looked at.
    verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
    let own = |path: &PathBuf| path.parent().is_some_and(|parent| parent == Path::new(""));
    let names: Vec<PathBuf> = files(&units).into_keys().filter(own).collect();
    assert_eq!(names.len(), 9);
    verify.args(names.iter().map(|name| units.join(name.display().to_string().replace("failed@.", "failed@x."))));
    let run = crate::snap::run(verify, crate::snap::WATCHDOG).unwrap_or_else(|text| panic!("{text}"));
    assert!(run.code == 0 && run.stderr.is_empty() && run.stdout.is_empty(), "{run}");
    // It says so of units that are wrong.
    let path =
        units.join(names.iter().find(|name| name.ends_with("snap-100___our___HOME_clinic-check.service")).expect("it"));
    let text = fs::read_to_string(&path).expect("a unit");
    fs::write(&path, text.replace("ExecStart=", "ExecStart=nowhere/")).expect("a unit");
    let mut verify = sandbox.command("systemd-analyze");
    verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
    verify.arg(&path);
    let run = crate::snap::run(verify, crate::snap::WATCHDOG).unwrap_or_else(|text| panic!("{text}"));
    assert!(run.code != 0 || !run.stderr.is_empty(), "{run}");
}

/// A manager of its own, which sees nothing of this machine's: the timers are started, a service runs, one is
/// killed, and in the end nothing is left.
const WITH_SYSTEMD: &str = r#"
mount -t tmpfs none /run
mkdir -p /run/systemd/system
export XDG_RUNTIME_DIR="$HOME/run"
mkdir -m 700 "$XDG_RUNTIME_DIR"
/usr/lib/systemd/systemd --user >manager.log 2>&1 &
manager=$!
trap 'kill $manager; wait $manager || true' EXIT
poll() { tries=0; until eval "$1"; do tries=$((tries + 1)); [ $tries -lt 600 ] || { cat manager.log >&2; exit 9; }; sleep 0.1; done; }
poll 'systemctl --user show --property=Version >/dev/null 2>&1'
"$SNAP" schedule install --user source --json >installed.json
systemctl --user start snap-source-create.service
"$SNAP" schedule show --user source --json >shown.json
folder="$HOME/.config/systemd/user/snap-source-check.service.d"
mkdir "$folder"
printf '[Service]\nExecStart=\nExecStart=/bin/sh -c "kill -9 $$$$"\n' >"$folder/killed.conf"
systemctl --user daemon-reload
if systemctl --user start snap-source-check.service; then exit 8; fi
poll '"$SNAP" schedule show --user source | grep -q "systemd says: signal"'
rm -r "$folder"
"$SNAP" schedule remove --user source --json >removed.json
# It ends with 1 where there is none.
systemctl --user list-unit-files --no-legend --no-pager 'snap-*' >left || true
"#;

#[test]
fn a_systemd_runs_them_and_tells_of_what_was_killed() {
    need!(need::root(), need::program("unshare"), need::program("systemctl"), need::file("/usr/lib/systemd/systemd"));
    let (sandbox, ids) = history(1);
    let text = "[schedule]\ncreate = \"monthly\"\ncheck = \"monthly 04:00\"\n";
    fs::write(sandbox.path("source/snap.toml"), text).expect("a file");
    let mut command = sandbox.command("unshare");
    command.args(["--mount", "sh", "-eu", "-c", WITH_SYSTEMD]).env("SNAP", crate::snap::program());
    let run = crate::snap::run(command, crate::snap::WATCHDOG).and_then(|run| run.expect(&[exit::DONE]));
    run.unwrap_or_else(|text| panic!("{text}"));
    let document = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(sandbox.path(name)).expect("a file")).expect("a document")
    };
    let (installed, shown) = (document("installed.json"), document("shown.json"));
    assert_eq!((&installed["running"], &installed["refused"]), (&json!(true), &json!([])), "{installed}");
    let job = &shown["jobs"][0];
    assert_eq!(
        (&job["job"], &job["result"], &job["last"]["exit_code"]),
        (&json!("create"), &json!("success"), &json!(0))
    );
    let next = job["next"].as_i64().expect("a time");
    assert!(next > job["last"]["at"].as_i64().expect("a time") && shown["jobs"][1]["result"].is_null(), "{shown}");
    // The service made a snapshot of the folder, and said so in a tag.
    let listed = sandbox.list();
    assert_eq!((listed.len(), &listed[1]["tags"]), (ids.len() + 1, &json!(["scheduled"])), "{listed:?}");
    let status = sandbox.must("status", exit::DAMAGE).stdout;
    assert!(status.contains("the last check failed") && status.contains("snap-source-check.service"), "{status}");
    assert_eq!(document("removed.json")["changed"].as_array().map(Vec::len), Some(7));
    assert_eq!(fs::read_to_string(sandbox.path("left")).expect("a file"), "");
    assert_eq!(files(&sandbox.home().join(".config/systemd")), BTreeMap::new());
}

#[test]
fn a_capture_by_itself_keeps_out_of_the_way_of_a_restore() {
    let (sandbox, _) = history(1);
    let source = sandbox.path("source").canonicalize().expect("a folder");
    let may_create = |code: i32| {
        let mut command = sandbox.snap_command(&["schedule", "may-create"]);
        command.current_dir(&source);
        let run = crate::snap::run(command, crate::snap::WATCHDOG).and_then(|run| run.expect(&[code]));
        run.unwrap_or_else(|text| panic!("{text}"))
    };
    const IN_THE_WAY: i32 = 5;
    may_create(exit::DONE);
    let begun = json!({
        "restore": "r1", "snapshot": "ab".repeat(32), "project": "source", "directory": source,
        "only": [], "began": "2026-11-20T14:40:00.000000Z", "ran": [], "order": [], "new_services": [],
        "old_call": { "plugin": true, "arguments": [] }, "new_call": { "plugin": true, "arguments": [] },
    });
    let begun = serde_json::from_value(begun).expect("the beginning of a restore");
    let folder = folder_of(&sandbox.home().join(".local/share/snap"), &host_name(), "source", &source);
    let journal = Journal::begin(&folder, begun, &[]).expect("a journal");
    // The condition of the service is not met, and whoever comes all the same stores nothing.
    may_create(IN_THE_WAY);
    let before = sandbox.objects();
    sandbox.must("create source", IN_THE_WAY);
    assert_eq!(sandbox.objects(), before);
    // Another application's restore is no reason.
    fs::create_dir(sandbox.path("other")).expect("a folder");
    sandbox.must("create other", exit::DONE);
    // One that was interrupted is no reason to be silent: the capture fails, and the morning tells of it.
    drop(journal);
    may_create(exit::DONE);
    sandbox.must("create source", IN_THE_WAY);
    let status = sandbox.must("status", exit::DAMAGE).stdout;
    assert!(
        status.contains("a restore of source was interrupted") && status.contains("snap restore --resume"),
        "{status}"
    );
}

#[test]
fn a_snapshot_that_is_late_and_a_unit_that_died_are_told_of() {
    let (sandbox, _) = history(1);
    let source = sandbox.path("source");
    fs::write(source.join("snap.toml"), "[schedule]\ncreate = \"every 1min\"\n").expect("a file");
    let status = sandbox.json("status");
    assert_eq!((&status["stacks"][0]["scheduled_seconds"], &status["stacks"][0]["late"]), (&json!(60), &json!(false)));
    assert!(status["advice"].to_string().contains("the schedule of source is not installed"), "{status}");
    // The unit was killed before snap could say anything: systemd starts the one that tells.
    let failed = |unit: &str, code: i32| {
        let mut command = sandbox.snap_command(&["schedule", "failed", unit]);
        command.current_dir(&source).env("MONITOR_SERVICE_RESULT", "oom-kill");
        let run = crate::snap::run(command, crate::snap::WATCHDOG).and_then(|run| run.expect(&[code]));
        run.unwrap_or_else(|text| panic!("{text}"));
    };
    failed("snap-source-create.service", exit::DONE);
    failed("postgres.service", exit::USAGE);
    let status = sandbox.must("status --json", exit::DAMAGE).json();
    let message = status["advice"][0]["message"].as_str().expect("a message");
    assert!(message.contains("the last create of source failed") && message.contains("oom-kill"), "{status}");
    let shown = sandbox.json("schedule show source");
    assert!(shown["jobs"][0]["last"]["message"].as_str().is_some_and(|text| text.contains("oom-kill")), "{shown}");
    assert!(sandbox.must("schedule show source", exit::DONE).stdout.contains("not installed"));
    // One that has told of its end itself is not told of twice.
    let away = sandbox.path("away");
    fs::rename(sandbox.repo(), &away).expect("a folder");
    sandbox.must("create source", exit::NO_REPOSITORY);
    fs::rename(&away, sandbox.repo()).expect("a folder");
    failed("snap-source-create.service", exit::DONE);
    let status = sandbox.must("status --json", exit::DAMAGE).json();
    assert!(status["advice"].to_string().contains("there is no repository"), "{status}");
}
