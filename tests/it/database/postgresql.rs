//! PostgreSQL.

use super::harness::{At, Server, Store, arguments_with, detail, docker, fails, finding, rows};
use crate::need::{images, need};
use snap::stack::source::database::{Error, Settings, summary};
use std::sync::atomic::Ordering;

pub const PASSWORD: &str = "rootpassword";
const CANARY: &str = "kanarienvogel-7b1f";

pub const SEED: &str = r#"
CREATE ROLE reader LOGIN PASSWORD 'reader-password';
CREATE ROLE limited LOGIN PASSWORD 'rootpassword';
CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, note text, photo bytea);
INSERT INTO users (name, note, photo) SELECT 'user ' || n, E'line\nbreak\ttab \\ é 漢', decode(md5(n::text), 'hex')
  FROM generate_series(1, 1500) n;
CREATE TABLE "Weird ""name; x" (a int, "b c" text);
INSERT INTO "Weird ""name; x" VALUES (1, '\.'), (2, NULL);
CREATE TABLE nothing (a int);
CREATE SCHEMA other;
CREATE TABLE other.parts (day date NOT NULL, v int) PARTITION BY RANGE (day);
CREATE TABLE other.parts_1 PARTITION OF other.parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
INSERT INTO other.parts SELECT '2026-01-05', n FROM generate_series(1, 30) n;
CREATE VIEW names AS SELECT name FROM users;
CREATE FUNCTION tricky() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
  RETURN '
-- PostgreSQL database dump complete
COPY public.fake (a) FROM stdin;
';
END $body$;
GRANT SELECT ON names TO reader;
CREATE SEQUENCE counter START 77;
SELECT lo_from_bytea(0, 'large object');
"#;

/// Ready to be asked as its owner.
pub const READY: &str = "PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U app -d clinic -c 'SELECT 1'";

pub fn server(password: &str) -> Server {
    let password = format!("POSTGRES_PASSWORD={password}");
    let args = [
        "-e",
        &password,
        "-e",
        "POSTGRES_USER=app",
        "-e",
        "POSTGRES_DB=clinic",
        "-e",
        "POSTGRES_INITDB_ARGS=--auth-local=scram-sha-256",
        "snap-test/postgres:15",
    ];
    let server = Server::start("postgresql", &args);
    server.until(READY);
    server
}

