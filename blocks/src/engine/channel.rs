//! One publisher's arena, ring and cursors: [`Channel`].

use std::any::Any;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::engine::config::ChannelConfig;
use crate::engine::ring::consumer::unhold;
use crate::engine::segment::Segment;
use crate::engine::segment::arena::Arena;
use crate::engine::segment::control::Control;
use crate::engine::segment::external_memory::ArenaMemory;
use crate::engine::segment::layout::Layout;
use crate::engine::segment::side::Side;
use crate::engine::segment::words::UNUSED;
use crate::engine::wake::roster::Roster;
use crate::engine::wake::rung::{Rings, Rung};
use crate::engine::wake::signal::Signal;
use crate::error::ChannelError;
use crate::payload::schema::Schema;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, next_serial};
use crate::stats::HolderStats;
use crate::sys::fork::Process;
use crate::units::PublisherId;

mod stats;
pub(in crate::engine) mod traffic;

#[cfg(not(loom))]
pub(in crate::engine) use stats::reader_stats;
use traffic::TrafficTotals;

/// A channel, shared by its publisher, its subscribers and the samples that they keep. Lives until the last
/// of them is dropped.
///
/// A process can also [open](Channel::open_remote) the channel of a publisher in another process. Then
/// "subscribers" means those of this process.
#[derive(Debug)]
pub struct Channel {
    /// Unique among the channels of this process.
    serial: u64,
    process: Process,
    config: ChannelConfig,
    segment: Segment,
    /// The samples of current subscribers, and of some that have left.
    holders: Mutex<Vec<Weak<dyn Holder>>>,
    /// Samples that subscribers which may lose messages keep together, beyond what each of them may keep.
    charged: AtomicU32,
    /// The joined subscribers.
    joined: Mutex<Subscribers>,
    /// The head at which the publisher last found no block, or [`UNUSED`] since it found one.
    pub(crate) wanted: AtomicU64,
    /// Wakes subscribers that wait for messages.
    pub(crate) subscribers: Roster,
    /// Wakes the publisher when it waits for blocks. Nobody waits on it if the publisher is in another
    /// process.
    pub(crate) publisher: Arc<Signal>,
    /// The file of the control segment, for as long as other processes can map it.
    #[cfg(not(loom))]
    pub(super) control_file: Mutex<Option<OwnedFd>>,
    /// The arena's file, if the publisher is in another process.
    #[cfg(not(loom))]
    _arena_file: Option<Arc<OwnedFd>>,
    /// Sums up the counters of subscribers that have left.
    totals: OnceLock<Arc<TrafficTotals>>,
    /// Dropped last: the memory is free by then.
    charge: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A subscriber's samples, for statistics.
pub(crate) trait Holder: fmt::Debug + Send + Sync {
    /// The messages that the samples keep, if there are any.
    fn stats(&self) -> Option<HolderStats>;
}

/// Keeps the memory of a channel's blocks accessible even when its publisher was dropped and nobody has
/// anything left to receive. For code that may still write a block that it loaned.
#[derive(Debug)]
pub struct ArenaPin(Arc<Channel>);

impl Drop for ArenaPin {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            return;
        }
        self.0.lock_subscribers().pins -= 1;
        self.0.release_if_unneeded();
    }
}

impl Rings for Channel {
    /// The publisher's counter.
    fn rung(&self) -> &Rung {
        &self.control().header().remote.rung
    }

    fn is_over(&self) -> bool {
        self.is_closed()
    }
}

/// The cursors of a channel, and which subscribers use them.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    pub(super) signals: Vec<Option<Arc<Signal>>>,
    /// The largest number of messages kept for subscribers that drop the newest.
    pub(super) depth: u32,
    /// Reasons to keep the memory of the blocks for now: subscribers that are still joining, and
    /// [pins](ArenaPin).
    pub(super) pins: u32,
    /// Whether the memory of the blocks was released, so that nobody can join any more.
    pub(super) released: bool,
}

