//! The mailbox through which publishers join a subscription: feeds put readers in, and the subscription takes
//! them out.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blockcast_blocks::{ForkFlag, Process, Reader, ReceiveError};

use super::expected::ExpectedPublishers;

/// The state shared by a subscription and its feeds.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Whether there are readers in the mailbox, without taking the lock.
    pub arrived: Arc<AtomicBool>,
    state: Mutex<MailboxState>,
}

#[derive(Debug, Default)]
pub(super) struct MailboxState {
    /// The readers that the subscription has not taken out.
    pub readers: VecDeque<Reader>,
    /// Whether any reader was ever added.
    pub had_publisher: bool,
    /// The number of feeds.
    pub feeds: usize,
    /// Whether the subscription is gone.
    pub is_closed: bool,
    pub departure: Option<Departure>,
}

/// The function to call after the subscription is gone.
pub(super) struct Departure(pub Box<dyn FnOnce() + Send>);

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure").finish_non_exhaustive()
    }
}

impl Mailbox {
    pub(super) fn state(&self) -> MutexGuard<'_, MailboxState> {
        // All changes are single assignments, so the state is consistent even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription's end of a mailbox.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Set if there are readers in the mailbox, and in a forked child.
    arrived: ForkFlag,
    mailbox: Arc<Mailbox>,
    /// The publishers that may return, if the subscription waits for them.
    expected: Option<Arc<ExpectedPublishers>>,
    /// Whether `is_ready` has found the end, which the next receive reports.
    pub end_pending: bool,
    /// Whether the subscription has noticed that the process was forked, and has dropped all readers.
    pub inherited: bool,
}

impl Arrivals {
    pub(super) fn new(mailbox: Arc<Mailbox>, expected: Option<Arc<ExpectedPublishers>>) -> Self {
        let arrived = ForkFlag::new(Arc::clone(&mailbox.arrived));
        Self { arrived, mailbox, expected, end_pending: false, inherited: false }
    }

    /// Whether there are readers in the mailbox, or the process was forked. One load.
    #[inline(always)]
    pub(super) fn any(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `SubscriptionFeed::add_quietly`.
        self.arrived.flag().load(Ordering::Acquire)
    }

    /// Whether this is a forked child, in which the mailbox must not be locked.
    pub(super) fn is_inherited(&self) -> bool {
        self.arrived.is_inherited()
    }

    /// Takes all readers out of the mailbox.
    pub(super) fn take_all(&self) -> VecDeque<Reader> {
        let mut state = self.mailbox.state();
        // Ordering: Relaxed suffices, because the flag is set and cleared under the lock.
        self.mailbox.arrived.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.readers)
    }

    /// Takes the first reader out of the mailbox.
    pub(super) fn take_next(&self) -> Option<Reader> {
        // Ordering: Acquire pairs with the Release in `SubscriptionFeed::add_quietly`.
        if !self.mailbox.arrived.load(Ordering::Acquire) || self.is_inherited() {
            return None;
        }
        let mut state = self.mailbox.state();
        let next = state.readers.pop_front();
        // Ordering: Relaxed suffices, because the flag is set and cleared under the lock.
        self.mailbox.arrived.store(!state.readers.is_empty(), Ordering::Relaxed);
        next
    }

    /// Converts the end of all admitted publishers: if others have joined or may return, it is not the end of
    /// the topic.
    #[inline(always)]
    pub(super) fn end(&mut self, error: ReceiveError) -> ReceiveError {
        if error == ReceiveError::Ended { self.at_end() } else { error }
    }

    #[cold]
    #[inline(never)]
    fn at_end(&mut self) -> ReceiveError {
        if self.inherited {
            return ReceiveError::Forked;
        }
        let goes_on = !std::mem::take(&mut self.end_pending) && self.is_open();
        if goes_on { ReceiveError::Empty } else { ReceiveError::Ended }
    }

    /// Whether the end of all admitted publishers is the end of the topic. If so, the next receive reports
    /// it.
    pub(super) fn is_over(&mut self) -> bool {
        self.end_pending = !self.is_open();
        self.end_pending
    }

    /// Whether there is a reader in the mailbox, or a publisher may still join or return.
    #[cold]
    #[inline(never)]
    pub(super) fn is_open(&self) -> bool {
        // This comes first: once no publisher is expected any more, the last one's reader is in the mailbox.
        let is_expected = self.expected.as_ref().is_some_and(|expected| expected.any());
        let state = self.mailbox.state();
        !state.readers.is_empty() || ((!state.had_publisher || is_expected) && state.feeds > 0)
    }
}

/// Drops the readers in the mailbox, so that they do not hold their publishers back.
impl Drop for Arrivals {
    fn drop(&mut self) {
        if self.is_inherited() {
            // Another thread of the parent may have held the lock when the process was forked.
            return;
        }
        let mut state = self.mailbox.state();
        state.is_closed = true;
        let readers = std::mem::take(&mut state.readers);
        drop(state);
        drop(readers);
    }
}

/// Calls the mailbox's departure function when dropped.
#[derive(Debug)]
pub(super) struct DepartureNotice {
    mailbox: Arc<Mailbox>,
    process: Process,
}

impl DepartureNotice {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, process: Process::current() }
    }
}

impl Drop for DepartureNotice {
    fn drop(&mut self) {
        if !self.process.is_current() {
            return;
        }
        let departure = self.mailbox.state().departure.take();
        if let Some(Departure(notify)) = departure {
            notify();
        }
    }
}
