//! Leaving an app that was cancelled: its stack is unwound to the entry, as by a panic that nobody is told of.

use std::any::Any;
use std::panic::resume_unwind;
use std::thread;

/// What unwinds.
struct Cancelled;

/// Unwinds, unless this thread does so already.
#[cold]
pub(super) fn unwind() {
    if !thread::panicking() {
        resume_unwind(Box::new(Cancelled));
    }
}

/// Whether it was [`unwind`] that has unwound.
pub(super) fn is_cancelled(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Cancelled>()
}
