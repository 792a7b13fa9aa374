//! [`Subscription`]: all publishers of a topic as one source of messages.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use blockcast_blocks::{
    Channel, ForkFlag, Process, RawBatch, RawMessage, RawSample, Reader, ReceiveError, Signal,
};

/// Makes a subscription without publishers, and the feed through which the broker adds them.
#[must_use]
pub fn subscription() -> (SubscriptionFeed, Subscription) {
    subscription_with(Signal::new())
}

/// Like [`subscription`], waiting on a signal that is there already.
#[must_use]
pub fn subscription_with(signal: Arc<Signal>) -> (SubscriptionFeed, Subscription) {
    subscription_awaiting(signal, None)
}

/// Like [`subscription_with`]. While publishers are `expected`, the subscription does not end although all are gone.
#[must_use]
pub fn subscription_awaiting(
    signal: Arc<Signal>,
    expected: Option<Arc<ExpectedPublishers>>,
) -> (SubscriptionFeed, Subscription) {
    let mailbox = Arc::new(Mailbox::default());
    mailbox.letters().feeds = 1;
    let process = Process::current();
    let feed = SubscriptionFeed { mailbox: Arc::clone(&mailbox), signal: Arc::clone(&signal), process };
    let subscription = Subscription {
        sole: None,
        arrivals: Arrivals {
            arrived: ForkFlag::new(Arc::clone(&mailbox.arrived)),
            mailbox: Arc::clone(&mailbox),
            expected,
            over: false,
            inherited: false,
        },
        others: Others::default(),
        signal,
        _leaving: Leaving(mailbox, process),
    };
    (feed, subscription)
}

/// How many of a topic's publishers may come back after they have gone, because they are restarted.
///
/// Subscriptions that were made with it do not end before there are none. Whoever [forgets](Self::forget) the last one wakes
/// them.
#[derive(Debug, Default)]
pub struct ExpectedPublishers(AtomicUsize);

impl ExpectedPublishers {
    /// One more may come back. To be called before it joins.
    pub fn expect(&self) {
        // Ordering: whoever adds its reader to the mailboxes is the one that calls this, earlier.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less does. To be called when its last reader was added to the mailboxes.
    pub fn forget(&self) {
        // Ordering: Release pairs with the Acquire in `any`: who sees it finds every reader that was added before.
        self.0.fetch_sub(1, Ordering::Release);
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// The broker's end of a subscription: it puts readers, one per publisher, into the subscription's mailbox.
///
/// When the last feed is dropped no publisher can come any more, and a subscription without publishers ends.
pub struct SubscriptionFeed {
    mailbox: Arc<Mailbox>,
    signal: Arc<Signal>,
    process: Process,
}

impl Clone for SubscriptionFeed {
    fn clone(&self) -> Self {
        self.mailbox.letters().feeds += 1;
        let (mailbox, signal) = (Arc::clone(&self.mailbox), Arc::clone(&self.signal));
        Self { mailbox, signal, process: self.process }
    }
}

impl Drop for SubscriptionFeed {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // A thread of the parent may have had the lock.
            return;
        }
        let last = {
            let mut letters = self.mailbox.letters();
            letters.feeds -= 1;
            letters.feeds == 0
        };
        if last {
            self.signal.wake();
        }
    }
}

impl SubscriptionFeed {
    /// What the subscription waits on; readers for it are joined with this.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Adds a publisher. Whatever it publishes from the reader's start on will be received. False, and the
    /// reader is dropped, if the subscription is gone.
    pub fn add(&self, reader: Reader) -> bool {
        let refused = self.add_quietly(reader);
        self.ring();
        refused.is_none()
    }

    /// Like [`add`](Self::add), for callers that hold a lock: calls no code of the user. Returns the reader if the subscription
    /// is gone; it is to be dropped, and [`ring`](Self::ring) to be called, when nothing is locked any more.
    #[must_use]
    pub fn add_quietly(&self, reader: Reader) -> Option<Reader> {
        let mut letters = self.mailbox.letters();
        if letters.left {
            return Some(reader);
        }
        letters.readers.push_back(reader);
        letters.had_publisher = true;
        // Ordering: Release pairs with the Acquire in `Subscription::admit`, which then takes the lock.
        self.mailbox.arrived.store(true, Ordering::Release);
        None
    }

    /// Wakes the subscription, which looks again.
    pub fn ring(&self) {
        self.signal.wake();
    }

