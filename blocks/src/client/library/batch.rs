//! Batches of messages from a native library: [`RawSendBatch`].

use super::writer::{RawLoan, Writer};
use crate::error::LoanError;

/// Messages that are published one after another. Other batches make them visible together.
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
    pub fn publish(self, _added: usize) -> Result<(), (usize, LoanError)> {
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
}
