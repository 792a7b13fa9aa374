//! How much processor time a guest has used: [`ComputingClock`].
//!
//! The clock of a thread's processor time is read by a system call, the clock of time without one, and a
//! guest that receives small messages goes on and waits again within 3 µs, of which two such calls were a tenth. So a short stretch counts with the time that it
//! took, which is at least the processor time, and at most [`SHORT`]. Of a longer one the processor may have been taken away
//! meanwhile: it counts with what the thread has used since its clock was read last, which was not long before it began
//! ([`RECENT`]). Nothing is counted short; too much by [`SHORT`] per stretch, or by [`RECENT`] if that is longer.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A stretch up to this, in nanoseconds, counts with the time that it took.
const SHORT: u64 = 20_000;

/// How long ago, in nanoseconds, a thread's clock of processor time was read at most when a stretch begins.
const RECENT: u64 = 100_000;

thread_local! {
    /// When this thread's clock of processor time was read last, and what it said.
    static READ: Cell<Moment> = const { Cell::new(Moment { time: 0, computed: 0 }) };
}

/// Both clocks, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Moment {
    time: u64,
    computed: u64,
}

/// Adds up the processor time that a guest uses between its resumptions and its waits. Written by the task that runs
/// the guest: between a resumption and the wait that follows it stays on one thread, whose clock is read.
#[derive(Debug, Default)]
pub(crate) struct ComputingClock {
    /// Nanoseconds up to the last look.
    total: AtomicU64,
    /// What the time was then.
    looked: AtomicU64,
}

impl ComputingClock {
    /// A new run begins.
    pub(crate) fn reset(&self) {
        self.total.store(0, Ordering::Relaxed);
    }

    /// The guest goes on, on this thread. A system call every 100 µs.
    #[inline]
    pub(crate) fn resume(&self) {
        let now = read(ClockId::Monotonic);
        if now.saturating_sub(READ.get().time) > RECENT {
            read_both(now);
        }
        self.looked.store(now, Ordering::Relaxed);
    }

    /// Counts what was used since the guest went on, or since the last look, on the same thread. A system call if that is
    /// long ago.
    #[inline]
    pub(crate) fn look(&self) -> Duration {
        let now = read(ClockId::Monotonic);
        let took = now.saturating_sub(self.looked.load(Ordering::Relaxed));
        let used = if took <= SHORT { took } else { took.min(used_since_read(now)) };
        self.looked.store(now, Ordering::Relaxed);
        // Nobody else adds.
        let total = self.total.load(Ordering::Relaxed).saturating_add(used);
        self.total.store(total, Ordering::Relaxed);
        Duration::from_nanos(total)
    }

    /// What was counted.
    pub(crate) fn computed(&self) -> Duration {
        Duration::from_nanos(self.total.load(Ordering::Relaxed))
    }
}

/// Processor time of this thread since its clock was read last, which is now.
#[cold]
fn used_since_read(now: u64) -> u64 {
    let before = READ.get();
    read_both(now).computed.saturating_sub(before.computed)
}

/// Reads this thread's clock of processor time at the time `now`.
#[cold]
fn read_both(now: u64) -> Moment {
    let moment = Moment { time: now, computed: read(ClockId::ThreadCPUTime) };
    READ.set(moment);
    moment
}

/// Nanoseconds on a clock.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the processor busy for so many nanoseconds of this thread's processor time.
    fn compute(nanos: u64) {
        let end = read(ClockId::ThreadCPUTime) + nanos;
        while read(ClockId::ThreadCPUTime) < end {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn nothing_that_was_computed_is_missing() {
        let clock = ComputingClock::default();
        let mut computed = 0;
        for stretch in [1_000, 15_000, 30_000, 500_000, 3_000_000, 2_000, 10_000_000, 40_000] {
            clock.resume();
            compute(stretch);
            clock.look();
            computed += stretch;
        }
        assert!(clock.computed() >= Duration::from_nanos(computed), "{:?}", clock.computed());
    }

    #[test]
    fn many_short_stretches_add_up() {
        let clock = ComputingClock::default();
        for _ in 0..1_000 {
            clock.resume();
            compute(2_000);
            clock.look();
        }
        assert!(clock.computed() >= Duration::from_millis(2), "{:?}", clock.computed());
    }

    #[test]
    fn what_a_stretch_slept_is_not_counted() {
        let clock = ComputingClock::default();
        for _ in 0..10 {
            clock.resume();
            std::thread::sleep(Duration::from_millis(20));
            clock.look();
        }
        // Of 200 ms, what falling asleep and waking up take, and 100 µs per stretch.
        assert!(clock.computed() < Duration::from_millis(100), "{:?}", clock.computed());
    }

    #[test]
    fn what_others_compute_on_the_thread_is_not_counted() {
        let clock = ComputingClock::default();
        for _ in 0..10 {
            clock.resume();
            clock.look();
            compute(10_000_000);
        }
        assert!(clock.computed() < Duration::from_millis(50), "{:?}", clock.computed());
    }

    #[test]
    fn a_look_in_the_middle_counts_nothing_twice() {
        let clock = ComputingClock::default();
        let began = read(ClockId::ThreadCPUTime);
        clock.resume();
        for _ in 0..20 {
            compute(1_000_000);
            clock.look();
        }
        let used = read(ClockId::ThreadCPUTime) - began + RECENT + 20 * SHORT;
        assert!(clock.computed() <= Duration::from_nanos(used), "{:?} of {used} ns", clock.computed());
        assert!(clock.computed() >= Duration::from_millis(20), "{:?}", clock.computed());
    }
}