    /// Drops the reader of a publisher that has ended, if the subscription has not looked since it joined and there is
    /// nothing to receive. Otherwise it would keep memory until the subscription looks.
    pub fn forget_ended(&self, publisher: &Arc<Channel>) {
        let ended = {
            let mut letters = self.mailbox.letters();
            // The last ones are the most likely to leave without having been looked at.
            let at = letters.readers.iter().rposition(|reader| Arc::ptr_eq(reader.channel(), publisher));
            at.filter(|&at| letters.readers[at].has_ended()).and_then(|at| letters.readers.remove(at))
        };
        if ended.is_some() {
            drop(ended);
            // It is not among those whom their end wakes any more.
            self.signal.wake();
        }
    }

    /// Calls `tell` once the subscription has gone and its readers have left, in the thread that drops it; at once if it has
    /// gone already. A later call replaces it.
    pub fn on_departure(&self, tell: impl FnOnce() + Send + 'static) {
        let mut letters = self.mailbox.letters();
        if letters.left {
            drop(letters);
            tell();
        } else {
            letters.departure = Some(Departure(Box::new(tell)));
        }
    }

    /// Whether the subscription is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.mailbox.letters().left
    }
}

impl fmt::Debug for SubscriptionFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionFeed").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// All publishers of a topic as one source of messages.
///
/// # Order
/// - Messages of one publisher keep their order.
/// - If a publisher ended before another one joined, all its messages come before those of the other. So a publisher that
///   is restarted goes on where it left off, however far behind the subscriber is.
/// - Publishers that were there at the same time take turns, and nothing is promised about the order between them. A
///   publisher that is silent keeps nobody waiting.
///
/// This holds for every way of receiving.
#[repr(C)]
pub struct Subscription {
    /// The reader of the publisher, where there is one only, as there mostly is. It lies here, so that a message
    /// finds it without a detour.
    sole: Option<Reader>,
    arrivals: Arrivals,
    others: Others,
    signal: Arc<Signal>,
    // Dropped last.
    _leaving: Leaving,
}

impl Subscription {
    /// Receives the next message by reference. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[inline(always)]
    pub fn receive(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        self.admit();
        match &mut self.sole {
            Some(reader) => reader.receive_here().map_err(|error| self.arrivals.end(error)),
            None => self.others.turn(&mut self.arrivals)?.receive_here(),
        }
    }

    /// Receives up to `limit` messages of one publisher by reference. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError`], if there is not one message.
    #[inline]
    pub fn receive_batch(&mut self, limit: usize) -> Result<RawBatch<'_>, ReceiveError> {
        self.admit();
        match &mut self.sole {
            Some(reader) => reader.receive_batch(limit).map_err(|error| self.arrivals.end(error)),
            None => self.others.turn(&mut self.arrivals)?.receive_batch(limit),
        }
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[inline(always)]
    pub fn receive_owned(&mut self) -> Result<RawSample, ReceiveError> {
        self.admit();
        match &mut self.sole {
            Some(reader) => reader.receive_owned_here().map_err(|error| self.arrivals.end(error)),
            None => self.others.turn(&mut self.arrivals)?.receive_owned_here(),
        }
    }

