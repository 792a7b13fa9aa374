//! The publishing end of a channel: [`Writer`].

use std::fmt;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::descriptor::{Validity, pack};
use crate::engine::channel::Channel;
use crate::engine::config::ChannelConfig;
use crate::engine::pool::Pool;
use crate::engine::ring::producer::{Producer, Reach};
#[cfg(not(loom))]
use crate::engine::segment::SegmentFiles;
use crate::engine::segment::external_memory::ArenaMemory;
use crate::engine::wake::signal::Signal;
use crate::error::{ChannelError, LoanError};
use crate::options::Reuse;
use crate::payload::schema::Schema;
use crate::primitive::Ordering;
use crate::stats::PoolStats;
use crate::sys::clock;
use crate::units::Sequence;

mod batch;
mod direct;
mod loan;
mod relay;
mod take;

pub use batch::RawSendBatch;
use loan::TakenBlock;
pub use loan::{RawLoan, SuspendedLoan};
use relay::Stamp;

/// From this block size on, [`Reuse::BySize`] means [`Reuse::Hottest`].
const LARGE_BLOCK: usize = 32 << 10;

/// With [`Reuse::Hottest`], the publisher scans the subscribers' cursors once for this many bytes of blocks:
/// these fit into the first-level cache of every processor, together with what else the program uses.
const HOT_BYTES: usize = 4 << 10;

/// Creates a channel and returns its writing end. About fifteen system calls.
///
/// # Errors
/// [`ChannelError`] if a number is out of range, or if the system refuses memory.
pub fn channel(config: ChannelConfig) -> Result<Writer, ChannelError> {
    channel_with(config, Signal::new())
}

/// Like [`channel`], for a publisher that already has a signal to wait on. `publisher` is woken when a block
/// comes free while the publisher waits for one, and when a subscriber joins or leaves.
///
/// # Errors
/// The same as for [`channel`].
pub fn channel_with(config: ChannelConfig, publisher: Arc<Signal>) -> Result<Writer, ChannelError> {
    make(config, publisher, None)
}

/// Like [`channel_with`], but places the blocks at the start of the memory that the caller provides. Loaned
/// blocks may show the old contents; nothing else does.
///
/// # Errors
/// The same as for [`channel`], and [`ChannelError::Memory`] if the memory is too small.
pub fn channel_over(
    config: ChannelConfig,
    publisher: Arc<Signal>,
    memory: ArenaMemory,
) -> Result<Writer, ChannelError> {
    make(config, publisher, Some(memory))
}

/// Like [`channel_with`], and also returns the descriptors of the channel's memory, from which another
/// process can map it ([`SegmentView`](crate::SegmentView)).
///
/// # Errors
/// The same as for [`channel`].
///
/// # Safety
/// Nobody writes through these descriptors, or through descriptors or mappings made from them. Linux 5.1 and
/// later enforces that, by the seal `F_SEAL_FUTURE_WRITE`.
#[cfg(not(loom))]
pub unsafe fn channel_to_share(
    config: ChannelConfig,
    publisher: Arc<Signal>,
) -> Result<(Writer, SegmentFiles), ChannelError> {
    let writer = make(config, publisher, None)?;
    let files = writer.channel.files().map_err(|error| ChannelError::System {
        bytes: writer.channel.arena().len() as u64,
        reason: error.to_string(),
    })?;
    Ok((writer, files))
}

fn make(
    config: ChannelConfig,
    publisher: Arc<Signal>,
    memory: Option<ArenaMemory>,
) -> Result<Writer, ChannelError> {
    let (channel, arena_file) = Channel::create(config, publisher, memory)?;
    let config = channel.config();
    let hottest = match config.reuse {
        Reuse::BySize => config.block_size >= LARGE_BLOCK,
        Reuse::Oldest => false,
        Reuse::Hottest => true,
    };
    let pool = Pool::new(channel.layout().clone(), &config.classes());
    channel.control().header().state.limit.store(pool.largest() as u64 + 1, Ordering::Relaxed);
    // Fits: few.
    let loans_per_scan = (HOT_BYTES / pool.largest().max(1)).max(1) as u32;
    let writer = Writer {
        block_size: pool.largest(),
        uniform: pool.is_uniform(),
        producer: Producer::new(channel.control().clone(), pool, config.history, hottest),
        base: channel.arena().base(),
        hottest,
        loans_per_scan,
        loans_to_scan: 0,
        waits: false,
        counted: false,
        stamp: Stamp::of(&config.options),
        overtake: u64::from(config.blocks / 8).max(1),
        file: Some(arena_file),
        departure: None,
        channel,
    };
    Ok(writer)
}

