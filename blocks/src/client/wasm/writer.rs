//! Publishing from a guest. Small messages are built in a buffer, and the host copies them once, into a
//! block. Large ones are built in the block itself.
//!
//! The host decides which messages are large ([`Writer::in_place_from`]). If it has no address space or no
//! room for another loan, it copies them as well: an app only notices the time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::task::{Context, Poll};

use super::super::error::HostError;
use super::batch::Staged;
use super::bindings::blockcast::blocks::memory_blocks::{Access, MemoryBlock};
use super::types::{self, Error};
use super::window::{self, Windows};
use super::{Runtime, topics};
use crate::error::LoanError;
use crate::options::WriterOptions;
use crate::payload::BLOCK_ALIGNMENT;
use crate::payload::schema::Schema;
use crate::units::Sequence;

/// Memory with the alignment of a block.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unit([u8; BLOCK_ALIGNMENT]);

const _: () = assert!(align_of::<Unit>() == BLOCK_ALIGNMENT);

/// The smallest result of `publish-to` that is an error and not a sequence number.
const FIRST_ERROR: u64 = u64::MAX - 255;

/// The errors of `publish-to`, in the order of their numbers.
const ERRORS: [Error; 13] = [
    Error::NoStorage,
    Error::Busy,
    Error::WrongSize,
    Error::Internal,
    Error::Denied,
    Error::SchemaMismatch,
    Error::Closed,
    Error::Exhausted,
    Error::TooLarge,
    Error::InvalidPayload,
    Error::InvalidHandle,
    Error::OutOfBounds,
    Error::Limit,
];

/// A publisher of one topic.
pub struct Writer {
    pub(super) publisher: topics::Publisher,
    /// The publisher's key in calls of `publish-to`.
    key: u32,
    schema: Schema,
    block_size: usize,
    blocks: u32,
    /// Number of the next message.
    pub(super) next: u64,
    /// As large as a block, and larger for batches. Allocated by the first loan that is not built in place.
    buffer: Box<[Unit]>,
    /// Messages of a batch, which are in the buffer.
    pub(super) staged: Staged,
    /// Messages of at least this many bytes are built in their block.
    in_place_from: usize,
    /// Messages for which the host has blocks, as far as known.
    pub(super) free: u32,
}

impl Writer {
    /// Joins `topic` as a publisher. The host calls it by the name of its component.
    ///
    /// # Errors
    /// The host's error: not granted, a different schema, or a limit.
    pub fn open(
        _host: &Runtime,
        topic: &str,
        schema: &Schema,
        options: &WriterOptions,
        _name: &str,
    ) -> Result<Self, HostError> {
        let WriterOptions { block_size, blocks, history, .. } = *options;
        let block_size = u32::try_from(block_size).unwrap_or(u32::MAX);
        let options = types::PublisherOptions { block_size, blocks, history };
        let publisher = topics::Publisher::open(topic, schema.name(), schema.fingerprint(), options)?;
        let block_size = publisher.block_size() as usize;
        let in_place_from = match publisher.in_place_from() {
            u32::MAX => usize::MAX,
            bytes => bytes as usize,
        };
        let key = publisher.key();
        let (schema, buffer, staged) = (schema.clone(), Box::default(), Staged::default());
        let (next, free) = (0, 0);
        Ok(Self { publisher, key, schema, block_size, blocks, next, buffer, staged, in_place_from, free })
    }

