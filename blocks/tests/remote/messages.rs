//! Messages whose every byte can be checked.

use blockcast_blocks::BLOCK_ALIGNMENT;

/// Length of the longest message in bytes.
pub const LONGEST: usize = 4 * BLOCK_ALIGNMENT;

/// Fills a block with the message of this sequence. Returns its length.
pub fn fill(block: &mut [u8], sequence: u64) -> usize {
    let len = len(sequence);
    for (index, word) in block[..len].as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = (sequence << 8 | index as u64).to_ne_bytes();
    }
    len
}

/// Bytes of the message of this sequence.
pub fn len(sequence: u64) -> usize {
    8 + sequence as usize * 8 % (LONGEST - 8)
}

/// Checks every byte of a message.
#[track_caller]
pub fn check(bytes: &[u8], sequence: u64) {
    assert_eq!(bytes.len(), len(sequence), "length of message {sequence}");
    for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let read = u64::from_ne_bytes(*word);
        let (other, at) = (read >> 8, read & 255);
        assert!(read == (sequence << 8 | index as u64), "message {sequence} reads as {other}, word {at}");
    }
}

/// The sequence that a message has, by its bytes.
#[track_caller]
pub fn sequence_of(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().expect("a message has a word at least");
    u64::from_ne_bytes(*first) >> 8
}

/// Sebastiano Vigna's splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % limit
    }
}
