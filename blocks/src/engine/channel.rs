//! One publisher's arena, ring and cursors: [`Channel`], and how it is configured.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::io::Errno;

use crate::engine::pool::Layout;
use crate::engine::reader::Reader;
use crate::engine::ring::consumer::{Consumer, Pace, unhold};
use crate::engine::sample::window::{Attachments, SampleLimit};
use crate::engine::segment::arena::Arena;
use crate::engine::segment::control::{Control, Geometry, UNUSED};
use crate::engine::segment::external_memory::ArenaMemory;
use crate::engine::shield::event;
use crate::engine::wake::roster::Roster;
use crate::engine::wake::signal::Signal;
use crate::error::{ChannelError, JoinError};
use crate::options::{Overflow, ReaderOptions, Reuse, SizeClass, Timestamps};
use crate::payload::schema::Schema;
use crate::primitive::{AtomicU32, Ordering, next_serial};
use crate::stats::{ChannelStats, HolderStats, ReaderStats};
use crate::sys;
use crate::sys::file_size::file_size_limit;
use crate::sys::fork::Process;
use crate::sys::mappings::{NoMappings, charge_mappings};
use crate::units::{PublisherId, Sequence};

/// Bytes that the publisher keeps for each block on its own: a place among the spare blocks and one in limbo.
const PRIVATE_BYTES: u64 = 20;

/// Memory mappings of a channel: the control segment and the arena.
const MAPPINGS: usize = 2;

/// How a channel is made. Sizes are in bytes, the rest counts.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The publisher's number.
    pub publisher: PublisherId,
    /// Layout of the messages.
    pub schema: Schema,
    /// Bytes of a block: 1 to 2 GiB less one, rounded up to a multiple of
    /// [`BLOCK_ALIGNMENT`](crate::BLOCK_ALIGNMENT).
    pub block_size: usize,
    /// Blocks in the pool: 2 to 2^20.
    pub blocks: u32,
    /// Blocks that the pool may grow to when all are in use; `None`: it does not grow.
    pub max_blocks: Option<u32>,
    /// Further blocks of larger sizes, ascending. A loan gets the smallest block that fits and is free.
    pub larger: Vec<SizeClass>,
    /// Messages kept for subscribers that join late: 0 up to 2 less than there are blocks of each size. A subscriber starts with
    /// as many of them as it [asks for](ReaderOptions::history), and never with more.
    pub history: u32,
    /// Subscribers at a time: 1 to 65,536. 128 bytes each.
    pub max_subscribers: u32,
    /// Whether messages carry the time.
    pub timestamps: Timestamps,
    /// Which block is loaned next.
    pub reuse: Reuse,
    /// Touch every page now rather than at its first use, and put them into [large ones](crate::Arena) where possible.
    pub prefault: bool,
}

impl ChannelConfig {
    /// 64 blocks of 64 KiB, no history, 128 subscribers, coarse time.
    #[must_use]
    pub fn new(publisher: PublisherId, schema: Schema) -> Self {
        Self {
            publisher,
            schema,
            block_size: 64 << 10,
            blocks: 64,
            max_blocks: None,
            larger: Vec::new(),
            history: 0,
            max_subscribers: 128,
            timestamps: Timestamps::default(),
            reuse: Reuse::default(),
            prefault: false,
        }
    }

    /// Bytes of memory that the channel takes at most: blocks, descriptors, cursors and what the publisher keeps for each
    /// block, in whole pages. A thousand small blocks take far more than their payload.
    ///
    /// # Errors
    /// [`ChannelError::Config`] for a number out of range.
    pub fn memory(&self) -> Result<u64, ChannelError> {
        let layout = self.layout()?;
        let impossible = || ChannelError::Config("the channel exceeds the address space".to_owned());
        let arena = sys::whole_pages(layout.len).ok_or_else(impossible)? as u64;
        let control = self.geometry(&layout).bytes().ok_or_else(impossible)?;
        let cursors = u64::from(self.max_subscribers) * size_of::<Option<Arc<Signal>>>() as u64;
        Ok(arena + control + u64::from(layout.blocks) * PRIVATE_BYTES + cursors)
    }

