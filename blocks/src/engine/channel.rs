//! One publisher's arena, ring and cursors: [`Channel`].

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::engine::config::ChannelConfig;
use crate::engine::ring::consumer::unhold;
use crate::engine::segment::arena::Arena;
use crate::engine::segment::control::Control;
use crate::engine::segment::external_memory::ArenaMemory;
use crate::engine::segment::layout::Layout;
use crate::engine::segment::words::UNUSED;
use crate::engine::segment::{Segment, SegmentFiles};
use crate::engine::wake::roster::Roster;
use crate::engine::wake::signal::Signal;
use crate::error::ChannelError;
use crate::payload::schema::Schema;
use crate::primitive::{AtomicU32, Ordering, next_serial};
use crate::stats::{ChannelStats, HolderStats, ReaderStats};
use crate::sys::fork::Process;
use crate::units::{PublisherId, Sequence};

/// A channel, shared by its publisher, its subscribers and the samples that they keep. Lives until the last
/// of them is dropped.
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
    /// Wakes subscribers that wait for messages.
    pub(crate) subscribers: Roster,
    /// Wakes the publisher when it waits for blocks.
    pub(crate) publisher: Arc<Signal>,
    /// Dropped last: the memory is free by then.
    charge: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A subscriber's samples, as statistics see them.
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

/// The cursors of a channel, and which subscribers use them.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    pub(super) signals: Vec<Option<Arc<Signal>>>,
    /// The largest number of messages kept for subscribers that drop the newest.
    pub(super) depth: u32,
    /// Reasons to keep the memory of the blocks for now: subscribers that are still joining, and
    /// [pins](ArenaPin).
    pub(super) pins: u32,
    /// The memory of the blocks was released: nobody can join any more.
    pub(super) released: bool,
}

impl Channel {
    /// Places the blocks in `memory` if the user provides it.
    pub(crate) fn create(
        config: ChannelConfig,
        publisher: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<(Arc<Self>, SegmentFiles), ChannelError> {
        let layout = config.layout()?;
        let preamble = config.preamble(&layout);
        let name = format!("blockcast-arena-{}", config.publisher.get());
        let (segment, files) = Segment::create(&preamble, layout, &name, config.prefault, memory)?;
        let signals = vec![None; config.max_subscribers as usize];
        let channel = Self {
            serial: next_serial(),
            process: Process::current(),
            holders: Mutex::default(),
            charged: AtomicU32::new(0),
            joined: Mutex::new(Subscribers { signals, ..Subscribers::default() }),
            config,
            segment,
            subscribers: Roster::new(),
            publisher,
            charge: OnceLock::new(),
        };
        Ok((Arc::new(channel), files))
    }

    /// A number that no other channel of this process has.
    #[inline]
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// The publisher's number.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.config.publisher
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

    /// Returns `true` once the publisher was dropped, even if messages are left to receive. Returns `true` in
    /// a forked child, which receives none.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_inherited() || self.control().header().state.closed.load(Ordering::Acquire) != 0
    }

    /// The number of joined subscribers. One that is still joining does not count: whatever is published
    /// after this returns reaches everyone who was counted.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.control().used_cursors().iter().filter(|line| line.joined_at().is_some()).count() as u32
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
        self.publisher.wake();
        self.release_if_unneeded();
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
            // SAFETY: the publisher and its loans are gone (`is_closed`). Every subscriber has received
            // everything and released it, nobody holds a block or has pinned the arena, and nobody joins any
            // more: nothing refers into it, now or later.
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

    /// A snapshot of the counters. Loads, and one lock of the control plane. Exact while the channel is idle.
    #[must_use]
    pub fn stats(&self) -> ChannelStats {
        if self.is_inherited() {
            // Threads of the parent may have held the locks when it forked.
            let (publisher, name) = (self.config.publisher, self.publisher.name().to_owned());
            return ChannelStats { publisher, name, closed: true, ..ChannelStats::default() };
        }
        let header = self.control().header();
        let published = header.head.next.load(Ordering::Acquire);
        let pool = &header.pool;
        let blocks = pool.blocks.load(Ordering::Relaxed);
        let limbo = pool.limbo.load(Ordering::Relaxed);
        let watermark = header.state.watermark.load(Ordering::Relaxed);
        let unreclaimed = u32::try_from(published.saturating_sub(watermark)).unwrap_or(u32::MAX);
        let oldest = pool.oldest_kept.load(Ordering::Relaxed);
        let joined = self.lock_subscribers();
        let cursors = self.control().used_cursors().iter().zip(&joined.signals);
        let subscribers = cursors.filter_map(|(line, signal)| {
            let start = line.joined_at()?;
            let low = line.low.load(Ordering::Acquire);
            let signal = signal.as_ref().filter(|_| low != UNUSED)?;
            let lost = line.lost.load(Ordering::Relaxed);
            Some(ReaderStats {
                name: signal.name().to_owned(),
                received: low.saturating_sub(start + lost),
                bytes: line.bytes.load(Ordering::Relaxed),
                lost,
                counted_holds: line.holds.load(Ordering::Relaxed),
                behind: published.saturating_sub(low),
                wakes: signal.wakes(),
            })
        });
        ChannelStats {
            publisher: self.config.publisher,
            name: self.publisher.name().to_owned(),
            published,
            bytes: header.head.bytes.load(Ordering::Relaxed),
            blocks,
            max_blocks: self.layout().blocks,
            free: blocks.saturating_sub(unreclaimed).saturating_sub(limbo),
            loaned: pool.loaned.load(Ordering::Relaxed),
            limbo,
            holds: header.held.load(Ordering::Relaxed),
            held: self.control().holds().iter().filter(|count| count.load(Ordering::Relaxed) != 0).count()
                as u32,
            oldest_kept: (limbo > 0 && oldest != UNUSED).then(|| Sequence::new(oldest)),
            exhausted: pool.exhausted.load(Ordering::Relaxed),
            wakes: self.publisher.wakes(),
            closed: self.is_closed(),
            subscribers: subscribers.collect(),
            holders: self.holders(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
