//! A block as a publisher has it, without its publisher.

use std::ops::{Deref, DerefMut};

use blockcast_blocks::BLOCK_ALIGNMENT;

/// Memory that is aligned as blocks are, used anew for every message.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    /// Bytes of the message in it.
    pub len: usize,
}

impl Block {
    /// A block with room for so many bytes, none of them zero, so many cache lines into memory of its own.
    #[must_use]
    pub fn with_room(bytes: usize, lines: usize) -> Self {
        let bytes = vec![0xff; bytes.next_multiple_of(BLOCK_ALIGNMENT) + (1 + lines) * BLOCK_ALIGNMENT];
        let start = bytes.as_ptr().align_offset(BLOCK_ALIGNMENT) + lines * BLOCK_ALIGNMENT;
        Self { bytes, start, len: 0 }
    }

    /// The message in it.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self[..self.len]
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}
