//! The containers of a project as the health gate asks them, through the engine.

use crate::docker::{Container, ContainerSummary, Engine, ExecSpec, Health, Status};
use crate::monitor::Quiet;
use crate::repo::manifest::DatabaseDetail;
use crate::stack::application::observe::{ONE_OFF, PROJECT, SERVICE};
use crate::stack::health::{ContainerHealth, ContainerState, Containers, Executed};
use crate::stack::source::database::{self, Counts, Settings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The containers of a service of a project, or of all, as the engine lists them.
///
/// # Errors
/// The engine does not answer.
pub(super) fn listed(
    engine: &Engine,
    project: &str,
    service: Option<&str>,
) -> crate::docker::Result<Vec<ContainerSummary>> {
    let mut labels = vec![format!("{PROJECT}={project}")];
    labels.extend(service.map(|service| format!("{SERVICE}={service}")));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    engine.containers(&labels)
}

/// A project's containers.
pub struct Probes {
    /// The engine.
    pub engine: Engine,
    /// The project's name.
    pub project: String,
    /// What settings say of services, as labels.
    pub settings: BTreeMap<String, BTreeMap<String, String>>,
}

impl Probes {
    /// The containers of a service, or of all, without those of `run`.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn containers(&self, service: Option<&str>) -> crate::docker::Result<Vec<Container>> {
        let mut out = Vec::new();
        for found in listed(&self.engine, &self.project, service)? {
            if found.labels.get(ONE_OFF).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
                continue;
            }
            match self.engine.container(&found.id) {
                Ok(container) => out.push(container),
                // It has gone since.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    fn running(&self, service: &str) -> Result<Container, String> {
        let found = self.containers(Some(service)).map_err(|error| error.to_string())?;
        found
            .into_iter()
            .find(|container| container.state.status == Status::Running)
            .ok_or_else(|| "none of its containers runs".to_owned())
    }

    fn output(&self, service: &str, spec: &mut ExecSpec, limit: Duration) -> Result<(i64, Vec<u8>), String> {
        let container = self.running(service)?;
        spec.limit = Some(limit);
        let ended = self.engine.run(&container.id, spec, None, &Quiet::default()).map_err(|error| error.to_string())?;
        Ok((ended.exit_code, ended.stdout))
    }
}

impl Containers for Probes {
    fn states(&self, service: &str) -> Result<Vec<ContainerState>, String> {
        let found = self.containers(Some(service)).map_err(|error| error.to_string())?;
        let state = |container: Container| ContainerState {
            running: container.state.status == Status::Running,
            health: container.state.health.and_then(|health| match health {
                Health::Starting => Some(ContainerHealth::Starting),
                Health::Healthy => Some(ContainerHealth::Healthy),
                Health::Unhealthy => Some(ContainerHealth::Unhealthy),
                Health::None => None,
            }),
            restarts: container.restart_count,
            exit_code: (!container.state.is_up()).then_some(container.state.exit_code),
            started: container.state.started_at,
            id: container.id,
        };
        Ok(found.into_iter().map(state).collect())
    }

    fn address(&self, service: &str) -> Result<IpAddr, String> {
        let container = self.running(service)?;
        let host = container.host_config.0["NetworkMode"].as_str() == Some("host");
        if host {
            return Ok(IpAddr::from([127, 0, 0, 1]));
        }
        let addresses = container.networks.values().filter_map(|network| network.ip_address.parse().ok());
        addresses.into_iter().next().ok_or_else(|| "its container has no address here".to_owned())
    }

    fn execute(&self, service: &str, command: &[String], limit: Duration) -> Result<Executed, String> {
        let mut spec = ExecSpec::new(command.to_vec());
        let (code, output) = self.output(service, &mut spec, limit)?;
        Ok(Executed { code, output: String::from_utf8_lossy(&output).into_owned() })
    }

    fn query(&self, service: &str, database: Option<&str>, query: &str, limit: Duration) -> Result<String, String> {
        let container = self.running(service)?;
        // The query and the password reach the client by its environment: neither is in an argument.
        let has = |name: &str| container.env.iter().any(|(known, _)| known.starts_with(name));
        let script = if has("POSTGRES_") || has("PGDATA") {
            POSTGRESQL
        } else if has("MARIADB_") || has("MYSQL_") {
            MARIADB
        } else {
            return Err("it is no database that is known here".to_owned());
        };
        let mut spec = ExecSpec::new(["sh", "-c", script]);
        spec.env = vec![
            ("SNAP_QUERY".to_owned(), query.to_owned()),
            ("SNAP_DATABASE".to_owned(), database.unwrap_or_default().to_owned()),
        ];
        let (code, output) = self.output(service, &mut spec, limit)?;
        if code != 0 {
            return Err(format!("the database's client ended with {code}"));
        }
        let text = String::from_utf8_lossy(&output).into_owned();
        Ok(text.lines().next().and_then(|line| line.split('\t').next()).unwrap_or_default().to_owned())
    }

    fn counts(&self, service: &str, detail: &DatabaseDetail) -> Result<Counts, String> {
        let container = self.running(service)?;
        let said = self.settings.get(service).map(Settings::from_labels).unwrap_or_default();
        let settings = Settings {
            database: Some(detail.engine.clone()),
            dump: None,
            ..said.or(Settings::from_labels(&container.labels))
        };
        let database = database::find(&container, &settings)?.ok_or("it is no database that is known here")?;
        database::count(&self.engine, &container.id, &database, detail, &Quiet::default())
            .map_err(|error| error.to_string())
    }

    fn has_file(&self, service: &str, path: &str) -> Result<bool, String> {
        let container = self.running(service)?;
        match self.engine.read_archive(&container.id, path, &Quiet::default()) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}

const POSTGRESQL: &str = r#"user="${POSTGRES_USER:-postgres}"
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then PGPASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"; else PGPASSWORD="${POSTGRES_PASSWORD:-}"; fi
export PGPASSWORD
printf '%s\n' "$SNAP_QUERY" | exec psql -X -q -A -t -F "$(printf '\t')" -v ON_ERROR_STOP=1 -U "$user" -d "${SNAP_DATABASE:-${POSTGRES_DB:-$user}}""#;

const MARIADB: &str = r#"password="${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}"
file="${MARIADB_ROOT_PASSWORD_FILE:-${MYSQL_ROOT_PASSWORD_FILE:-}}"
if [ -n "$file" ]; then password="$(cat "$file")"; fi
user=root
if [ -z "$password" ]; then
  user="${MARIADB_USER:-${MYSQL_USER:-root}}"; password="${MARIADB_PASSWORD:-${MYSQL_PASSWORD:-}}"
  file="${MARIADB_PASSWORD_FILE:-${MYSQL_PASSWORD_FILE:-}}"
  if [ -n "$file" ]; then password="$(cat "$file")"; fi
fi
MYSQL_PWD="$password"; export MYSQL_PWD
client=mariadb; command -v mariadb >/dev/null 2>&1 || client=mysql
printf '%s\n' "$SNAP_QUERY" | exec "$client" -N -B -u "$user" ${SNAP_DATABASE:+"$SNAP_DATABASE"}"#;
