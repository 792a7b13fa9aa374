//! What a writer does for its line, by which another publishes: see [`crate::direct`].

use super::{SuspendedLoan, Taken, Writer};
use crate::abi::{PublishingLine, TIMESTAMPS_COARSE, TIMESTAMPS_OFF, TIMESTAMPS_PRECISE};
use crate::descriptor::unit_of;
use crate::error::LoanError;
use crate::options::Timestamps;

/// Of so many blocks one may be lent to the line at a time, so that the others remain for whoever else wants one.
const BLOCKS_PER_LENT: u32 = 4;

impl Writer {
    /// The words by which messages are announced, for another who publishes with this writer's blocks. `None` where it may not: where
    /// blocks have several sizes.
    ///
    /// They stay valid as long as the writer. The line publishes what it was [lent](Self::lend_to_line), under the rules that
    /// [`PublishingLine`] states; the contract of `lend_to_line` says what the writer may do meanwhile.
    #[must_use]
    pub fn line(&self) -> Option<PublishingLine> {
        if !self.uniform {
            return None;
        }
        let timestamps = match self.timestamps {
            Timestamps::Off => TIMESTAMPS_OFF,
            Timestamps::Coarse => TIMESTAMPS_COARSE,
            Timestamps::Precise => TIMESTAMPS_PRECISE,
        };
        let line = self.producer.control().publishing_line();
        Some(PublishingLine { timestamps, base: self.base.as_ptr(), capacity: self.block_size, ..line })
    }

    /// Takes in what the line has published. One load.
    #[inline]
    pub fn adopt(&mut self) {
        self.producer.adopt();
    }

    /// Lends up to `room` blocks to the line, at least one: the first as [`try_loan`](Self::try_loan) takes it, more only
    /// where they are free already and most of the pool remains, and none where the one that was freed last is to be used first, as
    /// that is only known when it is needed. Returns the first sequence whose slot names one, and how many there are. What was lent
    /// before comes [back](Self::recall_from_line).
    ///
    /// # Errors
    /// [`LoanError::Exhausted`].
    ///
    /// # Safety
    /// Until the blocks are back, by [`recall_from_line`](Self::recall_from_line) or another call of this,
    /// - the writer publishes only loans that were [taken from the line](Self::take_from_line): what it publishes otherwise would
    ///   overwrite the slots that name the lent blocks;
    /// - [`adopt`](Self::adopt) is called before anything else that is done with the writer after the line has published;
    /// - the line publishes nothing while the writer publishes, takes blocks from it or recalls them, and none of these
    ///   blocks afterwards.
    ///
    /// So code without `unsafe` cannot lend:
    /// ```compile_fail,E0133
    /// # use blockcast_blocks::{ChannelConfig, PublisherId, Schema, channel};
    /// # let mut writer = channel(ChannelConfig::new(PublisherId::new(1), Schema::named("test")))?;
    /// writer.lend_to_line(4)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub unsafe fn lend_to_line(&mut self, room: u32) -> Result<(u64, u32), LoanError> {
        self.recall_from_line();
        let first = self.take_block(0)?;
        let most = if self.hottest { 1 } else { room.min(self.producer.pool().blocks() / BLOCKS_PER_LENT) };
        Ok(self.producer.lend(first.unit, most))
    }

    /// Takes back what was lent to the line and not published. Call this before anything else is published: the ring
    /// names the blocks of the line until then. Does nothing if none are lent.
    #[inline]
    pub fn recall_from_line(&mut self) {
        self.producer.recall();
    }

    /// Blocks that wait at the line to be published.
    #[must_use]
    pub fn lent_to_line(&self) -> u32 {
        self.producer.lined()
    }

    /// Takes the next block of the line back, for this writer to publish it, or to [`lend_again`](Self::lend_again). `None` if
    /// `word` names a different one, or none is lent.
    pub fn take_from_line(&mut self, word: u64) -> Option<SuspendedLoan> {
        let unit = unit_of(word);
        if !self.producer.unlend(unit) {
            return None;
        }
        let taken = Taken { unit, capacity: self.block_size };
        Some(SuspendedLoan { taken, channel: self.channel.serial() })
    }

    /// Lends a block again that was [taken from the line](Self::take_from_line) and not published.
    ///
    /// # Safety
    /// `loan` is the result of the latest call of [`take_from_line`](Self::take_from_line) of this writer, which has neither
    /// published, lent nor recalled anything since. It counts as lent then, so the contract of
    /// [`lend_to_line`](Self::lend_to_line) holds on.
    ///
    /// So code without `unsafe` cannot pass off just any loan as the line's:
    /// ```compile_fail,E0133
    /// # use blockcast_blocks::{ChannelConfig, PublisherId, Schema, channel};
    /// # let mut writer = channel(ChannelConfig::new(PublisherId::new(1), Schema::named("test")))?;
    /// let loan = writer.try_loan(1)?.suspend();
    /// writer.lend_again(loan);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn lend_again(&mut self, loan: SuspendedLoan) {
        debug_assert_eq!(loan.channel, self.channel.serial(), "another writer's");
        self.producer.lend_again(loan.taken.unit);
    }

    /// Wakes whoever waits for messages: called by a line that found that somebody may.
    #[cold]
    pub fn wake_behind_line(&mut self) {
        if self.producer.wakes() {
            self.channel.subscribers.wake_all();
        }
    }

    /// Messages that were published, and their bytes, by the line or otherwise: right at any time, whether adopted or not.
    #[must_use]
    pub fn published(&self) -> (u64, u64) {
        self.producer.published()
    }
}
