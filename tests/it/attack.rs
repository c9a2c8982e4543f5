//! What somebody does who holds the storage, a writer's key, or both: it is found, denied, or does no harm.
//! The numbers are those of docs/FAILURES.md.

use crate::compare;
use crate::forget::{capture, history, listed, secrets};
use crate::keys::new_identity;
use crate::need;
use crate::need::need;
use crate::snap::{self, Run, Sandbox, WATCHDOG, copy_folder, exit, id_of};
use crate::trees::source_tree;
use ::snap::crypto::Recipient;
use ::snap::crypto::secrets::Secrets;
use ::snap::id::{PackId, object_name, to_hex};
use ::snap::repo::manifest::{Manifest, Need};
use std::fs;
use std::path::{Path, PathBuf};

/// A repository of two snapshots, and the writer of it who is in somebody else's hands.
struct Scene {
    sandbox: Sandbox,
    ids: Vec<String>,
    writer: Secrets,
}

impl Scene {
    fn new() -> Self {
        let (sandbox, ids) = history(2);
        let recipient = new_identity(&sandbox, "writer.txt");
        sandbox.must(&format!("key add web-1 --writer --recipient {recipient}"), exit::DONE);
        let writer = secrets(&sandbox, "web-1.age", sandbox.path("writer.txt"));
        Self { sandbox, ids, writer }
    }

    /// The newest manifest.
    fn manifest(&self) -> Manifest {
        let shown = self.sandbox.json(&format!("show {}", self.ids[1]))["manifest"].clone();
        serde_json::from_value(shown).expect("a manifest")
    }

    /// Publishes a manifest that only somebody with the secrets can make: what was `changed` follows the newest one.
    fn forge(&self, change: impl FnOnce(&mut Manifest)) -> String {
        let mut manifest = self.manifest();
        manifest.predecessors = vec![::snap::id::SnapshotId::parse(&self.ids[1]).expect("an id")];
        change(&mut manifest);
        self.put("snapshots", &manifest.encode(&self.writer.mac_key()).expect("a manifest"))
    }

    /// Seals `plain` to the index recipient, which `config` tells everybody, and stores it.
    fn put(&self, folder: &str, plain: &[u8]) -> String {
        let config = self.config();
        let recipient = Recipient::parse(config["index_recipient"].as_str().expect("text")).expect("a recipient");
        let sealed = ::snap::crypto::seal::seal(&[recipient], plain).expect("a sealed object");
        let name = to_hex(&object_name(&sealed));
        fs::create_dir_all(self.sandbox.repo().join(folder)).expect("a folder");
        fs::write(self.sandbox.repo().join(folder).join(&name), sealed).expect("an object");
        name
    }

    fn config(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.sandbox.repo().join("config")).expect("config")).expect("JSON")
    }

    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        self.sandbox.objects().into_iter().filter(|path| path.starts_with(folder)).collect()
    }

    /// What was acknowledged is there, and comes back from a machine that knows nothing.
    fn harmless(&self) {
        let _ = fs::remove_dir_all(self.sandbox.cache());
        self.sandbox.must(&format!("restore {} --target harmless", self.ids[1]), exit::DONE);
        compare::assert_same(&self.sandbox.path("source"), &self.sandbox.path("harmless"));
        fs::remove_dir_all(self.sandbox.path("harmless")).expect("a target");
    }
}

/// Runs a command that may take no more than a gigabyte of addresses.
fn bounded(sandbox: &Sandbox, line: &str) -> Run {
    let mut command = sandbox.command("sh");
    command.args(["-c", &format!("ulimit -v 1000000; exec \"$0\" {line}")]).arg(snap::program());
    let run = snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"));
    assert!(!run.panicked() && run.code < 128, "{run}");
    run
}

fn swap(one: &Path, other: &Path) {
    let (first, second) = (fs::read(one).expect("an object"), fs::read(other).expect("an object"));
    for (path, bytes) in [(one, second), (other, first)] {
        fs::remove_file(path).expect("an object");
        fs::write(path, bytes).expect("an object");
    }
}

/// 1–3: `damage.rs` in little.
#[test]
fn attack_01_to_03_changed_cut_and_swapped_objects_are_found() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    for folder in ["packs", "index", "snapshots"] {
        let objects = scene.objects(folder);
        let (path, other) = (sandbox.repo().join(&objects[0]), sandbox.repo().join(&objects[1]));
        let sound = fs::read(&path).expect("an object");
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        for bytes in [flipped, sound[..sound.len() / 2].to_vec()] {
            fs::remove_file(&path).expect("an object");
            fs::write(&path, bytes).expect("an object");
            sandbox.must("check --read-data", exit::DAMAGE);
        }
        fs::remove_file(&path).expect("an object");
        fs::write(&path, sound).expect("an object");
        swap(&path, &other);
        sandbox.must("check --read-data", exit::DAMAGE);
        swap(&path, &other);
        sandbox.must("check --read-data", exit::DONE);
    }
    scene.harmless();
}

