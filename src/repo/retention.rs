//! Which snapshots a policy keeps, and why: pure, so that it can be tested for every case.
//!
//! The snapshots of one lineage come oldest first, in the order of their chain. Clocks never decide
//! which of two is newer; a time only says to which hour, day, week, month or year a snapshot belongs.
//!
//! - What is incomplete never counts: no rule that counts is satisfied by it. It stays while nothing
//!   complete is newer, and where its age or a tag keeps it.
//! - The newest complete snapshot of each hour (day, week, …) stands for it. `hourly: 24` keeps those
//!   of the newest 24 hours that have any.
//! - A time in the future counts as the present.
//! - The newest complete snapshot stays, whatever the policy says.
//!
//! What looks wrong holds the policy back until a person has looked: a snapshot that is less than half
//! as large as the complete one before it, one of another folder of the same name, one from the future,
//! one that is a day older than the one it follows. Otherwise an emptied folder, a broken clock or somebody who forges snapshots would push
//! out the good ones by and by.

use crate::id::SnapshotId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeSet, HashSet};

/// What to keep. A rule that is absent keeps nothing; a snapshot stays if any rule keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub keep_last: u32,
    /// One for each of the newest so many hours that have any.
    pub keep_hourly: u32,
    /// The same for days.
    pub keep_daily: u32,
    /// The same for weeks, from Monday on.
    pub keep_weekly: u32,
    /// The same for months.
    pub keep_monthly: u32,
    /// The same for years.
    pub keep_yearly: u32,
    /// All that are not older, in seconds.
    pub keep_within: u64,
    /// All that have one of these tags.
    pub keep_tag: Vec<String>,
}

impl Policy {
    /// True if it would keep nothing but the newest.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is to be known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: SnapshotId,
    /// When its capture began, by its host's clock.
    pub time: Timestamp,
    /// The folder that it is of, if its stack has its name from that.
    pub folder: Option<String>,
    /// Its labels.
    pub tags: Vec<String>,
    /// True if everything selected is in it.
    pub complete: bool,
    /// Bytes of content.
    pub bytes: u64,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for these reasons.
    Keep(Vec<String>),
    /// It can go, for this one.
    Drop(String),
}

impl Verdict {
    /// True if it stays.
    pub fn keeps(&self) -> bool {
        matches!(self, Verdict::Keep(_))
    }
}

/// Judges the snapshots of one lineage, oldest first. `zone` says where days begin.
pub fn judge(policy: &Policy, snapshots: &[Candidate], now: Timestamp, zone: &TimeZone) -> Vec<Verdict> {
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); snapshots.len()];
    let newest_complete = snapshots.iter().rposition(|s| s.complete);
    for (at, snapshot) in snapshots.iter().enumerate() {
        let mut say = |reason: &str| reasons[at].push(reason.to_owned());
        match newest_complete {
            Some(newest) if at == newest => say("the newest complete one"),
            Some(newest) if at > newest => say("nothing complete is newer"),
            None => say("there is no complete one"),
            Some(_) => {}
        }
        let age = now.duration_since(snapshot.time.min(now)).as_secs();
        if policy.keep_within > 0 && u64::try_from(age).unwrap_or(0) <= policy.keep_within {
            say("within the time to keep");
        }
        for tag in policy.keep_tag.iter().filter(|tag| snapshot.tags.contains(tag)) {
            say(&format!("tag {tag}"));
        }
    }
    for (count, name, bucket) in counted(policy) {
        let mut seen = HashSet::new();
        for (at, snapshot) in snapshots.iter().enumerate().rev().filter(|(_, s)| s.complete) {
            if seen.len() >= count as usize {
                break;
            }
            let key = match bucket {
                None => at.to_string(),
                Some(bucket) => bucket(snapshot.time.min(now), zone),
            };
            if seen.insert(key) {
                reasons[at].push(format!("{name} {} of {count}", seen.len()));
            }
        }
    }
    let verdict = |(snapshot, reasons): (&Candidate, Vec<String>)| match (reasons.is_empty(), snapshot.complete) {
        (false, _) => Verdict::Keep(reasons),
        (true, true) => Verdict::Drop("no rule keeps it".to_owned()),
        (true, false) => Verdict::Drop("it is incomplete, and a complete one is newer".to_owned()),
    };
    snapshots.iter().zip(reasons).map(verdict).collect()
}

