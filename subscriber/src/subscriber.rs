//! [`Subscriber`]: a typed subscription.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use blockcast_blocks::{InvalidPayload, Payload, ReceiveError, WhenReady, park};
use futures::Stream;

use crate::Subscription;
use crate::message::{Batch, Message, Sample};

/// Messages that [`Subscriber::for_each_ref`] takes at a time.
const BATCH: usize = 32;

/// Nothing was received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// No message yet (`try_` only).
    #[error("no message yet")]
    Empty,
    /// Every publisher is gone and everything was received.
    #[error("the topic has ended")]
    Ended,
    /// The subscriber was too slow for its overflow policy: that many messages were lost. The next receive
    /// goes on after them.
    #[error("{0} messages were lost")]
    Lost(u64),
    /// The message's bytes are no value of the topic's layout; it was skipped.
    #[error(transparent)]
    Invalid(Box<InvalidPayload>),
    /// The process was forked after the subscriber was opened: subscribe anew in the child.
    #[error("the subscriber belongs to the process that was forked: open one in this process")]
    Forked,
    /// No message came before the deadline.
    #[error("no message came before the deadline")]
    Deadline,
    /// The subscriber keeps as many samples of a publisher as it may, and receives nothing until it has dropped some: see
    /// [`SubscriberOptions::samples`](crate::SubscriberOptions::samples).
    #[error("{kept} samples of one publisher are kept, and no more may be: drop some, or allow more")]
    TooManySamples {
        /// How many it keeps.
        kept: u32,
    },
    /// In a guest: the host does not deliver.
    #[error("the host does not deliver: {0}")]
    Refused(&'static str),
}

impl From<InvalidPayload> for RecvError {
    #[cold]
    fn from(invalid: InvalidPayload) -> Self {
        Self::Invalid(Box::new(invalid))
    }
}

impl From<ReceiveError> for RecvError {
    #[inline]
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Ended => Self::Ended,
            ReceiveError::Lost(count) => Self::Lost(count),
            ReceiveError::TooManySamples { kept } => Self::TooManySamples { kept },
            ReceiveError::Forked => Self::Forked,
            ReceiveError::Refused(reason) => Self::Refused(reason),
            _ => Self::Empty,
        }
    }
}

/// Receives the messages of layout `P` of one topic, from all its publishers, in the [order](crate#order) that the crate
/// documents.
///
/// Dropping it lets go of everything but the samples that live on.
#[derive(Debug)]
pub struct Subscriber<P: Payload> {
    subscription: Subscription,
    /// As a stream, it has ended in a forked child.
    is_forked: bool,
    payload: PhantomData<fn() -> P>,
}

impl<P: Payload> Subscriber<P> {
    /// A subscriber to `subscription`. The broker makes them; this is for those who bring publishers and
    /// subscribers together on their own.
    ///
    /// # Safety
    /// Every publisher of `subscription`, also those that join later, carries the schema of `P`.
    #[must_use]
    pub unsafe fn new(subscription: Subscription) -> Self {
        Self { subscription, is_forked: false, payload: PhantomData }
    }

    /// Receives the next message by reference. Never waits.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; see [`RecvError`].
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<Message<'_, P>, RecvError> {
        Message::new(self.subscription.receive()?)
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; see [`RecvError`].
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Sample<P>, RecvError> {
        Sample::new(self.subscription.receive_owned()?)
    }

