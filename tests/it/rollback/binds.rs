//! What lies in folders of the host: databases that stood still for the capture, and files that came since.

use super::databases::{mariadb, psql, temporary, until};
use super::{application, looks, patiently, restore, snapshot, staged};
use crate::application::App;
use crate::need::{docker, images, need, root};
use crate::snap::exit;

const SERVERS: &str = "services:
  db:
    image: snap-test/postgres:15
    environment: {POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: /run/secrets/pw, POSTGRES_DB: shop}
    secrets: [pw]
    volumes: ['./pgdata:/var/lib/postgresql/data']
    stop_grace_period: 30s
  sql:
    image: snap-test/mariadb:10.11
    environment: {MARIADB_ROOT_PASSWORD: rootpassword, MARIADB_DATABASE: shop}
    volumes: ['../outside-mydata:/var/lib/mysql']
    stop_grace_period: 30s
secrets: {pw: {file: ./pw.txt}}
";

#[test]
fn the_files_of_a_stopped_server_come_back_from_folders_of_the_host_as_from_volumes() {
    need!(root(), docker(), images());
    let app = App::new("roll-cold-binds", SERVERS);
    app.write("pw.txt", "canary-whole-42\n");
    app.up();
    psql(&app, "CREATE TABLE goods(id int); INSERT INTO goods SELECT generate_series(1, 500)");
    mariadb(&app, "CREATE TABLE t(id int PRIMARY KEY) ENGINE=InnoDB; INSERT INTO t SELECT seq FROM seq_1_to_300");
    app.sandbox.init();
    let create = format!("create {} --tag good --stop --only files --only database", app.dir.display());
    patiently(&app, &create, exit::DONE);
    let sources = app.sandbox.json("show good")["manifest"]["sources"].clone();
    for source in sources.as_array().expect("a list").iter().filter(|source| source["kind"] == "database") {
        assert_eq!(source["detail"]["authority"], "volume", "{source}");
    }

    let spoil = || {
        psql(&app, "DROP TABLE goods; CREATE TABLE later(id int); INSERT INTO later SELECT generate_series(1, 50000)");
        mariadb(&app, "DELETE FROM t WHERE id > 7; CREATE TABLE later(id int) ENGINE=InnoDB");
    };
    let is_good = || {
        assert_eq!(psql(&app, "SELECT count(*) FROM goods; SELECT to_regclass('later') IS NULL"), "500\nt\n");
        assert_eq!(mariadb(&app, "SELECT COUNT(*) FROM t; SHOW TABLES"), "300\nt\n");
    };
    spoil();
    let plan = restore(&app, "good --plan", exit::DONE);
    assert!(!plan["changes"].to_string().contains("loaded anew"), "the same is done twice: {plan}");
    let report = restore(&app, "good --yes", exit::DONE);
    assert_eq!(report["verdict"], "healthy", "{report}");
    is_good();
    // A file of a table that the snapshot does not have would be in the way of the next one of that name.
    let later = app.dir.parent().expect("a folder").join("outside-mydata/shop/later.ibd");
    assert!(!later.exists(), "{}", later.display());

    // The database alone is those files too.
    spoil();
    restore(&app, "good --only db:db --yes", exit::DONE);
    restore(&app, "good --only db:sql --yes", exit::DONE);
    is_good();
    assert_eq!(temporary(&app), "");

    // What was captured while it ran comes back from its dump, and the folder is not changed a second time.
    let create = format!("create {} --tag dumps --only files --only database", app.dir.display());
    patiently(&app, &create, exit::DONE);
    spoil();
    until(&app, "db", "pg_isready -U app -d shop");
    restore(&app, "dumps --yes --exact", exit::DONE);
    is_good();
    assert_eq!(super::staged_beside(&app), Vec::<String>::new());
}

#[test]
fn what_came_since_stays_and_is_named_or_goes_aside_where_that_is_asked_for() {
    need!(root(), docker());
    let app = application("exact");
    app.write(".snapignore", "*.cache\n");
    snapshot(&app, "good");
    let good = looks(&app);
    app.write("conf/broken.conf", "no = yes\n");
    app.write("extra/deep/file", "x");
    app.write("left.cache", "x");
    let plan = restore(&app, "good --plan", exit::DONE)["changes"].to_string();
    for wanted in ["stays: 2 ", "conf/broken.conf", "extra", "--exact"] {
        assert!(plan.contains(wanted), "no {wanted} in {plan}");
    }
    assert!(!plan.contains("left.cache") && !plan.contains("deep"), "{plan}");
    let report = restore(&app, "good --yes", exit::DONE);
    assert!(report["changes"].to_string().contains("conf/broken.conf"), "{report}");
    assert!(app.dir.join("conf/broken.conf").exists());

    let plan = restore(&app, "good --plan --exact", exit::DONE)["changes"].to_string();
    assert!(plan.contains("goes aside: ") && plan.contains("conf/broken.conf") && !plan.contains("stays:"), "{plan}");
    // A part exactly: that part alone.
    restore(&app, "good --only file:conf --exact --yes", exit::DONE);
    assert!(!app.dir.join("conf/broken.conf").exists() && app.dir.join("extra/deep/file").exists());
    restore(&app, "good --exact --yes", exit::DONE);
    assert!(!app.dir.join("extra").exists());
    assert_eq!(std::fs::read_to_string(app.dir.join("left.cache")).expect("what is left out by rule"), "x");
    std::fs::remove_file(app.dir.join("left.cache")).expect("a file");
    assert_eq!(looks(&app), good);
    assert_eq!(staged(&app), Vec::<String>::new());
}

#[test]
fn what_went_aside_comes_back_where_the_new_state_does_not_prove_itself() {
    need!(root(), docker());
    let app = application("exact-back");
    app.write(".env", "GREETING=a state that was never healthy\n");
    app.up();
    snapshot(&app, "bad");
    app.write(".env", "GREETING=hello again\n");
    app.write("conf/new.conf", "new = yes\n");
    app.write("extra/deep/file", "x");
    app.up();
    let before = looks(&app);
    restore(&app, "bad --exact --yes", 6);
    assert_eq!(looks(&app), before);
    assert_eq!(staged(&app), Vec::<String>::new());
}
