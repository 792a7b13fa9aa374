//! [`Flat`] as the payload of a topic.

use std::borrow::Cow;

use blockcast_blocks::{InvalidPayload, Payload, RoomError, Schema, WriteFrom};

use crate::BuildError;
use crate::flat::Flat;
use crate::flat_type::FlatType;
use crate::index::Index;
use crate::target::{Finished, Place, Target};
use crate::to_flat::ToFlat;

// SAFETY: the schema is the text of the layout, so equal schemas mean equal layouts. Builders and `write_to`
// return a `Finished` only for complete values.
unsafe impl<T: FlatType, I: Index> Payload for Flat<T, I> {
    type View<'a> = T::View<'a, I>;
    type Builder<'b> = T::Builder<'b, I>;
    type Built<'b> = Finished<'b>;

    fn schema() -> Schema {
        Schema::new(Cow::Owned(Self::schema()), Self::FINGERPRINT)
    }

    fn alignment() -> usize {
        Self::ALIGNMENT
    }

    fn validate(bytes: &[u8]) -> Result<(), InvalidPayload> {
        Self::validate(bytes).map_err(InvalidPayload::of::<Self>)
    }

    #[inline]
    unsafe fn view(bytes: &[u8]) -> T::View<'_, I> {
        // SAFETY: the caller guarantees that the bytes are valid.
        unsafe { Self::access_unchecked(bytes) }
    }

    #[inline]
    unsafe fn builder(block: &mut [u8]) -> T::Builder<'_, I> {
        T::builder(Target::root::<T>(block))
    }

    #[inline]
    fn built_len(built: &Finished<'_>) -> usize {
        built.len()
    }
}

impl<T: FlatType, I: Index, V: ToFlat<T> + ?Sized> WriteFrom<V> for Flat<T, I> {
    #[inline]
    unsafe fn write_from<'b>(
        value: &V,
        block: &'b mut [u8],
    ) -> Result<Finished<'b>, blockcast_blocks::BuildError> {
        Ok(value.write_to(Place::<'b, T, I>::new(Target::root::<T>(block)))?)
    }
}

impl From<BuildError> for blockcast_blocks::BuildError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::NoRoom { needed, available } => Self::TooSmall { needed, available },
            other => Self::Unrepresentable(other.to_string()),
        }
    }
}

impl RoomError for BuildError {
    fn room_needed(&self) -> Option<usize> {
        match self {
            BuildError::NoRoom { needed, .. } => Some(*needed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_list_is_a_payload() {
        type Lines = Flat<Vec<String>>;
        let mut block = [0; 64];
        // SAFETY: there is no other build at the same time.
        let built = unsafe { Lines::write_from(&["to", "be"], &mut block) };
        let length = Lines::built_len(&built.expect("fits"));
        <Lines as Payload>::validate(&block[..length]).expect("just written");
        // SAFETY: the line above has validated the bytes.
        let lines = unsafe { <Lines as Payload>::view(&block[..length]) };
        assert_eq!(lines, ["to", "be"]);
        assert_eq!(<Lines as Payload>::schema(), Schema::named("flat1/u32:list<string>"), "the same hash");
        assert_eq!(<Lines as Payload>::schema().name(), "flat1/u32:list<string>");
        let invalid = <Lines as Payload>::validate(b"").expect_err("no header");
        assert_eq!(invalid.schema, "flat1/u32:list<string>");
    }

    #[test]
    fn a_small_block_and_a_value_that_never_fits_are_different_errors() {
        use blockcast_blocks::BuildError as E;
        let write = |block: &mut [u8], text: &str| {
            // SAFETY: there is no other build at the same time.
            unsafe { <Flat<String, u8> as WriteFrom<str>>::write_from(text, block) }.map(|_| ())
        };
        assert_eq!(write(&mut [0; 4], "hello"), Err(E::TooSmall { needed: 7, available: 4 }));
        assert!(matches!(write(&mut [0; 999], &"x".repeat(500)), Err(E::Unrepresentable(_))));
    }
}
