//! Scalars: bool, integers, floats and char. Their view is the value itself.

use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, head};
use crate::index::Index;
use crate::kinds::ListWriter;
use crate::schema::Type;
use crate::target::{Finished, Place, Target};
use crate::to_flat::{KeyOrder, ToFlat};
use crate::validator::Validator;

/// Writes a scalar.
#[derive(Debug)]
pub struct ScalarBuilder<'b, T, I: Index> {
    target: Target<'b, I>,
    scalar: PhantomData<T>,
}

impl<'b, T, I: Index> ScalarBuilder<'b, T, I> {
    /// Starts writing to `target`.
    #[doc(hidden)]
    pub fn new(target: Target<'b, I>) -> Self {
        ScalarBuilder { target, scalar: PhantomData }
    }

    pub(crate) fn put<const N: usize>(mut self, bytes: [u8; N]) -> Result<Finished<'b>, BuildError> {
        self.target.put(0, bytes)?;
        Ok(self.target.finish())
    }
}

impl<'b, T: FlatType, I: Index> ScalarBuilder<'b, T, I> {
    /// Writes the value and completes it.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if the block is too small.
    pub fn set(self, value: impl ToFlat<T>) -> Result<Finished<'b>, BuildError> {
        value.write_to(Place::new(self.target))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// An integer or float. Every bit pattern is a valid value, so lists of them can be read as slices.
pub trait Number: FlatType + Copy + bytemuck::Pod + sealed::Sealed {}

/// The items of `FlatType` that are the same for all scalars.
macro_rules! scalar_items {
    ($type:ty, $kind:ident) => {
        type View<'a, I: Index> = $type;
        type Builder<'b, I: Index> = ScalarBuilder<'b, $type, I>;
        const TYPE: &'static Type = &Type::$kind;

        #[inline]
        fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
            ScalarBuilder::new(target)
        }

        #[inline]
        fn from_view<I: Index>(view: $type) -> $type {
            view
        }

        #[cfg(feature = "serde")]
        fn serialize<I: Index, S: serde::Serializer>(view: $type, serializer: S) -> Result<S::Ok, S::Error> {
            serde::Serialize::serialize(&view, serializer)
        }
    };
}

/// Implements `ToFlat` for a scalar whose bytes in a message are `$bytes`.
macro_rules! scalar_to_flat {
    ($type:ty, |$value:ident| $bytes:expr) => {
        impl ToFlat<$type> for $type {
            #[inline]
            fn write_to<'b, I: Index>(&self, place: Place<'b, $type, I>) -> Result<Finished<'b>, BuildError> {
                let $value = *self;
                place.builder().put($bytes)
            }

            #[inline]
            fn end_after<I: Index>(&self, cursor: usize) -> usize {
                cursor
            }

            #[inline]
            fn matches<I: Index>(&self, view: $type) -> bool {
                *self == view
            }

            #[inline]
            fn write_all<I: Index>(
                values: &[$type],
                list: &mut ListWriter<'_, $type, I>,
            ) -> Result<(), BuildError> {
                list.push_bytes(values)
            }

            const KEY_ORDER: Option<KeyOrder<$type, $type>> = KeyOrder::PRESERVED;
        }
    };
}

macro_rules! numbers {
    ($($type:ty => $kind:ident),+) => { $(
        impl sealed::Sealed for $type {}
        impl Number for $type {}

        // SAFETY: `view` reads the number's own bytes through a checked slice.
        unsafe impl FlatType for $type {
            scalar_items!($type, $kind);

            #[inline]
            fn validate<I: Index>(_: &mut Validator<'_, I>, _: usize) -> Result<(), FlatError> {
                Ok(())
            }

            #[inline]
            fn validate_all<I: Index>(_: &mut Validator<'_, I>, _: usize, _: usize) -> Result<(), FlatError> {
                Ok(())
            }

            #[inline]
            unsafe fn view<I: Index>(bytes: &[u8]) -> $type {
                <$type>::from_le_bytes(head(bytes))
            }
        }

        scalar_to_flat!($type, |number| number.to_le_bytes());
    )+ };
}

numbers!(u8 => U8, u16 => U16, u32 => U32, u64 => U64);
numbers!(i8 => S8, i16 => S16, i32 => S32, i64 => S64);
numbers!(f32 => F32, f64 => F64);

// SAFETY: `view` reads the bool's own byte through a checked slice.
unsafe impl FlatType for bool {
    scalar_items!(bool, Bool);

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        validator.discriminant(at, 2).map(|_| ())
    }

    fn validate_all<I: Index>(
        validator: &mut Validator<'_, I>,
        at: usize,
        count: usize,
    ) -> Result<(), FlatError> {
        let bytes = validator.bytes().get(at..at + count).unwrap_or_default();
        // A fold without an early exit can be vectorized. If there is an error, the line below the `if` finds
        // its offset.
        if bytes.iter().fold(0, |all, byte| all | byte) <= 1 {
            return Ok(());
        }
        (0..count).try_for_each(|n| Self::validate(validator, at + n))
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> bool {
        head::<1>(bytes) != [0]
    }
}

scalar_to_flat!(bool, |flag| [u8::from(flag)]);

// SAFETY: `view` reads the char's own bytes through a checked slice.
unsafe impl FlatType for char {
    scalar_items!(char, Char);

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        let value = u32::from_le_bytes(validator.read(at)?);
        char::from_u32(value).map(|_| ()).ok_or(FlatError::Char { at, value })
    }

    fn validate_all<I: Index>(
        validator: &mut Validator<'_, I>,
        at: usize,
        count: usize,
    ) -> Result<(), FlatError> {
        let bytes = validator.bytes().get(at..at + 4 * count).unwrap_or_default();
        // The same as for `bool`. The subtraction maps surrogates to the numbers beyond the last character.
        let is_invalid = |value: u32| (value ^ 0xd800).wrapping_sub(0x800) >= 0x11_0000 - 0x800;
        let (values, _) = bytes.as_chunks();
        if !values.iter().fold(false, |any, value| any | is_invalid(u32::from_le_bytes(*value))) {
            return Ok(());
        }
        (0..count).try_for_each(|n| Self::validate(validator, at + 4 * n))
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> char {
        char::from_u32(u32::from_le_bytes(head(bytes))).unwrap_or_default()
    }
}

scalar_to_flat!(char, |character| u32::from(character).to_le_bytes());