    /// Receives up to `limit` messages of one publisher by reference; they are let go of together. Never
    /// waits.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; see [`RecvError`].
    pub fn try_recv_batch(&mut self, limit: usize) -> Result<Batch<'_, P>, RecvError> {
        Ok(Batch::new(self.subscription.receive_batch(limit.max(1))?))
    }

    /// Waits for the next message and receives it by reference. Cancel-safe.
    ///
    /// # Errors
    /// [`RecvError::Ended`], [`RecvError::Lost`], [`RecvError::Invalid`].
    #[inline]
    pub fn recv_ref(&mut self) -> impl Future<Output = Result<Message<'_, P>, RecvError>> {
        self.once_ready(Self::try_recv_ref)
    }

    /// Waits for the next message and receives it as an owned sample. Cancel-safe.
    ///
    /// # Errors
    /// [`RecvError::Ended`], [`RecvError::Lost`], [`RecvError::Invalid`].
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Sample<P>, RecvError>> {
        self.once_ready(Self::try_recv)
    }

    /// Waits for messages and receives up to `limit` of one publisher by reference. Cancel-safe.
    ///
    /// # Errors
    /// [`RecvError::Ended`], [`RecvError::Lost`].
    #[inline]
    pub fn recv_batch(&mut self, limit: usize) -> impl Future<Output = Result<Batch<'_, P>, RecvError>> {
        self.once_ready(move |subscriber| subscriber.try_recv_batch(limit))
    }

    #[inline(always)]
    fn once_ready<'s, R>(
        &'s mut self,
        receive: impl Fn(&'s mut Self) -> Result<R, RecvError> + Unpin,
    ) -> impl Future<Output = Result<R, RecvError>> {
        WhenReady::new(self, |subscriber: &mut Self, cx| subscriber.poll_ready(cx).map(Ok), receive)
    }

    /// Receives until the end by reference, and calls `each` with every message, loss and invalid message in order. In
    /// batches: one claim and one release for up to 32 messages of a publisher, which are let go of together. No copy.
    /// Cancel-safe: nothing is waited for within a batch.
    ///
    /// If `each` panics, the message that it was called with counts as received. Those behind it in the batch are received
    /// next, or counted as lost if the subscriber may lose messages and the publisher has overtaken it meanwhile.
    ///
    /// # Errors
    /// [`RecvError::TooManySamples`] if samples that were received otherwise are kept, and [`RecvError::Refused`] in a guest.
    pub async fn for_each_ref(
        &mut self,
        mut each: impl FnMut(Result<P::View<'_>, RecvError>),
    ) -> Result<(), RecvError> {
        loop {
            self.ready().await;
            if self.try_each_of_batch(&mut each)?.is_break() {
                return Ok(());
            }
        }
    }

    /// As [`for_each_ref`](Self::for_each_ref), blocking the thread, until the end or until `deadline` if there is one.
    ///
    /// # Errors
    /// [`RecvError::Deadline`], looked at between batches; what is there goes on to be received by the next call. And
    /// those of [`for_each_ref`](Self::for_each_ref).
    pub fn blocking_for_each_ref(
        &mut self,
        deadline: Option<Instant>,
        mut each: impl FnMut(Result<P::View<'_>, RecvError>),
    ) -> Result<(), RecvError> {
        loop {
            self.block(deadline)?;
            if self.try_each_of_batch(&mut each)?.is_break() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(RecvError::Deadline);
            }
        }
    }

    /// One batch, or what there is in place of it. Breaks at the end.
    fn try_each_of_batch(
        &mut self,
        each: &mut impl FnMut(Result<P::View<'_>, RecvError>),
    ) -> Result<ControlFlow<()>, RecvError> {
        match self.try_recv_batch(BATCH) {
            Ok(batch) => batch.for_each(each),
            Err(RecvError::Ended) => return Ok(ControlFlow::Break(())),
            Err(RecvError::Lost(count)) => each(Err(RecvError::Lost(count))),
            Err(RecvError::Empty) => {}
            Err(other) => return Err(other),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits until there is a message, a loss or the end.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Ready once a `try_` method will not find the subscription empty.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.subscription.poll_ready(cx)
    }

    /// Blocks until the next message, or until `deadline` if there is one, and receives it by reference.
    ///
    /// # Errors
    /// [`RecvError::Deadline`] and those of [`recv_ref`](Self::recv_ref).
    pub fn blocking_recv_ref(&mut self, deadline: Option<Instant>) -> Result<Message<'_, P>, RecvError> {
        self.block(deadline)?;
        self.try_recv_ref()
    }

    /// Blocks until the next message, or until `deadline` if there is one, and receives it as an owned
    /// sample.
    ///
    /// # Errors
    /// [`RecvError::Deadline`] and those of [`recv`](Self::recv).
    pub fn blocking_recv(&mut self, deadline: Option<Instant>) -> Result<Sample<P>, RecvError> {
        self.block(deadline)?;
        self.try_recv()
    }

    /// Messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.subscription.lost()
    }

    /// How many receives it takes at most to get to the newest message that is there now: one for each message, and
    /// one per publisher for a loss.
    pub fn backlog(&mut self) -> u64 {
        self.subscription.backlog()
    }

    /// The untyped subscription, to look at.
    ///
    /// It is never lent as `&mut`: two subscribers could exchange their subscriptions, and each would read the
    /// messages of the other as its own type.
    ///
    /// ```compile_fail,E0599
    /// # use blockcast_blocks::{Bytes, Pod};
    /// # use blockcast_subscriber::{Subscriber, subscription};
    /// # let (_feed, one) = subscription();
    /// # let (_other, two) = subscription();
    /// // SAFETY: there are no publishers.
    /// let mut words = unsafe { Subscriber::<Pod<u32>>::new(one) };
    /// // SAFETY: as above.
    /// let mut bytes = unsafe { Subscriber::<Bytes>::new(two) };
    /// std::mem::swap(words.subscription_mut(), bytes.subscription_mut());
    /// ```
    /// Looking is allowed:
    /// ```
    /// # use blockcast_blocks::{Bytes, Pod};
    /// # use blockcast_subscriber::{Subscriber, subscription};
    /// # let (_feed, one) = subscription();
    /// // SAFETY: there are no publishers.
    /// let mut words = unsafe { Subscriber::<Pod<u32>>::new(one) };
    /// assert_eq!((words.backlog(), words.subscription().lost()), (0, 0));
    /// ```
    #[must_use]
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn block(&mut self, deadline: Option<Instant>) -> Result<(), RecvError> {
        park::spin(|| self.subscription.is_ready())
            .or_else(|| park::until(deadline, |cx| self.subscription.poll_ready(cx)))
            .ok_or(RecvError::Deadline)
    }
}

/// Owned samples until the end. Losses and invalid messages are items; the stream goes on after them. In a forked child
/// [`RecvError::Forked`] is the last one.
impl<P: Payload> Stream for Subscriber<P> {
    type Item = Result<Sample<P>, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.subscription.poll_ready(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match this.try_recv() {
            Err(RecvError::Ended) => None,
            Err(RecvError::Forked) if std::mem::replace(&mut this.is_forked, true) => None,
            other => Some(other),
        })
    }
}

impl<P: Payload> Unpin for Subscriber<P> {}
