//! The policy against tables and against properties that must hold for all histories.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn candidate(number: usize, time: Timestamp) -> Candidate {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Candidate { id: SnapshotId(id), time, folder: None, tags: Vec::new(), complete: true, bytes: 1000 }
}

fn history(times: &[&str]) -> Vec<Candidate> {
    times.iter().enumerate().map(|(number, time)| candidate(number, at(time))).collect()
}

fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// The places of those that stay.
fn kept(policy: &Policy, snapshots: &[Candidate], now: &str, zone: &TimeZone) -> Vec<usize> {
    let verdicts = judge(policy, snapshots, at(now), zone);
    verdicts.iter().enumerate().filter(|(_, v)| v.keeps()).map(|(at, _)| at).collect()
}

#[test]
fn each_rule_keeps_the_newest_of_its_buckets() {
    let times = [
        "2024-12-31T10:00:00Z",
        "2025-06-01T10:00:00Z",
        "2025-12-29T10:00:00Z", // a Monday
        "2026-01-04T10:00:00Z", // the Sunday of the same week, in another year
        "2026-01-05T08:00:00Z",
        "2026-01-05T08:59:00Z",
        "2026-01-05T09:00:00Z",
    ];
    let table: [(Policy, &[usize]); 7] = [
        (Policy { keep_last: 2, ..Policy::default() }, &[5, 6]),
        (Policy { keep_hourly: 3, ..Policy::default() }, &[3, 5, 6]),
        (Policy { keep_daily: 2, ..Policy::default() }, &[3, 6]),
        (Policy { keep_weekly: 2, ..Policy::default() }, &[3, 6]),
        (Policy { keep_monthly: 2, ..Policy::default() }, &[2, 6]),
        (Policy { keep_yearly: 9, ..Policy::default() }, &[0, 2, 6]),
        (Policy { keep_within: 86_400, ..Policy::default() }, &[3, 4, 5, 6]),
    ];
    for (policy, expected) in table {
        let found = kept(&policy, &history(&times), "2026-01-05T09:30:00Z", &TimeZone::UTC);
        assert_eq!(found, expected, "{policy:?}");
    }
}

