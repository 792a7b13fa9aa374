//! The trait of Rust types that have a flat layout.

use std::fmt;
use std::marker::PhantomData;

use crate::error::FlatError;
use crate::index::Index;
use crate::kinds::{
    Bits, RecordBuilder, RecordValidator, RecordView, ScalarBuilder, Variant, VariantBuilder,
};
use crate::schema::Type;
use crate::target::{Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// A Rust type whose values have a flat layout.
///
/// Implemented for `bool`, integers up to 64 bits, floats, `char`, [`String`], [`Vec`], tuples, [`Option`],
/// [`Result`] and [`BTreeMap`](std::collections::BTreeMap). Use `#[derive(Flat)]` for structs and enums.
///
/// # Safety
///
/// If `validate` returns `Ok`, then all bytes that `view` and its results read are in the message, and all
/// strings that they return are UTF-8. `builder` and `validate` follow `TYPE`. Derive the trait instead of
/// implementing it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no flat layout",
    label = "no flat layout",
    note = "flat types are bool, u8 to u64, i8 to i64, f32, f64, char, String, Vec<T>, tuples, Option<T>, Result<T, E>, BTreeMap<K, V>, and types with #[derive(Flat)]"
)]
pub unsafe trait FlatType: Sized + ToFlat<Self> + 'static {
    /// The type with which a value is read in place: the value itself for scalars, `&str` for a string,
    /// otherwise a small type that borrows the message. Several threads can read a message at the same time.
    type View<'a, I: Index>: Copy + fmt::Debug + Send + Sync;

    /// The type with which a value is written in place. The call that completes the value consumes it.
    type Builder<'b, I: Index>;

    /// This type as a constant, from which its layout, fingerprint and WIT text follow.
    const TYPE: &'static Type;

    /// Checks the value whose header starts at offset `at`. The caller has checked that the header is in the
    /// message.
    #[doc(hidden)]
    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError>;

    /// Checks `count` values whose headers follow each other, starting at offset `at`.
    #[doc(hidden)]
    fn validate_all<I: Index>(
        validator: &mut Validator<'_, I>,
        at: usize,
        count: usize,
    ) -> Result<(), FlatError> {
        validator.each::<Self>(at, count)
    }

    /// Fails to compile if derived code uses building blocks that are not those of this crate, because its
    /// path leads elsewhere. Never runs.
    #[doc(hidden)]
    fn derived<'a, I: Index, const N: usize>(_: Derived<'a, Self, I, N>) {}

    /// Returns the view of a value.
    ///
    /// # Safety
    ///
    /// `bytes` is the rest of a message, starting with this value's header, and `validate` accepted the
    /// value.
    #[doc(hidden)]
    unsafe fn view<I: Index>(bytes: &[u8]) -> Self::View<'_, I>;

    /// Returns a builder that writes the value to `target`.
    #[doc(hidden)]
    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I>;

    /// Copies a view into an ordinary Rust value. Allocates strings, lists and maps.
    fn from_view<I: Index>(view: Self::View<'_, I>) -> Self;

    /// Serializes a view with serde.
    #[cfg(feature = "serde")]
    #[doc(hidden)]
    fn serialize<I: Index, S: serde::Serializer>(
        view: Self::View<'_, I>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>;
}

/// A function whose parameters are all the types on which the unsafe part of derived code relies.
#[doc(hidden)]
pub type Derived<'a, T, I, const N: usize> = fn(
    Validator<'a, I>,
    Target<'a, I>,
    Place<'a, T, I>,
    RecordView<'a, T, I>,
    RecordBuilder<'a, T, I, N>,
    RecordValidator<'a, 'a, T, I>,
    Variant<T, I>,
    VariantBuilder<'a, T, I>,
    Bits<T, I>,
    ScalarBuilder<'a, T, I>,
);

/// The size and alignment of `T`'s header at index width `I`, as constants.
#[derive(Debug)]
pub(crate) struct Header<T, I>(PhantomData<(T, I)>);

impl<T: FlatType, I: Index> Header<T, I> {
    /// The size in bytes.
    pub(crate) const SIZE: usize = T::TYPE.layout(I::WIDTH).size;
    /// The alignment in bytes.
    pub(crate) const ALIGN: usize = T::TYPE.layout(I::WIDTH).align;
    /// Whether a value consists only of its header.
    pub(crate) const PLAIN: bool = T::TYPE.is_plain();
}

// In this file, so that the validator does not depend on the trait.
impl<I: Index> Validator<'_, I> {
    /// Checks `count` values whose headers follow each other, starting at offset `at`.
    #[inline]
    pub fn each<T: FlatType>(&mut self, at: usize, count: usize) -> Result<(), FlatError> {
        for n in 0..count {
            T::validate(self, at + n * Header::<T, I>::SIZE)?;
        }
        Ok(())
    }
}

/// The rest of `bytes` after `offset`, or nothing if `bytes` is shorter. In a validated value, it never is.
#[inline]
pub(crate) fn tail(bytes: &[u8], offset: usize) -> &[u8] {
    bytes.get(offset..).unwrap_or_default()
}

/// The first `N` bytes, or zeros if `bytes` is shorter. In a validated value, it never is.
#[inline]
pub(crate) fn head<const N: usize>(bytes: &[u8]) -> [u8; N] {
    match bytes.first_chunk() {
        Some(chunk) => *chunk,
        None => [0; N],
    }
}