    /// Capacity of a block in bytes.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// The layout of the messages.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The sequence of the next message.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence::new(self.next)
    }

    /// The current number of the topic's subscribers. One host call.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.publisher.subscriber_count()
    }

    /// Registers the context's waker to be woken when a block comes free, or when a subscriber joins or
    /// leaves.
    pub fn register(&self, cx: &mut Context<'_>) {
        Runtime::current().wake_on_progress(cx.waker());
    }

    /// The host's counters of this publisher. One host call.
    #[must_use]
    pub fn stats(&self) -> types::PublisherStats {
        self.publisher.stats()
    }

    /// The size in bytes from which on a message is built in the block that subscribers read, without a copy.
    /// `usize::MAX` if none is.
    #[must_use]
    pub fn in_place_from(&self) -> usize {
        self.in_place_from
    }

    /// Loans memory for a message of up to `len` bytes (0: as many as a block has). If it is published next,
    /// it is sure to find a block.
    ///
    /// Never waits. For a [large](Self::in_place_from) message, the memory is the block itself: two host
    /// calls, one of which changes the protection of its pages. Otherwise this only calls the host when the
    /// blocks that it offered last are used up.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] if no block is free, [`LoanError::TooLarge`] if a block is too small.
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        self.check_loanable(len)?;
        let len = if len == 0 { self.block_size } else { len };
        if len >= self.in_place_from {
            self.flush()?;
            match self.loan_in_place(len) {
                Ok(block) => {
                    self.free = self.free.saturating_sub(1);
                    return Ok(RawLoan { writer: self, block: Some(block) });
                }
                Err(Error::Exhausted) => {
                    self.free = 0;
                    return Err(self.exhausted());
                }
                // The next loan may succeed in place. Copy this message.
                Err(_) => {}
            }
        }
        self.reserve(0);
        if self.staged.end() + self.units() > self.buffer.len() {
            self.flush()?;
        }
        Ok(RawLoan { writer: self, block: None })
    }

    /// A block's size in units of its alignment.
    fn units(&self) -> usize {
        self.block_size.div_ceil(BLOCK_ALIGNMENT)
    }

    /// Makes room for a block and `staged` more bytes in the buffer, unless messages are staged in it.
    pub(super) fn reserve(&mut self, staged: usize) {
        let units = self.units() + staged / BLOCK_ALIGNMENT;
        if self.buffer.len() < units && self.staged.end() == 0 {
            self.buffer = vec![Unit([0; BLOCK_ALIGNMENT]); units].into_boxed_slice();
        }
    }

    fn loan_in_place(&self, len: usize) -> Result<Block, Error> {
        // A block's size has 32 bits, and `len` is not larger.
        let handle = self.publisher.loan(len as u32)?;
        let area = match handle.attach(Access::WRITE) {
            Err(Error::NoStorage) => {
                donate(handle.minimum_size())?;
                handle.attach(Access::WRITE)?
            }
            other => other?,
        };
        let start = std::ptr::with_exposed_provenance_mut(area.address as usize);
        let start = NonNull::new(start).ok_or(Error::Internal)?;
        Ok(Block { handle, start, len: area.size as usize })
    }

    /// Ready when a loan of `len` bytes is possible. Otherwise wakes the task when that may be the case.
    pub fn poll_loanable(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        match self.check_loanable(len) {
            Err(LoanError::Exhausted { .. }) => {
                Runtime::current().wake_on_progress(cx.waker());
                Poll::Pending
            }
            checked => Poll::Ready(checked),
        }
    }

    pub(super) fn exhausted(&self) -> LoanError {
        LoanError::Exhausted { blocks: self.blocks }
    }

    fn check_loanable(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.block_size {
            return Err(LoanError::TooLarge { needed: len, block_size: self.block_size });
        }
        if self.free == 0 {
            // Subscribers release messages of a batch only once they see them.
            self.flush()?;
            self.free = self.publisher.free_blocks();
        }
        if self.free == 0 { Err(self.exhausted()) } else { Ok(()) }
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

/// Donates address space for blocks to the host. The host keeps it, so later writers need less.
fn donate(needed: u32) -> Result<(), Error> {
    if needed == 0 {
        return Err(Error::Internal); // the host contradicts itself
    }
    let area = Windows::reserve(needed).ok_or(Error::NoStorage)?;
    MemoryBlock::add_storage(area).inspect_err(|_| window::hand_back(area))
}

/// The sequence number or the error that a result of `publish-to` stands for.
fn outcome(result: u64) -> Result<u64, Error> {
    match result.checked_sub(FIRST_ERROR) {
        None => Ok(result),
        // Fits: at most 255. An error that this version does not know is the host's own.
        Some(number) => Err(ERRORS.get(number as usize).copied().unwrap_or(Error::Internal)),
    }
}

/// A block that the host loaned, attached for writing. Dropping the handle returns it.
#[derive(Debug)]
struct Block {
    handle: MemoryBlock,
    /// Its bytes, which nobody else can reach until it is published or dropped.
    start: NonNull<u8>,
    len: usize,
}

/// The right to fill and publish the next message. Dropping it publishes nothing.
///
/// Dereferences to as many bytes as a block has. Their content is unspecified: zeros, or bytes of an earlier
/// message of the same writer.
#[derive(Debug)]
pub struct RawLoan<'w> {
    writer: &'w mut Writer,
    /// The block in which the message is built, unless that is the writer's buffer.
    block: Option<Block>,
}

