//! Prepares foreign text for a log, an error or a terminal.
//!
//! Names, log lines and reasons come from guests, libraries and files, whose authors choose every character.
//! Printed unchanged, a newline forges a line of the host's log, an escape sequence moves the terminal's
//! cursor, and a bidirectional mark changes how a line reads. [`line`](fn@line) and [`lines`] escape such
//! characters as in Rust's string literals. All other text stays unchanged.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character has no shape of its own: controls except the tab, format characters (bidirectional
/// marks, zero-width characters, tags) and separators of lines and paragraphs.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control() && c != '\t' || is_format(c)
}

/// Unicode's categories Cf, Zl and Zp (version 16), and the code points between them that are reserved for
/// Cf.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// The text as one line of visible characters. Does not allocate if the text already is one.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_invisible)
}

/// Like [`line`](fn@line), for a text that may have several lines.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_invisible(c))
}

fn escape(text: &str, hide: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&hide) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 8);
    shown.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            c if !hide(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            c => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "{}", c.escape_unicode());
            }
        }
    }
    Cow::Owned(shown)
}

/// The text as one line of visible characters, at most `bytes` of them, with a mark where it was cut.
#[must_use]
pub fn line_within(text: &str, bytes: usize) -> Cow<'_, str> {
    within(text, bytes, line)
}

/// Like [`line_within`], for a text that may have several lines.
#[must_use]
pub fn lines_within(text: &str, bytes: usize) -> Cow<'_, str> {
    within(text, bytes, lines)
}

fn within<'t>(text: &'t str, bytes: usize, show: impl Fn(&'t str) -> Cow<'t, str>) -> Cow<'t, str> {
    const CUT: &str = "…";
    // Escaping only makes it longer.
    let beginning = &text[..text.floor_char_boundary(bytes)];
    let shown = show(beginning);
    if beginning.len() == text.len() && shown.len() <= bytes {
        return shown;
    }
    let end = shown.floor_char_boundary(bytes.saturating_sub(CUT.len()));
    Cow::Owned(format!("{}{CUT}", &shown[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_invisible_characters_stays_unchanged_and_is_not_copied() {
        for text in ["", "plain\ttext", "größer, мир, עולם, 世界, é, \"quoted\" \\n"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
            assert!(matches!(lines(text), Cow::Borrowed(_)), "{text}");
        }
        assert!(matches!(lines("two\nlines"), Cow::Borrowed(_)));
    }

    #[test]
    fn characters_that_break_lines_move_the_cursor_or_turn_text_are_escaped() {
        assert_eq!(line("a\nb\r\u{1b}[2J\0\u{7f}\u{9b}"), r"a\nb\r\u{1b}[2J\u{0}\u{7f}\u{9b}");
        assert_eq!(lines("a\nb\r\u{1b}"), "a\nb\\r\\u{1b}");
        let marks =
            ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{feff}', '\u{ad}', '\u{e0041}'];
        let marks = marks.into_iter().chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        for mark in marks {
            let text = format!("a{mark}b");
            assert_eq!(line(&text), format!("a{}b", mark.escape_unicode()));
            assert_eq!(lines(&text), line(&text));
        }
    }

    /// Rust's own list of what it shows as an escape is longer (unassigned and private characters, combining
    /// ones) and not part of what it promises; nothing that is hidden here may be missing there.
    #[test]
    fn only_characters_without_a_shape_are_escaped() {
        for c in ('\0'..=char::MAX).filter(|&c| is_invisible(c)) {
            assert!(c.escape_debug().len() > 1, "{c:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(line_within("short", 5), "short");
        assert_eq!(line_within("longer", 5), "lo…");
        assert_eq!(line_within("äääää", 6), "ä…");
        assert_eq!(line_within("a\u{202e}b", 8), "a\\u{2…");
        assert_eq!(lines_within("a\nb\nc\nd", 6), "a\nb…");
        assert_eq!(line_within(&"\u{202e}".repeat(1 << 20), 100).len(), 100);
    }
}
