//! What is received: [`Message`] by reference, [`Sample`] owned, [`Batch`] of several.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use blockcast_blocks::{
    Descriptor, Payload, PublisherId, RawBatch, RawMessage, RawSample, Schema, Sequence, Timestamp, Validity,
};

use crate::RecvError;

/// Checks bytes that were not checked before.
#[inline(always)]
fn checked<P: Payload>(validity: Validity, bytes: &[u8]) -> Result<(), RecvError> {
    match validity {
        Validity::Valid => Ok(()),
        Validity::Unchecked => check::<P>(bytes),
    }
}

#[cold]
#[inline(never)]
fn check<P: Payload>(bytes: &[u8]) -> Result<(), RecvError> {
    P::validate(bytes).map_err(RecvError::from)
}

/// A message by reference: it stays in place until this value is dropped.
pub struct Message<'s, P: Payload> {
    raw: RawMessage<'s>,
    payload: PhantomData<fn() -> P>,
}

impl<'s, P: Payload> Message<'s, P> {
    #[inline(always)]
    pub(crate) fn new(raw: RawMessage<'s>) -> Result<Self, RecvError> {
        checked::<P>(raw.validity(), raw.bytes())?;
        Ok(Self { raw, payload: PhantomData })
    }

    /// The value, read in place. No copy.
    #[inline]
    #[must_use]
    pub fn view(&self) -> P::View<'_> {
        // SAFETY: `new` checked the bytes, or the publisher built them with this payload's builder (the
        // schemas were compared when it joined); blocks start at a multiple of every allowed alignment.
        unsafe { P::view(self.raw.bytes()) }
    }

    /// The message's bytes, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.raw.bytes()
    }

    /// Position within its publisher.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.raw.descriptor().sequence
    }

    /// When it was published, if its publisher stamps.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.raw.descriptor().time
    }

    /// Who published it.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.raw.publisher()
    }

    /// Layout of the topic.
    #[must_use]
    pub fn schema(&self) -> Schema {
        P::schema()
    }

    /// Position, offset in the arena, length and time.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.raw.descriptor()
    }

    /// Keeps the message for as long as the returned sample lives.
    #[must_use]
    pub fn into_sample(self) -> Sample<P> {
        Sample { raw: self.raw.into_sample(), payload: PhantomData }
    }
}

impl<P: Payload> fmt::Debug for Message<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("descriptor", &self.raw.descriptor()).finish_non_exhaustive()
    }
}

/// A message that stays in place for as long as this value lives: sendable, cloneable, dropped in any order.
pub struct Sample<P: Payload> {
    raw: RawSample,
    payload: PhantomData<fn() -> P>,
}

impl<P: Payload> Sample<P> {
    #[inline(always)]
    pub(crate) fn new(raw: RawSample) -> Result<Self, RecvError> {
        // Where they are valid they are not looked at.
        if raw.validity() == Validity::Unchecked {
            check::<P>(raw.bytes())?;
        }
        Ok(Self { raw, payload: PhantomData })
    }

    /// The value, read in place. No copy.
    #[inline]
    #[must_use]
    pub fn view(&self) -> P::View<'_> {
        // SAFETY: as for `Message::view`.
        unsafe { P::view(self.raw.bytes()) }
    }

    /// The message's bytes, in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.raw.bytes()
    }

    /// Position within its publisher.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.raw.descriptor().sequence
    }

    /// When it was published, if its publisher stamps.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.raw.descriptor().time
    }

    /// Who published it.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.raw.publisher()
    }

    /// Layout of the topic.
    #[must_use]
    pub fn schema(&self) -> Schema {
        P::schema()
    }

    /// Position, offset in the arena, length and time.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.raw.descriptor()
    }
}

impl<P: Payload> Clone for Sample<P> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), payload: PhantomData }
    }
}

impl<P: Payload> fmt::Debug for Sample<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample").field("descriptor", &self.raw.descriptor()).finish_non_exhaustive()
    }
}

/// Several messages of one publisher by reference, let go of together when this is dropped: all of them count as
/// received, seen or not.
pub struct Batch<'s, P: Payload> {
    raw: RawBatch<'s>,
    payload: PhantomData<fn() -> P>,
}

impl<'s, P: Payload> Batch<'s, P> {
    pub(crate) fn new(raw: RawBatch<'s>) -> Self {
        Self { raw, payload: PhantomData }
    }

    /// How many messages; at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Never: a batch has at least one message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The values in order, read in place. One whose bytes were not checked before is checked here.
    pub fn views(&self) -> impl Iterator<Item = Result<P::View<'_>, RecvError>> {
        self.raw.iter().map(|(descriptor, bytes)| {
            checked::<P>(descriptor.validity, bytes)?;
            // SAFETY: as for `Message::view`.
            Ok(unsafe { P::view(bytes) })
        })
    }

    /// Calls `each` with the values in order. If it panics, the messages behind the one that it was called with count as not
    /// received.
    pub(crate) fn for_each(self, each: &mut impl FnMut(Result<P::View<'_>, RecvError>)) {
        let rest = Rest { raw: self.raw, seen: Cell::new(0) };
        for (index, (descriptor, bytes)) in rest.raw.iter().enumerate() {
            // Before anything of the user's is called: a message that makes it panic is not seen for ever.
            rest.seen.set(index + 1);
            let checked = checked::<P>(descriptor.validity, bytes);
            // SAFETY: as for `Message::view`.
            each(checked.map(|()| unsafe { P::view(bytes) }));
        }
    }

    /// Position, offset in the arena, length and time of each message, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        self.raw.iter().map(|(descriptor, _)| descriptor)
    }
}

/// A batch that is being worked off. Gives back what was not seen.
struct Rest<'s> {
    raw: RawBatch<'s>,
    seen: Cell<usize>,
}

impl Drop for Rest<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.seen.get() < self.raw.len() {
            self.raw.return_from(self.seen.get());
        }
    }
}

impl<P: Payload> fmt::Debug for Batch<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish_non_exhaustive()
    }
}