impl Channel {
    /// Places the blocks in `memory` if the user provides it.
    pub(crate) fn create(
        config: ChannelConfig,
        publisher: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<(Arc<Self>, Arc<OwnedFd>), ChannelError> {
        let layout = config.layout()?;
        let preamble = config.preamble(&layout);
        let name = format!("blockcast-arena-{}", config.publisher.get());
        let (segment, files) = Segment::create(&preamble, layout, &name, config.prefault, memory)?;
        let channel = Self::of(
            config,
            segment,
            publisher,
            #[cfg(not(loom))]
            (Some(files.control), None),
        );
        Ok((Arc::new(channel), files.arena))
    }

    /// Creates the channel of a segment, with the files to keep open: those of control segment and arena.
    pub(super) fn of(
        config: ChannelConfig,
        segment: Segment,
        publisher: Arc<Signal>,
        #[cfg(not(loom))] (control, arena): (Option<OwnedFd>, Option<Arc<OwnedFd>>),
    ) -> Self {
        let signals = vec![None; config.max_subscribers as usize];
        Self {
            serial: next_serial(),
            process: Process::current(),
            holders: Mutex::default(),
            charged: AtomicU32::new(0),
            wanted: AtomicU64::new(UNUSED),
            joined: Mutex::new(Subscribers { signals, ..Subscribers::default() }),
            config,
            segment,
            subscribers: Roster::new(),
            publisher,
            #[cfg(not(loom))]
            control_file: Mutex::new(control),
            #[cfg(not(loom))]
            _arena_file: arena,
            totals: OnceLock::new(),
            charge: OnceLock::new(),
        }
    }

    /// Returns a number that no other channel of this process has.
    #[inline]
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// The publisher's number.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.config.publisher
    }

    /// The number by which guests and libraries know the publisher.
    #[must_use]
    pub fn component_number(&self) -> u32 {
        self.config.component_number
    }

