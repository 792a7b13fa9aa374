//! Counts of a text.

/// Counts of a text that is added line by line. Texts with equal tallies are almost certainly equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Number of lines.
    pub lines: u64,
    /// Number of words, separated by white space.
    pub words: u64,
    /// Bytes without line endings.
    pub bytes: u64,
    /// Bytes of the longest line.
    pub longest: u64,
    /// 64-bit FNV-1a (Fowler, Noll, Vo) of all lines, each followed by `\n`.
    pub hash: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { lines: 0, words: 0, bytes: 0, longest: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Tally {
    /// Adds the next line.
    pub fn add(&mut self, line: &str) {
        self.lines += 1;
        self.words += line.split_whitespace().count() as u64;
        self.bytes += line.len() as u64;
        self.longest = self.longest.max(line.len() as u64);
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Returns the tally of a whole text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        text.lines().collect()
    }
}

impl<'a> FromIterator<&'a str> for Tally {
    fn from_iter<T: IntoIterator<Item = &'a str>>(lines: T) -> Self {
        let mut tally = Self::default();
        lines.into_iter().for_each(|line| tally.add(line));
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_has_the_offset_basis_as_its_hash() {
        assert_eq!(Tally::of(""), Tally::default());
    }

    #[test]
    fn everything_is_counted() {
        let tally = Tally::of("to be\n\n  or not\tto be ❤\n");
        assert_eq!((tally.lines, tally.words), (3, 7));
        assert_eq!((tally.bytes, tally.longest), (5 + 18, 18));
    }

    #[test]
    fn the_hash_is_fnv_1a_of_lines_and_their_ends() {
        let mut expected = 0xcbf2_9ce4_8422_2325_u64;
        for byte in *b"foobar\n" {
            expected = (expected ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        assert_eq!(Tally::of("foobar").hash, expected);
        assert_eq!(Tally::of("foobar\r\n").hash, expected, "the kind of line end does not matter");
        assert_ne!(Tally::of("foo\nbar").hash, expected);
    }
}
