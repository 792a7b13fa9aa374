//! The parts of a [`Writer`] that do not depend on the host.

use std::time::Instant;

use super::host::{RawLoan, Writer};
use super::park;
use crate::error::LoanError;

/// Messages that are published one after another. The engine's batches, which a program without a host uses,
/// make them visible together.
#[doc(hidden)]
#[derive(Debug)]
pub struct RawSendBatch<'w> {
    writer: &'w mut Writer,
}

impl RawSendBatch<'_> {
    /// Like [`Writer::try_loan`].
    ///
    /// # Errors
    /// The same as for [`Writer::try_loan`].
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        self.writer.try_loan(len)
    }

    /// Does nothing: the messages were published when they were added.
    ///
    /// # Errors
    /// None.
    pub fn publish(self) -> Result<(), LoanError> {
        Ok(())
    }
}

impl RawLoan<'_> {
    /// Like [`publish_valid`](Self::publish_valid).
    ///
    /// # Errors
    /// The same as for [`publish_valid`](Self::publish_valid).
    ///
    /// # Safety
    /// The same as for [`publish_valid`](Self::publish_valid).
    #[doc(hidden)]
    pub unsafe fn add_valid(self, len: usize) -> Result<(), LoanError> {
        // SAFETY: the caller's promise.
        unsafe { self.publish_valid(len) }.map(drop)
    }
}

impl Writer {
    /// Starts a batch of messages.
    #[doc(hidden)]
    pub fn batch(&mut self) -> RawSendBatch<'_> {
        RawSendBatch { writer: self }
    }

    /// Always `false`: the host takes care of forks.
    #[must_use]
    pub const fn is_inherited(&self) -> bool {
        false
    }

    /// Like [`try_loan`](Self::try_loan), but blocks the thread until a block comes free, or until
    /// `deadline`. In a guest, its other tasks do not run meanwhile: in `async` code, use
    /// [`poll_loanable`](Self::poll_loanable).
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] at once, [`LoanError::Deadline`] at the deadline.
    pub fn loan(&mut self, len: usize, deadline: Option<Instant>) -> Result<RawLoan<'_>, LoanError> {
        park::until(deadline, |cx| self.poll_loanable(cx, len)).unwrap_or(Err(LoanError::Deadline))?;
        self.try_loan(len)
    }
}
