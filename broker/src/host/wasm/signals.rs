//! The signals by which a guest's faults are told: who may handle them, and on which threads.
//!
//! An ordinary mistake of a guest, such as a load out of bounds, is a fault of the processor. The engine installs handlers for
//! these signals when the first [`GuestEngine`](crate::host::wasm::engine::GuestEngine) of the process is made; its handler passes on what is not a
//! guest's to the handler that was there before. Two things that a program does elsewhere stand in the way:
//!
//! - A thread that *blocks* such a signal dies at the fault, handler or not. Programs that wait for their signals on one thread
//!   (`sigwait`) block all of them in `main`, and every thread that is started later inherits that. So threads that run guests
//!   [unblock](unblock) these four.
//! - A *handler installed later* gets the guests' faults first. If it does not pass them on, the process dies at the first one.
//!   [`check`] finds that out where it can: a default action cannot pass anything on, of a function nobody knows.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The signals with names, that of the most frequent one first.
const FAULTS: [(libc::c_int, &str); 4] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGBUS, "SIGBUS"),
];

/// Who handles the signals: addresses of functions, or the default (0), or nobody (1).
type Handlers = [usize; FAULTS.len()];

/// What the first engine of the process has left.
static EXPECTED: OnceLock<Handlers> = OnceLock::new();

/// Handlers of others that were warned of already.
static WARNED: [AtomicUsize; FAULTS.len()] = [const { AtomicUsize::new(0) }; FAULTS.len()];

/// A guest's faults would end the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the handler for {signal} was removed after the engine was made, so that the guest's first fault would end the process: \
     install handlers before the first guest is loaded, and restore the one that was there"
)]
pub(crate) struct HandlerRemoved {
    signal: &'static str,
}

/// Remembers the handlers that the engine has installed. To be called right after it was made.
pub(crate) fn remember() {
    EXPECTED.get_or_init(current);
}

/// Looks whether the engine's handlers are still there. Warns once of each other one. Four system calls.
///
/// # Errors
/// [`HandlerRemoved`] if a signal that the engine needs has its default action, or is ignored.
pub(crate) fn check() -> Result<(), HandlerRemoved> {
    let Some(expected) = EXPECTED.get() else { return Ok(()) };
    for (index, (now, then)) in current().into_iter().zip(*expected).enumerate() {
        let signal = FAULTS[index].1;
        if now == then || is_no_function(then) {
            // The engine does not need that one on this machine.
            continue;
        }
        if is_no_function(now) {
            return Err(HandlerRemoved { signal });
        }
        if WARNED[index].swap(now, Ordering::Relaxed) != now {
            tracing::warn!(
                signal,
                "a handler was installed after the wasm engine's: unless it passes on what is not its own, a guest's \
                 first fault ends the process; install it before the first guest is loaded"
            );
        }
    }
    Ok(())
}

fn is_no_function(handler: usize) -> bool {
    handler == libc::SIG_DFL || handler == libc::SIG_IGN
}

fn current() -> Handlers {
    FAULTS.map(|(signal, _)| {
        // SAFETY: zeros are a valid value of the structure, which has integers only (and an optional function).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: with null nothing is changed, and `action` is a valid place for what is there.
        match unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } {
            0 => action.sa_sigaction,
            _ => libc::SIG_DFL,
        }
    })
}

/// Unblocks the signals on this thread, for good: blocked, a fault ends the process all the same, so nothing is lost. One system
/// call.
pub(crate) fn unblock() {
    // SAFETY: zeros are a valid value, and `sigemptyset` sets it up.
    let mut faults: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid set.
    unsafe { libc::sigemptyset(&raw mut faults) };
    for (signal, _) in FAULTS {
        // SAFETY: a valid set and a signal that exists.
        unsafe { libc::sigaddset(&raw mut faults, signal) };
    }
    // SAFETY: a valid set; what was blocked before is not asked for. It cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const faults, std::ptr::null_mut()) };
}
