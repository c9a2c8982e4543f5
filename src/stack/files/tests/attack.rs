//! Somebody who may write in the target swaps folders for links while things are placed.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Swaps `target/d` for a link to `outside` and back until told to stop.
fn swap(target: &Path, outside: &Path, stop: &AtomicBool) -> u32 {
    let (real, away) = (target.join("d"), target.join("away"));
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        // Any of these may fail because the other side was quicker.
        let _ = fs::rename(&real, &away);
        let _ = symlink(outside, &real);
        thread::yield_now();
        let _ = fs::remove_file(&real);
        let _ = fs::rename(&away, &real);
        let _ = fs::remove_dir_all(&away);
        swaps += 1;
    }
    swaps
}

/// Places all kinds of things below `d`; returns how often that went well.
fn place_some(placer: &Placer, round: u32, who: u32) -> u32 {
    let name = |kind: &str| format!("d/{kind}-{who}-{round}").into_bytes();
    let meta = plain(0o700);
    let file = placer.begin_file(&name("file"), 4).and_then(|file| {
        file.write_at(0, b"ours")?;
        file.finish(&meta)
    });
    let results = [
        placer.make_dir(b"d"),
        placer.make_dir(&name("dir")),
        file.map(|_| ()),
        placer.symlink(&name("link"), b"x", &meta).map(|_| ()),
        placer.fifo(&name("fifo"), &meta).map(|_| ()),
        placer.hardlink(&name("hard"), b"d/secret").map(drop),
        placer.finish_dir(b"d", &meta).map(|_| ()),
        placer.remove(b"d/secret"),
        placer.remove(&name("dir")),
        placer.remove(b"d/sub"),
        // The link is then in the middle of the path, not at its end.
        placer.make_dir(b"d/sub"),
        placer.symlink(&name("sub/link"), b"x", &meta).map(|_| ()),
        placer.remove(b"d/sub/kept"),
        if round % 4 == 3 { placer.remove(b"d") } else { Ok(()) },
    ];
    results.iter().filter(|result| result.is_ok()).count() as u32
}

fn race(options: PlaceOptions, openat2: bool, time: Duration) -> (u32, u32) {
    let (outside, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), b"theirs").unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    fs::write(outside.path().join("sub/kept"), b"theirs").unwrap();
    fs::create_dir(target.path().join("d")).unwrap();
    let state = || {
        let meta = |path: &str| fs::metadata(outside.path().join(path)).unwrap();
        let times = |path: &str| (meta(path).ctime(), meta(path).ctime_nsec(), meta(path).nlink());
        (pictures(outside.path()), ["", "secret", "sub", "sub/kept"].map(times))
    };
    let before = state();
    let (stop, placed) = (AtomicBool::new(false), AtomicU32::new(0));
    let swaps = thread::scope(|scope| {
        let attacker = scope.spawn(|| swap(target.path(), outside.path(), &stop));
        for who in 0..2 {
            let (placed, target) = (&placed, target.path());
            scope.spawn(move || {
                let start = Instant::now();
                let mut round = 0;
                while start.elapsed() < time {
                    // A new placer knows no folder yet, and has to resolve each again.
                    let placer = Placer::open(target, options).unwrap();
                    let placer = if openat2 { placer } else { placer.without_openat2() };
                    for _ in 0..4 {
                        placed.fetch_add(place_some(&placer, round, who), Ordering::Relaxed);
                        round += 1;
                    }
                }
            });
        }
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        attacker.join().unwrap()
    });
    assert_eq!(state(), before, "something happened outside");
    (swaps, placed.into_inner())
}

#[test]
fn a_swapper_never_gets_a_file_outside() {
    for in_place in [false, true] {
        for openat2 in [true, false] {
            let options = PlaceOptions { in_place, exact: true, privileged: true };
            let (swaps, placed) = race(options, openat2, Duration::from_millis(600));
            assert!(swaps > 20 && placed > 20, "no race: {swaps} swaps, {placed} placed");
        }
    }
}