    /// Whether a receive would find anything but [`ReceiveError::Empty`]. If that is the end, the next receive tells so,
    /// also if a publisher has arrived in between.
    pub fn is_ready(&mut self) -> bool {
        self.arrivals.over = false;
        self.admit();
        if self.arrivals.inherited {
            return true;
        }
        if self.sole.is_none() {
            // The others may have ended.
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
                // It is closed: no message comes that this look does not find.
                if reader.has_message() {
                    return true;
                }
                // Its publisher's memory is not needed any more.
                self.others.ended_losses += reader.lost();
                self.sole = None;
                self.arrivals.is_over()
            }
            None => match self.others.turn(&mut self.arrivals) {
                Ok(_) => {
                    self.others.turn_back();
                    true
                }
                Err(error) => error != ReceiveError::Empty && self.arrivals.is_over(),
            },
        }
    }

    /// How many receives it takes at most to get to the newest message that is there now: one for each message, and one
    /// per publisher for a loss. One load per publisher.
    pub fn backlog(&mut self) -> u64 {
        self.admit();
        if self.arrivals.inherited {
            // One that tells so.
            return 1;
        }
        self.readers_mut().map(Reader::backlog).sum()
    }

    /// Ready once a receive will not find the subscription empty.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.wait(cx)
    }

    /// Announces that whoever polls is about to sleep, and looks once more.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.signal.register(cx.waker());
        // One that arrived before this rang the bell in vain, so it must be armed with the others. One that arrives from
        // now on rings.
        self.admit();
        // Those that still wait for their turn as well: looking once more may take them in.
        self.readers_mut().for_each(Reader::arm);
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.others.ended_losses + self.readers().map(Reader::lost).sum::<u64>()
    }

    /// The readers of the publishers that are there now.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        let Others { readers, later, .. } = &self.others;
        self.sole.iter().chain(readers).chain(later)
    }

    fn readers_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        let Others { readers, later, .. } = &mut self.others;
        self.sole.iter_mut().chain(readers).chain(later)
    }

    /// A reader of a publisher that has joined and was not taken in yet, for those who drive the readers on
    /// their own (a guest's host) and call none of the receiving methods. If one was returned before that has
    /// [ended](Reader::has_ended) and was not received, this one is to be received after it.
    pub fn next_arrival(&mut self) -> Option<Reader> {
        let Arrivals { mailbox, .. } = &self.arrivals;
        // Ordering: Acquire pairs with the Release in `SubscriptionFeed::add`.
        if !mailbox.arrived.load(Ordering::Acquire) || self.arrivals.arrived.is_inherited() {
            return None;
        }
        let mut letters = mailbox.letters();
        let arrival = letters.readers.pop_front();
        // Under the lock, under which it is set.
        mailbox.arrived.store(!letters.readers.is_empty(), Ordering::Relaxed);
        arrival
    }

    /// Whether a publisher is there that was not taken in yet, or one is still awaited: the topic's first, or one that is
    /// restarted if the subscription waits for those.
    #[must_use]
    pub fn awaits_publisher(&self) -> bool {
        self.arrivals.is_open()
    }

    /// What wakes this subscription.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Takes in the publishers that have joined, or lets go of all in a forked child. One load if there are none.
    #[inline(always)]
    fn admit(&mut self) {
        // Ordering: Acquire pairs with the Release in `SubscriptionFeed::add`.
        if self.arrivals.arrived.flag().load(Ordering::Acquire) {
            self.admit_arrivals();
        }
    }

    #[cold]
    #[inline(never)]
    fn admit_arrivals(&mut self) {
        if self.arrivals.arrived.is_inherited() {
            // The mailbox stays as it is: a thread of the parent may have had its lock.
            self.arrivals.inherited = true;
            self.sole = None;
            self.others = Others::default();
            return;
        }
        if self.arrivals.over {
            // The end was found, and is told first.
            return;
        }
        let arrived = {
            let mailbox = &self.arrivals.mailbox;
            let mut letters = mailbox.letters();
            // Under the lock, under which it is set.
            mailbox.arrived.store(false, Ordering::Relaxed);
            std::mem::take(&mut letters.readers)
        };
        self.others.readers.extend(self.sole.take());
        arrived.into_iter().for_each(|reader| self.others.add(reader));
        self.sole = self.others.take_sole();
    }
}

/// The readers, where there are several.
#[derive(Debug, Default)]
struct Others {
    /// They are received from in turns.
    readers: Vec<Reader>,
    /// Whose turn it is.
    current: usize,
    /// Readers of publishers that joined after one of `readers` had ended, in the order in which they joined. Empty if
    /// none of `readers` has ended.
    later: VecDeque<Reader>,
    /// Losses told by readers that have ended.
    ended_losses: u64,
}

impl Others {
    /// Adds the reader of a publisher that has joined.
    fn add(&mut self, reader: Reader) {
        self.forget_ended();
        self.later.push_back(reader);
        self.take_in();
    }

    /// Removes those that have ended and were received.
    fn forget_ended(&mut self) {
        let Self { readers, ended_losses, .. } = self;
        readers.retain(|reader| {
            let over = reader.has_ended();
            *ended_losses += if over { reader.lost() } else { 0 };
            !over
        });
    }

    /// Lets those join the turns that have waited for others to be received. Returns whether there were any.
    ///
    /// A publisher that ended before another one joined was closed when that one was added, so it is enough to look which are
    /// closed. Those that were closed a little later go first as well, which does no harm: what they have left is finite.
    fn take_in(&mut self) -> bool {
        let before = self.later.len();
        while !self.readers.iter().any(|reader| reader.channel().is_closed())
            && let Some(next) = self.later.pop_front()
        {
            self.readers.push(next);
        }
        self.later.len() < before
    }

