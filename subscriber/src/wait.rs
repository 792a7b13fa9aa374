//! Waiting for several subscribers at once, on a thread.

use std::task::{Context, Poll};
use std::time::Instant;

use blockcast_blocks::{Payload, park};

use crate::subscriber::Subscriber;

/// What [`wait_any`] can wait for. Implemented for every [`Subscriber`], whatever its payload.
pub trait Waitable {
    /// Ready once there is a message, a loss or the end; otherwise the context's waker is registered.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<P: Payload> Waitable for Subscriber<P> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_ready(self, cx)
    }
}

/// Blocks the thread until one of `waitables` has something to receive, and returns its index; the first of
/// them if there are several. `None` if `deadline` passes first, or if there is nothing to wait for.
///
/// A subscriber that has ended is always ready: leave it out of the next call. In `async` code use
/// `futures::select!` or a stream combinator over [`Subscriber::recv`].
pub fn wait_any(waitables: &mut [&mut dyn Waitable], deadline: Option<Instant>) -> Option<usize> {
    if waitables.is_empty() {
        return None;
    }
    park::until(deadline, |cx| {
        let ready = waitables.iter_mut().position(|waitable| waitable.poll_ready(cx).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    })
}
