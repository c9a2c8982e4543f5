//! Which containers are databases, and how they are entered. Decided from what the engine says of the
//! container alone: the image's name, its environment, its ports and mounts.
//!
//! An image's name is enough only with a second sign beside it (a port, a variable or a data folder):
//! `postgres-exporter` is no server. Two signs without the name are enough too. A person's word counts
//! more than all of them.

use super::settings::Settings;
use crate::docker::{Container, Mount};
use std::path::{Path, PathBuf};

/// Label by which Compose names a container's service.
const SERVICE_LABEL: &str = "com.docker.compose.service";

/// The kinds of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// PostgreSQL, and what is built on it.
    Postgresql,
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
    /// Redis, Valkey.
    Redis,
    /// Any other, by the person's own commands.
    Program,
}

impl Kind {
    /// Its word, as in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mariadb => "mariadb",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::Program => "program",
        }
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "postgresql" | "postgres" => Some(Self::Postgresql),
            "mariadb" => Some(Self::Mariadb),
            "mysql" => Some(Self::Mysql),
            "redis" | "valkey" => Some(Self::Redis),
            "program" => Some(Self::Program),
            _ => None,
        }
    }

    /// Its name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::Mariadb => "MariaDB",
            Self::Mysql => "MySQL",
            Self::Redis => "Redis",
            Self::Program => "dump command",
        }
    }
}

/// Where a password is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// None is needed or known.
    None,
    /// Known from the container's environment or command.
    Known(String),
    /// In a file of the container.
    File(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Known(_) => f.write_str("Known(…)"),
            Self::File(path) => write!(f, "File({path})"),
        }
    }
}

/// A container's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Which kind.
    pub kind: Kind,
    /// The service, or the container's name if it has none.
    pub service: String,
    /// Who dumps; empty where there are no users.
    pub user: String,
    /// With which password.
    pub password: Password,
    /// A database that is there, to connect to first.
    pub first: String,
    /// The folder in the container in which the server keeps its data.
    pub data: PathBuf,
    /// The mounts that hold data: not to be copied while the server runs.
    pub mounts: Vec<Mount>,
    /// The person's own commands.
    pub dump: Option<String>,
    /// See `dump`.
    pub restore: Option<String>,
}

/// The database that runs in `container`, if it is one.
///
/// # Errors
/// The settings name a database that is not known.
pub fn find(container: &Container, settings: &Settings) -> Result<Option<Database>, String> {
    let kind = match settings.database.as_deref() {
        Some("none") => return Ok(None),
        Some(word) => {
            let known = "postgresql, mariadb, mysql, redis or none";
            Some(Kind::from_word(word).ok_or_else(|| format!("snap.database is {word:?}, and not {known}"))?)
        }
        None if settings.dump.is_some() => Some(Kind::Program),
        None => kind_of(container),
    };
    Ok(kind.map(|kind| described(container, kind, settings)))
}

fn kind_of(container: &Container) -> Option<Kind> {
    let base = image_name(&container.image);
    let named = |names: &[&str]| names.contains(&base);
    let has = |names: &[&str]| names.iter().any(|name| container.env.get(name).is_some());
    let port = |port: &str| container.exposed_ports.iter().any(|found| found == port);
    let data = |path: &str| container.mounts.iter().any(|mount| mount.destination.starts_with(path));
    let runs = |names: &[&str]| {
        let words = container.entrypoint.iter().chain(&container.cmd);
        words.filter_map(|word| Path::new(word).file_name()).any(|word| names.iter().any(|name| word == *name))
    };
    let enough = |signs: &[bool]| signs.iter().filter(|sign| **sign).count() >= 2;
    let postgresql = [
        named(&["postgres", "postgresql", "postgis", "timescaledb", "timescaledb-ha", "pgvector"]),
        has(&["PG_MAJOR", "PGDATA", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "POSTGRES_DB"]) && port("5432/tcp"),
        data("/var/lib/postgresql"),
        runs(&["postgres"]),
        port("5432/tcp") && runs(&["docker-entrypoint.sh"]),
    ];
    let is_mariadb = named(&["mariadb"]) || has(&["MARIADB_VERSION", "MARIADB_ROOT_PASSWORD"]) || runs(&["mariadbd"]);
    let mysql = [
        named(&["mariadb", "mysql", "percona", "mysql-server", "percona-server"]),
        has(&["MARIADB_VERSION", "MYSQL_MAJOR", "MYSQL_VERSION", "MYSQL_DATABASE", "MARIADB_DATABASE"])
            && port("3306/tcp"),
        data("/var/lib/mysql"),
        runs(&["mariadbd", "mysqld"]),
    ];
    let redis = [
        named(&["redis", "valkey", "redis-stack-server", "keydb"]),
        has(&["REDIS_VERSION", "VALKEY_VERSION"]),
        port("6379/tcp"),
        runs(&["redis-server", "valkey-server", "keydb-server"]),
    ];
    if enough(&postgresql) {
        Some(Kind::Postgresql)
    } else if enough(&mysql) {
        Some(if is_mariadb { Kind::Mariadb } else { Kind::Mysql })
    } else if enough(&redis) || runs(&["redis-server", "valkey-server", "keydb-server"]) {
        Some(Kind::Redis)
    } else {
        None
    }
}

