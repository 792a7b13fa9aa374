//! Batches of messages from a guest: [`RawSendBatch`].
//!
//! ```text
//! staged     [ address, length | address, length | ··· ]   names the messages, for the host
//! buffer     [ message ··· | message ·· | loan ·························· ]
//!                                         ▲ end        a block's size at least
//! ```
//! Small messages are built one after another in the writer's buffer. One call passes them to the host when
//! the buffer is full, when the blocks that the host has offered are used up, and at the end of the batch.

use super::super::error::HostError;
use super::types::{Error, MemoryArea};
use super::writer::{RawLoan, Writer};
use crate::error::LoanError;
use crate::payload::BLOCK_ALIGNMENT;

/// Bytes of messages that are staged before they are passed to the host, in addition to a block's size. Small
/// enough that they stay in the first-level cache until the host copies them.
pub(super) const STAGED_BYTES: usize = 16 << 10;

/// Messages that are built in the writer's buffer, and that the host does not have yet.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// Address and length of each, as `publisher.publish-batch` reads them.
    messages: Vec<[u32; 2]>,
    /// Where the next one begins in the buffer, in units of a block's alignment.
    end: usize,
    /// The number of messages that the host has not accepted, and the reason.
    refused: Option<(usize, LoanError)>,
}

impl Staged {
    /// Where the next message begins in the buffer, in units of a block's alignment.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Adds a message of `len` bytes at `address`, the end.
    pub(super) fn add(&mut self, address: u32, len: u32) {
        self.messages.push([address, len]);
        self.end += (len as usize).div_ceil(BLOCK_ALIGNMENT);
    }
}

/// Messages that the host publishes together. Dropping it publishes those that were added.
#[doc(hidden)]
#[derive(Debug)]
pub struct RawSendBatch<'w> {
    writer: &'w mut Writer,
}

impl RawSendBatch<'_> {
    /// Like [`Writer::try_loan`]. Publishing the loan publishes the messages that were added before, too.
    ///
    /// # Errors
    /// The same as for [`Writer::try_loan`], and the host's reason for not publishing an earlier message.
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        self.writer.reserve(STAGED_BYTES);
        self.writer.try_loan(len)
    }

    /// Publishes the messages that were added, `added` in all.
    ///
    /// # Errors
    /// The number of those that were published, and the host's reason for not publishing the next one.
    pub fn publish(self, added: usize) -> Result<(), (usize, LoanError)> {
        // A failure is recorded, like those before.
        let _ = self.writer.flush();
        match self.writer.staged.refused.take() {
            None => Ok(()),
            Some((refused, error)) => Err((added.saturating_sub(refused), error)),
        }
    }
}

impl Drop for RawSendBatch<'_> {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.writer.flush();
    }
}

impl RawLoan<'_> {
    /// Like [`publish_valid`](Self::publish_valid), but leaves it to the [batch](Writer::batch) that the loan
    /// is part of to publish a message that is not built in its block.
    ///
    /// # Errors
    /// The same as for [`publish_valid`](Self::publish_valid).
    ///
    /// # Safety
    /// The same as for [`publish_valid`](Self::publish_valid).
    #[doc(hidden)]
    pub unsafe fn add_valid(self, len: usize) -> Result<(), LoanError> {
        self.stage(len)
    }
}

impl Writer {
    /// Starts a batch of messages.
    #[doc(hidden)]
    pub fn batch(&mut self) -> RawSendBatch<'_> {
        self.staged.refused = None;
        RawSendBatch { writer: self }
    }

    /// Passes the staged messages to the host. Afterwards none are staged, whether the host accepts them or
    /// not.
    ///
    /// # Errors
    /// The host's reason for not publishing one of them.
    pub(super) fn flush(&mut self) -> Result<(), LoanError> {
        let mut rest = &self.staged.messages[..];
        let mut outcome = Ok(());
        while !rest.is_empty() {
            // The host reads the entries, and the messages that they name, through exposed pointers.
            let address = rest.as_ptr().expose_provenance() as u32;
            // Fits: in a guest, all sizes have 32 bits.
            let entries = MemoryArea { address, size: size_of_val(rest) as u32 };
            match self.publisher.publish_batch(entries) {
                Ok(0) => outcome = Err(Error::Internal), // the host contradicts itself
                Ok(published) => {
                    self.next = self.next.saturating_add(u64::from(published));
                    rest = rest.get(published as usize..).unwrap_or_default();
                    continue;
                }
                Err(error) => outcome = Err(error),
            }
            break;
        }
        let refused = rest.len();
        self.staged.messages.clear();
        self.staged.end = 0;
        outcome.map_err(|error| {
            let error = match error {
                Error::Exhausted => {
                    self.free = 0;
                    self.exhausted()
                }
                other => LoanError::Refused(HostError::from(other).text()),
            };
            self.staged.refused = Some((refused, error.clone()));
            error
        })
    }
}
