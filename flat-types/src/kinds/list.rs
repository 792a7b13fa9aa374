//! `list<T>`: elements whose headers are adjacent. Its view has random access.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Range;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::kinds::{ListBuilder, Number};
use crate::schema::Type;
use crate::target::{Finished, Place, Target};
use crate::to_flat::{ToFlat, list_end};
use crate::validator::Validator;

// SAFETY: `validate` checks that the region of the elements is in the message, and validates each of them.
unsafe impl<T: FlatType> FlatType for Vec<T> {
    type View<'a, I: Index> = ListView<'a, T, I>;
    type Builder<'b, I: Index> = ListBuilder<'b, T, I>;
    const TYPE: &'static Type = &Type::List(T::TYPE);

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        let region = validator.region(at, Header::<T, I>::SIZE, Header::<T, I>::ALIGN)?;
        T::validate_all(validator, region.start, region.count)
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> ListView<'_, T, I> {
        let (delta, count) = I::read_pair(bytes);
        ListView { elements: tail(bytes, delta), count, marker: PhantomData }
    }

    #[inline]
    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        ListBuilder::new(target)
    }

    fn from_view<I: Index>(view: ListView<'_, T, I>) -> Vec<T> {
        view.to_vec()
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(
        view: ListView<'_, T, I>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&view, serializer)
    }
}

/// A list, read in place.
///
/// Reading an element takes constant time, and neither allocates nor panics.
pub struct ListView<'a, T, I> {
    /// The rest of the message, starting with the first element's header. Invariant: it starts with the
    /// headers of `count` validated values of `T`.
    elements: &'a [u8],
    count: usize,
    marker: PhantomData<fn() -> (T, I)>,
}

impl<T, I> Clone for ListView<'_, T, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, I> Copy for ListView<'_, T, I> {}

impl<'a, T: FlatType, I: Index> ListView<'a, T, I> {
    /// The number of elements.
    #[inline]
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether the list has no elements.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Returns element `n`, counted from 0, or `None` past the end.
    #[inline]
    pub fn get(self, n: usize) -> Option<T::View<'a, I>> {
        if n < self.count { Some(self.element(n)) } else { None }
    }

    /// The rest of the message, starting with the header of element `n`.
    #[inline]
    pub(crate) fn header(self, n: usize) -> &'a [u8] {
        tail(self.elements, n * Header::<T, I>::SIZE)
    }

    /// Returns element `n`, which is less than the count.
    #[inline]
    fn element(self, n: usize) -> T::View<'a, I> {
        let bytes = self.header(n);
        // SAFETY: by the type's invariant, the header of a validated element is there.
        unsafe { T::view(bytes) }
    }

    /// Returns the first element, if there is one.
    pub fn first(self) -> Option<T::View<'a, I>> {
        self.get(0)
    }

    /// Returns the last element, if there is one.
    pub fn last(self) -> Option<T::View<'a, I>> {
        self.get(self.count.wrapping_sub(1))
    }

    /// Returns the elements of a range as a list, or `None` if the range exceeds the list.
    pub fn range(self, range: Range<usize>) -> Option<ListView<'a, T, I>> {
        if range.start > range.end || range.end > self.count {
            return None;
        }
        Some(ListView { elements: self.header(range.start), count: range.len(), marker: PhantomData })
    }

    /// Iterates over the elements in order.
    #[inline]
    pub fn iter(self) -> ListIter<'a, T, I> {
        ListIter { list: self, next: 0, end: self.count }
    }

    /// Copies the elements into ordinary Rust values. Allocates.
    pub fn to_vec(self) -> Vec<T> {
        self.iter().map(T::from_view::<I>).collect()
    }
}

impl<'a, T: Number, I: Index> ListView<'a, T, I> {
    /// Returns the numbers as a slice of the message, without a copy.
    ///
    /// Returns `None` on big-endian machines, and if the numbers are not aligned in memory. At index width
    /// u32, they are aligned if the message is. Use [`ListView::iter`] instead.
    #[inline]
    pub fn as_slice(self) -> Option<&'a [T]> {
        if self.count == 0 {
            return Some(&[]);
        }
        if cfg!(target_endian = "big") && size_of::<T>() > 1 {
            return None;
        }
        let bytes = self.elements.get(..self.count.checked_mul(size_of::<T>())?)?;
        bytemuck::try_cast_slice(bytes).ok()
    }
}

impl<T: FlatType, I: Index> fmt::Debug for ListView<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

impl<'a, T: FlatType, I: Index> IntoIterator for ListView<'a, T, I> {
    type Item = T::View<'a, I>;
    type IntoIter = ListIter<'a, T, I>;

    #[inline]
    fn into_iter(self) -> ListIter<'a, T, I> {
        self.iter()
    }
}

impl<'a, T, I> PartialEq for ListView<'a, T, I>
where
    T: FlatType,
    I: Index,
    T::View<'a, I>: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(*other)
    }
}

