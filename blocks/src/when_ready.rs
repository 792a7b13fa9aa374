//! A future that polls its owner, then takes a value that borrows it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Polls its owner until that is ready, then takes a value from it that may borrow it.
///
/// Like `async { poll_fn(poll).await?; take(owner) }`, but without the state of both futures, which every
/// poll would load and store. No allocation. Cancel-safe if `poll` is: if it is dropped before it is ready,
/// it has taken nothing.
///
/// ```
/// use std::task::Poll;
///
/// use blockcast_blocks::WhenReady;
///
/// let mut numbers = vec![1, 2];
/// let last = WhenReady::new(&mut numbers, |_, _| Poll::Ready(Ok(())), |numbers| numbers.last().ok_or("none"));
/// assert_eq!(futures::executor::block_on(last), Ok(&2));
/// ```
#[must_use = "futures do nothing unless they are polled"]
pub struct WhenReady<'s, S, W, T> {
    owner: Option<&'s mut S>,
    poll: W,
    take: T,
}

impl<'s, S, W, T> WhenReady<'s, S, W, T> {
    /// Calls `poll` until it is ready, then calls `take` once, unless `poll` failed.
    #[inline(always)]
    pub fn new<R, E>(owner: &'s mut S, poll: W, take: T) -> Self
    where
        W: Fn(&mut S, &mut Context<'_>) -> Poll<Result<(), E>> + Unpin,
        T: Fn(&'s mut S) -> Result<R, E> + Unpin,
    {
        Self { owner: Some(owner), poll, take }
    }
}

impl<'s, S, W, T, R, E> Future for WhenReady<'s, S, W, T>
where
    W: Fn(&mut S, &mut Context<'_>) -> Poll<Result<(), E>> + Unpin,
    T: Fn(&'s mut S) -> Result<R, E> + Unpin,
{
    type Output = Result<R, E>;

    /// # Panics
    /// If it was already ready, like every `async` block.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { owner, poll, take } = &mut *self;
        let waiting = owner.as_deref_mut().expect("a future is not polled again once it is ready");
        let there = ready!(poll(waiting, cx));
        match (there, owner.take()) {
            (Ok(()), Some(owner)) => Poll::Ready(take(owner)),
            (Err(error), _) => Poll::Ready(Err(error)),
            (Ok(()), None) => unreachable!("it was looked at"),
        }
    }
}

impl<S, W, T> fmt::Debug for WhenReady<'_, S, W, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhenReady").field("taken", &self.owner.is_none()).finish_non_exhaustive()
    }
}
