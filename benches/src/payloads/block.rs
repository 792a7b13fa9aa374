//! A publisher's block, without the publisher.

use std::ops::{Deref, DerefMut};

use blockcast_blocks::BLOCK_ALIGNMENT;

/// Memory aligned like a block and reused for every message.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    /// Length of its message in bytes.
    pub len: usize,
}

impl Block {
    /// Creates a block with room for `bytes` bytes, none of them zero, that starts `lines` cache lines into
    /// its own memory.
    #[must_use]
    pub fn with_room(bytes: usize, lines: usize) -> Self {
        let bytes = vec![0xff; bytes.next_multiple_of(BLOCK_ALIGNMENT) + (1 + lines) * BLOCK_ALIGNMENT];
        let start = bytes.as_ptr().align_offset(BLOCK_ALIGNMENT) + lines * BLOCK_ALIGNMENT;
        Self { bytes, start, len: 0 }
    }

    /// Returns its message.
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