    /// How large the control segment is.
    fn geometry(&self, layout: &Layout) -> Geometry {
        Geometry {
            // Every block that is published and not reclaimed has a slot.
            slots: layout.blocks.next_power_of_two(),
            cursors: self.max_subscribers,
            blocks: layout.blocks,
        }
    }

    /// The sizes of blocks, ascending.
    pub(crate) fn classes(&self) -> Vec<SizeClass> {
        let first = SizeClass {
            block_size: self.block_size,
            blocks: self.blocks,
            max_blocks: self.max_blocks.unwrap_or(self.blocks),
        };
        std::iter::once(first).chain(self.larger.iter().copied()).collect()
    }

    /// Where the blocks lie, if all numbers are in range.
    fn layout(&self) -> Result<Layout, ChannelError> {
        let classes = self.classes();
        let layout = Layout::new(&classes)?;
        let most = classes.iter().map(|class| class.max_blocks - 2).min().unwrap_or(0);
        if self.history > most {
            return Err(ChannelError::Config(format!(
                "history is {}, must be at most {most} with these blocks",
                self.history
            )));
        }
        if !(1..=65_536).contains(&self.max_subscribers) {
            return Err(ChannelError::Config(format!(
                "max_subscribers is {}, must be 1 to 65536",
                self.max_subscribers
            )));
        }
        Ok(layout)
    }
}

/// Shared by the publisher, its subscribers and the samples they keep. Lives until the last of them is gone.
#[derive(Debug)]
pub struct Channel {
    /// Of all channels of this process no other one's.
    serial: u64,
    process: Process,
    config: ChannelConfig,
    layout: Layout,
    control: Control,
    arena: Arena,
    /// The samples of subscribers that are there, and of some that have left.
    holders: Mutex<Vec<Weak<Attachments>>>,
    /// Samples that subscribers which may lose messages keep beyond those that each of them may keep.
    charged: AtomicU32,
    /// Who has which cursor.
    places: Mutex<Places>,
    /// Subscribers that wait for messages.
    pub(crate) subscribers: Roster,
    /// The publisher that waits for blocks.
    pub(crate) publisher: Arc<Signal>,
    /// Dropped last: the memory is free by then.
    charge: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Keeps the memory of a channel's blocks accessible, also once its publisher has gone and nobody has anything to receive: for
/// code that may still write a block that was lent to it.
#[derive(Debug)]
pub struct ArenaPin(Arc<Channel>);

impl Drop for ArenaPin {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            return;
        }
        self.0.places().pins -= 1;
        self.0.release_if_unneeded();
    }
}

/// The cursors of a channel, and who has them.
#[derive(Debug, Default)]
struct Places {
    signals: Vec<Option<Arc<Signal>>>,
    /// Messages that are kept for subscribers which drop the newest, at most.
    depth: u32,
    /// Reasons to keep the memory of the blocks for now: subscribers that are just joining, and [pins](ArenaPin).
    pins: u32,
    /// The memory of the blocks was given back: nobody joins any more.
    released: bool,
}

impl Channel {
    /// `memory`: where the blocks are to be, if the user has brought that.
    pub(crate) fn create(
        config: ChannelConfig,
        publisher: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<(Arc<Self>, Arc<OwnedFd>), ChannelError> {
        let layout = config.layout()?;
        let len = layout.len;
        let refused = |error: Errno| match error {
            Errno::FBIG => ChannelError::FileSize { bytes: len as u64, limit: file_size_limit() },
            error => ChannelError::system(len, error),
        };
        charge_mappings(MAPPINGS)
            .map_err(|NoMappings { left, reserve }| ChannelError::Mappings { left, reserve })?;
        let control = Control::create(config.geometry(&layout)).map_err(refused)?;
        let (arena, file) = match memory {
            Some(memory) => Arena::over(memory, len, config.prefault)?,
            None => {
                let name = format!("blockcast-arena-{}", config.publisher.get());
                Arena::create(&name, len, config.prefault).map_err(refused)?
            }
        };
        let signals = vec![None; config.max_subscribers as usize];
        let channel = Self {
            serial: next_serial(),
            process: Process::current(),
            holders: Mutex::default(),
            charged: AtomicU32::new(0),
            places: Mutex::new(Places { signals, ..Places::default() }),
            config,
            layout,
            control,
            arena,
            subscribers: Roster::new(),
            publisher,
            charge: OnceLock::new(),
        };
        Ok((Arc::new(channel), file))
    }

    /// Which channel of this process it is.
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

    /// How the channel was made.
    #[must_use]
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// Where the payload bytes live.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Keeps `charge` until the channel's memory is free, whoever of publisher, subscribers and samples uses it last: so that
    /// whoever accounts for the memory learns when it is given back. A channel has one charge; a second one is returned.
    ///
    /// # Errors
    /// `charge`, if the channel has one already.
    pub fn charge(&self, charge: Box<dyn Any + Send + Sync>) -> Result<(), Box<dyn Any + Send + Sync>> {
        self.charge.set(charge)
    }

    /// Whether this is a child that was forked after the channel was made: it has no part in it. One load.
    #[inline]
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    /// Which process made it.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Returns `true` once the publisher is gone; messages may be left to receive. Also in a forked child, which receives none.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_inherited() || self.control.header().state.closed.load(Ordering::Acquire) != 0
    }

