//! Building a list in place.
//!
//! The headers of all elements precede the elements' data, so the builder takes room for them before it
//! writes the first element. There are three ways to start a list:
//!
//! | method | number of elements | unused headers |
//! | --- | --- | --- |
//! | [`ListBuilder::with_len`] | exactly the given number | none |
//! | [`ListBuilder::with_capacity`] | at most the given number | become a gap of zeros before the elements' data, or are given back if the elements have no data |
//! | [`ListBuilder::until_full`] | as many as fit into the block | as above |
//!
//! The gap is the price of writing front to back without moving data.

use std::fmt;
use std::marker::PhantomData;

use crate::error::BuildError;
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::kinds::Number;
use crate::schema::align_up;
use crate::target::{BuildFn, Finished, Target};
use crate::to_flat::ToFlat;

/// Starts a list in one of three ways.
pub struct ListBuilder<'b, T, I: Index> {
    target: Target<'b, I>,
    marker: PhantomData<fn() -> T>,
}

impl<T, I: Index> fmt::Debug for ListBuilder<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListBuilder").field("at", &self.target.at()).finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> ListBuilder<'b, T, I> {
    pub(crate) fn new(target: Target<'b, I>) -> Self {
        ListBuilder { target, marker: PhantomData }
    }

    /// Starts a list of exactly `count` elements.
    ///
    /// # Errors
    ///
    /// - [`BuildError::NoRoom`] if the block has no room for their headers.
    /// - [`BuildError::IndexOverflow`] if `count` does not fit into an index.
    #[inline]
    pub fn with_len(self, count: usize) -> Result<ListWriter<'b, T, I>, BuildError> {
        self.open(count, true)
    }

    /// Starts a list of at most `capacity` elements.
    ///
    /// # Errors
    ///
    /// - [`BuildError::NoRoom`] if the block has no room for their headers.
    /// - [`BuildError::IndexOverflow`] if `capacity` does not fit into an index.
    pub fn with_capacity(self, capacity: usize) -> Result<ListWriter<'b, T, I>, BuildError> {
        self.open(capacity, false)
    }

    /// Starts a list that fills the rest of the block, if each element has about `data` bytes in addition to
    /// its header. Push the elements with [`ListWriter::push_if_fits`].
    ///
    /// If the elements have less data, the list is full before the block is. If they have more, headers stay
    /// unused. Pass 0 for elements without data: it wastes nothing.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if the block has no room for the list's own header.
    pub fn until_full(self, data: usize) -> Result<ListWriter<'b, T, I>, BuildError> {
        let start = align_up(self.target.cursor(), Header::<T, I>::ALIGN);
        let room = self.target.capacity().saturating_sub(start);
        let capacity = (room / Header::<T, I>::SIZE.saturating_add(data)).min(I::MAX);
        self.open(capacity, false)
    }

    #[inline]
    fn open(mut self, capacity: usize, exact: bool) -> Result<ListWriter<'b, T, I>, BuildError> {
        let before = self.target.cursor();
        let start = self.target.take(capacity, Header::<T, I>::SIZE, Header::<T, I>::ALIGN)?;
        self.target.put_region(start, capacity)?;
        Ok(ListWriter { target: self.target, before, start, capacity, count: 0, exact, marker: PhantomData })
    }

    /// Writes the items of an iterator that knows its length, and completes the list.
    ///
    /// # Errors
    ///
    /// - Fails if an item cannot be written.
    /// - [`BuildError::TooFew`] or [`BuildError::ListFull`] if the iterator returns another number of items
    ///   than it announced.
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
    /// Calls `fill` with a slice of `count` zeros in the block, to be filled in any order, and completes the
    /// list.
    ///
    /// # Errors
    ///
    /// - [`BuildError::Misaligned`] at index widths u8 and u16, in unaligned blocks, and on big-endian
    ///   machines.
    /// - [`BuildError::NoRoom`] if the block has no room for the numbers.
    /// - [`BuildError::IndexOverflow`] if `count` does not fit into an index.
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

/// Writes the elements of a list, one after another.
pub struct ListWriter<'b, T, I: Index> {
    target: Target<'b, I>,
    /// The cursor before the list took room.
    before: usize,
    /// The offset of the first header.
    start: usize,
    capacity: usize,
    count: usize,
    exact: bool,
    marker: PhantomData<fn() -> T>,
}

impl<T, I: Index> fmt::Debug for ListWriter<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListWriter")
            .field("len", &self.count)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> ListWriter<'b, T, I> {
    /// Writes one element. After an error, the list is unchanged and can be continued.
    ///
    /// # Errors
    ///
    /// - [`BuildError::ListFull`] if the list has no room for another element.
    /// - Fails if the value cannot be written.
    #[inline]
    pub fn push(&mut self, value: impl ToFlat<T>) -> Result<(), BuildError> {
        let at = self.next()?;
        self.target.write_at::<T>(at, value)?;
        self.count += 1;
        Ok(())
    }

    /// The offset of the next header.
    #[inline]
    fn next(&self) -> Result<usize, BuildError> {
        if self.count == self.capacity {
            return Err(BuildError::ListFull { capacity: self.capacity });
        }
        Ok(self.start + self.count * Header::<T, I>::SIZE)
    }

    /// Writes one element and returns `true`, or returns `false` if the block, the index or the list is full.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be written for another reason: see [`BuildError::is_full`].
    #[inline]
    pub fn push_if_fits(&mut self, value: impl ToFlat<T>) -> Result<bool, BuildError> {
        match self.push(value) {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Builds one element in place. After an error, the list is unchanged and can be continued.
    ///
    /// # Errors
    ///
    /// - [`BuildError::ListFull`] if the list has no room for another element.
    /// - Returns the error of the closure.
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

    /// The offset at which the next element's data start, for [`ListWriter::take_back`].
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.target.cursor()
    }

    /// Removes the last element. `mark` is the value of [`ListWriter::mark`] before it was written.
    pub(crate) fn take_back(&mut self, mark: usize) {
        self.target.retract(mark);
        self.count -= 1;
    }

    /// The rest of the block, starting with the header of element `n`.
    #[inline]
    pub(crate) fn header(&self, n: usize) -> &[u8] {
        tail(self.target.block(), self.start + n * Header::<T, I>::SIZE)
    }

    /// The number of elements written so far.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no element has been written so far.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of elements for whose headers the list has room, including those written so far.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Writes several elements. After an error, the list must not be used.
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

    /// The end of the room for headers.
    #[inline]
    fn end(&self) -> usize {
        self.start + self.capacity * Header::<T, I>::SIZE
    }

    /// Writes several scalars in one piece: their bytes in memory are their headers.
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
    /// [`BuildError::TooFew`] if the list was started with [`ListBuilder::with_len`] and has fewer elements.
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

impl<T: Number, I: Index> ListWriter<'_, T, I> {
    /// Writes several numbers in one piece. After an error, the list is unchanged.
    ///
    /// # Errors
    ///
    /// [`BuildError::ListFull`] if the list has no room for all of them.
    #[inline]
    pub fn push_numbers(&mut self, values: &[T]) -> Result<(), BuildError> {
        self.push_bytes(values)
    }
}
