//! Building blocks of tuples and derived records: adjacent fields, in order, each aligned for its type.
//!
//! Derived code wraps these types. They check at compile time that its fields agree with the record's type,
//! and do not trust it.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, tail};
use crate::index::Index;
use crate::target::{BuildFn, Finished, Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// The offset of field `N` of record type `T`.
struct Offset<T, I, const N: usize>(PhantomData<(T, I)>);

/// Fails to compile unless field `N` of `T` is laid out as an `A`.
const fn assert_field<T: FlatType, A: FlatType, const N: usize>() {
    assert!(T::TYPE.is_record(), "the type is not a record");
    assert!(T::TYPE.part(N).is_laid_out_as(A::TYPE), "the record has another field there");
}

/// Fails to compile unless `T` has `N` fields.
const fn assert_all<T: FlatType, const N: usize>() {
    assert!(T::TYPE.is_record(), "the type is not a record");
    assert!(T::TYPE.parts() == N, "a field is missing");
}

impl<T: FlatType, I: Index, const N: usize> Offset<T, I, N> {
    const BYTES: usize = T::TYPE.offset(I::WIDTH, N);

    /// The number of bytes between the previous field and this one.
    const PADDING: usize = match N {
        0 => 0,
        _ => Self::BYTES - T::TYPE.offset(I::WIDTH, N - 1) - T::TYPE.part(N - 1).layout(I::WIDTH).size,
    };
}

/// A record `T`, read in place.
pub struct RecordView<'a, T, I> {
    /// The rest of the message, starting with the record's header. Invariant: it is the header of a validated
    /// `T`.
    bytes: &'a [u8],
    marker: PhantomData<fn() -> (T, I)>,
}

impl<T, I> Clone for RecordView<'_, T, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, I> Copy for RecordView<'_, T, I> {}

impl<T, I> fmt::Debug for RecordView<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordView").finish_non_exhaustive()
    }
}

impl<'a, T: FlatType, I: Index> RecordView<'a, T, I> {
    /// Views the record at the start of `bytes`.
    ///
    /// # Safety
    ///
    /// `bytes` is the rest of a message, starting with the header of a validated `T`.
    #[inline]
    pub unsafe fn new(bytes: &'a [u8]) -> Self {
        RecordView { bytes, marker: PhantomData }
    }

    /// Returns field `N`, which is an `A`.
    #[inline]
    pub fn field<A: FlatType, const N: usize>(self) -> A::View<'a, I> {
        const { assert_field::<T, A, N>() };
        let bytes = tail(self.bytes, Offset::<T, I, N>::BYTES);
        // SAFETY: by the type's invariant, the record is valid, so its field, which is laid out as an `A`, is
        // valid.
        unsafe { A::view(bytes) }
    }
}

/// The proof that the first `N` fields of a record `T` were [put](RecordBuilder::put). The lifetime `'b`
/// binds it to one builder, like [`Finished`].
#[derive(Debug)]
pub struct Written<'b, T, const N: usize>(PhantomData<fn(&'b T) -> &'b T>);

/// Writes a record `T` field by field. `N` is the number of fields written so far.
pub struct RecordBuilder<'b, T, I: Index, const N: usize> {
    target: Target<'b, I>,
    marker: PhantomData<fn() -> T>,
}

impl<T, I: Index, const N: usize> fmt::Debug for RecordBuilder<'_, T, I, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("RecordBuilder");
        builder.field("at", &self.target.at()).field("written", &N).finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> RecordBuilder<'b, T, I, 0> {
    /// Starts writing to `target`. Zeroes the header if it has padding.
    #[inline]
    pub fn new(mut target: Target<'b, I>) -> Self {
        if const { T::TYPE.is_padded(I::WIDTH) } {
            // If the header does not fit, `finish` returns the error.
            let _cleared = target.clear(Header::<T, I>::SIZE);
        }
        RecordBuilder { target, marker: PhantomData }
    }

    /// Starts writing to a place, and checks that the block has room for the header.
    #[inline]
    pub fn at(place: Place<'b, T, I>) -> Result<(Self, Written<'b, T, 0>), BuildError> {
        let mut target = place.into_target();
        if const { T::TYPE.is_padded(I::WIDTH) } {
            target.clear(Header::<T, I>::SIZE)?;
        } else {
            target.check_header(Header::<T, I>::SIZE)?;
        }
        Ok((RecordBuilder { target, marker: PhantomData }, Written(PhantomData)))
    }

    /// Writes the next field, `FIELD`. Like [`write`](Self::write), but does not move the builder.
    #[inline(always)]
    pub fn put<A: FlatType, const FIELD: usize, const NEXT: usize>(
        &mut self,
        value: impl ToFlat<A>,
        _: Written<'b, T, FIELD>,
    ) -> Result<Written<'b, T, NEXT>, BuildError> {
        const { assert_field::<T, A, FIELD>() };
        const { assert!(NEXT == FIELD + 1, "fields are written one after another") };
        self.target.write::<A>(Offset::<T, I, FIELD>::BYTES, value)?;
        Ok(Written(PhantomData))
    }

    /// Completes the record after all fields were put.
    #[inline]
    pub fn finish_put<const ALL: usize>(self, _: Written<'b, T, ALL>) -> Result<Finished<'b>, BuildError> {
        const { assert_all::<T, ALL>() };
        self.target.finish_header(Header::<T, I>::SIZE)
    }
}

