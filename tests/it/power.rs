//! Power cuts: the repository is on an ext4 file system in a file; the program is stopped at a call,
//! and a copy of that file taken then holds what a disk would hold. Mounted again, the copy must
//! have every acknowledged snapshot, check clean, and take the next capture.

use crate::inject::{Point, injecting, is_a_step, points, record};
use crate::need::{self, need};
use crate::scene::Scene;
use crate::snap::{self, Sandbox, WATCHDOG, copy_folder, create_args, id_of, kill_group};
use crate::work::{assert_none, heavy, on_two, sample, sweeps_all};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

/// Cuts that take place at the least.
const CUTS_MIN: usize = 30;
/// Cuts that are tried, so that a few points that no thread reaches do not matter.
const CUTS_TRIED: usize = 44;
/// How the disk that loses power is mounted: as people do, and as harshly as ext4 allows, where
/// only an fsync of a file makes its bytes durable. Nothing is committed merely by time.
const MOUNTS: [&str; 2] = ["commit=600", "commit=600,data=writeback,noauto_da_alloc"];

/// A mounted image.
struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// A new empty file system.
    fn format(image: &Path) -> Result<(), String> {
        let file = std::fs::File::create(image).map_err(|error| format!("{}: {error}", image.display()))?;
        file.set_len(64 << 20).map_err(|error| format!("{}: {error}", image.display()))?;
        // Nothing is left for the kernel to initialise later, in the background.
        let now = ["-q", "-F", "-m", "0", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        tool("mkfs.ext4", now.iter().map(OsString::from).chain([image.into()]))
    }

    fn mount(image: &Path, point: &Path, options: &str) -> Result<Self, String> {
        std::fs::create_dir_all(point).map_err(|error| format!("{}: {error}", point.display()))?;
        tool("mount", ["-o".into(), format!("loop,{options}").into(), image.into(), point.into()])?;
        Ok(Self { image: image.to_path_buf(), point: point.to_path_buf() })
    }

    /// What would be on the disk if the power went now.
    fn cut(&self, copy: &Path) -> Result<(), String> {
        tool("cp", ["--sparse=always".into(), self.image.clone().into(), copy.into()])
    }

    /// Unmounts it. A killed process that is not yet gone, or a child of another test between its
    /// fork and its exec, may hold it for a moment.
    fn unmount(self) -> Result<(), String> {
        let begun = Instant::now();
        while let Err(text) = tool("umount", [self.point.clone().into()]) {
            if !text.contains("busy") || begun.elapsed() > WATCHDOG {
                return Err(text);
            }
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // On the way out of a failure: lazily, since a process may still be in there.
        let _ = tool("umount", ["-l".into(), self.point.clone().into()]);
    }
}

fn tool(name: &'static str, args: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let mut command = Command::new(need::find_program(name).ok_or_else(|| format!("no {name}"))?);
    command.args(args).stdin(Stdio::null());
    snap::run(command, WATCHDOG)?.expect(&[0]).map(|_| ())
}

/// Where the user's home with its catalog is: on the disk that loses power, or on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    SameDisk,
    OtherDisk,
}

/// A disk image with a repository with a past, for one place of the home.
struct Base {
    home: Home,
    dir: PathBuf,
    scene: Scene,
}

impl Base {
    fn new(dir: PathBuf, home: Home) -> Result<Self, String> {
        std::fs::create_dir_all(dir.join("host")).map_err(|error| format!("{}: {error}", dir.display()))?;
        Disk::format(&dir.join("image"))?;
        let disk = Disk::mount(&dir.join("image"), &dir.join("mounted"), "noatime")?;
        let scene = Scene::new(&sandbox(home, &disk, &dir.join("host")), &dir, 1);
        disk.unmount()?;
        Ok(Self { home, dir, scene })
    }

    /// The disk as it was, mounted in `work`, and its user.
    fn begin(&self, work: &Path, options: &str) -> Result<(Disk, Sandbox), String> {
        if work.exists() {
            std::fs::remove_dir_all(work).map_err(|error| format!("{}: {error}", work.display()))?;
        }
        std::fs::create_dir_all(work).map_err(|error| format!("{}: {error}", work.display()))?;
        copy_folder(&self.dir.join("host"), &work.join("host"))?;
        let image = work.join("image");
        tool("cp", ["--sparse=always".into(), self.dir.join("image").into(), image.clone().into()])?;
        let disk = Disk::mount(&image, &work.join("mounted"), options)?;
        let sandbox = sandbox(self.home, &disk, &work.join("host"));
        Ok((disk, sandbox))
    }

