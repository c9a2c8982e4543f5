//! Damages one object at a time, of each kind and in each way: `check --read-data` must find it, and
//! a restore must give back the true bytes or say that it cannot; never wrong bytes under a real
//! name, never a panic, never a hang.
//!
//! `SNAP_DAMAGE=all` tries all cases, at least [`CASES_MIN`]; otherwise an even share of each kind
//! of object and of damage.

use crate::compare::{paths, same, wrong_files};
use crate::need;
use crate::scene::Scene;
use crate::snap::{self, CHECK, Sandbox, copy_folder, exit, restore_args};
use crate::trees::set_mode;
use crate::work::{assert_none, heavy, on_two, sample};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Cases in all.
const CASES_MIN: usize = 2_000;
/// Cases of each kind of object and damage that the usual run tries.
const SHARE: usize = 5;
/// Longest run of one command.
const LIMIT: Duration = Duration::from_secs(60);

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Config,
    Key,
    Pack,
    Index,
    Snapshot,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Config, Kind::Key, Kind::Pack, Kind::Index, Kind::Snapshot];

    fn of(object: &Path) -> Option<Self> {
        match object.components().next()?.as_os_str().to_str()? {
            "config" => Some(Self::Config),
            "keys" => Some(Self::Key),
            "packs" => Some(Self::Pack),
            "index" => Some(Self::Index),
            "snapshots" => Some(Self::Snapshot),
            _ => None,
        }
    }

    /// The objects whose name is their hash, which nothing but damage can make differ.
    fn is_named_by_hash(self) -> bool {
        matches!(self, Self::Pack | Self::Index | Self::Snapshot)
    }

    /// How a check ends that must not be content. Without a whole `config` and key file it cannot
    /// tell damage from another version, another place or another key.
    fn check_codes(self) -> &'static [i32] {
        if self.is_named_by_hash() { &[exit::DAMAGE] } else { &[1, exit::DAMAGE, exit::NO_REPOSITORY, exit::WRONG_KEY] }
    }

    fn restore_codes(self) -> &'static [i32] {
        match self {
            Self::Pack | Self::Index => &[exit::DONE, exit::DAMAGE],
            // With a new catalog nobody can know of one that is gone.
            Self::Snapshot => &[exit::DONE, exit::USAGE, exit::DAMAGE],
            Self::Config | Self::Key => &[exit::DONE, 1, exit::DAMAGE, exit::NO_REPOSITORY, exit::WRONG_KEY],
        }
    }
}

/// What is done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Damage {
    /// One bit is the other way round.
    Flip { at: usize, bit: u8 },
    /// Bytes read as zeros, as after a lost write.
    Zeros { at: usize, count: usize },
    /// Only the first bytes are left.
    Truncate { length: usize },
    /// Bytes follow the end.
    Append { bytes: Vec<u8> },
    /// It has another object's bytes, and that one its.
    Swap { with: PathBuf },
    /// It has the bytes of an object of another repository.
    Foreign { bytes: Vec<u8> },
    /// It is gone.
    Remove,
    /// A second copy has another object's name.
    Duplicate { under: PathBuf },
    /// A copy has a name that no object has.
    Stray { under: PathBuf },
}

impl Damage {
    fn name(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "flip",
            Self::Zeros { .. } => "zeros",
            Self::Truncate { .. } => "truncate",
            Self::Append { .. } => "append",
            Self::Swap { .. } => "swap",
            Self::Foreign { .. } => "foreign",
            Self::Remove => "remove",
            Self::Duplicate { .. } => "duplicate",
            Self::Stray { .. } => "stray",
        }
    }

    /// What the paths hold afterwards, where `None` is nothing.
    fn outcome(&self, object: &Path, bytes: &[u8], repo: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut changed = bytes.to_vec();
        match self {
            Self::Flip { at, bit } => changed[*at] ^= 1 << bit,
            Self::Zeros { at, count } => changed[*at..*at + *count].fill(0),
            Self::Truncate { length } => changed.truncate(*length),
            Self::Append { bytes } => changed.extend(bytes),
            Self::Foreign { bytes } => changed.clone_from(bytes),
            Self::Swap { with } => {
                changed = fs::read(repo.join(with)).expect("another object");
                return vec![(object.to_path_buf(), Some(changed)), (with.clone(), Some(bytes.to_vec()))];
            }
            Self::Remove => return vec![(object.to_path_buf(), None)],
            Self::Duplicate { under } | Self::Stray { under } => return vec![(under.clone(), Some(changed))],
        }
        vec![(object.to_path_buf(), Some(changed))]
    }
}

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    object: PathBuf,
    damage: Damage,
}

