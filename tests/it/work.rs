//! Many cases on two cores: shared out, sampled, counted.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: tests that keep both cores busy wait for each other here.
pub fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works through `cases` on two threads, each with a `worker` made once; the failures, in order.
pub fn on_two<C: Sync, W>(
    cases: &[C],
    worker: impl Fn(usize) -> W + Sync,
    case: impl Fn(&mut W, usize, &C) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (next, failures, worker, case) = (&next, &failures, &worker, &case);
            scope.spawn(move || {
                let mut own = worker(number);
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(one) = cases.get(i) else { break };
                    if let Err(text) = case(&mut own, i, one) {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push((i, text));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    failures.into_iter().map(|(_, text)| text).collect()
}

/// Fails with the first few of `failures`, if there are any.
#[track_caller]
pub fn assert_none(failures: &[String], cases: usize) {
    let shown: Vec<&str> = failures.iter().take(5).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} of {cases} cases failed, the first:\n{}", failures.len(), shown.join("\n\n"));
}

/// True if all cases of a sweep are asked for, not an even share of them.
pub fn sweeps_all() -> bool {
    std::env::var_os("SNAP_SWEEP").is_some_and(|value| value == "all")
}

/// An even share of `all`: `wanted` of them, or all where there are no more.
pub fn sample<T: Clone>(all: &[T], wanted: usize) -> Vec<T> {
    if all.len() <= wanted {
        return all.to_vec();
    }
    (0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect()
}

#[test]
fn a_sample_is_even_and_a_failure_is_counted() {
    let all: Vec<usize> = (0..100).collect();
    assert_eq!(sample(&all, 4), [0, 25, 50, 75]);
    assert_eq!(sample(&all, 200).len(), 100);
    let odd = on_two(&all, |_| (), |(), _, n| if n % 2 == 0 { Ok(()) } else { Err(format!("{n} is odd")) });
    assert_eq!((odd.len(), odd[0].as_str()), (50, "1 is odd"));
}
