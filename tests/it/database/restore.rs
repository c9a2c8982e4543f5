//! Dumps into servers of their own: what comes back is what was there.

use super::harness::{Server, Store, docker, fails_with};
use super::{mariadb, postgresql};
use crate::need::{images, need};
use snap::docker::Engine;
use snap::monitor::Quiet;
use snap::repo::manifest::{Detail, SourceEntry};
use snap::stack::source::database::restore::{Fresh, load_fresh};
use snap::stack::source::database::{Error, Settings};

/// A volume that is removed at the end.
struct Volume(String);

impl Volume {
    fn new(name: &str) -> Self {
        let name = format!("snap-it-db-{name}-{}", std::process::id());
        docker(&["volume", "create", &name]).expect("a volume");
        Self(name)
    }

    fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.0)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _gone = docker(&["volume", "rm", "-f", &self.0]);
    }
}

fn fresh(volume: &Volume, image: &str, path: &str, env: &[&str]) -> Fresh {
    Fresh {
        name: format!("{}-fresh", volume.0),
        image: image.to_owned(),
        env: env.iter().map(|pair| (*pair).to_owned()).collect(),
        binds: vec![volume.at(path)],
        ..Fresh::default()
    }
}

fn load(store: &Store, source: &SourceEntry, fresh: &Fresh) -> Result<u64, Error> {
    let loaded =
        load_fresh(&Engine::from_env().expect("an engine"), &store.repository, source, fresh, &Quiet::default());
    assert!(docker(&["inspect", &fresh.name]).is_err(), "the temporary container is gone on every way out");
    loaded
}

/// The manifest says one row more than there is.
fn with_a_row_more(source: &SourceEntry) -> SourceEntry {
    let mut source = source.clone();
    if let Some(Detail::Database(detail)) = &mut source.detail {
        let table = detail.dumps.iter_mut().flat_map(|dump| &mut dump.tables).find(|table| table.rows > 0);
        table.expect("a table").rows += 1;
    }
    source
}

#[test]
fn a_postgresql_server_comes_back_in_an_empty_folder() {
    need!(images());
    let server = postgresql::server(postgresql::PASSWORD);
    postgresql::sql(&server, postgresql::SEED);
    let questions = "SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u;
        SELECT md5(string_agg(w::text, ',')) FROM \"Weird \"\"name; x\" w; SELECT count(*), sum(v) FROM other.parts;
        SELECT has_table_privilege('reader', 'names', 'SELECT'), has_table_privilege('limited', 'users', 'SELECT');
        SELECT rolname, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1; SELECT md5(tricky());
        SELECT last_value, is_called FROM counter; SELECT last_value FROM users_id_seq;
        SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata;
        SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate FROM pg_database ORDER BY 1";
    let before = postgresql::sql(&server, questions);
    let store = Store::new();
    let source = store.capture(&server, &Settings::default()).expect("a capture").source;
    drop(server);

    let env = ["POSTGRES_PASSWORD=rootpassword", "POSTGRES_USER=app", "POSTGRES_DB=clinic"];
    let data = "/var/lib/postgresql/data";
    let bad = Volume::new("pg-bad");
    let fresh_bad = fresh(&bad, "snap-test/postgres:15", data, &env);
    fails_with(load(&store, &with_a_row_more(&source), &fresh_bad), &["rows after loading, and had"]);

    // One that an interrupted run has left is in nobody's way.
    let volume = Volume::new("pg");
    let fresh = fresh(&volume, "snap-test/postgres:15", data, &env);
    docker(&["run", "-d", "--name", &fresh.name, "snap-test/python", "sleep", "1000"]).expect("a container");
    assert_eq!(load(&store, &source, &fresh).expect("a load"), 1532);
    let args = ["-v", &volume.at(data), "-e", env[0], "-e", env[1], "-e", env[2], "snap-test/postgres:15"];
    let back = Server::start("pg-back", &args);
    back.until(postgresql::READY);
    assert_eq!(postgresql::sql(&back, questions), before);
}