    /// Layout of the messages.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.config.schema
    }

    /// How the channel was created.
    #[must_use]
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// Where the payload bytes live.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        self.segment.arena()
    }

    /// Keeps `charge` until the channel's memory is free, whichever of publisher, subscribers and samples
    /// uses it last. Code that accounts for the memory learns from its drop that the memory is free. A
    /// channel has one charge.
    ///
    /// # Errors
    /// Returns `charge` if the channel already has one.
    pub fn charge(&self, charge: Box<dyn Any + Send + Sync>) -> Result<(), Box<dyn Any + Send + Sync>> {
        self.charge.set(charge)
    }

    /// Whether this process was forked after the channel was created: it has no part in the channel then. One
    /// load.
    #[inline]
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    /// The process that created the channel.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Returns `true` once the publisher was dropped or its process has ended, even if messages are left to
    /// receive. Returns `true` in a forked child, which receives none.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_inherited() || self.control().is_closed()
    }

    /// The number of joined subscribers, with those of attached processes. One that is still joining does not
    /// count: whatever is published after this returns reaches everyone who was counted.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        if self.is_inherited() {
            // There are none. Threads of the parent may have held the lock when it forked.
            return 0;
        }
        let joined =
            |side: &Side| side.used_cursors().iter().filter(|line| line.joined_at().is_some()).count() as u32;
        let mut count = joined(self.control().side());
        if let Some(annexes) = self.control().annexes() {
            annexes.each(|annex| count = count.saturating_add(joined(annex.side())));
        }
        count
    }

    /// The publisher's signal: woken when a subscriber joins, and when a block comes free while the publisher
    /// waits for one.
    #[must_use]
    pub fn publisher_signal(&self) -> &Arc<Signal> {
        &self.publisher
    }

    /// Frees the cursor of a reader that has left, for which at most `kept` messages were kept.
    pub(crate) fn leave(&self, cursor: u32, signal: &Arc<Signal>, kept: u32) {
        self.free_cursor(cursor, signal, kept);
        self.wake_publisher();
        self.release_if_unneeded();
    }

    /// Wakes the publisher, regardless of what it waits for.
    pub(crate) fn wake_publisher(&self) {
        match self.control().remote() {
            None => self.publisher.wake(),
            Some(publisher) => publisher.ring(&self.control().side().words().waiting.rung),
        }
    }

    /// Wakes all that wait for messages or for the end, in every process.
    pub(crate) fn wake_subscribers(&self) {
        self.subscribers.wake_all();
        if let Some(annexes) = self.control().annexes() {
            let mut is_first = true;
            annexes.each(|annex| {
                if std::mem::take(&mut is_first) {
                    self.rung().raise();
                    self.rung().wake_threads();
                }
                annex.ring();
            });
        }
    }

    /// Closes the file, so that nobody else can map the control segment from now on.
    pub(crate) fn close_file(&self) {
        #[cfg(not(loom))]
        drop(self.control_file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn free_cursor(&self, cursor: u32, signal: &Arc<Signal>, kept: u32) {
        self.subscribers.remove(signal);
        let mut joined = self.lock_subscribers();
        joined.signals[cursor as usize] = None;
        joined.depth -= kept;
    }

    /// Keeps the memory of the blocks accessible for as long as the pin lives. Call this while the publisher
    /// still exists.
    #[must_use]
    pub fn pin(self: &Arc<Self>) -> ArenaPin {
        self.lock_subscribers().pins += 1;
        ArenaPin(Arc::clone(self))
    }

    /// Releases the memory of the blocks if the publisher was dropped and nobody can read them any more.
    /// Never calls user code.
    pub(crate) fn release_if_unneeded(&self) {
        // Models check `Control::is_needed` directly: a thread that waited for the lock in one would wait
        // forever.
        #[cfg(not(loom))]
        if self.is_closed() && !self.is_inherited() {
            let mut joined = self.lock_subscribers();
            if joined.released || joined.pins > 0 || self.control().is_needed() {
                return;
            }
            joined.released = true;
            // SAFETY: the publisher and its loans are gone (`is_closed`). Every subscriber of this process
            // has received everything and released it, nobody holds a block or has pinned the arena, and
            // nobody joins any more: nothing refers into this mapping, now or later. Other processes have
            // their own.
            let _ = unsafe { self.arena().release() };
        }
    }

    pub(super) fn lock_subscribers(&self) -> MutexGuard<'_, Subscribers> {
        // Only changed by single assignments, so it is intact after a panic.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn control(&self) -> &Control {
        self.segment.control()
    }

    /// Where the blocks lie.
    pub(crate) fn layout(&self) -> &Layout {
        self.segment.layout()
    }

    /// The smallest number of blocks of any size, without the history. Subscribers that may lose messages can
    /// keep some of them without stopping the publisher.
    pub(crate) fn spare_blocks(&self) -> u32 {
        let most = self.config.classes().iter().map(|class| class.max_blocks).min().unwrap_or(0);
        most.saturating_sub(self.config.history)
    }

    /// Charges one of the `most` samples that subscribers which may lose messages can keep together. Returns
    /// `false` if they already keep that many.
    pub(crate) fn charge_sample(&self, most: u32) -> bool {
        // Ordering: Relaxed; a count that nothing else depends on.
        let more = |charged: u32| (charged < most).then_some(charged + 1);
        self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Returns one of these samples.
    pub(crate) fn discharge_sample(&self) {
        self.charged.fetch_sub(1, Ordering::Relaxed);
    }

    /// Registers the samples of one more subscriber for statistics.
    pub(crate) fn remember(&self, holder: Weak<dyn Holder>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(holder);
    }

    /// The subscribers whose samples are alive.
    fn holders(&self) -> Vec<HolderStats> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping the last of them does not need the lock.
        holders.iter().filter_map(|holder| holder.upgrade()?.stats()).collect()
    }

    /// Gives up one hold.
    pub(crate) fn give_up_hold(&self, block: u32) {
        if unhold(self.control(), block) {
            self.publisher.wake();
        }
        self.release_if_unneeded();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