#[test]
fn an_hour_that_clocks_show_twice_is_two_and_a_skipped_one_is_none() {
    let hourly = Policy { keep_hourly: 9, ..Policy::default() };
    // 2026-10-25: 02:30 summer time, 02:30 winter time, 03:30.
    let autumn = history(&["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]);
    assert_eq!(kept(&hourly, &autumn, "2026-10-25T12:00:00Z", &berlin()), [0, 1, 2]);
    // 2026-03-29: 01:30, then 03:30: one hour apart.
    let spring = history(&["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]);
    assert_eq!(kept(&hourly, &spring, "2026-03-29T12:00:00Z", &berlin()), [0, 1]);
    // A day of 25 hours is one day.
    let daily = Policy { keep_daily: 1, ..Policy::default() };
    let day = history(&["2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z"]);
    assert_eq!(kept(&daily, &day, "2026-10-25T23:00:00Z", &berlin()), [1]);
    let two = Policy { keep_daily: 2, ..Policy::default() };
    assert_eq!(kept(&two, &day, "2026-10-25T23:00:00Z", &TimeZone::UTC), [0, 1]);
}

#[test]
fn of_two_at_the_same_moment_the_later_in_the_chain_stays() {
    let same = history(&["2026-01-05T08:00:00Z"; 3]);
    for policy in [Policy { keep_last: 1, ..Policy::default() }, Policy { keep_yearly: 5, ..Policy::default() }] {
        assert_eq!(kept(&policy, &same, "2026-01-05T08:00:00Z", &TimeZone::UTC), [2]);
    }
}

#[test]
fn the_chain_says_what_is_newer_whatever_the_clocks_said() {
    // The second host's clock was wrong by years, the third's by an hour.
    let odd = history(&["2026-01-05T08:00:00Z", "1970-01-01T00:00:00Z", "2026-01-05T07:00:00Z"]);
    let last = Policy { keep_last: 1, ..Policy::default() };
    assert_eq!(kept(&last, &odd, "2026-01-05T09:00:00Z", &TimeZone::UTC), [2]);
    let daily = Policy { keep_daily: 2, ..Policy::default() };
    assert_eq!(kept(&daily, &odd, "2026-01-05T09:00:00Z", &TimeZone::UTC), [1, 2]);
}

#[test]
fn the_future_is_now() {
    let future = history(&["2026-01-04T08:00:00Z", "2199-01-01T00:00:00Z", "2098-01-01T00:00:00Z"]);
    let policy = Policy { keep_daily: 2, ..Policy::default() };
    assert_eq!(kept(&policy, &future, "2026-01-05T09:00:00Z", &TimeZone::UTC), [0, 2]);
    let within = Policy { keep_within: 60, ..Policy::default() };
    assert_eq!(kept(&within, &future, "2026-01-05T09:00:00Z", &TimeZone::UTC), [1, 2]);
}

#[test]
fn what_is_incomplete_stands_for_nothing() {
    let mut days = history(&["2026-01-01T08:00:00Z", "2026-01-02T08:00:00Z", "2026-01-03T08:00:00Z"]);
    days[1].complete = false;
    let policy = Policy { keep_daily: 2, ..Policy::default() };
    assert_eq!(kept(&policy, &days, "2026-01-03T09:00:00Z", &TimeZone::UTC), [0, 2]);
    days[2].complete = false;
    let last = Policy { keep_last: 1, ..Policy::default() };
    assert_eq!(kept(&last, &days, "2026-01-03T09:00:00Z", &TimeZone::UTC), [0, 1, 2]);
    let verdicts = judge(&last, &days, at("2026-01-03T09:00:00Z"), &TimeZone::UTC);
    assert_eq!(verdicts[1], Verdict::Keep(vec!["nothing complete is newer".to_owned()]));
    assert_eq!(verdicts[0], Verdict::Keep(vec!["the newest complete one".to_owned(), "last 1 of 1".to_owned()]));
}

#[test]
fn a_tag_keeps_whatever_its_age() {
    let mut days = history(&["2020-01-01T08:00:00Z", "2026-01-02T08:00:00Z", "2026-01-03T08:00:00Z"]);
    days[0].tags = vec!["pre-2.4".to_owned()];
    let policy = Policy { keep_last: 1, keep_tag: vec!["pre-2.4".to_owned()], ..Policy::default() };
    assert_eq!(kept(&policy, &days, "2026-01-03T09:00:00Z", &TimeZone::UTC), [0, 2]);
}

fn suspicious(snapshots: &[Candidate], accepted: &BTreeSet<SnapshotId>) -> Vec<usize> {
    let now = at("2026-01-09T09:00:00Z");
    let verdicts = judge(&Policy { keep_last: 2, ..Policy::default() }, snapshots, now, &TimeZone::UTC);
    let found = suspects(snapshots, &verdicts, accepted, now);
    found.iter().map(|s| snapshots.iter().position(|c| c.id == s.id).unwrap()).collect()
}

#[test]
fn what_looks_wrong_is_shown_before_anything_goes() {
    let none = BTreeSet::new();
    let mut days =
        history(&["2026-01-01T08:00:00Z", "2026-01-02T08:00:00Z", "2026-01-03T08:00:00Z", "2026-01-04T08:00:00Z"]);
    assert_eq!(suspicious(&days, &none), [] as [usize; 0]);
    days[2].bytes = 499;
    days[3].bytes = 499;
    assert_eq!(suspicious(&days, &none), [2]);
    assert_eq!(suspicious(&days, &BTreeSet::from([days[2].id])), [] as [usize; 0]);
    days[3].bytes = 100;
    assert_eq!(suspicious(&days, &BTreeSet::from([days[2].id])), [3]);
    // An incomplete one is small for a reason that is known, and is not compared with.
    days[2].complete = false;
    days[3].bytes = 600;
    assert_eq!(suspicious(&days, &none), [] as [usize; 0]);
    days[3].time = at("2026-01-09T11:00:00Z");
    assert_eq!(suspicious(&days, &none), [3]);
    days[3].time = at("2025-12-30T08:00:00Z");
    assert_eq!(suspicious(&days, &none), [3]);
    // Where nothing is to go, nobody needs to be asked.
    assert_eq!(suspicious(&days[2..], &none), [] as [usize; 0]);
}

prop_compose! {
    fn any_snapshot()(seconds in 0i64..4_000_000, complete in prop::bool::weighted(0.8), tag in 0u8..4, bytes in 0u64..9)
        -> (i64, bool, u8, u64) {
        (seconds, complete, tag, bytes)
    }
}

prop_compose! {
    fn any_policy()(last in 0u32..4, hourly in 0u32..5, daily in 0u32..5, weekly in 0u32..3, monthly in 0u32..3,
        yearly in 0u32..3, within in prop_oneof![Just(0u64), 1u64..2_000_000], tagged in any::<bool>()) -> Policy {
        Policy { keep_last: last, keep_hourly: hourly, keep_daily: daily, keep_weekly: weekly, keep_monthly: monthly,
            keep_yearly: yearly, keep_within: within, keep_tag: if tagged { vec!["0".to_owned()] } else { Vec::new() } }
    }
}

fn build(raw: &[(i64, bool, u8, u64)], in_order: bool) -> Vec<Candidate> {
    let start = at("2026-03-01T00:00:00Z").as_second();
    let mut raw = raw.to_vec();
    if in_order {
        raw.sort_unstable_by_key(|one| one.0);
    }
    let one = |(number, (seconds, complete, tag, bytes)): (usize, &(i64, bool, u8, u64))| Candidate {
        tags: vec![tag.to_string()],
        complete: *complete,
        bytes: *bytes,
        ..candidate(number, Timestamp::from_second(start + seconds).unwrap())
    };
    raw.iter().enumerate().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_newest_complete_one_and_all_behind_it_stay(
        raw in prop::collection::vec(any_snapshot(), 0..40), policy in any_policy(), in_order in any::<bool>(),
    ) {
        let snapshots = build(&raw, in_order);
        let verdicts = judge(&policy, &snapshots, at("2026-04-01T00:00:00Z"), &berlin());
        prop_assert_eq!(verdicts.len(), snapshots.len());
        let from = snapshots.iter().rposition(|s| s.complete).unwrap_or(0);
        prop_assert!(verdicts[from..].iter().all(Verdict::keeps));
        for (snapshot, verdict) in snapshots.iter().zip(&verdicts) {
            if let Verdict::Keep(reasons) = verdict {
                prop_assert!(!reasons.is_empty());
                let counted = reasons.iter().any(|reason| reason.contains(" of "));
                prop_assert!(snapshot.complete || !counted, "an incomplete one counts: {:?}", reasons);
            }
        }
    }

    #[test]
    fn no_rule_keeps_more_than_it_says_and_none_less_if_there_are_enough(
        raw in prop::collection::vec(any_snapshot(), 0..40), policy in any_policy(), in_order in any::<bool>(),
    ) {
        let snapshots = build(&raw, in_order);
        let now = at("2026-04-20T00:00:00Z");
        let verdicts = judge(&policy, &snapshots, now, &berlin());
        for (count, name, bucket) in counted(&policy) {
            let prefix = format!("{name} ");
            let by_rule = verdicts.iter().filter(|verdict| match verdict {
                Verdict::Keep(reasons) => reasons.iter().any(|reason| reason.starts_with(&prefix)),
                Verdict::Drop(_) => false,
            }).count();
            let complete: Vec<_> = snapshots.iter().enumerate().filter(|(_, s)| s.complete).collect();
            let buckets: HashSet<String> = complete.iter().map(|(at, s)| match bucket {
                None => at.to_string(),
                Some(bucket) => bucket(s.time, &berlin()),
            }).collect();
            prop_assert_eq!(by_rule, buckets.len().min(count as usize), "{}", name);
        }
    }

    /// What one forget leaves, the next one with the same policy at the same time leaves too; an hour
    /// on, the newest of each bucket are still there.
    #[test]
    fn to_forget_twice_is_to_forget_once(
        raw in prop::collection::vec(any_snapshot(), 0..40), policy in any_policy(), in_order in any::<bool>(),
    ) {
        let snapshots = build(&raw, in_order);
        let now = at("2026-04-20T00:00:00Z");
        let verdicts = judge(&policy, &snapshots, now, &berlin());
        let left: Vec<Candidate> =
            snapshots.iter().zip(&verdicts).filter(|(_, v)| v.keeps()).map(|(s, _)| s.clone()).collect();
        let again = judge(&policy, &left, now, &berlin());
        prop_assert!(again.iter().all(Verdict::keeps), "{:?}", again);
    }

    /// A generous policy keeps whatever a narrow one keeps.
    #[test]
    fn more_of_a_rule_never_keeps_less(
        raw in prop::collection::vec(any_snapshot(), 0..40), policy in any_policy(), more in 0u32..5,
    ) {
        let snapshots = build(&raw, true);
        let wide = Policy {
            keep_last: policy.keep_last + more, keep_hourly: policy.keep_hourly + more,
            keep_daily: policy.keep_daily + more, keep_weekly: policy.keep_weekly + more,
            keep_within: policy.keep_within + u64::from(more) * 1000, ..policy.clone()
        };
        let now = at("2026-04-20T00:00:00Z");
        let narrow = judge(&policy, &snapshots, now, &berlin());
        let wide = judge(&wide, &snapshots, now, &berlin());
        for (narrow, wide) in narrow.iter().zip(&wide) {
            prop_assert!(wide.keeps() || !narrow.keeps());
        }
    }

    #[test]
    fn every_shrinking_before_which_something_goes_is_found_until_it_is_accepted(
        raw in prop::collection::vec(any_snapshot(), 0..30), policy in any_policy(),
    ) {
        let snapshots = build(&raw, true);
        let now = at("2026-04-20T00:00:00Z");
        let verdicts = judge(&policy, &snapshots, now, &berlin());
        let found = suspects(&snapshots, &verdicts, &BTreeSet::new(), now);
        let dropped = verdicts.iter().position(|v| !v.keeps()).unwrap_or(usize::MAX);
        let complete: Vec<_> = snapshots.iter().enumerate().filter(|(_, s)| s.complete).collect();
        for pair in complete.windows(2) {
            let ((_, before), (at, after)) = (pair[0], pair[1]);
            let shrunk = after.bytes < before.bytes / 2 && at > dropped;
            prop_assert_eq!(shrunk, found.iter().any(|s| s.id == after.id));
        }
        let all: BTreeSet<SnapshotId> = found.iter().map(|s| s.id).collect();
        prop_assert!(suspects(&snapshots, &verdicts, &all, now).is_empty());
    }
}
