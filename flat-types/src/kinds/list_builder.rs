//! Building a list in place.
//!
//! A list's headers come before its elements' data, so room for them is taken before the first element is
//! written. Three ways to say how much:
//!
//! | | elements | bytes |
//! | --- | --- | --- |
//! | [`ListBuilder::with_len`] | exactly as many | no gap |
//! | [`ListBuilder::with_capacity`] | at most as many | the room that is left is zeroed and stays as a gap before the first element's data; none if the elements are plain |
//! | [`ListBuilder::until_full`] | as many as the block may hold | the same |
//!
//! The gap is the price of writing front to back without moving what is written. A reader never looks at it.

use std::fmt;
use std::marker::PhantomData;

use crate::error::BuildError;
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::kinds::Number;
use crate::schema::align_up;
use crate::target::{BuildFn, Finished, Target};
use crate::to_flat::ToFlat;

/// Starts a list.
pub struct ListBuilder<'b, T, I: Index> {
    target: Target<'b, I>,
    kind: PhantomData<fn() -> T>,
}

impl<T, I: Index> fmt::Debug for ListBuilder<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListBuilder").field("at", &self.target.at()).finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> ListBuilder<'b, T, I> {
    pub(crate) fn new(target: Target<'b, I>) -> Self {
        ListBuilder { target, kind: PhantomData }
    }

    /// A list of exactly `count` elements.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if the block has no room for their headers, [`BuildError::IndexOverflow`].
    #[inline]
    pub fn with_len(self, count: usize) -> Result<ListItems<'b, T, I>, BuildError> {
        self.open(count, true)
    }

    /// A list of at most `capacity` elements.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if the block has no room for their headers, [`BuildError::IndexOverflow`].
    pub fn with_capacity(self, capacity: usize) -> Result<ListItems<'b, T, I>, BuildError> {
        self.open(capacity, false)
    }

    /// A list of as many elements as the rest of the block may hold, if each brings `data` bytes beside its
    /// header, or more. Push with [`ListItems::push_if_fits`].
    ///
    /// If the elements bring less than `data` the list is full before the block is; if they bring more, headers
    /// stay unused. For plain elements say 0: nothing is wasted.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if there is no room for the list itself.
    pub fn until_full(self, data: usize) -> Result<ListItems<'b, T, I>, BuildError> {
        let start = align_up(self.target.cursor(), Header::<T, I>::ALIGN);
        let room = self.target.capacity().saturating_sub(start);
        let capacity = (room / Header::<T, I>::SIZE.saturating_add(data)).min(I::MAX);
        self.open(capacity, false)
    }

    #[inline]
    fn open(mut self, capacity: usize, exact: bool) -> Result<ListItems<'b, T, I>, BuildError> {
        let before = self.target.cursor();
        let start = self.target.take(capacity, Header::<T, I>::SIZE, Header::<T, I>::ALIGN)?;
        self.target.put_region(start, capacity)?;
        Ok(ListItems { target: self.target, before, start, capacity, count: 0, exact, kind: PhantomData })
    }

    /// Writes a list of the values of an iterator that knows its length, and completes it.
    ///
    /// # Errors
    ///
    /// Those of the values. [`BuildError::TooFew`] or [`BuildError::ListFull`] if the iterator was wrong.
    #[inline]
    pub fn items<V>(self, values: V) -> Result<Finished<'b>, BuildError>
    where
        V: IntoIterator<Item: ToFlat<T>, IntoIter: ExactSizeIterator>,
    {
        let values = values.into_iter();
        let mut list = self.with_len(values.len())?;
        list.push_all(values)?;
        list.finish()
    }
}

impl<'b, T: Number, I: Index> ListBuilder<'b, T, I> {
    /// Lends room for `count` numbers, all zero, to be filled in any order, and completes the list.
    ///
    /// # Errors
    ///
    /// [`BuildError::Misaligned`] at index widths u8 and u16, in blocks that are not aligned, and on machines
    /// that store the highest byte first; [`BuildError::NoRoom`].
    pub fn fill(self, count: usize, fill: impl FnOnce(&mut [T])) -> Result<Finished<'b>, BuildError> {
        let mut list = self.with_len(count)?;
        if count > 0 {
            if cfg!(target_endian = "big") && size_of::<T>() > 1 {
                return Err(BuildError::Misaligned);
            }
            let bytes = list.target.span(list.start, list.start + count * size_of::<T>())?;
            bytes.fill(0);
            fill(bytemuck::try_cast_slice_mut(bytes).map_err(|_| BuildError::Misaligned)?);
        } else {
            fill(&mut []);
        }
        list.count = count;
        list.finish()
    }
}

