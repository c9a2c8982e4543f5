//! Images: read from the engine's store or as it saves them, proven, stored once, and put back.

use super::docker::{busybox_archive, engine, header};
use super::need::{docker, need, root};
use serde_json::json;
use snap::crypto::people::PersonRecipient;
use snap::docker::{Endpoint, Engine, Image};
use snap::monitor::Quiet;
use snap::repo::keys::NewKey;
use snap::repo::manifest::{Detail, ImageDetail, Manifest, SourceEntry};
use snap::repo::needs::Needs;
use snap::repo::writer::Session;
use snap::repo::{Repository, initialise};
use snap::stack::source::content::FileContent;
use snap::stack::source::image::{
    CapturedImage, ImageCapture, KnownImages, Outcome, WantedImage, Way, give_back, load_image, move_tags, plan_tags,
    release, write_image,
};
use snap::store::LocalStore;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The public half of a key that nothing is opened with here.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// A repository, open.
pub struct Repo {
    pub repository: Repository,
    pub folder: tempfile::TempDir,
}

impl Repo {
    pub fn new() -> Self {
        let folder = super::need::fast_tempdir();
        let store = LocalStore::at(folder.path().join("repo"));
        store.create_layout().expect("a layout");
        let recipients = [PersonRecipient::parse(RECIPIENT).expect("a recipient")];
        let secrets = initialise(
            &store,
            &NewKey { name: "me", recipients: &recipients, log_n: 10, created: "2026-01-01T00:00:00Z", strict: true },
        )
        .expect("a repository");
        let repository = Repository::open(Arc::new(store), secrets, "me", &folder.path().join("cache"));
        Self { repository: repository.expect("it opens"), folder }
    }

    /// Captures `image` into a snapshot; or why not.
    pub fn create(&self, engine: &Engine, image: &Image) -> Result<Made, String> {
        let monitor = Quiet::default();
        let known = KnownImages::of(&self.repository.snapshots().expect("snapshots"));
        self.repository.sync_for_writing(&monitor).expect("the catalog");
        let session = Session::begin(&self.repository, 3).expect("a session");
        let wanted = WantedImage { image: image.clone(), name: "web".into(), services: vec!["web".into()] };
        let mut needs = Needs::default();
        let capture =
            ImageCapture { repository: &self.repository, session: &session, engine, known: &known, workers: 2 };
        let outcome = capture.capture(&wanted, &mut needs, &monitor).expect("the repository works");
        let mut captured: Box<CapturedImage> = match outcome {
            Outcome::Captured(captured) => captured,
            Outcome::Missed { coverage, warning } => {
                assert!(warning.incomplete && coverage.state == "not protected", "{warning:?}");
                return Err(warning.message);
            }
        };
        session.checkpoint().expect("a checkpoint");
        captured.name_needs(&session).expect("names");
        let bytes_new = session.bytes().0;
        let mut manifest: Manifest = serde_json::from_value(json!({
            "version": 1, "repository": self.repository.id(), "predecessors": [], "time": "2026-01-01T00:00:00Z",
            "host": "h", "stack": "s", "tags": [], "note": "", "tool": "snap", "complete": true,
            "sources": [captured.source], "coverage": [captured.coverage], "warnings": [], "needs": [],
            "stats": { "files": 1, "files_changed": 1, "bytes_read": 0, "bytes_new": 0, "bytes_stored": 0, "seconds": 0.0 },
        }))
        .expect("a manifest");
        session.commit(&needs, &mut manifest).expect("a snapshot");
        let source = manifest.sources.remove(0);
        Ok(Made { source, way: captured.way, bytes_read: captured.bytes_read, bytes_new })
    }

    pub fn tar_of(&self, source: &SourceEntry) -> Vec<u8> {
        let mut bytes = Vec::new();
        let content = FileContent::of(&self.repository, &source.tree, b"image.tar", 2);
        content.expect("its file").read_to_end(&mut bytes).expect("its content");
        bytes
    }

    pub fn load(&self, engine: &Engine, source: &SourceEntry) -> (String, bool) {
        load_image(engine, &self.repository, source, detail(source), 2, &Quiet::default()).expect("it loads")
    }
}

pub struct Made {
    pub source: SourceEntry,
    pub way: Way,
    pub bytes_read: u64,
    pub bytes_new: u64,
}

