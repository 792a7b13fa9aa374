//! The trait of values that can be written as a flat type.

use std::fmt;
use std::marker::PhantomData;

use crate::error::BuildError;
use crate::flat_type::{FlatType, Header};
use crate::index::Index;
use crate::schema::align_up;
use crate::target::{Finished, Place};

/// A value that can be written as a `T` in one call, and compared with a `T` that is read in place.
///
/// `str` is written as `String`, `[U]` as `Vec<T>` if `U` can be written as `T`, and a struct as itself.
/// References to such values and views of them can be written too, so a value can be copied from one message
/// into another. Exceptions are views of newtypes, and views of types that contain newtypes.
#[diagnostic::on_unimplemented(message = "`{Self}` cannot be written as a flat `{T}`")]
pub trait ToFlat<T: FlatType> {
    /// Writes the value to `place`. Does not allocate.
    ///
    /// # Errors
    ///
    /// Fails if the block has no room for the value, or if the value does not fit the index type.
    fn write_to<'b, I: Index>(&self, place: Place<'b, T, I>) -> Result<Finished<'b>, BuildError>;

    /// The offset at which the value's data end if the data before them end at `cursor`, or `usize::MAX` if
    /// it exceeds that. Both are in bytes from the message's start.
    fn end_after<I: Index>(&self, cursor: usize) -> usize;

    /// Whether `view` equals this value. Does not allocate.
    fn matches<I: Index>(&self, view: T::View<'_, I>) -> bool;

    /// Appends `values` to a list. Copies numbers in one piece.
    #[doc(hidden)]
    #[inline]
    fn write_all<I: Index>(values: &[Self], list: &mut crate::ListWriter<'_, T, I>) -> Result<(), BuildError>
    where
        Self: Sized,
    {
        list.push_all(values.iter())
    }

    /// The text of a value that is written as a string. Only this crate can set it.
    #[doc(hidden)]
    const TEXT: Option<Text<T, Self>> = None;

    /// Set if values of `Self` have the same order as the map keys that they are written as. Then a sorted
    /// map is written without comparing its keys. Only this crate can set it.
    #[doc(hidden)]
    const KEY_ORDER: Option<KeyOrder<T, Self>> = None;
}

/// A function that returns the text of a `U`, and the proof that `T` is laid out as a string.
///
/// With it, lists of strings are written without a call per element. Only this crate can construct it, and it
/// is bound to its `T` and `U`:
///
/// ```compile_fail,E0308
/// # use blockcast_flat_types::*;
/// #[derive(Flat, Clone, Copy, Debug)]
/// enum Sign { Plus, Minus }
///
/// impl ToFlat<Sign> for String {
///     const TEXT: Option<Text<Sign, String>> = <String as ToFlat<String>>::TEXT; // of a string, not of a sign
/// #   fn write_to<'b, I: Index>(&self, place: Place<'b, Sign, I>) -> Result<Finished<'b>, BuildError> {
/// #       Sign::Plus.write_to(place)
/// #   }
/// #   fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
/// #   fn matches<I: Index>(&self, _: Sign) -> bool { false }
/// }
/// # use blockcast_flat_types::derived::Text;
/// ```
/// Without `TEXT`, the implementation works:
/// ```
/// # use blockcast_flat_types::*;
/// #[derive(Flat, Clone, Copy, Debug, PartialEq)]
/// enum Sign { Plus, Minus }
///
/// impl ToFlat<Sign> for String {
///     fn write_to<'b, I: Index>(&self, place: Place<'b, Sign, I>) -> Result<Finished<'b>, BuildError> {
///         if self == "+" { Sign::Plus.write_to(place) } else { Sign::Minus.write_to(place) }
///     }
///     fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
///     fn matches<I: Index>(&self, _: Sign) -> bool { false }
/// }
/// let bytes = Flat::<Vec<Sign>>::to_vec(vec!["+".to_owned()])?;
/// assert_eq!(Flat::<Vec<Sign>>::read(&bytes)?, [Sign::Plus]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(hidden)]
pub struct Text<T, U: ?Sized> {
    of: fn(&U) -> &str,
    marker: PhantomData<fn() -> T>,
}

impl<U: ?Sized> Text<String, U> {
    /// `of` returns the text that is written for a value.
    pub(crate) const fn new(of: fn(&U) -> &str) -> Self {
        Text { of, marker: PhantomData }
    }
}

impl<T, U: ?Sized> Text<T, U> {
    /// The function that returns the text.
    #[inline]
    pub(crate) const fn of(&self) -> fn(&U) -> &str {
        self.of
    }
}

impl<T, U: ?Sized> fmt::Debug for Text<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text")
    }
}

/// The proof that values of `U` have the same order as the map keys of type `T` that they are written as.
///
/// Only this crate can construct it, and it is bound to its `T` and `U`:
///
/// ```compile_fail,E0308
/// # use blockcast_flat_types::*;
/// # use blockcast_flat_types::derived::KeyOrder;
/// #[derive(PartialEq, Eq, PartialOrd, Ord)]
/// struct Reversed(std::cmp::Reverse<u32>);
///
/// impl ToFlat<u32> for Reversed {
///     const KEY_ORDER: Option<KeyOrder<u32, Reversed>> = <u32 as ToFlat<u32>>::KEY_ORDER; // of `u32` only
/// #   fn write_to<'b, I: Index>(&self, place: Place<'b, u32, I>) -> Result<Finished<'b>, BuildError> {
/// #       self.0.0.write_to(place)
/// #   }
/// #   fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
/// #   fn matches<I: Index>(&self, view: u32) -> bool { self.0.0 == view }
/// }
/// ```
/// Without it, writing a map compares its keys, and a different order is an error:
/// ```
/// # use blockcast_flat_types::*;
/// #[derive(PartialEq, Eq, PartialOrd, Ord)]
/// struct Reversed(std::cmp::Reverse<u32>);
///
/// impl ToFlat<u32> for Reversed {
///     fn write_to<'b, I: Index>(&self, place: Place<'b, u32, I>) -> Result<Finished<'b>, BuildError> {
///         self.0.0.write_to(place)
///     }
///     fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
///     fn matches<I: Index>(&self, view: u32) -> bool { self.0.0 == view }
/// }
/// let map: std::collections::BTreeMap<_, _> = (1..3).map(|n| (Reversed(std::cmp::Reverse(n)), n)).collect();
/// type Numbers = Flat<std::collections::BTreeMap<u32, u32>>;
/// assert_eq!(Numbers::to_vec(map), Err(BuildError::KeyOrder));
/// ```
#[doc(hidden)]
pub struct KeyOrder<T, U: ?Sized>(PhantomData<fn(&U) -> T>);

impl<T, U: ?Sized> KeyOrder<T, U> {
    pub(crate) const PRESERVED: Option<Self> = Some(KeyOrder(PhantomData));
}

impl<T, U: ?Sized> fmt::Debug for KeyOrder<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOrder")
    }
}

/// The offset at which a list's data end. See [`ToFlat::end_after`].
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
    // Rounding up close to `usize::MAX` would overflow. No message is that long.
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

    const TEXT: Option<Text<T, Self>> = match U::TEXT {
        Some(_) => {
            Some(Text { of: |value| U::TEXT.map_or("", |text| (text.of)(value)), marker: PhantomData })
        }
        None => None,
    };

    const KEY_ORDER: Option<KeyOrder<T, Self>> = match U::KEY_ORDER {
        Some(_) => KeyOrder::PRESERVED,
        None => None,
    };
}
