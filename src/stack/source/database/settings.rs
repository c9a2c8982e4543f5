//! What a person says about a database, by labels of its service or in `snap.toml`.

use std::collections::BTreeMap;

/// Said of one service; nothing is needed for the official images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `snap.database`: `postgresql`, `mariadb`, `mysql`, `redis`, or `none`.
    pub database: Option<String>,
    /// `snap.database.user`: who dumps.
    pub user: Option<String>,
    /// `snap.database.password-env`: the variable of the container that holds the password.
    pub password_env: Option<String>,
    /// `snap.database.password-file`: the file in the container that holds the password.
    pub password_file: Option<String>,
    /// `snap.dump`: a command in the container whose output is the dump.
    pub dump: Option<String>,
    /// `snap.restore`: the command that takes it back from its input.
    pub restore: Option<String>,
}

impl Settings {
    /// What the labels of a container say.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let said = |name: &str| labels.get(name).filter(|value| !value.trim().is_empty()).cloned();
        Self {
            database: said("snap.database").map(|word| word.trim().to_lowercase()),
            user: said("snap.database.user"),
            password_env: said("snap.database.password-env"),
            password_file: said("snap.database.password-file"),
            dump: said("snap.dump"),
            restore: said("snap.restore"),
        }
    }

    /// These, and where they say nothing the `other` ones.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            database: self.database.or(other.database),
            user: self.user.or(other.user),
            password_env: self.password_env.or(other.password_env),
            password_file: self.password_file.or(other.password_file),
            dump: self.dump.or(other.dump),
            restore: self.restore.or(other.restore),
        }
    }
}