/// Writes the elements of a list, one after the other.
pub struct ListItems<'b, T, I: Index> {
    target: Target<'b, I>,
    /// The cursor before the list took room.
    before: usize,
    /// Offset of the first header.
    start: usize,
    capacity: usize,
    count: usize,
    exact: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T, I: Index> fmt::Debug for ListItems<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListItems")
            .field("len", &self.count)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> ListItems<'b, T, I> {
    /// Writes one element. On an error the list is as before and can go on.
    ///
    /// # Errors
    ///
    /// [`BuildError::ListFull`]; those of the value.
    #[inline]
    pub fn push(&mut self, value: impl ToFlat<T>) -> Result<(), BuildError> {
        let at = self.next()?;
        self.target.write_at::<T>(at, value)?;
        self.count += 1;
        Ok(())
    }

    /// Where the next header goes.
    #[inline]
    fn next(&self) -> Result<usize, BuildError> {
        if self.count == self.capacity {
            return Err(BuildError::ListFull { capacity: self.capacity });
        }
        Ok(self.start + self.count * Header::<T, I>::SIZE)
    }

    /// Writes one element unless the block, the index or the list is full; says whether it did.
    ///
    /// # Errors
    ///
    /// Errors for which a new block would be of no use.
    #[inline]
    pub fn push_if_fits(&mut self, value: impl ToFlat<T>) -> Result<bool, BuildError> {
        match self.push(value) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Builds one element in place. On an error the list is as before and can go on.
    ///
    /// # Errors
    ///
    /// [`BuildError::ListFull`]; those of the closure.
    #[inline]
    pub fn push_with<E: From<BuildError>>(
        &mut self,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<(), E> {
        let at = self.next()?;
        self.target.child_at::<T, E>(at, build)?;
        self.count += 1;
        Ok(())
    }

    /// Where the data of the next element will go, to come back to with [`ListItems::take_back`].
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.target.cursor()
    }

    /// Takes back the last element, before which the data ended at `mark`.
    pub(crate) fn take_back(&mut self, mark: usize) {
        self.target.retract(mark);
        self.count -= 1;
    }

    /// The block from the header of element `n` on.
    #[inline]
    pub(crate) fn header(&self, n: usize) -> &[u8] {
        tail(self.target.block(), self.start + n * Header::<T, I>::SIZE)
    }

    /// Elements written so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Elements that there is room for, headers only.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Writes several elements. On an error the list is not to be used any more.
    #[inline]
    pub(crate) fn push_all<V: ToFlat<T>>(
        &mut self,
        values: impl Iterator<Item = V>,
    ) -> Result<(), BuildError> {
        if let Some(text) = V::TEXT {
            let headers = self.start + self.count * Header::<T, I>::SIZE..self.end();
            let Some(count) = self.target.put_texts(headers, values, text.of())? else {
                return Err(BuildError::ListFull { capacity: self.capacity });
            };
            self.count += count;
            return Ok(());
        }
        for value in values {
            self.push(value)?;
        }
        Ok(())
    }

    /// The end of the headers that there is room for.
    #[inline]
    fn end(&self) -> usize {
        self.start + self.capacity * Header::<T, I>::SIZE
    }

    /// Writes several scalars at once, whose bytes in memory are their headers.
    #[inline]
    pub(crate) fn push_bytes<S>(&mut self, values: &[S]) -> Result<(), BuildError>
    where
        S: ToFlat<T> + bytemuck::NoUninit,
    {
        if values.len() > self.capacity - self.count {
            return Err(BuildError::ListFull { capacity: self.capacity });
        }
        if cfg!(target_endian = "big") {
            return values.iter().try_for_each(|value| self.push(value));
        }
        debug_assert_eq!(size_of::<S>(), Header::<T, I>::SIZE, "a scalar is its header");
        let from = self.start + self.count * size_of::<S>();
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.target.span(from, from + bytes.len())?.copy_from_slice(bytes);
        self.count += values.len();
        Ok(())
    }

    /// Completes the list.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooFew`] if a list of known length has fewer elements.
    #[inline]
    pub fn finish(mut self) -> Result<Finished<'b>, BuildError> {
        if self.count < self.capacity {
            if self.exact {
                return Err(BuildError::TooFew { expected: self.capacity, pushed: self.count });
            }
            let used = self.start + self.count * Header::<T, I>::SIZE;
            let end = self.end();
            if self.count == 0 {
                // An empty list takes no bytes, not even for alignment.
                self.target.retract(self.before);
                self.start = self.before;
            } else if Header::<T, I>::PLAIN {
                self.target.retract(used);
            } else {
                self.target.span(used, end)?.fill(0);
            }
            self.target.put_region(self.start, self.count)?;
        }
        Ok(self.target.finish())
    }
}

impl<T: Number, I: Index> ListItems<'_, T, I> {
    /// Writes several numbers at once. On an error the list is as before.
    ///
    /// # Errors
    ///
    /// [`BuildError::ListFull`].
    #[inline]
    pub fn push_numbers(&mut self, values: &[T]) -> Result<(), BuildError> {
        self.push_bytes(values)
    }
}