/// The last part of an image's name, without tag and digest.
fn image_name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split(':').next().unwrap_or(last)
}

fn described(container: &Container, kind: Kind, settings: &Settings) -> Database {
    let service = container.labels.get(SERVICE_LABEL).unwrap_or(&container.name).clone();
    let (user, password, first) = entry(container, kind);
    let user = settings.user.clone().unwrap_or(user);
    let password = match (&settings.password_file, &settings.password_env) {
        (Some(path), _) => Password::File(path.clone()),
        (None, Some(name)) => container.env.get(name).map_or(Password::None, |value| Password::Known(value.to_owned())),
        (None, None) => password,
    };
    let (dump, restore) = (settings.dump.clone(), settings.restore.clone());
    let (data, mounts) = (PathBuf::new(), Vec::new());
    let mut database = Database { kind, service, user, password, first, data, mounts, dump, restore };
    database.keeps_data_in(container, data_folder(container, kind));
    database
}

impl Database {
    /// Says where in the container the server keeps its data.
    pub fn keeps_data_in(&mut self, container: &Container, data: PathBuf) {
        let holds = |mount: &&Mount| {
            let at = &mount.destination;
            self.kind != Kind::Program && (at.starts_with(&data) || data.starts_with(at)) && at != Path::new("/")
        };
        self.mounts = container.mounts.iter().filter(holds).cloned().collect();
        self.data = data;
    }

    /// The file in the container that may say where the server keeps its data, where the command does not. Servers
    /// other than Redis leave a mark in that folder as soon as they run; Redis may leave it empty for hours.
    pub fn config_file(&self, container: &Container) -> Option<PathBuf> {
        if self.kind != Kind::Redis || option(container, "--dir").is_some() {
            return None;
        }
        let words = container.entrypoint.iter().chain(&container.cmd);
        let file = words.rev().find(|word| word.ends_with(".conf")).map(PathBuf::from);
        file.filter(|file| file.is_absolute())
    }

    /// The folder that a configuration file of the server names.
    pub fn folder_in(config: &str) -> Option<PathBuf> {
        let value = |line: &str| {
            let (name, value) = line.trim().split_once(char::is_whitespace)?;
            let path = value.trim().trim_matches(['"', '\'']);
            (name.eq_ignore_ascii_case("dir") && path.starts_with('/')).then(|| PathBuf::from(path))
        };
        // The last one counts.
        config.lines().filter_map(value).next_back()
    }
}

fn data_folder(container: &Container, kind: Kind) -> PathBuf {
    match kind {
        Kind::Postgresql => container.env.get("PGDATA").unwrap_or("/var/lib/postgresql/data").into(),
        Kind::Mariadb | Kind::Mysql => option(container, "--datadir").unwrap_or_else(|| "/var/lib/mysql".into()).into(),
        Kind::Redis => option(container, "--dir").unwrap_or_else(|| "/data".into()).into(),
        Kind::Program => PathBuf::new(),
    }
}

/// Who enters, with which password, and where.
fn entry(container: &Container, kind: Kind) -> (String, Password, String) {
    let value = |name: &str| container.env.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let secret = |name: &str| match (value(name), value(&format!("{name}_FILE"))) {
        (Some(value), _) => Some(Password::Known(value)),
        (None, Some(path)) => Some(Password::File(path)),
        (None, None) => None,
    };
    let either = |name: &str| value(&format!("MARIADB_{name}")).or_else(|| value(&format!("MYSQL_{name}")));
    let either_secret = |name: &str| secret(&format!("MARIADB_{name}")).or_else(|| secret(&format!("MYSQL_{name}")));
    match kind {
        Kind::Postgresql => {
            let user = value("POSTGRES_USER").unwrap_or_else(|| "postgres".to_owned());
            let first = value("POSTGRES_DB").unwrap_or_else(|| user.clone());
            (user, secret("POSTGRES_PASSWORD").unwrap_or(Password::None), first)
        }
        Kind::Mariadb | Kind::Mysql => {
            let first = either("DATABASE").unwrap_or_default();
            match (either_secret("ROOT_PASSWORD"), either("USER")) {
                (Some(password), _) => ("root".to_owned(), password, first),
                (None, Some(user)) if either("ALLOW_EMPTY_ROOT_PASSWORD").is_none() => {
                    (user, either_secret("PASSWORD").unwrap_or(Password::None), first)
                }
                (None, _) => ("root".to_owned(), Password::None, first),
            }
        }
        Kind::Redis => {
            let said = option(container, "--requirepass").map(Password::Known);
            let password = said.or_else(|| secret("REDIS_PASSWORD")).or_else(|| secret("VALKEY_PASSWORD"));
            (String::new(), password.unwrap_or(Password::None), String::new())
        }
        Kind::Program => (String::new(), Password::None, String::new()),
    }
}

/// The value of an option of the container's command: `--name value` or `--name=value`.
fn option(container: &Container, name: &str) -> Option<String> {
    let words: Vec<&String> = container.entrypoint.iter().chain(&container.cmd).collect();
    words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name) {
        Some("") => words.get(at + 1).map(|value| (*value).clone()),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    })
}