/// 4: the manifests of two stacks change places.
#[test]
fn attack_04_a_manifest_stands_for_no_other_stack() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    source_tree(&sandbox.path("other"), 3, 77);
    let other = id_of(&sandbox.create(&sandbox.path("other"))["snapshot"]).expect("an id");
    let path = |id: &str| sandbox.repo().join("snapshots").join(id);
    swap(&path(&scene.ids[1]), &path(&other));
    let _ = fs::remove_dir_all(sandbox.cache());
    sandbox.must("check", exit::DAMAGE);
    for id in [&other, &scene.ids[1]] {
        sandbox.must(&format!("restore {id} --target t"), exit::DAMAGE);
    }
    swap(&path(&scene.ids[1]), &path(&other));
    scene.harmless();
}

/// 5: objects of another repository of the same person, whose identity opens both.
#[test]
fn attack_05_objects_of_another_repository_are_none_of_this_one() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    sandbox.must("init --repo elsewhere", exit::DONE);
    source_tree(&sandbox.path("foreign"), 3, 78);
    sandbox.must("create foreign --stack source --repo elsewhere", exit::DONE);
    for folder in ["packs", "index", "snapshots"] {
        for path in compare::paths(&sandbox.path("elsewhere").join(folder)) {
            let of = |root: PathBuf| root.join(folder).join(&path);
            let (from, to) = (of(sandbox.path("elsewhere")), of(sandbox.repo()));
            if from.is_dir() {
                fs::create_dir_all(to).expect("a folder")
            } else {
                fs::copy(from, to).expect("a copy");
            }
        }
    }
    assert_eq!(sandbox.must("list --json", exit::DAMAGE).json()["snapshots"].as_array().map(Vec::len), Some(2));
    sandbox.must("check", exit::DAMAGE);
    // Which one is the newest is no more known; by its id each is.
    sandbox.must("restore latest --target t", exit::DAMAGE);
    scene.harmless();
}

/// 6 and 7: an old state of all, and the newest snapshot hidden.
#[test]
fn attack_06_and_07_what_was_seen_is_missed() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let old = sandbox.path("old");
    copy_folder(&sandbox.repo(), &old).expect("a copy");
    let id = capture(sandbox, 9);
    let hidden = sandbox.repo().join("snapshots").join(&id);
    fs::rename(&hidden, sandbox.path("hidden")).expect("a manifest");
    sandbox.must("check", exit::DAMAGE);
    sandbox.must("restore latest --target t", exit::DAMAGE);
    sandbox.must("prune --yes", exit::FAILED);
    fs::rename(sandbox.path("hidden"), &hidden).expect("a manifest");
    sandbox.must("check", exit::DONE);
    fs::remove_dir_all(sandbox.repo()).expect("the repository");
    fs::rename(&old, sandbox.repo()).expect("an old one");
    sandbox.must("check", exit::DAMAGE);
    sandbox.must("restore latest --target t", exit::DAMAGE);
    let run = sandbox.must("forget --keep-last 1", exit::FAILED);
    assert!(run.stdout.contains("is gone"), "{run}");
    sandbox.must("prune --yes", exit::FAILED);
}

/// 8: a manifest by somebody who has what `config` tells and no secret.
#[test]
fn attack_08_a_snapshot_without_the_secrets_is_none() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let mut manifest = scene.manifest();
    manifest.note = "forged".to_owned();
    let id = scene.put("snapshots", &manifest.encode(&[7; 32]).expect("a manifest"));
    assert_eq!(sandbox.must("list --json", exit::DAMAGE).json()["snapshots"].as_array().map(Vec::len), Some(2));
    sandbox.must("check", exit::DAMAGE);
    sandbox.must(&format!("restore {id} --target t"), exit::DAMAGE);
    sandbox.must("prune --yes", exit::FAILED);
    scene.harmless();
}

