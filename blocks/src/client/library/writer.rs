//! Publishing from a library: every message is built in the block that subscribers read.
//!
//! Where the host gives the publisher's line, a message takes no call: the calls are those for blocks, for many small ones at a time
//! (`line`). Otherwise it takes one: the one that publishes it brings the next block along, if one is free and small.

use std::fmt;
use std::hint::cold_path;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};
use std::time::Instant;

use super::super::error::HostError;
use super::super::park;
use super::line::PublisherLine;
use super::runtime::Runtime;
use super::types::{Error, PublisherStats, answer};
use crate::abi::{
    self, Loan, REUSE_BY_SIZE, REUSE_HOTTEST, REUSE_OLDEST, TIMESTAMPS_COARSE, TIMESTAMPS_OFF,
    TIMESTAMPS_PRECISE, Text, VALID,
};
use crate::error::LoanError;
use crate::options::{Reuse, SizeClass, Timestamps};
use crate::payload::schema::Schema;
use crate::units::Sequence;

/// Blocks of at least that many bytes are not brought along: which of them is used next is better decided when it is
/// needed, as the one that was freed last is still in the cache.
const LARGE: usize = 32 << 10;

/// What a writer needs.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Capacity of a block in bytes.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Number of blocks at most.
    pub max_blocks: Option<u32>,
    /// Blocks of larger sizes, in ascending order.
    pub larger: Vec<SizeClass>,
    /// Messages that stay available to subscribers that come later.
    pub history: u32,
    /// Subscribers at a time.
    pub max_subscribers: u32,
    /// Whether messages carry the time.
    pub timestamps: Timestamps,
    /// Which free block is loaned next.
    pub reuse: Reuse,
    /// Whether all memory is touched at once.
    pub prefault: bool,
    /// What statistics call the publisher; may be empty.
    pub name: &'static str,
}

/// A publisher of one topic.
pub struct Writer {
    runtime: Runtime,
    publisher: u64,
    /// Then all loans are its blocks.
    line: Option<PublisherLine>,
    /// The block that is filled, or that is there for the next message. One of the line has no handle, and its address is set when it
    /// is loaned.
    lent: Loan,
    /// Bytes that it has and 1; 0: there is none.
    room: usize,
    /// Bytes that were asked for.
    asked: usize,
    schema: Schema,
    /// Of the smallest blocks, and of the largest.
    block_size: usize,
    largest: usize,
    blocks: u32,
    /// Number of the next message.
    sequence: u64,
}

// SAFETY: the block that it points to is lent to it alone, and the host takes calls from any thread.
unsafe impl Send for Writer {}
// SAFETY: a shared reference reaches numbers and the host, which takes calls from any thread.
unsafe impl Sync for Writer {}

