//! The part of a block that a builder writes to, and the proof that it has written a complete value.

use std::marker::PhantomData;
use std::ops::Range;

use crate::error::BuildError;
use crate::flat_type::{FlatType, Header};
use crate::index::Index;
use crate::schema::align_up;
use crate::to_flat::ToFlat;

/// A type that is invariant in `'b`. Every build has its own lifetime, which its code cannot name, so a value
/// with this brand cannot be replaced by one of another build.
type Brand<'b> = PhantomData<fn(&'b ()) -> &'b ()>;

/// The proof that a value is complete.
///
/// A builder returns it when it is consumed. The closure of a build must return it, and can obtain it only
/// from the builder that it is called with.
#[must_use = "return it from the closure of the build"]
#[derive(Debug)]
pub struct Finished<'b> {
    end: usize,
    brand: Brand<'b>,
}

impl Finished<'_> {
    /// The length in bytes of the message up to the end of this value. For the root value, the length of the
    /// message.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.end
    }
}

/// A place in a block for a `T`, which [`ToFlat::write_to`] fills.
#[derive(Debug)]
pub struct Place<'b, T, I: Index> {
    target: Target<'b, I>,
    marker: PhantomData<fn() -> T>,
}

impl<'b, T: FlatType, I: Index> Place<'b, T, I> {
    #[inline]
    pub(crate) fn new(target: Target<'b, I>) -> Self {
        Place { target, marker: PhantomData }
    }

    /// Converts the place for a builder.
    #[inline]
    pub(crate) fn into_target(self) -> Target<'b, I> {
        self.target
    }

    /// The same place for another type. Fails to compile if the types have different layouts.
    #[doc(hidden)]
    #[inline]
    pub fn retyped<U: FlatType>(self) -> Place<'b, U, I> {
        const { assert!(T::TYPE.is_laid_out_as(U::TYPE), "the types have different layouts") };
        Place { target: self.target, marker: PhantomData }
    }

    /// Returns a builder that writes the value to this place.
    #[inline]
    pub fn builder(self) -> T::Builder<'b, I> {
        T::builder(self.target)
    }
}

