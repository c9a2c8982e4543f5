//! The catalog is a cache: whatever happens to it, the answers are the same, and the next capture
//! stores nothing twice.

use crate::capture::{Memory, Nobody};
use crate::compare::paths;
use crate::need::{self, need};
use crate::scene::Scene;
use crate::snap::{Sandbox, copy_folder, exit};
use crate::trees::{Random, set_mode};
use std::fs;
use std::path::{Path, PathBuf};

/// A repository with a past, its scene, and a copy of its user's cache.
struct Known {
    sandbox: Sandbox,
    scene: Scene,
    cache: PathBuf,
}

impl Known {
    fn new() -> Self {
        let sandbox = Sandbox::owning(need::fast_tempdir());
        let scene = Scene::new(&sandbox, &sandbox.path("scene"), 2);
        sandbox.create(&scene.source);
        let cache = sandbox.path("cache-then");
        copy_folder(&sandbox.cache(), &cache).expect("a copy");
        Self { sandbox, scene, cache }
    }

    /// Files of the cache, relative.
    fn files(&self) -> Vec<PathBuf> {
        paths(&self.cache).into_iter().filter(|path| self.cache.join(path).is_file()).collect()
    }

    /// The cache as it was, then changed.
    fn with(&self, change: impl FnOnce(&Path)) {
        let _ = fs::remove_dir_all(self.sandbox.cache());
        copy_folder(&self.cache, &self.sandbox.cache()).expect("a copy");
        change(&self.sandbox.cache());
    }

    /// All answers are those of an undisturbed catalog.
    fn answers(&self, what: &str) -> Result<(), String> {
        let told = |text: String| format!("{what}: {text}");
        let sandbox = &self.sandbox;
        let before = sandbox.objects().iter().filter(|path| path.starts_with("packs")).count();
        let list = sandbox.try_list().map_err(told)?;
        for (id, _) in &self.scene.kept {
            if !list.iter().any(|snapshot| snapshot["id"] == id.as_str()) {
                return Err(told(format!("{id} is not listed")));
            }
        }
        let (id, original) = &self.scene.kept[0];
        let _ = fs::remove_dir_all(sandbox.path(&format!("target-{}", &id[..8])));
        sandbox.restores_to(id, original).map_err(told)?;
        let report = sandbox.try_create(&self.scene.source).map_err(told)?;
        let after = sandbox.objects().iter().filter(|path| path.starts_with("packs")).count();
        if report["stats"]["bytes_new"] != 0 || before != after {
            return Err(told(format!("something was stored twice: {report}")));
        }
        sandbox.checks_clean().map_err(told)
    }
}

#[test]
fn a_catalog_that_is_gone_or_damaged_changes_no_answer() {
    let known = Known::new();
    let mut failures = Vec::new();
    let mut try_with = |what: &str, change: &dyn Fn(&Path)| {
        known.with(change);
        failures.extend(known.answers(what).err());
    };
    try_with("as it was", &|_| {});
    try_with("all deleted", &|cache| fs::remove_dir_all(cache).expect("a cache"));
    let mut cases = 0;
    for file in known.files() {
        let bytes = fs::read(known.cache.join(&file)).expect("a file");
        let name = file.display();
        let put = |bytes: &[u8]| {
            let (file, bytes) = (file.clone(), bytes.to_vec());
            move |cache: &Path| fs::write(cache.join(&file), &bytes).expect("a file")
        };
        try_with(&format!("{name} deleted"), &|cache| fs::remove_file(cache.join(&file)).expect("a file"));
        try_with(&format!("{name} zeroed"), &put(&vec![0; bytes.len()]));
        try_with(&format!("{name} is text"), &put(b"this is not what was here\n"));
        for length in [0, 1, bytes.len() / 3, bytes.len().saturating_sub(1)] {
            try_with(&format!("{name} cut to {length}"), &put(&bytes[..length]));
        }
        let mut random = Random::new(bytes.len() as u64);
        for flip in 0..12 {
            let mut changed = bytes.clone();
            // The header first, then anywhere, some bits or a whole stretch.
            let at = if flip < 3 { random.below(100.min(bytes.len())) } else { random.below(bytes.len()) };
            let end = if flip % 3 == 0 { (at + 64).min(bytes.len()) } else { at + 1 };
            changed[at..end].iter_mut().for_each(|byte| *byte ^= 1 << (flip % 8));
            try_with(&format!("{name} flipped from {at} to {end}"), &put(&changed));
            cases += 1;
        }
    }
    assert!(cases >= 20, "only {cases} flips");
    crate::work::assert_none(&failures, cases);
}

