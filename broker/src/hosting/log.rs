//! The log of a component: where its lines go, and how much of a text fits into one.

use std::borrow::Cow;
use std::sync::Arc;

use blockcast_blocks::abi::Level;
use blockcast_blocks::text;

/// Longest text of a log line or of a failure, in bytes; the rest is cut off.
pub(crate) const MAX_TEXT: usize = 8 << 10;

/// Receives the lines of a component's log, one at a time: at most 8 KiB, without a line break, invisible
/// characters [escaped](blockcast_blocks::text::line).
pub type LogSink = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// The text of a component as one line of a log or of an error: at most [`MAX_TEXT`] bytes, all of them
/// visible.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    text::line_within(text, MAX_TEXT)
}

/// The beginning of `text`, at most [`MAX_TEXT`] bytes.
pub(crate) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