    /// Joins a subscriber: every message that is published after this returns reaches it, or is counted as
    /// lost where its options allow losses. `signal` is woken for new messages and at the end.
    ///
    /// # Errors
    /// [`JoinError::SchemaMismatch`], [`JoinError::Full`] and, if the publisher has gone and its memory or its file as well,
    /// [`JoinError::Ended`].
    pub fn join(
        self: &Arc<Self>,
        schema: &Schema,
        options: ReaderOptions,
        signal: Arc<Signal>,
    ) -> Result<Reader, JoinError> {
        let reader = self.join_quietly(schema, options, Arc::clone(&signal))?;
        self.announce(&signal);
        Ok(reader)
    }

    /// Like [`join`](Self::join), for callers that hold a lock: calls no code of the user. [`announce`](Self::announce) is
    /// to be called when nothing is locked any more.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub fn join_quietly(
        self: &Arc<Self>,
        schema: &Schema,
        options: ReaderOptions,
        signal: Arc<Signal>,
    ) -> Result<Reader, JoinError> {
        if self.is_inherited() {
            return Err(JoinError::Forked);
        }
        if *schema != self.config.schema {
            return Err(JoinError::SchemaMismatch {
                channel: self.config.schema.clone(),
                subscriber: schema.clone(),
            });
        }
        let file = if options.maps { Some(self.arena.open_file().ok_or(JoinError::Ended)?) } else { None };
        let (cursor, pace) = {
            let mut places = self.places();
            if places.released {
                return Err(JoinError::Ended);
            }
            let free = places.signals.iter().position(Option::is_none);
            let free = free.ok_or(JoinError::Full { limit: self.config.max_subscribers })?;
            places.signals[free] = Some(Arc::clone(&signal));
            places.pins += 1;
            let pace = self.pace(options, places.depth);
            places.depth += pace.kept();
            (free as u32, pace)
        };
        self.subscribers.add(&signal);
        // More may be there, as blocks are reclaimed late, and how many differs from run to run.
        let history = options.history.min(u64::from(self.config.history));
        let joined = Consumer::join(&self.control, cursor, pace, history);
        self.places().pins -= 1;
        let Some(consumer) = joined else {
            self.free_cursor(cursor, &signal, pace.kept());
            return Err(JoinError::Barrier);
        };
        // Its publisher may have left meanwhile.
        self.release_if_unneeded();
        let limit = SampleLimit::new(self, options);
        Ok(Reader::new(Arc::clone(self), consumer, (cursor, signal), limit, file))
    }

    /// Announces a subscriber that has joined [quietly](Self::join_quietly).
    pub fn announce(&self, subscriber: &Signal) {
        let (publisher, subscriber) = (self.publisher(), subscriber.name());
        event(|| tracing::debug!(%publisher, subscriber, "subscriber joined"));
        // The publisher may be waiting for subscribers.
        self.publisher.wake();
    }

    /// Subscribers that are joined now. One that is just joining does not count: what is published after this returned
    /// reaches everyone who was counted.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.control.used_cursors().iter().filter(|line| line.joined_at().is_some()).count() as u32
    }

    /// Woken when a subscriber joins, and when a block comes free while the publisher waits for one.
    #[must_use]
    pub fn publisher_signal(&self) -> &Arc<Signal> {
        &self.publisher
    }

    /// `depth`: messages that are kept already for subscribers which drop the newest.
    fn pace(&self, options: ReaderOptions, depth: u32) -> Pace {
        match options.overflow {
            Overflow::Block => Pace::Reliable,
            Overflow::DropOldest => Pace::Overtakable {
                // Claims pin at most an eighth of the pool per overtaken subscriber.
                window: u64::from(self.config.blocks / 8).clamp(1, 32),
                depth: options.depth.map_or(u64::MAX, u64::from),
            },
            Overflow::DropNewest => {
                // All of them together keep half of the blocks, of whatever size these are.
                let fewest = self.config.classes().iter().map(|class| class.blocks).min().unwrap_or(0);
                let left = (fewest.saturating_sub(self.config.history) / 2).saturating_sub(depth);
                let depth = options.depth.unwrap_or(left / 2).min(left).max(1);
                Pace::Keeping { depth: u64::from(depth) }
            }
        }
    }

    /// Frees the cursor of a reader that has left, for which `kept` messages were kept at most.
    pub(crate) fn leave(&self, cursor: u32, signal: &Arc<Signal>, kept: u32) {
        self.free_cursor(cursor, signal, kept);
        self.publisher.wake();
        self.release_if_unneeded();
    }

    fn free_cursor(&self, cursor: u32, signal: &Arc<Signal>, kept: u32) {
        self.subscribers.remove(signal);
        let mut places = self.places();
        places.signals[cursor as usize] = None;
        places.depth -= kept;
    }

    /// Keeps the memory of the blocks accessible for as long as the pin lives, if its publisher is there.
    #[must_use]
    pub fn pin(self: &Arc<Self>) -> ArenaPin {
        self.places().pins += 1;
        ArenaPin(Arc::clone(self))
    }

    /// Gives the memory of the blocks back if the publisher has gone and nobody can read them any more. Calls no code of the
    /// user.
    pub(crate) fn release_if_unneeded(&self) {
        // Models look at `Control::is_needed` itself: whoever waited for the lock in one would wait for ever.
        #[cfg(not(loom))]
        if self.is_closed() && !self.is_inherited() {
            let mut places = self.places();
            if places.released || places.pins > 0 || self.control.is_needed() {
                return;
            }
            places.released = true;
            // SAFETY: the publisher and its loans are gone (`is_closed`). Every subscriber has received everything and
            // let go of it, nobody holds a block or has pinned the arena, and nobody joins any more: nothing refers into it, now
            // or later.
            let _ = unsafe { self.arena.release() };
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Changed by single assignments, so it is whole after a panic.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Where the blocks lie.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Blocks of which subscribers that may lose messages can take some without stopping the publisher: of the size of which
    /// there are fewest, without the history.
    pub(crate) fn spare_blocks(&self) -> u32 {
        let most = self.config.classes().iter().map(|class| class.max_blocks).min().unwrap_or(0);
        most.saturating_sub(self.config.history)
    }

    /// Takes one of the samples that subscribers which may lose messages can keep together, `most` of them. False if they keep
    /// that many.
    pub(crate) fn charge_sample(&self, most: u32) -> bool {
        // Ordering: Relaxed; a count that nothing else depends on.
        let more = |charged: u32| (charged < most).then_some(charged + 1);
        self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives one back.
    pub(crate) fn discharge_sample(&self) {
        self.charged.fetch_sub(1, Ordering::Relaxed);
    }

    /// Keeps track of one more subscriber's samples.
    pub(crate) fn remember(&self, attachments: Weak<Attachments>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|attachments| attachments.strong_count() > 0);
        holders.push(attachments);
    }

    /// Whose samples are alive.
    fn holders(&self) -> Vec<HolderStats> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever drops the last of them is not in need of the lock.
        holders.iter().filter_map(|attachments| attachments.upgrade()?.stats()).collect()
    }

    /// Gives up one hold.
    pub(crate) fn give_up_hold(&self, block: u32) {
        if unhold(&self.control, block) {
            self.publisher.wake();
        }
        self.release_if_unneeded();
    }

    /// A snapshot of the counters. Loads and one lock of the control plane; exact while the channel rests.
    #[must_use]
    pub fn stats(&self) -> ChannelStats {
        if self.is_inherited() {
            // Threads of the parent may have had the locks when it forked.
            let (publisher, name) = (self.config.publisher, self.publisher.name().to_owned());
            return ChannelStats { publisher, name, closed: true, ..ChannelStats::default() };
        }
        let header = self.control.header();
        let published = header.head.next.load(Ordering::Acquire);
        let pool = &header.pool;
        let blocks = pool.blocks.load(Ordering::Relaxed);
        let limbo = pool.limbo.load(Ordering::Relaxed);
        let watermark = header.state.watermark.load(Ordering::Relaxed);
        let unreclaimed = u32::try_from(published.saturating_sub(watermark)).unwrap_or(u32::MAX);
        let oldest = pool.oldest_kept.load(Ordering::Relaxed);
        let places = self.places();
        let joined = self.control.used_cursors().iter().zip(&places.signals);
        let subscribers = joined.filter_map(|(line, signal)| {
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
            max_blocks: self.layout.blocks,
            free: blocks.saturating_sub(unreclaimed).saturating_sub(limbo),
            loaned: pool.loaned.load(Ordering::Relaxed),
            limbo,
            holds: header.held.load(Ordering::Relaxed),
            held: self.control.holds().iter().filter(|count| count.load(Ordering::Relaxed) != 0).count()
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
mod tests {
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;
    use crate::engine::writer::{Writer, channel};
    use crate::primitive::AtomicU32;
    use crate::sys::barrier::while_refused;

    fn small() -> Writer {
        let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
        (config.blocks, config.block_size, config.max_subscribers) = (2, 64, 1);
        channel(config).unwrap()
    }

    fn join(writer: &Writer) -> Result<Reader, JoinError> {
        writer.channel().join(&Schema::named("test"), ReaderOptions::default(), Signal::new())
    }

    #[test]
    fn the_memory_that_a_channel_takes_counts_what_is_mapped_beside_the_blocks() {
        let config = |blocks, block_size| {
            let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("test"));
            (config.blocks, config.block_size) = (blocks, block_size);
            config
        };
        let bytes = |config: &ChannelConfig| config.memory().unwrap();
        for (blocks, block_size) in [(2, 1), (64, 1000), (1 << 20, 1)] {
            let config = config(blocks, block_size);
            let channel = channel(config.clone()).unwrap();
            let control = channel.channel().config.geometry(&channel.channel().layout).bytes().unwrap();
            let mapped = channel.channel().arena().len() as u64 + control;
            assert!(bytes(&config) >= mapped, "{blocks} of {block_size}");
        }
        assert!(bytes(&config(1 << 20, 1)) > 100 << 20, "a million blocks of a byte");
        assert!(matches!(config(1, 1).memory(), Err(ChannelError::Config(_))));
    }

    #[test]
    fn a_charge_is_kept_until_the_last_sample_is_dropped() {
        let charge = Arc::new(());
        let mut writer = small();
        assert!(writer.channel().charge(Box::new(Arc::clone(&charge))).is_ok());
        assert!(writer.channel().charge(Box::new(())).is_err(), "it has one");
        let mut reader = join(&writer).unwrap();
        writer.try_loan(1).unwrap().publish(1).unwrap();
        drop(writer);
        let sample = reader.receive_owned().unwrap();
        drop(reader);
        assert_eq!(Arc::strong_count(&charge), 2);
        drop(sample);
        assert_eq!(Arc::strong_count(&charge), 1);
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_subscriber_that_the_system_refuses_a_barrier_does_not_join_and_leaves_its_place() {
        let writer = small();
        assert_eq!(while_refused(|| join(&writer)).unwrap_err(), JoinError::Barrier);
        assert_eq!(writer.subscriber_count(), 0);
        assert!(writer.channel().stats().subscribers.is_empty());
        join(&writer).unwrap();
    }

    #[test]
    fn whoever_waits_and_is_refused_a_barrier_looks_again_rather_than_sleep_for_ever() {
        let mut writer = small();
        let mut reader = join(&writer).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert_eq!(while_refused(|| reader.poll_ready(&mut cx)), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the subscriber");
        assert_eq!(reader.poll_ready(&mut cx), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it got its barrier and sleeps");

        for _ in 0..2 {
            writer.try_loan(1).unwrap().publish(1).unwrap();
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert!(while_refused(|| writer.poll_loanable(&mut cx, 1)).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 3, "the publisher");
    }
}
