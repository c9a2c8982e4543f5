//! What the program refuses, with which exit code and in which words.

use crate::snap::{Sandbox, create_args, exit};
use crate::trees::{set_mode, source_tree};

#[test]
fn without_a_repository_there_is_nothing_to_list() {
    let sandbox = Sandbox::new();
    let run = sandbox.snap(&["list"]).expect(&[exit::NO_REPOSITORY]).unwrap_or_else(|text| panic!("{text}"));
    let place = sandbox.repo().display().to_string();
    assert!(run.stderr.contains(&place), "the place is not named: {run}");
    assert!(!sandbox.repo().exists(), "looking made a repository");
}

#[test]
fn a_stranger_s_key_opens_nothing() {
    let (owner, stranger) = (Sandbox::new(), Sandbox::new());
    owner.init();
    stranger.init();
    let source = owner.path("source");
    source_tree(&source, 3, 1);
    owner.create(&source);
    std::fs::copy(stranger.identity(), owner.identity()).expect("another identity");
    std::fs::remove_dir_all(owner.cache()).expect("a catalog that was there");
    let create = create_args(&source);
    let refusals = [owner.snap(&["list"]), owner.snap(&["check", "--read-data"]), owner.snap(&create)];
    for run in refusals {
        run.expect(&[exit::WRONG_KEY]).unwrap_or_else(|text| panic!("{text}"));
    }
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.init();
    set_mode(&sandbox.identity(), 0o644);
    let run = sandbox.snap(&["list"]);
    let file = sandbox.identity().display().to_string();
    assert!(run.code != exit::DONE && !run.panicked() && run.stderr.contains(&file), "{run}");
    set_mode(&sandbox.identity(), 0o600);
    sandbox.snap(&["list"]).expect(&[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
}
