//! `option<T>` and `result<T, E>`, whose views are an [`Option`] and a [`Result`] of views.

use crate::error::{BuildError, FlatError};
use crate::flat_type::FlatType;
use crate::index::Index;
use crate::kinds::variant::{Variant, VariantBuilder};
use crate::schema::{Type, UNIT};
use crate::target::{BuildFn, Finished, Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

// SAFETY: `view` reads the payload only in the case in which `validate` has checked it.
unsafe impl<T: FlatType> FlatType for Option<T> {
    type View<'a, I: Index> = Option<T::View<'a, I>>;
    type Builder<'b, I: Index> = OptionBuilder<'b, T, I>;
    const TYPE: &'static Type = &Type::Option(T::TYPE);

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        match Variant::<Self, I>::validate_case(validator, at)? {
            0 => Variant::<Self, I>::validate_unit(validator, at),
            _ => Variant::<Self, I>::validate_payload::<T>(validator, at),
        }
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> Self::View<'_, I> {
        if Variant::<Self, I>::case(bytes) == 0 {
            return None;
        }
        // SAFETY: the caller guarantees that the option is valid, and this is the case with a `T`.
        Some(unsafe { Variant::<Self, I>::payload::<T>(bytes) })
    }

    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        OptionBuilder { variant: VariantBuilder::new(target) }
    }

    fn from_view<I: Index>(view: Self::View<'_, I>) -> Self {
        view.map(T::from_view::<I>)
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(
        view: Self::View<'_, I>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match view {
            Some(view) => serializer.serialize_some(&crate::Serialized::<T, I>(view)),
            None => serializer.serialize_none(),
        }
    }
}

/// Writes an option.
#[derive(Debug)]
pub struct OptionBuilder<'b, T: FlatType, I: Index> {
    variant: VariantBuilder<'b, Option<T>, I>,
}

impl<'b, T: FlatType, I: Index> OptionBuilder<'b, T, I> {
    /// Writes `None`.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if the block is too small.
    #[inline]
    pub fn none(self) -> Result<Finished<'b>, BuildError> {
        self.variant.unit::<0>()
    }

    /// Writes `Some(value)`.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be written.
    #[inline]
    pub fn some(self, value: impl ToFlat<T>) -> Result<Finished<'b>, BuildError> {
        self.variant.write::<T, 1>(value)
    }

    /// Writes `Some` and builds its value in place.
    ///
    /// # Errors
    ///
    /// Returns the error of the closure.
    #[inline]
    pub fn some_with<E: From<BuildError>>(
        self,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<Finished<'b>, E> {
        self.variant.build::<T, E, 1>(build)
    }
}

impl<T: FlatType, U: ToFlat<T>> ToFlat<Option<T>> for Option<U> {
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, Option<T>, I>) -> Result<Finished<'b>, BuildError> {
        match self {
            Some(value) => place.builder().some(value),
            None => place.builder().none(),
        }
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        self.as_ref().map_or(cursor, |value| value.end_after::<I>(cursor))
    }

    fn matches<I: Index>(&self, view: Option<T::View<'_, I>>) -> bool {
        match (self, view) {
            (Some(value), Some(view)) => value.matches::<I>(view),
            (None, None) => true,
            _ => false,
        }
    }
}

// SAFETY: `view` reads each payload only in the case in which `validate` has checked it.
unsafe impl<T: FlatType, F: FlatType> FlatType for Result<T, F> {
    type View<'a, I: Index> = Result<T::View<'a, I>, F::View<'a, I>>;
    type Builder<'b, I: Index> = ResultBuilder<'b, T, F, I>;
    const TYPE: &'static Type = &Type::Result(T::TYPE, F::TYPE);

    fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        match Variant::<Self, I>::validate_case(validator, at)? {
            0 => Variant::<Self, I>::validate_payload::<T>(validator, at),
            _ => Variant::<Self, I>::validate_payload::<F>(validator, at),
        }
    }

    #[inline]
    unsafe fn view<I: Index>(bytes: &[u8]) -> Self::View<'_, I> {
        if Variant::<Self, I>::case(bytes) == 0 {
            // SAFETY: the caller guarantees that the result is valid, and this is the case with a `T`.
            Ok(unsafe { Variant::<Self, I>::payload::<T>(bytes) })
        } else {
            // SAFETY: the caller guarantees that the result is valid, and this is the case with an `F`.
            Err(unsafe { Variant::<Self, I>::payload::<F>(bytes) })
        }
    }

    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        ResultBuilder { variant: VariantBuilder::new(target) }
    }

    fn from_view<I: Index>(view: Self::View<'_, I>) -> Self {
        view.map(T::from_view::<I>).map_err(F::from_view::<I>)
    }

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>(
        view: Self::View<'_, I>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match view {
            Ok(view) => {
                serializer.serialize_newtype_variant("Result", 0, "Ok", &crate::Serialized::<T, I>(view))
            }
            Err(view) => {
                serializer.serialize_newtype_variant("Result", 1, "Err", &crate::Serialized::<F, I>(view))
            }
        }
    }
}

