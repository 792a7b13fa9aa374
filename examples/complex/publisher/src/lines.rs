//! Cuts a text that arrives in chunks into lines.
//!
//! Lines are those of [`str::lines`]: a line ends with `\n` or `\r\n`, which are not part of it. The last
//! line needs no ending, and an empty text has no lines. A chunk may end anywhere, even inside a character.

use crate::batch::block_for;

/// Bytes of one line after which counting stops, because a line may never end.
const MOST: u64 = 1 << 30;

/// Why a text cannot be published line by line. Line numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line does not fit in a block.
    #[error(
        "line {line} is too long: it has {bytes} bytes, and a block has room for {limit}; it needs blocks of {} bytes",
        block_for(*bytes)
    )]
    TooLong {
        /// Line number.
        line: u64,
        /// Length of the line in bytes.
        bytes: u64,
        /// Longest allowed length in bytes.
        limit: usize,
    },
    /// The line does not fit in a block, and is so long that the search for its end was given up.
    #[error("line {line} is too long: it has more than {counted} bytes, and a block has room for {limit}")]
    Endless {
        /// Line number.
        line: u64,
        /// Bytes that were counted.
        counted: u64,
        /// Longest allowed length in bytes.
        limit: usize,
    },
    /// The line is not UTF-8.
    #[error("line {line} is not UTF-8: the byte at offset {offset} of the text is wrong")]
    NotUtf8 {
        /// Line number.
        line: u64,
        /// Offset of the first invalid byte from the start of the text.
        offset: u64,
    },
}

/// Position in the text.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Number of the next line.
    line: u64,
    /// Offset of its first byte.
    offset: u64,
}

/// Cuts a text into lines. Copies only lines that cross a chunk border.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    /// Bytes of an overlong line that are counted at most.
    most: u64,
    position: Position,
    /// A line whose end has not arrived yet.
    unfinished: Vec<u8>,
    /// The line that was unfinished before the current chunk.
    completed: Vec<u8>,
    /// An overlong line whose end has not arrived yet.
    overlong: Option<Overlong>,
}

/// An overlong line, of which only the length matters.
#[derive(Clone, Copy, Debug)]
struct Overlong {
    bytes: u64,
    /// Whether its last byte may be the first byte of `\r\n`.
    ends_with_return: bool,
}

impl Overlong {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.ends_with_return = bytes.last().map_or(self.ends_with_return, |&last| last == b'\r');
    }
}

impl Splitter {
    /// Creates a splitter for a new text. Lines longer than `limit` bytes are refused.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            most: MOST,
            position: Position { line: 1, offset: 0 },
            unfinished: Vec::new(),
            completed: Vec::new(),
            overlong: None,
        }
    }

    /// Returns the lines that `chunk`, the next part of the text, completes. Consume all of them before the
    /// next chunk, because the rest are lost. An overlong line is refused at its end, or after 1 GiB.
    pub fn chunk<'a>(&'a mut self, chunk: &'a [u8]) -> Lines<'a> {
        let Self { limit, most, position, unfinished, completed, overlong } = self;
        completed.clear();
        let mut whole: &[u8] = &[];
        let mut refused = None;
        if let Some(overlong) = overlong {
            let end = chunk.iter().position(|&byte| byte == b'\n');
            overlong.add(end.map_or(chunk, |end| &chunk[..end]));
            let (line, limit, counted) = (position.line, *limit, overlong.bytes);
            refused = match end {
                Some(_) => {
                    let bytes = counted - u64::from(overlong.ends_with_return);
                    Some(LineError::TooLong { line, bytes, limit })
                }
                None if counted > *most => Some(LineError::Endless { line, counted, limit }),
                None => None,
            };
        } else {
            match chunk.iter().position(|&byte| byte == b'\n') {
                None => unfinished.extend_from_slice(chunk),
                Some(first) => {
                    let last = chunk.iter().rposition(|&byte| byte == b'\n').unwrap_or(first);
                    let (mut lines, tail) = chunk.split_at(last + 1);
                    if !unfinished.is_empty() {
                        let (head, rest) = lines.split_at(first + 1);
                        unfinished.extend_from_slice(head);
                        std::mem::swap(completed, unfinished);
                        unfinished.clear();
                        lines = rest;
                    }
                    whole = lines;
                    unfinished.extend_from_slice(tail);
                }
            }
            // The extra byte may be the first of `\r\n`.
            if unfinished.len() > *limit + 1 {
                let mut counted = Overlong { bytes: 0, ends_with_return: false };
                counted.add(unfinished);
                unfinished.clear();
                *overlong = Some(counted);
            }
        }
        Lines { limit: *limit, position, completed, whole, refused, failed: false }
    }

    /// Returns the last line, if the text did not end with a line ending.
    ///
    /// # Errors
    /// [`LineError`], as for any other line.
    pub fn finish(&mut self) -> Option<Result<&str, LineError>> {
        if let Some(Overlong { bytes, .. }) = self.overlong.take() {
            return Some(Err(LineError::TooLong { line: self.position.line, bytes, limit: self.limit }));
        }
        self.completed.clear();
        std::mem::swap(&mut self.completed, &mut self.unfinished);
        if self.completed.is_empty() {
            return None;
        }
        Some(check(&self.completed, self.position, self.limit))
    }
}

