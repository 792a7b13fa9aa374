//! Publishing from a guest: messages are built in one buffer and copied once, by the host, into a block.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use super::bindings::blockcast::blocks::topics;
use super::bindings::blockcast::blocks::types::{self, Error, MemoryArea};
use super::error::HostError;
use super::reactor;
use crate::descriptor::Validity;
use crate::payload::BLOCK_ALIGNMENT;
use crate::schema::Schema;
use crate::units::Sequence;

/// What a writer needs.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// Capacity of a block in bytes.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Messages that stay available to subscribers that come later.
    pub history: u32,
}

/// There is no block to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// Subscribers still hold all blocks: wait for one.
    #[error("no block is free")]
    Full,
    /// More was asked for than a block has.
    #[error("{asked} bytes were asked for and a block has {available}")]
    TooLarge {
        /// Bytes asked for.
        asked: usize,
        /// Bytes that a block has.
        available: usize,
    },
    /// The host has refused the last message, which is lost, or will refuse the next one.
    #[error("the host does not publish: {0}")]
    Refused(HostError),
}

/// Memory of the same alignment as a block.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; BLOCK_ALIGNMENT]);

const _: () = assert!(align_of::<Line>() == BLOCK_ALIGNMENT);

/// A publisher of one topic.
pub struct Writer {
    publisher: topics::Publisher,
    block_size: usize,
    /// As large as a block; made when the first loan is taken.
    buffer: Box<[Line]>,
    /// Messages that the host has blocks for, as far as known.
    free: u32,
}

impl Writer {
    /// Joins `topic` as a publisher.
    ///
    /// # Errors
    /// What the host refuses it with: not granted, another schema, a limit.
    pub fn open(topic: &str, schema: &Schema, options: WriterOptions) -> Result<Self, HostError> {
        let WriterOptions { block_size, blocks, history } = options;
        let options = types::PublisherOptions { block_size, blocks, history };
        let publisher = topics::Publisher::open(topic, schema.name(), schema.fingerprint(), options)?;
        let block_size = publisher.block_size() as usize;
        Ok(Self { publisher, block_size, buffer: Box::default(), free: 0 })
    }

    /// Capacity of a block in bytes.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// How many subscriptions of the topic exist now. One host call.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.publisher.subscriber_count() as usize
    }

    /// The host's counters of this publisher. One host call.
    #[must_use]
    pub fn stats(&self) -> types::PublisherStats {
        self.publisher.stats()
    }

    /// Lends `len` bytes to be filled. The loan that is published next is sure to find a block.
    ///
    /// A host call only when the blocks that the host offered last are used up.
    ///
    /// # Errors
    /// [`LoanError::Full`] when no block is free, [`LoanError::TooLarge`] when a block is too small.
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        self.check_loanable(len)?;
        if self.buffer.is_empty() {
            let lines = self.block_size.div_ceil(BLOCK_ALIGNMENT);
            self.buffer = vec![Line([0; BLOCK_ALIGNMENT]); lines].into_boxed_slice();
        }
        Ok(RawLoan { writer: self, len })
    }

    /// Ready when a loan of `len` bytes can be had; arranges that the task is woken when that may be so.
    pub fn poll_loanable(&mut self, context: &Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        match self.check_loanable(len) {
            Err(LoanError::Full) => {
                reactor::wake_on_progress(context.waker());
                Poll::Pending
            }
            checked => Poll::Ready(checked),
        }
    }

    fn check_loanable(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.block_size {
            return Err(LoanError::TooLarge { asked: len, available: self.block_size });
        }
        if self.free == 0 {
            self.free = self.publisher.free_blocks();
        }
        if self.free == 0 { Err(LoanError::Full) } else { Ok(()) }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("block_size", &self.block_size)
            .field("free", &self.free)
            .finish_non_exhaustive()
    }
}

/// The right to fill and publish the next message; dropping it publishes nothing.
///
/// The content is unspecified at first: zeros, or bytes of an earlier message of the same writer.
#[derive(Debug)]
pub struct RawLoan<'w> {
    writer: &'w mut Writer,
    len: usize,
}

impl RawLoan<'_> {
    /// Publishes the first `len` bytes. Copies them once, into a block.
    ///
    /// The host checks for itself whether the bytes are valid, so `_validity` says nothing to it.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the loan is shorter, [`LoanError::Refused`] with what the host says.
    pub fn publish(self, len: usize, _validity: Validity) -> Result<Sequence, LoanError> {
        if len > self.len {
            return Err(LoanError::TooLarge { asked: len, available: self.len });
        }
        // The host reads the bytes through the exposed pointer.
        let address = self.writer.buffer.as_ptr().expose_provenance() as u32;
        self.writer.free = self.writer.free.saturating_sub(1);
        match self.writer.publisher.publish(MemoryArea { address, size: len as u32 }) {
            Ok(number) => Ok(Sequence::new(number)),
            Err(Error::Exhausted) => {
                self.writer.free = 0;
                Err(LoanError::Full)
            }
            Err(other) => Err(LoanError::Refused(other.into())),
        }
    }
}

impl Deref for RawLoan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer has at least `len` initialised bytes (`try_loan` checks it against the block's size and
        // makes a buffer of that size), any bytes are valid `u8`, and the borrow of `self` protects them.
        unsafe { std::slice::from_raw_parts(self.writer.buffer.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for RawLoan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.writer.buffer.as_mut_ptr().cast(), self.len) }
    }
}
