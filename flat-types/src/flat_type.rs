//! The trait that ties a Rust type to its layout.

use std::fmt;
use std::marker::PhantomData;

use crate::error::FlatError;
use crate::index::Index;
use crate::kinds::{Bits, Choice, ChoiceBuilder, RecordBuilder, RecordValidator, RecordView, ScalarBuilder};
use crate::schema::Type;
use crate::target::{Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// A Rust type whose values have a flat layout.
///
/// Implemented for `bool`, the integers and floats, `char`, [`String`], [`Vec`], tuples, [`Option`],
/// [`Result`] and [`BTreeMap`](std::collections::BTreeMap); for structs and enums use
/// `#[derive(Flat)]`.
///
/// # Safety
///
/// `validate` returns `Ok` only if `view` may read every byte that it will read, and if every string it will
/// return is UTF-8; `builder` and `validate` follow `TYPE`. Derive the trait instead of writing it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no flat layout",
    label = "no flat layout",
    note = "flat types are bool, u8 to u64, i8 to i64, f32, f64, char, String, Vec<T>, tuples, Option<T>, Result<T, E>, BTreeMap<K, V>, and types with #[derive(Flat)]"
)]
pub unsafe trait FlatType: Sized + ToFlat<Self> + 'static {
    /// What a reader gets: the value itself for scalars, `&str` for a string, a small `Copy` type that
    /// borrows the message for everything else. Several threads read a message at once.
    type View<'a, I: Index>: Copy + fmt::Debug + Send + Sync;

    /// What a writer fills. It is consumed by the calls that complete the value.
    type Builder<'b, I: Index>;

    /// The type as a value.
    const TYPE: &'static Type;

    /// Checks the value whose header starts at offset `at`; the header is known to lie within the message.
    #[doc(hidden)]
    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError>;

    /// Checks `count` values whose headers follow each other from offset `at` on.
    #[doc(hidden)]
    fn validate_all<I: Index>(
        validator: &mut Validator<'_, I>,
        at: usize,
        count: usize,
    ) -> Result<(), FlatError> {
        validator.each::<Self>(at, count)
    }

    /// Says what types the derive macro's code may go by: those of the crate that this trait belongs to, whatever the path
    /// through which the code has found them. It never runs.
    #[doc(hidden)]
    fn derived<'a, I: Index, const N: usize>(_: Derived<'a, Self, I, N>) {}

    /// Reads a value.
    ///
    /// # Safety
    ///
    /// `bytes` is the rest of a message from this value's header on, and `validate` accepted the value.
    #[doc(hidden)]
    unsafe fn view<I: Index>(bytes: &[u8]) -> Self::View<'_, I>;

    #[doc(hidden)]
    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I>;

    /// The value as an ordinary Rust value. Allocates where the Rust type does.
    fn from_view<I: Index>(view: Self::View<'_, I>) -> Self;

    /// Serializes a view as serde's data model has it.
    #[cfg(feature = "serde")]
    #[doc(hidden)]
    fn serialize<I: Index, S: serde::Serializer>(
        view: Self::View<'_, I>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>;
}

/// A function of everything that the derive macro's code makes use of unsafely.
#[doc(hidden)]
pub type Derived<'a, T, I, const N: usize> = fn(
    Validator<'a, I>,
    Target<'a, I>,
    Place<'a, T, I>,
    RecordView<'a, T, I>,
    RecordBuilder<'a, T, I, N>,
    RecordValidator<'a, 'a, T, I>,
    Choice<T, I>,
    ChoiceBuilder<'a, T, I>,
    Bits<T, I>,
    ScalarBuilder<'a, T, I>,
);

/// Size and alignment of `T`'s header at index width `I`, as constants.
#[derive(Debug)]
pub(crate) struct Header<T, I>(PhantomData<(T, I)>);

impl<T: FlatType, I: Index> Header<T, I> {
    /// Bytes of a header.
    pub(crate) const SIZE: usize = T::TYPE.layout(I::WIDTH).size;
    /// Alignment of a header.
    pub(crate) const ALIGN: usize = T::TYPE.layout(I::WIDTH).align;
    /// Whether a value is its header alone.
    pub(crate) const PLAIN: bool = T::TYPE.is_plain();
}

/// The rest of `bytes` from `offset` on; empty if there is none. A validated value has it.
#[inline]
pub(crate) fn tail(bytes: &[u8], offset: usize) -> &[u8] {
    bytes.get(offset..).unwrap_or_default()
}

/// The first `N` bytes; zeros if there are fewer. A validated value has them.
#[inline]
pub(crate) fn head<const N: usize>(bytes: &[u8]) -> [u8; N] {
    match bytes.first_chunk() {
        Some(chunk) => *chunk,
        None => [0; N],
    }
}
