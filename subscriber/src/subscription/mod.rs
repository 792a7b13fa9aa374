//! [`Subscription`]: all publishers of a topic as one source of messages.

mod expected;
mod feed;
mod mailbox;
mod round_robin;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use blockcast_blocks::{RawBatch, RawMessage, RawSample, Reader, ReceiveError, Signal};

pub use expected::ExpectedPublishers;
pub use feed::SubscriptionFeed;
use mailbox::{Arrivals, DepartureNotice, Mailbox};
use round_robin::RoundRobin;

/// Creates a subscription without publishers, and the feed with which the broker adds them.
#[must_use]
pub fn subscription() -> (SubscriptionFeed, Subscription) {
    subscription_with(Signal::new())
}

/// Like [`subscription`], but waits on an existing signal.
#[must_use]
pub fn subscription_with(signal: Arc<Signal>) -> (SubscriptionFeed, Subscription) {
    subscription_awaiting(signal, None)
}

/// Like [`subscription_with`], but the subscription does not end while publishers are `expected`.
#[must_use]
pub fn subscription_awaiting(
    signal: Arc<Signal>,
    expected: Option<Arc<ExpectedPublishers>>,
) -> (SubscriptionFeed, Subscription) {
    let mailbox = Arc::new(Mailbox::default());
    let feed = SubscriptionFeed::new(Arc::clone(&mailbox), Arc::clone(&signal));
    let subscription = Subscription {
        sole: None,
        arrivals: Arrivals::new(Arc::clone(&mailbox), expected),
        others: RoundRobin::default(),
        signal,
        _departure: DepartureNotice::new(mailbox),
    };
    (feed, subscription)
}

/// All publishers of a topic as one source of messages.
///
/// # Order
/// - Messages of one publisher stay in order.
/// - If a publisher ended before another one joined, all its messages come before those of the other. So the
///   messages of a restarted publisher follow those from before the restart, however far behind the
///   subscriber is.
/// - Publishers that exist at the same time take turns. The order of their messages is unspecified, and a
///   silent publisher does not delay the others.
///
/// This applies to every receive method.
#[repr(C)]
pub struct Subscription {
    /// The reader if there is only one publisher, which is the usual case. It is stored here so that
    /// receiving needs no indirection.
    sole: Option<Reader>,
    arrivals: Arrivals,
    /// The readers if there are several publishers.
    others: RoundRobin,
    signal: Arc<Signal>,
    // The last field, so that it is dropped last.
    _departure: DepartureNotice,
}

impl Subscription {
    /// Receives the next message by reference. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`] if there is none, and all other [`ReceiveError`]s.
    #[inline(always)]
    pub fn receive(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        if !self.arrivals.any()
            && let Some(word) = self.sole.as_mut().and_then(Reader::take_plainly)
        {
            // SAFETY: there is a reader, which has just returned the word.
            return Ok(unsafe { self.sole.as_mut().unwrap_unchecked().message_of(word) });
        }
        self.receive_unusually()
    }

    /// Like [`receive`](Self::receive), whatever the state of the subscription.
    #[inline(never)]
    fn receive_unusually(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        self.admit();
        match &mut self.sole {
            Some(reader) => reader.receive_unusually().map_err(|error| self.arrivals.end(error)),
            None => self.others.next_turn(&mut self.arrivals)?.receive_here(),
        }
    }