/// 9: somebody's own recipient, in `config` and in the header of an object.
#[test]
fn attack_09_nothing_is_sealed_to_a_recipient_that_the_storage_names() {
    need!(need::program("age-keygen"), need::program("age"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let mallory = new_identity(sandbox, "mallory.txt");
    let text = fs::read_to_string(sandbox.repo().join("config")).expect("config");
    let config = scene.config();
    let mut forged = text.clone();
    for old in [&config["data_recipients"][0], &config["index_recipient"]] {
        forged = forged.replace(old.as_str().expect("a recipient"), &mallory);
    }
    assert_ne!(forged, text);
    fs::remove_file(sandbox.repo().join("config")).expect("config");
    fs::write(sandbox.repo().join("config"), forged).expect("config");
    capture(sandbox, 9);
    for path in sandbox.objects().iter().filter(|path| !path.starts_with("keys") && *path != Path::new("config")) {
        let mut command = sandbox.command("age");
        command.args(["-d", "-i", "mallory.txt", "-o", "/dev/null"]).arg(sandbox.repo().join(path));
        let run = snap::run(command, WATCHDOG).unwrap_or_else(|text| panic!("{text}"));
        assert_ne!(run.code, 0, "{}", path.display());
    }
    // One more stanza in a header changes the object, and age's own MAC over the header.
    let pack = sandbox.repo().join(&scene.objects("packs")[0]);
    let sound = fs::read(&pack).expect("a pack");
    let at = sound.windows(5).position(|bytes| bytes == b"\n--- ").expect("the end of the header");
    let stanza =
        b"\n-> X25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let more = [&sound[..at], stanza, &sound[at..]].concat();
    fs::remove_file(&pack).expect("a pack");
    fs::write(&pack, more).expect("a pack");
    sandbox.must("check --read-data", exit::DAMAGE);
    fs::remove_file(&pack).expect("a pack");
    fs::write(&pack, sound).expect("a pack");
    sandbox.must("check --read-data", exit::DONE);
}

/// 10: names that lead outside, from somebody who has the secrets. Trees have a test of their own, `src/repo/record.rs`.
#[test]
fn attack_10_no_name_in_a_manifest_leads_outside() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let stack = sandbox.path("app");
    source_tree(&stack, 2, 3);
    fs::write(stack.join("compose.yaml"), "services: {}\n").expect("a file");
    let created = sandbox.must("create app --files-only --json", exit::DONE).json();
    let shown = sandbox.json(&format!("show {}", id_of(&created["snapshot"]).expect("an id")))["manifest"].clone();
    let application: Manifest = serde_json::from_value(shown).expect("a manifest");
    let roots = ["/x/../../../evil", "/..", "/../evil", "//", "/evil\0", "../evil"];
    let names = ["../../evil", "..", ".", "", "/evil", "a\0b"];
    for (root, name) in roots.into_iter().zip(names) {
        let id = scene.forge(|manifest| {
            let mut source = application.sources[0].clone();
            source.root = root.to_owned();
            let mut volume = application.sources[0].clone();
            volume.kind = ::snap::repo::manifest::SourceKind::Volume;
            volume.name = name.to_owned();
            manifest.project = application.project.clone();
            manifest.sources = vec![source, volume];
            manifest.needs = application.needs.clone();
        });
        fs::create_dir(sandbox.path("in")).expect("a folder");
        let before = compare::paths(&sandbox.path(""));
        let run = sandbox.snap(&["restore", &id, "--target", "in/t"]);
        assert!(!run.panicked(), "{run}");
        let beside = |path: &PathBuf| !path.starts_with("in/t") && !path.starts_with("home");
        let after: Vec<PathBuf> = compare::paths(&sandbox.path("")).into_iter().filter(beside).collect();
        assert_eq!(after, before.into_iter().filter(beside).collect::<Vec<_>>(), "{root:?} {name:?} {run}");
        fs::remove_dir_all(sandbox.path("in")).expect("a folder");
    }
    assert!(!Path::new("/evil").exists());
    scene.harmless();
}

/// 11: numbers without measure.
#[test]
fn attack_11_numbers_without_measure_cost_nothing() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let huge = |manifest: &mut Manifest| {
        let source = &mut manifest.sources[0];
        (source.entries, source.files, source.bytes) = (1 << 60, 1 << 60, 1 << 60);
    };
    let deep = |manifest: &mut Manifest| manifest.sources[0].tree.level = 1_000_000;
    let many = |manifest: &mut Manifest| {
        let pack = manifest.needs[0].pack;
        manifest.needs.push(Need { pack, segments: vec![[0, u32::MAX], [u32::MAX, u32::MAX]] });
    };
    let strange = |manifest: &mut Manifest| {
        let need = |n: u8| Need { pack: PackId([n; 32]), segments: vec![[0, 1_000_000]] };
        manifest.needs.extend((0..200).map(need));
    };
    let changes: [&dyn Fn(&mut Manifest); 4] = [&huge, &deep, &many, &strange];
    for change in changes {
        let id = scene.forge(change);
        for line in [
            format!("restore {id} --target t"),
            format!("show {id}"),
            "check".to_owned(),
            "list".to_owned(),
            "prune --yes --dry-run".to_owned(),
            "create source".to_owned(),
            format!("forget {id} --dry-run"),
        ] {
            bounded(sandbox, &line);
            let _ = fs::remove_dir_all(sandbox.path("t"));
        }
        // Packs that are named and not used are only told of.
        let run = bounded(sandbox, "check");
        assert!(run.code == exit::DAMAGE || run.stdout.contains("it names pack"), "{run}");
        fs::remove_file(sandbox.repo().join("snapshots").join(&id)).expect("a manifest");
        let _ = fs::remove_dir_all(sandbox.cache());
        // What was captured meanwhile may follow the forged one.
        for other in listed(sandbox).into_iter().filter(|other| !scene.ids.contains(other)) {
            fs::remove_file(sandbox.repo().join("snapshots").join(other)).expect("a manifest");
        }
        let _ = fs::remove_dir_all(sandbox.cache());
    }
    scene.harmless();
}

