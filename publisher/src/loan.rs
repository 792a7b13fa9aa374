//! [`Loan`]: a block that a publisher fills.

use std::fmt;
use std::marker::PhantomData;

use blockcast_blocks::{BuildError, LoanError, Payload, RawLoan, RoomError, Sequence, WriteFrom};

/// A publisher's exclusive, writable hold on a block. Dropping it unpublished returns the block to the pool.
///
/// ```text
/// Loan ── build ──▶ BuiltLoan ── publish ──▶ subscribers
///   │       └─ failed: BuildFailed returns the loan, which can grow
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

    /// The size of the block in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Builds a value in place. The closure returns the proof that the value is complete, which is bound to
    /// this block by its lifetime.
    ///
    /// # Errors
    /// Returns the error of the closure, with the loan, which can be used for another build.
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

    /// Builds a value in place and publishes it. After an error, the block is back in the pool.
    ///
    /// # Errors
    /// [`SendError::Build`] with the error of the closure, or [`SendError::Publish`] if the host refuses the
    /// message.
    #[inline(always)]
    pub fn send_with<E>(
        mut self,
        fill: impl for<'b> FnOnce(EmptyBlock<'b, P>) -> Result<P::Built<'b>, E>,
    ) -> Result<Sequence, SendError<E>> {
        let built = fill(EmptyBlock::new(&mut self.block)).map(|built| P::built_len(&built));
        let len = built.map_err(SendError::Build)?;
        // SAFETY: the closure has proved that the first `len` bytes of this block are a value of `P`, whose
        // schema is that of the channel.
        unsafe { self.block.publish_valid(len) }.map_err(SendError::Publish)
    }

    /// Like [`send_with`](Self::send_with), but if the value does not fit into the block, calls the closure
    /// again with a larger one ([`PublisherOptions::larger_blocks`]).
    ///
    /// Each call starts from the beginning, so this builds at most one value per block size in vain. If you
    /// know the size, loan a large enough block with [`try_loan_sized`].
    ///
    /// # Errors
    /// Fails like [`send_with`](Self::send_with), and with [`LoanError::Exhausted`] in [`SendError::Publish`]
    /// if no larger block is free.
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
        // SAFETY: the closure has proved that the first `len` bytes of this block are a value of `P`, whose
        // schema is that of the channel.
        unsafe { self.block.publish_valid(len) }.map_err(SendError::Publish)
    }

    /// Writes `value` in place and publishes it. If it does not fit into the block, uses a larger one, like
    /// [`send_growing`](Self::send_growing). After an error, the block is back in the pool.
    ///
    /// # Errors
    /// - [`SendError::Build`] if the value does not fit into the largest block.
    /// - [`SendError::Publish`] with [`LoanError::Exhausted`] if no larger block is free, or if the host
    ///   refuses the message.
    #[inline]
    pub fn send<V: ?Sized>(self, value: &V) -> Result<Sequence, SendError<BuildError>>
    where
        P: WriteFrom<V>,
    {
        let (loan, len) = self.write(value)?;
        // SAFETY: `write` has proved that the first `len` bytes of this block are a value of `P`, whose
        // schema is that of the channel.
        unsafe { loan.block.publish_valid(len) }.map_err(SendError::Publish)
    }

    /// Like [`send`](Self::send), for a loan of a batch, which makes the message visible.
    #[inline]
    pub(crate) fn add<V: ?Sized>(self, value: &V) -> Result<(), SendError<BuildError>>
    where
        P: WriteFrom<V>,
    {
        let (loan, len) = self.write(value)?;
        // SAFETY: as in `send`.
        unsafe { loan.block.add_valid(len) }.map_err(SendError::Publish)
    }

    /// Writes a value into the block, or into a larger one. Returns its length.
    #[inline(always)]
    fn write<V: ?Sized>(mut self, value: &V) -> Result<(Self, usize), SendError<BuildError>>
    where
        P: WriteFrom<V>,
    {
        match self.try_write(value) {
            Ok(len) => Ok((self, len)),
            // By value, so that otherwise the loan stays in registers.
            Err(error) => self.write_larger(value, error),
        }
    }

    #[inline(always)]
    fn try_write<V: ?Sized>(&mut self, value: &V) -> Result<usize, BuildError>
    where
        P: WriteFrom<V>,
    {
        // SAFETY: the proof is used in this expression only, for this block.
        unsafe { P::write_from(value, &mut self.block) }.map(|built| P::built_len(&built))
    }

    #[cold]
    #[inline(never)]
    fn write_larger<V: ?Sized>(
        mut self,
        value: &V,
        mut error: BuildError,
    ) -> Result<(Self, usize), SendError<BuildError>>
    where
        P: WriteFrom<V>,
    {
        loop {
            self.make_room_for(error)?;
            match self.try_write(value) {
                Ok(len) => return Ok((self, len)),
                Err(next) => error = next,
            }
        }
    }

    /// Replaces the block by one of at least `bytes`, unless it is that large already. Never waits. Does not
    /// copy the contents of the block.
    ///
    /// # Errors
    /// [`LoanError::TooLarge`] if the publisher has no such blocks, or [`LoanError::Exhausted`] if none is
    /// free. The loan is unchanged.
    pub fn grow(&mut self, bytes: usize) -> Result<(), LoanError> {
        self.block.grow(bytes)
    }

    /// Replaces the block by a larger one after a failed build, or returns the reason why this is not
    /// possible.
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