type Bucket = fn(Timestamp, &TimeZone) -> String;

/// The rules that count: how many, their name, what makes two snapshots one.
fn counted(policy: &Policy) -> [(u32, &'static str, Option<Bucket>); 6] {
    [
        (policy.keep_last, "last", None),
        (policy.keep_hourly, "hourly", Some(hour)),
        (policy.keep_daily, "daily", Some(day)),
        (policy.keep_weekly, "weekly", Some(week)),
        (policy.keep_monthly, "monthly", Some(month)),
        (policy.keep_yearly, "yearly", Some(year)),
    ]
}

/// An hour that clocks show twice a year is two hours.
fn hour(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned_datetime(zone.clone());
    format!("{} {} {}", local.date(), local.hour(), local.offset())
}

fn day(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned_datetime(zone.clone()).date().to_string()
}

fn week(time: Timestamp, zone: &TimeZone) -> String {
    let week = time.to_zoned_datetime(zone.clone()).date().iso_week_date();
    format!("{} {}", week.year(), week.week())
}

fn month(time: Timestamp, zone: &TimeZone) -> String {
    let date = time.to_zoned_datetime(zone.clone()).date();
    format!("{} {}", date.year(), date.month())
}

fn year(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned_datetime(zone.clone()).date().year().to_string()
}

/// A clock may be wrong by so much, in seconds, before it looks broken.
const FUTURE_SECONDS_MAX: i64 = 3600;
/// A snapshot may be so much older, in seconds, than the one it follows.
const BACK_SECONDS_MAX: i64 = 86_400;

/// A snapshot that looks wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Which.
    pub id: SnapshotId,
    /// What is wrong.
    pub what: String,
}

/// Snapshots that look wrong and before which something is to go; `accepted` ones were looked at.
pub fn suspects(
    snapshots: &[Candidate],
    verdicts: &[Verdict],
    accepted: &BTreeSet<SnapshotId>,
    now: Timestamp,
) -> Vec<Suspect> {
    let Some(first_dropped) = verdicts.iter().position(|verdict| !verdict.keeps()) else { return Vec::new() };
    let mut out = Vec::new();
    let mut before: Option<&Candidate> = None;
    for (at, snapshot) in snapshots.iter().enumerate().filter(|(_, s)| s.complete) {
        let looked_at = at <= first_dropped || accepted.contains(&snapshot.id);
        if let Some(what) = oddity(snapshot, before, now).filter(|_| !looked_at) {
            out.push(Suspect { id: snapshot.id, what });
        }
        before = Some(snapshot);
    }
    out
}

fn oddity(snapshot: &Candidate, before: Option<&Candidate>, now: Timestamp) -> Option<String> {
    if snapshot.time.duration_since(now).as_secs() > FUTURE_SECONDS_MAX {
        return Some("it is from the future".to_owned());
    }
    let before = before?;
    if let (Some(now), Some(then)) = (&snapshot.folder, &before.folder)
        && now != then
    {
        return Some(format!("it is of {now}, and the one before it of {then}: two folders of one name are one stack"));
    }
    if snapshot.bytes < before.bytes / 2 {
        return Some(format!("it has {} bytes, and the one before it had {}", snapshot.bytes, before.bytes));
    }
    (before.time.duration_since(snapshot.time).as_secs() > BACK_SECONDS_MAX)
        .then(|| "its time is more than a day before that of the one it follows".to_owned())
}

#[cfg(test)]
mod tests;
