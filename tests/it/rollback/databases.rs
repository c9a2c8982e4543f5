//! Databases of which a snapshot has the dump: loaded beside the present ones, proven, and exchanged.

use super::{patiently, restore, staged_of};
use crate::application::{App, output};
use crate::need::{docker, images, need, root};
use crate::snap::exit;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

pub(super) const POSTGRESQL: &str = "
  db:
    image: snap-test/postgres:15
    environment: {POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: /run/secrets/pw, POSTGRES_DB: shop}
    secrets: [pw]
    volumes: ['pgdata:/var/lib/postgresql/data']
    stop_grace_period: 30s
";
pub(super) const OTHERS: &str = "
  sql:
    image: snap-test/mariadb:10.11
    environment: {MARIADB_ROOT_PASSWORD: rootpassword, MARIADB_DATABASE: shop}
    volumes: ['./mydata:/var/lib/mysql']
    stop_grace_period: 30s
  cache:
    image: snap-test/redis:7
    command: redis-server --appendonly yes
    volumes: [/data]
    stop_grace_period: 10s
";
const SEED: &str = "CREATE TABLE goods(id int PRIMARY KEY, name text); CREATE TABLE other(id int);
    INSERT INTO goods SELECT i, 'thing ' || i FROM generate_series(1, 1234) i; INSERT INTO other VALUES (7);
    CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON goods TO reader;";
const SEED_SQL: &str = "CREATE TABLE goods(id int PRIMARY KEY, name text) ENGINE=InnoDB;
    INSERT INTO goods SELECT seq, CONCAT('thing ', seq) FROM seq_1_to_500;
    CREATE USER reader@'%' IDENTIFIED BY 'reader'; GRANT SELECT ON shop.goods TO reader@'%';";

fn compose(services: &str) -> String {
    let volumes = "volumes: {pgdata: {}}\nsecrets: {pw: {file: ./pw.txt}}\n";
    format!("services:\n{services}\n{volumes}")
}

/// What a query gives, as soon as the server answers.
pub(super) fn psql(app: &App, query: &str) -> String {
    let client =
        "PGPASSWORD=\"$(cat /run/secrets/pw)\" psql -h \"$(hostname -i)\" -U app -d shop -qAt -v ON_ERROR_STOP=1";
    until(app, "db", &format!("{client} -c 'SELECT 1'"));
    app.exec("db", &format!("{client} -c \"{query}\""))
}

pub(super) fn mariadb(app: &App, query: &str) -> String {
    let client = "MYSQL_PWD=rootpassword mariadb -h 127.0.0.1 -u root -N shop";
    until(app, "sql", &format!("{client} -e 'SELECT 1'"));
    app.exec("sql", &format!("{client} -e \"{query}\""))
}

fn redis(app: &App, command: &str) -> String {
    until(app, "cache", "redis-cli PING | grep -q PONG");
    app.exec("cache", &format!("redis-cli {command}"))
}

