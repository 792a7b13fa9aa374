//! Blocking a thread until one of several subscribers is ready.

use std::task::{Context, Poll};
use std::time::Instant;

use blockcast_blocks::{Payload, park};

use crate::subscriber::Subscriber;

/// Something for which [`wait_any`] can wait. Implemented for [`Subscriber`]s of every payload.
pub trait Waitable {
    /// Returns `Ready` if there is a message, a loss or the end. Otherwise, registers the context's waker.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<P: Payload> Waitable for Subscriber<P> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_ready(self, cx)
    }
}

/// Blocks the thread until one of `waitables` has something to receive, and returns the index of the first
/// one that has. Returns `None` if `deadline` passes first, or if `waitables` is empty.
///
/// A subscriber that has ended is always ready, so omit it from further calls. In `async` code, use
/// `futures::select!` or a stream combinator instead.
pub fn wait_any(waitables: &mut [&mut dyn Waitable], deadline: Option<Instant>) -> Option<usize> {
    if waitables.is_empty() {
        return None;
    }
    park::until(deadline, |cx| {
        let ready = waitables.iter_mut().position(|waitable| waitable.poll_ready(cx).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    })
}
