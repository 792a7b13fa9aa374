//! Blocking until a poll is ready, under the same names as in linked code.
//!
//! The thread's other tasks do not run meanwhile, and a guest has one thread. In `async` code, use the
//! `async` methods.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

pub use super::host::spin;
use super::host::{Runtime, block_on};

/// Polls until ready, suspending the thread in between. Returns `None` if `deadline` passes first. Polls at
/// least once, even after the deadline.
pub fn until<T>(deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let mut timer = deadline.map(|at| Runtime::current().sleep(at.saturating_duration_since(Instant::now())));
    block_on(poll_fn(|cx| match poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => match timer.as_mut().map(|timer| Pin::new(timer).poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(None),
            _ => Poll::Pending,
        },
    }))
}
