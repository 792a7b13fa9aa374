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

/// The maximum number of messages in a batch of [`Subscriber::for_each_ref`].
const BATCH: usize = 32;

/// The reason why no message was received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no message yet. Only `try_` methods return this.
    #[error("no message yet")]
    Empty,
    /// Every publisher is gone, and all messages were received.
    #[error("the topic has ended")]
    Ended,
    /// The subscriber was too slow for its overflow policy and has lost this number of messages. The next
    /// receive continues after them.
    #[error("{0} messages were lost")]
    Lost(u64),
    /// The message is not a value of the topic's layout. It was skipped.
    #[error(transparent)]
    Invalid(Box<InvalidPayload>),
    /// The process was forked after the subscriber was opened. Open a new subscriber in the child.
    #[error("the subscriber belongs to the process that was forked: open one in this process")]
    Forked,
    /// There was no message before the deadline.
    #[error("no message before the deadline")]
    Deadline,
    /// The subscriber keeps the maximum number of samples of a publisher. It receives no messages until it
    /// has dropped some. See [`SubscriberOptions::samples`](crate::SubscriberOptions::samples).
    #[error(
        "the subscriber keeps {kept} samples of one publisher, which is its limit: drop some, or raise the limit"
    )]
    TooManySamples {
        /// The number of samples kept.
        kept: u32,
    },
    /// A component's host does not deliver messages.
    #[error("the host does not deliver messages: {0}")]
    Refused(&'static str),
    /// A publisher in another process is broken: it has written an impossible descriptor or counter. It
    /// counts as ended for this subscriber. The next receive continues with other publishers.
    #[cfg(not(any(target_family = "wasm", blockcast_library)))]
    #[error("a publisher in another process is broken: it has written an impossible descriptor or counter")]
    Corrupt,
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
            #[cfg(not(any(target_family = "wasm", blockcast_library)))]
            ReceiveError::Corrupt => Self::Corrupt,
            _ => Self::Empty,
        }
    }
}

/// Receives the messages of layout `P` of one topic from all its publishers, in the [order](crate#order) that
/// the crate documents.
///
/// Dropping it releases all messages except kept samples.
#[derive(Debug)]
pub struct Subscriber<P: Payload> {
    subscription: Subscription,
    /// Whether the stream has returned [`RecvError::Forked`], its last item in a forked child.
    is_forked: bool,
    payload: PhantomData<fn() -> P>,
}

impl<P: Payload> Subscriber<P> {
    /// Creates a subscriber from an untyped subscription. The broker does this for you. Call it only to
    /// connect publishers and subscribers without a broker.
    ///
    /// # Safety
    /// Every publisher of `subscription` has the schema of `P`, including those that join later.
    #[must_use]
    pub unsafe fn new(subscription: Subscription) -> Self {
        Self { subscription, is_forked: false, payload: PhantomData }
    }

    /// Receives the next message by reference. Never waits.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none, and all other [`RecvError`]s except [`RecvError::Deadline`].
    #[inline(always)]
    pub fn try_recv_ref(&mut self) -> Result<Message<'_, P>, RecvError> {
        Message::new(self.subscription.receive()?)
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// Fails like [`try_recv_ref`](Self::try_recv_ref).
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Sample<P>, RecvError> {
        Sample::new(self.subscription.receive_owned()?)
    }