pub fn sql(server: &Server, text: &str) -> String {
    let text = text.replace('\'', "'\\''");
    server.sh(&format!(
        "printf '%s' '{text}' | PGPASSWORD=$POSTGRES_PASSWORD psql -v ON_ERROR_STOP=1 -U app -d clinic -qAt"
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
    assert!(!format!("{first:?}").contains(CANARY));

    assert!(detail(&first).version.starts_with("15."));
    let counted = rows(&first, "clinic");
    let wanted = [("other.parts_1", 30), ("public.Weird \"name; x", 2), ("public.nothing", 0), ("public.users", 1500)];
    assert_eq!(counted, wanted.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect());
    assert_eq!(summary(detail(&first)), "4 tables, 1,532 rows, verified");

    let files = store.files(&first);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["container.json", "databases/clinic.sql", "databases/postgres.sql", "globals.sql"]);
    let globals = String::from_utf8_lossy(&files["globals.sql"]);
    assert!(globals.contains("CREATE ROLE reader;") && globals.contains("SCRAM-SHA-256$"), "{globals}");
    let dump = &files["databases/clinic.sql"];
    let users = detail(&first).dumps.iter().flat_map(|dump| &dump.tables).find(|t| t.name == "public.users");
    let users = users.expect("a table");
    let place = users.offset.expect("an offset") as usize..(users.offset.unwrap() + users.bytes.unwrap()) as usize;
    let lines = String::from_utf8_lossy(&dump[place]);
    assert!(lines.starts_with("1\tuser 1\t") && lines.ends_with('\n') && lines.lines().count() == 1500);
    let text = String::from_utf8_lossy(dump);
    assert!(
        text.contains("CREATE VIEW public.names")
            && text.contains("6c61726765206f626a656374")
            && text.contains("counter")
    );

    // The same again: nothing is new. One row more: little is.
    let again = store.capture(&server, &Settings::default()).expect("a capture");
    assert_eq!((store.files(&again), again.source.new_bytes), (files, 0));
    sql(&server, "INSERT INTO users (name) VALUES ('one more')");
    let more = store.capture(&server, &Settings::default()).expect("a capture");
    assert_eq!(rows(&more, "clinic")["public.users"], 1501);
    assert!(more.source.new_bytes < 400_000, "{} of {}", more.source.new_bytes, more.source.bytes);
}

/// What a fake client does, and what must be said.
const FAKES: [(&str, &str, &str, &[&str]); 13] = [
    ("pg_dump", "exit 0", "clinic", &["the dump is empty"]),
    ("pg_dump", "echo 'pg_dump: error: connection lost' >&2; exit 1", "clinic", &["exit code 1", "connection lost"]),
    // Everything is there, and the client says it went wrong.
    ("pg_dump", "$REAL; exit 3", "clinic", &["exit code 3"]),
    // The other way round: cut at ends of statements, inside rows, before the trailer, and exit code 0.
    ("pg_dump", "$REAL | head -n 60; exit 0", "clinic", &["dump ended"]),
    ("pg_dump", "$REAL | sed '/^700\\t/q'; exit 0", "clinic", &["dump ended inside table public.users after 700 rows"]),
    ("pg_dump", "$REAL | tac | sed '1,/database dump complete/d' | tac; exit 0", "clinic", &["without its trailer"]),
    ("pg_dump", "$REAL | sed '/^700\\t/d'; exit 0", "clinic", &["public.users has 1500 rows, and 1499"]),
    (
        "pg_dump",
        "$REAL | sed '/^COPY public.nothing/,/^\\\\\\./d'; exit 0",
        "clinic",
        &["public.nothing is not in the dump"],
    ),
    // What a terminal does.
    ("pg_dump", "$REAL | sed 's/$/\\r/'; exit 0", "clinic", &["dump ended"]),
    ("pg_dump", "$REAL 2>&1; echo 'pg_dump: warning: oops'; exit 0", "clinic", &["dump"]),
    ("pg_dump", "$REAL | head -c 60000; kill -9 $$", "clinic", &["was killed"]),
    ("pg_dumpall", "exit 0", "", &["the dump is empty"]),
    ("pg_dumpall", "$REAL | head -n 12; exit 0", "", &["without its trailer"]),
];

#[test]
fn every_bad_dump_is_told_from_a_good_one() {
    need!(images());
    let server = server(PASSWORD);
    sql(&server, SEED);
    let store = Store::new();
    let name = server.name.clone();
    for (program, script, database, words) in FAKES {
        // The first argument that the real one is asked for, so that only dumps are faked.
        let real = format!("/usr/lib/postgresql/15/bin/{program} \"$@\"");
        let script = script.replace("$REAL", &real);
        let gate = format!("case \" $* \" in *--help*|*dbname=.postgres*) exec {real};; esac; {script}");
        let gate = if program == "pg_dumpall" { script } else { gate };
        let _fake = server.fake(program, &gate);
        let subject = if database.is_empty() { format!("{name} (roles)") } else { format!("{name}/{database}") };
        fails(store.capture(&server, &Settings::default()), &subject, words);
    }
    server.sh("mv /usr/lib/postgresql/15/bin/pg_dump /tmp/away; mv /usr/bin/pg_dump /tmp/away2");
    fails(store.capture(&server, &Settings::default()), &name, &["pg_dump is not in the container"]);
    server.sh("mv /tmp/away /usr/lib/postgresql/15/bin/pg_dump; mv /tmp/away2 /usr/bin/pg_dump");

    let limited = Settings { user: Some("limited".into()), ..Settings::default() };
    let told = store.capture(&server, &limited);
    assert!(!format!("{told:?}").contains(PASSWORD));
    fails(told, &format!("{name} (roles)"), &["permission denied"]);
    let nobody = Settings { user: Some("nobody".into()), ..Settings::default() };
    fails(store.capture(&server, &nobody), &name, &["password authentication failed"]);
    let unread = Settings { password_file: Some("/run/secrets/missing".into()), ..Settings::default() };
    fails(store.capture(&server, &unread), &name, &["/run/secrets/missing cannot be read"]);

    docker(&["pause", &name]).expect("a pause");
    fails(store.capture(&server, &Settings::default()), &name, &["paused"]);
    docker(&["unpause", &name]).expect("no pause");
    store.capture(&server, &Settings::default()).expect("after all that it can still be captured");
    sql(&server, "ALTER ROLE app PASSWORD 'changed'");
    let told = store.capture(&server, &Settings::default());
    assert!(!format!("{told:?}").contains(PASSWORD));
    fails(told, &name, &["password authentication failed for user"]);
    docker(&["stop", "-t", "20", &name]).expect("a stop");
    fails(store.capture(&server, &Settings::default()), &name, &["does not run"]);
}

#[test]
fn a_server_that_goes_away_makes_the_dump_fail() {
    need!(images());
    let server = server(PASSWORD);
    let name = server.name.clone();
    sql(&server, "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 10) AS text FROM generate_series(1, 250000) n");
    let store = Store::new();
    let whole = store.capture(&server, &Settings::default()).expect("a capture").source.bytes;
    assert!(whole > 80_000_000, "{whole}");
    let subject = format!("{name}/clinic");
    // The server's own process for this dump, the whole container, the client.
    let backend = || server.kill("postgres: app clinic .*CO[P]Y");
    let container = || server.kill_all();
    let client = || server.kill("bin/pg_[d]ump --format");
    let cases: [(u64, &(dyn Fn() + Send + Sync)); 5] =
        [(10, &client), (50, &backend), (50, &container), (90, &client), (90, &backend)];
    for (percent, act) in cases {
        // A store of its own, so that all of it is new.
        let store = Store::new();
        let monitor = At::new(whole * percent / 100, act);
        let outcome = store.capture_with(&server, &Settings::default(), &monitor);
        assert!(monitor.done.load(Ordering::Relaxed) < whole, "{percent} %: it was read to its end");
        fails(outcome, &subject, &["after "]);
        while docker(&["start", &name]).and_then(|_| server.try_sh(READY)).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    }
    // Stopping is the person's wish; nothing goes on in the container, and the server is unharmed.
    let started = docker(&["inspect", "-f", "{{.State.StartedAt}}", &name]);
    let monitor = At::new(whole / 2, || {});
    let stopping = &monitor.stop;
    let halfway = At::new(whole / 2, || stopping.store(true, Ordering::Relaxed));
    let stop = Both { count: &halfway, stop: stopping };
    match Store::new().capture_with(&server, &Settings::default(), &stop) {
        Err(Error::Capture(_)) => {}
        other => panic!("{other:?}"),
    }
    server.until(&format!("! {}", finding("bin/pg_[d]ump --format", "exit 0")));
    assert_eq!(docker(&["inspect", "-f", "{{.State.StartedAt}}", &name]), started);
    assert_eq!(sql(&server, "SELECT count(*) FROM big"), "250000");
}

struct Both<'a> {
    count: &'a dyn snap::monitor::Monitor,
    stop: &'a std::sync::atomic::AtomicBool,
}

impl snap::monitor::Monitor for Both<'_> {
    fn advance(&self, amount: u64) {
        self.count.advance(amount);
    }
    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
