//! Times: of the machine, and of this process's processors.

use rustix::time::{ClockId, Timespec, clock_gettime};

fn nanoseconds(time: Timespec) -> u64 {
    // Neither clock is negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds for which all threads of this process have run, in user mode and in the kernel.
pub(crate) fn processor_time() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}
