//! Building blocks of derived views that are written into another message.

use crate::error::BuildError;
use crate::flat_type::FlatType;
use crate::index::Index;
use crate::target::{Finished, Place};
use crate::to_flat::ToFlat;

/// A type whose views can be written: every type except newtypes, whose view belongs to the inner type.
///
/// Derived code uses this trait as a bound instead of `T::View<'a, J>: ToFlat<T>`, because the compiler
/// rejects a bound that it knows to be false.
pub trait Rewritable<'v, J: Index>: FlatType {
    /// Like [`ToFlat::write_to`] of the view.
    fn rewrite<'b, I: Index>(
        view: Self::View<'v, J>,
        place: Place<'b, Self, I>,
    ) -> Result<Finished<'b>, BuildError>;

    /// Like [`ToFlat::end_after`] of the view.
    fn rewritten_end<I: Index>(view: Self::View<'v, J>, cursor: usize) -> usize;

    /// Like [`ToFlat::matches`] of the view.
    fn rewritten_matches<I: Index>(view: Self::View<'v, J>, other: Self::View<'_, I>) -> bool;
}

impl<'v, T: FlatType, J: Index> Rewritable<'v, J> for T
where
    T::View<'v, J>: ToFlat<T>,
{
    #[inline]
    fn rewrite<'b, I: Index>(
        view: T::View<'v, J>,
        place: Place<'b, T, I>,
    ) -> Result<Finished<'b>, BuildError> {
        view.write_to(place)
    }

    #[inline]
    fn rewritten_end<I: Index>(view: T::View<'v, J>, cursor: usize) -> usize {
        view.end_after::<I>(cursor)
    }

    #[inline]
    fn rewritten_matches<I: Index>(view: T::View<'v, J>, other: T::View<'_, I>) -> bool {
        view.matches::<I>(other)
    }
}

/// The view of a `T`, which can be written as a `T`.
#[derive(Debug)]
pub struct Rewritten<'v, T: FlatType, J: Index>(pub T::View<'v, J>);

impl<'v, T: Rewritable<'v, J>, J: Index> ToFlat<T> for Rewritten<'v, T, J> {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, T, I>) -> Result<Finished<'b>, BuildError> {
        T::rewrite(self.0, place)
    }

    #[inline]
    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        T::rewritten_end::<I>(self.0, cursor)
    }

    #[inline]
    fn matches<I: Index>(&self, view: T::View<'_, I>) -> bool {
        T::rewritten_matches::<I>(self.0, view)
    }
}