/// The only publisher of a channel. Dropping it ends the channel: subscribers receive the remaining messages.
///
/// Padded to pairs of cache lines, which processors fetch together, so that it shares none with what other
/// threads write.
#[repr(align(128))]
pub struct Writer {
    producer: Producer,
    /// First byte of the arena.
    base: NonNull<u8>,
    /// Capacity of the largest block.
    block_size: usize,
    /// Whether all blocks have one size.
    uniform: bool,
    hottest: bool,
    /// With the hottest block, loans from one scan for it to the next.
    loans_per_scan: u32,
    /// Loans until the next one.
    loans_to_scan: u32,
    /// Whether a loan is being waited for by polling.
    waits: bool,
    /// Whether the current search for a block was already counted as a loan that found none.
    counted: bool,
    stamp: Stamp,
    /// Messages that a reclamation takes from slow `DropOldest` subscribers at a time.
    overtake: u64,
    /// Keeps the arena's file open.
    file: Option<Arc<OwnedFd>>,
    departure: Option<Departure>,
    channel: Arc<Channel>,
}

/// The search for one loan's block, which statistics count at most once. Dropping it, even by a panic, starts
/// a new count.
struct OneLoan<'w>(&'w mut Writer);

impl Drop for OneLoan<'_> {
    fn drop(&mut self) {
        self.0.counted = false;
    }
}

/// The function to call when the publisher is dropped.
struct Departure(Box<dyn FnOnce() + Send + Sync>);

// SAFETY: `base` points into the arena of `channel`, which is shared by many threads anyway; bytes behind it
// are reached through a loan only, which borrows the writer.
unsafe impl Send for Writer {}
// SAFETY: as above; `&Writer` gives out no bytes.
unsafe impl Sync for Writer {}

