//! What options, results and derived enums are made of: a discriminant and the payload of one case.
//!
//! The derive macro wraps these types. What it says about a case that it writes is compared with the choice's type when
//! it is compiled; that a case is the one that was read is a promise of its unsafe code.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header, head, tail};
use crate::index::Index;
use crate::schema::discriminant_bytes;
use crate::target::{BuildFn, Finished, Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// The layout of choice type `T`, as constants.
#[derive(Debug)]
pub struct Choice<T, I>(PhantomData<(T, I)>);

impl<T: FlatType, I: Index> Choice<T, I> {
    const CASES: usize = T::TYPE.cases();
    const DISCRIMINANT: usize = discriminant_bytes(Self::CASES);
    const PAYLOAD: usize = T::TYPE.payload_offset(I::WIDTH);

    /// Which case the validated `T` at the start of `bytes` is.
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
    /// `bytes` is the rest of a message from the header of a validated `T` on, and its case has a `P`.
    #[inline]
    pub unsafe fn payload<P: FlatType>(bytes: &[u8]) -> P::View<'_, I> {
        let bytes = tail(bytes, Self::PAYLOAD);
        // SAFETY: the choice is valid, so the payload of its case is, which is a `P`, as the caller says.
        unsafe { P::view(bytes) }
    }

    /// Checks the discriminant of the `T` at `at` and says which case it is.
    #[inline]
    pub fn validate_case(validator: &Validator<'_, I>, at: usize) -> Result<u32, FlatError> {
        validator.discriminant(at, Self::CASES)
    }

    /// Checks the payload of the `T` at `at`, which is a `P`, and that the bytes around it are zero.
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

    /// Checks that the `T` at `at`, whose case has no payload, is zero after its discriminant.
    #[inline]
    pub fn validate_unit(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        validator.zeros(at + Self::DISCRIMINANT, at + Header::<T, I>::SIZE)
    }
}

/// Writes one case of a choice `T`.
pub struct ChoiceBuilder<'b, T, I: Index> {
    target: Target<'b, I>,
    kind: PhantomData<fn() -> T>,
}

impl<T, I: Index> fmt::Debug for ChoiceBuilder<'_, T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChoiceBuilder").field("at", &self.target.at()).finish_non_exhaustive()
    }
}

impl<'b, T: FlatType, I: Index> ChoiceBuilder<'b, T, I> {
    /// Nothing is written yet.
    #[inline]
    pub fn new(target: Target<'b, I>) -> Self {
        ChoiceBuilder { target, kind: PhantomData }
    }

    /// At a place for a `T`.
    #[inline]
    pub fn at(place: Place<'b, T, I>) -> Self {
        Self::new(place.into_target())
    }

    /// Compiles if case `CASE` of `T` has a payload that is laid out as a `P`.
    const fn assert_case<P: FlatType, const CASE: u32>() {
        assert!(T::TYPE.has_payloads(), "the type has no cases");
        assert!(T::TYPE.part(CASE as usize).is_laid_out_as(P::TYPE), "the case has another payload");
    }

    #[inline]
    fn put_case(&mut self, case: u32) -> Result<(), BuildError> {
        self.target.clear(Header::<T, I>::SIZE)?;
        match Choice::<T, I>::DISCRIMINANT {
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

    /// Writes case `case` of an enum.
    ///
    /// # Panics
    ///
    /// If the enum has no such case.
    #[inline]
    pub fn plain(mut self, case: u32) -> Result<Finished<'b>, BuildError> {
        const { assert!(T::TYPE.is_enum(), "the type is not an enum without payloads") };
        assert!((case as usize) < Choice::<T, I>::CASES, "the enum has the case");
        self.put_case(case)?;
        Ok(self.target.finish())
    }

    /// Writes case `CASE` with a payload, a `P`.
    #[inline]
    pub fn write<P: FlatType, const CASE: u32>(
        mut self,
        value: impl ToFlat<P>,
    ) -> Result<Finished<'b>, BuildError> {
        const { Self::assert_case::<P, CASE>() };
        self.put_case(CASE)?;
        self.target.write::<P>(Choice::<T, I>::PAYLOAD, value)?;
        Ok(self.target.finish())
    }

    /// Writes case `CASE` and builds its payload, a `P`, in place.
    #[inline]
    pub fn build<P: FlatType, E: From<BuildError>, const CASE: u32>(
        mut self,
        build: impl for<'c> BuildFn<'c, P, I, E>,
    ) -> Result<Finished<'b>, E> {
        const { Self::assert_case::<P, CASE>() };
        self.put_case(CASE)?;
        self.target.child::<P, E>(Choice::<T, I>::PAYLOAD, build)?;
        Ok(self.target.finish())
    }
}
