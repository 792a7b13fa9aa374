//! [`Subscription`]: all publishers of a topic as one source of messages.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use blockcast_blocks::{RawBatch, RawMessage, RawSample, Reader, ReceiveError, Signal};

/// Messages after which a busy subscription looks for publishers that have joined since.
const ARRIVAL_INTERVAL: u32 = 64;

/// Makes a subscription without publishers, and the feed through which the broker adds them.
#[must_use]
pub fn subscription() -> (SubscriptionFeed, Subscription) {
    subscription_with(Signal::new())
}

/// As [`subscription`], waiting on a signal that is there already.
#[must_use]
pub fn subscription_with(signal: Arc<Signal>) -> (SubscriptionFeed, Subscription) {
    let (sender, arrivals) = flume::unbounded();
    let arrived = Arc::new(AtomicBool::new(false));
    let feed = SubscriptionFeed { sender, arrived: Arc::clone(&arrived), bell: Bell(Arc::clone(&signal)) };
    let subscription = Subscription {
        readers: Vec::new(),
        arrivals,
        arrived,
        current: 0,
        until_arrivals: ARRIVAL_INTERVAL,
        had_publisher: false,
        ended_losses: 0,
        signal,
    };
    (feed, subscription)
}

/// The broker's end of a subscription: a mailbox (a `flume` channel) of readers, one per publisher.
///
/// When the last feed is dropped no publisher can come any more, and a subscription without publishers ends.
#[derive(Clone)]
pub struct SubscriptionFeed {
    // Dropped in this order: the bell rings when the mailbox may already be disconnected.
    sender: flume::Sender<Reader>,
    /// Set after a reader was sent, so that an empty mailbox is known without its lock.
    arrived: Arc<AtomicBool>,
    bell: Bell,
}

/// Wakes the subscription when it is dropped.
#[derive(Clone)]
struct Bell(Arc<Signal>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl SubscriptionFeed {
    /// What the subscription waits on; readers for it are joined with this.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.bell.0
    }

    /// Adds a publisher. Whatever it publishes from the reader's start on will be received. False, and the
    /// reader is dropped, if the subscription is gone.
    pub fn add(&self, reader: Reader) -> bool {
        let added = self.sender.send(reader).is_ok();
        // Ordering: Release pairs with the Acquire in `has_arrivals`: who sees it finds the reader.
        self.arrived.store(true, Ordering::Release);
        self.bell.0.wake();
        added
    }

    /// Whether the subscription is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_disconnected()
    }
}

impl fmt::Debug for SubscriptionFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionFeed").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// All publishers of a topic, received in turns. Messages of one publisher keep their order.
pub struct Subscription {
    readers: Vec<Reader>,
    arrivals: flume::Receiver<Reader>,
    arrived: Arc<AtomicBool>,
    /// The reader whose turn it is.
    current: usize,
    until_arrivals: u32,
    had_publisher: bool,
    /// Losses told by readers that have ended.
    ended_losses: u64,
    signal: Arc<Signal>,
}

impl Subscription {
    /// Receives the next message by reference. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[inline(always)]
    pub fn receive(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        if self.sole_has_message() {
            return self.readers[0].receive_present();
        }
        let reader = self.next_in_turn()?;
        self.readers[reader].receive()
    }

    /// Receives up to `limit` messages of one publisher by reference. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError`], if there is not one message.
    pub fn receive_batch(&mut self, limit: usize) -> Result<RawBatch<'_>, ReceiveError> {
        let reader = self.turn()?;
        self.readers[reader].receive_batch(limit)
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[inline(always)]
    pub fn receive_owned(&mut self) -> Result<RawSample, ReceiveError> {
        if self.sole_has_message() {
            return self.readers[0].receive_owned();
        }
        let reader = self.next_in_turn()?;
        self.readers[reader].receive_owned()
    }

    /// Whether a receive would find anything but [`ReceiveError::Empty`].
    pub fn is_ready(&mut self) -> bool {
        self.turn() != Err(ReceiveError::Empty)
    }

    /// Ready once a receive will not find the subscription empty.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn() != Err(ReceiveError::Empty) {
            return Poll::Ready(());
        }
        self.signal.register(cx.waker());
        self.readers.iter_mut().for_each(Reader::arm);
        if self.turn() != Err(ReceiveError::Empty) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ended_losses + self.readers.iter().map(Reader::lost).sum::<u64>()
    }

    /// The readers of the publishers that are there now.
    #[must_use]
    pub fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// A reader of a publisher that has joined and was not taken in yet, for those who drive the readers on
    /// their own (a guest's host) and call none of the receiving methods.
    pub fn next_arrival(&mut self) -> Option<Reader> {
        let arrival = self.arrivals.try_recv().ok();
        self.had_publisher |= arrival.is_some();
        arrival
    }

    /// Whether the topic still waits for its first publisher.
    #[must_use]
    pub fn awaits_publisher(&self) -> bool {
        !self.had_publisher && !self.arrivals.is_disconnected()
    }

    /// What wakes this subscription.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Whether there is one publisher only, as there mostly is, and a message of it. Now and then false, to
    /// look for publishers that have joined.
    #[inline(always)]
    fn sole_has_message(&mut self) -> bool {
        self.until_arrivals = self.until_arrivals.wrapping_sub(1);
        if self.until_arrivals == 0 {
            return false;
        }
        let [reader] = &mut self.readers[..] else { return false };
        reader.has_message()
    }

    /// The reader to receive from next: the first in turn that has something.
    #[inline]
    fn turn(&mut self) -> Result<usize, ReceiveError> {
        if self.sole_has_message() { Ok(0) } else { self.next_in_turn() }
    }

    #[inline(never)]
    fn next_in_turn(&mut self) -> Result<usize, ReceiveError> {
        self.admit();
        let mut tried = 0;
        while tried < self.readers.len() {
            self.current = (self.current + 1) % self.readers.len();
            let reader = &mut self.readers[self.current];
            if reader.has_message() {
                return Ok(self.current);
            }
            if reader.is_ready() && !reader.has_message() {
                // Ended: its place is taken by the last, which is tried in its stead.
                self.ended_losses += reader.lost();
                self.readers.swap_remove(self.current);
                self.current = self.current.wrapping_sub(1).min(self.readers.len());
            } else {
                tried += 1;
            }
        }
        if self.readers.is_empty() && self.arrivals.is_empty() && !self.awaits_publisher() {
            return Err(ReceiveError::Ended);
        }
        Err(ReceiveError::Empty)
    }

    /// Takes in the publishers that have joined. One load if there are none.
    #[inline]
    fn admit(&mut self) {
        self.until_arrivals = ARRIVAL_INTERVAL;
        if self.arrived.load(Ordering::Acquire) {
            // Cleared before the mailbox is emptied: one that comes meanwhile sets it again.
            self.arrived.store(false, Ordering::Relaxed);
            self.admit_arrivals();
        }
    }

    #[cold]
    fn admit_arrivals(&mut self) {
        while let Ok(reader) = self.arrivals.try_recv() {
            self.had_publisher = true;
            self.readers.push(reader);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("publishers", &self.readers.len())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}