/// Writes a result.
#[derive(Debug)]
pub struct ResultBuilder<'b, T: FlatType, F: FlatType, I: Index> {
    variant: VariantBuilder<'b, Result<T, F>, I>,
}

impl<'b, T: FlatType, F: FlatType, I: Index> ResultBuilder<'b, T, F, I> {
    /// Writes `Ok(value)`.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be written.
    #[inline]
    pub fn ok(self, value: impl ToFlat<T>) -> Result<Finished<'b>, BuildError> {
        self.variant.write::<T, 0>(value)
    }

    /// Writes `Ok` and builds its value in place.
    ///
    /// # Errors
    ///
    /// Returns the error of the closure.
    #[inline]
    pub fn ok_with<E: From<BuildError>>(
        self,
        build: impl for<'c> BuildFn<'c, T, I, E>,
    ) -> Result<Finished<'b>, E> {
        self.variant.build::<T, E, 0>(build)
    }

    /// Writes `Err(value)`.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be written.
    #[inline]
    pub fn err(self, value: impl ToFlat<F>) -> Result<Finished<'b>, BuildError> {
        self.variant.write::<F, 1>(value)
    }

    /// Writes `Err` and builds its value in place.
    ///
    /// # Errors
    ///
    /// Returns the error of the closure.
    #[inline]
    pub fn err_with<E: From<BuildError>>(
        self,
        build: impl for<'c> BuildFn<'c, F, I, E>,
    ) -> Result<Finished<'b>, E> {
        self.variant.build::<F, E, 1>(build)
    }
}

impl<T, F, U, V> ToFlat<Result<T, F>> for Result<U, V>
where
    T: FlatType,
    F: FlatType,
    U: ToFlat<T>,
    V: ToFlat<F>,
{
    #[inline]
    fn write_to<'b, I: Index>(&self, place: Place<'b, Result<T, F>, I>) -> Result<Finished<'b>, BuildError> {
        match self {
            Ok(value) => place.builder().ok(value),
            Err(value) => place.builder().err(value),
        }
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        match self {
            Ok(value) => value.end_after::<I>(cursor),
            Err(value) => value.end_after::<I>(cursor),
        }
    }

    fn matches<I: Index>(&self, view: Result<T::View<'_, I>, F::View<'_, I>>) -> bool {
        match (self, view) {
            (Ok(value), Ok(view)) => value.matches::<I>(view),
            (Err(value), Err(view)) => value.matches::<I>(view),
            _ => false,
        }
    }
}

// SAFETY: `view` reads nothing.
unsafe impl FlatType for () {
    type View<'a, I: Index> = ();
    type Builder<'b, I: Index> = UnitBuilder<'b, I>;
    const TYPE: &'static Type = UNIT;

    fn validate<I: Index>(_: &mut Validator<'_, I>, _: usize) -> Result<(), FlatError> {
        Ok(())
    }

    unsafe fn view<I: Index>(_: &[u8]) -> Self::View<'_, I> {}

    fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
        UnitBuilder { target }
    }

    fn from_view<I: Index>((): Self::View<'_, I>) -> Self {}

    #[cfg(feature = "serde")]
    fn serialize<I: Index, S: serde::Serializer>((): (), serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

/// Writes `()`, the payload of a result's case that has none.
#[derive(Debug)]
pub struct UnitBuilder<'b, I: Index> {
    target: Target<'b, I>,
}

impl<'b, I: Index> UnitBuilder<'b, I> {
    /// Completes the value, which has no bytes.
    ///
    /// # Errors
    ///
    /// Never fails. Returns a `Result` like the methods that complete other values.
    pub fn finish(self) -> Result<Finished<'b>, BuildError> {
        Ok(self.target.finish())
    }
}

impl ToFlat<()> for () {
    fn write_to<'b, I: Index>(&self, place: Place<'b, (), I>) -> Result<Finished<'b>, BuildError> {
        place.builder().finish()
    }

    fn end_after<I: Index>(&self, cursor: usize) -> usize {
        cursor
    }

    fn matches<I: Index>(&self, (): ()) -> bool {
        true
    }
}