impl RawLoan<'_> {
    /// Publishes the first `len` bytes. A message that was built in its block is sealed; any other is copied
    /// once, into a block.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the loan is shorter, [`LoanError::Refused`] with the host's reason.
    pub fn publish(self, len: usize) -> Result<Sequence, LoanError> {
        if len > self.len() {
            return Err(LoanError::TooLarge { needed: len, block_size: self.len() });
        }
        let published = match &self.block {
            Some(block) => self.writer.publisher.publish_block(&block.handle, len as u32),
            None => {
                let address = self.address();
                self.writer.flush()?;
                self.writer.free = self.writer.free.saturating_sub(1);
                outcome(topics::publish_to(self.writer.key, address, len as u32))
            }
        };
        match published {
            Ok(number) => {
                self.writer.next = number.saturating_add(1);
                Ok(Sequence::new(number))
            }
            Err(Error::Exhausted) => {
                self.writer.free = 0;
                Err(self.writer.exhausted())
            }
            Err(other) => Err(LoanError::Refused(HostError::from(other).text())),
        }
    }
}

impl RawLoan<'_> {
    /// Adds the first `len` bytes to the staged messages, unless they were built in a block, which is
    /// published at once.
    pub(super) fn stage(self, len: usize) -> Result<(), LoanError> {
        if self.block.is_some() || len > self.len() {
            return self.publish(len).map(drop);
        }
        let address = self.address();
        self.writer.staged.add(address, len as u32);
        self.writer.free = self.writer.free.saturating_sub(1);
        Ok(())
    }

    /// The first byte in the writer's buffer.
    fn start(&self) -> *const u8 {
        // Within the buffer: `try_loan` has made room for a block from there on.
        self.writer.buffer.as_ptr().wrapping_add(self.writer.staged.end()).cast()
    }

    /// The address of the first byte in the writer's buffer, through which the host reads the message.
    fn address(&self) -> u32 {
        self.start().expose_provenance() as u32
    }

    /// Does nothing if the loan has `len` bytes. A guest's blocks have one size.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`].
    pub fn grow(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.len() {
            return Err(LoanError::TooLarge { needed: len, block_size: self.len() });
        }
        Ok(())
    }

    /// Like [`publish`](Self::publish): the host always validates the bytes.
    ///
    /// # Errors
    /// The same as for [`publish`](Self::publish).
    ///
    /// # Safety
    /// Nothing is required in a guest. Natively, the first `len` bytes must be a valid message of the
    /// channel's schema.
    pub unsafe fn publish_valid(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish(len)
    }
}

impl Deref for RawLoan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (start, len) = match &self.block {
            Some(block) => (block.start.as_ptr().cast_const(), block.len),
            None => (self.start(), self.writer.block_size),
        };
        // SAFETY: `try_loan` has made room for `block_size` initialised bytes in the buffer behind the staged
        // messages, and the borrow of `self` protects them. Or it is a block: the host has mapped that many
        // bytes there for this loan alone, inside of address space that nothing else in the guest uses, until
        // `publish` or the handle's drop, which need `self`.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

impl DerefMut for RawLoan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, len) = match &self.block {
            Some(block) => (block.start.as_ptr(), block.len),
            None => {
                let start = self.writer.buffer.as_mut_ptr().wrapping_add(self.writer.staged.end());
                (start.cast(), self.writer.block_size)
            }
        };
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}
