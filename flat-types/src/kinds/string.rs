//! `string`: UTF-8 text to which the header points. Its view is a `&str`.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::schema::Type;
use crate::target::{Finished, Place, Target};
use crate::to_flat::{KeyOrder, Text, ToFlat};
use crate::validator::Validator;

/// Checks that `bytes`, which start at offset `start`, are UTF-8.
#[inline]
fn utf8(bytes: &[u8], start: usize) -> Result<(), FlatError> {
    if is_short_ascii(bytes) {
        return Ok(());
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(FlatError::Utf8 { at: start + error.valid_up_to() }),
    }
}

/// Whether there are at most 16 bytes, all ASCII. Most names and words are: checking them costs less than a
/// call.
#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The first and the last chunk may overlap.
    match bytes.len() {
        8..=16 => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last)) & HIGH == 0,
            _ => false,
        },
        4..8 => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => {
                (u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)) & HIGH as u32 == 0
            }
            _ => false,
        },
        0..4 => bytes.iter().fold(0, |all, byte| all | byte) < 0x80,
        _ => false,
    }
}

// SAFETY: `view` returns the bytes that `validate` has checked to be UTF-8, through a checked slice.
unsafe impl FlatType for String {
    type View<'a, I: Index> = &'a str;
    type Builder<'b, I: Index> = StringBuilder<'b, I>;
    const TYPE: &'static Type = &Type::String;

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        let region = validator.region(at, 1, 1)?;
        utf8(&validator.bytes()[region.start..validator.cursor()], region.start)
    }

    /// Checks the text of all strings at once, which is faster than many short checks. Every string is UTF-8
    /// exactly if the whole text is UTF-8 and no string starts within a character. Gaps do not matter: a zero
    /// byte is a character.
    fn validate_all<I: Index>(
        validator: &mut Validator<'_, I>,
        at: usize,
        count: usize,
    ) -> Result<(), FlatError> {
        let headers = (at..).step_by(Header::<String, I>::SIZE).take(count);
        let from = validator.cursor();
        for header in headers.clone() {
            validator.region(header, 1, 1)?;
        }
        let bytes = validator.bytes();
        let text = bytes.get(from..validator.cursor()).unwrap_or_default();
        if text.is_ascii() {
            return Ok(());
        }
        let pieces = headers.map(|header| {
            let (delta, len) = I::read_pair(tail(bytes, header));
            (header + delta, len)
        });
        let starts_within = |(start, len): (usize, usize)| len > 0 && (0x80..0xc0).contains(&bytes[start]);
        if std::str::from_utf8(text).is_ok() && !pieces.clone().any(starts_within) {
            return Ok(());
        }
        // Find the string that is not UTF-8.
        for (start, len) in pieces {
            utf8(bytes.get(start..start + len).unwrap_or_default(), start)?;
        }
        Ok(())
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> &str {
        let (delta, len) = I::read_pair(bytes);
        let text = tail(bytes, delta).get(..len).unwrap_or_default();
        // SAFETY: the caller guarantees that `validate` accepted this string, so these bytes are UTF-8. The
        // empty slice is UTF-8 too.
        unsafe { std::str::from_utf8_unchecked(text) }
    }

    #[inline]
    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        StringBuilder { start: target.cursor(), end: target.cursor(), failed: None, target }
    }

    fn from_view<I: Index>(view: &str) -> String {
        view.to_owned()
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(view: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(view)
    }
}

/// Writes a string in one or several pieces. Implements [`fmt::Write`], which formats text directly into the
/// block.
#[derive(Debug)]
pub struct StringBuilder<'b, I: Index> {
    target: Target<'b, I>,
    start: usize,
    end: usize,
    failed: Option<BuildError>,
}

impl<'b, I: Index> StringBuilder<'b, I> {
    /// Appends `text` and completes the string.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] or [`BuildError::IndexOverflow`] if the text does not fit into the block or the
    /// index.
    #[inline]
    pub fn set(mut self, text: impl AsRef<str>) -> Result<Finished<'b>, BuildError> {
        if self.end > self.start || self.failed.is_some() {
            self.push_str(text.as_ref())?;
            return self.finish();
        }
        self.target.put_text(text.as_ref())?;
        Ok(self.target.finish())
    }

    /// Appends `text`. After an error, the string is unchanged.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] or [`BuildError::IndexOverflow`] if the text does not fit into the block or the
    /// index.
    #[inline]
    pub fn push_str(&mut self, text: &str) -> Result<(), BuildError> {
        let end = self.end.saturating_add(text.len());
        if end - self.start > I::MAX {
            return Err(BuildError::IndexOverflow { value: end - self.start, max: I::MAX });
        }
        self.target.span(self.end, end)?.copy_from_slice(text.as_bytes());
        self.end = end;
        Ok(())
    }

    /// Appends a character. After an error, the string is unchanged.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] or [`BuildError::IndexOverflow`] if the character does not fit into the block
    /// or the index.
    pub fn push(&mut self, character: char) -> Result<(), BuildError> {
        self.push_str(character.encode_utf8(&mut [0; 4]))
    }

    /// The number of bytes written so far.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing has been written so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Completes the string.
    ///
    /// # Errors
    ///
    /// - Returns the error that stopped an earlier [`fmt::Write`].
    /// - [`BuildError::NoRoom`] or [`BuildError::IndexOverflow`] if the header does not fit into the block or
    ///   the index.
    #[inline]
    pub fn finish(mut self) -> Result<Finished<'b>, BuildError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let count = self.end - self.start;
        self.target.put_region(self.start, count)?;
        self.target.take(count, 1, 1)?;
        Ok(self.target.finish())
    }
}

impl<I: Index> fmt::Write for StringBuilder<'_, I> {
    /// Appends `text`. After an error, the string cannot be completed: [`StringBuilder::finish`] returns the
    /// error.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text).map_err(|error| {
            self.failed = Some(error);
            fmt::Error
        })
    }
}

impl ToFlat<String> for str {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, String, I>) -> Result<Finished<'b>, BuildError> {
        let mut target = place.into_target();
        target.put_text(self)?;
        Ok(target.finish())
    }

    #[inline]
    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        cursor.saturating_add(self.len())
    }

    #[inline]
    fn matches<I: Index>(&self, view: &str) -> bool {
        self == view
    }

    const TEXT: Option<Text<String, str>> = Some(Text::new(|text| text));
    const KEY_ORDER: Option<KeyOrder<String, str>> = KeyOrder::PRESERVED;
}

macro_rules! text {
    ($($type:ty),+) => { $(
        impl ToFlat<String> for $type {
            #[inline]
            fn write_to<'b, I: Index>(&self, place: Place<'b, String, I>) -> Result<Finished<'b>, BuildError> {
                (**self).write_to(place)
            }

            #[inline]
            fn end_after<I: Index>(&self, cursor: usize) -> usize {
                (**self).end_after::<I>(cursor)
            }

            #[inline]
            fn matches<I: Index>(&self, view: &str) -> bool {
                **self == *view
            }

            const TEXT: Option<Text<String, Self>> = Some(Text::new(|text| text));
            const KEY_ORDER: Option<KeyOrder<String, Self>> = KeyOrder::PRESERVED;
        }
    )+ };
}

text!(String, Box<str>, Rc<str>, Arc<str>, Cow<'_, str>);
