//! Slices of plain old data as messages: [`Pod`].

use std::marker::PhantomData;

use crate::payload::schema::Schema;
use crate::payload::{BLOCK_ALIGNMENT, BuildError, InvalidPayload, Payload, WriteFrom};

/// A fixed-size value without padding or invalid bit patterns ([`bytemuck::Pod`]), with a name that tells
/// slices of it apart from others on a topic.
///
/// Implemented for the number types. For your own type, derive [`bytemuck::Pod`] and implement this with a
/// name that changes whenever the fields do.
pub trait PodType: bytemuck::Pod + Send + Sync {
    /// Name of the element in the schema, such as `u64`.
    const NAME: &'static str;
}

macro_rules! pod_types {
    ($($number:ident)*) => {$(
        impl PodType for $number {
            const NAME: &'static str = stringify!($number);
        }
    )*};
}
pod_types!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

/// A slice of plain old data, in the byte order of the machine: read as `&[T]`, without a copy.
///
/// A type whose alignment exceeds [`BLOCK_ALIGNMENT`] cannot be published: it does not compile.
///
/// ```compile_fail,E0080
/// # use blockcast_blocks::{Payload, Pod, PodType};
/// #[derive(Clone, Copy)]
/// #[repr(C, align(128))]
/// struct Wide([u8; 128]);
/// // SAFETY: bytes only, and no padding.
/// unsafe impl bytemuck::Zeroable for Wide {}
/// // SAFETY: as above.
/// unsafe impl bytemuck::Pod for Wide {}
/// impl PodType for Wide {
///     const NAME: &'static str = "wide";
/// }
/// println!("{}", Pod::<Wide>::schema());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pod<T>(PhantomData<fn() -> T>);

/// Fills a block with elements.
#[derive(Debug)]
pub struct PodBuilder<'b, T> {
    elements: &'b mut [T],
    brand: PhantomData<fn(&'b ()) -> &'b ()>,
}

/// The number of bytes written by a [`PodBuilder`].
#[derive(Debug)]
pub struct PodBuilt<'b> {
    len: usize,
    brand: PhantomData<fn(&'b ()) -> &'b ()>,
}

impl<'b, T: PodType> PodBuilder<'b, T> {
    fn new(block: &'b mut [u8]) -> Self {
        let whole = match size_of::<T>() {
            0 => 0,
            size => block.len() - block.len() % size,
        };
        let elements = bytemuck::try_cast_slice_mut(&mut block[..whole]).unwrap_or(&mut []);
        Self { elements, brand: PhantomData }
    }

    /// All elements that the block has room for, to fill in place. Their values are unspecified.
    pub fn elements(&mut self) -> &mut [T] {
        self.elements
    }

    /// Completes a message of the first `count` elements.
    ///
    /// # Errors
    /// [`BuildError::TooSmall`] if the block has room for fewer, [`BuildError::Unrepresentable`] if an
    /// element has no bytes.
    pub fn finish(self, count: usize) -> Result<PodBuilt<'b>, BuildError> {
        let len = count.saturating_mul(size_of::<T>());
        if count > self.elements.len() {
            countable::<T>()?;
            return Err(BuildError::TooSmall { needed: len, available: size_of_val(self.elements) });
        }
        Ok(PodBuilt { len, brand: PhantomData })
    }
}

/// The length of a message determines the number of its elements.
fn countable<T: PodType>() -> Result<(), BuildError> {
    if size_of::<T>() > 0 {
        return Ok(());
    }
    Err(BuildError::Unrepresentable(format!(
        "elements of {} have no bytes, so a message cannot tell how many it has; send their number instead",
        T::NAME
    )))
}

// SAFETY: every sequence of whole elements is valid, also as elements of another type of the same name and
// size; `view` looks at alignment and length again.
unsafe impl<T: PodType> Payload for Pod<T> {
    type View<'a> = &'a [T];
    type Builder<'b> = PodBuilder<'b, T>;
    type Built<'b> = PodBuilt<'b>;