/// 12: what is small and becomes large.
#[test]
fn attack_12_bombs_do_not_go_off() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let zeros = |len: usize| zstd::bulk::compress(&vec![0; len], 19).expect("a frame");
    // The length that a frame states is a lie, is absent, or is beyond every limit.
    let mut lie = zeros(1 << 20);
    lie[5..9].copy_from_slice(&(1u32 << 28).to_le_bytes());
    let mut unstated = Vec::new();
    zstd::stream::copy_encode(std::io::Read::take(std::io::repeat(0), 64 << 20), &mut unstated, 19).expect("a frame");
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0xf8, 0x01, 0x00, 0x00];
    for bomb in [zeros(300 << 20), zeros(200 << 20), lie, unstated, window.to_vec()] {
        for folder in ["snapshots", "index", "marks", "removed", "log"] {
            let name = scene.put(folder, &bomb);
            for line in ["list", "check", "log", "create source", &format!("restore {} --target t", scene.ids[0])] {
                bounded(sandbox, line);
                let _ = fs::remove_dir_all(sandbox.path("t"));
            }
            // An index object of which nothing is needed is only told of.
            let codes: &[i32] = if folder == "index" { &[exit::DONE, exit::DAMAGE] } else { &[exit::DAMAGE] };
            let run = bounded(sandbox, "check");
            assert!(codes.contains(&run.code), "{folder}: {run}");
            fs::remove_file(sandbox.repo().join(folder).join(name)).expect("the bomb");
        }
    }
    scene.harmless();
}

/// 13: a key file that would take a machine's whole memory to try.
#[test]
fn attack_13_work_that_never_ends_is_not_begun() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    for factor in [21, 30, 40, 63] {
        let text = format!(
            "age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA {factor}\n\
             AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
        );
        fs::write(sandbox.repo().join("keys/slow.age"), text).expect("a key file");
        fs::write(sandbox.path("passphrase"), "correct horse battery\n").expect("a file");
        crate::trees::set_mode(&sandbox.path("passphrase"), 0o600);
        let run = bounded(sandbox, "list --passphrase-file passphrase --identity nowhere.txt");
        assert_ne!(run.code, exit::DONE, "{run}");
        assert_eq!(bounded(sandbox, "list").code, exit::DONE);
        fs::remove_file(sandbox.repo().join("keys/slow.age")).expect("a key file");
    }
    scene.harmless();
}

/// 15: times of which none is true, to push good snapshots out.
#[test]
fn attack_15_forged_times_push_nothing_out() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    for (at, time) in ["2099-01-01", "2050-06-01", "1970-01-01", "2026-11-25"].into_iter().enumerate() {
        scene.forge(|manifest| {
            manifest.time = format!("{time}T00:00:00.00000{at}Z");
            manifest.note = "forged".to_owned();
            manifest.sources[0].bytes = 1;
        });
    }
    let run = sandbox.must("forget --keep-last 1 --keep-daily 2 --keep-yearly 3", exit::FAILED);
    assert!(run.stdout.contains("looks wrong"), "{run}");
    assert!(listed(sandbox).len() == 6 && scene.ids.iter().all(|id| listed(sandbox).contains(id)));
    scene.harmless();
}
