//! Images on newer engines than the installed one: Docker 26 with both of its stores. Debian's packages of it are
//! unpacked beside, nothing is installed (`tests/engines/`).

use super::image_source::{Images, Repo, by_hand, detail, from_afar, layers_of, odd_image};
use super::need::{Need, docker, need, root};
use sha2_of::digest;
use snap::docker::{Endpoint, Engine};
use snap::monitor::Quiet;
use snap::stack::source::image::{Way, move_tags, plan_tags};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The unpacked engine.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine-trixie")
}

/// A newer engine is unpacked beside.
fn newer_engine() -> Need {
    static THERE: OnceLock<bool> = OnceLock::new();
    let build = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/build");
        Command::new(script).arg(unpacked()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if *THERE.get_or_init(build) { Ok(()) } else { Err("a newer engine (tests/engines/build)") }
}

/// A running engine, which goes with everything it has when the test ends.
struct Beside {
    child: Child,
    engine: Engine,
    folder: PathBuf,
}

impl Beside {
    fn start(store: &str) -> Self {
        let bridge = installed_bridge();
        let folder = PathBuf::from(format!("/var/tmp/snap-it-engine-{store}-{}", std::process::id()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/start");
        let mut command = Command::new(script);
        command.arg(unpacked()).arg(&folder).arg(store).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("it starts");
        let begun = Instant::now();
        loop {
            match Engine::connect(Endpoint::Unix(folder.join("docker.sock"))) {
                Ok(engine) => {
                    let beside = Self { child, engine, folder };
                    assert!(bridge == installed_bridge(), "it changed the network of the installed engine");
                    return beside;
                }
                Err(_) if begun.elapsed() < Duration::from_secs(60) => std::thread::sleep(Duration::from_millis(100)),
                Err(error) => {
                    let log = std::fs::read_to_string(folder.join("dockerd.log")).unwrap_or_default();
                    panic!("{error}: {log}");
                }
            }
        }
    }

    fn docker(&self, args: &[&str]) -> Vec<u8> {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.engine.endpoint().to_string()).args(args);
        let output = command.output().expect("docker");
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

/// The bridge of the installed engine, if it has one.
fn installed_bridge() -> Option<String> {
    std::fs::read_to_string("/sys/class/net/docker0/ifindex").ok()
}

/// Captures the image `name` of `beside`, removes it, and puts it back.
fn there_and_back(beside: &Beside, engine: &Engine, name: &str, way: Way) {
    let repo = Repo::new();
    let image = engine.image(name).expect("the image");
    let made = repo.create(engine, &image).expect("captured");
    assert_eq!(made.way, way, "{name}");
    let archive = repo.tar_of(&made.source);
    let unpacked = |archive: &[u8]| layers_of(archive).into_iter().map(unzipped).collect::<Vec<_>>();
    assert!(unpacked(&archive) == unpacked(&beside.docker(&["save", &image.id])), "its layers differ");
    assert_eq!(repo.create(engine, &image).expect("captured").way, Way::Known);
    engine.remove_image(name).expect("it goes");
    assert!(engine.image(&image.id).expect_err("it is gone").is_not_found());
    let (id, loaded) = repo.load(engine, &made.source);
    assert_eq!((&id, loaded), (&image.id, true));
    let moves = plan_tags(engine, &id, &detail(&made.source).tags, false, "m").expect("a plan");
    move_tags(engine, &moves).expect("tags");
    let back = engine.image(name).expect("its tag");
    assert_eq!((&back.id, &back.layers), (&image.id, &image.layers));
    assert_eq!(repo.load(engine, &made.source), (image.id, false));
    by_hand(&beside.engine, &repo, &made.source, name);
}

fn unzipped(layer: Vec<u8>) -> Vec<u8> {
    if !layer.starts_with(&[0x1f, 0x8b]) {
        return layer;
    }
    let mut gunzip = Command::new("gzip").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut input = gunzip.stdin.take().expect("its input");
    let feeder = std::thread::spawn(move || input.write_all(&layer).expect("it reads"));
    let mut out = Vec::new();
    gunzip.stdout.take().expect("its output").read_to_end(&mut out).expect("it writes");
    feeder.join().expect("all is written");
    assert!(gunzip.wait().expect("it ends").success());
    out
}

#[test]
fn a_newer_engine_with_a_graph_driver_gives_and_takes_images() {
    need!(docker(), root(), newer_engine());
    let mut images = Images(Vec::new());
    let image = odd_image(&mut images, "graph26");
    let beside = Beside::start("graph");
    let info = beside.engine.info().expect("info");
    assert!(!info.containerd_store && beside.engine.is_local().expect("an answer"), "{info:?}");
    let saved = super::image_source::saved_by_docker(&image.tags[0]);
    beside.engine.load_images("saved", &mut saved.as_slice(), &Quiet::default()).expect("it loads");
    // Whatever driver it has chosen: only those of the overlay kind are read from the store.
    let way = if info.storage_driver == "overlay2" { Way::Store } else { Way::Saved };
    there_and_back(&beside, &beside.engine, &image.tags[0], way);
    there_and_back(&beside, &from_afar(&beside.engine), &image.tags[0], Way::Saved);
    assert_eq!(beside.engine.image(&image.tags[0]).expect("the image").id, image.id, "the id is the same on all");
}

#[test]
fn an_engine_whose_images_containerd_keeps_gives_and_takes_them() {
    need!(docker(), root(), newer_engine());
    let mut images = Images(Vec::new());
    let image = odd_image(&mut images, "containerd26");
    let beside = Beside::start("containerd");
    assert!(beside.engine.info().expect("info").containerd_store);
    let (here, old) = (super::docker::engine(), Repo::new());
    let made = old.create(&here, &image).expect("captured from the older engine");
    // Another engine knows the image by another id, and it is the same image.
    let (id, loaded) = old.load(&beside.engine, &made.source);
    assert!(loaded && beside.engine.image(&id).expect("the image").layers == image.layers);
    beside.engine.tag_image(&id, "snap-it/plain:1").expect("a tag");
    there_and_back(&beside, &beside.engine, "snap-it/plain:1", Way::Saved);
    // As from a registry, with compressed layers.
    let zipped = with_zipped_layers(&old.tar_of(&made.source));
    let loaded = beside.engine.load_images("zipped", &mut zipped.as_slice(), &Quiet::default()).expect("it loads");
    beside.engine.tag_image(&loaded.images[0], "snap-it/zipped:1").expect("a tag");
    let zipped = beside.engine.image("snap-it/zipped:1").expect("the image");
    assert!(zipped.id != id && zipped.layers == image.layers);
    there_and_back(&beside, &beside.engine, "snap-it/zipped:1", Way::Saved);
}

/// The image of `archive` in the OCI layout, with its layers compressed by gzip.
fn with_zipped_layers(archive: &[u8]) -> Vec<u8> {
    let mut config = Vec::new();
    for entry in tar::Archive::new(archive).entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let parsed = serde_json::from_slice::<serde_json::Value>(&content).ok();
        if parsed.is_some_and(|json| json["rootfs"].is_object()) {
            config = content;
        }
    }
    let part = |kind: &str, bytes: &[u8]| {
        let kind = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
    };
    let layers: Vec<Vec<u8>> = layers_of(archive).into_iter().map(|layer| zipped(&layer)).collect();
    let parts: Vec<_> = layers.iter().map(|layer| part("layer.v1.tar+gzip", layer)).collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind, "config": part("config.v1+json", &config), "layers": parts
    });
    let manifest = manifest.to_string().into_bytes();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [part("manifest.v1+json", &manifest)] });
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = super::docker::header(tar::EntryType::Regular, content.len() as u64, 0o644);
        tar.append_data(&mut header, name, content).expect("a file");
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json", index.to_string().as_bytes());
    for blob in layers.iter().chain([&config, &manifest]) {
        add(&format!("blobs/{}", digest(blob).replace(':', "/")), blob);
    }
    tar.into_inner().expect("an archive")
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("layer");
    std::fs::write(&path, bytes).expect("a file");
    let output = Command::new("gzip").args(["-1", "-n", "-c"]).arg(&path).output().expect("gzip");
    assert!(output.status.success());
    output.stdout
}

mod sha2_of {
    //! SHA-256 by the system's own program.

    use std::process::Command;

    /// `sha256:…` of `bytes`.
    pub fn digest(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("bytes");
        std::fs::write(&path, bytes).expect("a file");
        let output = Command::new("sha256sum").arg(&path).output().expect("sha256sum");
        let text = String::from_utf8(output.stdout).expect("text");
        format!("sha256:{}", text.split(' ').next().expect("a digest"))
    }
}
