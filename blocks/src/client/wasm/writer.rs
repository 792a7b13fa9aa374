//! Publishing from a guest: small messages are built in one buffer and copied once, by the host, into a block; large
//! ones are built in the block itself.
//!
//! Which ones are large the host says ([`Writer::in_place_from`]). Where it has no address space or no room for another loan, they are
//! copied as well: an app notices nothing but the time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::Instant;

use super::super::error::HostError;
use super::super::park;
use super::bindings::blockcast::blocks::memory_blocks::{Access, MemoryBlock};
use super::types::{self, Error, MemoryArea};
use super::window::{self, Windows};
use super::{Runtime, topics};
use crate::error::LoanError;
use crate::payload::BLOCK_ALIGNMENT;
use crate::payload::schema::Schema;
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

/// Memory of the same alignment as a block.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; BLOCK_ALIGNMENT]);

const _: () = assert!(align_of::<Line>() == BLOCK_ALIGNMENT);

/// A publisher of one topic.
pub struct Writer {
    publisher: topics::Publisher,
    schema: Schema,
    block_size: usize,
    blocks: u32,
    /// Number of the next message.
    next: u64,
    /// As large as a block; made when the first loan is taken that is not built in place.
    buffer: Box<[Line]>,
    /// Messages of at least that many bytes are built in their block.
    in_place_from: usize,
    /// Messages that the host has blocks for, as far as known.
    free: u32,
}

impl Writer {
    /// Joins `topic` as a publisher.
    ///
    /// # Errors
    /// What the host refuses it with: not granted, another schema, a limit.
    pub fn open(
        _host: &Runtime,
        topic: &str,
        schema: &Schema,
        options: &WriterOptions,
    ) -> Result<Self, HostError> {
        let WriterOptions { block_size, blocks, history } = *options;
        let options = types::PublisherOptions { block_size, blocks, history };
        let publisher = topics::Publisher::open(topic, schema.name(), schema.fingerprint(), options)?;
        let block_size = publisher.block_size() as usize;
        let in_place_from = match publisher.in_place_from() {
            u32::MAX => usize::MAX,
            bytes => bytes as usize,
        };
        let (schema, buffer) = (schema.clone(), Box::default());
        Ok(Self { publisher, schema, block_size, blocks, next: 0, buffer, in_place_from, free: 0 })
    }

