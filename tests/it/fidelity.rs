//! What goes in comes out: every kind of file and attribute, by the judgement of the independent
//! comparer.

use crate::compare::{assert_same, compare};
use crate::need;
use crate::snap::{Sandbox, create_args, exit, id_of};
use crate::trees::{Extras, SOCKET, mutate, nasty_tree, source_tree};

#[test]
fn everything_a_file_system_holds_comes_back() {
    let sandbox = Sandbox::new();
    let (source, target) = (sandbox.path("source"), sandbox.path("target"));
    nasty_tree(&source, Extras { long_paths: true, four_gib: true });
    sandbox.init();
    let run = sandbox.expect(&create_args(&source), &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    let warnings = run.json()["warnings"].to_string();
    assert!(warnings.contains(SOCKET), "the socket that is not kept is not named: {run}");
    let id = id_of(&run.json()["snapshot"]).unwrap_or_else(|text| panic!("{text}"));
    let report = sandbox.restore(&id, &target);
    if need::root().is_ok() {
        assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");
        assert_same(&source, &target);
    } else {
        // Others do not get set-id bits back; the report says so, and nothing else differs.
        let told = report["differences"].as_array().expect("differences").iter();
        let told: Vec<String> = told.map(|d| format!("{} {}", d["path"], d["attribute"]).replace('"', "")).collect();
        let found = compare(&source, &target).into_iter().map(|d| format!("{} {}", d.path, d.what));
        assert_eq!(found.collect::<Vec<_>>(), told, "{report}");
        assert!(told.iter().all(|one| one.starts_with("mode/set") && one.ends_with(" mode")), "{told:?}");
    }
    sandbox.checks_clean().unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn each_snapshot_of_a_changing_folder_comes_back() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    source_tree(&source, 300, 3);
    sandbox.init();
    let mut kept = Vec::new();
    for seed in 0..3 {
        let id = id_of(&sandbox.create(&source)["snapshot"]).unwrap_or_else(|text| panic!("{text}"));
        let original = sandbox.path(&format!("original-{seed}"));
        crate::snap::copy_folder(&source, &original).unwrap_or_else(|text| panic!("{text}"));
        kept.push((id, original));
        mutate(&source, seed);
    }
    assert_eq!(sandbox.list().len(), 3);
    for (id, original) in &kept {
        sandbox.restores_to(id, original).unwrap_or_else(|text| panic!("{text}"));
    }
    // The catalog is a cache: without it the answers are the same.
    std::fs::remove_dir_all(sandbox.cache()).expect("a catalog that was there");
    assert_eq!(sandbox.list().len(), 3);
    for (id, original) in &kept {
        sandbox.restores_to(id, original).unwrap_or_else(|text| panic!("{text}"));
    }
}
