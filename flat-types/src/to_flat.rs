//! Ordinary Rust values that can be written as a flat type.

use crate::error::BuildError;
use crate::flat_type::{FlatType, Header};
use crate::index::Index;
use crate::schema::align_up;
use crate::target::{Finished, Place};

/// A value that can be written as a `T`, in one call: `str` as `String`, `[U]` as `Vec<T>` where `U` can be
/// written as `T`, a struct as itself, references to all of them. Views are written as what they are views of, so that
/// what was read goes into another message as it is; only views of newtypes cannot, and views with one among their
/// fields.
///
/// It can also be compared with a `T` that is read in place.
#[diagnostic::on_unimplemented(message = "`{Self}` cannot be written as a flat `{T}`")]
pub trait ToFlat<T: FlatType> {
    /// Writes the value. Does not allocate.
    fn write_to<'b, I: Index>(&self, place: Place<'b, T, I>) -> Result<Finished<'b>, BuildError>;

    /// Where the value's data end if they start at offset `cursor` or, aligned, right after it. `usize::MAX`
    /// where it would be more.
    fn end_after<I: Index>(&self, cursor: usize) -> usize;

    /// Whether `view` reads as this value. Does not allocate.
    fn matches<I: Index>(&self, view: T::View<'_, I>) -> bool;

    /// Writes `values` into the elements of a list that has room for them. Numbers are copied as one.
    #[doc(hidden)]
    #[inline]
    fn write_all<I: Index>(values: &[Self], list: &mut crate::ListItems<'_, T, I>) -> Result<(), BuildError>
    where
        Self: Sized,
    {
        list.push_all(values.iter())
    }

    /// Gives the text of a value that is written as a string.
    #[doc(hidden)]
    const TEXT: Option<fn(&Self) -> &str> = None;

    /// Whether the order of `Self`, if it has one, is that of the map keys that it is written as: a sorted map of
    /// such keys needs no look at their order when it is written.
    #[doc(hidden)]
    const IN_KEY_ORDER: bool = false;
}

/// Where a list's data end; see [`ToFlat::end_after`].
pub(crate) fn list_end<T, U, I>(values: impl ExactSizeIterator<Item = U>, cursor: usize) -> usize
where
    T: FlatType,
    U: ToFlat<T>,
    I: Index,
{
    let count = values.len();
    if count == 0 {
        return cursor;
    }
    let headers = count.saturating_mul(Header::<T, I>::SIZE);
    // usize::MAX is no multiple of any alignment but 1; what is not far below it is too much anyway.
    let start = if cursor > usize::MAX - 8 { usize::MAX } else { align_up(cursor, Header::<T, I>::ALIGN) };
    let end = start.saturating_add(headers);
    if Header::<T, I>::PLAIN { end } else { values.fold(end, |end, value| value.end_after::<I>(end)) }
}

impl<T: FlatType, U: ToFlat<T> + ?Sized> ToFlat<T> for &U {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, T, I>) -> Result<Finished<'b>, BuildError> {
        U::write_to(self, place)
    }

    #[inline]
    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        U::end_after::<I>(self, cursor)
    }

    #[inline]
    fn matches<I: Index>(&self, view: T::View<'_, I>) -> bool {
        U::matches(self, view)
    }

    const TEXT: Option<fn(&Self) -> &str> = match U::TEXT {
        Some(_) => Some(|value| U::TEXT.map_or("", |text| text(value))),
        None => None,
    };

    const IN_KEY_ORDER: bool = U::IN_KEY_ORDER;
}
