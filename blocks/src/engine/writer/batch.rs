//! Messages that become visible together: [`RawSendBatch`].

use super::{RawLoan, TakenBlock, Writer};
use crate::descriptor::{Validity, pack};
use crate::error::LoanError;

/// Messages that become visible together. Dropping it publishes those that were added.
///
/// The head is written and sleepers are looked for once, not per message. If no block is free for another
/// message, those that were added become visible first: subscribers must see them to release them.
#[doc(hidden)]
#[derive(Debug)]
pub struct RawSendBatch<'w> {
    writer: &'w mut Writer,
}

impl RawSendBatch<'_> {
    /// Like [`Writer::try_loan`]. Publishing the loan publishes the messages that were added before, too.
    ///
    /// # Errors
    /// The same as for [`Writer::try_loan`].
    #[inline(always)]
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        self.writer.try_loan(len)
    }

    /// Publishes the messages that were added, `added` in all.
    ///
    /// # Errors
    /// The number of those that were published, and the reason why the others were not:
    /// [`LoanError::Forked`].
    pub fn publish(self, _added: usize) -> Result<(), (usize, LoanError)> {
        self.writer.announce().map_err(|error| (0, error))
    }
}

impl Drop for RawSendBatch<'_> {
    fn drop(&mut self) {
        // A forked child has nobody to publish to.
        let _ = self.writer.announce();
    }
}

impl RawLoan<'_> {
    /// Like [`publish`](Self::publish), but leaves it to the [batch](Writer::batch) that the loan is part of
    /// to make the message visible.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the block has fewer bytes. The block returns to the pool.
    #[doc(hidden)]
    #[inline]
    pub fn add_bytes(self, len: usize) -> Result<(), LoanError> {
        self.add_as(len, Validity::Unchecked)
    }

    /// Like [`add_bytes`](Self::add_bytes), for bytes that subscribers need not validate.
    ///
    /// # Errors
    /// The same as for [`add_bytes`](Self::add_bytes).
    ///
    /// # Safety
    /// The same as for [`publish_valid`](Self::publish_valid).
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn add_valid(self, len: usize) -> Result<(), LoanError> {
        self.add_as(len, Validity::Valid)
    }

    #[inline(always)]
    fn add_as(self, len: usize, validity: Validity) -> Result<(), LoanError> {
        if len > self.len() {
            return Err(LoanError::TooLarge { needed: len, block_size: self.len() });
        }
        let mut loan = std::mem::ManuallyDrop::new(self);
        let TakenBlock { unit, .. } = loan.block;
        loan.writer.stamp();
        loan.writer.producer.add(pack(unit, len as u32, validity));
        Ok(())
    }
}

impl Writer {
    /// Starts a batch of messages.
    #[doc(hidden)]
    #[inline(always)]
    pub fn batch(&mut self) -> RawSendBatch<'_> {
        RawSendBatch { writer: self }
    }

    /// Makes added messages visible, if there are any, and wakes who waits for them. Called before anything
    /// that depends on the head, in case a batch was forgotten.
    ///
    /// # Errors
    /// [`LoanError::Forked`]: nobody sees them.
    #[inline]
    pub(super) fn announce(&mut self) -> Result<(), LoanError> {
        if self.producer.announce() && !self.producer.nobody_waits() {
            let latest = self.next_sequence();
            return self.check_waiters(latest).map(drop);
        }
        Ok(())
    }
}
