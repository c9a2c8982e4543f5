//! The client of the engine's API against a real engine: containers, programs in them, volumes,
//! images, archives. Each test makes its own objects and removes them.

use super::need::{docker, need};
use serde_json::{Value, json};
use snap::docker::{Engine, Exec, ExecSpec, NewVolume, Status};
use snap::monitor::Quiet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The image of [`busybox_image`].
const BUSYBOX: &str = "snap-it/busybox:static";

/// A small image with a shell, made from the host's own static busybox: no registry is asked.
pub fn busybox_image() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let engine = engine();
        if engine.image(BUSYBOX).is_ok() {
            return;
        }
        let mut import = Command::new("docker")
            .args(["import", "--change", "CMD [\"sleep\", \"3600\"]", "-", BUSYBOX])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker");
        let archive = busybox_archive(|_| {});
        import.stdin.take().expect("its input").write_all(&archive).expect("the archive is taken");
        assert!(import.wait().expect("docker import").success());
    });
    BUSYBOX
}

/// An archive of a root with busybox in it, and what `more` adds.
pub fn busybox_archive(more: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let program = std::fs::read("/bin/busybox").expect("/bin/busybox (Debian: busybox-static)");
    for folder in ["bin", "etc", "proc", "tmp", "data"] {
        let mut header = header(tar::EntryType::Directory, 0, if folder == "tmp" { 0o1777 } else { 0o755 });
        tar.append_data(&mut header, folder, std::io::empty()).expect("a folder");
    }
    let mut head = header(tar::EntryType::Regular, program.len() as u64, 0o755);
    tar.append_data(&mut head, "bin/busybox", program.as_slice()).expect("the program");
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox --list").stdout;
    for name in String::from_utf8(list).expect("names").lines().filter(|name| *name != "busybox") {
        let mut header = header(tar::EntryType::Symlink, 0, 0o777);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").expect("a link");
    }
    let users = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    let mut head = header(tar::EntryType::Regular, users.len() as u64, 0o644);
    tar.append_data(&mut head, "etc/passwd", users.as_slice()).expect("users");
    more(&mut tar);
    tar.into_inner().expect("an archive")
}

/// An archive's header with fixed owner and time.
pub fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(1);
    header
}

/// The engine of this machine.
pub fn engine() -> Engine {
    Engine::from_env().expect("an engine")
}

/// A container that goes when the test ends.
pub struct Scratch {
    engine: Engine,
    pub name: String,
}

impl Scratch {
    /// Makes and starts one from `more` beside the image and a command that waits.
    pub fn start(name: &str, more: &Value) -> Self {
        let scratch = Self::create(name, more);
        assert!(scratch.engine.start(&scratch.name).expect("a start"));
        scratch
    }

