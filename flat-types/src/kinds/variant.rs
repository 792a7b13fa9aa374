//! Building blocks of options, results and derived enums: a discriminant, and the payload of one case.
//!
//! Derived code wraps these types. For a case that it writes, they check at compile time that the case has
//! this payload. For a case that it reads, its unsafe code guarantees that the discriminant was that of this
//! case.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, head, tail};
use crate::index::Index;
use crate::schema::discriminant_bytes;
use crate::target::{BuildFn, Finished, Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// The layout of a variant `T`, as constants, and the functions that validate and read it.
#[derive(Debug)]
pub struct Variant<T, I>(PhantomData<(T, I)>);

impl<T: FlatType, I: Index> Variant<T, I> {
    const CASES: usize = T::TYPE.cases();
    const DISCRIMINANT: usize = discriminant_bytes(Self::CASES);
    const PAYLOAD: usize = T::TYPE.payload_offset(I::WIDTH);

    /// The number of the case of the validated `T` at the start of `bytes`.
    #[inline]
    pub fn case(bytes: &[u8]) -> u32 {
        match Self::DISCRIMINANT {
            1 => u8::from_le_bytes(head(bytes)).into(),
            2 => u16::from_le_bytes(head(bytes)).into(),
            _ => u32::from_le_bytes(head(bytes)),
        }
    }

    /// The payload of the `T` at the start of `bytes`.
    ///
    /// # Safety
    ///
    /// `bytes` is the rest of a message, starting with the header of a validated `T` whose case has the
    /// payload `P`.
    #[inline]
    pub unsafe fn payload<P: FlatType>(bytes: &[u8]) -> P::View<'_, I> {
        let bytes = tail(bytes, Self::PAYLOAD);
        // SAFETY: the variant is valid, so the payload of its case is valid. The caller guarantees that it is
        // a `P`.
        unsafe { P::view(bytes) }
    }

    /// Checks the discriminant of the `T` at `at` and returns the number of its case.
    #[inline]
    pub fn validate_case(validator: &Validator<'_, I>, at: usize) -> Result<u32, FlatError> {
        validator.discriminant(at, Self::CASES)
    }

    /// Checks the payload `P` of the `T` at `at`, and that the padding around it is zero.
    #[inline]
    pub fn validate_payload<P: FlatType>(
        validator: &mut Validator<'_, I>,
        at: usize,
    ) -> Result<(), FlatError> {
        let payload = at + Self::PAYLOAD;
        validator.zeros(at + Self::DISCRIMINANT, payload)?;
        P::validate(validator, payload)?;
        validator.zeros(payload + Header::<P, I>::SIZE, at + Header::<T, I>::SIZE)
    }

    /// Checks that the `T` at `at`, whose case has no payload, has only zeros after its discriminant.
    #[inline]
    pub fn validate_unit(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        validator.zeros(at + Self::DISCRIMINANT, at + Header::<T, I>::SIZE)
    }
}

/// Writes one case of a variant `T`.
pub struct VariantBuilder<'b, T, I: Index> {
    target: Target<'b, I>,
    marker: PhantomData<fn() -> T>,
}

impl<T, I: Index> fmt::Debug for VariantBuilder<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariantBuilder").field("at", &self.target.at()).finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> VariantBuilder<'b, T, I> {
    /// Starts writing to `target`.
    #[inline]
    pub fn new(target: Target<'b, I>) -> Self {
        VariantBuilder { target, marker: PhantomData }
    }

    /// Starts writing to a place.
    #[inline]
    pub fn at(place: Place<'b, T, I>) -> Self {
        Self::new(place.into_target())
    }

    /// Fails to compile unless case `CASE` of `T` has a payload that is laid out as a `P`.
    const fn assert_case<P: FlatType, const CASE: u32>() {
        assert!(T::TYPE.has_payloads(), "the type has no cases with payloads");
        assert!(T::TYPE.part(CASE as usize).is_laid_out_as(P::TYPE), "the case has another payload");
    }

    #[inline]
    fn put_case(&mut self, case: u32) -> Result<(), BuildError> {
        self.target.clear(Header::<T, I>::SIZE)?;
        match Variant::<T, I>::DISCRIMINANT {
            1 => self.target.put(0, [case as u8]),
            2 => self.target.put(0, (case as u16).to_le_bytes()),
            _ => self.target.put(0, case.to_le_bytes()),
        }
    }

    /// Writes case `CASE`, which has no payload.
    #[inline]
    pub fn unit<const CASE: u32>(mut self) -> Result<Finished<'b>, BuildError> {
        const { Self::assert_case::<(), CASE>() };
        self.put_case(CASE)?;
        Ok(self.target.finish())
    }

    /// Writes case number `case` of an enum without payloads.
    ///
    /// # Panics
    ///
    /// Panics if the enum has no such case.
    #[inline]
    pub fn plain(mut self, case: u32) -> Result<Finished<'b>, BuildError> {
        const { assert!(T::TYPE.is_enum(), "the type is not an enum without payloads") };
        assert!((case as usize) < Variant::<T, I>::CASES, "the enum has the case");
        self.put_case(case)?;
        Ok(self.target.finish())
    }

    /// Writes case `CASE` with the payload `value`.
    #[inline]
    pub fn write<P: FlatType, const CASE: u32>(
        mut self,
        value: impl ToFlat<P>,
    ) -> Result<Finished<'b>, BuildError> {
        const { Self::assert_case::<P, CASE>() };
        self.put_case(CASE)?;
        self.target.write::<P>(Variant::<T, I>::PAYLOAD, value)?;
        Ok(self.target.finish())
    }

    /// Writes case `CASE` and builds its payload in place.
    #[inline]
    pub fn build<P: FlatType, E: From<BuildError>, const CASE: u32>(
        mut self,
        build: impl for<'c> BuildFn<'c, P, I, E>,
    ) -> Result<Finished<'b>, E> {
        const { Self::assert_case::<P, CASE>() };
        self.put_case(CASE)?;
        self.target.child::<P, E>(Variant::<T, I>::PAYLOAD, build)?;
        Ok(self.target.finish())
    }
}
