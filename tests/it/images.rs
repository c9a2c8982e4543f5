//! The images that `fixtures/images/build` makes behave as the official ones do: what is tested on them
//! holds there too.

use super::need::{images, need};
use std::process::Command;
use std::time::{Duration, Instant};

/// A container that is removed with its anonymous volumes.
struct Container(String);

impl Container {
    fn run(name: &str, args: &[&str]) -> Self {
        let name = format!("snap-it-images-{name}-{}", std::process::id());
        let mut all = vec!["run", "-d", "--name", &name, "--network", "none"];
        all.extend(args);
        docker(&all).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self(name)
    }

    /// What `command` prints in the container, once it succeeds.
    fn eventually(&self, command: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let mut all = vec!["exec", &self.0];
            all.extend(command);
            match docker(&all) {
                Ok(text) => return text,
                Err(error) if began.elapsed() > Duration::from_secs(90) => panic!("{}: {error}", self.0),
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "-f", format, &self.0]).expect("a container")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", "-v", &self.0]);
    }
}

fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn the_images_of_servers_behave_as_the_official_ones() {
    need!(images());
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("password"), "from a file\n").expect("a file");
    std::fs::write(folder.path().join("init.sql"), "CREATE TABLE made_at_first (n int);").expect("a file");
    let mount = |file: &str, at: &str| format!("{}/{file}:{at}:ro", folder.path().display());
    let (secret, init) =
        (mount("password", "/run/secrets/password"), mount("init.sql", "/docker-entrypoint-initdb.d/a.sql"));

    let postgres = Container::run(
        "postgres",
        &[
            "-v",
            &secret,
            "-v",
            &init,
            "-e",
            "POSTGRES_PASSWORD_FILE=/run/secrets/password",
            "-e",
            "POSTGRES_USER=app",
            "-e",
            "POSTGRES_DB=shop",
            "snap-test/postgres:15",
        ],
    );
    let mariadb = Container::run(
        "mariadb",
        &[
            "-v",
            &secret,
            "-v",
            &init,
            "-e",
            "MARIADB_ROOT_PASSWORD_FILE=/run/secrets/password",
            "-e",
            "MYSQL_DATABASE=shop",
            "-e",
            "MARIADB_USER=app",
            "-e",
            "MYSQL_PASSWORD=plain",
            "snap-test/mariadb:10.11",
        ],
    );
    let redis = Container::run("redis", &["snap-test/redis:7", "--appendonly", "yes"]);

    // Over TCP, where the entrypoint's first server does not listen.
    let query = "PGPASSWORD='from a file' psql -h 127.0.0.1 -U app -d shop -tAc 'SELECT count(*) FROM made_at_first'";
    assert_eq!(postgres.eventually(&["sh", "-c", query]), "0");
    let query = "MYSQL_PWD=plain mariadb -h 127.0.0.1 -u app shop -Ne 'SELECT count(*) FROM made_at_first'";
    assert_eq!(mariadb.eventually(&["sh", "-c", query]), "0");
    assert_eq!(redis.eventually(&["redis-cli", "config", "get", "appendonly"]), "appendonly\nyes");

    let volumes = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Destination}}{{end}}{{end}}";
    let places = [
        (&postgres, "/var/lib/postgresql/data", "5432"),
        (&mariadb, "/var/lib/mysql", "3306"),
        (&redis, "/data", "6379"),
    ];
    for (container, data, port) in places {
        assert_eq!(container.inspect(volumes), data);
        assert!(container.inspect("{{json .Config.ExposedPorts}}").contains(&format!("{port}/tcp")));
        assert_eq!(container.eventually(&["stat", "-c", "%u", "/proc/1"]), "999", "the server is not root");
    }
}