impl<'b, T: FlatType, I: Index, const N: usize> RecordBuilder<'b, T, I, N> {
    /// Writes field `N`, an `A`; `NEXT` is `N + 1`.
    #[inline]
    pub fn write<A: FlatType, const NEXT: usize>(
        mut self,
        value: impl ToFlat<A>,
    ) -> Result<RecordBuilder<'b, T, I, NEXT>, BuildError> {
        const { assert_field::<T, A, N>() };
        const { assert!(NEXT == N + 1, "fields are written one after another") };
        self.target.write::<A>(Offset::<T, I, N>::BYTES, value)?;
        Ok(RecordBuilder { target: self.target, marker: PhantomData })
    }

    /// Builds field `N`, an `A`, in place; `NEXT` is `N + 1`.
    #[inline]
    pub fn build<A: FlatType, E: From<BuildError>, const NEXT: usize>(
        mut self,
        build: impl for<'c> BuildFn<'c, A, I, E>,
    ) -> Result<RecordBuilder<'b, T, I, NEXT>, E> {
        const { assert_field::<T, A, N>() };
        const { assert!(NEXT == N + 1, "fields are written one after another") };
        self.target.child::<A, E>(Offset::<T, I, N>::BYTES, build)?;
        Ok(RecordBuilder { target: self.target, marker: PhantomData })
    }

    /// Completes the record after all fields were written.
    #[inline]
    pub fn finish(self) -> Result<Finished<'b>, BuildError> {
        const { assert_all::<T, N>() };
        self.target.finish_header(Header::<T, I>::SIZE)
    }
}

/// Checks a record `T` field by field, with the padding around the fields.
#[derive(Debug)]
pub struct RecordValidator<'v, 'a, T, I: Index> {
    validator: &'v mut Validator<'a, I>,
    at: usize,
    marker: PhantomData<fn() -> T>,
}

impl<'v, 'a, T: FlatType, I: Index> RecordValidator<'v, 'a, T, I> {
    /// Starts checking the record whose header is at `at`.
    #[inline]
    pub fn new(validator: &'v mut Validator<'a, I>, at: usize) -> Self {
        RecordValidator { validator, at, marker: PhantomData }
    }

    /// Checks field `N`, which is an `A`, and the padding before it.
    #[inline]
    pub fn field<A: FlatType, const N: usize>(&mut self) -> Result<(), FlatError> {
        const { assert_field::<T, A, N>() };
        let start = self.at + Offset::<T, I, N>::BYTES;
        self.padding(start - Offset::<T, I, N>::PADDING, Offset::<T, I, N>::PADDING)?;
        A::validate(self.validator, start)
    }

    /// Checks the padding after the last field.
    #[inline]
    pub fn finish(self) -> Result<(), FlatError> {
        let used = const {
            let last = T::TYPE.parts() - 1;
            T::TYPE.offset(I::WIDTH, last) + T::TYPE.part(last).layout(I::WIDTH).size
        };
        self.padding(self.at + used, Header::<T, I>::SIZE - used)
    }

    /// Checks a few bytes of padding. Inlined, their number is a constant.
    #[inline]
    fn padding(&self, start: usize, bytes: usize) -> Result<(), FlatError> {
        if bytes == 0 {
            return Ok(());
        }
        let gap = self.validator.bytes().get(start..start + bytes).unwrap_or_default();
        let mut all = 0;
        for byte in gap {
            all |= byte;
        }
        if all == 0 { Ok(()) } else { Err(FlatError::Padding { at: start }) }
    }
}