    /// The reader, if there is no other one.
    fn take_sole(&mut self) -> Option<Reader> {
        if self.readers.len() == 1 && self.later.is_empty() { self.readers.pop() } else { None }
    }

    /// The reader to receive from next: the first in turn that has a message, or a loss
    /// to tell of.
    #[inline(never)]
    fn turn(&mut self, arrivals: &mut Arrivals) -> Result<&mut Reader, ReceiveError> {
        let mut tried = 0;
        while tried < self.readers.len() {
            self.current = (self.current + 1) % self.readers.len();
            let reader = &mut self.readers[self.current];
            if reader.has_message() {
                return Ok(&mut self.readers[self.current]);
            }
            if reader.has_ended() {
                // Ended: its place is taken by the last, which is tried in its stead.
                self.ended_losses += reader.lost();
                self.readers.swap_remove(self.current);
                self.current = self.current.wrapping_sub(1).min(self.readers.len());
                if self.take_in() {
                    tried = 0;
                }
            } else {
                reader.let_go_of_dropped();
                tried += 1;
            }
        }
        Err(if self.readers.is_empty() { arrivals.end(ReceiveError::Ended) } else { ReceiveError::Empty })
    }

    /// Takes back the last turn of one that has a message: it was not received.
    fn turn_back(&mut self) {
        self.current = self.current.checked_sub(1).unwrap_or(self.readers.len() - 1);
    }
}

/// Through which publishers join: the broker puts readers in, the subscription takes them out.
#[derive(Debug, Default)]
struct Mailbox {
    /// There are readers in it: known without the lock.
    arrived: Arc<AtomicBool>,
    letters: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    readers: VecDeque<Reader>,
    /// There was a reader, or there is one.
    had_publisher: bool,
    /// Those who may put readers in.
    feeds: usize,
    /// The subscription is gone.
    left: bool,
    departure: Option<Departure>,
}

/// What is done when the subscription has gone.
struct Departure(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure").finish_non_exhaustive()
    }
}

impl Mailbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        // Changed by single assignments, so it is whole after a panic.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription's end of the mailbox.
#[derive(Debug)]
struct Arrivals {
    /// That of the mailbox, which is set in a forked child too.
    arrived: ForkFlag,
    mailbox: Arc<Mailbox>,
    /// Publishers that may come back, if the subscription waits for them.
    expected: Option<Arc<ExpectedPublishers>>,
    /// The end was found, and is still to be told.
    over: bool,
    /// The process was forked: there are no readers any more.
    inherited: bool,
}

/// A reader that was never taken in must not hold its publisher back.
impl Drop for Arrivals {
    fn drop(&mut self) {
        if self.arrived.is_inherited() {
            // A thread of the parent may have had the lock.
            return;
        }
        let mut letters = self.mailbox.letters();
        letters.left = true;
        let readers = std::mem::take(&mut letters.readers);
        drop(letters);
        drop(readers);
    }
}

/// Tells that the subscription has gone.
#[derive(Debug)]
struct Leaving(Arc<Mailbox>, Process);

impl Drop for Leaving {
    fn drop(&mut self) {
        if !self.1.is_current() {
            return;
        }
        let departure = self.0.letters().departure.take();
        if let Some(Departure(tell)) = departure {
            tell();
        }
    }
}

impl Arrivals {
    /// What the end of all publishers that were taken in means: there may be others meanwhile.
    #[inline(always)]
    fn end(&mut self, error: ReceiveError) -> ReceiveError {
        if error == ReceiveError::Ended { self.at_end() } else { error }
    }

    #[cold]
    #[inline(never)]
    fn at_end(&mut self) -> ReceiveError {
        if self.inherited {
            return ReceiveError::Forked;
        }
        let goes_on = !std::mem::take(&mut self.over) && self.is_open();
        if goes_on { ReceiveError::Empty } else { ReceiveError::Ended }
    }

    /// Whether the end of all publishers that were taken in is the end; if so, it is told next.
    fn is_over(&mut self) -> bool {
        self.over = !self.is_open();
        self.over
    }

