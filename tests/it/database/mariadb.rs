//! MariaDB.

use super::harness::{Server, Store, arguments_with, detail, fails, rows};
use crate::need::{images, need};
use snap::stack::source::database::{Settings, summary};

pub const PASSWORD: &str = "rootpassword";
const CANARY: &str = "canari-9c3e";

pub const SEED: &str = r#"
CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, name varchar(100), note text, photo blob) CHARSET=utf8mb4;
INSERT INTO users (name, note, photo) SELECT CONCAT('user ', seq), 'it''s; (x),(y)\n\\ 😀', UNHEX(MD5(seq)) FROM seq_1_to_3000;
CREATE TABLE `none``x` (a int);
CREATE TABLE gen (a int, b int AS (a + 1) STORED);
INSERT INTO gen (a) VALUES (1), (2);
CREATE VIEW names AS SELECT name FROM users;
CREATE TRIGGER stamp BEFORE INSERT ON gen FOR EACH ROW SET NEW.a = COALESCE(NEW.a, 0);
CREATE PROCEDURE hello() SELECT 'INSERT INTO `users` VALUES (9);' AS text;
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM gen WHERE a < 0;
CREATE ROLE auditor;
CREATE USER reader@'%' IDENTIFIED BY 'x';
GRANT SELECT ON shop.* TO auditor;
GRANT auditor TO reader@'%';
"#;

pub fn server(password: &str) -> Server {
    let password = format!("MARIADB_ROOT_PASSWORD={password}");
    let args = [
        "-e",
        &password,
        "-e",
        "MARIADB_DATABASE=shop",
        "-e",
        "MYSQL_USER=app",
        "-e",
        "MYSQL_PASSWORD=plain",
        "snap-test/mariadb:10.11",
    ];
    let server = Server::start("mariadb", &args);
    server.until("MYSQL_PWD=plain mariadb -h 127.0.0.1 -u app shop -e 'SELECT 1'");
    server
}

pub fn sql(server: &Server, text: &str) -> String {
    let text = text.replace('\'', "'\\''");
    server.sh(&format!(
        "printf '%s' '{text}' | MYSQL_PWD=$MARIADB_ROOT_PASSWORD mariadb --default-character-set=utf8mb4 -N shop"
    ))
}

#[test]
fn a_whole_server_is_dumped_proven_and_deduplicated() {
    need!(images());
    let server = server(CANARY);
    sql(&server, SEED);
    let store = Store::new();
    let (first, seen) = arguments_with(CANARY, || store.capture(&server, &Settings::default()));
    let first = first.expect("a capture");
    assert_eq!(seen, Vec::<String>::new(), "the password was an argument");
    assert_eq!(first.warnings, []);
    let counted = rows(&first, "shop");
    assert_eq!(counted, [("gen", 2), ("none`x", 0), ("users", 3000)].map(|(n, r)| (n.to_owned(), r)).into());
    assert_eq!(summary(detail(&first)), "3 tables, 3,002 rows, verified");
    assert!(detail(&first).version.starts_with("10.11."));

    let files = store.files(&first);
    assert_eq!(
        files.keys().map(String::as_str).collect::<Vec<_>>(),
        ["container.json", "databases/shop.sql", "users.sql"]
    );
    let dump = String::from_utf8_lossy(&files["databases/shop.sql"]);
    for part in ["PROCEDURE `hello`", "EVENT `nightly`", "TRIGGER stamp", "VIEW `names`", "CREATE DATABASE"] {
        assert!(dump.contains(part), "no {part}");
    }
    let users = String::from_utf8_lossy(&files["users.sql"]);
    assert!(users.contains("CREATE ROLE IF NOT EXISTS 'auditor'") && users.contains("GRANT `auditor` TO"), "{users}");

    let again = store.capture(&server, &Settings::default()).expect("a capture");
    assert_eq!((store.files(&again), again.source.new_bytes), (files, 0));

    // Tables that know no transactions are named, and nothing is claimed of their moment.
    sql(&server, "CREATE TABLE old (a int) ENGINE=MyISAM; INSERT INTO old VALUES (1)");
    let third = store.capture(&server, &Settings::default()).expect("a capture");
    assert!(third.warnings.iter().any(|w| w.message.contains("old") && !w.incomplete), "{:?}", third.warnings);
    assert_eq!(rows(&third, "shop")["old"], 1);
}

#[test]
fn rows_are_of_one_moment_although_others_write() {
    need!(images());
    let server = server(PASSWORD);
    sql(&server, SEED);
    let store = Store::new();
    let writer = "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo 'INSERT INTO users (name) VALUES (1); DELETE FROM users LIMIT 2;'; done | \
        MYSQL_PWD=plain mariadb -u app shop";
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| server.try_sh(writer));
        for _ in 0..5 {
            let captured = store.capture(&server, &Settings::default()).expect("a capture");
            assert_eq!(captured.warnings, []);
        }
        server.sh("touch /tmp/stop");
        let _ended = writing.join();
    });
}

const FAKES: [(&str, &[&str]); 9] = [
    ("exit 0", &["the dump is empty"]),
    ("echo 'mysqldump: Got error: 2013: Lost connection' >&2; exit 2", &["exit code 2", "Lost connection"]),
    ("$REAL; exit 2", &["exit code 2"]),
    ("$REAL | head -n 30; exit 0", &["dump ended"]),
    ("$REAL | head -c 40000; exit 0", &["dump ended inside"]),
    ("$REAL | sed '/^-- Dump completed/d'; exit 0", &["without its trailer"]),
    ("$REAL | sed '/^(700,/d'; exit 0", &["users has 3000 rows, and 2999"]),
    ("$REAL | sed '/CREATE TABLE .gen/,/;$/d; /INSERT INTO .gen/,/;$/d'; exit 0", &["gen is not in the dump"]),
    ("$REAL | head -c 40000; kill -9 $$", &["was killed"]),
];

#[test]
fn every_bad_dump_is_told_from_a_good_one() {
    need!(images());
    let server = server(PASSWORD);
    sql(&server, SEED);
    let (store, name) = (Store::new(), server.name.clone());
    let subject = format!("{name}/shop");
    for (script, words) in FAKES {
        let real = "/usr/bin/mariadb-dump \"$@\"";
        let gate = format!("case \" $* \" in *--version*) exec {real};; esac; {}", script.replace("$REAL", real));
        let _fake = server.fake("mariadb-dump", &gate);
        fails(store.capture(&server, &Settings::default()), &subject, words);
    }
    // A view of something that is gone.
    sql(&server, "CREATE TABLE base (a int); CREATE VIEW broken AS SELECT a FROM base; DROP TABLE base");
    fails(store.capture(&server, &Settings::default()), &subject, &["exit code 2", "broken"]);
    {
        // `--force` writes the trailer all the same.
        let _fake = server.fake("mariadb-dump", "exec /usr/bin/mariadb-dump --force \"$@\"");
        fails(store.capture(&server, &Settings::default()), &subject, &["exit code 2"]);
    }
    sql(&server, "DROP VIEW broken");
    let app = Settings { user: Some("app".into()), password_env: Some("MYSQL_PASSWORD".into()), ..Settings::default() };
    fails(store.capture(&server, &app), &format!("{name} (users)"), &["denied"]);
    store.capture(&server, &Settings::default()).expect("after all that it can still be captured");
    sql(&server, "ALTER USER root@localhost IDENTIFIED BY 'changed'");
    let told = store.capture(&server, &Settings::default());
    assert!(!format!("{told:?}").contains(PASSWORD));
    fails(told, &name, &["Access denied"]);
}