    pub fn create(name: &str, more: &Value) -> Self {
        let engine = engine();
        let name = format!("snap-it-{name}-{}", std::process::id());
        let mut description = json!({
            "Image": busybox_image(), "Cmd": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
            "HostConfig": { "NetworkMode": "none" }
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            description[key] = value.clone();
        }
        engine.create_container(&name, &description).expect("a container");
        Self { engine, name }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = self.engine.remove_container(&self.name, true, true);
    }
}

struct ScratchVolume(Engine, String);

impl Drop for ScratchVolume {
    fn drop(&mut self) {
        let _gone = self.0.remove_volume(&self.1);
    }
}

#[test]
fn the_engine_says_what_it_is() {
    need!(docker());
    let info = engine().info().expect("its state");
    assert!(!info.version.is_empty() && !info.id.is_empty() && info.root_dir.is_absolute(), "{info:?}");
    assert_eq!(info.os, "linux");
    assert!(!info.storage_driver.is_empty());
}

#[test]
fn a_local_engine_is_known_by_what_lies_in_its_folder() {
    need!(docker(), super::need::root());
    let _something_to_find = Scratch::create("local", &json!({}));
    assert!(engine().is_local().expect("an answer"));
}

#[test]
fn a_container_lives_and_ends() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let labels = json!({ "Labels": { "snap.it": "life" }, "Env": ["PW=canary-77", "B=x=y"],
        "ExposedPorts": { "5432/tcp": {} }, "WorkingDir": "/tmp" });
    let scratch = Scratch::create("life", &labels);
    let name = scratch.name.as_str();
    let made = engine.container(name).expect("inspect");
    assert_eq!((made.name.as_str(), made.state.status), (name, Status::Created));
    assert_eq!((made.env.get("PW"), made.env.get("B")), (Some("canary-77"), Some("x=y")));
    assert!(!format!("{made:?}").contains("canary"));
    assert_eq!((made.exposed_ports.as_slice(), made.workdir.as_str()), (["5432/tcp".to_owned()].as_slice(), "/tmp"));
    assert_eq!(made.image_id, engine.image(busybox_image()).expect("its image").id);
    assert!(engine.start(name).expect("start"));
    assert!(!engine.start(name).expect("a second start changes nothing"));
    let listed = engine.containers(&["snap.it=life"]).expect("list");
    assert!(listed.iter().any(|one| one.id == made.id && one.names == [name] && one.status == Status::Running));
    engine.pause(name).expect("pause");
    assert_eq!(engine.container(name).expect("inspect").state.status, Status::Paused);
    let refused = engine.exec(name, &ExecSpec::new(["true"]), &monitor).expect_err("it is paused");
    assert!(refused.is_conflict(), "{refused}");
    engine.unpause(name).expect("unpause");
    assert!(engine.stop(name, Some(Duration::from_secs(10)), &monitor).expect("stop"));
    assert!(!engine.stop(name, None, &monitor).expect("a second stop changes nothing"));
    assert_eq!(engine.wait(name, None, &monitor).expect("wait"), 0);
    let new_name = format!("{name}-renamed");
    engine.rename_container(name, &new_name).expect("rename");
    assert!(engine.container(name).expect_err("the old name is gone").is_not_found());
    engine.remove_container(&new_name, false, true).expect("remove");
    assert!(engine.container(&made.id).expect_err("it is gone").is_not_found());
}

#[test]
fn a_killed_container_has_its_signal_and_its_log() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let scratch = Scratch::start("log", &json!({ "Cmd": ["sh", "-c", "seq 1 50; echo trouble >&2; sleep 600"] }));
    let begun = Instant::now();
    let log = loop {
        let log = engine.logs(&scratch.name, 2, &monitor).expect("its log");
        if log.contains("trouble") || begun.elapsed() > Duration::from_secs(20) {
            break log;
        }
    };
    assert_eq!(log.lines().collect::<Vec<_>>().len(), 2, "{log}");
    engine.kill(&scratch.name, "SIGKILL").expect("kill");
    assert_eq!(engine.wait(&scratch.name, None, &monitor).expect("wait"), 137);
}

#[test]
fn programs_run_with_their_outputs_apart() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let scratch = Scratch::start("run", &json!({}));
    let mut spec = ExecSpec::new(["sh", "-c", "echo out $WORD; echo err >&2; id -u; pwd; exit 3"]);
    spec.env = vec![("WORD".into(), "a b=c".into())];
    spec.user = Some("nobody".into());
    spec.workdir = Some("/tmp".into());
    let output = engine.run(&scratch.name, &spec, None, &monitor).expect("a run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out a b=c\n65534\n/tmp\n");
    assert_eq!((output.exit_code, output.stderr.as_str()), (3, "err\n"));
    let missing = engine.run(&scratch.name, &ExecSpec::new(["no-such-program"]), None, &monitor);
    assert!(missing.map_or(true, |output| output.exit_code != 0));
    let binary = engine.run(&scratch.name, &ExecSpec::new(["printf", "a\\r\\n\\000\\377"]), None, &monitor);
    assert_eq!(binary.expect("a run").stdout, b"a\r\n\0\xff");
}

