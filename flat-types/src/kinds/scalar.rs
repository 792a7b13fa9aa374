//! Values without data of their own: bool, integers, floats and char. Their view is the value.

use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, head};
use crate::index::Index;
use crate::kinds::ListItems;
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
    /// [`BuildError::NoRoom`].
    pub fn set(self, value: impl ToFlat<T>) -> Result<Finished<'b>, BuildError> {
        value.write_to(Place::new(self.target))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A scalar of which every bit pattern is a value: integers and floats. Lists of them read as slices.
pub trait Number: FlatType + Copy + bytemuck::Pod + sealed::Sealed {}

macro_rules! numbers {
    ($($type:ty => $kind:ident),+) => { $(
        impl sealed::Sealed for $type {}
        impl Number for $type {}

        // SAFETY: the view reads its own bytes through a checked slice.
        unsafe impl FlatType for $type {
            type View<'a, I: Index> = $type;
            type Builder<'b, I: Index> = ScalarBuilder<'b, $type, I>;
            const TYPE: &'static Type = &Type::$kind;

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
        }

        impl ToFlat<$type> for $type {
            #[inline]
            fn write_to<'b, I: Index>(&self, place: Place<'b, $type, I>) -> Result<Finished<'b>, BuildError> {
                place.builder().put(self.to_le_bytes())
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
            fn write_all<I: Index>(values: &[$type], list: &mut ListItems<'_, $type, I>) -> Result<(), BuildError> {
                list.push_numbers(values)
            }

            const KEY_ORDER: Option<KeyOrder<$type, $type>> = KeyOrder::KEPT;
        }
    )+ };
}

numbers!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => S8, i16 => S16, i32 => S32, i64 => S64, f32 => F32, f64 => F64);

// SAFETY: the view reads its own byte through a checked slice.
unsafe impl FlatType for bool {
    type View<'a, I: Index> = bool;
    type Builder<'b, I: Index> = ScalarBuilder<'b, bool, I>;
    const TYPE: &'static Type = &Type::Bool;

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        validator.discriminant(at, 2).map(|_| ())
    }

    fn validate_all<I: Index>(
        validator: &mut Validator<'_, I>,
        at: usize,
        count: usize,
    ) -> Result<(), FlatError> {
        let bytes = validator.bytes().get(at..at + count).unwrap_or_default();
        // A fold without an early exit is vectorised; the place of an error is looked for afterwards.
        if bytes.iter().fold(0, |all, byte| all | byte) <= 1 {
            return Ok(());
        }
        (0..count).try_for_each(|n| Self::validate(validator, at + n))
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> bool {
        head::<1>(bytes) != [0]
    }

    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        ScalarBuilder::new(target)
    }

    fn from_view<I: Index>(view: bool) -> bool {
        view
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(view: bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(view)
    }
}

impl ToFlat<bool> for bool {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, bool, I>) -> Result<Finished<'b>, BuildError> {
        place.builder().put([u8::from(*self)])
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        cursor
    }

    fn matches<I: Index>(&self, view: bool) -> bool {
        *self == view
    }

    #[inline]
    fn write_all<I: Index>(values: &[bool], list: &mut ListItems<'_, bool, I>) -> Result<(), BuildError> {
        list.push_bytes(values)
    }

    const KEY_ORDER: Option<KeyOrder<bool, bool>> = KeyOrder::KEPT;
}

// SAFETY: the view reads its own bytes through a checked slice.
unsafe impl FlatType for char {
    type View<'a, I: Index> = char;
    type Builder<'b, I: Index> = ScalarBuilder<'b, char, I>;
    const TYPE: &'static Type = &Type::Char;

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
        // Vectorised, as above. Surrogates wrap around to the top, where what is beyond the last character is.
        let is_wrong = |value: u32| (value ^ 0xd800).wrapping_sub(0x800) >= 0x11_0000 - 0x800;
        let (values, _) = bytes.as_chunks();
        if !values.iter().fold(false, |any, value| any | is_wrong(u32::from_le_bytes(*value))) {
            return Ok(());
        }
        (0..count).try_for_each(|n| Self::validate(validator, at + 4 * n))
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> char {
        char::from_u32(u32::from_le_bytes(head(bytes))).unwrap_or_default()
    }

    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        ScalarBuilder::new(target)
    }

    fn from_view<I: Index>(view: char) -> char {
        view
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(view: char, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(view)
    }
}

impl ToFlat<char> for char {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, char, I>) -> Result<Finished<'b>, BuildError> {
        place.builder().put(u32::from(*self).to_le_bytes())
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        cursor
    }

    fn matches<I: Index>(&self, view: char) -> bool {
        *self == view
    }

    #[inline]
    fn write_all<I: Index>(values: &[char], list: &mut ListItems<'_, char, I>) -> Result<(), BuildError> {
        list.push_bytes(values)
    }

    const KEY_ORDER: Option<KeyOrder<char, char>> = KeyOrder::KEPT;
}