    fn schema() -> Schema {
        let _checked = Self::alignment();
        Schema::named(format!("pod:{}:{}", T::NAME, size_of::<T>()))
    }

    fn alignment() -> usize {
        const { assert!(align_of::<T>() <= BLOCK_ALIGNMENT, "blocks are not aligned to that") };
        align_of::<T>()
    }

    fn validate(bytes: &[u8]) -> Result<(), InvalidPayload> {
        bytemuck::try_cast_slice::<u8, T>(bytes)
            .map(drop)
            .map_err(|error| InvalidPayload::of::<Self>(format_args!("{} bytes: {error}", bytes.len())))
    }

    unsafe fn view(bytes: &[u8]) -> &[T] {
        // The caller has validated the bytes, so the cast succeeds. An empty slice is harmless if it has not.
        bytemuck::try_cast_slice(bytes).unwrap_or(&[])
    }

    unsafe fn builder(block: &mut [u8]) -> PodBuilder<'_, T> {
        PodBuilder::new(block)
    }

    fn built_len(built: &PodBuilt<'_>) -> usize {
        built.len
    }
}

impl<T: PodType> WriteFrom<[T]> for Pod<T> {
    unsafe fn write_from<'b>(value: &[T], block: &'b mut [u8]) -> Result<PodBuilt<'b>, BuildError> {
        let mut builder = PodBuilder::new(block);
        let available = size_of_val(builder.elements);
        if !value.is_empty() {
            countable::<T>()?;
        }
        let target = builder
            .elements()
            .get_mut(..value.len())
            .ok_or(BuildError::TooSmall { needed: size_of_val(value), available })?;
        target.copy_from_slice(value);
        builder.finish(value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_written_are_the_elements_read() {
        let mut block = [0_u64; 4];
        let block = bytemuck::cast_slice_mut::<u64, u8>(&mut block);
        // SAFETY: nothing else is built meanwhile.
        let built = unsafe { Pod::<u32>::write_from(&[1, 2, 3], block) }.unwrap();
        let len = Pod::<u32>::built_len(&built);
        assert_eq!(len, 12);
        Pod::<u32>::validate(&block[..len]).unwrap();
        // SAFETY: validated just above; the block is 8-byte aligned.
        assert_eq!(unsafe { Pod::<u32>::view(&block[..len]) }, [1, 2, 3]);
    }

    #[test]
    fn partial_elements_and_too_many_elements_are_errors() {
        let mut block = [0_u64; 1];
        let block = bytemuck::cast_slice_mut::<u64, u8>(&mut block);
        assert!(Pod::<u32>::validate(&block[..6]).is_err());
        assert_eq!(
            // SAFETY: nothing else is built meanwhile.
            unsafe { Pod::<u32>::write_from(&[1, 2, 3], block) }.unwrap_err(),
            BuildError::TooSmall { needed: 12, available: 8 }
        );
    }

    #[derive(Clone, Copy)]
    struct Empty;

    // SAFETY: it has no bytes.
    unsafe impl bytemuck::Zeroable for Empty {}
    // SAFETY: as above: any bit pattern, no padding, no pointers.
    unsafe impl bytemuck::Pod for Empty {}

    impl PodType for Empty {
        const NAME: &'static str = "empty";
    }

    #[test]
    fn elements_without_bytes_are_refused_with_the_reason() {
        let mut block = [0_u64; 1];
        let block = bytemuck::cast_slice_mut::<u64, u8>(&mut block);
        // SAFETY: nothing else is built meanwhile.
        let error = unsafe { Pod::<Empty>::write_from(&[Empty; 5], block) }.unwrap_err();
        assert!(
            matches!(&error, BuildError::Unrepresentable(text) if text.contains("have no bytes")),
            "{error}"
        );
        // SAFETY: as above.
        let none = unsafe { Pod::<Empty>::write_from(&[], block) }.unwrap();
        assert_eq!(Pod::<Empty>::built_len(&none), 0);
    }
}