/// A type that is invariant in `'b`.
type Brand<'b> = PhantomData<fn(&'b ()) -> &'b ()>;

/// A block without a value. Its lifetime is unique, so that the proof of a value in another block is not
/// accepted for this one.
pub struct EmptyBlock<'b, P: Payload> {
    bytes: &'b mut [u8],
    brand: Brand<'b>,
    payload: PhantomData<fn() -> P>,
}

impl<'b, P: Payload> EmptyBlock<'b, P> {
    fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, brand: PhantomData, payload: PhantomData }
    }

    /// The size of the block in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Starts building the value, front to back.
    #[must_use]
    pub fn builder(self) -> P::Builder<'b> {
        // SAFETY: `'b` belongs only to this block: `new` is called for closures that accept every lifetime,
        // so no other block has this lifetime.
        unsafe { P::builder(self.bytes) }
    }

    /// Writes an existing value.
    ///
    /// # Errors
    /// [`BuildError`] if the value does not fit into the block.
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

/// A block with a complete value that is not yet published. Dropping it returns the block to the pool.
pub struct BuiltLoan<'p, P: Payload> {
    block: RawLoan<'p>,
    len: usize,
    payload: PhantomData<fn() -> P>,
}

impl<'p, P: Payload> BuiltLoan<'p, P> {
    /// The length of the value in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes the value visible to all subscribers, without a copy. Returns the message's sequence number.
    ///
    /// # Errors
    /// Fails only if a component's host refuses the message.
    #[inline]
    pub fn publish(self) -> Result<Sequence, LoanError> {
        // SAFETY: `build` had the proof that the first `len` bytes of this block are a value of `P`, whose
        // schema is that of the channel. Nobody has written to the block since.
        unsafe { self.block.publish_valid(self.len) }
    }

    /// Discards the value and returns the block as a loan.
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

/// The error of building a value, with the loan.
pub struct BuildFailed<'p, P: Payload, E> {
    /// The loan, for another build.
    pub loan: Loan<'p, P>,
    /// The reason.
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

/// The reason why a message was not sent. Nothing was published, and the block is free again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<E> {
    /// Building the value failed.
    #[error(transparent)]
    Build(E),
    /// No larger block is free, or a component's host refuses the message.
    #[error(transparent)]
    Publish(LoanError),
}

/// The reason why not all messages of a batch were sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {sent} messages of the batch: {error}")]
pub struct BatchError {
    /// The number of messages that were published: the first ones of the batch.
    pub sent: usize,
    /// The reason why the next one was not.
    pub error: SendError<BuildError>,
}
