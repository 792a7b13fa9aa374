//! Spinning for a short while before a thread sleeps.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sys;

/// A third of the cost of sleeping and being woken.
const LONGEST: Duration = Duration::from_micros(10);
/// Checks between two looks at the clock.
const CHECKS: u32 = 32;
/// After this number of waits in a row for which spinning was too short, a thread spins less.
const FAILURES: u8 = 4;
/// Of this number of waits, one then spins as long as before, in case the other side has become faster.
const TRIAL: u8 = 16;

thread_local! {
    /// Waits in a row of this thread for which spinning was too short, modulo 256.
    static IN_VAIN: Cell<u8> = const { Cell::new(0) };
}

/// Whether the other side can run meanwhile.
///
/// This counts the machine's processors, not those that this thread may run on: a thread that is pinned to
/// one of several waits for a side that runs on another.
fn has_several_processors() -> bool {
    const UNKNOWN: u32 = u32::MAX;
    // No lock, since a forked child would wait for a thread of its parent.
    static PROCESSORS: AtomicU32 = AtomicU32::new(UNKNOWN);
    // Ordering: Relaxed; every thread finds the same number.
    match PROCESSORS.load(Ordering::Relaxed) {
        UNKNOWN => {
            let processors = u32::try_from(sys::processors()).unwrap_or(UNKNOWN).min(UNKNOWN - 1);
            PROCESSORS.store(processors, Ordering::Relaxed);
            processors > 1
        }
        processors => processors > 1,
    }
}

/// Checks `ready` for about 10 µs, or, if that has not helped this thread lately, 32 times. Returns `None` if
/// that was not enough. With only one processor, it does not check at all.
pub fn spin(mut ready: impl FnMut() -> bool) -> Option<()> {
    let mut check = || {
        (0..CHECKS).find(|_| {
            let is_ready = ready();
            if !is_ready {
                std::hint::spin_loop();
            }
            is_ready
        })
    };
    if !has_several_processors() {
        return None;
    }
    if check().is_some() {
        return Some(());
    }
    let in_vain = IN_VAIN.get();
    IN_VAIN.set(in_vain.wrapping_add(1));
    if in_vain >= FAILURES && !in_vain.is_multiple_of(TRIAL) {
        return None;
    }
    let started = Instant::now();
    loop {
        if check().is_some() {
            IN_VAIN.set(0);
            return Some(());
        }
        if started.elapsed() >= LONGEST {
            return None;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Spins on a thread of its own. Returns how often each of `waits` waits checked, which is never ready.
    fn checks(waits: usize) -> Vec<u32> {
        let spinning = std::thread::spawn(move || {
            let wait = |_| {
                let mut checks = 0;
                let is_ready = spin(|| {
                    checks += 1;
                    // So that the limit has passed after each round of checks.
                    std::thread::sleep(LONGEST / CHECKS);
                    false
                });
                assert_eq!(is_ready, None);
                checks
            };
            (0..waits).map(wait).collect()
        });
        spinning.join().expect("it does not panic")
    }

    #[test]
    fn a_thread_spins_less_if_that_is_in_vain_and_tries_again_at_times() {
        if !has_several_processors() {
            return assert_eq!(checks(1), [0]);
        }
        let expected: Vec<_> = (0..40).map(|wait| if wait < 4 || wait % 16 == 0 { 64 } else { 32 }).collect();
        assert_eq!(checks(40), expected);
    }

    #[test]
    fn a_thread_spins_again_once_that_has_helped() {
        if !has_several_processors() {
            return;
        }
        let spinning = std::thread::spawn(|| {
            IN_VAIN.set(15);
            assert!(spin(|| false).is_none());
            let mut checks = 0;
            let is_ready = spin(|| {
                checks += 1;
                checks > CHECKS
            });
            (is_ready, IN_VAIN.get())
        });
        assert_eq!(spinning.join().expect("it does not panic"), (Some(()), 0));
    }
}
