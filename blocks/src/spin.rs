//! Spinning for a short while before a thread sleeps.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

/// Rounds of spinning before a thread parks: about 10 µs, a third of the cost of parking and being woken. 0
/// if there is only one processor, since the other side could not run meanwhile.
///
/// This counts the machine's processors, not those that this thread may run on: a thread that is pinned to
/// one of several waits for a side that runs on another.
fn rounds() -> u32 {
    const UNKNOWN: u32 = u32::MAX;
    // No lock, since a forked child would wait for a thread of its parent.
    static ROUNDS: AtomicU32 = AtomicU32::new(UNKNOWN);
    // Ordering: Relaxed; every thread finds the same number.
    match ROUNDS.load(Ordering::Relaxed) {
        UNKNOWN => {
            let rounds = if sys::processors() > 1 { 1000 } else { 0 };
            ROUNDS.store(rounds, Ordering::Relaxed);
            rounds
        }
        rounds => rounds,
    }
}

/// Checks `ready` for about 10 µs. Returns `None` if that was not enough.
pub fn spin(mut ready: impl FnMut() -> bool) -> Option<()> {
    for _ in 0..rounds() {
        if ready() {
            return Some(());
        }
        std::hint::spin_loop();
    }
    None
}