impl Writer {
    /// The channel, which subscribers join.
    #[must_use]
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Capacity of the largest block in bytes.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Layout of the messages.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.channel.schema()
    }

    /// The number of joined subscribers.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.channel.subscriber_count()
    }

    /// Whether this process was forked after the writer was created: the writer is useless then. One load.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.channel.is_inherited()
    }

    /// Registers the context's waker to be woken when a subscriber joins.
    pub fn register(&self, cx: &Context<'_>) {
        self.channel.publisher.register(cx.waker());
    }

    /// The sequence of the next message.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence::new(self.producer.head())
    }

    /// Calls `tell` when this publisher is dropped, in the thread that drops it, after the channel has ended.
    /// A later call replaces `tell`.
    pub fn on_departure(&mut self, tell: impl FnOnce() + Send + Sync + 'static) {
        self.departure = Some(Departure(Box::new(tell)));
    }

    /// Loans a block for a message of up to `len` bytes. Never waits; no allocation, no system call.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] and [`LoanError::Exhausted`].
    #[inline(always)]
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        let block = self.take_block(len)?;
        Ok(RawLoan { writer: self, block })
    }

    /// Like [`try_loan`](Self::try_loan), but only loans a block that is already free or that every
    /// subscriber has passed. Overtakes nobody, and does not grow the pool. `None` if there is no such block.
    #[inline]
    pub fn try_loan_free(&mut self, len: usize) -> Option<RawLoan<'_>> {
        if self.is_beyond_limit(len) {
            return None;
        }
        let block = match self.producer.pop_oldest() {
            Some(unit) => TakenBlock { unit, capacity: self.block_size },
            None => {
                if self.hottest {
                    // Not a fork: checked above.
                    let _ = self.announce();
                    self.producer.reclaim(Reach::Passed);
                }
                let (unit, capacity) = self.producer.pop_spare(len)?;
                TakenBlock { unit, capacity }
            }
        };
        Some(RawLoan { writer: self, block })
    }

    /// Loans a block. Waits until `deadline` for one to come free, or forever if there is no deadline.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] at once, [`LoanError::Deadline`] at the deadline.
    pub fn loan(&mut self, len: usize, deadline: Option<Instant>) -> Result<RawLoan<'_>, LoanError> {
        let block = match self.take_block(len) {
            Err(LoanError::Exhausted { .. }) => self.wait_for_block(len, deadline)?,
            other => other?,
        };
        Ok(RawLoan { writer: self, block })
    }

    /// Resumes a loan that was [suspended](RawLoan::suspend).
    ///
    /// # Errors
    /// Returns the loan if it belongs to another writer.
    #[inline]
    pub fn resume(&mut self, loan: SuspendedLoan) -> Result<RawLoan<'_>, SuspendedLoan> {
        if self.channel.serial() != loan.channel {
            return Err(loan);
        }
        self.producer.note_loaned(1);
        Ok(RawLoan { writer: self, block: loan.taken })
    }

    /// Ready once [`try_loan`](Self::try_loan) will succeed, or fail for a reason other than exhaustion.
    #[inline]
    pub fn poll_loanable(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        if len <= self.block_size && self.producer.has_free(len) {
            self.waits = false;
            return Poll::Ready(Ok(()));
        }
        self.poll_unusual(cx, len)
    }

    #[cold]
    #[inline(never)]
    fn poll_unusual(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        // Polling repeatedly is still one loan.
        let counted = self.waits;
        let polled = self.one_loan(counted).0.poll_block(cx, len);
        self.waits = polled.is_pending();
        polled.map(|taken| taken.map(|taken| self.producer.give_back(taken.unit)))
    }

    /// Starts another loan for [`poll_loanable`](Self::poll_loanable). Statistics count each loan that finds
    /// no block once, however often it is polled, and cannot notice that a wait was abandoned.
    #[doc(hidden)]
    #[inline(always)]
    pub fn begin_loan(&mut self) {
        self.waits = false;
    }

    /// Starts the search for one loan's block.
    fn one_loan(&mut self, counted: bool) -> OneLoan<'_> {
        self.counted = counted;
        OneLoan(self)
    }

    /// The number of blocks, of free ones, and of those in limbo.
    #[must_use]
    pub fn pool(&self) -> PoolStats {
        PoolStats {
            blocks: self.producer.pool().blocks(),
            free: self.producer.free(),
            limbo: self.producer.in_limbo(),
        }
    }

    /// Reclaims blocks that came free. Returns how many are free now. Never waits.
    pub fn reclaim(&mut self) -> u32 {
        // A forked child has nobody to announce to.
        let _ = self.announce();
        self.producer.reclaim(Reach::Passed);
        self.producer.free()
    }

    #[inline(always)]
    fn publish(&mut self, unit: u32, len: usize, validity: Validity) -> Result<Sequence, LoanError> {
        self.stamp();
        let sequence = Sequence::new(self.producer.head());
        let word = pack(unit, len as u32, validity);
        if self.producer.publish(word) && !self.producer.nobody_waits() {
            return self.check_waiters(sequence);
        }
        Ok(sequence)
    }

    /// Records with the next message what the channel records.
    #[inline(always)]
    fn stamp(&self) {
        if self.stamp != Stamp::None {
            self.stamp_next();
        }
    }

    #[inline(never)]
    fn stamp_next(&self) {
        match self.stamp {
            // Slots start with this time.
            Stamp::None => {}
            Stamp::Coarse => self.producer.stamp(clock::coarse().as_nanos()),
            Stamp::Precise => self.producer.stamp(clock::precise().as_nanos()),
            Stamp::Relay => self.stamp_relayed(),
        }
    }

    /// Wakes subscribers that wait for the published messages.
    #[cold]
    #[inline(never)]
    fn check_waiters(&mut self, sequence: Sequence) -> Result<Sequence, LoanError> {
        if self.channel.is_inherited() {
            // It was published into memory of this process, which nobody reads.
            self.producer.erase_latest();
            return Err(LoanError::Forked);
        }
        if self.producer.wakes() {
            self.channel.subscribers.wake_all();
        }
        Ok(sequence)
    }
}

/// Ends the channel and releases what no subscriber needs: the file at once, and the memory of the blocks as
/// soon as nobody has messages to receive, is attached to one, or keeps samples.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.channel.is_inherited() {
            return;
        }
        // Not a fork: checked above.
        let _ = self.announce();
        self.producer.close();
        self.file = None;
        self.channel.close_file();
        self.channel.release_if_unneeded();
        if let Some(Departure(tell)) = self.departure.take() {
            tell();
        }
        self.channel.wake_subscribers();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("publisher", &self.channel.publisher())
            .field("next", &self.next_sequence())
            .field("pool", &self.pool())
            .finish_non_exhaustive()
    }
}
