//! Descriptors: a subscriber's information about a message before it reads the bytes.

#![cfg_attr(
    any(target_family = "wasm", blockcast_library),
    allow(dead_code, reason = "only the host reads the words of the ring")
)]

use std::ptr::NonNull;

use crate::payload::BLOCK_ALIGNMENT;
use crate::units::{Sequence, Timestamp};

/// Longest message in bytes: 2 GiB less one.
pub const MAX_MESSAGE_LEN: usize = (1 << 31) - 1;

/// Largest arena in bytes, 128 GiB: block addresses count units of [`BLOCK_ALIGNMENT`] in 31 bits.
pub const MAX_ARENA_LEN: u64 = (BLOCK_ALIGNMENT as u64) << 31;

const UNCHECKED_BIT: u64 = 1 << 32;

/// Whether the bytes of a message are known to be a value of the topic's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// They were built by the layout's own builder, or validated after nobody could write to them any more.
    Valid,
    /// They were not checked. Validate them before reading them as a value.
    Unchecked,
}

/// A message's place in the arena, and its metadata. Names bytes, but does not keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Position in the channel.
    pub sequence: Sequence,
    /// Bytes from the start of the arena; a multiple of [`BLOCK_ALIGNMENT`].
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
    /// Time of publishing, if the channel stamps its messages.
    pub time: Timestamp,
    /// Whether the bytes were checked.
    pub validity: Validity,
}

/// The word of a slot. The lower half is the length. Then follow a bit that is set if the bytes were not
/// checked, and 31 bits of the address in units of [`BLOCK_ALIGNMENT`].
#[inline(always)]
pub(crate) fn pack(unit: u32, len: u32, validity: Validity) -> u64 {
    let unchecked = if validity == Validity::Valid { 0 } else { UNCHECKED_BIT };
    u64::from(unit) << 33 | unchecked | u64::from(len)
}

/// The length in a slot's word.
#[inline(always)]
pub(crate) fn len_of(word: u64) -> u64 {
    u64::from(word as u32)
}

/// The unit in a slot's word.
#[inline(always)]
pub(crate) fn unit_of(word: u64) -> u32 {
    (word >> 33) as u32
}

/// The word of a message whose bytes are valid, in the block `offset` bytes from the arena's start.
#[inline(always)]
pub(crate) fn word_at(offset: usize, len: usize) -> u64 {
    (offset as u64) << (33 - BLOCK_ALIGNMENT.trailing_zeros()) | len as u64
}

/// Bytes from the arena's start, in a slot's word.
#[inline(always)]
pub(crate) fn offset_of(word: u64) -> usize {
    // As `unit_of(word) * BLOCK_ALIGNMENT`, by a shift and a mask.
    (word >> (33 - BLOCK_ALIGNMENT.trailing_zeros())) as usize & !(BLOCK_ALIGNMENT - 1)
}

/// The validity in a slot's word.
#[inline(always)]
pub(crate) fn validity_of(word: u64) -> Validity {
    if word & UNCHECKED_BIT == 0 { Validity::Valid } else { Validity::Unchecked }
}

/// The same word, of a message whose bytes were not checked.
#[inline(always)]
pub(crate) fn mark_unchecked(word: u64) -> u64 {
    word | UNCHECKED_BIT
}

/// The bytes of a message.
///
/// # Safety
/// `base` is the start of a channel's arena, `word` is that of a descriptor of the channel, and the message
/// stays attached for `'m`.
#[inline(always)]
pub(crate) unsafe fn bytes<'m>(base: NonNull<u8>, word: u64) -> &'m [u8] {
    // SAFETY: the writer made the descriptor from a block within the arena and a length within the block.
    let start = unsafe { base.add(offset_of(word)) };
    // SAFETY: as above; attached, so nobody writes; initialised, as a memfd starts as zeros.
    unsafe { std::slice::from_raw_parts(start.as_ptr(), len_of(word) as usize) }
}

/// Copies as many bytes of a message as `to` takes.
///
/// # Safety
/// As for [`bytes`], except that other processes may write the block meanwhile.
#[cfg(not(any(loom, target_family = "wasm", blockcast_library)))]
pub(crate) unsafe fn copy(base: NonNull<u8>, word: u64, to: &mut [u8]) {
    use crate::primitive::{AtomicU64, Ordering};

    let len = to.len().min(len_of(word) as usize);
    // SAFETY: the descriptor names bytes of a block within the arena.
    let start = unsafe { base.add(offset_of(word)) }.cast::<AtomicU64>();
    for (index, bytes) in to[..len].chunks_mut(size_of::<u64>()).enumerate() {
        // SAFETY: a block begins at a multiple of `BLOCK_ALIGNMENT` and has a multiple of that many bytes, so
        // the word is aligned and within the block, even where the message ends within it. Relaxed loads of
        // this size are allowed on read-only memory, and do not race with any store.
        let word = unsafe { start.add(index).as_ref() };
        // Ordering: Relaxed; the message's bytes were published before its descriptor was received.
        bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..bytes.len()]);
    }
}

/// A descriptor as it stands in its slot: three words that stay in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) sequence: u64,
    pub(crate) word: u64,
    pub(crate) time: u64,
}

impl Packed {
    /// Bytes from the arena's start.
    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        offset_of(self.word)
    }

    #[inline(always)]
    pub(crate) fn unpack(self) -> Descriptor {
        Descriptor {
            sequence: Sequence::new(self.sequence),
            offset: self.offset() as u64,
            len: len_of(self.word) as u32,
            time: Timestamp::from_nanos(self.time),
            validity: validity_of(self.word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_word_tells_what_was_packed() {
        for (unit, len, validity) in [
            (0, 0, Validity::Valid),
            (u32::MAX >> 1, MAX_MESSAGE_LEN as u32, Validity::Unchecked),
            (7, MAX_MESSAGE_LEN as u32, Validity::Valid),
        ] {
            let descriptor = Packed { sequence: 5, word: pack(unit, len, validity), time: 9 }.unpack();
            assert_eq!(descriptor.sequence, Sequence::new(5));
            assert_eq!(descriptor.offset, u64::from(unit) * 64);
            assert_eq!(unit_of(pack(unit, len, validity)), unit);
            let at = word_at(descriptor.offset as usize, len as usize);
            assert_eq!(at, pack(unit, len, Validity::Valid));
            assert_eq!(descriptor.len, len);
            assert_eq!(descriptor.validity, validity);
            assert_eq!(descriptor.time.as_nanos(), 9);
        }
    }
}