/// All cases for the repository of `sandbox`; `other` is one of somebody else.
fn cases(sandbox: &Sandbox, other: &Sandbox) -> Vec<Case> {
    let objects: Vec<(Kind, PathBuf)> =
        sandbox.objects().into_iter().filter_map(|path| Some((Kind::of(&path)?, path))).collect();
    let others = other.objects();
    let flips = CASES_MIN / objects.len();
    let mut found = Vec::new();
    for (i, (kind, object)) in objects.iter().enumerate() {
        let bytes = fs::read(sandbox.repo().join(object)).expect("an object");
        let mut damages = within(&bytes, flips);
        let siblings: Vec<&PathBuf> =
            objects.iter().filter(|(k, path)| k == kind && path != object).map(|(_, path)| path).collect();
        if !siblings.is_empty() {
            damages.push(Damage::Swap { with: siblings[i % siblings.len()].clone() });
        }
        // Of another kind too: each opens with its own key or stands for something else.
        if let Some((_, with)) =
            objects.iter().find(|(k, _)| k.is_named_by_hash() && kind.is_named_by_hash() && k != kind)
        {
            damages.push(Damage::Swap { with: with.clone() });
        }
        for foreign in others.iter().filter(|path| Kind::of(path) == Some(*kind)).take(2) {
            damages.push(Damage::Foreign { bytes: fs::read(other.repo().join(foreign)).expect("an object") });
        }
        if kind.is_named_by_hash() {
            damages.push(Damage::Duplicate { under: renamed(object) });
            damages.push(Damage::Stray { under: object.with_extension("bak") });
        }
        damages.push(Damage::Remove);
        found.extend(damages.into_iter().map(|damage| Case { kind: *kind, object: object.clone(), damage }));
    }
    found
}

/// Damages of the bytes themselves, with `flips` flipped bits: the first and last ones, where
/// headers and footers are, and the rest evenly.
fn within(bytes: &[u8], flips: usize) -> Vec<Damage> {
    let size = bytes.len();
    let edge = (flips / 4).min(size / 4);
    let ends = (0..edge).chain(size - edge..size);
    let inner = (0..flips - 2 * edge).map(|i| edge + i * (size - 2 * edge) / (flips - 2 * edge));
    let mut damages: Vec<Damage> =
        ends.chain(inner).enumerate().map(|(i, at)| Damage::Flip { at, bit: (i % 8) as u8 }).collect();
    let lengths = [0, 1, size / 4, size / 2, size * 3 / 4, size.saturating_sub(16), size - 1];
    damages.extend(lengths.iter().filter(|length| **length < size).map(|length| Damage::Truncate { length: *length }));
    for count in [1, 16, 512, 4096] {
        let at = (size / 3).min(size.saturating_sub(count));
        let touched = &bytes[at..(at + count).min(size)];
        if touched.iter().any(|byte| *byte != 0) {
            damages.push(Damage::Zeros { at, count: touched.len() });
        }
    }
    damages.extend([vec![0], vec![b'x'; 16], bytes.to_vec()].map(|bytes| Damage::Append { bytes }));
    damages
}

/// The same place under another object's name.
fn renamed(object: &Path) -> PathBuf {
    let name = object.file_name().and_then(|name| name.to_str()).expect("a hexadecimal name");
    let (start, last) = name.split_at(name.len() - 1);
    object.with_file_name(format!("{start}{}", if last == "0" { "1" } else { "0" }))
}

