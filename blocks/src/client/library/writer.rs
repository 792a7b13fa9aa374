//! Publishing from a library: every message is built in the block that subscribers read.
//!
//! If the host permits [direct](super::direct) publishing, a message takes no call. The library only calls
//! the host for blocks, many small ones at a time. Otherwise a message takes one call: the one that publishes
//! it also returns the next block, if a small one is free.

use std::fmt;
use std::hint::cold_path;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use super::super::error::HostError;
use super::direct::DirectWriter;
use super::runtime::Runtime;
use super::types::{Error, PublisherStats, answer};
use crate::abi::{self, Loan, Text, VALID};
use crate::error::LoanError;
use crate::options::WriterOptions;
use crate::payload::schema::Schema;
use crate::units::Sequence;

/// From this size on, blocks are not asked for ahead. Which one is used next is better decided when it is
/// needed: the most recently freed one is still in the cache.
const LARGE: usize = 32 << 10;

/// A publisher of one topic.
pub struct Writer {
    runtime: Runtime,
    publisher: u64,
    /// If set, all loans are reserved blocks.
    direct: Option<DirectWriter>,
    /// The block that is being filled, or that is ready for the next message. A reserved one has no handle,
    /// and its address is set when it is loaned.
    block: Loan,
    /// Bytes of that block plus 1; 0 if there is none.
    room: usize,
    /// Bytes asked for.
    asked: usize,
    schema: Schema,
    /// Bytes of the smallest blocks.
    block_size: usize,
    /// Bytes of the largest blocks.
    largest: usize,
    blocks: u32,
    /// Number of the next message.
    sequence: u64,
}

// SAFETY: the block that it points to is loaned to it alone, and the host takes calls from any thread.
unsafe impl Send for Writer {}
// SAFETY: a shared reference reaches numbers and the host, which takes calls from any thread.
unsafe impl Sync for Writer {}

impl Writer {
    /// Joins `topic` as a publisher, which statistics call `name`.
    ///
    /// # Errors
    /// The host's error: not granted, a different schema, or a limit.
    pub fn open(
        runtime: &Runtime,
        topic: &str,
        schema: &Schema,
        options: &WriterOptions,
        name: &str,
    ) -> Result<Self, HostError> {
        let host = runtime.host()?;
        let bytes = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let larger: Vec<_> = options
            .larger
            .iter()
            .map(|class| abi::SizeClass {
                block_size: bytes(class.block_size),
                blocks: class.blocks,
                max_blocks: class.max_blocks,
            })
            .collect();
        let asked = abi::PublisherOptions {
            size: size_of::<abi::PublisherOptions>() as u32,
            block_size: bytes(options.block_size),
            blocks: options.blocks,
            history: options.history,
            max_blocks: options.max_blocks.unwrap_or(0),
            max_subscribers: options.max_subscribers,
            timestamps: options.timestamps.abi_code(),
            reuse: options.reuse.abi_code(),
            prefault: u32::from(options.prefault),
            larger_count: bytes(larger.len()),
            larger: larger.as_ptr(),
            name: Text::of(name),
        };
        let mut publisher = 0;
        // SAFETY: the table is a host's, which was checked, and is called with its context; texts, options
        // with the sizes that they point to and the place for the handle are valid for the call.
        answer(unsafe {
            (host.publisher_open)(
                host.context,
                Text::of(topic),
                Text::of(schema.name()),
                schema.fingerprint(),
                &raw const asked,
                &raw mut publisher,
            )
        })?;
        // SAFETY: as above.
        let block_size = unsafe { (host.publisher_block_size)(host.context, publisher) } as usize;
        let largest = options.larger.iter().map(|class| class.block_size).fold(block_size, usize::max);
        let direct = DirectWriter::open(host, publisher);
        Ok(Self {
            runtime: runtime.clone(),
            publisher,
            direct,
            block: Loan::NONE,
            room: 0,
            asked: 0,
            schema: schema.clone(),
            block_size,
            largest,
            blocks: options.max_blocks.unwrap_or(options.blocks),
            sequence: 0,
        })
    }

