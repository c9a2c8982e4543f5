//! How long images take: captured from the engine's store, captured as the engine saves them, known by their id, put
//! back; and the engine's own `save` and `load` beside them. `cargo bench --bench images -- IMAGE…`, as root; without
//! names nothing is measured.

use snap::crypto::people::PersonRecipient;
use snap::docker::{Endpoint, Engine, Image};
use snap::monitor::Quiet;
use snap::repo::keys::NewKey;
use snap::repo::needs::Needs;
use snap::repo::writer::Session;
use snap::repo::{Repository, initialise};
use snap::stack::source::content::FileContent;
use snap::stack::source::image::{CapturedImage, ImageCapture, KnownImages, Outcome, WantedImage};
use snap::store::LocalStore;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
const ROUNDS: usize = 3;

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    if names.is_empty() {
        return;
    }
    let near = Engine::from_env().expect("an engine");
    let far = from_afar(&near);
    for name in names {
        let image = near.image(&name).expect("the image");
        println!("{name}: {:.1} MB", image.size as f64 / 1e6);
        best("docker save >/dev/null", || save(&image));
        best("snap, from the engine's store", || drop(capture(&near, &image)));
        best("snap, as the engine saves it", || drop(capture(&far, &image)));
        let (folder, repository, captured) = capture(&near, &image);
        best("snap, reading it back", || {
            let content = FileContent::of(&repository, &captured.source.tree, b"image.tar", 2);
            std::io::copy(&mut content.expect("its file"), &mut std::io::sink()).expect("its content");
        });
        println!("    stored: {:.1} MB", folder_bytes(&folder.path().join("repo")) as f64 / 1e6);
    }
}

fn best(what: &str, mut work: impl FnMut()) {
    let mut seconds = || {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    let best = (0..ROUNDS).map(|_| seconds()).fold(f64::INFINITY, f64::min);
    println!("    {what}: {best:.2} s");
}

fn save(image: &Image) {
    let status = Command::new("docker").args(["save", &image.id]).stdout(Stdio::null()).status();
    assert!(status.expect("docker").success());
}

fn capture(engine: &Engine, image: &Image) -> (tempfile::TempDir, Repository, Box<CapturedImage>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::at(folder.path().join("repo"));
    store.create_layout().expect("a layout");
    let recipients = [PersonRecipient::parse(RECIPIENT).expect("a recipient")];
    let secrets = initialise(
        &store,
        &NewKey { name: "me", recipients: &recipients, log_n: 10, created: "2026-01-01T00:00:00Z", strict: true },
    )
    .expect("a repository");
    let repository = Repository::open(Arc::new(store), secrets, "me", &folder.path().join("cache")).expect("it opens");
    let monitor = Quiet::default();
    repository.sync_for_writing(&monitor).expect("the catalog");
    let session = Session::begin(&repository, 3).expect("a session");
    let wanted = WantedImage { image: image.clone(), name: "web".into(), services: Vec::new() };
    let known = KnownImages::default();
    let with = ImageCapture { repository: &repository, session: &session, engine, known: &known, workers: 2 };
    let outcome = with.capture(&wanted, &mut Needs::default(), &monitor).expect("the repository works");
    session.checkpoint().expect("a checkpoint");
    drop(session);
    match outcome {
        Outcome::Captured(captured) => (folder, repository, captured),
        Outcome::Missed { warning, .. } => panic!("{}", warning.message),
    }
}

/// The same engine through a port, which makes it a remote one.
fn from_afar(engine: &Engine) -> Engine {
    let Endpoint::Unix(socket) = engine.endpoint().clone() else { return engine.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = UnixStream::connect(&socket).expect("the engine");
            let (mut request, mut to) = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
            std::thread::spawn(move || std::io::copy(&mut request, &mut to));
            let (mut answer, mut back) = (far, near);
            std::thread::spawn(move || {
                let _cut = std::io::copy(&mut answer, &mut back);
                back.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    Engine::connect(Endpoint::Tcp(address)).expect("the engine, from afar")
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let meta = entry.metadata().expect("its state");
            if meta.is_dir() { folder_bytes(&entry.path()) } else { meta.len() }
        })
        .sum()
}
