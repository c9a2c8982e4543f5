//! What a test needs of the machine. Where it is missing the test is left out, and says so on the
//! terminal; in CI (`SNAP_CI=1`) it fails instead, so that nothing is skipped in silence.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `Err` holds the name of what is missing.
pub type Need = Result<(), &'static str>;

/// Leaves the calling test, loudly, unless every need is met.
macro_rules! need {
    ($($need:expr),+ $(,)?) => {
        $(if let Err(missing) = $need {
            $crate::need::left_out(module_path!(), missing);
            return;
        })+
    };
}
pub(crate) use need;

/// Says that a test is left out; fails it in CI.
pub fn left_out(test: &str, missing: &str) {
    // Not `eprintln!`: the test runner swallows that of a test that passes.
    let told =
        writeln!(std::io::stderr(), "{}", verdict(in_ci(), test, missing).expect("SNAP_CI=1 leaves nothing out"));
    told.expect("standard error can be written");
}

fn verdict(ci: bool, test: &str, missing: &str) -> Result<String, String> {
    let text = format!("{test}: left out: needs {missing}");
    if ci { Err(text) } else { Ok(text) }
}

/// True where nothing may be left out.
pub fn in_ci() -> bool {
    std::env::var_os("SNAP_CI").is_some_and(|value| value == "1")
}

/// The test runs as root.
pub fn root() -> Need {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err("root") }
}

/// The program is on the path.
pub fn program(name: &'static str) -> Need {
    if find_program(name).is_some() { Ok(()) } else { Err(name) }
}

/// The file is there.
pub fn file(path: &'static str) -> Need {
    if Path::new(path).is_file() { Ok(()) } else { Err(path) }
}

/// Where the program is, also in the folders that only root has on its path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `strace` is there and may trace.
pub fn strace() -> Need {
    static TRACES: OnceLock<bool> = OnceLock::new();
    let traces = *TRACES.get_or_init(|| succeeds("strace", &["-f", "-o", "/dev/null", "true"]));
    if traces { Ok(()) } else { Err("strace that may trace") }
}

/// A Docker engine answers, and there is a static busybox to make an image from.
pub fn docker() -> Need {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    let answers = *ANSWERS.get_or_init(|| snap::docker::Engine::from_env().is_ok());
    program("docker")?;
    program("busybox")?;
    if answers { Ok(()) } else { Err("a Docker engine that answers") }
}

/// Files can be mounted as ext4 file systems.
pub fn loop_mounts() -> Need {
    static MOUNTS: OnceLock<bool> = OnceLock::new();
    root()?;
    let mounts = *MOUNTS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (image, point) = (dir.path().join("image"), dir.path().join("point"));
        std::fs::create_dir(&point).expect("a folder");
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(8 << 20).expect("a sparse file");
        let text = |path: &Path| path.display().to_string();
        succeeds("mkfs.ext4", &["-q", "-F", &text(&image)])
            && succeeds("mount", &["-o", "loop", &text(&image), &text(&point)])
            && succeeds("umount", &[&text(&point)])
    });
    if mounts { Ok(()) } else { Err("loop devices and ext4 (e2fsprogs)") }
}

/// The images of servers are there, as `fixtures/images/build` makes them now.
pub fn images() -> Need {
    static THERE: OnceLock<bool> = OnceLock::new();
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/build");
    let there = *THERE.get_or_init(|| succeeds(&build.display().to_string(), &["--check"]));
    if there { Ok(()) } else { Err("the images that fixtures/images/build makes") }
}

fn succeeds(name: &str, args: &[&str]) -> bool {
    let Some(program) = find_program(name) else { return false };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A new folder for a test that calls fsync thousands of times: in memory where that can be had.
pub fn fast_tempdir() -> tempfile::TempDir {
    const ROOM: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
    let in_memory = (root().is_ok() && room >= ROOM).then(|| tempfile::tempdir_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().expect("a temporary folder"))
}

#[test]
fn ci_leaves_nothing_out() {
    assert!(verdict(true, "test", "strace").is_err());
    assert_eq!(verdict(false, "test", "strace"), Ok("test: left out: needs strace".to_owned()));
    assert_eq!(program("no-such-program"), Err("no-such-program"));
    assert_eq!(program("sh"), Ok(()));
}