/// One worker's own copy of the repository and home.
struct Bench<'a> {
    scene: &'a Scene,
    dir: PathBuf,
}

impl Bench<'_> {
    fn sandbox(&self) -> Sandbox {
        Sandbox::at(&self.dir)
    }

    /// Damages the object, watches what the program says, and takes the damage back.
    fn try_case(&self, number: usize, case: &Case) -> Result<(), String> {
        let repo = self.sandbox().repo();
        let bytes = fs::read(repo.join(&case.object)).map_err(|error| error.to_string())?;
        let outcome = case.damage.outcome(&case.object, &bytes, &repo);
        let before: Vec<_> = outcome.iter().map(|(path, _)| (path.clone(), fs::read(repo.join(path)).ok())).collect();
        outcome.iter().for_each(|(path, bytes)| put(&repo.join(path), bytes.as_deref()));
        let answer = self.finds(case).and_then(|()| {
            if number % 2 == 1 {
                // As on a new host: what the catalog knew cannot help.
                fs::remove_dir_all(self.sandbox().cache()).map_err(|error| error.to_string())?;
            }
            self.scene.kept.iter().try_for_each(|(id, original)| self.restores_truly(case, id, original))
        });
        before.iter().for_each(|(path, bytes)| put(&repo.join(path), bytes.as_deref()));
        self.forget()?;
        answer
    }

    /// The home as it was, with the catalog that knows what there was.
    fn forget(&self) -> Result<(), String> {
        fs::remove_dir_all(self.dir.join("home")).map_err(|error| error.to_string())?;
        copy_folder(&self.dir.join("home-known"), &self.dir.join("home"))
    }

    fn finds(&self, case: &Case) -> Result<(), String> {
        let run = snap::run(self.sandbox().snap_command(&CHECK), LIMIT)?;
        let harmless = match case.damage {
            Damage::Stray { .. } => true,
            // All that it lists is listed by the right one.
            Damage::Duplicate { .. } => case.kind == Kind::Index,
            _ => false,
        };
        if harmless {
            // It need not count as damage; but it is told.
            let run = run.expect(&[exit::DONE, exit::DAMAGE])?;
            return if run.problems()?.is_empty() { Err(format!("is not reported: {run}")) } else { Ok(()) };
        }
        let run = run.expect(case.kind.check_codes())?;
        if run.code == exit::DAMAGE && run.problems()?.is_empty() {
            return Err(format!("exit 4 names no problem: {run}"));
        }
        Ok(())
    }

    fn restores_truly(&self, case: &Case, id: &str, original: &Path) -> Result<(), String> {
        let sandbox = self.sandbox();
        let target = sandbox.path("target");
        if target.exists() {
            fs::remove_dir_all(&target).map_err(|error| error.to_string())?;
        }
        let run =
            snap::run(sandbox.snap_command(&restore_args(id, &target)), LIMIT)?.expect(case.kind.restore_codes())?;
        if run.code == exit::DONE {
            return same(original, &target).map_err(|text| format!("exit 0, but {text}\nafter {run}"));
        }
        let wrong = wrong_files(original, &target);
        if wrong.is_empty() { Ok(()) } else { Err(format!("wrong files under real names: {wrong:?}\nafter {run}")) }
    }
}

/// Makes the file hold `bytes`, or not be.
fn put(path: &Path, bytes: Option<&[u8]>) {
    if path.exists() {
        fs::remove_file(path).expect("a removed object");
    }
    if let Some(bytes) = bytes {
        fs::write(path, bytes).expect("an object");
        set_mode(path, 0o400);
    }
}