pub fn detail(source: &SourceEntry) -> &ImageDetail {
    match &source.detail {
        Some(Detail::Image(detail)) => detail,
        other => panic!("no image: {other:?}"),
    }
}

/// Images of one test, removed when it ends.
pub struct Images(pub Vec<String>);

impl Images {
    pub fn tag(&mut self, name: &str) -> String {
        self.0.push(format!("snap-it/{name}:{}", std::process::id()));
        self.0.last().expect("a tag").clone()
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        for tag in self.0.iter().rev() {
            let _gone = engine().remove_image(tag);
        }
    }
}

fn docker_with_input(args: &[&str], input: &[u8]) {
    let mut command = Command::new("docker");
    command.args(args).env("DOCKER_BUILDKIT", "0").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("docker");
    child.stdin.take().expect("its input").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An image of two layers with everything in it that archives can hold; `mark` makes it another one.
pub fn odd_image(images: &mut Images, mark: &str) -> Image {
    let base = images.tag(&format!("odd-base-{mark}"));
    let archive = busybox_archive(|tar| {
        let note = ("SCHILY.xattr.user.note", mark.as_bytes());
        let capability =
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice());
        tar.append_pax_extensions([note, capability]).expect("attributes");
        let content = mark.repeat(300_000);
        let mut head = header(tar::EntryType::Regular, content.len() as u64, 0o4755);
        head.set_uid(123_456);
        tar.append_data(&mut head, "etc/odd", content.as_bytes()).expect("a file");
        let long = format!("data/{}/{}", "l".repeat(120), "n".repeat(200));
        let mut head = header(tar::EntryType::Regular, 4, 0o600);
        tar.append_data(&mut head, &long, b"long".as_slice()).expect("a long name");
        let mut head = header(tar::EntryType::Link, 0, 0o4755);
        tar.append_link(&mut head, "etc/hard", "etc/odd").expect("a hard link");
        let mut head = header(tar::EntryType::Char, 0, 0o666);
        head.set_device_major(1).expect("a device");
        head.set_device_minor(3).expect("a device");
        tar.append_data(&mut head, "data/null", std::io::empty()).expect("a device");
        let mut head = header(tar::EntryType::Fifo, 0, 0o600);
        tar.append_data(&mut head, "data/pipe", std::io::empty()).expect("a pipe");
    });
    docker_with_input(&["import", "-", &base], &archive);
    let tag = images.tag(&format!("odd-{mark}"));
    let rules = format!(
        "FROM {base}\nRUN rm /etc/hard && ln /bin/busybox /bin/again && seq 1 200000 > /data/numbers && rm -r /tmp\n\
         CMD [\"sleep\", \"60\"]\n"
    );
    docker_with_input(&["build", "-q", "--network", "none", "-t", &tag, "-"], rules.as_bytes());
    engine().image(&tag).expect("it is built")
}

/// The engine as another host would reach it.
pub fn remote_engine() -> Engine {
    from_afar(&engine())
}

