//! Many hosts on one bucket, and one that may put and nothing else.

use super::server::{BUCKET, PUT_ONLY, Request, Server};
use super::{Scene, person};
use crate::hosts::{hosts, storm};
use crate::keys::new_identity;
use crate::need;
use crate::need::need;
use crate::snap::{exit, id_of};
use crate::work::heavy;
use std::fs;

#[test]
fn many_hosts_on_one_bucket_lose_nothing() {
    need!(need::root(), need::program("unshare"));
    let _alone = heavy();
    let dir = need::fast_tempdir();
    let server = Server::start();
    let address = format!("s3://{BUCKET}/clinic/main");
    let (hosts, fresh) = hosts(dir.path(), |root| person(root, &address, &server.endpoint()));
    storm("a bucket", &hosts, &format!("s3://{BUCKET}/clinic/copy"), &fresh);
}

/// Attack 14: a host in somebody else's hands, with a writer's key and rights to add and nothing more. It captures; it
/// can delete nothing, replace nothing and read no content, whether it asks `snap` or the server.
#[test]
fn attack_14_who_may_only_add_takes_nothing_away() {
    need!(need::program("age-keygen"));
    let scene = Scene::new();
    let owner = &scene.sandbox;
    owner.init();
    let (id, original) = scene.capture(1);
    let mut writer = person(&owner.path("writer"), &format!("s3://{BUCKET}/clinic/main"), &scene.server.endpoint());
    writer.vars[0].1 = PUT_ONLY.to_owned();
    let recipient = new_identity(&writer, "writer.txt");
    writer.vars.push(("SNAP_IDENTITY", writer.path("writer.txt").display().to_string()));
    owner.must(&format!("key add web-1 --writer --recipient {recipient}"), exit::DONE);
    let before = scene.server.state().objects.clone();
    scene.server.count_anew(None);
    fs::create_dir(writer.path("app")).expect("a folder");
    for round in 0..3 {
        fs::write(writer.path("app/file"), format!("version {round}")).expect("a file");
        writer.must("create app", exit::DONE);
    }
    let made = writer.list().last().map(|one| id_of(one).expect("an id")).expect("a snapshot");
    writer.must("check", exit::DONE);
    writer.must("status", exit::DONE);
    // All of it with what the policy allows, and nothing else was tried.
    let refused: Vec<Request> = scene.server.requests().into_iter().filter(|request| !request.only_adds()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    for line in [
        "forget --keep-last 1 --yes",
        "prune --yes",
        "undelete 0000",
        &format!("restore {made} --target t"),
        &format!("show {made} --files"),
        "key remove owner",
        "key export keys.txt",
    ] {
        writer.must(line, exit::WRONG_KEY);
    }
    // What it has of the server is of no more use.
    let store = |object: &str, method: &str, condition: bool| {
        let headers = if condition { vec![("if-none-match".to_owned(), "*".to_owned())] } else { Vec::new() };
        let credential = ("authorization".to_owned(), format!("AWS4-HMAC-SHA256 Credential={PUT_ONLY}/x"));
        let sum = snap::id::to_hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"x").as_ref());
        let whole = ("x-amz-content-sha256".to_owned(), sum);
        let headers = headers.into_iter().chain([credential, whole]).collect();
        let query = Default::default();
        let request =
            Request { method: method.to_owned(), key: object.to_owned(), query, headers, body: b"x".to_vec() };
        scene.server.state().answer(&request).status
    };
    for object in before.keys() {
        assert_eq!(store(object, "DELETE", false), 403, "{object}");
        assert_eq!(store(object, "PUT", false), 403, "{object}");
        assert_eq!(store(object, "PUT", true), 412, "{object}");
        assert_eq!(store(object, "GET", false) == 403, object.contains("/packs/"), "{object}");
    }
    // Everything is as it was, and what it added is as good as the owner's.
    let after = scene.server.state().objects.clone();
    assert!(before.iter().all(|(key, bytes)| after.get(key) == Some(bytes)));
    owner.checks_clean().unwrap_or_else(|text| panic!("{text}"));
    scene.restores(&id, &original);
    owner.must(&format!("restore {made} --target made"), exit::DONE);
    assert_eq!(fs::read_to_string(owner.path("made/file")).expect("a file"), "version 2");
}
