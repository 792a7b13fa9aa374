//! [`LineBuffer`]: cuts the output of a component's standard streams into lines.

use super::log::MAX_TEXT;

/// The beginning of an unfinished line, at most [`MAX_TEXT`] bytes. The rest of a longer line is lost.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer(Vec<u8>);

impl LineBuffer {
    /// Appends a piece without a line break except at its end. Returns the line that it completes.
    pub(crate) fn append(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let (text, ends) = match piece.split_last() {
            Some((b'\n', text)) => (text, true),
            _ => (piece, false),
        };
        let room = MAX_TEXT - self.0.len();
        self.0.extend_from_slice(&text[..text.len().min(room)]);
        ends.then(|| std::mem::take(&mut self.0))
    }

    /// Takes a last line that was not terminated.
    pub(crate) fn take_rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() { None } else { Some(rest) }
    }
}