/// A closure that builds a `T`: `FnOnce(T::Builder<'b, I>) -> Result<Finished<'b>, E>`.
///
/// Functions take it as `impl for<'b> BuildFn<'b, T, I, E>`. As the closure works for every `'b`, it can only
/// return a [`Finished`] from the builder that it is called with.
pub trait BuildFn<'b, T: FlatType, I: Index, E>:
    FnOnce(T::Builder<'b, I>) -> Result<Finished<'b>, E>
{
}

impl<'b, T, I, E, F> BuildFn<'b, T, I, E> for F
where
    T: FlatType,
    I: Index,
    F: FnOnce(T::Builder<'b, I>) -> Result<Finished<'b>, E>,
{
}

/// A block with the position of a value's header and of its data.
///
/// ```text
/// block  ┌────────┬──────────────────┬─────────────────────────────┐
///        │ header │ data so far      │ free                        │
///        └────────┴──────────────────┴─────────────────────────────┘
///         ▲ at                        ▲ cursor
/// ```
///
/// A nested value has its own target, which borrows the block. Its [`Finished`] returns the new cursor. If
/// the nested value fails, the cursor stays, and the bytes that it wrote are free again.
#[doc(hidden)]
#[derive(Debug)]
pub struct Target<'b, I: Index> {
    block: &'b mut [u8],
    at: usize,
    cursor: usize,
    brand: Brand<'b>,
    index: PhantomData<I>,
}

/// Copies `from` to `to`, which has the same length.
///
/// Most names and words have at most 32 bytes. They are copied without a call, in pieces that overlap if the
/// text is shorter than the pieces: this needs few branches on the length, which are hard to predict.
#[inline(always)]
fn copy_text(to: &mut [u8], from: &[u8]) {
    #[inline(always)]
    fn piece<const N: usize>(to: &mut [u8], from: &[u8], at: usize) {
        if let (Some(to), Some(from)) = (to.get_mut(at..at + N), from.get(at..at + N)) {
            to.copy_from_slice(from);
        }
    }
    match from.len() {
        len @ 8..=32 => {
            let last = len - 8;
            piece::<8>(to, from, 0);
            piece::<8>(to, from, last.min(8));
            piece::<8>(to, from, last.min(16));
            piece::<8>(to, from, last);
        }
        len @ 4..8 => {
            piece::<4>(to, from, 0);
            piece::<4>(to, from, len - 4);
        }
        _ => to.copy_from_slice(from),
    }
}

impl<'b, I: Index> Target<'b, I> {
    /// The target of a message's root value. Pass it only to code that is generic over `'b`.
    #[inline]
    pub(crate) fn root<T: FlatType>(block: &'b mut [u8]) -> Self {
        Target { block, at: 0, cursor: Header::<T, I>::SIZE, brand: PhantomData, index: PhantomData }
    }

    /// The end of all data written so far.
    #[inline]
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// The whole block.
    pub(crate) fn block(&self) -> &[u8] {
        self.block
    }

    /// The offset of the header.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The length of the block in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.block.len()
    }

    #[cold]
    fn no_room(&self, needed: usize) -> BuildError {
        BuildError::NoRoom { needed, available: self.block.len() }
    }

    /// The bytes between `from` and `to`.
    #[inline]
    pub(crate) fn span(&mut self, from: usize, to: usize) -> Result<&mut [u8], BuildError> {
        let available = self.block.len();
        match self.block.get_mut(from..to) {
            Some(span) => Ok(span),
            None => Err(BuildError::NoRoom { needed: to, available }),
        }
    }

    // The sums below do not overflow: an offset in a header is small, and the header's offset exceeds the
    // block's length by a small number at most.

    /// Writes `bytes` at `offset` in the header.
    #[inline]
    pub(crate) fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Result<(), BuildError> {
        let from = self.at + offset;
        *self.span(from, from + N)?.first_chunk_mut().expect("the span has N bytes") = bytes;
        Ok(())
    }

    /// Checks that the block has room for the header's `size` bytes.
    #[inline]
    pub(crate) fn check_header(&self, size: usize) -> Result<(), BuildError> {
        let end = self.at + size;
        if end > self.block.len() { Err(self.no_room(end)) } else { Ok(()) }
    }

    /// Zeroes the header's `size` bytes, for a header with padding.
    pub(crate) fn clear(&mut self, size: usize) -> Result<(), BuildError> {
        let at = self.at;
        self.span(at, at + size)?.fill(0);
        Ok(())
    }

    /// Writes the header of a string or list whose data start at `start` and have `count` elements.
    #[inline(always)]
    pub(crate) fn put_region(&mut self, start: usize, count: usize) -> Result<(), BuildError> {
        let at = self.at;
        let header = self.span(at, at + 2 * I::BYTES)?;
        I::write_pair(start - at, count, header)
            .map_err(|value| BuildError::IndexOverflow { value, max: I::MAX })
    }

    /// Writes the header and the text of a string.
    #[inline(always)]
    pub(crate) fn put_text(&mut self, text: &str) -> Result<(), BuildError> {
        let start = self.cursor;
        let end = start.saturating_add(text.len());
        self.put_region(start, text.len())?;
        copy_text(self.span(start, end)?, text.as_bytes());
        self.cursor = end;
        Ok(())
    }

    /// Writes strings whose headers follow each other in `headers`, which is before the cursor. Returns the
    /// number of strings, or [`None`] if there are more strings than headers.
    #[inline]
    pub(crate) fn put_texts<V>(
        &mut self,
        headers: Range<usize>,
        texts: impl Iterator<Item = V>,
        text: fn(&V) -> &str,
    ) -> Result<Option<usize>, BuildError> {
        // The rests of the headers and of the room for text are two slices that shrink: a string needs one
        // bounds check for each, and both slices stay in registers.
        let available = self.block.len();
        let (mut at, mut cursor, mut count) = (headers.start, self.cursor, 0);
        let Some((before, mut room)) = self.block.split_at_mut_checked(cursor) else {
            return Err(self.no_room(cursor));
        };
        let mut headers = before.get_mut(headers).unwrap_or_default().chunks_exact_mut(2 * I::BYTES);
        for value in texts {
            let Some(header) = headers.next() else { return Ok(None) };
            let text = text(&value).as_bytes();
            let Some((to, rest)) = room.split_at_mut_checked(text.len()) else {
                return Err(BuildError::NoRoom { needed: cursor.saturating_add(text.len()), available });
            };
            copy_text(to, text);
            I::write_pair(cursor - at, text.len(), header)
                .map_err(|value| BuildError::IndexOverflow { value, max: I::MAX })?;
            room = rest;
            at += 2 * I::BYTES;
            cursor += text.len();
            count += 1;
        }
        self.cursor = cursor;
        Ok(Some(count))
    }

    /// Takes aligned room for `count` elements of `size` bytes at the cursor. Returns the offset of the
    /// first.
    #[inline]
    pub(crate) fn take(&mut self, count: usize, size: usize, align: usize) -> Result<usize, BuildError> {
        if count == 0 {
            return Ok(self.cursor);
        }
        let start = align_up(self.cursor, align);
        let end = count.saturating_mul(size).saturating_add(start);
        if end > self.block.len() {
            return Err(self.no_room(end));
        }
        if count > I::MAX {
            return Err(BuildError::IndexOverflow { value: count, max: I::MAX });
        }
        let cursor = self.cursor;
        if start > cursor {
            self.span(cursor, start)?.fill(0);
        }
        self.cursor = end;
        Ok(start)
    }

    /// Gives back all room after `cursor`.
    pub(crate) fn retract(&mut self, cursor: usize) {
        debug_assert!(cursor <= self.cursor, "the room was taken before");
        self.cursor = cursor;
    }

    /// A target for a value whose header is at offset `at` in the block.
    #[inline(always)]
    fn nested(&mut self, at: usize) -> Target<'_, I> {
        Target { at, cursor: self.cursor, block: &mut *self.block, brand: PhantomData, index: PhantomData }
    }

    /// Builds a value whose header is at `offset` in this header. An error leaves the target unchanged.
    #[inline]
    pub(crate) fn child<T: FlatType, E>(
        &mut self,
        offset: usize,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<(), E> {
        let at = self.at + offset;
        self.child_at(at, build)
    }

    /// Builds a value whose header is at offset `at` in the block. An error leaves the target unchanged.
    #[inline]
    pub(crate) fn child_at<T: FlatType, E>(
        &mut self,
        at: usize,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<(), E> {
        self.cursor = build(T::builder(self.nested(at)))?.end;
        Ok(())
    }

    /// Writes a value whose header is at `offset` in this header. An error leaves the target unchanged.
    #[inline(always)]
    pub(crate) fn write<T: FlatType>(
        &mut self,
        offset: usize,
        value: impl ToFlat<T>,
    ) -> Result<(), BuildError> {
        let at = self.at + offset;
        self.write_at(at, value)
    }

    /// Writes a value whose header is at offset `at` in the block. An error leaves the target unchanged.
    #[inline(always)]
    pub(crate) fn write_at<T: FlatType>(
        &mut self,
        at: usize,
        value: impl ToFlat<T>,
    ) -> Result<(), BuildError> {
        self.cursor = value.write_to(Place::new(self.nested(at)))?.end;
        Ok(())
    }

    /// Completes the value if the block has room for all `size` bytes of its header, including padding at its
    /// end.
    #[inline]
    pub(crate) fn finish_header(self, size: usize) -> Result<Finished<'b>, BuildError> {
        self.check_header(size)?;
        Ok(self.finish())
    }

    /// Completes the value. The caller has written all of it.
    #[inline]
    pub(crate) fn finish(self) -> Finished<'b> {
        Finished { end: self.cursor, brand: PhantomData }
    }
}