/// `engine`, reached through a port instead of its socket.
pub fn from_afar(engine: &Engine) -> Engine {
    let Endpoint::Unix(socket) = engine.endpoint().clone() else { return engine.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = UnixStream::connect(&socket).expect("the engine");
            let (mut near_in, mut far_out): (TcpStream, UnixStream) =
                (near.try_clone().unwrap(), far.try_clone().unwrap());
            let (mut near_out, mut far_in) = (near, far);
            std::thread::spawn(move || {
                let _cut = std::io::copy(&mut near_in, &mut far_out);
                let _gone = far_out.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _cut = std::io::copy(&mut far_in, &mut near_out);
                let _gone = near_out.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    Engine::connect(Endpoint::Tcp(address)).expect("the engine, from afar")
}

/// The layers in an archive of one image, bottom first: read by code that shares nothing with snap.
pub fn layers_of(archive: &[u8]) -> Vec<Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        files.insert(name, content);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).expect("manifest.json");
    let layers = manifest[0]["Layers"].as_array().expect("layers");
    layers.iter().map(|name| files[name.as_str().expect("a name")].clone()).collect()
}

pub fn saved_by_docker(image: &str) -> Vec<u8> {
    Command::new("docker").args(["save", image]).output().expect("docker save").stdout
}

#[test]
fn an_image_from_the_store_is_what_the_engine_saves() {
    need!(docker(), root());
    let (mut images, repo) = (Images(Vec::new()), Repo::new());
    let image = odd_image(&mut images, "store");
    let made = repo.create(&engine(), &image).expect("captured");
    assert_eq!(made.way, Way::Store);
    let archive = repo.tar_of(&made.source);
    assert_eq!(archive.len() as u64, made.source.bytes);
    assert!(layers_of(&archive) == layers_of(&saved_by_docker(&image.id)), "its layers differ");
    assert_eq!(layers_of(&archive).len(), 2);
    let again = Repo::new();
    let other = again.create(&engine(), &image).expect("captured");
    assert!(again.tar_of(&other.source) == archive, "the same image gives other bytes");
    let afar = Repo::new();
    let remote = afar.create(&remote_engine(), &image).expect("captured");
    assert_eq!(remote.way, Way::Saved);
    assert!(layers_of(&afar.tar_of(&remote.source)) == layers_of(&archive));
}

#[test]
fn an_image_whose_id_is_known_is_not_read() {
    need!(docker());
    let (mut images, repo) = (Images(Vec::new()), Repo::new());
    let image = odd_image(&mut images, "known");
    let first = repo.create(&engine(), &image).expect("captured");
    assert!(first.bytes_new > 1_000_000);
    let second = repo.create(&engine(), &image).expect("captured");
    assert_eq!((second.way, second.bytes_read, second.bytes_new), (Way::Known, 0, 0));
    let later_tag = images.tag("known-later");
    engine().tag_image(&image.id, &later_tag).expect("a tag");
    let third = repo.create(&engine(), &engine().image(&image.id).unwrap()).expect("captured");
    assert!(third.way == Way::Known && detail(&third.source).tags.contains(&later_tag));
    assert!(repo.tar_of(&third.source) == repo.tar_of(&first.source));
    let report = snap::repo::check::check(&repo.repository, &Default::default(), &Quiet::default());
    assert!(report.is_ok());
    // Without its packs the id is worth nothing, and the image is read again.
    for pack in super::compare::paths(&repo.folder.path().join("repo/packs")) {
        let path = repo.folder.path().join("repo/packs").join(pack);
        if path.is_file() {
            std::fs::remove_file(path).expect("a pack goes");
        }
    }
    let fourth = repo.create(&engine(), &image).expect("captured");
    assert!(fourth.way != Way::Known && fourth.bytes_new > 1_000_000);
}

#[test]
fn a_removed_image_comes_back_with_its_id_and_tags() {
    need!(docker());
    let (mut images, repo) = (Images(Vec::new()), Repo::new());
    let image = odd_image(&mut images, "gone");
    let tag = image.tags[0].clone();
    let engines = [engine(), remote_engine()];
    for engine in &engines {
        let repo = if engine.endpoint() == engines[0].endpoint() { &repo } else { &Repo::new() };
        let made = repo.create(engine, &image).expect("captured");
        engine.remove_image(&tag).expect("it goes");
        assert!(engine.image(&image.id).expect_err("it is gone").is_not_found());
        let (id, loaded) = repo.load(engine, &made.source);
        assert_eq!((id.as_str(), loaded), (image.id.as_str(), true));
        let moves = plan_tags(engine, &id, &detail(&made.source).tags, !loaded, "a1").expect("a plan");
        move_tags(engine, &moves).expect("tags");
        assert_eq!(engine.image(&tag).expect("the tag").id, image.id);
        let mut run = Command::new("docker");
        let ran = run.args(["run", "--rm", "--network", "none", &tag, "tail", "-n", "1", "/data/numbers"]).output();
        assert_eq!(ran.expect("it runs").stdout, b"200000\n");
        // There already: nothing is loaded.
        assert_eq!(repo.load(engine, &made.source), (image.id.clone(), false));
        assert_eq!(plan_tags(engine, &id, std::slice::from_ref(&tag), true, "a1").expect("a plan"), []);
    }
    let made = repo.create(&engines[0], &image).expect("captured");
    by_hand(&engines[0], &repo, &made.source, &tag);
}

/// Removes the image `tag` and loads it as a person would, from a file.
pub fn by_hand(engine: &Engine, repo: &Repo, source: &SourceEntry, tag: &str) {
    engine.remove_image(tag).expect("it goes");
    let file = repo.folder.path().join("web.tar");
    let bytes = write_image(&repo.repository, source, &file, 2).expect("a file");
    assert_eq!(bytes, file.metadata().expect("the file").len());
    let mut load = Command::new("docker");
    load.env("DOCKER_HOST", engine.endpoint().to_string()).args(["load", "-q", "-i"]).arg(&file);
    let loaded = load.output().expect("docker load");
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    assert_eq!(engine.image(tag).expect("its tag").id, detail(source).id);
    std::fs::remove_file(file).expect("it is removed");
}

#[test]
fn tags_that_move_are_kept_and_given_back() {
    need!(docker());
    let (mut images, engine) = (Images(Vec::new()), engine());
    let (old, new) = (odd_image(&mut images, "old"), odd_image(&mut images, "new"));
    let (shared, free) = (images.tag("shared"), images.tag("free"));
    engine.tag_image(&new.id, &shared).expect("a tag");
    let tags = [shared.clone(), free.clone(), old.tags[0].clone()];
    let moves = plan_tags(&engine, &old.id, &tags, true, "Mark7").expect("a plan");
    assert_eq!(moves.iter().map(|one| &one.tag).collect::<Vec<_>>(), [&shared, &free]);
    let id_of = |name: &str| engine.image(name).map(|image| image.id).ok();
    for _again in 0..2 {
        move_tags(&engine, &moves).expect("they move");
        assert_eq!((id_of(&shared), id_of(&free)), (Some(old.id.clone()), Some(old.id.clone())));
        assert_eq!(id_of(&moves[0].kept), Some(new.id.clone()));
    }
    // The image lives on by the kept name alone.
    engine.remove_image(&new.tags[0]).expect("its own tag goes");
    for _again in 0..2 {
        give_back(&engine, &moves).expect("they come back");
        assert_eq!((id_of(&shared), id_of(&free), id_of(&moves[0].kept)), (Some(new.id.clone()), None, None));
    }
    move_tags(&engine, &moves).expect("they move");
    release(&engine, &moves).expect("let go");
    assert_eq!((id_of(&shared), id_of(&new.id)), (Some(old.id.clone()), None));
}

/// The folder of an image's topmost layer.
fn top_folder(image: &Image) -> PathBuf {
    let mut inspect = Command::new("docker");
    let output = inspect.args(["image", "inspect", "-f", "{{json .GraphDriver.Data}}", &image.id]).output();
    let data: serde_json::Value = serde_json::from_slice(&output.expect("inspect").stdout).expect("JSON");
    if let Some(folder) = data["UpperDir"].as_str() {
        return PathBuf::from(folder);
    }
    // Some drivers do not say: the only layer that has the file.
    let info = engine().info().expect("info");
    let layers = std::fs::read_dir(info.root_dir.join(&info.storage_driver)).expect("layers");
    let has = |folder: &PathBuf| folder.join("data/numbers").is_file() && !folder.join("bin/sh").exists();
    layers.map(|entry| entry.expect("a layer").path().join("diff")).find(has).expect("the layer")
}

#[test]
fn a_damaged_store_is_found_and_never_captured() {
    need!(docker(), root());
    let (mut images, repo) = (Images(Vec::new()), Repo::new());
    let image = odd_image(&mut images, "damaged");
    let file = top_folder(&image).join("data/numbers");
    let good = std::fs::read(&file).expect("a file of the layer");
    let mut bad = good.clone();
    bad[777] ^= 1;
    std::fs::write(&file, &bad).expect("a flipped bit");
    let flipped = repo.create(&engine(), &image).err().expect("refused");
    assert!(flipped.contains("not what its digest says"), "{flipped}");
    std::fs::write(&file, &good[..1000]).expect("a cut");
    let cut = repo.create(&engine(), &image).err().expect("refused");
    assert!(cut.contains("shorter"), "{cut}");
    std::fs::remove_file(&file).expect("a lost file");
    let lost = repo.create(&engine(), &image).err().expect("refused");
    assert!(lost.contains("numbers"), "{lost}");
    let remote = repo.create(&remote_engine(), &image).err().expect("refused");
    assert!(!remote.is_empty());
    std::fs::write(&file, &good).expect("as it was");
    repo.create(&engine(), &image).expect("captured");
}

#[test]
fn an_image_that_is_gone_is_missed_and_said() {
    need!(docker());
    let (mut images, repo) = (Images(Vec::new()), Repo::new());
    let image = odd_image(&mut images, "removed");
    engine().remove_image(&image.tags[0]).expect("it goes");
    for engine in [engine(), remote_engine()] {
        let message = repo.create(&engine, &image).err().expect("missed");
        assert!(message.contains("removed from the engine"), "{message}");
    }
}