    /// Capacity of the smallest blocks in bytes.
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
        self.direct.as_ref().map_or(Sequence::new(self.sequence), DirectWriter::next_sequence)
    }

    /// The current number of the topic's subscribers. One host call.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        let count = self.runtime.host().map_or(0, |host| {
            // SAFETY: as in `open`.
            unsafe { (host.publisher_subscriber_count)(host.context, self.publisher) }
        });
        self.runtime.look_again(); // the caller may have registered before, and wait for another number
        count
    }

    /// Registers the context's waker to be woken when a block comes free, or when a subscriber joins or
    /// leaves.
    pub fn register(&self, cx: &mut Context<'_>) {
        self.runtime.wake_on_progress(cx.waker());
    }

    /// The host's counters of this publisher, or zeros if it refuses. One host call.
    #[must_use]
    pub fn stats(&self) -> PublisherStats {
        let mut stats = PublisherStats::default();
        if let Ok(host) = self.runtime.host() {
            // SAFETY: as in `open`.
            let _ = unsafe { (host.publisher_stats)(host.context, self.publisher, &raw mut stats) };
        }
        stats
    }

    /// Loans a block for a message of up to `len` bytes (0: as many as the smallest blocks have). Never
    /// waits. A host call, unless a block is ready.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] if no block is free, [`LoanError::TooLarge`] if a block is too small.
    #[inline]
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        if !self.has_room(len) {
            self.obtain(len)?;
        }
        match &self.direct {
            Some(direct) => self.block.address = direct.block(),
            None => self.asked = len,
        }
        Ok(RawLoan { writer: self })
    }

    /// Whether there is a block for a message of `len` bytes.
    #[inline(always)]
    fn has_room(&self, len: usize) -> bool {
        len < self.room
    }

    /// Asks the host for a block, which becomes the next one. Returns one that was too small.
    #[inline(never)]
    fn obtain(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.largest {
            return Err(LoanError::TooLarge { needed: len, block_size: self.largest });
        }
        if let Some(direct) = &mut self.direct {
            let capacity = direct.capacity();
            let refilled = direct.refill(&self.runtime, self.publisher);
            refilled.map_err(|error| self.refused(error, len))?;
            (self.block.capacity, self.room) = (capacity, capacity.saturating_add(1));
            return Ok(());
        }
        let loan = self.ask(len)?;
        let small = self.put(loan);
        self.give_back(small);
        Ok(())
    }

    /// Makes this the next block, and returns the previous one.
    fn put(&mut self, loan: Loan) -> Loan {
        self.room = if loan.address.is_null() { 0 } else { loan.capacity.saturating_add(1) };
        std::mem::replace(&mut self.block, loan)
    }

    fn ask(&self, len: usize) -> Result<Loan, LoanError> {
        let refused = |error| self.refused(error, len);
        let host = self.runtime.host().map_err(refused)?;
        let mut loan = Loan::NONE;
        // SAFETY: as in `open`. The length is not larger than a block, whose size has 32 bits.
        let status =
            unsafe { (host.publisher_loan)(host.context, self.publisher, len as u32, &raw mut loan) };
        answer(status).map_err(refused)?;
        if loan.block == 0 || loan.address.is_null() || loan.capacity < len {
            return Err(refused(Error::Internal)); // the host contradicts itself
        }
        Ok(loan)
    }

    #[cold]
    fn refused(&self, error: Error, needed: usize) -> LoanError {
        match error {
            Error::Exhausted => LoanError::Exhausted { blocks: self.blocks },
            Error::TooLarge => LoanError::TooLarge { needed, block_size: self.largest },
            other => LoanError::Refused(HostError::from(other).text()),
        }
    }

    /// Wakes subscribers that wait for directly published messages.
    #[cold]
    fn wake(&self) {
        if let Some(direct) = &self.direct {
            // The message is published regardless of the host's answer. The next call gets the same answer.
            let _ = direct.wake(&self.runtime, self.publisher);
        }
    }

    fn give_back(&self, loan: Loan) {
        if loan.block != 0
            && let Ok(host) = self.runtime.host()
        {
            // SAFETY: as in `open`; nothing refers to the block's bytes any more.
            unsafe { (host.memory_block_close)(host.context, loan.block) };
        }
    }

    /// Ready when a loan of `len` bytes is possible. Otherwise wakes the task when that may be the case.
    #[inline]
    pub fn poll_loanable(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        if self.has_room(len) { Poll::Ready(Ok(())) } else { self.poll_obtain(cx, len) }
    }

    #[inline(never)]
    fn poll_obtain(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        match self.obtain(len) {
            Err(LoanError::Exhausted { .. }) => {}
            obtained => return Poll::Ready(obtained),
        }
        self.runtime.wake_on_progress(cx.waker());
        // As `Subscription::poll_ready` does.
        match self.obtain(len) {
            Err(LoanError::Exhausted { .. }) => {
                self.runtime.look_again();
                Poll::Pending
            }
            obtained => Poll::Ready(obtained),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Ok(host) = self.runtime.host() {
            // Takes the next block back too.
            // SAFETY: as in `open`; nothing refers to its blocks, as a loan borrows the writer.
            unsafe { (host.publisher_close)(host.context, self.publisher) };
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("block_size", &self.block_size)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// The right to fill and publish the next message. Dropping it returns the block.
///
/// Dereferences to all bytes of the block. Their content is unspecified: zeros, or bytes of an earlier
/// message.
pub struct RawLoan<'w> {
    // The writer knows the block, so that a loan is one pointer, which moves in a register.
    writer: &'w mut Writer,
}

// SAFETY: as for the writer.
unsafe impl Send for RawLoan<'_> {}
// SAFETY: as for the writer; a shared reference reads the block's bytes.
unsafe impl Sync for RawLoan<'_> {}

impl RawLoan<'_> {
    /// Publishes the first `len` bytes. The host checks whether they are a value of the topic's layout, if it
    /// can.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the loan is shorter, [`LoanError::Refused`] with the host's reason.
    pub fn publish(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish_as(len, 0)
    }

    /// Like [`publish`](Self::publish), for bytes that nobody needs to check.
    ///
    /// # Errors
    /// The same as for [`publish`](Self::publish).
    ///
    /// # Safety
    /// The first `len` bytes are a valid message of the writer's schema.
    #[inline]
    pub unsafe fn publish_valid(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish_as(len, VALID)
    }

    #[inline(always)]
    fn publish_as(self, len: usize, valid: u32) -> Result<Sequence, LoanError> {
        let capacity = self.writer.block.capacity;
        if len > capacity {
            return Err(LoanError::TooLarge { needed: len, block_size: capacity });
        }
        let mut loan = ManuallyDrop::new(self);
        let writer = &mut *loan.writer;
        if let Some(direct) = &mut writer.direct
            && valid == VALID
        {
            let (sequence, waited_for) = direct.publish(writer.block.address, len);
            if !direct.has_block() {
                cold_path();
                writer.room = 0;
            }
            if waited_for {
                writer.wake();
            }
            return Ok(sequence);
        }
        ManuallyDrop::into_inner(loan).publish_by_call(len, valid)
    }

    #[inline(never)]
    fn publish_by_call(self, len: usize, valid: u32) -> Result<Sequence, LoanError> {
        let writer = &mut *self.writer;
        if let Some(direct) = &mut writer.direct {
            // One that the host is to check.
            let message = (writer.block.address.cast_const(), len as u32 | valid);
            let published = direct.publish_checked(&writer.runtime, writer.publisher, message);
            if !direct.has_block() {
                writer.room = 0;
            }
            return published.map_err(|error| writer.refused(error, len));
        }
        let Ok(host) = writer.runtime.host() else {
            return Err(writer.refused(Error::Closed, len));
        };
        let (context, publish) = (host.context, host.publisher_publish_block);
        // The next message will want a block like this one, of the smallest size.
        let mut next = Loan { capacity: writer.asked, ..Loan::NONE };
        let ahead = writer.block.capacity < LARGE && writer.block.capacity <= writer.block_size;
        let place = if ahead { &raw mut next } else { std::ptr::null_mut() };
        let mut sequence = 0;
        // SAFETY: as in `Writer::open`. A length has 31 bits, as no block is longer. Nothing refers to the
        // bytes any more, as `self` is not used but to give back what was not published.
        let status = unsafe {
            publish(
                context,
                writer.publisher,
                writer.block.block,
                len as u32 | valid,
                &raw mut sequence,
                place,
            )
        };
        // Dropped, it goes back.
        answer(status).map_err(|error| writer.refused(error, len))?;
        // Not dropped: what is there now is the next one.
        let writer = &mut *ManuallyDrop::new(self).writer;
        let _ = writer.put(if next.block == 0 { Loan::NONE } else { next });
        writer.sequence = sequence.saturating_add(1);
        Ok(Sequence::new(sequence))
    }

    /// Exchanges the block for one of at least `len` bytes, unless it is already that large. Never waits.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] and [`LoanError::Exhausted`]. Then the loan is unchanged.
    pub fn grow(&mut self, len: usize) -> Result<(), LoanError> {
        let writer = &mut *self.writer;
        if len <= writer.block.capacity {
            return Ok(());
        }
        // With direct publishing, all blocks have one size.
        if len > writer.largest || writer.direct.is_some() {
            return Err(LoanError::TooLarge { needed: len, block_size: writer.largest });
        }
        let larger = writer.ask(len)?;
        let small = writer.put(larger);
        writer.give_back(small);
        Ok(())
    }
}

impl Drop for RawLoan<'_> {
    #[inline]
    fn drop(&mut self) {
        // A reserved block stays, as the next one.
        if self.writer.direct.is_none() {
            let loan = self.writer.put(Loan::NONE);
            self.writer.give_back(loan);
        }
    }
}

impl Deref for RawLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the host has loaned that many bytes there, which are initialised, to this loan alone until
        // it is published or goes back, both of which need `self`; `try_loan` has made sure of it.
        unsafe { std::slice::from_raw_parts(self.writer.block.address, self.writer.block.capacity) }
    }
}

impl DerefMut for RawLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.writer.block.address, self.writer.block.capacity) }
    }
}

impl fmt::Debug for RawLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLoan").field("len", &self.len()).finish()
    }
}
