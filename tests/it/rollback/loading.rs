//! SIGKILL of snap while a dump is being loaded into its new server: nothing of it stays, and all is old or all new.

use super::databases::{OTHERS, POSTGRESQL, app, create, mariadb, psql, temporary};
use super::kills::journal;
use super::{patiently, staged_of};
use crate::application::{App, output};
use crate::need::{docker, images, need, root};
use crate::snap::exit;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SEED: &str = "CREATE TABLE goods(id int PRIMARY KEY, name text); CREATE ROLE reader LOGIN PASSWORD 'reader';
    INSERT INTO goods SELECT i, 'thing ' || i FROM generate_series(1, 100000) i; GRANT SELECT ON goods TO reader";
const SEED_SQL: &str = "CREATE TABLE goods(id int PRIMARY KEY, name text) ENGINE=InnoDB;
    INSERT INTO goods SELECT seq, CONCAT('thing ', seq) FROM seq_1_to_100000;
    CREATE USER reader@'%' IDENTIFIED BY 'reader'; GRANT SELECT ON shop.goods TO reader@'%'";

/// Rows, roles and databases of each server, and what runs.
fn looks(app: &App) -> [String; 3] {
    let postgresql = "SELECT count(*), sum(id), min(name) FROM goods; SELECT datname FROM pg_database ORDER BY 1;
        SELECT rolname, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1;
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let sql = "SELECT COUNT(*), SUM(id), MIN(name) FROM goods; SHOW DATABASES; SHOW TABLES; SHOW GRANTS FOR reader@'%';
        SELECT user, host FROM mysql.user ORDER BY 1, 2";
    [psql(app, postgresql), mariadb(app, sql), format!("{:?}", app.states())]
}

/// Kills a restore of `service` once the new server has a table of the dump.
fn killed_while_loading(app: &App, service: &str, has_table: &str) {
    let line = format!("restore good --only db:{service} --yes");
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = app.sandbox.snap_command(&words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program");
    let began = Instant::now();
    let is_loading = || {
        let name = temporary(app).lines().next().map(str::to_owned);
        let asks = |name: String| Command::new("docker").args(["exec", &name, "sh", "-c", has_table]).output();
        name.is_some_and(|name| asks(name).is_ok_and(|done| done.status.success()))
    };
    while !is_loading() {
        assert!(began.elapsed() < Duration::from_secs(300), "{service} was never being loaded");
        assert!(child.try_wait().expect("the program").is_none(), "{service}: it ended before it was killed");
    }
    child.kill().expect("a kill");
    child.wait().expect("the program");
    assert!(journal(app).is_some(), "{service}: it was killed before it had ended");
}

fn volumes() -> Vec<String> {
    let all = output(Command::new("docker").args(["volume", "ls", "-q"]));
    all.lines()
        .filter(|name| name.starts_with("snap-restore") || name.contains("roll-loading"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_restore_that_is_killed_while_a_database_is_loaded_ends_all_old_or_all_new() {
    need!(root(), docker(), images());
    let app = app("loading", &format!("{POSTGRESQL}{}", OTHERS.split("  cache:").next().expect("a text")));
    psql(&app, SEED);
    mariadb(&app, SEED_SQL);
    create(&app, "good");
    let good = looks(&app);
    let all = std::env::var_os("SNAP_KILLS").is_some_and(|value| value == "all");
    let has_goods = "PGPASSWORD=canary-whole-42 psql -U app -d shop -qAtc 'SELECT 1 FROM goods LIMIT 0'";
    let has_goods_sql = "MYSQL_PWD=rootpassword mariadb -u root shop -e 'SELECT 1 FROM goods LIMIT 0'";
    let tries = [
        ("db", has_goods, "--resume"),
        ("sql", has_goods_sql, "--abort"),
        ("db", has_goods, "--abort"),
        ("sql", has_goods_sql, "--resume"),
    ];
    for (service, has_table, go_on) in tries.into_iter().take(if all { 4 } else { 2 }) {
        psql(&app, "DELETE FROM goods WHERE id > 10; ALTER ROLE reader PASSWORD 'changed'");
        mariadb(&app, "DELETE FROM goods WHERE id > 10");
        let (broken, before) = (looks(&app), volumes());
        killed_while_loading(&app, service, has_table);
        assert_eq!(looks(&app), broken, "{service}: nothing is touched before all is ready");
        patiently(&app, &format!("restore {go_on}"), exit::DONE);
        // Only that server was to come back.
        let mut wanted = broken;
        if go_on == "--resume" {
            let place = usize::from(service == "sql");
            wanted[place].clone_from(&good[place]);
        }
        assert_eq!(looks(&app), wanted, "{service}, then {go_on}");
        assert_eq!((temporary(&app), volumes()), (String::new(), before), "{service}, then {go_on}");
        assert_eq!((staged_of(&app, "pgdata"), journal(&app)), (Vec::new(), None), "{service}, then {go_on}");
        let left = std::fs::read_dir(&app.dir).expect("a folder").flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".snap")).collect();
        assert!(left.is_empty(), "{service}, then {go_on}: {left:?}");
    }
}