impl<T: FlatType, I: Index, U: ToFlat<T>> PartialEq<[U]> for ListView<'_, T, I> {
    fn eq(&self, other: &[U]) -> bool {
        self.count == other.len() && self.iter().zip(other).all(|(view, value)| value.matches::<I>(view))
    }
}

impl<T: FlatType, I: Index, U: ToFlat<T>> PartialEq<&[U]> for ListView<'_, T, I> {
    fn eq(&self, other: &&[U]) -> bool {
        *self == **other
    }
}

impl<T: FlatType, I: Index, U: ToFlat<T>, const N: usize> PartialEq<[U; N]> for ListView<'_, T, I> {
    fn eq(&self, other: &[U; N]) -> bool {
        *self == *other.as_slice()
    }
}

impl<T: FlatType, I: Index, U: ToFlat<T>> PartialEq<Vec<U>> for ListView<'_, T, I> {
    fn eq(&self, other: &Vec<U>) -> bool {
        *self == *other.as_slice()
    }
}

/// An iterator over the elements of a list.
pub struct ListIter<'a, T, I> {
    list: ListView<'a, T, I>,
    next: usize,
    end: usize,
}

impl<T, I> Clone for ListIter<'_, T, I> {
    fn clone(&self) -> Self {
        ListIter { ..*self }
    }
}

impl<T: FlatType, I: Index> fmt::Debug for ListIter<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a, T: FlatType, I: Index> Iterator for ListIter<'a, T, I> {
    type Item = T::View<'a, I>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let element = self.list.element(self.next);
        self.next += 1;
        Some(element)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.next = self.next.saturating_add(n).min(self.end);
        self.next()
    }
}

impl<T: FlatType, I: Index> DoubleEndedIterator for ListIter<'_, T, I> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        self.end -= 1;
        Some(self.list.element(self.end))
    }
}

impl<T: FlatType, I: Index> ExactSizeIterator for ListIter<'_, T, I> {}
impl<T: FlatType, I: Index> FusedIterator for ListIter<'_, T, I> {}

impl<T: FlatType, U: ToFlat<T>> ToFlat<Vec<T>> for [U] {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, Vec<T>, I>) -> Result<Finished<'b>, BuildError> {
        let mut list = place.builder().with_len(self.len())?;
        U::write_all(self, &mut list)?;
        list.finish()
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        list_end::<T, _, I>(self.iter(), cursor)
    }

    fn matches<I: Index>(&self, view: ListView<'_, T, I>) -> bool {
        view == *self
    }
}

impl<T: FlatType, U: ToFlat<T>, const N: usize> ToFlat<Vec<T>> for [U; N] {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, Vec<T>, I>) -> Result<Finished<'b>, BuildError> {
        self.as_slice().write_to(place)
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        self.as_slice().end_after::<I>(cursor)
    }

    fn matches<I: Index>(&self, view: ListView<'_, T, I>) -> bool {
        view == *self
    }
}

macro_rules! slices {
    ($($type:ty),+) => { $(
        impl<T: FlatType, U: ToFlat<T>> ToFlat<Vec<T>> for $type {
            #[inline]
            fn write_to<'b, I: Index>(&self, place: Place<'b, Vec<T>, I>) -> Result<Finished<'b>, BuildError> {
                (**self).write_to(place)
            }

            fn end_after<I: Index>(&self, cursor: usize) -> usize {
                (**self).end_after::<I>(cursor)
            }

            fn matches<I: Index>(&self, view: ListView<'_, T, I>) -> bool {
                view == **self
            }
        }
    )+ };
}

slices!(Vec<U>, Box<[U]>, std::sync::Arc<[U]>);

/// Writes a list of another message, which can have another index width, without an intermediate copy.
impl<'v, T, J> ToFlat<Vec<T>> for ListView<'v, T, J>
where
    T: FlatType,
    J: Index,
    T::View<'v, J>: ToFlat<T>,
{
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, Vec<T>, I>) -> Result<Finished<'b>, BuildError> {
        place.builder().items(*self)
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        list_end::<T, _, I>(self.iter(), cursor)
    }

    fn matches<I: Index>(&self, view: ListView<'_, T, I>) -> bool {
        self.len() == view.len() && view.iter().zip(*self).all(|(view, value)| value.matches::<I>(view))
    }
}

/// Writes the items of an iterator as a list: `Items(words.iter().map(|word| word.len() as u32))`.
///
/// The iterator knows its length. It is cloned for every pass: one for the message's length and one for
/// writing.
#[derive(Clone, Debug)]
pub struct Items<It>(pub It);

impl<T, It> ToFlat<Vec<T>> for Items<It>
where
    T: FlatType,
    It: ExactSizeIterator + Clone,
    It::Item: ToFlat<T>,
{
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, Vec<T>, I>) -> Result<Finished<'b>, BuildError> {
        place.builder().items(self.0.clone())
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        list_end::<T, _, I>(self.0.clone(), cursor)
    }

    fn matches<I: Index>(&self, view: ListView<'_, T, I>) -> bool {
        let values = self.0.clone();
        values.len() == view.len() && view.iter().zip(values).all(|(view, value)| value.matches::<I>(view))
    }
}
