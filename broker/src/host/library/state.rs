//! The state of one running native component: [`LibraryState`].

use std::sync::Arc;

use blockcast_blocks::abi::{self, Error};
use blockcast_blocks::{PublisherId, ReaderOptions, Schema, Signal};
use blockcast_publisher::PublisherOptions;

use super::blocks::{BlockHandle, Loan, Storages};
use super::instance::LibrarySetup;
use super::publisher::LibraryPublisher;
use super::retained::RetainedMemory;
use super::space::{ArenaBase, ThisProcess};
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

/// The target of a handle.
#[derive(Debug)]
pub(crate) enum Entry {
    Subscription(Box<LibrarySubscription>),
    Publisher(Box<LibraryPublisher>),
    Loan(Loan),
    Block(BlockHandle),
}

/// The open handles of a running component, and its resource use.
pub(crate) struct LibraryState {
    pub(super) setup: Arc<LibrarySetup>,
    pub(super) entries: Handles<Entry, 32, 32>,
    pub(super) storages: Storages,
    pub(super) open: Open,
    /// Counters of closed subscriptions and publishers.
    closed: ComponentStats,
    pub(crate) meter: Meter,
    pub(crate) limit_policy: LimitPolicy,
    held: HeldBlocks,
    /// The text of the last `fail`.
    pub(crate) failure: Option<String>,
    /// Whether `wait` has reported the request to finish.
    pub(crate) shutdown_reported: bool,
    /// Set once the run is over: nothing can be opened any more, and this is the memory that the component
    /// may still use.
    retained: Option<RetainedMemory>,
}

/// Numbers of open things.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    subscriptions: u32,
    publishers: u32,
    /// Handles of memory blocks, including loans.
    pub(super) blocks: u32,
    /// Loaned blocks.
    pub(super) loans: u32,
}

impl LibraryState {
    pub(crate) fn new(setup: Arc<LibrarySetup>) -> Self {
        let limits = &setup.limits;
        let limit_policy = LimitPolicy::new(limits);
        Self {
            meter: Meter::new(limits),
            held: HeldBlocks::new(limits),
            limit_policy,
            setup,
            entries: Handles::new(),
            storages: Storages::default(),
            open: Open::default(),
            closed: ComponentStats::default(),
            failure: None,
            shutdown_reported: false,
            retained: None,
        }
    }

    /// Whether the run is over.
    #[inline]
    pub(crate) fn is_released(&self) -> bool {
        self.retained.is_some()
    }

    /// Refuses a call because of a limit.
    pub(super) fn refuse(&self, limit: Limit) -> Error {
        self.limit_policy.note(limit);
        Error::Limit
    }

