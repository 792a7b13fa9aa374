//! The marker that names a message layout.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{BuildError, FlatError};
use crate::flat_type::{FlatType, Header};
use crate::index::Index;
use crate::target::{BuildFn, Place, Target};
use crate::to_flat::ToFlat;
use crate::validator::Validator;

/// A message layout: one value of `T`, with indices of type `I` (`u8`, `u16` or `u32`).
///
/// `Flat<Vec<String>>` is WIT's `list<string>`. The type has no values; everything is an associated function.
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
    /// Bytes of the smallest message: the root value's header.
    pub const HEADER: usize = Header::<T, I>::SIZE;

    /// The alignment of a message's first byte, in bytes, at which lists of numbers read as slices. At most 8;
    /// 1 at u8 and u16. Bytes that are not so aligned are read correctly, number by number.
    pub const ALIGNMENT: usize = T::TYPE.alignment(I::WIDTH);

    /// The schema's fingerprint: changes exactly when the layout does. FNV-1a, 64 bits, of [`Flat::schema`].
    pub const FINGERPRINT: u64 = T::TYPE.fingerprint(I::WIDTH);

    /// The schema's text, `flat1/u32:list<string>`: what [`Flat::FINGERPRINT`] is the hash of. Allocates.
    ///
    /// It has no names, and it is all that a tool needs to read a message; see [`Type::structure`].
    ///
    /// [`Type::structure`]: crate::schema::Type::structure
    pub fn schema() -> String {
        T::TYPE.structure(I::WIDTH)
    }

    /// WIT definitions of the record, variant, enum and flags types in `T`. Allocates.
    pub fn wit() -> String {
        T::TYPE.wit()
    }

    /// Checks that `bytes` are a message: all of them, and nothing else.
    ///
    /// Takes time linear in the length, none per number in lists of numbers; does not allocate; its recursion
    /// is as deep as the type.
    ///
    /// # Errors
    ///
    /// One thing that is wrong, and where.
    pub fn validate(bytes: &[u8]) -> Result<(), FlatError> {
        let mut validator = Validator::<I>::new(bytes, Self::HEADER)?;
        T::validate(&mut validator, 0)?;
        validator.finish()
    }

    /// Validates `bytes` and gives the view of the message.
    ///
    /// # Errors
    ///
    /// Those of [`Flat::validate`].
    pub fn access(bytes: &[u8]) -> Result<T::View<'_, I>, FlatError> {
        Self::validate(bytes)?;
        // SAFETY: the root value was validated, and its header is at the start.
        Ok(unsafe { T::view(bytes) })
    }

    /// The view of a message that is known to be valid. Costs a few instructions.
    ///
    /// # Safety
    ///
    /// [`Flat::validate`] accepts `bytes`, or [`Flat::build`] or [`Flat::write`] of the same `T` and `I` has
    /// written them, and no one writes to them while the view lives.
    pub unsafe fn access_unchecked(bytes: &[u8]) -> T::View<'_, I> {
        // SAFETY: the caller says that the root value, whose header is at the start, is valid.
        unsafe { T::view(bytes) }
    }

    /// Validates `bytes` and reads them as an ordinary Rust value. Allocates where `T` does.
    ///
    /// # Errors
    ///
    /// Those of [`Flat::validate`].
    pub fn read(bytes: &[u8]) -> Result<T, FlatError> {
        Self::access(bytes).map(T::from_view::<I>)
    }

    /// Builds a message in `block`, in place, and gives its length in bytes.
    ///
    /// The message is written front to back, without a copy and without allocation. Offsets are relative to
    /// the start of `block`, which should be aligned to [`Flat::ALIGNMENT`]. Bytes of the message that no value
    /// uses are zeroed; bytes after the message may be written to.
    ///
    /// # Errors
    ///
    /// Those of the closure. The block can be used again.
    #[inline]
    pub fn build<E>(block: &mut [u8], build: impl for<'b> BuildFn<'b, T, I, E>) -> Result<usize, E> {
        build(T::builder::<I>(Target::root::<T>(block))).map(|finished| finished.len())
    }

    /// Writes `value` to `block` and gives the message's length in bytes. Does not allocate.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRoom`] if `block` is shorter than [`Flat::encoded_len`] of the value,
    /// [`BuildError::IndexOverflow`] if the value is too large for `I`.
    #[inline]
    pub fn write(value: impl ToFlat<T>, block: &mut [u8]) -> Result<usize, BuildError> {
        value.write_to(Place::<'_, T, I>::new(Target::root::<T>(block))).map(|finished| finished.len())
    }

    /// Bytes that [`Flat::write`] of this value takes; `usize::MAX` if more than there can be. Walks the value,
    /// except numbers; does not allocate.
    pub fn encoded_len(value: impl ToFlat<T>) -> usize {
        value.end_after::<I>(Self::HEADER)
    }

    /// Writes `value` to a vector of its own, for tests and tools. Allocates once.
    ///
    /// # Errors
    ///
    /// [`BuildError::IndexOverflow`] if the value is too large for `I`, [`BuildError::NoRoom`] if it is too large
    /// for any vector.
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
