//! What `status` knows, for Prometheus: a file for the textfile collector of the node exporter.
//!
//! Every line names the repository, so that several files can lie in one folder. Moments are given as seconds
//! since 1970 and not as ages, so that a file that is no longer written shows it.

use super::status::{Advice, StatusReport, seconds_of};
use super::{Error, Result};
use crate::fs::write_replacing;
use std::fmt::Write as _;
use std::path::Path;

/// Other users read it: the exporter has one of its own. It holds no secret.
const MODE: u32 = 0o644;

/// Writes `report`, which is of the moment `now` (seconds since 1970), as `file`; a reader sees the old file or
/// the new one, whole.
///
/// # Errors
/// It cannot be written.
pub fn write(report: &StatusReport, now: i64, file: &Path) -> Result<()> {
    write_replacing(file, metrics(report, now).as_bytes(), MODE).map_err(|source| Error::Path {
        operation: "write",
        path: file.to_path_buf(),
        source,
    })
}

/// The families, each once with all its lines.
struct Families<'a> {
    out: String,
    repository: &'a str,
}

/// Names and values of labels.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Families<'_> {
    fn gauge<'a>(&mut self, name: &str, help: &str, lines: impl Iterator<Item = (Labels<'a>, Option<f64>)>) {
        // What is not known has no line, and a family without lines is left out.
        let lines: Vec<(Labels<'a>, f64)> = lines.filter_map(|(labels, value)| Some((labels, value?))).collect();
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(self.out, "# HELP snap_{name} {help}\n# TYPE snap_{name} gauge");
        for (labels, value) in lines {
            let mut text = format!("repository=\"{}\"", escaped(self.repository));
            for (label, value) in labels {
                let _ = write!(text, ",{label}=\"{}\"", escaped(value));
            }
            let _ = writeln!(self.out, "snap_{name}{{{text}}} {value}");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.gauge(name, help, std::iter::once((Vec::new(), value)));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(value: Option<i64>) -> Option<f64> {
    value.map(|seconds| seconds as f64)
}

fn metrics(report: &StatusReport, now: i64) -> String {
    let mut families = Families { out: String::new(), repository: &report.repository };
    families.one("status_timestamp_seconds", "When this was written.", Some(now as f64));
    families.one("repository_stored_bytes", "Bytes in the repository's packs.", Some(report.stored_bytes as f64));
    families.one("repository_packs", "Packs in the repository.", Some(report.packs as f64));
    of_stacks(&mut families, report);
    let damage = report.last_check.map(|_| f64::from(u8::from(report.last_check_found_damage)));
    families.one("check_timestamp_seconds", "When a check last ended on this machine.", seconds(report.last_check));
    families.one("check_found_damage", "1 if that check found damage, else 0.", damage);
    families.one("check_read_ratio", "Share of the packs' bytes that checks here have read.", Some(report.share_read));
    let oldest = report.oldest_reading_seconds.map(|age| now - age);
    families.one("check_oldest_reading_timestamp_seconds", "The oldest reading among them.", seconds(oldest));
    of_replicas(&mut families, report);
    let runs = || report.runs.iter();
    let label = |run: &'_ super::runs::Run| -> (String, String) { (run.command.clone(), run.subject.clone()) };
    let labels: Vec<(String, String)> = runs().map(label).collect();
    let labelled = |value: &dyn Fn(&super::runs::Run) -> Option<f64>| {
        let values: Vec<Option<f64>> = runs().map(value).collect();
        let named = labels.iter().map(|(command, subject)| vec![("command", command.as_str()), ("subject", subject)]);
        named.zip(values).collect::<Vec<_>>().into_iter()
    };
    let ended = labelled(&|run| Some(run.at as f64));
    families.gauge("run_timestamp_seconds", "When the command last ended on this machine.", ended);
    let good = labelled(&|run| seconds(run.last_good));
    families.gauge("run_success_timestamp_seconds", "When it last ended with code 0.", good);
    families.gauge("run_exit_code", "Its last exit code.", labelled(&|run| Some(f64::from(run.exit_code))));
    families.gauge("run_duration_seconds", "How long it last took.", labelled(&|run| Some(run.seconds as f64)));
    let count = |urgent: bool| report.advice.iter().filter(|one: &&Advice| one.urgent == urgent).count() as f64;
    let both = [("true", count(true)), ("false", count(false))];
    let both = both.into_iter().map(|(urgent, count)| (vec![("urgent", urgent)], Some(count)));
    families.gauge("advice", "Things to see to: snap status says which.", both);
    families.out
}

fn of_stacks(families: &mut Families<'_>, report: &StatusReport) {
    let mut each = |name: &str, help: &str, value: &dyn Fn(&super::status::StackStatus) -> Option<f64>| {
        let lines =
            report.stacks.iter().map(|one| (vec![("stack", one.stack.as_str()), ("host", &one.host)], value(one)));
        families.gauge(name, help, lines);
    };
    each("snapshots", "Snapshots that are kept.", &|one| Some(one.snapshots as f64));
    each("snapshots_content_bytes", "Bytes of content in them together.", &|one| Some(one.bytes as f64));
    each("snapshots_stored_bytes", "Bytes of the packs that they need.", &|one| Some(one.stored_bytes as f64));
    each("newest_complete_timestamp_seconds", "When the newest complete snapshot was made.", &|one| {
        seconds(one.newest_complete_time.as_deref().and_then(seconds_of))
    });
    each("newest_is_incomplete", "1 if a later one is incomplete, else 0.", &|one| {
        Some(f64::from(u8::from(one.newest_is_incomplete)))
    });
    each("restore_success_timestamp_seconds", "When it was last restored on this machine.", &|one| {
        seconds(one.last_restore)
    });
}

fn of_replicas(families: &mut Families<'_>, report: &StatusReport) {
    let mut each = |name: &str, help: &str, value: &dyn Fn(&super::status::ReplicaStatus) -> Option<f64>| {
        let lines = report.replicas.iter().map(|one| (vec![("replica", one.name.as_str())], value(one)));
        families.gauge(name, help, lines);
    };
    each("replica_timestamp_seconds", "When a replication last ended on this machine.", &|one| Some(one.at as f64));
    each("replica_behind_snapshots", "Snapshots that the replica does not have.", &|one| Some(one.behind as f64));
    each("replica_newest_timestamp_seconds", "When the newest snapshot that it has was made.", &|one| {
        seconds(one.newest_there.as_deref().and_then(seconds_of))
    });
    each("replica_verified_timestamp_seconds", "When what was copied was last read back.", &|one| {
        seconds(one.verified)
    });
}