#[test]
fn large_input_and_output_pass_each_other() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let scratch = Scratch::start("duplex", &json!({}));
    let content: Vec<u8> = (0..24 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let output = engine.run(&scratch.name, &ExecSpec::new(["cat"]), Some(&mut content.as_slice()), &monitor);
    let output = output.expect("a run");
    assert!(output.exit_code == 0 && output.stdout == content);
    // A program that ends well and has not read its input.
    let unread = engine.run(&scratch.name, &ExecSpec::new(["true"]), Some(&mut content.as_slice()), &monitor);
    assert!(unread.is_err());
}

#[test]
fn an_input_that_fails_does_not_look_ended_to_the_program() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 { Err(std::io::Error::other("the source is gone")) } else { Ok(buffer.len()) }
        }
    }
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let scratch = Scratch::start("input", &json!({}));
    let spec = ExecSpec::new(["sh", "-c", "cat >/tmp/got && touch /tmp/committed"]);
    let error = engine.run(&scratch.name, &spec, Some(&mut Failing(0)), &monitor).expect_err("its input fails");
    assert!(format!("{:?}", error).contains("the source is gone"), "{error:?}");
    let check = engine.run(&scratch.name, &ExecSpec::new(["ls", "/tmp"]), None, &monitor).expect("a look");
    assert_eq!(String::from_utf8_lossy(&check.stdout), "got\n");
}

#[test]
fn a_program_that_is_given_up_is_ended_with_its_children() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let scratch = Scratch::start("kill", &json!({}));
    let running = |name: &str| {
        let spec = ExecSpec::new(["sh", "-c", "ps | grep -c '[s]leep 98[0-9]$' || true"]);
        let output = engine.run(name, &spec, None, &monitor).expect("a look");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().expect("a number")
    };
    let stubborn = ["sh", "-c", "trap '' TERM; echo on; (env -i sleep 987) & sleep 986; touch /tmp/went-on"];
    let mut exec: Exec<'_> = engine.exec(&scratch.name, &ExecSpec::new(stubborn), &monitor).expect("a program");
    exec.read_exact(&mut [0; 3]).expect("it runs");
    assert_eq!(running(&scratch.name), 2);
    drop(exec);
    assert_eq!(running(&scratch.name), 0);
    // The person stops while nothing comes; and a limit does the same.
    let stopping = Quiet::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            stopping.cancel();
        });
        let error = engine.run(&scratch.name, &ExecSpec::new(["sleep", "985"]), None, &stopping);
        assert!(error.expect_err("stopped").is_cancelled());
    });
    let spec = ExecSpec { limit: Some(Duration::from_secs(1)), ..ExecSpec::new(["sleep", "984"]) };
    let late = engine.run(&scratch.name, &spec, None, &monitor).expect_err("too long");
    assert!(late.to_string().contains("no answer in 1 s"), "{late}");
    assert_eq!(running(&scratch.name), 0);
    let check = engine.run(&scratch.name, &ExecSpec::new(["ls", "/tmp"]), None, &monitor).expect("a look");
    assert_eq!(String::from_utf8_lossy(&check.stdout), "");
}

