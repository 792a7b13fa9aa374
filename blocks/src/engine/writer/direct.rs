//! The methods of a [`Writer`] for code that publishes directly with its blocks: see [`crate::direct`].

use super::{SuspendedLoan, TakenBlock, Writer};
use crate::abi::DirectPublisher;
use crate::descriptor::unit_of;
use crate::error::LoanError;

/// At most one of this many blocks is reserved at a time, so that others can still loan one.
const BLOCKS_PER_RESERVED: u32 = 4;

impl Writer {
    /// The words by which messages are announced, for code that publishes directly with this writer's blocks.
    /// `None` if the blocks have several sizes, or if the publisher is a relay.
    ///
    /// The words stay valid as long as the writer. [`DirectPublisher`] states the rules for publishing the
    /// [reserved](Self::reserve_direct) blocks; the contract of `reserve_direct` says what the writer may do
    /// meanwhile.
    #[must_use]
    pub fn direct_publisher(&self) -> Option<DirectPublisher> {
        let config = self.channel.config();
        if !self.uniform || config.relay {
            return None;
        }
        let timestamps = config.options.timestamps.abi_code();
        let direct = self.producer.control().direct_publisher();
        Some(DirectPublisher { timestamps, base: self.base.as_ptr(), capacity: self.block_size, ..direct })
    }

    /// Adopts the directly published messages. One load.
    #[inline]
    pub fn adopt(&mut self) {
        self.producer.adopt();
    }

    /// Reserves up to `room` blocks for direct publishing, at least one. Returns the first sequence whose
    /// slot names one, and their number. Blocks that were reserved before [come back](Self::recall_direct).
    ///
    /// The first block is taken as by [`try_loan`](Self::try_loan). More follow only if they are already free
    /// and most of the pool remains, and none if the most recently freed block is to be used first: that one
    /// is only known when it is needed.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`].
    ///
    /// # Safety
    /// Until the blocks are back, by [`recall_direct`](Self::recall_direct) or another call of this,
    /// - the writer publishes only loans that were [taken back](Self::take_direct) from the reserved blocks:
    ///   anything else would overwrite the slots that name those blocks;
    /// - [`adopt`](Self::adopt) is called before anything else that is done with the writer after something
    ///   was published directly;
    /// - nothing is published directly while the writer publishes, takes reserved blocks or recalls them, and
    ///   none of these blocks afterwards.
    ///
    /// So code without `unsafe` cannot reserve:
    /// ```compile_fail,E0133
    /// # use blockcast_blocks::{ChannelConfig, PublisherId, Schema, channel};
    /// # let mut writer = channel(ChannelConfig::new(PublisherId::new(1), Schema::named("test")))?;
    /// writer.reserve_direct(4)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub unsafe fn reserve_direct(&mut self, room: u32) -> Result<(u64, u32), LoanError> {
        self.recall_direct();
        let first = self.take_block(0)?;
        let most =
            if self.hottest { 1 } else { room.min(self.producer.pool().blocks() / BLOCKS_PER_RESERVED) };
        Ok(self.producer.reserve(first.unit, most))
    }

    /// Takes back the reserved blocks that were not published. Call this before publishing anything else:
    /// until then, the ring names them. Does nothing if none are reserved.
    #[inline]
    pub fn recall_direct(&mut self) {
        // A forked child has nobody to announce to.
        let _ = self.announce();
        self.producer.recall();
    }

    /// Blocks that are reserved and not published yet, as far as the writer knows.
    #[must_use]
    pub fn reserved_direct(&self) -> u32 {
        self.producer.reserved()
    }

    /// Takes back the next reserved block, for this writer to publish it or to [reserve it
    /// again](Self::reserve_again). `None` if `word` names a different block, or none is reserved.
    pub fn take_direct(&mut self, word: u64) -> Option<SuspendedLoan> {
        let unit = unit_of(word);
        if !self.producer.take_reserved(unit) {
            return None;
        }
        let taken = TakenBlock { unit, capacity: self.block_size };
        Some(SuspendedLoan { taken, channel: self.channel.serial() })
    }

    /// Reserves a block again that was [taken back](Self::take_direct) and not published.
    ///
    /// # Safety
    /// `loan` is the result of the latest call of [`take_direct`](Self::take_direct) of this writer, which
    /// has neither published, reserved nor recalled anything since. It counts as reserved from then on, so
    /// the contract of [`reserve_direct`](Self::reserve_direct) continues to hold.
    ///
    /// So code without `unsafe` cannot pass off just any loan as a reserved block:
    /// ```compile_fail,E0133
    /// # use blockcast_blocks::{ChannelConfig, PublisherId, Schema, channel};
    /// # let mut writer = channel(ChannelConfig::new(PublisherId::new(1), Schema::named("test")))?;
    /// let loan = writer.try_loan(1)?.suspend();
    /// writer.reserve_again(loan);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn reserve_again(&mut self, loan: SuspendedLoan) {
        debug_assert_eq!(loan.channel, self.channel.serial(), "another writer's");
        self.producer.reserve_again(loan.taken.unit);
    }

    /// Wakes waiting subscribers. Call this if direct publishing found that there may be some.
    #[cold]
    pub fn wake_subscribers(&mut self) {
        if self.producer.wakes() {
            self.channel.subscribers.wake_all();
        }
    }

    /// Messages published so far and their bytes, directly or otherwise. Current at any time, whether adopted
    /// or not.
    #[must_use]
    pub fn published(&self) -> (u64, u64) {
        self.producer.published()
    }
}