/// Waits until a program in a service's container ends well.
pub(super) fn until(app: &App, service: &str, command: &str) {
    let began = Instant::now();
    while let Err(error) = app.try_exec(service, command) {
        assert!(began.elapsed() < Duration::from_secs(240), "{service} does not answer: {error}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn looks(app: &App) -> String {
    let postgresql = psql(
        app,
        "SELECT count(*), sum(id), min(name) FROM goods; SELECT * FROM other;
         SELECT has_table_privilege('reader', 'goods', 'SELECT'), has_table_privilege('reader', 'other', 'SELECT');
         SELECT rolname, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1;
         SELECT datname FROM pg_database ORDER BY 1",
    );
    let mariadb =
        mariadb(app, "SELECT COUNT(*), SUM(id), MIN(name) FROM goods; SHOW GRANTS FOR reader@'%'; SHOW TABLES");
    let keys = redis(app, "DBSIZE; redis-cli GET key7; redis-cli CONFIG GET appendonly");
    format!("{postgresql}{mariadb}{keys}{:?}", app.states())
}

pub(super) fn create(app: &App, tag: &str) {
    if !app.sandbox.repo().exists() {
        app.sandbox.init();
    }
    let line = format!("create {} --tag {tag} --only files --only database", app.dir.display());
    patiently(app, &line, exit::DONE);
}

/// Containers that a restore makes for a while.
pub(super) fn temporary(app: &App) -> String {
    let label = format!("label=snap.restore-of={}", app.name);
    output(Command::new("docker").args(["ps", "-a", "--filter", &label, "--format", "{{.Names}}"]))
}

pub(super) fn started(app: &App) -> String {
    let label = format!("label=com.docker.compose.project={}", app.name);
    let ids = output(Command::new("docker").args(["ps", "-a", "-q", "--filter", &label]));
    output(Command::new("docker").args(["inspect", "-f", "{{.Name}} {{.State.StartedAt}}"]).args(ids.lines()))
}

pub(super) fn app(name: &str, services: &str) -> App {
    let app = App::new(&format!("roll-{name}"), &compose(services));
    app.write("pw.txt", "canary-whole-42\n");
    app.up();
    psql(&app, "SELECT 1");
    app
}

#[test]
fn databases_come_back_from_their_dumps() {
    need!(root(), docker(), images());
    let app = app("dumps", &format!("{POSTGRESQL}{OTHERS}"));
    psql(&app, SEED);
    app.exec("db", "createdb -U app second");
    mariadb(&app, SEED_SQL);
    redis(&app, "PING");
    app.exec("cache", "for i in $(seq 1 50); do echo SET key$i value$i; done | redis-cli >/dev/null");
    let good = looks(&app);
    create(&app, "good");
    let shown = app.sandbox.must("show good", exit::DONE).stdout;
    for table in [
        "db:db/public.goods  1,234 rows of shop",
        "db:db/public.other  1 row of shop",
        "db:sql/goods  500 rows of shop",
    ] {
        assert!(shown.lines().any(|line| line.trim() == table), "no {table} in {shown}");
    }

    psql(&app, "DROP TABLE goods; INSERT INTO other VALUES (8); ALTER ROLE reader PASSWORD 'changed'");
    app.exec("db", "dropdb -U app second");
    mariadb(&app, "DELETE FROM goods WHERE id > 250; DROP USER reader@'%'");
    redis(&app, "DEL key7 key8 key9");
    let plan = restore(&app, "good --plan", exit::DONE);
    for wanted in ["database db is loaded anew", "database sql is loaded anew", "database cache is loaded anew"] {
        assert!(plan["changes"].to_string().contains(wanted), "no {wanted} in {plan}");
    }
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(looks(&app), good, "{report}");
    assert_eq!(report["verdict"], "healthy", "{report}");
    let proven = |report: &Value, service: &str| {
        let mut all = report["evidence"].as_array().expect("a list").iter();
        let found = all.find(|found| found["service"] == service && found["check"] == "rows as captured");
        found.unwrap_or_else(|| panic!("{service}: {report}"))["answer"].as_str().expect("a text").to_owned()
    };
    assert_eq!(proven(&report, "db"), "2 tables, 1,235 rows, as captured");
    assert_eq!(proven(&report, "sql"), "1 table, 500 rows, as captured");
    assert!(proven(&report, "cache").contains("50 keys"), "{report}");
    assert_eq!(report["kept"], serde_json::json!([]), "the present was kept as a snapshot");
    assert_eq!((temporary(&app), staged_of(&app, "pgdata")), (String::new(), Vec::<String>::new()));

    // Nothing is there any more but the folder.
    app.compose(&["down", "-v", "-t", "5"]);
    std::fs::remove_dir_all(app.dir.join("mydata")).expect("a folder");
    let run = patiently(&app, "restore good --yes", exit::FAILED);
    assert!(run.stderr.contains("database cache") && run.stderr.contains("docker compose create"), "{run}");
    app.compose(&["create", "cache"]);
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(looks(&app), good, "{report}");
    let warned = app.compose(&["up", "-d"]);
    assert!(!warned.contains("not created by"), "Compose does not know its volume: {warned}");
    assert_eq!(temporary(&app), "");
}

#[test]
fn a_dump_that_cannot_be_loaded_changes_nothing() {
    need!(root(), docker(), images());
    let app = app("refused", POSTGRESQL);
    // A condition that only holds once all is there: no server takes this dump.
    let trap = "CREATE TABLE zeta(id int); INSERT INTO zeta VALUES (1);
        CREATE FUNCTION filled() RETURNS bool LANGUAGE sql AS 'SELECT count(*) > 0 FROM public.zeta';
        CREATE TABLE alpha(id int CHECK (public.filled())); INSERT INTO alpha VALUES (1);";
    psql(&app, trap);
    create(&app, "good");
    psql(&app, "INSERT INTO alpha VALUES (2)");
    let before = (started(&app), psql(&app, "SELECT * FROM alpha ORDER BY 1"));
    let run = patiently(&app, "restore good --yes", exit::FAILED);
    assert!(run.stderr.contains("database db") && run.stderr.contains("violates check constraint"), "{run}");
    assert_eq!((started(&app), psql(&app, "SELECT * FROM alpha ORDER BY 1")), before);
    assert_eq!((temporary(&app), staged_of(&app, "pgdata")), (String::new(), Vec::<String>::new()));

    // The same where the bytes themselves are not what they were.
    psql(&app, "DROP TABLE alpha; DROP FUNCTION filled");
    psql(&app, SEED);
    create(&app, "good");
    super::damage_packs(&app);
    let before = started(&app);
    patiently(&app, "restore good --yes", exit::DAMAGE);
    assert_eq!((started(&app), psql(&app, "SELECT count(*) FROM goods")), (before, "1234\n".to_owned()));
    assert_eq!((temporary(&app), staged_of(&app, "pgdata")), (String::new(), Vec::<String>::new()));
}

const PROGRAM: &str = "services:
  store:
    image: IMAGE
    command: ['sh', '-c', 'while :; do sleep 0.2; done']
    volumes: ['items:/data', './conf:/conf:ro']
    stop_grace_period: 1s
    labels:
      snap.dump: 'cat /data/items'
      snap.restore: 'test -s /conf/ok && cat > /data/items'
volumes: {items: {}}
";

#[test]
fn the_dump_of_any_program_comes_back_by_its_own_command() {
    need!(root(), docker());
    let app = App::new("roll-program", PROGRAM);
    app.write("conf/ok", "yes\n");
    app.up();
    app.exec("store", "printf 'one\\ntwo\\n' > /data/items");
    create(&app, "good");
    app.exec("store", "echo wrong > /data/items; echo more > /data/other");
    // What the command needs is taken from the snapshot, whatever has become of it.
    std::fs::remove_file(app.dir.join("conf/ok")).expect("a file");
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(app.exec("store", "cat /data/items; ls /data"), "one\ntwo\nitems\n");
    assert_eq!(report["verdict"], "not-verified", "nobody has said what healthy is: {report}");

    // A command that fails leaves everything as it is.
    app.write("conf/ok", "");
    create(&app, "bad");
    app.exec("store", "echo now > /data/items");
    let before = started(&app);
    let run = patiently(&app, "restore bad --yes", exit::FAILED);
    assert!(run.stderr.contains("database store") && run.stderr.contains("exit code 1"), "{run}");
    assert_eq!((started(&app), app.exec("store", "cat /data/items")), (before, "now\n".to_owned()));
    assert_eq!((temporary(&app), staged_of(&app, "items")), (String::new(), Vec::<String>::new()));
}

#[test]
fn one_table_comes_back_alone() {
    need!(root(), docker(), images());
    let app = app("table", &format!("{POSTGRESQL}{}", OTHERS.split("  cache:").next().expect("a text")));
    psql(
        &app,
        "CREATE TABLE people(id int PRIMARY KEY, name text, t text DEFAULT E'a\\tb');
         CREATE TABLE visits(id int, who int REFERENCES people ON DELETE CASCADE); CREATE TABLE log(what text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (1); RETURN NULL; END';
         INSERT INTO people SELECT i, 'person ' || i FROM generate_series(1, 3000) i;
         INSERT INTO visits SELECT i, i FROM generate_series(1, 3000) i;
         CREATE TRIGGER t AFTER INSERT OR DELETE ON people FOR EACH ROW EXECUTE FUNCTION note();",
    );
    mariadb(
        &app,
        "CREATE TABLE people(id int PRIMARY KEY, at timestamp) ENGINE=InnoDB;
         CREATE TABLE visits(id int, who int, FOREIGN KEY (who) REFERENCES people(id) ON DELETE CASCADE) ENGINE=InnoDB;
         INSERT INTO people SELECT seq, '2026-01-01 10:00:00' FROM seq_1_to_3000;
         INSERT INTO visits SELECT seq, seq FROM seq_1_to_3000;",
    );
    let looks = |app: &App| {
        let all = "SELECT count(*), sum(id), min(name), min(t) FROM people; SELECT count(*) FROM visits; SELECT count(*) FROM log";
        let sql = "SELECT COUNT(*), SUM(id), MIN(at), MAX(at) FROM people; SELECT COUNT(*) FROM visits";
        format!("{}{}", psql(app, all), mariadb(app, sql))
    };
    let good = looks(&app);
    create(&app, "good");
    psql(
        &app,
        "ALTER TABLE people DISABLE TRIGGER t; DELETE FROM people WHERE id > 100; ALTER TABLE people ENABLE TRIGGER t",
    );
    mariadb(&app, "DELETE FROM people WHERE id > 100");
    let (before, ran) = (looks(&app), started(&app));
    let plan = restore(&app, "good --only db:db/public.people --plan", exit::DONE);
    assert!(plan["changes"].to_string().contains("table public.people of shop"), "{plan}");

    // Visits of people who are not there: no.
    for table in ["db:db/visits", "db:sql/visits"] {
        let run = patiently(&app, &format!("restore good --only {table} --yes"), exit::FAILED);
        assert!(run.stderr.contains("would refer to") && run.stderr.contains("the table is as it was"), "{run}");
    }
    for what in ["db:db/nothing", "db:shop/people"] {
        patiently(&app, &format!("restore good --only {what} --yes"), exit::USAGE);
    }
    patiently(&app, "restore good --only db:db/people --only env --yes", exit::USAGE);
    assert_eq!(looks(&app), before);
    for table in ["db:db/people", "db:sql/people"] {
        let report = restore(&app, &format!("good --only {table} --yes"), exit::DONE);
        assert_eq!(report["evidence"][0]["answer"], "3,000 rows, as captured", "{report}");
        assert_eq!(report["verdict"], "healthy", "{report}");
        assert!(report["safety"].is_string(), "{report}");
    }
    let middle = looks(&app);
    assert_ne!(middle, good, "no other table was touched");
    assert_eq!(middle.matches("3000").count(), 2, "{middle}");
    for table in ["db:db/visits", "db:sql/visits"] {
        restore(&app, &format!("good --only {table} --yes"), exit::DONE);
    }
    assert_eq!((looks(&app), started(&app)), (good, ran), "nothing was stopped, and no trigger has acted");

    // What comes to nothing is recorded too.
    app.compose(&["stop", "sql"]);
    patiently(&app, "restore good --only db:sql/people --yes", exit::FAILED);
    let entry = app.sandbox.json("log --last")["entries"][0].clone();
    assert_eq!((&entry["action"], &entry["ending"]), (&"restore".into(), &"failed".into()), "{entry}");
    assert!(entry["message"].to_string().contains("does not run"), "{entry}");
}
