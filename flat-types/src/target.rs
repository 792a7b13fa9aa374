//! Where a builder writes, and the proof that it did.

use std::marker::PhantomData;
use std::ops::Range;

use crate::error::BuildError;
use crate::flat_type::{FlatType, Header};
use crate::index::Index;
use crate::schema::align_up;
use crate::to_flat::ToFlat;

/// A type that neither outlives nor falls short of `'b`: a value branded with it cannot be swapped for one of
/// another build, since every build has a lifetime of its own that its code cannot name.
type Brand<'b> = PhantomData<fn(&'b ()) -> &'b ()>;

/// The proof that a value is complete.
///
/// A builder is consumed to get one. The closure of a build must return it, and can only have it from the
/// builder that it was given.
#[must_use = "return it from the closure of the build"]
#[derive(Debug)]
pub struct Finished<'b> {
    end: usize,
    brand: Brand<'b>,
}

impl Finished<'_> {
    /// The length of the message so far in bytes; for the root value, the length of the message.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.end
    }
}

/// The place in a block where a `T` goes; [`ToFlat::write_to`](crate::ToFlat::write_to) fills it.
#[derive(Debug)]
pub struct Place<'b, T, I: Index> {
    target: Target<'b, I>,
    kind: PhantomData<fn() -> T>,
}

impl<'b, T: FlatType, I: Index> Place<'b, T, I> {
    #[inline]
    pub(crate) fn new(target: Target<'b, I>) -> Self {
        Place { target, kind: PhantomData }
    }

    /// What the place is made of, for builders.
    #[inline]
    pub(crate) fn into_target(self) -> Target<'b, I> {
        self.target
    }

    /// The same place, for a type with the same layout; with another one it does not compile.
    #[doc(hidden)]
    #[inline]
    pub fn retyped<U: FlatType>(self) -> Place<'b, U, I> {
        const { assert!(T::TYPE.is_laid_out_as(U::TYPE), "the types have different layouts") };
        Place { target: self.target, kind: PhantomData }
    }

    /// The builder that writes here.
    #[inline]
    pub fn builder(self) -> T::Builder<'b, I> {
        T::builder(self.target)
    }
}

/// A closure that builds a `T`: `FnOnce(T::Builder<'b, I>) -> Result<Finished<'b>, E>`.
///
/// Taken as `impl for<'b> BuildFn<'b, T, I, E>`: the closure works for every `'b`, so it can only return what it
/// got from the builder it was given.
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

/// The block, where in it the header of the value goes, and where its data may start.
///
/// ```text
/// block  ┌────────┬──────────────────┬─────────────────────────────┐
///        │ header │ data so far      │ free                        │
///        └────────┴──────────────────┴─────────────────────────────┘
///         ▲ at                        ▲ cursor
/// ```
///
/// A nested value gets a target of its own that borrows the block; its [`Finished`] carries the new cursor
/// back. If it fails nothing is carried back, and what it wrote counts as free again.
#[doc(hidden)]
#[derive(Debug)]
pub struct Target<'b, I: Index> {
    block: &'b mut [u8],
    at: usize,
    cursor: usize,
    brand: Brand<'b>,
    index: PhantomData<I>,
}

