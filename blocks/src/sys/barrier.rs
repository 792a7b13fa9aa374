//! Memory barriers on other threads, of this process or of all that take part in channels: `membarrier(2)`.

use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

const UNKNOWN: u8 = 0;
const OFFERED: u8 = 1;
const MISSING: u8 = 2;

static REGISTERED: AtomicU8 = AtomicU8::new(UNKNOWN);
static REGISTERED_MACHINE_WIDE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether the kernel offers expedited private barriers; registers the process for them at the first call.
///
/// Threads that call this at the same time all register, which does no harm. None waits for another: if the
/// process forked meanwhile, the other thread would be missing in the child.
pub(crate) fn supported() -> bool {
    // Ordering: Relaxed; the kernel knows of the registration, and a thread that does not see it registers
    // again.
    match REGISTERED.load(Ordering::Relaxed) {
        UNKNOWN => {
            let offered = membarrier_query();
            let registered = offered.contains(MembarrierQuery::PRIVATE_EXPEDITED)
                && offered.contains(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED)
                && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok();
            REGISTERED.store(if registered { OFFERED } else { MISSING }, Ordering::Relaxed);
            registered
        }
        known => known == OFFERED,
    }
}

/// A full fence on this thread and on every running thread of the process.
///
/// Only meaningful if [`supported`] returned `true`. Returns `false` if the system refused after all, as it
/// may when short of memory. Then only this thread has passed a fence.
pub(crate) fn process_wide() -> bool {
    #[cfg(test)]
    if REFUSED.get() {
        return false;
    }
    let passed = supported() && expedited();
    if !passed {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
    passed
}

/// Registers this process for the barriers of others that take part in the same channels, and returns whether
/// the system offers them (`MEMBARRIER_CMD_GLOBAL_EXPEDITED`, Linux 4.16; a sandbox may refuse the call).
/// Without them, this process can neither share its channels nor open those of others. One system call or
/// two, the first time.
///
/// [`Channel::share`](crate::Channel::share) and [`Channel::open_remote`](crate::Channel::open_remote) call
/// this. Call it to find out early.
#[must_use]
pub fn register_machine_wide() -> bool {
    // Ordering: Relaxed, as in `supported`.
    match REGISTERED_MACHINE_WIDE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let offered = membarrier_query();
            let registered = supported()
                && offered.contains(MembarrierQuery::GLOBAL_EXPEDITED)
                && offered.contains(MembarrierQuery::REGISTER_GLOBAL_EXPEDITED)
                && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
            REGISTERED_MACHINE_WIDE.store(if registered { OFFERED } else { MISSING }, Ordering::Relaxed);
            registered
        }
        known => known == OFFERED,
    }
}

/// A full fence on this thread and on every running thread of all [registered](register_machine_wide)
/// processes. Returns `false` if the system refused. Then only this thread has passed a fence.
pub(crate) fn machine_wide() -> bool {
    #[cfg(test)]
    if REFUSED.get() {
        return false;
    }
    let passed = register_machine_wide() && membarrier(MembarrierCommand::GlobalExpedited).is_ok();
    if !passed {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
    passed
}

fn expedited() -> bool {
    match membarrier(MembarrierCommand::PrivateExpedited) {
        // This is a forked child, which did not inherit the registration.
        Err(rustix::io::Errno::PERM) => {
            membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
                && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
        }
        passed => passed.is_ok(),
    }
}

#[cfg(test)]
thread_local! {
    static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `action` on this thread while the system refuses it every barrier.
#[cfg(test)]
pub(crate) fn while_refused<T>(action: impl FnOnce() -> T) -> T {
    REFUSED.set(true);
    let done = action();
    REFUSED.set(false);
    done
}