    fn refused(&self, refusal: Refusal) -> Error {
        refusal.limit().map_or_else(|| refusal.into(), |limit| self.refuse(limit))
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Result<u64, Error> {
        self.entries.insert(entry).ok_or(Error::Limit)
    }

    // Subscriptions

    /// `name` is the name in statistics. The default is the component's name.
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
                .warn(topic, "a component's grants do not allow subscriptions with back-pressure");
            return Err(Error::Denied);
        }
        let signal = name.map(Signal::named);
        let waits_on = signal.as_ref().unwrap_or_else(|| self.setup.control.signal());
        let source = self.setup.topics.source(topic, schema, options, waits_on);
        let source = source.map_err(|refusal| self.refused(refusal))?;
        if source.is_unsealed() {
            // To native code, a message that changes is undefined behaviour.
            self.setup.topics.warn(topic, "native code cannot subscribe to an unsealed topic");
            return Err(Error::Denied);
        }
        let deliveries =
            Deliveries::new(Box::new(source), reliable, self.held.clone(), self.limit_policy.clone());
        let handle =
            self.insert(Entry::Subscription(Box::new(LibrarySubscription::new(deliveries, signal))))?;
        self.open.subscriptions += 1;
        Ok(handle)
    }

    #[inline]
    pub(crate) fn subscription(&mut self, handle: u64) -> Result<&mut Deliveries<ArenaBase>, Error> {
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

    /// `subscription.poll`.
    ///
    /// # Safety
    /// `batch` points to aligned memory for `room` records that nobody else uses during the call.
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
        // SAFETY: the caller guarantees this.
        unsafe { deliveries.poll(&mut ThisProcess, &self.setup.limits, (batch, room), released_before) }
    }

    pub(crate) fn hold(&mut self, handle: u64, index: u64) -> Result<u32, Error> {
        self.subscription(handle)?.hold(&mut ThisProcess, index)
    }

    pub(crate) fn unhold(&mut self, handle: u64, hold: u32) -> Result<(), Error> {
        self.subscription(handle)?.unhold(&mut ThisProcess, hold)
    }

    // Publishers

    /// `name` is the name in statistics. The default is the component's name.
    pub(crate) fn open_publisher(
        &mut self,
        topic: &str,
        schema: &Schema,
        options: PublisherOptions,
        name: Option<&str>,
    ) -> Result<u64, Error> {
        let limits = &self.setup.limits;
        let options = with_enough_blocks(options)?;
        // The publisher's number does not affect the size.
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
        self.return_loans_of(handle);
        if let Some(Entry::Publisher(publisher)) = self.entries.remove(handle) {
            self.open.publishers -= 1;
            add_published(&mut self.closed, &publisher);
        }
    }

    /// Number of messages that may be published now.
    pub(crate) fn free_blocks(&mut self, handle: u64) -> Result<u32, Error> {
        let free = self.publisher(handle)?.free_blocks();
        Ok(self.meter.publishable(free))
    }

    /// Checks that a message may be published now.
    #[inline]
    pub(super) fn may_publish(&mut self) -> Result<(), Error> {
        self.meter.may_publish().map_err(|limit| self.refuse(limit))
    }

    /// `publisher.publish`.
    ///
    /// # Safety
    /// `len` bytes from `message` on are readable, and nobody writes to them during the call.
    pub(crate) unsafe fn publish(
        &mut self,
        handle: u64,
        message: *const u8,
        len: u32,
        trust: Trust,
    ) -> Result<u64, Error> {
        self.publisher(handle)?;
        self.may_publish()?;
        // SAFETY: the caller guarantees this.
        let sequence = unsafe { self.publisher(handle)?.publish_copy(message, len, trust) }?;
        self.meter.published(u64::from(len));
        Ok(sequence)
    }

    /// `publisher_direct`.
    pub(crate) fn publisher_direct(&mut self, handle: u64) -> Result<abi::DirectPublisher, Error> {
        let limits = &self.setup.limits;
        let limited = limits.publish_messages.is_some() || limits.publish_bytes.is_some();
        let publisher = self.publisher(handle)?;
        if limited { Err(Error::Denied) } else { publisher.direct_publisher().ok_or(Error::Denied) }
    }

    /// `publisher_take_blocks`: takes up to `room` blocks, at least one. Returns the first sequence that
    /// names one, and their number.
    pub(crate) fn take_blocks(&mut self, handle: u64, room: u32) -> Result<(u64, u32), Error> {
        self.publisher(handle)?.recall_direct();
        // Blocks lent to one publisher for direct publishing count as one loan, however many they are, so
        // that its supply does not use up the loans of the others.
        let supplies = self.entries.iter_mut().filter_map(|(_, entry)| match entry {
            Entry::Publisher(publisher) => (publisher.reserved_direct() > 0).then_some(()),
            _ => None,
        });
        let supplies = u32::try_from(supplies.count()).unwrap_or(u32::MAX);
        if self.open.loans.saturating_add(supplies) >= self.setup.limits.loans {
            return Err(self.refuse(Limit::Loans));
        }
        self.publisher(handle)?.reserve_direct(room)
    }

    // Everything

    /// Registers the context's waker with everything that can make progress. Returns `true` if there is a
    /// reason not to sleep.
    pub(crate) fn arm(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        let mut progress = false;
        for (_, entry) in self.entries.iter_mut() {
            progress |= match entry {
                Entry::Subscription(subscription) => {
                    if let Some(signal) = &subscription.signal {
                        signal.register(cx.waker());
                    }
                    subscription.deliveries.arm(cx.waker())
                }
                Entry::Publisher(publisher) => publisher.arm(cx),
                Entry::Loan(_) | Entry::Block(_) => false,
            };
        }
        progress
    }

    /// Returns the counters, including those of open handles.
    pub(crate) fn stats(&self) -> ComponentStats {
        let (log_lines, log_lines_dropped) = self.meter.lines().counts();
        let mut stats = ComponentStats {
            host_calls: self.meter.calls(),
            refusals: self.limit_policy.refusals(),
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
        if let Some(retained) = &self.retained {
            retained.count_in(&mut stats);
        }
        stats
    }

    /// Ends the run: closes everything that the component has open. All handles become invalid, and no
    /// publisher waits for the component. Memory that it may still use stays until
    /// [`take_retained`](Self::take_retained).
    pub(crate) fn release(&mut self) {
        let mut retained = self.retained.take().unwrap_or_default();
        retained.memory.extend(self.storages.take_memory());
        let handles: Vec<u64> = self.entries.iter_mut().map(|(handle, _)| handle).collect();
        for &handle in &handles {
            self.close_block(handle);
        }
        for handle in handles {
            match self.entries.get_mut(handle) {
                Some(Entry::Publisher(publisher)) => {
                    retained.arenas.push(publisher.pin());
                    self.close_publisher(handle);
                }
                Some(Entry::Subscription(_)) => {
                    let closed = self.take_subscription(handle);
                    retained.messages.extend(closed.map(|closed| closed.deliveries.into_unreleased()));
                }
                _ => {}
            }
        }
        self.retained = Some(retained);
    }

    /// Removes and returns the memory that the component could still use. Call this when none of its code
    /// runs any more.
    pub(crate) fn take_retained(&mut self) -> Option<RetainedMemory> {
        self.retained.replace(RetainedMemory::default())
    }

    pub(crate) fn fail(&mut self, text: &str) {
        self.failure = Some(line(text).into_owned());
    }

    /// Decides whether to write a line of the log. Dropping one counts as exceeding a limit.
    pub(crate) fn line(&mut self) -> Admission {
        let admission = self.meter.lines().admit();
        if let Admission::Dropped = admission {
            self.limit_policy.note(Limit::LogLines);
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