/// Copies a text of the same length. Up to 32 bytes, the usual name or word, without a call and with few branches that
/// depend on the length, which nobody can predict: pieces overlap where there is less text than they could hold.
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
    /// The target of a message's root value. To be handed to code that is generic over `'b` only.
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

    /// Where the header goes.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes of the block.
    pub(crate) fn capacity(&self) -> usize {
        self.block.len()
    }

    #[cold]
    fn no_room(&self, needed: usize) -> BuildError {
        BuildError::NoRoom { needed, available: self.block.len() }
    }

    /// The bytes from `from` to `to`.
    #[inline]
    pub(crate) fn span(&mut self, from: usize, to: usize) -> Result<&mut [u8], BuildError> {
        let available = self.block.len();
        match self.block.get_mut(from..to) {
            Some(span) => Ok(span),
            None => Err(BuildError::NoRoom { needed: to, available }),
        }
    }

    // Offsets into a header are small, and the header's own is at most the block's length and a small one: the sums
    // below do not overflow.

    /// Writes `bytes` at `offset` in the header.
    #[inline]
    pub(crate) fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Result<(), BuildError> {
        let from = self.at + offset;
        *self.span(from, from + N)?.first_chunk_mut().expect("the span has N bytes") = bytes;
        Ok(())
    }

    /// Checks that the header's `size` bytes are in the block.
    #[inline]
    pub(crate) fn check_header(&self, size: usize) -> Result<(), BuildError> {
        let end = self.at + size;
        if end > self.block.len() { Err(self.no_room(end)) } else { Ok(()) }
    }

    /// Writes zeros in the header's `size` bytes, for a header that has bytes no value uses.
    pub(crate) fn clear(&mut self, size: usize) -> Result<(), BuildError> {
        let at = self.at;
        self.span(at, at + size)?.fill(0);
        Ok(())
    }

    /// Writes the header of a string or list: its data starts at `start` and has `count` elements.
    #[inline(always)]
    pub(crate) fn put_region(&mut self, start: usize, count: usize) -> Result<(), BuildError> {
        let at = self.at;
        let header = self.span(at, at + 2 * I::BYTES)?;
        I::write_pair(start - at, count, header)
            .map_err(|value| BuildError::IndexOverflow { value, max: I::MAX })
    }

    /// Writes a string, header and text.
    #[inline(always)]
    pub(crate) fn put_text(&mut self, text: &str) -> Result<(), BuildError> {
        let start = self.cursor;
        let end = start.saturating_add(text.len());
        self.put_region(start, text.len())?;
        copy_text(self.span(start, end)?, text.as_bytes());
        self.cursor = end;
        Ok(())
    }

    /// Writes strings whose headers follow each other in the `headers` before the cursor. Gives their number; as many
    /// as there are headers at most, then [`None`].
    #[inline]
    pub(crate) fn put_texts<V>(
        &mut self,
        headers: Range<usize>,
        texts: impl Iterator<Item = V>,
        text: fn(&V) -> &str,
    ) -> Result<Option<usize>, BuildError> {
        // Headers and text are two slices that are cut shorter as they are filled: one check for each, and nothing of
        // that goes through memory.
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

    /// Takes `count` elements of `size` bytes, aligned, from the cursor on. Gives the offset of the first.
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

    /// Gives back everything from `cursor` on.
    pub(crate) fn retract(&mut self, cursor: usize) {
        debug_assert!(cursor <= self.cursor, "only what was taken is given back");
        self.cursor = cursor;
    }

    /// A target for a value whose header is at absolute offset `at`.
    #[inline(always)]
    fn nested(&mut self, at: usize) -> Target<'_, I> {
        Target { at, cursor: self.cursor, block: &mut *self.block, brand: PhantomData, index: PhantomData }
    }

    /// Builds a value whose header is at `offset` in this header. On an error the target is as before.
    #[inline]
    pub(crate) fn child<T: FlatType, E>(
        &mut self,
        offset: usize,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<(), E> {
        let at = self.at + offset;
        self.child_at(at, build)
    }

    /// Builds a value whose header is at absolute offset `at`. On an error the target is as before.
    #[inline]
    pub(crate) fn child_at<T: FlatType, E>(
        &mut self,
        at: usize,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<(), E> {
        self.cursor = build(T::builder(self.nested(at)))?.end;
        Ok(())
    }

    /// Writes a value whose header is at `offset` in this header. On an error the target is as before.
    #[inline(always)]
    pub(crate) fn write<T: FlatType>(
        &mut self,
        offset: usize,
        value: impl ToFlat<T>,
    ) -> Result<(), BuildError> {
        let at = self.at + offset;
        self.write_at(at, value)
    }

    /// Writes a value whose header is at absolute offset `at`. On an error the target is as before.
    #[inline(always)]
    pub(crate) fn write_at<T: FlatType>(
        &mut self,
        at: usize,
        value: impl ToFlat<T>,
    ) -> Result<(), BuildError> {
        self.cursor = value.write_to(Place::new(self.nested(at)))?.end;
        Ok(())
    }

    /// The proof that the value is complete, if all `size` bytes of its header are in the block, with those at
    /// the end that no field has written.
    #[inline]
    pub(crate) fn finish_header(self, size: usize) -> Result<Finished<'b>, BuildError> {
        self.check_header(size)?;
        Ok(self.finish())
    }

    /// The proof that the value is complete.
    #[inline]
    pub(crate) fn finish(self) -> Finished<'b> {
        Finished { end: self.cursor, brand: PhantomData }
    }
}
