//! How bytes in a block become a value: the [`Payload`] trait and the layouts without structure,
//! [`Bytes`] and [`Pod`](crate::Pod).
//!
//! A payload type is a marker that names a layout. A publisher fills a block through its
//! [`Builder`](Payload::Builder); a subscriber reads through its [`View`](Payload::View). The flat layout
//! implements the trait in `blockcast-flat-types`.

pub mod pod;
#[cfg(feature = "rkyv")]
pub mod rkyv;
pub mod schema;

use std::fmt;
use std::marker::PhantomData;

use crate::payload::schema::Schema;

/// Every block starts at a multiple of this many bytes, so a layout may ask for any alignment up to it.
pub const BLOCK_ALIGNMENT: usize = 64;

/// A layout of messages.
///
/// # Safety
/// Two payloads with equal [schemas](Payload::schema) agree on what a valid message is: bytes that one's
/// [`validate`](Payload::validate) accepts, or that one's builder or [`WriteFrom::write_from`] completes, may
/// be given to the other's [`view`](Payload::view). For a published message that is all that a subscriber
/// checks.
///
/// A view has no interior mutability: several threads and processes read the block while it lives, as bytes
/// too.
pub unsafe trait Payload: 'static {
    /// A subscriber's view of the value. Borrows the block. All subscribers view the same block, each on a
    /// thread of its own. So values that threads must not share cannot be a `Pod` or an archive:
    ///
    /// ```compile_fail,E0277
    /// # use blockcast_blocks::PodType;
    /// #[derive(Clone, Copy)]
    /// #[repr(transparent)]
    /// struct Local(u32, std::marker::PhantomData<*const u32>);
    /// // SAFETY: a `u32`.
    /// unsafe impl bytemuck::Zeroable for Local {}
    /// // SAFETY: as above.
    /// unsafe impl bytemuck::Pod for Local {}
    /// impl PodType for Local {
    ///     const NAME: &'static str = "local";
    /// }
    /// ```
    /// ```
    /// # use blockcast_blocks::PodType;
    /// #[derive(Clone, Copy)]
    /// #[repr(transparent)]
    /// struct Shared(u32, std::marker::PhantomData<u32>);
    /// // SAFETY: a `u32`.
    /// unsafe impl bytemuck::Zeroable for Shared {}
    /// // SAFETY: as above.
    /// unsafe impl bytemuck::Pod for Shared {}
    /// impl PodType for Shared {
    ///     const NAME: &'static str = "shared";
    /// }
    /// ```
    type View<'a>: Copy + Send + Sync;
    /// A publisher's builder of the value. Borrows the block.
    type Builder<'b>;
    /// Proof that a builder was completed. Its lifetime is invariant, so that a proof for one block does not
    /// pass for another.
    type Built<'b>;

    /// Name and fingerprint of the layout.
    fn schema() -> Schema;

    /// Alignment in bytes that the layout needs at its first byte: at most [`BLOCK_ALIGNMENT`].
    fn alignment() -> usize;

    /// Checks that `bytes` hold exactly one value of this layout.
    ///
    /// # Errors
    /// [`InvalidPayload`], which says what is wrong with the bytes, and where.
    fn validate(bytes: &[u8]) -> Result<(), InvalidPayload>;

    /// Reads a value in place. No copy, no allocation.
    ///
    /// # Safety
    /// `bytes` start at a multiple of [`alignment`](Self::alignment) and either
    /// [`validate`](Self::validate) accepted them or this type's builder produced them.
    unsafe fn view(bytes: &[u8]) -> Self::View<'_>;

    /// Starts building a value in `block`, front to back. With a loan, use `EmptyBlock::builder`, which is
    /// safe.
    ///
    /// # Safety
    /// What the builder returns as [`Built`](Self::Built) is taken as proof for this block alone: `'b` is the
    /// lifetime of no other block that something is built in.
    unsafe fn builder<'b>(block: &'b mut [u8]) -> Self::Builder<'b>;

    /// Bytes that the completed value occupies from the start of the block.
    fn built_len(built: &Self::Built<'_>) -> usize;
}

/// A layout into which a value of type `V` can be written in one call.
pub trait WriteFrom<V: ?Sized>: Payload {
    /// Writes `value` to the start of `block`, and proves it. With a loan, use `EmptyBlock::write` or
    /// `Loan::send`, which are safe.
    ///
    /// # Errors
    /// [`BuildError`] if the block is too small, or if the value does not fit the layout.
    ///
    /// # Safety
    /// The same as for [`Payload::builder`].
    unsafe fn write_from<'b>(value: &V, block: &'b mut [u8]) -> Result<Self::Built<'b>, BuildError>;
}

