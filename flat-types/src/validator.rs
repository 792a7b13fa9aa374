//! Validation: one forward pass that proves that a message is sound.
//!
//! The validator walks a value depth first, in the order in which a builder writes it, and keeps one cursor:
//! the end of all data seen so far. Every list and string must start at or after the cursor, and moves it
//! past its own end. So no two values share a byte, there are no cycles, and the validator reads every byte
//! at most once. It takes time linear in the message's length for all bytes, and recurses only as deep as the
//! type is nested. Bytes that a region skips must be zero, and the last region must end where the message
//! ends: a message contains no unchecked bytes.

use std::marker::PhantomData;

use crate::error::FlatError;
use crate::index::Index;
use crate::schema::discriminant_bytes;

/// The state of the pass.
#[doc(hidden)]
#[derive(Debug)]
pub struct Validator<'a, I: Index> {
    bytes: &'a [u8],
    cursor: usize,
    index: PhantomData<I>,
}

/// A span of data that a header points to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    /// The offset of its first byte.
    pub(crate) start: usize,
    /// The number of elements.
    pub(crate) count: usize,
}

impl<'a, I: Index> Validator<'a, I> {
    /// Starts with the cursor after the root's header of `size` bytes.
    pub(crate) fn new(bytes: &'a [u8], size: usize) -> Result<Self, FlatError> {
        if bytes.len() < size {
            return Err(FlatError::OutOfBounds { at: 0, missing: (size - bytes.len()) as u64 });
        }
        Ok(Validator { bytes, cursor: size, index: PhantomData })
    }

    /// Checks that the message ends where its last value ends.
    pub(crate) fn finish(self) -> Result<(), FlatError> {
        if self.cursor == self.bytes.len() {
            Ok(())
        } else {
            Err(FlatError::TrailingBytes { at: self.cursor })
        }
    }

    /// The whole message.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The end of all data seen so far.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Reads `N` bytes at `at`.
    pub(crate) fn read<const N: usize>(&self, at: usize) -> Result<[u8; N], FlatError> {
        match self.bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(chunk) => Ok(*chunk),
            None => Err(FlatError::OutOfBounds { at, missing: N as u64 }),
        }
    }

    /// Reads the discriminant at `at` of a variant with `cases` cases.
    pub(crate) fn discriminant(&self, at: usize, cases: usize) -> Result<u32, FlatError> {
        let value = match discriminant_bytes(cases) {
            1 => u8::from_le_bytes(self.read(at)?).into(),
            2 => u16::from_le_bytes(self.read(at)?).into(),
            _ => u32::from_le_bytes(self.read(at)?),
        };
        if (value as usize) < cases {
            Ok(value)
        } else {
            Err(FlatError::Discriminant { at, value: value.into() })
        }
    }

    /// Checks that the padding between `from` and `to` is zero, so that it carries no old contents of the
    /// block.
    #[inline]
    pub(crate) fn zeros(&self, from: usize, to: usize) -> Result<(), FlatError> {
        if from >= to { Ok(()) } else { self.check_zeros(from, to) }
    }

    fn check_zeros(&self, from: usize, to: usize) -> Result<(), FlatError> {
        match self.bytes.get(from..to) {
            // A fold without an early exit can be vectorized.
            Some(gap) if gap.iter().fold(0, |all, byte| all | byte) == 0 => Ok(()),
            Some(_) => Err(FlatError::Padding { at: from }),
            None => Err(FlatError::OutOfBounds { at: from, missing: (to - from) as u64 }),
        }
    }

    /// Follows the header at `at` to its region of elements of `size` bytes each, and moves the cursor past
    /// the region.
    #[inline]
    pub(crate) fn region(&mut self, at: usize, size: usize, align: usize) -> Result<Region, FlatError> {
        let Some(header) = self.bytes.get(at..).filter(|rest| rest.len() >= 2 * I::BYTES) else {
            return Err(FlatError::OutOfBounds { at, missing: 2 * I::BYTES as u64 });
        };
        let (delta, count) = I::read_pair(header);
        // A delta and a count fit into 32 bits, and an offset and a size are lengths in memory: 64 bits hold
        // the results.
        let start = at as u64 + delta as u64;
        let end = start + count as u64 * size as u64;
        if start < self.cursor as u64 {
            return Err(FlatError::Overlap { at });
        }
        if end > self.bytes.len() as u64 {
            return Err(FlatError::OutOfBounds { at, missing: end - self.bytes.len() as u64 });
        }
        // Both are now at most the message's length.
        let (start, end) = (start as usize, end as usize);
        if count > 0 && start % align != 0 {
            return Err(FlatError::Misaligned { at, alignment: align });
        }
        self.zeros(self.cursor, start)?;
        self.cursor = end;
        Ok(Region { start, count })
    }
}
