//! Blocks that are being filled: [`RawLoan`] and [`SuspendedLoan`].

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::Writer;
use crate::descriptor::Validity;
use crate::error::LoanError;
use crate::payload::BLOCK_ALIGNMENT;
use crate::units::Sequence;

/// A block that was taken out of the pool and is not published yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenBlock {
    pub(super) unit: u32,
    pub(super) capacity: usize,
}

impl TakenBlock {
    /// Bytes from the arena's start to the block.
    fn offset(self) -> u64 {
        u64::from(self.unit) * BLOCK_ALIGNMENT as u64
    }
}

/// A loan that was put aside. If it is dropped without being [resumed](Writer::resume), its block stays
/// loaned until the channel is gone.
#[must_use = "its block stays loaned until it is resumed"]
#[derive(Debug)]
pub struct SuspendedLoan {
    pub(super) taken: TakenBlock,
    /// The serial number of the channel that owns the block.
    pub(super) channel: u64,
}

impl SuspendedLoan {
    /// Bytes from the arena's start to the block.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.taken.offset()
    }

    /// Bytes of the block.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.taken.capacity
    }
}

/// A publisher's exclusive, writable hold on a block. Dropping it without publishing returns the block to the
/// pool.
///
/// Dereferences to all bytes of the block. Their content is unspecified: zeros, or bytes of an earlier
/// message of the same publisher.
pub struct RawLoan<'w> {
    pub(super) writer: &'w mut Writer,
    // Not in the writer: there, every store to the block could change it, as far as the compiler knows.
    pub(super) block: TakenBlock,
}

impl RawLoan<'_> {
    /// Publishes the first `len` bytes, unchecked: a typed subscriber validates them before it reads them.
    /// Writes one descriptor and one head word. No copy, and no system call unless a subscriber sleeps.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the block has fewer bytes, and [`LoanError::Forked`]. The block returns to
    /// the pool.
    #[inline]
    pub fn publish(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish_as(len, Validity::Unchecked)
    }

    /// Like [`publish`](Self::publish), for bytes that subscribers need not validate.
    ///
    /// # Errors
    /// The same as for [`publish`](Self::publish).
    ///
    /// # Safety
    /// The first `len` bytes are a valid message of the channel's schema: built by a payload of that schema
    /// in this block, or validated in it.
    #[inline(always)]
    pub unsafe fn publish_valid(self, len: usize) -> Result<Sequence, LoanError> {
        self.publish_as(len, Validity::Valid)
    }

    #[inline(always)]
    fn publish_as(self, len: usize, validity: Validity) -> Result<Sequence, LoanError> {
        if len > self.len() {
            return Err(LoanError::TooLarge { needed: len, block_size: self.len() });
        }
        let mut loan = std::mem::ManuallyDrop::new(self);
        let unit = loan.block.unit;
        loan.writer.publish(unit, len, validity)
    }

    /// Exchanges the block for one of at least `len` bytes, unless it is already that large. Never waits.
    /// Copies nothing: the bytes of the new block are unspecified. On an error, the loan is unchanged.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] and [`LoanError::Exhausted`].
    pub fn grow(&mut self, len: usize) -> Result<(), LoanError> {
        if len > self.len() {
            let larger = self.writer.take_block(len)?;
            self.writer.producer.give_back(self.block.unit);
            self.block = larger;
        }
        Ok(())
    }

    /// Bytes from the arena's start to the block.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.block.offset()
    }

    /// Puts the loan aside, so that the writer can be used meanwhile: to fill several blocks at a time, or to
    /// fill one outside of Rust's sight, as a guest does. [`Writer::resume`] resumes it.
    #[inline]
    pub fn suspend(self) -> SuspendedLoan {
        let loan = std::mem::ManuallyDrop::new(self);
        loan.writer.producer.note_loaned(0);
        SuspendedLoan { taken: loan.block, channel: loan.writer.channel.serial() }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        // SAFETY: units come from the pool, whose blocks all lie within the arena.
        unsafe { self.writer.base.as_ptr().add(self.block.unit as usize * BLOCK_ALIGNMENT) }
    }
}

impl Deref for RawLoan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the block was taken from the pool, so no subscriber is attached to it, and this loan is
        // its only owner; it has `capacity` bytes from `start`, initialised (a memfd starts as zeros).
        unsafe { std::slice::from_raw_parts(self.start(), self.block.capacity) }
    }
}

impl DerefMut for RawLoan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.block.capacity) }
    }
}

impl Drop for RawLoan<'_> {
    #[inline]
    fn drop(&mut self) {
        self.writer.producer.give_back(self.block.unit);
    }
}

impl fmt::Debug for RawLoan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLoan").field("offset", &self.offset()).field("len", &self.len()).finish()
    }
}
