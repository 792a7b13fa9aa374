//! [`Loan`]: a block that is being filled.

use std::fmt;
use std::marker::PhantomData;

use blockcast_blocks::{BuildError, LoanError, Payload, RawLoan, RoomError, Sequence, WriteFrom};

/// A publisher's exclusive hold on a block. Dropping it unpublished returns the block.
///
/// ```text
/// Loan ── build ──▶ BuiltLoan ── publish ──▶ subscribers
///   │       └─ failed: BuildFailed gives the loan back, which can grow
///   └─ drop: back to the pool
/// ```
pub struct Loan<'p, P: Payload> {
    block: RawLoan<'p>,
    payload: PhantomData<fn() -> P>,
}

impl<'p, P: Payload> Loan<'p, P> {
    pub(crate) fn new(block: RawLoan<'p>) -> Self {
        Self { block, payload: PhantomData }
    }

    /// Bytes that the block has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Builds a value in place. The closure proves by what it returns that it completed the value: the
    /// proof's lifetime belongs to this block alone.
    ///
    /// # Errors
    /// What the closure returned, with the loan, which can be built again.
    pub fn build<E>(
        mut self,
        fill: impl for<'b> FnOnce(EmptyBlock<'b, P>) -> Result<P::Built<'b>, E>,
    ) -> Result<BuiltLoan<'p, P>, BuildFailed<'p, P, E>> {
        let built = fill(EmptyBlock::new(&mut self.block)).map(|built| P::built_len(&built));
        match built {
            Ok(len) => Ok(BuiltLoan { block: self.block, len, payload: PhantomData }),
            Err(error) => Err(BuildFailed { loan: self, error }),
        }
    }

    /// Builds a value in place and publishes it. On failure the block returns to the pool.
    ///
    /// # Errors
    /// [`SendError::Build`] with what the closure returned.
    #[inline(always)]
    pub fn send_with<E>(
        mut self,
        fill: impl for<'b> FnOnce(EmptyBlock<'b, P>) -> Result<P::Built<'b>, E>,
    ) -> Result<Sequence, SendError<E>> {
        let built = fill(EmptyBlock::new(&mut self.block)).map(|built| P::built_len(&built));
        let len = built.map_err(SendError::Build)?;
        // SAFETY: the proof was for this block: its first `len` bytes are a value of `P`, whose schema is the
        // channel's.
        unsafe { self.block.publish_valid(len) }.map_err(SendError::Publish)
    }

    /// As [`send_with`](Self::send_with); where the value does not fit the block it is built again, from the start, in
    /// one of the publisher's larger ones ([`PublisherOptions::larger_blocks`]).
    ///
    /// What was written so far is thrown away: at most one build for each size of blocks is. Loan a block that is large
    /// enough ([`try_loan_sized`]) where the size is known.
    ///
    /// # Errors
    /// As for [`send_with`](Self::send_with), and [`SendError::Publish`] with [`LoanError::Exhausted`] if there are
    /// larger blocks and none is free.
    ///
    /// [`PublisherOptions::larger_blocks`]: crate::PublisherOptions::larger_blocks
    /// [`try_loan_sized`]: crate::Publisher::try_loan_sized
    pub fn send_growing<E: RoomError>(
        mut self,
        mut fill: impl for<'b> FnMut(EmptyBlock<'b, P>) -> Result<P::Built<'b>, E>,
    ) -> Result<Sequence, SendError<E>> {
        let len = loop {
            match fill(EmptyBlock::new(&mut self.block)).map(|built| P::built_len(&built)) {
                Ok(len) => break len,
                Err(error) => self.make_room_for(error)?,
            }
        };
        // SAFETY: the proof was for this block: its first `len` bytes are a value of `P`, whose schema is the
        // channel's.
        unsafe { self.block.publish_valid(len) }.map_err(SendError::Publish)
    }

    /// Writes `value` in place and publishes it; where it does not fit the block, in one of the publisher's larger ones,
    /// as [`send_growing`](Self::send_growing) does. On failure the block returns to the pool.
    ///
    /// # Errors
    /// [`SendError::Build`] where the value does not fit the largest block, [`SendError::Publish`] with
    /// [`LoanError::Exhausted`] if no larger block is free.
    #[inline]
    pub fn send<V: ?Sized>(mut self, value: &V) -> Result<Sequence, SendError<BuildError>>
    where
        P: WriteFrom<V>,
    {
        let len = loop {
            // SAFETY: the proof is used for this block only, in this expression.
            match unsafe { P::write_from(value, &mut self.block) }.map(|built| P::built_len(&built)) {
                Ok(len) => break len,
                Err(error) => self.make_room_for(error)?,
            }
        };
        // SAFETY: the proof was for this block: its first `len` bytes are a value of `P`, whose schema is the
        // channel's.
        unsafe { self.block.publish_valid(len) }.map_err(SendError::Publish)
    }

    /// Exchanges the block for one of at least `bytes`, if it is not that large already. Never waits. What was written
    /// to it does not come along.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the publisher has no such blocks, [`LoanError::Exhausted`] if none is free. The loan
    /// is as before.
    pub fn grow(&mut self, bytes: usize) -> Result<(), LoanError> {
        self.block.grow(bytes)
    }

    /// After a build that failed: a larger block, or the reason why there is none.
    #[cold]
    fn make_room_for<E: RoomError>(&mut self, error: E) -> Result<(), SendError<E>> {
        let Some(needed) = error.room_needed() else { return Err(SendError::Build(error)) };
        match self.block.grow(needed.max(self.capacity().saturating_add(1))) {
            Ok(()) => Ok(()),
            Err(LoanError::TooLarge { .. }) => Err(SendError::Build(error)),
            Err(other) => Err(SendError::Publish(other)),
        }
    }
}