/// Iterates over the complete lines of a chunk; see [`Splitter::chunk`]. It ends after the first error.
#[derive(Debug)]
pub struct Lines<'a> {
    limit: usize,
    position: &'a mut Position,
    /// If not empty, the first line, with its ending.
    completed: &'a [u8],
    /// Complete lines with their endings.
    whole: &'a [u8],
    /// If set, why there are no lines.
    refused: Option<LineError>,
    failed: bool,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a str, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = if !self.completed.is_empty() {
            std::mem::take(&mut self.completed)
        } else if let Some(end) = self.whole.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = self.whole.split_at(end + 1);
            self.whole = rest;
            line
        } else {
            return self.refused.take().map(Err);
        };
        let checked = check(without_end(line), *self.position, self.limit);
        self.position.line += 1;
        self.position.offset += line.len() as u64;
        self.failed = checked.is_err();
        Some(checked)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn check(bytes: &[u8], at: Position, limit: usize) -> Result<&str, LineError> {
    if bytes.len() > limit {
        return Err(LineError::TooLong { line: at.line, bytes: bytes.len() as u64, limit });
    }
    std::str::from_utf8(bytes)
        .map_err(|error| LineError::NotUtf8 { line: at.line, offset: at.offset + error.valid_up_to() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns all lines of `text`, fed in chunks of `size` bytes, up to the first error.
    fn split(text: &[u8], size: usize, limit: usize) -> (Vec<String>, Option<LineError>) {
        let mut splitter = Splitter::new(limit);
        let mut lines = Vec::new();
        for chunk in text.chunks(size) {
            for line in splitter.chunk(chunk) {
                match line {
                    Ok(line) => lines.push(line.to_owned()),
                    Err(error) => return (lines, Some(error)),
                }
            }
        }
        match splitter.finish() {
            None => (lines, None),
            Some(Ok(line)) => {
                lines.push(line.to_owned());
                (lines, None)
            }
            Some(Err(error)) => (lines, Some(error)),
        }
    }

    #[test]
    fn lines_are_those_of_the_standard_library_wherever_chunks_are_cut() {
        let texts = [
            "",
            "\n",
            "\n\n\n",
            "one",
            "one\n",
            "one\ntwo",
            "\none\n\ntwo\n",
            "dos\r\nlines\r\n",
            "dos\r\n\r\nlast\r\n",
            "a\rb\r\rc\n\r\n\rd",
            "ends with return\r",
            "größer ≤ 🎈🎈\nπ\n",
        ];
        for text in texts {
            let expected: Vec<&str> = text.lines().collect();
            for size in 1..=text.len().max(1) {
                let (lines, error) = split(text.as_bytes(), size, 1000);
                assert_eq!(error, None, "{text:?} in chunks of {size}");
                assert_eq!(lines, expected, "{text:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_accepted_with_either_end() {
        for text in ["12345\n", "12345\r\n", "12345"] {
            for size in 1..=text.len() {
                assert_eq!(split(text.as_bytes(), size, 5), (vec!["12345".to_owned()], None));
            }
        }
    }

    #[test]
    fn a_line_above_the_limit_is_named_and_those_before_it_are_kept() {
        for (text, length) in [
            ("ok\n123456\nnever", 6),
            ("ok\n123456", 6),
            ("ok\n123456\r\n", 6),
            ("ok\n12345678901234567890", 20),
            ("ok\n12345678901234567890\nnever\n", 20),
            ("ok\n1234567890123456789\r0\r\nnever\n", 21),
            ("ok\n1234567890123456789\r", 20),
        ] {
            for size in 1..=text.len() {
                let (lines, error) = split(text.as_bytes(), size, 5);
                assert_eq!(lines, ["ok"], "{text:?} in chunks of {size}");
                let expected = LineError::TooLong { line: 2, bytes: length, limit: 5 };
                assert_eq!(error, Some(expected), "{text:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_refused_before_it_ends() {
        let mut splitter = Splitter::new(100);
        splitter.most = 1000;
        let refused = (0..).find_map(|_| splitter.chunk(&[b'x'; 10]).next().map(Result::err));
        assert_eq!(refused, Some(Some(LineError::Endless { line: 1, counted: 1010, limit: 100 })));
        assert!(splitter.unfinished.capacity() < 1000, "what is only counted is not kept");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_by_line_and_offset() {
        for text in [&b"fine\nalso \xFF bad\nrest"[..], b"fine\nalso \xFF", b"fine\nalso \xF0\x9F\nrest"] {
            for size in 1..=text.len() {
                let (lines, error) = split(text, size, 1000);
                assert_eq!(lines, ["fine"], "chunks of {size}");
                assert_eq!(error, Some(LineError::NotUtf8 { line: 2, offset: 10 }), "chunks of {size}");
            }
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut splitter = Splitter::new(10);
        let mut lines = splitter.chunk(b"\xFF\nfine\n");
        assert!(matches!(lines.next(), Some(Err(_))));
        assert!(lines.next().is_none());
    }
}
