//! Cancelling an app: its stack is unwound to the entry, as by a panic that is not reported.

use std::any::Any;
use std::panic::resume_unwind;
use std::thread;

/// The payload of the panic that unwinds.
struct Cancelled;

/// Unwinds, unless this thread is already unwinding.
#[cold]
pub(super) fn unwind() {
    if !thread::panicking() {
        resume_unwind(Box::new(Cancelled));
    }
}

/// Whether [`unwind`] caused this panic.
pub(super) fn is_cancelled(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Cancelled>()
}