    /// Receives up to `limit` messages of one publisher by reference, which are released together. Never
    /// waits.
    ///
    /// # Errors
    /// Fails like [`try_recv_ref`](Self::try_recv_ref), except that [`Batch::views`] returns
    /// [`RecvError::Invalid`].
    pub fn try_recv_batch(&mut self, limit: usize) -> Result<Batch<'_, P>, RecvError> {
        Ok(Batch::new(self.subscription.receive_batch(limit.max(1))?))
    }

    /// Waits for the next message and receives it by reference. Cancel-safe.
    ///
    /// # Errors
    /// Fails like [`try_recv_ref`](Self::try_recv_ref), but not with [`RecvError::Empty`].
    #[inline]
    pub fn recv_ref(&mut self) -> impl Future<Output = Result<Message<'_, P>, RecvError>> {
        self.once_ready(Self::try_recv_ref)
    }

    /// Waits for the next message and receives it as an owned sample. Cancel-safe.
    ///
    /// # Errors
    /// Fails like [`recv_ref`](Self::recv_ref).
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Result<Sample<P>, RecvError>> {
        self.once_ready(Self::try_recv)
    }

    /// Waits for messages and receives up to `limit` of one publisher by reference. Cancel-safe.
    ///
    /// # Errors
    /// Fails like [`try_recv_batch`](Self::try_recv_batch), but not with [`RecvError::Empty`].
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

    /// Receives all messages until the end by reference, and calls `each` with every message, loss and
    /// invalid message, in order. Cancel-safe.
    ///
    /// Messages are received in batches of up to 32 messages of a publisher, for one claim and one release,
    /// and without a copy. The messages of a batch are released together. There is no `await` within a batch.
    ///
    /// If `each` panics, its message counts as received. The rest of the batch is received next, or counts as
    /// lost if the subscriber can lose messages and the publisher has overtaken it in the meantime.
    ///
    /// # Errors
    /// - [`RecvError::TooManySamples`] if the subscriber keeps too many samples from other receives.
    /// - [`RecvError::Forked`] in a forked child.
    /// - [`RecvError::Refused`] if a component's host does not deliver messages.
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

    /// Like [`for_each_ref`](Self::for_each_ref), but blocks the thread, until the end or until `deadline` if
    /// there is one.
    ///
    /// # Errors
    /// - [`RecvError::Deadline`] after the deadline, which is checked between batches. The next call
    ///   continues with the following message.
    /// - Fails if [`for_each_ref`](Self::for_each_ref) fails.
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

    /// Receives one batch or loss. Breaks at the end.
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

    /// Returns `Ready` if a `try_` method would not return [`RecvError::Empty`]. Otherwise, registers the
    /// context's waker.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.subscription.poll_ready(cx)
    }

    /// Blocks the thread until the next message and receives it by reference. Waits until `deadline` if there
    /// is one.
    ///
    /// # Errors
    /// - [`RecvError::Deadline`] after the deadline.
    /// - Fails if [`recv_ref`](Self::recv_ref) fails.
    pub fn blocking_recv_ref(&mut self, deadline: Option<Instant>) -> Result<Message<'_, P>, RecvError> {
        self.block(deadline)?;
        self.try_recv_ref()
    }

    /// Blocks the thread until the next message and receives it as an owned sample. Waits until `deadline` if
    /// there is one.
    ///
    /// # Errors
    /// - [`RecvError::Deadline`] after the deadline.
    /// - Fails if [`recv`](Self::recv) fails.
    pub fn blocking_recv(&mut self, deadline: Option<Instant>) -> Result<Sample<P>, RecvError> {
        self.block(deadline)?;
        self.try_recv()
    }

    /// The number of messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.subscription.lost()
    }

    /// The maximum number of receives that it takes to reach the newest current message: one per message, and
    /// one per publisher for a loss.
    pub fn backlog(&mut self) -> u64 {
        self.subscription.backlog()
    }

    /// The untyped subscription.
    ///
    /// There is no method that returns it as `&mut`: two subscribers could swap their subscriptions, and then
    /// each would read the other's messages as its own type.
    ///
    /// ```compile_fail,E0599
    /// # use blockcast_blocks::{Bytes, Pod};
    /// # use blockcast_subscriber::{Subscriber, subscription};
    /// # let (_feed, one) = subscription();
    /// # let (_other, two) = subscription();
    /// // SAFETY: there are no publishers.
    /// let mut words = unsafe { Subscriber::<Pod<u32>>::new(one) };
    /// // SAFETY: there are no publishers.
    /// let mut bytes = unsafe { Subscriber::<Bytes>::new(two) };
    /// std::mem::swap(words.subscription_mut(), bytes.subscription_mut());
    /// ```
    /// A shared reference is enough to inspect it:
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

/// A stream of owned samples until the end. Losses and invalid messages are items, after which the stream
/// continues. In a forked child, the last item is [`RecvError::Forked`].
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