impl Writer {
    /// Joins `topic` as a publisher.
    ///
    /// # Errors
    /// What the host refuses it with: not granted, another schema, a limit.
    pub fn open(
        runtime: &Runtime,
        topic: &str,
        schema: &Schema,
        options: &WriterOptions,
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
            block_size: options.block_size,
            blocks: options.blocks,
            history: options.history,
            max_blocks: options.max_blocks.unwrap_or(0),
            max_subscribers: options.max_subscribers,
            timestamps: match options.timestamps {
                Timestamps::Off => TIMESTAMPS_OFF,
                Timestamps::Coarse => TIMESTAMPS_COARSE,
                Timestamps::Precise => TIMESTAMPS_PRECISE,
            },
            reuse: match options.reuse {
                Reuse::BySize => REUSE_BY_SIZE,
                Reuse::Oldest => REUSE_OLDEST,
                Reuse::Hottest => REUSE_HOTTEST,
            },
            prefault: u32::from(options.prefault),
            larger_count: bytes(larger.len()),
            larger: larger.as_ptr(),
            name: Text::of(options.name),
        };
        let mut publisher = 0;
        // SAFETY: the table is a host's, which was checked, and is called with its context; texts, options with the sizes that they
        // point to and the place for the handle are valid for the call.
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
        let line = PublisherLine::open(host, publisher);
        Ok(Self {
            runtime: runtime.clone(),
            publisher,
            line,
            lent: Loan::NONE,
            room: 0,
            asked: 0,
            schema: schema.clone(),
            block_size,
            largest,
            blocks: options.max_blocks.unwrap_or(options.blocks),
            sequence: 0,
        })
    }

    /// Capacity of a block in bytes; of the smallest where there are several sizes.
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
        self.line.as_ref().map_or(Sequence::new(self.sequence), PublisherLine::next_sequence)
    }

    /// Never: a host answers for the process.
    #[must_use]
    pub const fn is_inherited(&self) -> bool {
        false
    }

    /// Subscribers of the topic now. One host call.
    #[must_use]
    pub fn subscriber_count(&self) -> u32 {
        let count = self.runtime.host().map_or(0, |host| {
            // SAFETY: as in `open`.
            unsafe { (host.publisher_subscriber_count)(host.context, self.publisher) }
        });
        self.runtime.look_again(); // whoever asks may have registered before, and wait for another number
        count
    }

    /// Arranges that the context's waker is woken when a block comes free or a subscriber joins or leaves.
    pub fn register(&self, cx: &mut Context<'_>) {
        self.runtime.wake_on_progress(cx.waker());
    }

    /// The host's counters of this publisher; zeros where it does not tell. One host call.
    #[must_use]
    pub fn stats(&self) -> PublisherStats {
        let mut stats = PublisherStats::default();
        if let Ok(host) = self.runtime.host() {
            // SAFETY: as in `open`.
            let _ = unsafe { (host.publisher_stats)(host.context, self.publisher, &raw mut stats) };
        }
        stats
    }

    /// Lends the block for a message of up to `len` bytes (0: as many as the smallest have). Never waits. A host call, unless
    /// the block is there already.
    ///
    /// # Errors
    /// [`LoanError::Exhausted`] when no block is free, [`LoanError::TooLarge`] when a block is too small.
    #[inline]
    pub fn try_loan(&mut self, len: usize) -> Result<RawLoan<'_>, LoanError> {
        if !self.is_lent(len) {
            self.lend(len)?;
        }
        match &self.line {
            Some(line) => self.lent.address = line.block(),
            None => self.asked = len,
        }
        Ok(RawLoan { writer: self })
    }

    /// Whether there is a block for a message of `len` bytes.
    #[inline(always)]
    fn is_lent(&self, len: usize) -> bool {
        len < self.room
    }

    /// Asks the host for a block, which becomes the next one. One that was too small goes back.
    #[inline(never)]
    fn lend(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.largest {
            return Err(LoanError::TooLarge { needed: len, block_size: self.largest });
        }
        if let Some(line) = &mut self.line {
            let capacity = line.capacity();
            let refilled = line.refill(&self.runtime, self.publisher);
            refilled.map_err(|error| self.refused(error, len))?;
            (self.lent.capacity, self.room) = (capacity, capacity.saturating_add(1));
            return Ok(());
        }
        let loan = self.ask(len)?;
        let small = self.put(loan);
        self.give_back(small);
        Ok(())
    }

    /// Makes this the next block, and returns what was.
    fn put(&mut self, loan: Loan) -> Loan {
        self.room = if loan.address.is_null() { 0 } else { loan.capacity.saturating_add(1) };
        std::mem::replace(&mut self.lent, loan)
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

    /// Wakes whoever waits for what was published by the line.
    #[cold]
    fn wake(&self) {
        if let Some(line) = &self.line {
            // It is published whatever the host says, which it says again at the next call.
            let _ = line.wake(&self.runtime, self.publisher);
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

    /// Like [`try_loan`](Self::try_loan), but blocks the thread until a block comes free, or until `deadline`.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] at once, [`LoanError::Deadline`] at the deadline.
    pub fn loan(&mut self, len: usize, deadline: Option<Instant>) -> Result<RawLoan<'_>, LoanError> {
        park::until(deadline, |cx| self.poll_loanable(cx, len)).unwrap_or(Err(LoanError::Deadline))?;
        self.try_loan(len)
    }

    /// Ready when a loan of `len` bytes can be had; arranges that the task is woken when that may be so.
    #[inline]
    pub fn poll_loanable(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        if self.is_lent(len) { Poll::Ready(Ok(())) } else { self.poll_lend(cx, len) }
    }

    #[inline(never)]
    fn poll_lend(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), LoanError>> {
        match self.lend(len) {
            Err(LoanError::Exhausted { .. }) => {}
            lent => return Poll::Ready(lent),
        }
        self.runtime.wake_on_progress(cx.waker());
        // As `Subscription::poll_ready` does.
        match self.lend(len) {
            Err(LoanError::Exhausted { .. }) => {
                self.runtime.look_again();
                Poll::Pending
            }
            lent => Poll::Ready(lent),
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

/// The right to fill and publish the next message; dropping it returns the block.
///
/// Dereferences to as many bytes as the block has; their content is unspecified (zeros, or bytes of an earlier message).
pub struct RawLoan<'w> {
    // Which block it is stays with the writer, so that a loan is one pointer, moved in a register.
    writer: &'w mut Writer,
}

// SAFETY: as for the writer.
unsafe impl Send for RawLoan<'_> {}
// SAFETY: as for the writer; a shared reference reads the block's bytes.
unsafe impl Sync for RawLoan<'_> {}

impl RawLoan<'_> {
    /// Publishes the first `len` bytes. The host checks whether they are a value of the topic's layout, if it can.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the loan is shorter, [`LoanError::Refused`] with what the host says.
    pub fn publish(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish_as(len, 0)
    }

    /// As [`publish`](Self::publish), for bytes that nobody needs to check.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    ///
    /// # Safety
    /// The first `len` bytes are a valid message of the writer's schema.
    #[inline]
    pub unsafe fn publish_valid(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish_as(len, VALID)
    }

    #[inline(always)]
    fn publish_as(self, len: usize, valid: u32) -> Result<Sequence, LoanError> {
        let capacity = self.writer.lent.capacity;
        if len > capacity {
            return Err(LoanError::TooLarge { needed: len, block_size: capacity });
        }
        let mut loan = ManuallyDrop::new(self);
        let writer = &mut *loan.writer;
        if let Some(line) = &mut writer.line
            && valid == VALID
        {
            let (sequence, waited_for) = line.publish(writer.lent.address, len);
            if !line.has_block() {
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
        if let Some(line) = &mut writer.line {
            // One that the host is to check.
            let message = (writer.lent.address.cast_const(), len as u32 | valid);
            let published = line.publish_checked(&writer.runtime, writer.publisher, message);
            if !line.has_block() {
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
        let brings = writer.lent.capacity < LARGE && writer.lent.capacity <= writer.block_size;
        let place = if brings { &raw mut next } else { std::ptr::null_mut() };
        let mut sequence = 0;
        // SAFETY: as in `Writer::open`. A length has 31 bits, as no block is longer. Nothing refers to the bytes any more, as `self`
        // is not used but to give back what was not published.
        let status = unsafe {
            publish(
                context,
                writer.publisher,
                writer.lent.block,
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

    /// Exchanges the block for one of at least `len` bytes, if it is not that large already. Never waits.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`], [`LoanError::Exhausted`]; the loan is as before.
    pub fn grow(&mut self, len: usize) -> Result<(), LoanError> {
        let writer = &mut *self.writer;
        if len <= writer.lent.capacity {
            return Ok(());
        }
        // Where there is a line, all blocks have one size.
        if len > writer.largest || writer.line.is_some() {
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
        // A block of the line stays, as the next one.
        if self.writer.line.is_none() {
            let loan = self.writer.put(Loan::NONE);
            self.writer.give_back(loan);
        }
    }
}

impl Deref for RawLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the host has lent that many bytes there, which are initialised, to this loan alone until it is published or goes
        // back, both of which need `self`; `try_loan` has made sure of it.
        unsafe { std::slice::from_raw_parts(self.writer.lent.address, self.writer.lent.capacity) }
    }
}

impl DerefMut for RawLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.writer.lent.address, self.writer.lent.capacity) }
    }
}

impl fmt::Debug for RawLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLoan").field("len", &self.len()).finish()
    }
}
