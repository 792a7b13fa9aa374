//! Received messages: [`Message`] by reference, [`Sample`] owned, and [`Batch`] for several.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use blockcast_blocks::{
    Descriptor, Payload, PublisherId, RawBatch, RawMessage, RawSample, Schema, Sequence, Timestamp, Validity,
};

use crate::RecvError;

/// Validates bytes that were not validated before.
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

/// The methods of [`Message`] and [`Sample`], whose field `raw` has validated bytes.
macro_rules! accessors {
    () => {
        /// Returns the value, read in place without a copy.
        #[inline]
        #[must_use]
        pub fn view(&self) -> P::View<'_> {
            // SAFETY: `new` has validated the bytes, or the publisher has built them with a builder of this
            // payload, whose schema was compared when it joined. Blocks are aligned to every allowed
            // alignment.
            unsafe { P::view(self.raw.bytes()) }
        }

        /// Returns the message's bytes in place.
        #[must_use]
        pub fn bytes(&self) -> &[u8] {
            self.raw.bytes()
        }

        /// The message's position among those of its publisher.
        #[must_use]
        pub fn sequence(&self) -> Sequence {
            self.raw.descriptor().sequence
        }

        /// The time at which the message was published, or [`Timestamp::NONE`] if its publisher does not
        /// stamp messages.
        #[must_use]
        pub fn time(&self) -> Timestamp {
            self.raw.descriptor().time
        }

        /// The message's publisher.
        #[must_use]
        pub fn publisher(&self) -> PublisherId {
            self.raw.publisher()
        }

        /// Whether the publisher, or the host on its behalf, has checked that the bytes are a value of the
        /// topic's layout.
        #[must_use]
        pub fn validity(&self) -> Validity {
            self.raw.validity()
        }

        /// The schema of the topic.
        #[must_use]
        pub fn schema(&self) -> Schema {
            P::schema()
        }

        /// The message's position, offset in the arena, length and time.
        #[must_use]
        pub fn descriptor(&self) -> Descriptor {
            self.raw.descriptor()
        }
    };
}

/// A message by reference. Dropping it releases the message.
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

    accessors!();

    /// Keeps the message until the returned sample is dropped.
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

/// An owned message, which stays in place until this value and its clones are dropped. Samples can be sent to
/// other threads, cloned, and dropped in any order.
pub struct Sample<P: Payload> {
    raw: RawSample,
    payload: PhantomData<fn() -> P>,
}

impl<P: Payload> Sample<P> {
    #[inline(always)]
    pub(crate) fn new(raw: RawSample) -> Result<Self, RecvError> {
        // Valid bytes are not read here.
        if raw.validity() == Validity::Unchecked {
            check::<P>(raw.bytes())?;
        }
        Ok(Self { raw, payload: PhantomData })
    }

    accessors!();
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

/// Several messages of one publisher by reference. Dropping the batch releases all of them, and they count as
/// received even if they were not read.
pub struct Batch<'s, P: Payload> {
    raw: RawBatch<'s>,
    payload: PhantomData<fn() -> P>,
}

impl<'s, P: Payload> Batch<'s, P> {
    pub(crate) fn new(raw: RawBatch<'s>) -> Self {
        Self { raw, payload: PhantomData }
    }

    /// The number of messages, at least 1.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Always `false`: a batch has at least one message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The publisher of all of them.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.raw.publisher()
    }

    /// Iterates over the values in order, read in place. Validates those that were not validated before.
    pub fn views(&self) -> impl Iterator<Item = Result<P::View<'_>, RecvError>> {
        self.raw.iter().map(|(descriptor, bytes)| {
            checked::<P>(descriptor.validity, bytes)?;
            // SAFETY: as in `Message::view`.
            Ok(unsafe { P::view(bytes) })
        })
    }

    /// Calls `each` with the values in order. If it panics, the messages after the current one count as not
    /// received.
    pub(crate) fn for_each(self, each: &mut impl FnMut(Result<P::View<'_>, RecvError>)) {
        let batch = Unseen { raw: self.raw, seen: Cell::new(0) };
        for (index, (descriptor, bytes)) in batch.raw.iter().enumerate() {
            // This precedes all user code, so that a message that makes it panic is not received again and
            // again.
            batch.seen.set(index + 1);
            let checked = checked::<P>(descriptor.validity, bytes);
            // SAFETY: as in `Message::view`.
            each(checked.map(|()| unsafe { P::view(bytes) }));
        }
    }

    /// Iterates over the position, offset in the arena, length and time of the messages, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        self.raw.iter().map(|(descriptor, _)| descriptor)
    }
}

/// A batch that is being processed. Returns its unseen messages when dropped.
struct Unseen<'s> {
    raw: RawBatch<'s>,
    seen: Cell<usize>,
}

impl Drop for Unseen<'_> {
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