    /// Receives up to `limit` messages of one publisher by reference. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`] if there is none, and all other [`ReceiveError`]s.
    #[inline]
    pub fn receive_batch(&mut self, limit: usize) -> Result<RawBatch<'_>, ReceiveError> {
        self.admit();
        match &mut self.sole {
            Some(reader) => reader.receive_batch(limit).map_err(|error| self.arrivals.end(error)),
            None => self.others.next_turn(&mut self.arrivals)?.receive_batch(limit),
        }
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`] if there is none, and all other [`ReceiveError`]s.
    #[inline(always)]
    pub fn receive_owned(&mut self) -> Result<RawSample, ReceiveError> {
        self.admit();
        match &mut self.sole {
            Some(reader) => reader.receive_owned_here().map_err(|error| self.arrivals.end(error)),
            None => self.others.receive_owned(&mut self.arrivals),
        }
    }

    /// Whether a receive would return anything but [`ReceiveError::Empty`]. If that is the end, the next
    /// receive reports it even if a publisher joins before.
    pub fn is_ready(&mut self) -> bool {
        self.arrivals.end_pending = false;
        self.admit();
        if self.arrivals.inherited {
            return true;
        }
        if self.sole.is_none() {
            // All other publishers may have ended.
            self.sole = self.others.take_sole();
        }
        match &mut self.sole {
            Some(reader) => {
                if reader.has_message() {
                    return true;
                }
                if !reader.is_ready() {
                    return false;
                }
                // The publisher is closed, so this check sees its last messages.
                if reader.has_message() {
                    return true;
                }
                // The publisher has ended, and its memory is no longer needed.
                self.others.add_losses(reader.lost());
                self.sole = None;
                self.arrivals.is_over()
            }
            None => match self.others.next_turn(&mut self.arrivals) {
                Ok(_) => {
                    self.others.undo_turn();
                    true
                }
                Err(error) => error != ReceiveError::Empty && self.arrivals.is_over(),
            },
        }
    }

    /// The maximum number of receives that it takes to reach the newest current message: one per message, and
    /// one per publisher for a loss. Costs one load per publisher.
    pub fn backlog(&mut self) -> u64 {
        self.admit();
        if self.arrivals.inherited {
            // The receive that reports the fork.
            return 1;
        }
        self.readers_mut().map(Reader::backlog).fold(0, u64::saturating_add)
    }

    /// Returns `Ready` if a receive would return anything but [`ReceiveError::Empty`]. Otherwise, registers
    /// the context's waker.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.wait(cx)
    }

    /// Registers the waker, arms all readers and checks once more.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.signal.register(cx.waker());
        // A publisher that arrived before the waker was registered has signalled nobody, so it must be armed
        // with the others. One that arrives later wakes the waker.
        self.admit();
        // This includes waiting readers, because the check below may admit them.
        self.readers_mut().for_each(|reader| reader.arm(cx.waker()));
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The number of messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.readers().map(Reader::lost).fold(self.others.ended_losses, u64::saturating_add)
    }

    /// The readers of the current publishers.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        let RoundRobin { readers, waiting, .. } = &self.others;
        self.sole.iter().chain(readers).chain(waiting)
    }

    fn readers_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        let RoundRobin { readers, waiting, .. } = &mut self.others;
        self.sole.iter_mut().chain(readers).chain(waiting)
    }

    /// Takes the reader of a publisher that has joined, for code that drives the readers itself (a guest's
    /// host) and calls no receive method.
    ///
    /// If an earlier reader has [ended](Reader::has_ended) but has unread messages, receive these before
    /// those of this reader.
    pub fn next_arrival(&mut self) -> Option<Reader> {
        self.arrivals.take_next()
    }

    /// Whether a publisher has joined that was not admitted yet, or may still join: the topic's first
    /// publisher, or one that is restarted if the subscription waits for restarts.
    #[must_use]
    pub fn awaits_publisher(&self) -> bool {
        self.arrivals.is_open()
    }

    /// The signal that wakes this subscription.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Admits publishers that have joined. In a forked child, drops all readers. Costs one load if there are
    /// none.
    #[inline(always)]
    fn admit(&mut self) {
        if self.arrivals.any() {
            self.admit_arrivals();
        }
    }

    #[cold]
    #[inline(never)]
    fn admit_arrivals(&mut self) {
        if self.arrivals.is_inherited() {
            // The mailbox is not touched: another thread of the parent may have held its lock.
            self.arrivals.inherited = true;
            self.sole = None;
            self.others = RoundRobin::default();
            return;
        }
        if self.arrivals.end_pending {
            // The end that was found is reported first.
            return;
        }
        let arrived = self.arrivals.take_all();
        self.others.readers.extend(self.sole.take());
        arrived.into_iter().for_each(|reader| self.others.add(reader));
        self.sole = self.others.take_sole();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("publishers", &self.readers().count())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}
