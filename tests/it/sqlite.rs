//! Databases among the files: whole, whatever their users do meanwhile.

use crate::compare::assert_same;
use crate::snap::{Sandbox, create_args, exit, id_of, warns};
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

fn wal_database(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    let setup = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 50; PRAGMA synchronous = OFF;
        CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, pad TEXT);";
    connection.execute_batch(setup).expect("a table");
    connection
}

fn add(connection: &mut Connection, first: i64, rows: i64) {
    let transaction = connection.transaction().expect("a transaction");
    for id in first..first + rows {
        let pad = "x".repeat(200 + (id % 700) as usize);
        transaction.execute("INSERT INTO t VALUES (?1, ?2)", (id, pad)).expect("a row");
    }
    transaction.commit().expect("a commit");
}

/// The rows of a database that must be sound: 1, 2, 3 … without a gap.
#[track_caller]
fn rows(path: &Path) -> i64 {
    let connection = Connection::open(path).expect("a database");
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect(sql);
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(sound, "ok", "{}", path.display());
    let (count, last) = (one("SELECT count(*) FROM t"), one("SELECT coalesce(max(id), 0) FROM t"));
    assert_eq!(count, last, "a row is missing");
    count
}

#[test]
fn a_database_that_was_cut_short_is_kept_as_it_lies() {
    let sandbox = Sandbox::new();
    let (source, file) = (sandbox.path("source"), sandbox.path("source/app.db"));
    fs::create_dir_all(&source).expect("a folder");
    Connection::open(&file).expect("a database").execute_batch("CREATE TABLE t(id);").expect("a table");
    let whole = fs::metadata(&file).expect("a file").len();
    fs::File::options().write(true).open(&file).expect("a file").set_len(whole - 1000).expect("a size");
    sandbox.init();
    let report = sandbox.create(&source);
    assert!(warns(&report, "app.db", "kept as a plain file"), "{report}");
    let id = id_of(&report["snapshot"]).expect("an id");
    sandbox.restores_to(&id, &source).unwrap_or_else(|text| panic!("{text}"));
}