    /// Mounts the copy of the disk and holds it to what must be true. `host` is the other disk's
    /// folder at the moment of the cut.
    fn survives(&self, copy: &Path, point: &Path, host: &Path, acknowledged: &[String]) -> Result<(), String> {
        let disk = Disk::mount(copy, point, "noatime")?;
        self.scene.holds(&sandbox(self.home, &disk, host), acknowledged)?;
        disk.unmount()
    }

    fn args(&self) -> Vec<OsString> {
        create_args(&self.scene.source)
    }
}

fn sandbox(home: Home, disk: &Disk, host: &Path) -> Sandbox {
    match home {
        Home::SameDisk => Sandbox::at(&disk.point.join("host")),
        Home::OtherDisk => Sandbox::with_repo(host, &disk.point.join("repo")),
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    need!(need::strace(), need::loop_mounts());
    let _alone = heavy();
    let dir = need::fast_tempdir();
    let bases = [Home::SameDisk, Home::OtherDisk]
        .map(|home| Base::new(dir.path().join(format!("{home:?}")), home).unwrap_or_else(|text| panic!("{text}")));
    let all: Vec<(&Base, Point)> = bases
        .iter()
        .flat_map(|base| {
            let found = recorded(base, &dir.path().join("recorded")).unwrap_or_else(|text| panic!("{text}"));
            found.into_iter().map(move |point| (base, point))
        })
        .collect();
    let cases = choose(&all);
    let cuts = AtomicUsize::new(0);
    let failures = on_two(
        &cases,
        |worker| dir.path().join(format!("work-{worker}")),
        |work, i, (base, point)| {
            let options = MOUNTS[i % MOUNTS.len()];
            let cut = cut_at(base, work, point, options)
                .map_err(|text| format!("{:?}, {options}, {point:?}: {text}", base.home))?;
            cuts.fetch_add(usize::from(cut), Ordering::Relaxed);
            Ok(())
        },
    );
    let cuts = cuts.load(Ordering::Relaxed);
    // Not `println!`: the test runner swallows that of a test that passes.
    writeln!(std::io::stderr(), "power: {cuts} cuts at {} points of {}", cases.len(), all.len())
        .expect("standard error");
    assert_none(&failures, cases.len());
    assert!(cuts >= CUTS_MIN, "only {cuts} cuts took place");
}

fn recorded(base: &Base, work: &Path) -> Result<Vec<Point>, String> {
    let (disk, sandbox) = base.begin(work, MOUNTS[0])?;
    let (_, calls) = record(&sandbox, &base.args())?;
    disk.unmount()?;
    Ok(points(&calls))
}

/// An even share, of the steps first; everything with `SNAP_SWEEP=all`.
fn choose<'a>(all: &[(&'a Base, Point)]) -> Vec<(&'a Base, Point)> {
    if sweeps_all() {
        return all.to_vec();
    }
    let (steps, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|(_, point)| is_a_step(point));
    let steps = sample(&steps, CUTS_TRIED * 3 / 4);
    let wanted = CUTS_TRIED - steps.len();
    steps.into_iter().chain(sample(&rest, wanted)).collect()
}

/// Cuts the power while the program stands at `point`; `false` where no thread came there.
fn cut_at(base: &Base, work: &Path, point: &Point, options: &str) -> Result<bool, String> {
    let (disk, sandbox) = base.begin(work, options)?;
    let mut stopped = Stopped::at(&sandbox, &base.args(), point)?;
    if !stopped.reached()? {
        return disk.unmount().map(|()| false);
    }
    let (copy, host) = (work.join("cut"), work.join("host-at-cut"));
    disk.cut(&copy)?;
    copy_folder(&work.join("host"), &host)?;
    let acknowledged = stopped.kill()?;
    disk.unmount()?;
    base.survives(&copy, &work.join("after"), &host, &acknowledged)?;
    Ok(true)
}

/// The program, stopped as a whole after one call.
struct Stopped {
    child: Child,
    lines: mpsc::Receiver<String>,
    ended: bool,
}

