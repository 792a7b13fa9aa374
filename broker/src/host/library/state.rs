//! What the broker keeps for one running native component: [`LibraryState`].

use std::sync::Arc;

use blockcast_blocks::abi::{self, Error};
use blockcast_blocks::{PublisherId, ReaderOptions, Schema, Signal};
use blockcast_publisher::PublisherOptions;

use super::blocks::{BlockHandle, Loan, Storages};
use super::instance::LibrarySetup;
use super::left_behind::LeftBehind;
use super::publisher::LibraryPublisher;
use super::space::{Base, ThisProcess};
use super::subscription::LibrarySubscription;
use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::stats::ComponentStats;
use crate::hosting::deliveries::Deliveries;
use crate::hosting::handles::Handles;
use crate::hosting::held_blocks::HeldBlocks;
use crate::hosting::log::line;
use crate::hosting::meter::{Admission, Meter};
use crate::hosting::publishing::{Trust, with_enough_blocks};
use crate::hosting::topic_access::{PublisherPort, Refusal, SubscriptionSource};

/// What a handle stands for.
#[derive(Debug)]
pub(crate) enum Entry {
    Subscription(Box<LibrarySubscription>),
    Publisher(Box<LibraryPublisher>),
    Loan(Loan),
    Block(BlockHandle),
}

/// What a running component has open, and what it has used.
pub(crate) struct LibraryState {
    pub(super) setup: Arc<LibrarySetup>,
    pub(super) entries: Handles<Entry, 32, 32>,
    pub(super) storages: Storages,
    pub(super) open: Open,
    /// What subscriptions and publishers did that are closed.
    closed: ComponentStats,
    pub(crate) meter: Meter,
    pub(crate) excess: LimitPolicy,
    kept: HeldBlocks,
    /// The text of the last `fail`.
    pub(crate) said: Option<String>,
    /// Whether `wait` has reported the request to finish.
    pub(crate) shutdown_seen: bool,
    /// Once the run is over nothing is opened any more, and this is what the component may still reach.
    left: Option<LeftBehind>,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    subscriptions: u32,
    publishers: u32,
    /// Handles on memory blocks, loans among them.
    pub(super) blocks: u32,
    /// Blocks of its publishers that it fills.
    pub(super) loans: u32,
}

impl LibraryState {
    pub(crate) fn new(setup: Arc<LibrarySetup>) -> Self {
        let limits = &setup.limits;
        let excess = LimitPolicy::new(limits);
        Self {
            meter: Meter::new(limits),
            kept: HeldBlocks::new(limits),
            excess,
            setup,
            entries: Handles::new(),
            storages: Storages::default(),
            open: Open::default(),
            closed: ComponentStats::default(),
            said: None,
            shutdown_seen: false,
            left: None,
        }
    }

    /// Whether the run is over.
    #[inline]
    pub(crate) fn is_released(&self) -> bool {
        self.left.is_some()
    }

    /// Refuses something because of a limit.
    pub(super) fn refuse(&self, limit: Limit) -> Error {
        self.excess.note(limit);
        Error::Limit
    }

