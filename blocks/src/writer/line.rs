//! What a writer does for its line, by which another publishes: see [`crate::line`].

use super::{SuspendedLoan, Taken, Writer};
use crate::abi::{LineBlock, PublishingLine, TIMESTAMPS_COARSE, TIMESTAMPS_OFF, TIMESTAMPS_PRECISE};
use crate::descriptor::{Validity, pack, unit_of};
use crate::error::LoanError;
use crate::options::Timestamps;
use crate::payload::BLOCK_ALIGNMENT;

/// Of so many blocks one may be lent to the line at a time, so that the others remain for whoever else wants one.
const BLOCKS_PER_LENT: u32 = 4;

impl Writer {
    /// The words by which messages are announced, for another who publishes with this writer's blocks. `None` where it may not: where
    /// blocks have several sizes, or the one that was freed last is to be used first.
    ///
    /// They stay valid as long as the writer. What is [lent](Self::lend_to_line) is published by the line, under the rules that
    /// [`PublishingLine`] states. Whatever else is done with the writer from then on, [`adopt`](Self::adopt) is called before it.
    #[must_use]
    pub fn line(&self) -> Option<PublishingLine> {
        if !self.uniform || self.hottest {
            return None;
        }
        let timestamps = match self.timestamps {
            Timestamps::Off => TIMESTAMPS_OFF,
            Timestamps::Coarse => TIMESTAMPS_COARSE,
            Timestamps::Precise => TIMESTAMPS_PRECISE,
        };
        let line = self.producer.control().publishing_line();
        Some(PublishingLine { timestamps, capacity: self.block_size, ..line })
    }

    /// Takes in what the line has published. One load.
    #[inline]
    pub fn adopt(&mut self) {
        self.producer.adopt();
    }

    /// Lends up to `room` blocks to the line, at least one: the first as [`try_loan`](Self::try_loan) takes it, more only
    /// where they are free already and most of the pool remains. Returns how many; each is given to `lend`.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`].
    #[inline]
    pub fn lend_to_line(&mut self, room: u32, mut lend: impl FnMut(LineBlock)) -> Result<u32, LoanError> {
        let first = self.take_block(0)?;
        let most = room.min(self.producer.pool().blocks() / BLOCKS_PER_LENT);
        let base = self.base;
        let mut lend = |unit| {
            // SAFETY: units come from the pool, whose blocks all lie within the arena.
            let address = unsafe { base.as_ptr().add(unit as usize * BLOCK_ALIGNMENT) };
            lend(LineBlock { word: pack(unit, 0, Validity::Valid), address });
        };
        lend(first.unit);
        let mut lent = 1 + self.producer.take_oldest_each(most.saturating_sub(1), &mut lend);
        while lent < most
            && let Some((unit, _)) = self.producer.take_spare(0)
        {
            lend(unit);
            lent += 1;
        }
        self.producer.lend(lent);
        Ok(lent)
    }

    /// Blocks that wait at the line to be published.
    #[must_use]
    pub fn lent_to_line(&self) -> u32 {
        self.producer.lined()
    }

    /// Takes a block back that was lent to the line, for this writer to publish it, and [`lend_again`](Self::lend_again). `None` if
    /// `word` names none, or none is lent.
    pub fn take_from_line(&mut self, word: u64) -> Option<SuspendedLoan> {
        let unit = unit_of(word);
        if !self.producer.pool().is_block(unit) || !self.producer.unlend() {
            return None;
        }
        let taken = Taken { unit, capacity: self.block_size };
        Some(SuspendedLoan { taken, channel: self.channel.serial() })
    }

    /// Lends a block again that was [taken from the line](Self::take_from_line) and not published.
    pub fn lend_again(&mut self, loan: SuspendedLoan) {
        debug_assert_eq!(loan.channel, self.channel.serial(), "another writer's");
        self.producer.lend(1);
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
