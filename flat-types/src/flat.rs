//! The marker type for a message layout.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header};
use crate::index::Index;
use crate::target::{BuildFn, Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// The layout of a message: one value of `T`, with indices of type `I` (`u8`, `u16` or `u32`).
///
/// `Flat<Vec<String>>` is WIT's `list<string>`. The type has only associated functions, no values.
///
/// ```
/// use blockcast_flat_types::Flat;
///
/// let mut block = [0; 64];
/// let length = Flat::<Vec<String>, u8>::write(&["hello", "one"], &mut block)?;
/// assert_eq!(&block[..length], b"\x02\x02\x04\x05\x07\x03helloone");
///
/// let lines = Flat::<Vec<String>, u8>::access(&block[..length])?;
/// assert_eq!(lines.get(1), Some("one"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Flat<T, I = u32>(PhantomData<fn() -> (T, I)>);

impl<T: FlatType, I: Index> fmt::Debug for Flat<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flat<{}, {}>", T::TYPE, I::WIDTH.name())
    }
}

impl<T: FlatType, I: Index> Flat<T, I> {
    /// The size of the smallest message in bytes: that of the root value's header.
    pub const HEADER: usize = Header::<T, I>::SIZE;

    /// The alignment in bytes that a message needs for its lists of numbers to be read as slices. At most 8,
    /// and 1 at widths u8 and u16. A message with less alignment is still read correctly, number by number.
    pub const ALIGNMENT: usize = T::TYPE.alignment(I::WIDTH);

    /// The schema's fingerprint: the 64-bit FNV-1a hash of [`Flat::schema`]. It changes exactly if the layout
    /// changes.
    pub const FINGERPRINT: u64 = T::TYPE.fingerprint(I::WIDTH);

    /// The schema's text, such as `flat1/u32:list<string>`. Allocates.
    ///
    /// A tool can read messages with it alone. It contains no names of fields and cases. See
    /// [`Type::structure`].
    ///
    /// [`Type::structure`]: crate::schema::Type::structure
    pub fn schema() -> String {
        T::TYPE.structure(I::WIDTH)
    }

    /// The WIT definitions of the record, variant, enum and flags types in `T`. Allocates.
    pub fn wit() -> String {
        T::TYPE.wit()
    }

    /// Checks that `bytes` are exactly one message.
    ///
    /// Takes time linear in the length, except that lists of numbers take constant time. Does not allocate.
    /// Recurses as deep as the type is nested.
    ///
    /// # Errors
    ///
    /// Returns the first violation found and its offset.
    pub fn validate(bytes: &[u8]) -> Result<(), FlatError> {
        let mut validator = Validator::<I>::new(bytes, Self::HEADER)?;
        T::validate(&mut validator, 0)?;
        validator.finish()
    }

    /// Validates `bytes` and returns a view of the message.
    ///
    /// # Errors
    ///
    /// Fails if [`Flat::validate`] fails.
    pub fn access(bytes: &[u8]) -> Result<T::View<'_, I>, FlatError> {
        Self::validate(bytes)?;
        // SAFETY: the root value is valid, and its header is at the start.
        Ok(unsafe { T::view(bytes) })
    }

    /// Returns a view of a message that is known to be valid. Costs a few instructions.
    ///
    /// # Safety
    ///
    /// [`Flat::validate`] accepts `bytes`, or [`Flat::build`] or [`Flat::write`] of the same `T` and `I` has
    /// written them. Nobody writes to them while the view exists.
    pub unsafe fn access_unchecked(bytes: &[u8]) -> T::View<'_, I> {
        // SAFETY: the caller guarantees that the root value, whose header is at the start, is valid.
        unsafe { T::view(bytes) }
    }

    /// Validates `bytes` and copies the message into an ordinary Rust value. Allocates strings, lists and
    /// maps.
    ///
    /// # Errors
    ///
    /// Fails if [`Flat::validate`] fails.
    pub fn read(bytes: &[u8]) -> Result<T, FlatError> {
        Self::access(bytes).map(T::from_view::<I>)
    }

    /// Builds a message in place at the start of `block` and returns its length in bytes.
    ///
    /// Writes front to back, without a copy and without allocating. `block` should be aligned to
    /// [`Flat::ALIGNMENT`]. Zeroes the padding within the message. May overwrite bytes of the block after the
    /// message.
    ///
    /// # Errors
    ///
    /// Returns the error of the closure. The block can be reused.
    #[inline]
    pub fn build<E>(block: &mut [u8], build: impl for<'b> BuildFn<'b, T, I, E>) -> Result<usize, E> {
        build(T::builder::<I>(Target::root::<T>(block))).map(|finished| finished.len())
    }

    /// Writes `value` to the start of `block` and returns the message's length in bytes. Does not allocate.
    ///
    /// # Errors
    ///
    /// - [`BuildError::NoRoom`] if `block` is shorter than [`Flat::encoded_len`] of the value.
    /// - [`BuildError::IndexOverflow`] if the value is too large for `I`.
    #[inline]
    pub fn write(value: impl ToFlat<T>, block: &mut [u8]) -> Result<usize, BuildError> {
        value.write_to(Place::<'_, T, I>::new(Target::root::<T>(block))).map(|finished| finished.len())
    }

    /// The length in bytes of the message that [`Flat::write`] writes for this value, or `usize::MAX` if it
    /// exceeds that. Walks the value, except lists of numbers. Does not allocate.
    pub fn encoded_len(value: impl ToFlat<T>) -> usize {
        value.end_after::<I>(Self::HEADER)
    }

    /// Writes `value` to a new vector, for tests and tools. Allocates once.
    ///
    /// # Errors
    ///
    /// - [`BuildError::IndexOverflow`] if the value is too large for `I`.
    /// - [`BuildError::NoRoom`] if it is too large for any vector.
    pub fn to_vec(value: impl ToFlat<T>) -> Result<Vec<u8>, BuildError> {
        let needed = Self::encoded_len(&value);
        let available = isize::MAX as usize;
        if needed > available {
            return Err(BuildError::NoRoom { needed, available });
        }
        let mut bytes = vec![0; needed];
        let length = Self::write(&value, &mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}