#[test]
fn a_database_in_use_is_captured_with_every_committed_row() {
    let sandbox = Sandbox::new();
    let (source, file) = (sandbox.path("source"), sandbox.path("source/app.db"));
    fs::create_dir_all(&source).expect("a folder");
    sandbox.init();
    let mut connection = wal_database(&file);
    add(&mut connection, 1, 500);
    let (committed, stop) = (AtomicI64::new(500), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 501;
            while !stop.load(Ordering::Relaxed) {
                add(&mut connection, next, 10);
                next += 10;
                committed.store(next - 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for round in 0..4 {
            let before = committed.load(Ordering::SeqCst);
            let report = sandbox.create(&source);
            let id = id_of(&report["snapshot"]).expect("an id");
            let target = sandbox.path(&format!("target-{round}"));
            sandbox.restore(&id, &target);
            let names: Vec<_> = fs::read_dir(&target).expect("a folder").flatten().map(|e| e.file_name()).collect();
            assert_eq!(names, ["app.db"], "only the database itself is kept");
            let found = rows(&target.join("app.db"));
            assert!(found >= before, "round {round}: {found} rows, {before} were committed before it began");
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Open, but quiet: its log is there and nothing happens to it.
    std::thread::sleep(Duration::from_millis(60));
    assert!(sandbox.path("source/app.db-wal").exists());
    sandbox.create(&source);
    let stats = sandbox.create(&source)["stats"].clone();
    assert_eq!((&stats["files_changed"], &stats["bytes_read"]), (&0.into(), &0.into()), "{stats}");
    add(&mut connection, committed.load(Ordering::SeqCst) + 1, 1);
    assert_eq!(sandbox.create(&source)["stats"]["files_changed"], 1, "one more row in the log");
    drop(connection);
}

#[test]
fn a_capture_leaves_no_trace_beside_a_database_at_rest() {
    let sandbox = Sandbox::new();
    let (source, file) = (sandbox.path("source"), sandbox.path("source/app.db"));
    fs::create_dir_all(&source).expect("a folder");
    sandbox.init();
    add(&mut wal_database(&file), 1, 50);
    let names = || fs::read_dir(&source).expect("a folder").flatten().map(|e| e.file_name()).collect::<Vec<_>>();
    assert_eq!(names(), ["app.db"]);
    std::thread::sleep(Duration::from_millis(60));
    sandbox.create(&source);
    assert_eq!(names(), ["app.db"]);
    assert_eq!(sandbox.create(&source)["stats"]["bytes_read"], 0);
    let diff = sandbox.json("diff latest source");
    assert_eq!(diff["differences"].as_array().map(Vec::len), Some(0), "{diff}");
    add(&mut wal_database(&file), 51, 1);
    let diff = sandbox.json("diff latest source");
    let found = diff["differences"].as_array().expect("differences").iter().find(|line| line["path"] == "app.db");
    assert!(found.is_some_and(|line| line["what"].to_string().contains("content")), "{diff}");
}

#[test]
fn a_transaction_that_a_crash_cut_off_is_rolled_back_in_the_copy() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(&source).expect("a folder");
    sandbox.init();
    let script = "import os, sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        c.execute('pragma cache_size = 1')\n\
        c.execute('create table t(id integer primary key, pad text)')\n\
        c.executemany('insert into t values(?, ?)', [(i, 'a' * 500) for i in range(1, 2001)])\n\
        c.commit()\n\
        c.execute(\"update t set pad = 'torn' || pad\")\n\
        os.kill(os.getpid(), 9)\n";
    python(script, &source.join("hot.db"));
    let journal = source.join("hot.db-journal");
    let before = fs::read(&journal).expect("a hot journal");
    let torn = fs::read(source.join("hot.db")).expect("a database");
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    assert_eq!(fs::read(&journal).ok(), Some(before), "the original is not touched");
    assert_eq!(fs::read(source.join("hot.db")).ok(), Some(torn), "the original is not touched");
    let target = sandbox.path("target");
    sandbox.restore(&id, &target);
    assert!(!target.join("hot.db-journal").exists());
    assert_eq!(rows(&target.join("hot.db")), 2000);
    let restored = Connection::open(target.join("hot.db")).expect("a database");
    let torn = restored.query_row("SELECT count(*) FROM t WHERE pad LIKE 'torn%'", [], |row| row.get::<_, i64>(0));
    assert_eq!(torn, Ok(0));
}

#[test]
fn what_only_looks_like_a_database_is_a_file() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(&source).expect("a folder");
    fs::write(source.join("odd"), [b"SQLite format 3\0".as_slice(), &[7; 5000]].concat()).expect("a file");
    fs::write(source.join("cut"), "SQLite format 3\0").expect("a file");
    sandbox.init();
    let run = sandbox.expect(&create_args(&source), &[exit::DONE]).unwrap_or_else(|text| panic!("{text}"));
    assert!(warns(&run.json(), "odd", "kept as a plain file"), "{run}");
    let id = id_of(&run.json()["snapshot"]).expect("an id");
    sandbox.restore(&id, &sandbox.path("target"));
    assert_same(&source, &sandbox.path("target"));
}

/// A program adds rows and is killed: its log stays behind.
fn leave_a_log(database: &Path) {
    python(
        "import os, sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        c.execute('pragma wal_autocheckpoint = 0')\n\
        c.executemany('insert into t values(?, ?)', [(i, 'later') for i in range(101, 111)])\n\
        c.commit()\n\
        os.kill(os.getpid(), 9)\n",
        database,
    );
}

/// Runs a script that kills itself.
fn python(script: &str, argument: &Path) {
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(argument);
    assert!(!python.status().expect("python3").success());
}

#[test]
fn an_older_database_never_meets_a_newer_log() {
    let sandbox = Sandbox::new();
    let (source, file) = (sandbox.path("source"), sandbox.path("source/app.db"));
    fs::create_dir_all(&source).expect("a folder");
    sandbox.init();
    let mut connection = wal_database(&file);
    add(&mut connection, 1, 100);
    let id = id_of(&sandbox.create(&source)["snapshot"]).expect("an id");
    drop(connection);
    leave_a_log(&file);
    assert!(sandbox.path("source/app.db-wal").exists());
    sandbox.must(&format!("restore {id} --in-place"), exit::DONE);
    for suffix in ["-wal", "-shm"] {
        assert!(!sandbox.path(&format!("source/app.db{suffix}")).exists(), "{suffix} of another database");
    }
    assert_eq!(rows(&file), 100);
    // Also where the database itself is as it was, and only its log has gone on.
    leave_a_log(&file);
    sandbox.must(&format!("restore {id} --in-place"), exit::DONE);
    assert_eq!(rows(&file), 100);
}