impl<P: Payload> fmt::Debug for Loan<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("capacity", &self.capacity()).finish()
    }
}

/// Invariant in `'b`.
type Brand<'b> = PhantomData<fn(&'b ()) -> &'b ()>;

/// A block in which nothing was built yet. The lifetime belongs to this block alone, so that what completes a
/// value elsewhere is no proof for this one.
pub struct EmptyBlock<'b, P: Payload> {
    bytes: &'b mut [u8],
    brand: Brand<'b>,
    payload: PhantomData<fn() -> P>,
}

impl<'b, P: Payload> EmptyBlock<'b, P> {
    fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, brand: PhantomData, payload: PhantomData }
    }

    /// Bytes that the block has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Starts building the value, front to back.
    #[must_use]
    pub fn builder(self) -> P::Builder<'b> {
        // SAFETY: `'b` belongs to this block alone: `new` is called for closures that take every lifetime, so
        // that no other block has this one.
        unsafe { P::builder(self.bytes) }
    }

    /// Writes an existing value.
    ///
    /// # Errors
    /// [`BuildError`] where the value does not fit.
    pub fn write<V: ?Sized>(self, value: &V) -> Result<P::Built<'b>, BuildError>
    where
        P: WriteFrom<V>,
    {
        // SAFETY: as in `builder`.
        unsafe { P::write_from(value, self.bytes) }
    }
}

impl<P: Payload> fmt::Debug for EmptyBlock<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmptyBlock").field("capacity", &self.capacity()).finish()
    }
}

/// A block that holds a complete value and is not yet published. Dropping it returns the block.
pub struct BuiltLoan<'p, P: Payload> {
    block: RawLoan<'p>,
    len: usize,
    payload: PhantomData<fn() -> P>,
}

impl<'p, P: Payload> BuiltLoan<'p, P> {
    /// Bytes of the value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes the value visible to every subscriber. No copy.
    ///
    /// # Errors
    /// None for a native publisher; a guest's host can refuse.
    #[inline]
    pub fn publish(self) -> Result<Sequence, LoanError> {
        // SAFETY: `build` saw the proof that the first `len` bytes of this block are a value of `P`, whose schema
        // is the channel's, and nobody has written to it since.
        unsafe { self.block.publish_valid(self.len) }
    }

    /// Throws the value away and keeps the block.
    #[must_use]
    pub fn discard(self) -> Loan<'p, P> {
        Loan::new(self.block)
    }
}

impl<P: Payload> fmt::Debug for BuiltLoan<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltLoan").field("len", &self.len).finish()
    }
}

/// A value could not be built; the loan is still there.
pub struct BuildFailed<'p, P: Payload, E> {
    /// The block, to try again with.
    pub loan: Loan<'p, P>,
    /// Why.
    pub error: E,
}

impl<P: Payload, E: fmt::Debug> fmt::Debug for BuildFailed<'_, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildFailed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<P: Payload, E: fmt::Display> fmt::Display for BuildFailed<'_, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// A message was not sent; nothing was published and the block is free again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<E> {
    /// The value could not be built.
    #[error(transparent)]
    Build(E),
    /// The host refused it (guests only), or a larger block is needed and none is free.
    #[error(transparent)]
    Publish(LoanError),
}