    /// Whether there is a publisher that was not taken in yet, or one is still awaited.
    #[cold]
    #[inline(never)]
    fn is_open(&self) -> bool {
        // Looked at first: when none is expected any more, the last one that was is in the mailbox.
        let expected = self.expected.as_ref().is_some_and(|expected| expected.any());
        let letters = self.mailbox.letters();
        !letters.readers.is_empty() || ((!letters.had_publisher || expected) && letters.feeds > 0)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::{Wake, Waker};

    use blockcast_blocks::{ChannelConfig, PublisherId, ReaderOptions, Schema, Writer, channel};

    use super::*;

    fn open(number: u64, feed: &SubscriptionFeed) -> Writer {
        let schema = Schema::named("test");
        let mut config = ChannelConfig::new(PublisherId::new(number), schema.clone());
        (config.blocks, config.block_size) = (8, 64);
        let writer = channel(config).unwrap();
        let options = ReaderOptions::default();
        feed.add(writer.channel().join(&schema, options, Arc::clone(feed.signal())).unwrap());
        writer
    }

    fn publish(writer: &mut Writer) {
        writer.try_loan(1).unwrap().publish(1).unwrap();
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_publisher_that_arrives_while_the_subscription_begins_to_wait_wakes_it() {
        let (feed, mut subscription) = subscription();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(!subscription.is_ready(), "the first half of `poll_ready`");
        let mut writer = open(1, &feed);
        if subscription.wait(&mut Context::from_waker(&waker)).is_pending() {
            publish(&mut writer);
            assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        }
        subscription.receive().unwrap();
    }

    #[test]
    fn once_the_end_was_found_it_is_what_is_received_also_if_a_publisher_arrives_in_between() {
        let (feed, mut subscription) = subscription();
        for round in 0..3 {
            let mut writer = open(round, &feed);
            publish(&mut writer);
            drop(subscription.receive().unwrap());
            assert!(!subscription.is_ready());
            drop(writer);
            assert!(subscription.is_ready(), "it has ended");
            let mut next = open(100 + round, &feed);
            publish(&mut next);
            assert_eq!(subscription.receive().unwrap_err(), ReceiveError::Ended);
            assert_eq!(subscription.receive().unwrap().publisher(), PublisherId::new(100 + round));
            drop(next);
        }
    }

    #[test]
    fn a_publisher_that_has_ended_and_was_received_leaves_no_memory_behind_and_the_one_that_stays_is_the_sole_one()
     {
        let (feed, mut subscription) = subscription();
        let mut writer = open(1, &feed);
        publish(&mut writer);
        let memory = Arc::downgrade(writer.channel());
        drop(writer);
        assert!(subscription.is_ready());
        drop(subscription.receive().unwrap());
        assert!(memory.upgrade().is_some());
        assert!(subscription.is_ready(), "the end");
        assert!(memory.upgrade().is_none());
        assert_eq!(subscription.receive().unwrap_err(), ReceiveError::Ended);

        let mut writers: Vec<_> = (2..4).map(|number| open(number, &feed)).collect();
        assert!(!subscription.is_ready() && subscription.sole.is_none());
        drop(writers.remove(0));
        assert!(!subscription.is_ready());
        assert!(!subscription.is_ready() && subscription.sole.is_some());
        publish(&mut writers[0]);
        assert_eq!(subscription.receive().unwrap().publisher(), PublisherId::new(3));
        drop(writers);
        assert_eq!(subscription.receive().unwrap_err(), ReceiveError::Ended);
    }

    #[test]
    fn publishers_are_received_in_turns_whether_one_looks_before_or_not() {
        for looks in [false, true] {
            let (feed, mut subscription) = subscription();
            let mut writers: Vec<_> = (0..4).map(|number| open(number, &feed)).collect();
            for _ in 0..3 {
                writers.iter_mut().for_each(publish);
            }
            let mut order = Vec::new();
            for _ in 0..12 {
                assert!(!looks || subscription.is_ready());
                order.push(subscription.receive().unwrap().publisher().get());
            }
            for turn in order.chunks_mut(4) {
                turn.sort_unstable();
                assert_eq!(turn, [0, 1, 2, 3], "looks: {looks}");
            }
        }
    }

    #[test]
    fn a_subscription_that_is_dropped_without_a_look_at_its_mailbox_keeps_no_publisher_waiting() {
        let (feed, subscription) = subscription();
        let mut early = open(1, &feed);
        drop(subscription);
        let mut late = open(2, &feed);
        for writer in [&mut early, &mut late] {
            assert_eq!(writer.subscriber_count(), 0);
            for _ in 0..100 {
                publish(writer);
            }
        }
        assert!(feed.is_closed());
    }
}
