//! Sets of flags: the building block for structs of bools with `#[flat(flags)]`.

use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, head};
use crate::index::Index;
use crate::schema::flags_bytes;
use crate::target::{Finished, Place};
use crate::validator::Validator;

/// The bits of a set of flags `T`. Flag `n` is bit `n` of an integer of one, two, four or eight bytes.
#[derive(Debug)]
pub struct Bits<T, I>(PhantomData<(T, I)>);

impl<T: FlatType, I: Index> Bits<T, I> {
    /// The number of flags. Fails to compile for other types, which have no labels.
    const LABELS: usize = {
        let labels = T::TYPE.labels();
        assert!(labels > 0, "the type is not a set of flags");
        labels
    };
    const BYTES: usize = flags_bytes(Self::LABELS);
    const ALL: u64 = if Self::LABELS == 64 { u64::MAX } else { (1 << Self::LABELS) - 1 };

    /// Checks that the `T` at `at` has no other bits than its flags.
    pub fn validate(validator: &mut Validator<'_, I>, at: usize) -> Result<(), FlatError> {
        let value = match Self::BYTES {
            1 => u8::from_le_bytes(validator.read(at)?).into(),
            2 => u16::from_le_bytes(validator.read(at)?).into(),
            4 => u32::from_le_bytes(validator.read(at)?).into(),
            _ => u64::from_le_bytes(validator.read(at)?),
        };
        if value & !Self::ALL == 0 { Ok(()) } else { Err(FlatError::Discriminant { at, value }) }
    }

    /// The bits of the `T` at the start of `bytes`.
    #[inline]
    pub fn read(bytes: &[u8]) -> u64 {
        match Self::BYTES {
            1 => u8::from_le_bytes(head(bytes)).into(),
            2 => u16::from_le_bytes(head(bytes)).into(),
            4 => u32::from_le_bytes(head(bytes)).into(),
            _ => u64::from_le_bytes(head(bytes)),
        }
    }

    /// Writes the bits, without those that belong to no flag.
    #[inline]
    pub fn write(place: Place<'_, T, I>, bits: u64) -> Result<Finished<'_>, BuildError> {
        let mut target = place.into_target();
        let bits = bits & Self::ALL;
        match Self::BYTES {
            1 => target.put(0, [bits as u8])?,
            2 => target.put(0, (bits as u16).to_le_bytes())?,
            4 => target.put(0, (bits as u32).to_le_bytes())?,
            _ => target.put(0, bits.to_le_bytes())?,
        }
        Ok(target.finish())
    }
}
