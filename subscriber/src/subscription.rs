//! [`Subscription`]: all publishers of a topic as one source of messages.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use blockcast_blocks::{RawBatch, RawMessage, RawSample, Reader, ReceiveError, Signal};

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
    let left = Arc::new(AtomicBool::new(false));
    let feed = SubscriptionFeed {
        sender,
        arrivals: arrivals.clone(),
        arrived: Arc::clone(&arrived),
        left: Arc::clone(&left),
        bell: Bell(Arc::clone(&signal)),
    };
    let subscription = Subscription {
        sole: None,
        mailbox: Mailbox { arrived, arrivals, left, had_publisher: false, over: false },
        others: Others::default(),
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
    /// The other end, to empty the mailbox of a subscription that is gone.
    arrivals: flume::Receiver<Reader>,
    /// Set after a reader was sent, so that an empty mailbox is known without its lock.
    arrived: Arc<AtomicBool>,
    /// Set when the subscription is gone, before it empties the mailbox.
    left: Arc<AtomicBool>,
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
        // Cannot fail: there is a receiver in `self`.
        let added = self.sender.send(reader).is_ok() && !self.is_closed();
        if !added {
            // Sent after the subscription had emptied its mailbox, or just before: nobody else would look there.
            self.arrivals.drain().for_each(drop);
        }
        // Ordering: Release pairs with the Acquire in `Subscription::admit`: who sees it finds the reader.
        self.arrived.store(true, Ordering::Release);
        self.bell.0.wake();
        added
    }

    /// Whether the subscription is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Ordering: Acquire pairs with the Release in the mailbox's drop. Who sends a reader that the drop did not find took
        // the mailbox's lock after it, and sees this.
        self.left.load(Ordering::Acquire)
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
    mailbox: Mailbox,
    others: Others,
    signal: Arc<Signal>,
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
            Some(reader) => reader.receive().map_err(|error| self.mailbox.end(error)),
            None => self.others.turn(&mut self.mailbox)?.receive(),
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
            Some(reader) => reader.receive_batch(limit).map_err(|error| self.mailbox.end(error)),
            None => self.others.turn(&mut self.mailbox)?.receive_batch(limit),
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
            Some(reader) => reader.receive_owned().map_err(|error| self.mailbox.end(error)),
            None => self.others.turn(&mut self.mailbox)?.receive_owned(),
        }
    }

    /// Whether a receive would find anything but [`ReceiveError::Empty`]. If that is the end, the next receive tells so,
    /// also if a publisher has arrived in between.
    pub fn is_ready(&mut self) -> bool {
        self.mailbox.over = false;
        self.admit();
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
                self.mailbox.is_over()
            }
            None => match self.others.turn(&mut self.mailbox) {
                Ok(_) => {
                    self.others.turn_back();
                    true
                }
                Err(error) => error != ReceiveError::Empty && self.mailbox.is_over(),
            },
        }
    }

    /// How many receives it takes at most to get to the newest message that is there now: one for each message, and one
    /// per publisher for a loss. One load per publisher.
    pub fn backlog(&mut self) -> u64 {
        self.admit();
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
    /// their own (a guest's host) and call none of the receiving methods.
    pub fn next_arrival(&mut self) -> Option<Reader> {
        let Mailbox { arrived, arrivals, .. } = &self.mailbox;
        // Ordering: Acquire pairs with the Release in `SubscriptionFeed::add`.
        if !arrived.load(Ordering::Acquire) {
            return None;
        }
        let arrival = arrivals.try_recv().ok().or_else(|| {
            // Cleared before the last look: one that comes meanwhile sets it again.
            arrived.store(false, Ordering::Relaxed);
            arrivals.try_recv().ok()
        });
        self.mailbox.had_publisher |= arrival.is_some();
        arrival
    }

    /// Whether the topic still waits for its first publisher.
    #[must_use]
    pub fn awaits_publisher(&self) -> bool {
        self.mailbox.awaits_publisher()
    }

    /// What wakes this subscription.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Takes in the publishers that have joined. One load if there are none.
    #[inline(always)]
    fn admit(&mut self) {
        // Ordering: Acquire pairs with the Release in `SubscriptionFeed::add`.
        if self.mailbox.arrived.load(Ordering::Acquire) {
            self.admit_arrivals();
        }
    }

    #[cold]
    #[inline(never)]
    fn admit_arrivals(&mut self) {
        if self.mailbox.over {
            // The end was found, and is told first.
            return;
        }
        // Cleared before the mailbox is emptied: one that comes meanwhile sets it again.
        self.mailbox.arrived.store(false, Ordering::Relaxed);
        self.others.readers.extend(self.sole.take());
        while let Ok(reader) = self.mailbox.arrivals.try_recv() {
            self.mailbox.had_publisher = true;
            self.others.add(reader);
        }
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
        readers.retain_mut(|reader| {
            let over = is_over(reader);
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
    fn turn(&mut self, mailbox: &mut Mailbox) -> Result<&mut Reader, ReceiveError> {
        let mut tried = 0;
        while tried < self.readers.len() {
            self.current = (self.current + 1) % self.readers.len();
            let reader = &mut self.readers[self.current];
            if reader.has_message() {
                return Ok(&mut self.readers[self.current]);
            }
            if is_over(reader) {
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
        Err(if self.readers.is_empty() { mailbox.end(ReceiveError::Ended) } else { ReceiveError::Empty })
    }

    /// Takes back the last turn of one that has a message: it was not received.
    fn turn_back(&mut self) {
        self.current = self.current.checked_sub(1).unwrap_or(self.readers.len() - 1);
    }
}

/// Whether the publisher has ended and everything was received.
fn is_over(reader: &mut Reader) -> bool {
    // Looks once more for a message where it is closed: none comes that this look does not find.
    reader.is_ready() && !reader.has_message()
}

/// The subscription's end of the mailbox through which publishers join.
#[derive(Debug)]
struct Mailbox {
    arrived: Arc<AtomicBool>,
    arrivals: flume::Receiver<Reader>,
    left: Arc<AtomicBool>,
    had_publisher: bool,
    /// The end was found, and is still to be told.
    over: bool,
}

/// A reader that was never taken in must not hold its publisher back.
impl Drop for Mailbox {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Release);
        self.arrivals.drain().for_each(drop);
    }
}

impl Mailbox {
    /// What the end of all publishers that were taken in means: there may be others meanwhile.
    #[inline(always)]
    fn end(&mut self, error: ReceiveError) -> ReceiveError {
        if error == ReceiveError::Ended && self.goes_on() { ReceiveError::Empty } else { error }
    }

    #[cold]
    #[inline(never)]
    fn goes_on(&mut self) -> bool {
        !std::mem::take(&mut self.over) && self.is_open()
    }

    /// Whether the end of all publishers that were taken in is the end; if so, it is told next.
    fn is_over(&mut self) -> bool {
        self.over = !self.is_open();
        self.over
    }

    /// Whether there is a publisher that was not taken in yet, or the first is still awaited.
    #[cold]
    #[inline(never)]
    fn is_open(&self) -> bool {
        // In this order: when nobody can leave a reader any more, all of them were left before.
        self.awaits_publisher() || !self.arrivals.is_empty()
    }

    /// Whether the topic still waits for its first publisher.
    fn awaits_publisher(&self) -> bool {
        !self.had_publisher && !self.arrivals.is_disconnected()
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

    fn open(number: u32, feed: &SubscriptionFeed) -> Writer {
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
