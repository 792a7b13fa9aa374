//! Ordinary Rust values that can be written as a flat type.

use std::fmt;
use std::marker::PhantomData;

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

    /// How to get the text of a value that is written as a string. Only this crate can say so.
    #[doc(hidden)]
    const TEXT: Option<Text<T, Self>> = None;

    /// That the order of `Self` is the order of the map keys that it is written as, so that nobody needs to compare
    /// the keys of a sorted map when it is written. Only this crate can say so.
    #[doc(hidden)]
    const KEY_ORDER: Option<KeyOrder<T, Self>> = None;
}

/// The text of a `U`, all of which a `T` consists of.
///
/// ```compile_fail,E0308
/// # use blockcast_flat_types::*;
/// #[derive(Flat, Clone, Copy, Debug)]
/// enum Sign { Plus, Minus }
///
/// impl ToFlat<Sign> for String {
///     const TEXT: Option<Text<Sign, String>> = <String as ToFlat<String>>::TEXT; // a string's, not a sign's
/// #   fn write_to<'b, I: Index>(&self, place: Place<'b, Sign, I>) -> Result<Finished<'b>, BuildError> {
/// #       Sign::Plus.write_to(place)
/// #   }
/// #   fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
/// #   fn matches<I: Index>(&self, _: Sign) -> bool { false }
/// }
/// # use blockcast_flat_types::derived::Text;
/// ```
/// Without it:
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
///
/// Lists of strings are written by it without a call per element. A `Text` is a promise that `T` is laid out as a
/// string, which is why nobody else can make one, and why it is of use for this `T` and this `U` alone.
#[doc(hidden)]
pub struct Text<T, U: ?Sized> {
    of: fn(&U) -> &str,
    kind: PhantomData<fn() -> T>,
}

impl<U: ?Sized> Text<String, U> {
    /// `of` returns what is written.
    pub(crate) const fn new(of: fn(&U) -> &str) -> Self {
        Text { of, kind: PhantomData }
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

/// The promise that values of `U` are ordered as the keys `T` that they are written as.
///
/// ```compile_fail,E0308
/// # use blockcast_flat_types::*;
/// # use blockcast_flat_types::derived::KeyOrder;
/// #[derive(PartialEq, Eq, PartialOrd, Ord)]
/// struct Reversed(std::cmp::Reverse<u32>);
///
/// impl ToFlat<u32> for Reversed {
///     const KEY_ORDER: Option<KeyOrder<u32, Reversed>> = <u32 as ToFlat<u32>>::KEY_ORDER; // of numbers only
/// #   fn write_to<'b, I: Index>(&self, place: Place<'b, u32, I>) -> Result<Finished<'b>, BuildError> {
/// #       self.0.0.write_to(place)
/// #   }
/// #   fn end_after<I: Index>(&self, cursor: usize) -> usize { cursor }
/// #   fn matches<I: Index>(&self, view: u32) -> bool { self.0.0 == view }
/// }
/// ```
/// Without it an order that is not the keys' is found:
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
    pub(crate) const KEPT: Option<Self> = Some(KeyOrder(PhantomData));
}

impl<T, U: ?Sized> fmt::Debug for KeyOrder<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOrder")
    }
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

    const TEXT: Option<Text<T, Self>> = match U::TEXT {
        Some(_) => Some(Text { of: |value| U::TEXT.map_or("", |text| (text.of)(value)), kind: PhantomData }),
        None => None,
    };

    const KEY_ORDER: Option<KeyOrder<T, Self>> = match U::KEY_ORDER {
        Some(_) => KeyOrder::KEPT,
        None => None,
    };
}