impl Stopped {
    fn at(sandbox: &Sandbox, args: &[OsString], point: &Point) -> Result<Self, String> {
        let mut command = injecting(sandbox, args, point, "signal=SIGSTOP", None);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("strace does not start: {error}"))?;
        let (sender, lines) = mpsc::channel();
        let log = child.stderr.take().ok_or("no standard error")?;
        std::thread::spawn(move || {
            for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, ended: false })
    }

    /// Waits until all threads stand still; `false` if the program came to its end instead.
    fn reached(&mut self) -> Result<bool, String> {
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(line) if line.contains("--- stopped by SIGSTOP ---") => break,
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    self.child.wait().map_err(|error| error.to_string())?;
                    return Ok(false);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    kill_group(&self.child);
                    return Err("hung under strace".to_owned());
                }
            }
        }
        // The threads that are not watched stop at their own pace.
        let begun = Instant::now();
        while !self.stands_still()? {
            if begun.elapsed() > WATCHDOG {
                return Err("does not stop".to_owned());
            }
            std::thread::yield_now();
        }
        Ok(true)
    }

    fn stands_still(&self) -> Result<bool, String> {
        let strace = self.child.id();
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let children = read(&format!("/proc/{strace}/task/{strace}/children"))?;
        let pid = children.split_whitespace().next().ok_or("strace has no child")?;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        for task in tasks.map_while(Result::ok) {
            let stat = read(&task.path().join("stat").to_string_lossy())?;
            // The name before the state may itself hold anything.
            let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
            if !matches!(state, Some('T' | 't')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Kills it; the snapshot that it had already acknowledged on standard output, if any.
    fn kill(&mut self) -> Result<Vec<String>, String> {
        kill_group(&self.child);
        self.child.wait().map_err(|error| error.to_string())?;
        self.ended = true;
        let mut said = Vec::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut said).map_err(|error| error.to_string())?;
        }
        let report: Option<Value> = serde_json::from_slice(&said).ok();
        Ok(report.and_then(|report| id_of(&report["snapshot"]).ok()).into_iter().collect())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if !self.ended {
            kill_group(&self.child);
            // It is reaped, whatever it ended with.
            let _ = self.child.wait();
        }
    }
}

#[test]
fn what_create_acknowledges_is_there_at_once() {
    need!(need::loop_mounts());
    let _alone = heavy();
    let dir = need::fast_tempdir();
    for (i, options) in MOUNTS.iter().cycle().take(4).enumerate() {
        let home = if i < 2 { Home::SameDisk } else { Home::OtherDisk };
        let held = (|| {
            let base = Base::new(dir.path().join(format!("base-{i}")), home)?;
            let work = dir.path().join(format!("work-{i}"));
            let (disk, sandbox) = base.begin(&work, options)?;
            let report = sandbox.try_create(&base.scene.source)?;
            let copy = work.join("cut");
            disk.cut(&copy)?;
            copy_folder(&work.join("host"), &work.join("host-at-cut"))?;
            disk.unmount()?;
            let acknowledged = [id_of(&report["snapshot"])?];
            base.survives(&copy, &work.join("after"), &work.join("host-at-cut"), &acknowledged)
        })();
        held.unwrap_or_else(|text: String| panic!("{home:?}, {options}: {text}"));
    }
}

#[test]
fn a_cut_loses_what_was_not_made_durable() {
    need!(need::loop_mounts());
    let dir = need::fast_tempdir();
    for options in MOUNTS {
        let [image, copy, point, after] = ["image", "copy", "point", "after"].map(|name| dir.path().join(name));
        Disk::format(&image).expect("a file system");
        let disk = Disk::mount(&image, &point, options).expect("a mount");
        let write = |name: &str, durable: bool| {
            let mut file = std::fs::File::create(disk.point.join(name)).expect("a file");
            file.write_all(name.as_bytes()).expect("content");
            if durable {
                file.sync_all().expect("a durable file");
                std::fs::File::open(&disk.point).and_then(|dir| dir.sync_all()).expect("a durable name");
            }
        };
        write("durable", true);
        write("hoped for", false);
        disk.cut(&copy).expect("a copy");
        disk.unmount().expect("an unmounted disk");
        let disk = Disk::mount(&copy, &after, "noatime").expect("a mount");
        let found = |name: &str| std::fs::read(disk.point.join(name)).ok();
        assert_eq!(found("durable").as_deref(), Some(b"durable".as_slice()), "{options}");
        assert_ne!(found("hoped for").as_deref(), Some(b"hoped for".as_slice()), "{options}");
        disk.unmount().expect("an unmounted disk");
    }
}
