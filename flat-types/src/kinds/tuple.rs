//! `tuple<..>`: adjacent headers. Its view is a tuple of views.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::kinds::{RecordBuilder, RecordValidator};
use crate::schema::Type;
use crate::target::{BuildFn, Finished, Place, Target};
use crate::to_flat::{KeyOrder, ToFlat};
use crate::validator::Validator;

/// Writes a tuple element by element. `R` lists the elements that are not yet written: once it is `()`, there
/// is `finish`.
pub struct TupleBuilder<'b, T, R, I: Index> {
    target: Target<'b, I>,
    marker: PhantomData<fn() -> (T, R)>,
}

impl<T, R, I: Index> fmt::Debug for TupleBuilder<'_, T, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TupleBuilder").field("at", &self.target.at()).finish_non_exhaustive()
    }
}

/// The elements of a tuple that are not yet written: `(A, (B, ()))`.
#[doc(hidden)]
pub trait Rest {
    /// The number of elements.
    const COUNT: usize;
}

impl Rest for () {
    const COUNT: usize = 0;
}

impl<A, R: Rest> Rest for (A, R) {
    const COUNT: usize = 1 + R::COUNT;
}

impl<'b, T: FlatType, R, I: Index> TupleBuilder<'b, T, R, I> {
    /// Starts writing to `target`. Zeroes the header if it has padding.
    #[inline]
    fn new(mut target: Target<'b, I>) -> Self {
        if const { T::TYPE.is_padded(I::WIDTH) } {
            // If the header does not fit, `finish` returns the error.
            let _cleared = target.clear(Header::<T, I>::SIZE);
        }
        TupleBuilder { target, marker: PhantomData }
    }
}

impl<'b, T: FlatType, A: FlatType, R: Rest, I: Index> TupleBuilder<'b, T, (A, R), I> {
    /// The offset of the next element in the header.
    const OFFSET: usize = T::TYPE.offset(I::WIDTH, T::TYPE.parts() - 1 - R::COUNT);

    /// Writes the next element.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be written.
    #[inline]
    pub fn put(mut self, value: impl ToFlat<A>) -> Result<TupleBuilder<'b, T, R, I>, BuildError> {
        self.target.write::<A>(Self::OFFSET, value)?;
        Ok(TupleBuilder { target: self.target, marker: PhantomData })
    }

    /// Builds the next element in place.
    ///
    /// # Errors
    ///
    /// Returns the error of the closure.
    #[inline]
    pub fn put_with<E: From<BuildError>>(
        mut self,
        build: impl for<'c> BuildFn<'c, A, I, E>,
    ) -> Result<TupleBuilder<'b, T, R, I>, E> {
        self.target.child::<A, E>(Self::OFFSET, build)?;
        Ok(TupleBuilder { target: self.target, marker: PhantomData })
    }
}

impl<'b, T: FlatType, I: Index> TupleBuilder<'b, T, (), I> {
    /// Completes the tuple.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if the header ends with padding that does not fit.
    #[inline]
    pub fn finish(self) -> Result<Finished<'b>, BuildError> {
        self.target.finish_header(Header::<T, I>::SIZE)
    }
}

/// Expands `A B` to `(A, (B, ()))`.
macro_rules! rest {
    () => { () };
    ($head:ident $($tail:ident)*) => { ($head, rest!($($tail)*)) };
}

macro_rules! tuples {
    ($($n:tt $T:ident $U:ident),+) => {
        // SAFETY: `validate` checks every element at the offset at which `view` reads it.
        unsafe impl<$($T: FlatType),+> FlatType for ($($T,)+) {
            type View<'a, I: Index> = ($($T::View<'a, I>,)+);
            type Builder<'b, I: Index> = TupleBuilder<'b, Self, rest!($($T)+), I>;
            const TYPE: &'static Type = &Type::Tuple(&[$($T::TYPE),+]);

            #[inline]
            fn validate<I: Index>(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
                let mut record = RecordValidator::<Self, I>::new(validator, at);
                $(record.field::<$T, $n>()?;)+
                record.finish()
            }

            #[inline]
            unsafe fn view<I: Index>(bytes: &[u8]) -> Self::View<'_, I> {
                ($({
                    let bytes = tail(bytes, const { Self::TYPE.offset(I::WIDTH, $n) });
                    // SAFETY: the caller guarantees that the tuple is valid, so the element at this offset is
                    // valid.
                    unsafe { $T::view(bytes) }
                },)+)
            }

            #[inline]
            fn builder<I: Index>(target: Target<'_, I>) -> Self::Builder<'_, I> {
                TupleBuilder::new(target)
            }

            fn from_view<I: Index>(view: Self::View<'_, I>) -> Self {
                ($($T::from_view::<I>(view.$n),)+)
            }

            #[cfg(feature = "serde")]
            fn serialize<I: Index, S: serde::Serializer>(view: Self::View<'_, I>, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut tuple = serializer.serialize_tuple(Self::TYPE.parts())?;
                $(tuple.serialize_element(&crate::Serialized::<$T, I>(view.$n))?;)+
                tuple.end()
            }
        }

        impl<$($T: FlatType, $U: ToFlat<$T>),+> ToFlat<($($T,)+)> for ($($U,)+) {
            #[inline]
            fn write_to<'b, I: Index>(
                &self,
                place: Place<'b, ($($T,)+), I>,
            ) -> Result<Finished<'b>, BuildError> {
                let (mut record, written) = RecordBuilder::at(place)?;
                $(let written = record.put::<$T, $n, { $n + 1 }>(&self.$n, written)?;)+
                record.finish_put(written)
            }

            #[inline]
            fn end_after<I: Index>(&self, cursor: usize) -> usize {
                $(let cursor = self.$n.end_after::<I>(cursor);)+
                cursor
            }

            #[inline]
            fn matches<I: Index>(&self, view: <($($T,)+) as FlatType>::View<'_, I>) -> bool {
                $(self.$n.matches::<I>(view.$n))&&+
            }

            const KEY_ORDER: Option<KeyOrder<($($T,)+), Self>> =
                if $($U::KEY_ORDER.is_some())&&+ { KeyOrder::PRESERVED } else { None };
        }
    };
}

tuples!(0 A UA);
tuples!(0 A UA, 1 B UB);
tuples!(0 A UA, 1 B UB, 2 C UC);
tuples!(0 A UA, 1 B UB, 2 C UC, 3 D UD);
tuples!(0 A UA, 1 B UB, 2 C UC, 3 D UD, 4 E UE);
tuples!(0 A UA, 1 B UB, 2 C UC, 3 D UD, 4 E UE, 5 F UF);
tuples!(0 A UA, 1 B UB, 2 C UC, 3 D UD, 4 E UE, 5 F UF, 6 G UG);
tuples!(0 A UA, 1 B UB, 2 C UC, 3 D UD, 4 E UE, 5 F UF, 6 G UG, 7 H UH);