/// Rows that SQLite itself finds nothing wrong with.
#[test]
fn a_row_that_is_not_true_changes_no_answer() {
    let known = Known::new();
    let catalog = known.files().into_iter().find(|path| path.ends_with("catalog.db")).expect("a catalog");
    let changes = [
        "UPDATE chunk SET segment = segment + 1",
        "UPDATE chunk SET offset = offset + 1 WHERE rowid_of % 2 = 1",
        "UPDATE chunk SET len = len - 1",
        "UPDATE chunk SET pack = pack + 1",
        "UPDATE chunk SET tag = tag + 1",
        "UPDATE segment SET offset = offset + 1",
        "UPDATE segment SET stored = stored - 1",
        "UPDATE segment SET plain = plain - 1",
        "UPDATE segment SET codec = 9",
        "DELETE FROM segment",
        "UPDATE pack SET bytes = bytes + 1",
        "UPDATE pack SET kind = 1 - kind",
        "UPDATE pack SET name = randomblob(32)",
        "DELETE FROM pack",
        "UPDATE index_object SET name = randomblob(32)",
        "DELETE FROM index_object",
        "UPDATE snapshot SET manifest = 'nothing'",
        "UPDATE snapshot SET manifest = randomblob(300)",
        "DELETE FROM snapshot",
        "INSERT INTO reading VALUES ('x', 'y', 'z')",
        "DELETE FROM meta",
        "DROP TABLE chunk",
        "PRAGMA user_version = 99",
    ];
    let mut failures = Vec::new();
    for change in changes {
        // Every other row, by something that each has.
        let change = change.replace("rowid_of", "length(hex(id)) + len");
        known.with(|cache| {
            let connection = rusqlite::Connection::open(cache.join(&catalog)).expect("a catalog");
            connection.execute_batch(&change).unwrap_or_else(|error| panic!("{change}: {error}"));
        });
        failures.extend(known.answers(&change).err());
    }
    crate::work::assert_none(&failures, changes.len());
}

#[test]
fn the_catalog_of_another_repository_changes_no_answer() {
    let known = Known::new();
    let other = Sandbox::new();
    Scene::new(&other, &other.path("scene"), 1);
    let theirs = paths(&other.cache()).into_iter().find(|path| path.ends_with("catalog.db")).expect("a catalog");
    let ours = known.files().into_iter().find(|path| path.ends_with("catalog.db")).expect("a catalog");
    known.with(|cache| {
        fs::remove_dir_all(cache.join(ours.parent().expect("a folder"))).expect("a folder");
        copy_folder(
            &other.cache().join(theirs.parent().expect("a folder")),
            &cache.join(ours.parent().expect("a folder")),
        )
        .expect("a copy");
    });
    known.answers("another repository's").unwrap_or_else(|text| panic!("{text}"));
    // One of the same repository from before the last snapshot.
    fs::remove_dir_all(known.sandbox.cache()).expect("a cache");
    known.sandbox.must("list", exit::DONE);
    let early = known.sandbox.path("early");
    copy_folder(&known.sandbox.cache(), &early).expect("a copy");
    known.sandbox.create(&known.scene.source);
    fs::remove_dir_all(known.sandbox.cache()).expect("a cache");
    copy_folder(&early, &known.sandbox.cache()).expect("a copy");
    known.answers("an older one").unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_cache_that_cannot_be_written_changes_no_answer() {
    need!(need::root());
    let known = Known::new();
    fs::remove_dir_all(known.sandbox.cache()).expect("a cache");
    let mounted = Memory::mount(&known.sandbox.home().join(".cache"), 16 << 20);
    copy_folder(&known.cache, &known.sandbox.cache()).expect("a copy");
    mounted.close();
    let run = known.sandbox.must("list", exit::DONE);
    assert!(run.stderr.contains("cannot be written") && run.stderr.contains(".cache/snap"), "{run}");
    known.answers("read-only").unwrap_or_else(|text| panic!("{text}"));
    let left = fs::read_dir(known.sandbox.path("tmp")).expect("a folder").flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new(), "something is left in TMPDIR");
    drop(mounted);
    // A cache that another user made.
    fs::remove_dir_all(known.sandbox.home().join(".cache")).expect("a folder");
    fs::create_dir(known.sandbox.home().join(".cache")).expect("a folder");
    copy_folder(&known.cache, &known.sandbox.cache()).expect("a copy");
    let user = Nobody::new(&known.sandbox);
    crate::trees::set_owner(&known.sandbox.home().join(".cache"), 0, 0);
    set_mode(&known.sandbox.home().join(".cache"), 0o755);
    let run = user.run(&["create", "scene/source", "--json"]);
    let run = run.expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    assert_eq!(run.json()["stats"]["bytes_new"], 0, "{run}");
}
