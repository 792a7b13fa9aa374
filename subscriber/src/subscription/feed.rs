//! [`SubscriptionFeed`]: the broker's end of a subscription.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blockcast_blocks::{Channel, Process, Reader, Signal};

use super::mailbox::{Departure, Mailbox};

/// The broker's end of a [`Subscription`](super::Subscription). It adds readers, one per publisher, to the
/// subscription's mailbox.
///
/// Once the last feed is dropped, no more publishers can join, and a subscription without publishers ends.
pub struct SubscriptionFeed {
    mailbox: Arc<Mailbox>,
    signal: Arc<Signal>,
    process: Process,
}

impl Clone for SubscriptionFeed {
    fn clone(&self) -> Self {
        self.mailbox.state().feeds += 1;
        let (mailbox, signal) = (Arc::clone(&self.mailbox), Arc::clone(&self.signal));
        Self { mailbox, signal, process: self.process }
    }
}

impl Drop for SubscriptionFeed {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // Another thread of the parent may have held the lock when the process was forked.
            return;
        }
        let is_last = {
            let mut state = self.mailbox.state();
            state.feeds -= 1;
            state.feeds == 0
        };
        if is_last {
            self.signal.wake();
        }
    }
}

impl SubscriptionFeed {
    /// Creates the first feed of a mailbox.
    pub(super) fn new(mailbox: Arc<Mailbox>, signal: Arc<Signal>) -> Self {
        mailbox.state().feeds = 1;
        Self { mailbox, signal, process: Process::current() }
    }

    /// The signal on which the subscription waits. Join its readers with this signal.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Adds a publisher. The subscription receives all messages from the reader's start. Returns `false` and
    /// drops the reader if the subscription is gone.
    pub fn add(&self, reader: Reader) -> bool {
        let rejected = self.add_quietly(reader);
        self.ring();
        rejected.is_none()
    }

    /// Like [`add`](Self::add), but for callers that hold a lock: does not run user code. Returns the reader
    /// if the subscription is gone. After releasing the lock, drop the reader and call [`ring`](Self::ring).
    #[must_use]
    pub fn add_quietly(&self, reader: Reader) -> Option<Reader> {
        let mut state = self.mailbox.state();
        if state.is_closed {
            return Some(reader);
        }
        state.readers.push_back(reader);
        state.had_publisher = true;
        // Ordering: Release pairs with the Acquire in `Subscription::admit`, which then takes the lock.
        self.mailbox.arrived.store(true, Ordering::Release);
        None
    }

    /// Wakes the subscription, which then checks its publishers again.
    pub fn ring(&self) {
        self.signal.wake();
    }

    /// Drops the reader of a publisher that has ended without unread messages, if it is still in the mailbox.
    /// Otherwise, the reader keeps the publisher's memory until the subscription receives.
    pub fn forget_ended(&self, publisher: &Arc<Channel>) {
        let ended = {
            let mut state = self.mailbox.state();
            // The last readers are the most likely to be still in the mailbox.
            let position = state.readers.iter().rposition(|reader| Arc::ptr_eq(reader.channel(), publisher));
            let ended = position.filter(|&position| state.readers[position].has_ended());
            ended.and_then(|position| state.readers.remove(position))
        };
        if ended.is_some() {
            drop(ended);
            // The publisher's end no longer wakes the subscription.
            self.signal.wake();
        }
    }

    /// Calls `notify` once the subscription is gone and its readers have left, on the thread that drops it.
    /// Calls it immediately if the subscription is already gone. A later call replaces `notify`.
    pub fn on_departure(&self, notify: impl FnOnce() + Send + 'static) {
        let mut state = self.mailbox.state();
        if state.is_closed {
            drop(state);
            notify();
        } else {
            state.departure = Some(Departure(Box::new(notify)));
        }
    }

    /// Whether the subscription is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mailbox.state().is_closed
    }
}

impl fmt::Debug for SubscriptionFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionFeed").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