#[test]
fn damage_is_found_and_never_restored() {
    let _alone = heavy();
    let dir = need::fast_tempdir();
    let (template, elsewhere) = (dir.path().join("template"), dir.path().join("elsewhere"));
    fs::create_dir_all(&template).expect("a folder");
    let sandbox = Sandbox::at(&template);
    let scene = Scene::new(&sandbox, &dir.path().join("scene"), 3);
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    let other = Sandbox::at(&elsewhere);
    Scene::new(&other, &dir.path().join("other-scene"), 1);
    let all = cases(&sandbox, &other);
    assert!(all.len() >= CASES_MIN, "only {} cases", all.len());
    let chosen = choose(&all);
    tell(&all, &chosen);
    let bench = |worker: usize| {
        let dir = dir.path().join(format!("bench-{worker}"));
        copy_folder(&template, &dir).unwrap_or_else(|text| panic!("{text}"));
        // What was seen of the original says nothing of this copy.
        Sandbox::at(&dir).must("list", exit::DONE);
        copy_folder(&dir.join("home"), &dir.join("home-known")).unwrap_or_else(|text| panic!("{text}"));
        Bench { scene: &scene, dir }
    };
    let failures = on_two(&chosen, bench, |bench, number, case| {
        let shown = |text: String| {
            format!("{} of {}: {}\n{text}", case.damage.name(), case.object.display(), detail(&case.damage))
        };
        bench.try_case(number, case).map_err(shown)
    });
    assert_none(&failures, chosen.len());
    for worker in 0..2 {
        // The damage was taken back each time, so that each case stood alone.
        Sandbox::at(&dir.path().join(format!("bench-{worker}"))).checks_clean().unwrap_or_else(|text| panic!("{text}"));
    }
}

fn detail(damage: &Damage) -> String {
    let text = format!("{damage:?}");
    if text.len() > 200 { format!("{}…", text.chars().take(200).collect::<String>()) } else { text }
}

/// An even share of each kind of object and damage; everything where that is asked for.
fn choose(all: &[Case]) -> Vec<Case> {
    if std::env::var_os("SNAP_DAMAGE").is_some_and(|value| value == "all") {
        return all.to_vec();
    }
    let mut groups: BTreeMap<(Kind, &str), Vec<Case>> = BTreeMap::new();
    for case in all {
        groups.entry((case.kind, case.damage.name())).or_default().push(case.clone());
    }
    groups.values().flat_map(|group| sample(group, SHARE)).collect()
}

fn tell(all: &[Case], chosen: &[Case]) {
    let count = |kind: Kind| format!("{kind:?} {}", chosen.iter().filter(|case| case.kind == kind).count());
    let kinds: Vec<String> = Kind::ALL.into_iter().map(count).collect();
    // Not `println!`: the test runner swallows that of a test that passes.
    writeln!(std::io::stderr(), "damage: {} cases of {}: {}", chosen.len(), all.len(), kinds.join(", "))
        .expect("standard error");
    for kind in Kind::ALL {
        assert!(chosen.iter().any(|case| case.kind == kind), "no case damages a {kind:?}");
    }
}

#[test]
fn damages_do_what_they_say() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("b"), "other").expect("a file");
    let outcome = |damage: &Damage| damage.outcome(Path::new("a"), b"bytes", dir.path());
    let one = |bytes: &str| vec![(PathBuf::from("a"), Some(bytes.as_bytes().to_vec()))];
    assert_eq!(outcome(&Damage::Flip { at: 0, bit: 0 }), one("cytes"));
    assert_eq!(outcome(&Damage::Zeros { at: 1, count: 2 }), one("b\0\0es"));
    assert_eq!(outcome(&Damage::Truncate { length: 2 }), one("by"));
    assert_eq!(outcome(&Damage::Append { bytes: b"x".to_vec() }), one("bytesx"));
    assert_eq!(outcome(&Damage::Remove), [(PathBuf::from("a"), None)]);
    assert_eq!(outcome(&Damage::Swap { with: "b".into() })[1], ("b".into(), Some(b"bytes".to_vec())));
    for damage in within(&[7; 1000], 140) {
        let changed = damage.outcome(Path::new("a"), &[7; 1000], dir.path());
        assert_ne!(changed, [(PathBuf::from("a"), Some(vec![7; 1000]))], "{damage:?} changes nothing");
    }
    put(&dir.path().join("b"), None);
    put(&dir.path().join("c"), Some(b"new"));
    assert_eq!(paths(dir.path()), [PathBuf::from("c")]);
}
