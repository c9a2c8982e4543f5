//! Repositories on S3 servers: all commands, what a server must promise, what is said when it does not
//! answer. `matrix.rs` has the faults, `independent.rs` a server that others have written.

mod fault;
mod hosts;
mod independent;
mod matrix;
mod server;
mod wire;

use crate::compare;
use crate::snap::{Sandbox, exit, id_of};
use crate::trees::{Random, source_tree};
use server::{BUCKET, Rules, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A person whose repository is at `address`, on the server at `endpoint`.
pub fn person(root: &Path, address: &str, endpoint: &str) -> Sandbox {
    let mut sandbox = Sandbox::with_repo(root, Path::new(address));
    sandbox.vars = vec![
        ("AWS_ACCESS_KEY_ID", "test-key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test-secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("SNAP_ENDPOINT", endpoint.to_owned()),
    ];
    sandbox
}

/// A server and a person who uses it.
struct Scene {
    server: Server,
    sandbox: Sandbox,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let server = Server::start();
        let sandbox = person(dir.path(), &format!("s3://{BUCKET}/clinic/main"), &server.endpoint());
        source_tree(&sandbox.path("source"), 10, 5);
        Self { server, sandbox, dir }
    }

    fn with(rules: Rules) -> Self {
        let scene = Self::new();
        scene.server.state().rules = rules;
        scene
    }

    /// A snapshot of the source with another file in it, and a copy of what it holds.
    fn capture(&self, number: u64) -> (String, PathBuf) {
        capture(&self.sandbox, number)
    }

    fn restores(&self, id: &str, original: &Path) {
        self.sandbox.restores_to(id, original).unwrap_or_else(|text| panic!("{text}"));
    }

    fn removals(&self) -> usize {
        self.server.requests().iter().filter(|request| request.method == "DELETE").count()
    }
}

pub fn capture(sandbox: &Sandbox, number: u64) -> (String, PathBuf) {
    let source = sandbox.path("source");
    fs::write(source.join(format!("file-{number}")), Random::new(number).bytes(60_000)).expect("a file");
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    let original = sandbox.path(&format!("original-{number}"));
    crate::snap::copy_folder(&source, &original).expect("a copy");
    (id, original)
}

/// Pages of three objects: whatever is listed is listed in many.
#[test]
fn all_commands_work_on_a_bucket() {
    let scene = Scene::with(Rules { page: 3, ..Rules::default() });
    let (sandbox, server) = (&scene.sandbox, &scene.server);
    sandbox.must("list", exit::NO_REPOSITORY);
    sandbox.init();
    sandbox.must("init", exit::FAILED);
    let kept: Vec<(String, PathBuf)> = (0..4).map(|number| scene.capture(number)).collect();
    assert_eq!(sandbox.list().len(), 4);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    for round in 0..2 {
        for (id, original) in &kept {
            scene.restores(id, original);
        }
        if round == 0 {
            fs::remove_dir_all(sandbox.cache()).expect("a cache");
        }
    }
    sandbox.must("status", exit::DONE);
    sandbox.must(&format!("show {} --files", kept[0].0), exit::DONE);
    sandbox.must("log", exit::DONE);
    // Everything lies below the prefix, and nothing there is readable.
    assert!(server.state().objects.keys().all(|key| key.starts_with("clinic/main/")));
    sandbox.must("forget --keep-last 2 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    let before = server.state().objects.len();
    let pruned = sandbox.json("prune --delay 0s");
    assert_eq!(pruned["deleted"]["snapshots"], 2, "{pruned}");
    assert!(server.state().objects.len() < before);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    for (id, original) in &kept[2..] {
        scene.restores(id, original);
    }
}

#[test]
fn replicas_go_into_buckets_and_out_of_them() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.init();
    let kept: Vec<(String, PathBuf)> = (0..2).map(|number| scene.capture(number)).collect();
    let here = format!("s3://{BUCKET}/clinic/main");
    sandbox.must(&format!("replicate {here}"), exit::USAGE);
    let report = sandbox.json("replicate local --verify");
    assert_eq!(report[0]["replica_snapshots"], 2, "{report}");
    let text = format!("[replica.far]\nurl = \"s3://{BUCKET}/far\"\nendpoint = \"{}\"\n", scene.server.endpoint());
    fs::write(sandbox.path("snap.toml"), text).expect("a file");
    let report = sandbox.json("replicate far --repo local --verify");
    assert_eq!((&report[0]["snapshots"], &report[0]["replica_snapshots"]), (&2.into(), &2.into()), "{report}");
    assert_eq!(sandbox.json("replicate far --repo local")[0]["objects"], 0);
    for place in ["local".to_owned(), format!("s3://{BUCKET}/far?endpoint={}", scene.server.endpoint())] {
        let _ = fs::remove_dir_all(sandbox.cache());
        sandbox.must(&format!("check --read-data --repo {place}"), exit::DONE);
        for (id, original) in &kept {
            sandbox.must(&format!("restore {id} --target t --repo {place}"), exit::DONE);
            compare::same(original, &sandbox.path("t")).unwrap_or_else(|text| panic!("{text}"));
            fs::remove_dir_all(sandbox.path("t")).expect("a target");
        }
    }
    // A prefix with something else in it is not taken over.
    scene.server.state().objects.insert("letters/dear".to_owned(), Arc::new(b"x".to_vec()));
    sandbox.must(&format!("replicate s3://{BUCKET}/letters --repo local"), exit::USAGE);
    sandbox.must(&format!("init --repo s3://{BUCKET}/letters"), exit::USAGE);
}

/// A bucket that keeps everything, by its versions, its locks, or the rights that one has in it.
#[test]
fn nothing_that_adds_removes() {
    let scene = Scene::with(Rules { keeps_all: true, ..Rules::default() });
    let sandbox = &scene.sandbox;
    sandbox.init();
    let (id, original) = scene.capture(1);
    sandbox.must(&format!("replicate s3://{BUCKET}/second"), exit::DONE);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    scene.restores(&id, &original);
    assert_eq!(scene.removals(), 0);
    // Whoever wants to delete is told that he may not, and nothing is lost by it.
    let (id, original) = scene.capture(2);
    sandbox.must("forget --keep-last 1 --yes", exit::DONE);
    sandbox.must("prune --yes", exit::DONE);
    let run = sandbox.must("prune --delay 0s", exit::FAILED);
    assert!(run.stderr.contains("access is denied") && run.stderr.contains("s3:DeleteObject"), "{run}");
    scene.restores(&id, &original);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_server_that_keeps_no_first_object_is_refused() {
    let scene = Scene::with(Rules { ignores_conditions: true, ..Rules::default() });
    let sandbox = &scene.sandbox;
    let run = sandbox.must("init", exit::FAILED);
    assert!(run.stderr.contains("--single-writer"), "{run}");
    let objects: Vec<String> = scene.server.state().objects.keys().cloned().collect();
    assert!(!objects.iter().any(|key| key.ends_with("config") || key.ends_with(".age")), "{objects:?}");
    sandbox.must("create source", exit::DAMAGE);
    sandbox.must("init --single-writer", exit::DONE);
    let (id, original) = scene.capture(1);
    scene.restores(&id, &original);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn what_is_wrong_is_named_and_what_to_do() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let refused = |status, code, exit: i32, words: &[&str]| {
        scene.server.state().rules.refuses = Some((status, code));
        let run = sandbox.must("list", exit);
        for word in words.iter().chain(&["clinic/main"]) {
            assert!(run.stderr.contains(word), "{word}: {run}");
        }
        scene.server.state().rules.refuses = None;
    };
    refused(404, "NoSuchBucket", exit::NO_REPOSITORY, &["no such bucket", "--endpoint"]);
    refused(403, "AccessDenied", exit::FAILED, &["access is denied", "s3:GetObject"]);
    refused(403, "InvalidAccessKeyId", exit::FAILED, &["credentials", "AWS_ACCESS_KEY_ID"]);
    refused(400, "ExpiredToken", exit::FAILED, &["credentials", "AWS_SESSION_TOKEN"]);
    refused(403, "RequestTimeTooSkewed", exit::FAILED, &["clock"]);
    refused(400, "AuthorizationHeaderMalformed", exit::FAILED, &["region", "AWS_REGION"]);
    refused(301, "PermanentRedirect", exit::FAILED, &["region"]);
    sandbox.must("list --repo s3://elsewhere/x", exit::NO_REPOSITORY);
    sandbox.must("create source", exit::NO_REPOSITORY);
    sandbox.must("list --repo s3://", exit::USAGE);
    let named = |line: &str, words: &[&str]| {
        let run = sandbox.must(line, exit::USAGE);
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{run}");
    };
    named("list --endpoint 127.0.0.1:5055", &["“127.0.0.1:5055”", "write http://127.0.0.1:5055"]);
    named("list --repo s3://BAD!!/x", &["“BAD!!” can be no bucket's name"]);
    for (missing, set) in
        [("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    {
        let mut command = sandbox.snap_command(&["list"]);
        command.env_remove(missing);
        let run = crate::snap::run(command, crate::snap::WATCHDOG).unwrap_or_else(|text| panic!("{text}"));
        assert!(run.code == exit::USAGE && run.stderr.contains(&format!("{set} is set and {missing} is not")), "{run}");
    }
    // Nobody listens at such a port.
    let mut quick = person(scene.dir.path(), &format!("s3://{BUCKET}/x"), "http://127.0.0.1:1");
    quick.vars.push(("SNAP_S3_PATIENCE", "1".to_owned()));
    let run = quick.must("list", exit::FAILED);
    assert!(run.stderr.contains("cannot be reached") && run.stderr.contains("refused"), "{run}");
    let run = quick.must("check", exit::FAILED);
    assert!(run.stderr.contains("cannot be reached"), "{run}");
    // Who looks on is told that it is waited for, once, and how long.
    let told = |run: &crate::snap::Run| run.stderr.matches("trying for up to 1 s; SNAP_S3_PATIENCE sets that").count();
    assert_eq!([told(&run), told(&quick.must("check -q", exit::FAILED))], [1, 0], "{run}");
    let run = quick.must("check --json", exit::FAILED);
    let waiting = run.stderr.lines().filter(|line| line.starts_with("{\"event\":\"waiting\""));
    assert_eq!((waiting.count(), told(&run)), (1, 1), "{run}");
}

#[test]
fn two_who_capture_at_once_both_have_their_snapshots() {
    let scene = Scene::new();
    scene.sandbox.init();
    let sandbox = &scene.sandbox;
    std::thread::scope(|scope| {
        let one = |number: u64| {
            let source = sandbox.path(&format!("source-{number}"));
            source_tree(&source, 20, number);
            for _ in 0..4 {
                sandbox.create(&source);
            }
        };
        scope.spawn(move || one(1));
        scope.spawn(move || one(2));
    });
    assert_eq!(sandbox.list().len(), 8);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

/// A small pack comes whole with the question for its size.
#[test]
fn a_small_pack_takes_one_request() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.init();
    let (id, original) = scene.capture(1);
    scene.server.count_anew(None);
    scene.restores(&id, &original);
    let requests = scene.server.requests();
    let asked: Vec<&str> = requests.iter().map(|one| one.key.as_str()).filter(|key| key.contains("/packs/")).collect();
    let different: std::collections::BTreeSet<&&str> = asked.iter().collect();
    assert!(asked.len() >= 2 && asked.len() == different.len(), "{asked:?}");
}

/// From a folder into a bucket and back: what is spoilt comes back whole, and what it was is kept.
#[test]
fn a_bucket_is_repaired_from_a_folder_and_a_folder_from_a_bucket() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.init();
    let (id, original) = scene.capture(1);
    sandbox.must("replicate local", exit::DONE);
    let spoil = || {
        let mut state = scene.server.state();
        let keys: Vec<String> = state.objects.keys().cloned().collect();
        let of = |folder: &str| keys.iter().filter(|key| key.contains(folder)).cloned().collect::<Vec<_>>();
        let (packs, manifests, indexes) = (of("/packs/"), of("/snapshots/"), of("/index/"));
        state.objects.remove(&packs[0]);
        state.objects.remove(&indexes[0]);
        for key in packs[1..].iter().chain(&manifests) {
            let mut bytes = state.objects[key].to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            state.objects.insert(key.clone(), Arc::new(bytes));
        }
        packs.len() + manifests.len()
    };
    let spoilt = spoil();
    let done = sandbox.must("repair --from local --read-data --yes --json", exit::DONE).json();
    assert_eq!(done["objects"].as_array().map(Vec::len), Some(spoilt), "{done}");
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    scene.restores(&id, &original);
    let aside = scene.server.state().objects.keys().filter(|key| key.contains("/damaged/")).count();
    assert_eq!(aside, spoilt - 1);
    // It is still a repository, and can be copied.
    sandbox.must(&format!("replicate s3://{BUCKET}/second"), exit::DONE);
    for name in ["packs", "index", "snapshots"] {
        fs::remove_dir_all(sandbox.path("local").join(name)).expect("a folder");
        fs::create_dir(sandbox.path("local").join(name)).expect("a folder");
    }
    sandbox.must("list", exit::DONE);
    let here = format!("s3://{BUCKET}/clinic/main");
    sandbox.must(&format!("repair --repo local --from {here} --yes"), exit::DONE);
    sandbox.must("check --read-data --repo local", exit::DONE);
}

/// What is too large for one request goes in parts, from a file.
#[test]
fn large_objects_go_in_parts() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.must("init --repo local", exit::DONE);
    let bytes = Random::new(7).bytes(70 << 20);
    let name = snap::id::to_hex(blake3::hash(&bytes).as_bytes());
    let folder = sandbox.path("local/packs").join(&name[..2]);
    fs::write(folder.join(&name), &bytes).expect("an object");
    let report = sandbox.json(&format!("replicate s3://{BUCKET}/large --repo local --verify"));
    assert_eq!((&report[0]["packs"], &report[0]["verified"]), (&1.into(), &1.into()), "{report}");
    let state = scene.server.state();
    let there = state.objects.get(&format!("large/packs/{}/{name}", &name[..2])).expect("the object");
    assert!(**there == bytes);
    let parts = state.log.iter().filter(|request| request.query.contains_key("partNumber")).count();
    assert_eq!(parts, 5);
}