#[test]
fn volumes_keep_their_labels_and_know_who_uses_them() {
    need!(docker());
    let engine = engine();
    let name = format!("snap-it-volume-{}", std::process::id());
    let new = NewVolume {
        name: name.clone(),
        driver: "local".into(),
        options: [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")].map(|(k, v)| (k.into(), v.into())).into(),
        labels: [("com.docker.compose.volume".to_owned(), "db".to_owned())].into(),
    };
    let made = engine.create_volume(&new).expect("a volume");
    let _removed = ScratchVolume(engine.clone(), name.clone());
    assert_eq!((&made.name, &made.labels, &made.options), (&name, &new.labels, &new.options));
    assert_eq!(engine.volume(&name).expect("inspect"), made);
    assert!(engine.volumes().expect("list").iter().any(|volume| volume.name == name));
    assert_eq!(engine.containers_using(&name).expect("users"), []);
    let mount = json!({ "HostConfig": { "NetworkMode": "none",
        "Mounts": [{ "Type": "volume", "Source": name, "Target": "/data" }] } });
    let scratch = Scratch::create("volume-user", &mount);
    let users = engine.containers_using(&name).expect("users");
    assert_eq!(users.iter().map(|user| user.names[0].as_str()).collect::<Vec<_>>(), [scratch.name.as_str()]);
    let mounts = engine.container(&scratch.name).expect("inspect").mounts;
    assert_eq!((mounts[0].kind.as_str(), mounts[0].name.as_str(), mounts[0].writable), ("volume", name.as_str(), true));
    assert!(engine.remove_volume(&name).expect_err("it is used").is_conflict());
    drop(scratch);
    engine.remove_volume(&name).expect("remove");
    assert!(engine.volume(&name).expect_err("it is gone").is_not_found());
}

#[test]
fn archives_go_into_a_container_and_come_back() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let scratch = Scratch::create("archive", &json!({}));
    let mut tar = tar::Builder::new(Vec::new());
    let content = vec![7u8; 3 << 20];
    let mut head = header(tar::EntryType::Regular, content.len() as u64, 0o640);
    head.set_uid(1234);
    head.set_gid(4321);
    tar.append_data(&mut head, "big", content.as_slice()).expect("a file");
    let archive = tar.into_inner().expect("an archive");
    engine.write_archive(&scratch.name, "/data", &mut archive.as_slice(), &monitor).expect("put");
    let body = engine.read_archive(&scratch.name, "/data/big", &monitor).expect("get");
    let mut back = tar::Archive::new(body);
    let mut entry = back.entries().expect("entries").next().expect("one").expect("a header");
    let (uid, gid) = (entry.header().uid().expect("uid"), entry.header().gid().expect("gid"));
    assert_eq!((uid, gid, entry.header().mode().expect("mode") & 0o777), (1234, 4321, 0o640));
    let mut read = Vec::new();
    entry.read_to_end(&mut read).expect("content");
    assert!(read == content);
    let missing = engine.read_archive(&scratch.name, "/no/such", &monitor).expect_err("it is not there");
    assert!(missing.is_not_found());
}

#[test]
fn images_are_tagged_saved_removed_and_loaded() {
    need!(docker());
    let (engine, monitor) = (engine(), Quiet::default());
    let image = engine.image(busybox_image()).expect("an image");
    assert!(image.platform().starts_with("linux/") && image.layers.len() == 1 && image.size > 0, "{image:?}");
    let tag = format!("snap-it/tagged:{}", std::process::id());
    engine.tag_image(&image.id, &tag).expect("tag");
    let listed = engine.images().expect("list");
    assert!(listed.iter().any(|one| one.id == image.id && one.tags.contains(&tag)));
    let mut saved = Vec::new();
    engine.export_images(&[&tag], &monitor).expect("save").read_to_end(&mut saved).expect("all of it");
    engine.remove_image(&tag).expect("untag");
    assert!(engine.image(&tag).expect_err("the tag is gone").is_not_found());
    let loaded = engine.load_images("saved", &mut saved.as_slice(), &monitor).expect("load");
    assert_eq!(loaded.images, [tag.as_str()]);
    assert_eq!(engine.image(&tag).expect("it is back").id, image.id);
    engine.remove_image(&tag).expect("untag");
    assert!(engine.load_images("noise", &mut [7u8; 5000].as_slice(), &monitor).is_err());
    assert!(engine.export_images(&["snap-it/no-such:image"], &monitor).expect_err("none").is_not_found());
    assert!(engine.networks().expect("networks").iter().any(|network| network.name == "bridge"));
}