    fn refused(&self, refusal: Refusal) -> Error {
        refusal.limit().map_or_else(|| refusal.into(), |limit| self.refuse(limit))
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Result<u64, Error> {
        self.entries.insert(entry).ok_or(Error::Limit)
    }

    // Subscriptions

    /// `name`: what statistics call it, if it is not to be called as the component.
    pub(crate) fn open_subscription(
        &mut self,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        name: Option<&str>,
    ) -> Result<u64, Error> {
        let limits = &self.setup.limits;
        if self.open.subscriptions >= limits.subscriptions {
            return Err(self.refuse(Limit::Subscriptions));
        }
        let reliable = options.overflow == blockcast_blocks::Overflow::Block;
        if !limits.back_pressure && reliable {
            self.setup
                .topics
                .warn(topic, "a component's grant allows no subscription that publishers wait for");
            return Err(Error::Denied);
        }
        let signal = name.map(Signal::named);
        let waits_on = signal.as_ref().unwrap_or_else(|| self.setup.control.signal());
        let source = self.setup.topics.source(topic, schema, options, waits_on);
        let source = source.map_err(|refusal| self.refused(refusal))?;
        if source.is_unsealed() {
            // To native code a message that changes is undefined behaviour.
            self.setup.topics.warn(topic, "an unsealed topic is not for native code");
            return Err(Error::Denied);
        }
        let deliveries = Deliveries::new(Box::new(source), reliable, self.kept.clone(), self.excess.clone());
        let handle =
            self.insert(Entry::Subscription(Box::new(LibrarySubscription::new(deliveries, signal))))?;
        self.open.subscriptions += 1;
        Ok(handle)
    }

    #[inline]
    pub(crate) fn subscription(&mut self, handle: u64) -> Result<&mut Deliveries<Base>, Error> {
        match self.entries.get_mut(handle) {
            Some(Entry::Subscription(subscription)) => Ok(&mut subscription.deliveries),
            _ => Err(Error::InvalidHandle),
        }
    }

    pub(crate) fn close_subscription(&mut self, handle: u64) {
        drop(self.take_subscription(handle));
    }

    fn take_subscription(&mut self, handle: u64) -> Option<Box<LibrarySubscription>> {
        self.subscription(handle).ok()?;
        let Some(Entry::Subscription(subscription)) = self.entries.remove(handle) else { return None };
        self.open.subscriptions -= 1;
        subscription.deliveries.add_to(&mut self.closed);
        Some(subscription)
    }

    /// As `subscription.poll`.
    ///
    /// # Safety
    /// From `batch` on there is memory for `room` records, aligned to them, that nobody else uses during the call.
    #[inline]
    pub(crate) unsafe fn poll(
        &mut self,
        handle: u64,
        (batch, room): (*mut abi::Record, u32),
        released_before: u64,
    ) -> Result<u32, Error> {
        let Some(Entry::Subscription(subscription)) = self.entries.get_mut(handle) else {
            return Err(Error::InvalidHandle);
        };
        let deliveries = &mut subscription.deliveries;
        // SAFETY: the caller's promise.
        unsafe { deliveries.poll(&mut ThisProcess, &self.setup.limits, (batch, room), released_before) }
    }

    pub(crate) fn hold(&mut self, handle: u64, index: u64) -> Result<u32, Error> {
        self.subscription(handle)?.hold(&mut ThisProcess, index)
    }

    pub(crate) fn unhold(&mut self, handle: u64, hold: u32) -> Result<(), Error> {
        self.subscription(handle)?.unhold(&mut ThisProcess, hold)
    }

    // Publishers

    /// `name`: what statistics call it, if it is not to be called as the component.
    pub(crate) fn open_publisher(
        &mut self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        name: Option<&str>,
    ) -> Result<u64, Error> {
        let limits = &self.setup.limits;
        let options = with_enough_blocks(options)?;
        // The number does not matter for the size.
        let config = options.channel(PublisherId::new(0), schema.clone());
        let bytes = config.memory().map_err(|_| Error::WrongSize)?;
        let charge = self.setup.control.account().charge(bytes, self.open.publishers, limits);
        let charge = charge.map_err(|limit| self.refuse(limit))?;
        let own = name.map(Signal::named);
        let signal = own.as_ref().unwrap_or_else(|| self.setup.control.signal());
        let port = self.setup.topics.port(topic, schema, options, Arc::clone(signal));
        let mut port = port.map_err(|refusal| self.refused(refusal))?;
        let charged = charge.leave_with(port.writer().0.channel(), limits);
        charged.map_err(|limit| self.refuse(limit))?;
        let publisher = LibraryPublisher::new(port, own);
        let handle = self.insert(Entry::Publisher(Box::new(publisher)))?;
        self.open.publishers += 1;
        Ok(handle)
    }

    #[inline]
    pub(crate) fn publisher(&mut self, handle: u64) -> Result<&mut LibraryPublisher, Error> {
        match self.entries.get_mut(handle) {
            Some(Entry::Publisher(publisher)) => Ok(publisher),
            _ => Err(Error::InvalidHandle),
        }
    }

    pub(crate) fn close_publisher(&mut self, handle: u64) {
        if self.publisher(handle).is_err() {
            return;
        }
        self.forget_loans_of(handle);
        if let Some(Entry::Publisher(publisher)) = self.entries.remove(handle) {
            self.open.publishers -= 1;
            add_published(&mut self.closed, &publisher);
        }
    }

    /// How many messages may be published now.
    pub(crate) fn free_blocks(&mut self, handle: u64) -> Result<u32, Error> {
        let free = self.publisher(handle)?.free_blocks();
        Ok(self.meter.publishable(free))
    }

    /// Whether a message may be published now.
    #[inline]
    pub(super) fn may_publish(&mut self) -> Result<(), Error> {
        self.meter.may_publish().map_err(|limit| self.refuse(limit))
    }

    /// As `publisher.publish`.
    ///
    /// # Safety
    /// `len` bytes are readable from `message` on, and nobody writes them meanwhile.
    pub(crate) unsafe fn publish(
        &mut self,
        handle: u64,
        message: *const u8,
        len: u32,
        trust: Trust,
    ) -> Result<u64, Error> {
        self.publisher(handle)?;
        self.may_publish()?;
        // SAFETY: the caller's promise.
        let sequence = unsafe { self.publisher(handle)?.publish_copy(message, len, trust) }?;
        self.meter.published(u64::from(len));
        Ok(sequence)
    }

    /// As `publisher_line`.
    pub(crate) fn publisher_line(&mut self, handle: u64) -> Result<abi::PublishingLine, Error> {
        let limits = &self.setup.limits;
        let limited = limits.publish_messages.is_some() || limits.publish_bytes.is_some();
        let publisher = self.publisher(handle)?;
        if limited { Err(Error::Denied) } else { publisher.line().ok_or(Error::Denied) }
    }

    /// As `publisher_take_blocks`: up to `room` blocks, at least one. Returns the first sequence that names one, and how many.
    pub(crate) fn take_blocks(&mut self, handle: u64, room: u32) -> Result<(u64, u32), Error> {
        self.publisher(handle)?.recall_from_line();
        // What waits at a line is one loan, however many blocks that are, so that no publisher takes the others' loans for a stock.
        let lines = self.entries.iter_mut().filter_map(|(_, entry)| match entry {
            Entry::Publisher(publisher) => (publisher.lent_to_line() > 0).then_some(()),
            _ => None,
        });
        let lines = u32::try_from(lines.count()).unwrap_or(u32::MAX);
        if self.open.loans.saturating_add(lines) >= self.setup.limits.loans {
            return Err(self.refuse(Limit::Loans));
        }
        self.publisher(handle)?.lend_to_line(room)
    }

    // Everything

    /// Looks for reasons not to sleep, having registered the context's waker with what could bring one about.
    pub(crate) fn arm(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        let mut progress = false;
        for (_, entry) in self.entries.iter_mut() {
            progress |= match entry {
                Entry::Subscription(subscription) => {
                    if let Some(signal) = &subscription.signal {
                        signal.register(cx.waker());
                    }
                    subscription.deliveries.arm()
                }
                Entry::Publisher(publisher) => publisher.arm(cx),
                Entry::Loan(_) | Entry::Block(_) => false,
            };
        }
        progress
    }

    /// The counters, including what is still open.
    pub(crate) fn stats(&self) -> ComponentStats {
        let (log_lines, log_lines_dropped) = self.meter.lines().counts();
        let mut stats = ComponentStats {
            host_calls: self.meter.calls(),
            refusals: self.excess.refusals(),
            log_lines,
            log_lines_dropped,
            subscriptions: self.open.subscriptions,
            publishers: self.open.publishers,
            ..self.closed
        };
        for entry in self.entries.iter() {
            match entry {
                Entry::Subscription(subscription) => {
                    let deliveries = &subscription.deliveries;
                    deliveries.add_to(&mut stats);
                    let now = deliveries.stats();
                    stats.attached = stats.attached.saturating_add(now.attached);
                    stats.held = stats.held.saturating_add(now.held);
                }
                Entry::Publisher(publisher) => add_published(&mut stats, publisher),
                Entry::Loan(_) | Entry::Block(_) => {}
            }
        }
        if let Some(left) = &self.left {
            left.count_in(&mut stats);
        }
        stats
    }

    /// Ends the run: closes everything that the component has open. Its handles stand for nothing any more, and no publisher
    /// waits for it. What it may still reach stays where it is until [`forget`](Self::forget).
    pub(crate) fn release(&mut self) {
        let mut left = self.left.take().unwrap_or_default();
        left.memory.extend(self.storages.take_memory());
        let handles: Vec<u64> = self.entries.iter_mut().map(|(handle, _)| handle).collect();
        for &handle in &handles {
            self.close_block(handle);
        }
        for handle in handles {
            match self.entries.get_mut(handle) {
                Some(Entry::Publisher(publisher)) => {
                    left.arenas.push(publisher.pin());
                    self.close_publisher(handle);
                }
                Some(Entry::Subscription(_)) => {
                    let closed = self.take_subscription(handle);
                    left.messages.extend(closed.map(|closed| closed.deliveries.into_unreleased()));
                }
                _ => {}
            }
        }
        self.left = Some(left);
    }

    /// Takes out what the component could still reach. Not before none of its code runs any more.
    pub(crate) fn forget(&mut self) -> Option<LeftBehind> {
        self.left.replace(LeftBehind::default())
    }

    pub(crate) fn fail(&mut self, text: &str) {
        self.said = Some(line(text).into_owned());
    }

    /// What becomes of a line of its log. One that is dropped counts as an excess.
    pub(crate) fn line(&mut self) -> Admission {
        let admission = self.meter.lines().admit();
        if let Admission::Dropped = admission {
            self.excess.note(Limit::LogLines);
        }
        admission
    }
}

fn add_published(stats: &mut ComponentStats, publisher: &LibraryPublisher) {
    let abi::PublisherStats { published, bytes, copied, .. } = publisher.stats();
    stats.add_published(published, bytes, copied);
}

impl std::fmt::Debug for LibraryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LibraryState").field("open", &self.open).finish_non_exhaustive()
    }
}
