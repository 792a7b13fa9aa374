//! Messages by reference.

use std::fmt;

use super::sample::RawSample;
use super::subscription::{Delivery, Subscription, bytes_at};
use crate::descriptor::{Descriptor, Validity};
use crate::units::PublisherId;

/// A message by reference, released on drop.
pub struct RawMessage<'r> {
    pub(super) subscription: &'r mut Subscription,
    pub(super) delivery: Delivery,
}

impl RawMessage<'_> {
    /// The message's bytes, in place.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the subscription, which is borrowed exclusively, took the message and releases it in `drop`.
        unsafe { bytes_at(&self.delivery.descriptor) }
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[must_use]
    #[inline]
    pub fn validity(&self) -> Validity {
        self.descriptor().validity
    }

    /// Position, time and length.
    #[must_use]
    #[inline]
    pub fn descriptor(&self) -> Descriptor {
        self.delivery.descriptor
    }

    /// Who published it.
    #[must_use]
    #[inline]
    pub fn publisher(&self) -> PublisherId {
        self.delivery.publisher
    }

    /// Keeps the message for as long as the returned sample lives.
    #[must_use]
    pub fn into_sample(self) -> RawSample {
        self.subscription.attach(self.delivery) // `drop` releases the reference, the sample keeps the message
    }
}

impl Drop for RawMessage<'_> {
    #[inline]
    fn drop(&mut self) {
        self.subscription.release_to(self.delivery.index + 1);
    }
}

impl fmt::Debug for RawMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMessage").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}

/// Several messages by reference, released together on drop.
pub struct RawBatch<'r> {
    pub(super) subscription: &'r mut Subscription,
    pub(super) descriptors: Vec<Descriptor>,
}

impl RawBatch<'_> {
    /// How many messages; at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// Never: a batch has at least one message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// Position and bytes of each message, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Descriptor, &[u8])> {
        self.descriptors.iter().map(|descriptor| {
            // SAFETY: the subscription, which is borrowed exclusively, took the messages and releases them in `drop`.
            (*descriptor, unsafe { bytes_at(descriptor) })
        })
    }
}

impl Drop for RawBatch<'_> {
    fn drop(&mut self) {
        self.subscription.release_taken();
    }
}

impl fmt::Debug for RawBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}
