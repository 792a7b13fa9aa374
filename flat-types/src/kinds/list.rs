//! `list<T>`: elements whose headers lie side by side. The view has random access.

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

// SAFETY: the region of the elements is within the message, and each of them was validated.
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
        ListView { elements: tail(bytes, delta), count, kind: PhantomData }
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

/// A list that is read in place.
///
/// Reading an element costs the same wherever it is and however many there are; nothing is allocated, and
/// nothing panics.
pub struct ListView<'a, T, I> {
    /// The message from the first element's header on. The type's invariant: `count` validated values of `T`
    /// have their headers there.
    elements: &'a [u8],
    count: usize,
    kind: PhantomData<fn() -> (T, I)>,
}

impl<T, I> Clone for ListView<'_, T, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, I> Copy for ListView<'_, T, I> {}

impl<'a, T: FlatType, I: Index> ListView<'a, T, I> {
    /// Number of elements.
    #[inline]
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Element `n`, counted from 0; `None` past the end.
    #[inline]
    pub fn get(self, n: usize) -> Option<T::View<'a, I>> {
        if n < self.count { Some(self.element(n)) } else { None }
    }

    /// The message from the header of element `n` on.
    #[inline]
    pub(crate) fn header(self, n: usize) -> &'a [u8] {
        tail(self.elements, n * Header::<T, I>::SIZE)
    }

    /// Element `n`, which is below the count.
    #[inline]
    fn element(self, n: usize) -> T::View<'a, I> {
        let bytes = self.header(n);
        // SAFETY: the elements are validated, and `n` is one of them.
        unsafe { T::view(bytes) }
    }

    /// The first element.
    pub fn first(self) -> Option<T::View<'a, I>> {
        self.get(0)
    }

    /// The last element.
    pub fn last(self) -> Option<T::View<'a, I>> {
        self.get(self.count.wrapping_sub(1))
    }

    /// The elements from `range.start` on and before `range.end`; `None` if there are not that many.
    pub fn range(self, range: Range<usize>) -> Option<ListView<'a, T, I>> {
        if range.start > range.end || range.end > self.count {
            return None;
        }
        Some(ListView { elements: self.header(range.start), count: range.len(), kind: PhantomData })
    }

    /// The elements in order.
    #[inline]
    pub fn iter(self) -> ListIter<'a, T, I> {
        ListIter { list: self, next: 0, end: self.count }
    }

    /// The elements as ordinary Rust values. Allocates.
    pub fn to_vec(self) -> Vec<T> {
        self.iter().map(T::from_view::<I>).collect()
    }
}

impl<'a, T: Number, I: Index> ListView<'a, T, I> {
    /// The numbers as a slice of the message itself, without a copy.
    ///
    /// `None` if they are not aligned in memory, which at index width u32 happens only if the message itself is
    /// not, and on machines that store numbers with the highest byte first; use [`ListView::iter`] there.
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

/// The elements of a list in order.
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

/// A list of another message, which may have another index width, is written as a list of its own: nothing is made of
/// it in between.
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

/// An iterator that knows its length, to be written as a list: `Items(words.iter().map(|word| word.len() as u32))`.
///
/// It is cloned for every pass: one to write, one for the length.
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
