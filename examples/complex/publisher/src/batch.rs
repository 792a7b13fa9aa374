//! Lines that form one message.

/// Bytes of the header of a list, and of a string, in the flat layout with 32-bit indices.
const HEADER: usize = 8;

/// Longest line in bytes that fits in a block of `block_size` bytes, alone in its batch.
#[must_use]
pub fn longest_line(block_size: usize) -> usize {
    block_size.saturating_sub(2 * HEADER)
}

/// Bytes that a line of `line` bytes takes in the block.
pub(crate) fn block_for(line: u64) -> u64 {
    line.saturating_add(2 * HEADER as u64)
}

/// Lines that fit in one block together. It holds references; the text is written when the block is built.
#[derive(Debug)]
pub struct Batch<'t> {
    room: usize,
    free: usize,
    lines: Vec<&'t str>,
}

impl<'t> Batch<'t> {
    /// Creates an empty batch for a block of `block_size` bytes.
    #[must_use]
    pub fn new(block_size: usize) -> Self {
        let room = block_size.saturating_sub(HEADER);
        Self { room, free: room, lines: Vec::new() }
    }

    /// Adds a line, or returns that the block is full.
    #[must_use]
    pub fn push(&mut self, line: &'t str) -> bool {
        let Some(free) = self.free.checked_sub(HEADER + line.len()) else { return false };
        self.free = free;
        self.lines.push(line);
        true
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[&'t str] {
        &self.lines
    }

    /// Removes all lines and returns them.
    pub fn clear(&mut self) {
        self.free = self.room;
        self.lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TextLines;

    /// Returns whether the lines fit in a block of `size` bytes.
    fn builds(lines: &[&str], size: usize) -> bool {
        TextLines::write(lines, &mut vec![0; size]).is_ok()
    }

    #[test]
    fn the_header_is_that_of_the_layout() {
        assert_eq!(HEADER, TextLines::HEADER);
    }

    #[test]
    fn the_longest_line_fits_and_a_longer_one_does_not() {
        for size in [16, 17, 64, 1000] {
            let line = "x".repeat(longest_line(size));
            assert!(builds(&[&line], size));
            assert_eq!(block_for(line.len() as u64), size as u64);
            assert!(!builds(&[&format!("{line}x")], size));
            let mut batch = Batch::new(size);
            assert!(batch.push(&line));
            assert!(!batch.push(""), "the block is full");
        }
    }

    #[test]
    fn a_batch_takes_exactly_what_a_block_takes() {
        let text = ["", "a", "bc", "", "defghijkl", "m"];
        for size in 16..120 {
            let mut batch = Batch::new(size);
            let taken = text.iter().take_while(|line| batch.push(line)).count();
            assert!(builds(&text[..taken], size), "{taken} lines in {size} bytes");
            assert!(taken == text.len() || !builds(&text[..=taken], size), "{taken} lines in {size} bytes");
        }
    }

    #[test]
    fn a_cleared_batch_has_all_its_room_again() {
        let mut batch = Batch::new(32);
        assert!(batch.push("12345678"));
        assert!(!batch.push("1"));
        batch.clear();
        assert!(batch.lines().is_empty());
        assert!(batch.push("1234567890123456"));
    }
}
