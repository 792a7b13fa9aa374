//! Messages by reference.

use std::fmt;

use super::sample::RawSample;
use super::subscription::{Subscription, VALID, bytes_at, bytes_of, validity_of};
use crate::descriptor::{Descriptor, Validity};
use crate::units::PublisherId;

/// A message by reference. Dropping it releases the message.
pub struct RawMessage<'r> {
    // It receives nothing else while this message borrows it.
    pub(super) subscription: &'r mut Subscription,
    pub(super) address: u64,
    /// The length, as in the message's record.
    pub(super) length: u32,
}

impl RawMessage<'_> {
    /// The message's bytes, in place.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the subscription, which is borrowed exclusively, took the message and releases it in
        // `drop`.
        unsafe { bytes_at(self.address, self.length & !VALID) }
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[must_use]
    #[inline]
    pub fn validity(&self) -> Validity {
        validity_of(self.length)
    }

    /// The message's position, time and length.
    #[must_use]
    #[inline]
    pub fn descriptor(&self) -> Descriptor {
        self.subscription.current().descriptor
    }

    /// The publisher of the message.
    #[must_use]
    #[inline]
    pub fn publisher(&self) -> PublisherId {
        self.subscription.current().publisher
    }

    /// Keeps the message for as long as the returned sample lives.
    #[must_use]
    pub fn into_sample(self) -> RawSample {
        self.subscription.attach_current() // `drop` releases the reference, the sample keeps the message
    }
}

impl Drop for RawMessage<'_> {
    #[inline]
    fn drop(&mut self) {
        self.subscription.release_taken();
    }
}

impl fmt::Debug for RawMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMessage").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}

/// Several messages by reference. Dropping the batch releases them together.
pub struct RawBatch<'r> {
    pub(super) subscription: &'r mut Subscription,
    pub(super) descriptors: Vec<Descriptor>,
}

impl RawBatch<'_> {
    /// Number of messages; at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// Always `false`: a batch has at least one message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// The publisher of all of them.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.subscription.current().publisher
    }

    /// Returns the messages from `index` on, as if they had not been received. They are received next.
    pub fn return_from(&mut self, index: usize) {
        let returned = self.descriptors.len().saturating_sub(index);
        self.descriptors.truncate(index);
        self.subscription.take_back(returned);
    }

    /// Descriptor and bytes of each message, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Descriptor, &[u8])> {
        self.descriptors.iter().map(|descriptor| {
            // SAFETY: the subscription, which is borrowed exclusively, took the messages and releases them in
            // `drop`.
            (*descriptor, unsafe { bytes_of(descriptor) })
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