    /// Capacity of a block in bytes.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// The layout of its messages.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The sequence that the next message gets.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence::new(self.next)
    }

    /// Never: a host answers for the process.
    #[must_use]
    pub const fn is_inherited(&self) -> bool {
        false
    }

    /// Subscribers of the topic now. One host call.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        self.publisher.subscriber_count()
    }

    /// Arranges that the context's waker is woken when a block comes free or a subscriber joins or leaves.
    pub fn register(&self, cx: &mut Context<'_>) {
        Runtime::current().wake_on_progress(cx.waker());
    }

    /// The host's counters of this publisher. One host call.
    #[must_use]
    pub fn stats(&self) -> types::PublisherStats {
        self.publisher.stats()
    }

    /// From how many bytes on a message is built in the block that subscribers read, without a copy; `usize::MAX` where
    /// none is.
    #[must_use]
    pub fn in_place_from(&self) -> usize {
        self.in_place_from
    }

    /// Lends memory for a message of up to `len` bytes (0: as many as a block has), which is sure to find a block when it is
    /// published next.
    ///
    /// Never waits. For a [large](Self::in_place_from) message it is the block itself: two host calls, one of which changes the
    /// protection of its pages. Otherwise a host call is made only when the blocks that the host offered last are used up.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] when no block is free, [`LoanError::TooLarge`] when a block is too small.
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        self.check_loanable(len)?;
        let len = if len == 0 { self.block_size } else { len };
        if len >= self.in_place_from {
            match self.loan_in_place(len) {
                Ok(block) => {
                    self.free = self.free.saturating_sub(1);
                    return Ok(RawLoan { writer: self, block: Some(block) });
                }
                Err(Error::Exhausted) => {
                    self.free = 0;
                    return Err(self.exhausted());
                }
                // What is not to be had now may be had the next time; this message is copied.
                Err(_) => {}
            }
        }
        if self.buffer.is_empty() {
            let lines = self.block_size.div_ceil(BLOCK_ALIGNMENT);
            self.buffer = vec![Line([0; BLOCK_ALIGNMENT]); lines].into_boxed_slice();
        }
        Ok(RawLoan { writer: self, block: None })
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

    /// Like [`try_loan`](Self::try_loan), but suspends the whole guest until a block comes free, or until `deadline`.
    /// The guest's other tasks stand still meanwhile: in `async` code use [`poll_loanable`](Self::poll_loanable).
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] at once, [`LoanError::Deadline`] at the deadline.
    pub fn loan(&mut self, len: usize, deadline: Option<Instant>) -> Result<RawLoan<'_>, LoanError> {
        park::until(deadline, |cx| self.poll_loanable(cx, len)).unwrap_or(Err(LoanError::Deadline))?;
        self.try_loan(len)
    }

    /// Ready when a loan of `len` bytes can be had; arranges that the task is woken when that may be so.
    pub fn poll_loanable(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        match self.check_loanable(len) {
            Err(LoanError::Exhausted { .. }) => {
                Runtime::current().wake_on_progress(cx.waker());
                Poll::Pending
            }
            checked => Poll::Ready(checked),
        }
    }

    fn exhausted(&self) -> LoanError {
        LoanError::Exhausted { blocks: self.blocks }
    }

    fn check_loanable(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.block_size {
            return Err(LoanError::TooLarge { needed: len, block_size: self.block_size });
        }
        if self.free == 0 {
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

/// Gives the host address space for blocks. It keeps it: loans of later writers need less.
fn donate(needed: u32) -> Result<(), Error> {
    if needed == 0 {
        return Err(Error::Internal); // the host contradicts itself
    }
    let area = Windows::reserve(needed).ok_or(Error::NoStorage)?;
    MemoryBlock::add_storage(area).inspect_err(|_| window::hand_back(area))
}

/// A block that the host has lent, attached for writing. Dropping the handle returns it.
#[derive(Debug)]
struct Block {
    handle: MemoryBlock,
    /// Its bytes, which nobody else can reach until it is published or dropped.
    start: NonNull<u8>,
    len: usize,
}

/// The right to fill and publish the next message; dropping it publishes nothing.
///
/// Dereferences to as many bytes as a block has; their content is unspecified (zeros, or bytes of an earlier
/// message of the same writer).
#[derive(Debug)]
pub struct RawLoan<'w> {
    writer: &'w mut Writer,
    /// Where it is built, if not in the writer's buffer.
    block: Option<Block>,
}

impl RawLoan<'_> {
    /// Publishes the first `len` bytes. A message that was built in its block is sealed, any other copied once, into a block.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the loan is shorter, [`LoanError::Refused`] with what the host says.
    pub fn publish(self, len: usize) -> Result<Sequence, LoanError> {
        if len > self.len() {
            return Err(LoanError::TooLarge { needed: len, block_size: self.len() });
        }
        let published = match self.block {
            Some(block) => self.writer.publisher.publish_block(&block.handle, len as u32),
            None => {
                // The host reads the bytes through the exposed pointer.
                let address = self.writer.buffer.as_ptr().expose_provenance() as u32;
                self.writer.free = self.writer.free.saturating_sub(1);
                self.writer.publisher.publish(MemoryArea { address, size: len as u32 })
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
    /// Does nothing if the loan has `len` bytes; a guest's blocks have one size.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`].
    pub fn grow(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.len() {
            return Err(LoanError::TooLarge { needed: len, block_size: self.len() });
        }
        Ok(())
    }

    /// As [`publish`](Self::publish): the host checks for itself whether the bytes are valid.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    ///
    /// # Safety
    /// None here; natively the first `len` bytes must be a valid message of the channel's schema.
    pub unsafe fn publish_valid(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish(len)
    }
}

impl Deref for RawLoan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (start, len) = match &self.block {
            Some(block) => (block.start.as_ptr().cast_const(), block.len),
            None => (self.writer.buffer.as_ptr().cast(), self.writer.block_size),
        };
        // SAFETY: `try_loan` has made a buffer of at least `block_size` initialised bytes, and the borrow of `self`
        // protects them. Or it is a block: the host has mapped that many bytes there for this loan alone, inside of address space
        // that nothing else in the guest uses, until `publish` or the handle's drop, which need `self`.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

impl DerefMut for RawLoan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, len) = match &self.block {
            Some(block) => (block.start.as_ptr(), block.len),
            None => (self.writer.buffer.as_mut_ptr().cast(), self.writer.block_size),
        };
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}