/// The bytes are not a value of the layout that they were read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {schema}: {reason}")]
pub struct InvalidPayload {
    /// Name of the layout.
    pub schema: String,
    /// The mistake, and the byte at which it occurs if that is known.
    pub reason: String,
}

impl InvalidPayload {
    /// The error for a payload of type `P`.
    #[must_use]
    pub fn of<P: Payload>(reason: impl fmt::Display) -> Self {
        Self { schema: P::schema().name().to_owned(), reason: reason.to_string() }
    }
}

/// A value could not be built in its block. The block is still loaned, and building can start again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The value needs more bytes than the block has: ask for a larger loan or send less at a time.
    #[error("the value needs at least {needed} bytes and the block has {available}")]
    TooSmall {
        /// Bytes known to be needed so far.
        needed: usize,
        /// Bytes of the block.
        available: usize,
    },
    /// The value cannot be expressed in the layout, whatever the block's size.
    #[error("{0}")]
    Unrepresentable(String),
}

/// A build error that can say whether a larger block would have helped.
///
/// Implement this for your own error type to build with `Loan::send_growing`.
pub trait RoomError {
    /// Bytes known to be needed so far, if the block was too small.
    fn room_needed(&self) -> Option<usize>;
}

impl RoomError for BuildError {
    fn room_needed(&self) -> Option<usize> {
        match self {
            Self::TooSmall { needed, .. } => Some(*needed),
            Self::Unrepresentable(_) => None,
        }
    }
}

/// Invariant in `'b`.
type Invariant<'b> = PhantomData<fn(&'b ()) -> &'b ()>;

/// Raw bytes of any length, without structure.
#[derive(Clone, Copy, Debug)]
pub struct Bytes;

/// Fills a block with raw bytes.
#[derive(Debug)]
pub struct BytesBuilder<'b> {
    block: &'b mut [u8],
    brand: Invariant<'b>,
}

/// The number of bytes written by a [`BytesBuilder`].
#[derive(Debug)]
pub struct BytesBuilt<'b> {
    len: usize,
    brand: Invariant<'b>,
}

impl<'b> BytesBuilder<'b> {
    /// The whole block, to fill in place (for example by `read`). Its content is unspecified: zeros, or bytes
    /// of an earlier message of the same publisher.
    pub fn block(&mut self) -> &mut [u8] {
        self.block
    }

    /// Completes a message that consists of the block's first `len` bytes.
    ///
    /// # Errors
    /// [`BuildError::TooSmall`] if the block has fewer bytes.
    pub fn finish(self, len: usize) -> Result<BytesBuilt<'b>, BuildError> {
        if len > self.block.len() {
            return Err(BuildError::TooSmall { needed: len, available: self.block.len() });
        }
        Ok(BytesBuilt { len, brand: PhantomData })
    }
}

// SAFETY: every sequence of bytes is valid, for this payload and for every other one called `bytes`.
unsafe impl Payload for Bytes {
    type View<'a> = &'a [u8];
    type Builder<'b> = BytesBuilder<'b>;
    type Built<'b> = BytesBuilt<'b>;

    fn schema() -> Schema {
        Schema::named("bytes")
    }

    fn alignment() -> usize {
        1
    }

    fn validate(_bytes: &[u8]) -> Result<(), InvalidPayload> {
        Ok(())
    }

    unsafe fn view(bytes: &[u8]) -> &[u8] {
        bytes
    }

    unsafe fn builder(block: &mut [u8]) -> BytesBuilder<'_> {
        BytesBuilder { block, brand: PhantomData }
    }

    fn built_len(built: &BytesBuilt<'_>) -> usize {
        built.len
    }
}

impl WriteFrom<[u8]> for Bytes {
    unsafe fn write_from<'b>(value: &[u8], block: &'b mut [u8]) -> Result<BytesBuilt<'b>, BuildError> {
        let available = block.len();
        let target =
            block.get_mut(..value.len()).ok_or(BuildError::TooSmall { needed: value.len(), available })?;
        target.copy_from_slice(value);
        BytesBuilder { block, brand: PhantomData }.finish(value.len())
    }
}
