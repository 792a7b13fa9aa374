//! Measures how much processor time a guest has used: [`ComputingClock`].
//!
//! Reading a thread's processor time takes a system call; reading the wall clock does not. A guest that
//! receives small messages resumes and waits again within 3 µs, and two system calls took a tenth of that. So
//! a stretch of up to [`SHORT`] counts as its wall-clock time, which is at least its processor time. During a
//! longer stretch, the thread may have been preempted. Such a stretch counts as the processor time since the
//! thread's clock was last read, which was at most [`RECENT`] before the stretch began. The result is never
//! too low. It is too high by at most [`SHORT`] or [`RECENT`] per stretch, depending on the kind.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A stretch of up to this many nanoseconds counts as its wall-clock time.
const SHORT: u64 = 20_000;

/// Maximum age in nanoseconds of a thread's last processor-time reading when a stretch begins.
const RECENT: u64 = 100_000;

thread_local! {
    /// The last reading of this thread's processor time, and when it was taken.
    static READ: Cell<Moment> = const { Cell::new(Moment { time: 0, computed: 0 }) };
}

/// A reading of both clocks, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Moment {
    time: u64,
    computed: u64,
}

/// Adds up the processor time that a guest uses between resuming and waiting. Only the task that runs the
/// guest writes to it. Between resuming and the next wait, the task stays on one thread, whose clock is read.
#[derive(Debug, Default)]
pub(crate) struct ComputingClock {
    /// Processor time in nanoseconds up to the last update.
    total: AtomicU64,
    /// Wall-clock time of the last update.
    updated: AtomicU64,
}

impl ComputingClock {
    /// Starts at zero for a new run.
    pub(crate) fn reset(&self) {
        self.total.store(0, Ordering::Relaxed);
    }

    /// Call this when the guest resumes on this thread. Takes a system call every 100 µs.
    #[inline]
    pub(crate) fn resume(&self) {
        let now = read(ClockId::Monotonic);
        if now.saturating_sub(READ.get().time) > RECENT {
            read_both(now);
        }
        self.updated.store(now, Ordering::Relaxed);
    }

    /// Adds the time used since the guest resumed, or since the last update, on the same thread. Takes a
    /// system call if the stretch was long.
    #[inline]
    pub(crate) fn update(&self) -> Duration {
        let now = read(ClockId::Monotonic);
        let took = now.saturating_sub(self.updated.load(Ordering::Relaxed));
        let used = if took <= SHORT { took } else { took.min(used_since_read(now)) };
        self.updated.store(now, Ordering::Relaxed);
        // No other thread writes it.
        let total = self.total.load(Ordering::Relaxed).saturating_add(used);
        self.total.store(total, Ordering::Relaxed);
        Duration::from_nanos(total)
    }

    /// Processor time up to the last update.
    pub(crate) fn computed(&self) -> Duration {
        Duration::from_nanos(self.total.load(Ordering::Relaxed))
    }
}

/// Processor time of this thread since its last reading. Takes a new reading.
#[cold]
fn used_since_read(now: u64) -> u64 {
    let before = READ.get();
    read_both(now).computed.saturating_sub(before.computed)
}

/// Takes a reading of this thread's processor time at the time `now`.
#[cold]
fn read_both(now: u64) -> Moment {
    let moment = Moment { time: now, computed: read(ClockId::ThreadCPUTime) };
    READ.set(moment);
    moment
}

/// Reads a clock in nanoseconds.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the processor busy for that many nanoseconds of this thread's processor time.
    fn compute(nanos: u64) {
        let end = read(ClockId::ThreadCPUTime) + nanos;
        while read(ClockId::ThreadCPUTime) < end {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn no_processor_time_is_missing() {
        let clock = ComputingClock::default();
        let mut computed = 0;
        for stretch in [1_000, 15_000, 30_000, 500_000, 3_000_000, 2_000, 10_000_000, 40_000] {
            clock.resume();
            compute(stretch);
            clock.update();
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
            clock.update();
        }
        assert!(clock.computed() >= Duration::from_millis(2), "{:?}", clock.computed());
    }

    #[test]
    fn sleeping_is_not_counted() {
        let clock = ComputingClock::default();
        for _ in 0..10 {
            clock.resume();
            std::thread::sleep(Duration::from_millis(20));
            clock.update();
        }
        // Out of 200 ms, only falling asleep and waking up count, and 100 µs per stretch.
        assert!(clock.computed() < Duration::from_millis(100), "{:?}", clock.computed());
    }

    #[test]
    fn computing_between_stretches_is_not_counted() {
        let clock = ComputingClock::default();
        for _ in 0..10 {
            clock.resume();
            clock.update();
            compute(10_000_000);
        }
        assert!(clock.computed() < Duration::from_millis(50), "{:?}", clock.computed());
    }

    #[test]
    fn an_update_in_the_middle_counts_nothing_twice() {
        let clock = ComputingClock::default();
        let began = read(ClockId::ThreadCPUTime);
        clock.resume();
        for _ in 0..20 {
            compute(1_000_000);
            clock.update();
        }
        let used = read(ClockId::ThreadCPUTime) - began + RECENT + 20 * SHORT;
        assert!(clock.computed() <= Duration::from_nanos(used), "{:?} of {used} ns", clock.computed());
        assert!(clock.computed() >= Duration::from_millis(20), "{:?}", clock.computed());
    }
}
