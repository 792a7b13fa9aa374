//! The signals that report a guest's faults: who handles them, and on which threads.
//!
//! An ordinary mistake of a guest, such as an out-of-bounds load, is a processor fault. The engine installs
//! handlers for these signals when the process creates its first [`GuestEngine`](crate::GuestEngine). Its
//! handler forwards faults that are not a guest's to the previous handler. The rest of the program can
//! interfere in two ways:
//!
//! - A thread that *blocks* such a signal dies at the fault, with or without a handler. Programs that wait
//!   for signals on one thread (`sigwait`) block all of them in `main`, and every thread started later
//!   inherits that. So threads that run guests [unblock](unblock) these four.
//! - A *handler installed later* receives the guests' faults first. Unless it forwards them, the process dies
//!   at the first one. [`check`] detects this where possible: a default action cannot forward anything, and
//!   what a foreign function does is unknown.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The signals and their names, the most frequent one first.
const FAULTS: [(libc::c_int, &str); 4] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGBUS, "SIGBUS"),
];

/// The handlers of the signals: addresses of functions, 0 for the default action, 1 for ignoring the signal.
type Handlers = [usize; FAULTS.len()];

/// The handlers after the process created its first engine.
static EXPECTED: OnceLock<Handlers> = OnceLock::new();

/// Foreign handlers that have been warned about.
static WARNED: [AtomicUsize; FAULTS.len()] = [const { AtomicUsize::new(0) }; FAULTS.len()];

/// A guest's fault would end the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the handler for {signal} was removed after the engine was made, so that the guest's first fault would end the process: \
     install handlers before the first guest is loaded, and restore the one that was there"
)]
pub(crate) struct HandlerRemoved {
    signal: &'static str,
}

/// Remembers the handlers that the engine installed. Call this right after creating the engine.
pub(crate) fn remember() {
    EXPECTED.get_or_init(current);
}

/// Checks that the engine's handlers are still installed. Warns once about each foreign one. Four system
/// calls.
///
/// # Errors
/// [`HandlerRemoved`] if a signal that the engine needs has its default action, or is ignored.
pub(crate) fn check() -> Result<(), HandlerRemoved> {
    let Some(expected) = EXPECTED.get() else { return Ok(()) };
    for (index, (now, then)) in current().into_iter().zip(*expected).enumerate() {
        let signal = FAULTS[index].1;
        if now == then || is_no_function(then) {
            // The engine does not need this signal on this machine.
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
        // SAFETY: zeros are a valid value of the structure, which has only integers (and an optional
        // function).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: null changes nothing, and `action` is a valid place for the current handler.
        match unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } {
            0 => action.sa_sigaction,
            _ => libc::SIG_DFL,
        }
    })
}

/// Unblocks the signals on this thread, permanently. Nothing is lost, since a blocked fault would end the
/// process anyway. One system call.
pub(crate) fn unblock() {
    // SAFETY: zeros are a valid value, which `sigemptyset` initialises.
    let mut faults: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid set.
    unsafe { libc::sigemptyset(&raw mut faults) };
    for (signal, _) in FAULTS {
        // SAFETY: a valid set and an existing signal.
        unsafe { libc::sigaddset(&raw mut faults, signal) };
    }
    // SAFETY: a valid set; the previous mask is not requested. It cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const faults, std::ptr::null_mut()) };
}