#[test]
fn a_mariadb_server_comes_back_in_an_empty_folder() {
    need!(images());
    let server = mariadb::server(mariadb::PASSWORD);
    mariadb::sql(&server, mariadb::SEED);
    let questions = "SELECT MD5(GROUP_CONCAT(CONCAT_WS('|', id, name, note, HEX(photo)) ORDER BY id)) FROM users;
        SELECT a, b FROM gen ORDER BY a; SELECT COUNT(*) FROM names; CALL hello(); SELECT COUNT(*) FROM `none``x`;
        SHOW TRIGGERS; SELECT event_name, event_definition FROM information_schema.events;
        SHOW GRANTS FOR reader@'%'; SHOW GRANTS FOR auditor; SHOW GRANTS FOR root@localhost;
        SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'shop';
        SELECT auto_increment FROM information_schema.tables WHERE table_name = 'users'";
    // A trigger is shown with the moment at which it was made; the image itself grants root to stand in for others.
    let ask = |server: &Server| {
        let text = mariadb::sql(server, &format!("SET SESSION group_concat_max_len = 100000000; {questions}"));
        let untimed = text
            .lines()
            .filter(|line| !line.starts_with("stamp\t") && !line.contains("GRANT PROXY"))
            .collect::<Vec<_>>()
            .join("\n");
        (untimed, text.contains("stamp\tINSERT\tgen"))
    };
    let before = ask(&server);
    assert!(before.1);
    let store = Store::new();
    let source = store.capture(&server, &Settings::default()).expect("a capture").source;
    drop(server);

    let env = ["MARIADB_ROOT_PASSWORD=rootpassword", "MARIADB_DATABASE=shop", "MYSQL_USER=app", "MYSQL_PASSWORD=plain"];
    let data = "/var/lib/mysql";
    let bad = Volume::new("my-bad");
    let fresh_bad = fresh(&bad, "snap-test/mariadb:10.11", data, &env);
    fails_with(load(&store, &with_a_row_more(&source), &fresh_bad), &["rows after loading, and had"]);

    let volume = Volume::new("my");
    assert_eq!(load(&store, &source, &fresh(&volume, "snap-test/mariadb:10.11", data, &env)).expect("a load"), 3002);
    let args = ["-v", &volume.at(data), "-e", env[0], "-e", env[1], "snap-test/mariadb:10.11"];
    let back = Server::start("my-back", &args);
    back.until("MYSQL_PWD=plain mariadb -h 127.0.0.1 -u app shop -e 'SELECT 1'");
    assert_eq!(ask(&back), before);
}

#[test]
fn redis_comes_back_whether_it_keeps_a_log_or_not() {
    need!(images());
    for log in ["no", "yes"] {
        let server = Server::start("redis-src", &["snap-test/redis:7", "--appendonly", log]);
        server.until("redis-cli PING | grep PONG");
        server.sh(
            "for i in $(seq 1 50); do echo SET key$i value$i; done | redis-cli >/dev/null; redis-cli HSET h a 1 b 2",
        );
        let store = Store::new();
        let source = store.capture(&server, &Settings::default()).expect("a capture").source;
        drop(server);
        let volume = Volume::new(&format!("redis-{log}"));
        let mut fresh = fresh(&volume, "snap-test/redis:7", "/data", &[]);
        fresh.command = ["redis-server", "--appendonly", log].map(str::to_owned).to_vec();
        assert_eq!(load(&store, &source, &fresh).expect("a load"), 51);
        let args = ["-v", &volume.at("/data"), "snap-test/redis:7", "--appendonly", log];
        let back = Server::start("redis-back", &args);
        back.until("redis-cli PING | grep PONG");
        assert_eq!(
            back.sh("redis-cli DBSIZE; redis-cli GET key50; redis-cli HGET h b"),
            "51\nvalue50\n2",
            "log: {log}"
        );
    }
}
