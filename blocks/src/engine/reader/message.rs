//! Messages by reference: [`RawMessage`] and [`RawBatch`].

use std::fmt;
use std::hint::cold_path;

use super::{Reader, State};
use crate::descriptor::{self, Descriptor, Packed, Validity, len_of, validity_of};
use crate::engine::sample::raw::RawSample;
use crate::units::PublisherId;

/// A message by reference. Dropping it releases the message.
pub struct RawMessage<'r> {
    pub(super) reader: &'r mut Reader,
    pub(super) word: u64,
}

impl RawMessage<'_> {
    /// The message's bytes, in place.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the reader's interval covers the message until `drop` releases it, so the block is not
        // handed out again; the arena lives as long as the reader's channel.
        unsafe { descriptor::bytes(self.reader.base, self.word) }
    }

    /// Position, time and length.
    #[inline]
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.current().unpack()
    }

    // The reader takes nothing else while this message borrows it.
    #[inline(always)]
    fn current(&self) -> Packed {
        self.reader.consumer.current_of(self.word)
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[inline(always)]
    #[must_use]
    pub fn validity(&self) -> Validity {
        validity_of(self.word)
    }

    /// The publisher of the message.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.reader.channel.publisher()
    }

    /// Keeps the message for as long as the returned sample lives.
    #[must_use]
    pub fn into_sample(self) -> RawSample {
        if self.reader.state == State::Plain {
            // `drop` will not do this, now that a sample attaches the message.
            self.reader.consumer.count_bytes(len_of(self.word));
        }
        // `drop` then releases the reference, and the window keeps the interval over the sample.
        self.reader.attach(self.current())
    }
}

impl Drop for RawMessage<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.reader.state != State::Plain {
            cold_path();
            self.reader.release_received();
        } else if self.reader.consumer.release_word(self.word) {
            self.reader.wake_publisher();
        }
    }
}

impl fmt::Debug for RawMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMessage").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}

/// Several messages by reference. Dropping the batch releases them together.
pub struct RawBatch<'r> {
    pub(super) reader: &'r mut Reader,
    pub(super) len: usize,
}

impl RawBatch<'_> {
    /// Number of messages; at least one.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always `false`: a batch has at least one message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The publisher of all of them.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.reader.channel.publisher()
    }

    /// Returns the messages from `index` on, as if they had not been received. They are received next, or
    /// counted as lost if the publisher has overtaken this reader meanwhile.
    pub fn return_from(&mut self, index: usize) {
        let returned = self.len.saturating_sub(index);
        let bytes = (index..self.len).map(|index| len_of(self.nth(index).word)).sum();
        self.reader.consumer.unreceive(returned as u64, bytes);
        self.reader.batch.truncate(index);
        self.len -= returned;
    }

    /// Descriptor and bytes of each message, in order.
    ///
    /// # Panics
    /// In a forked child, if the batch was received before the fork: the child has neither.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Descriptor, &[u8])> {
        (0..self.len).map(|index| {
            let packed = self.nth(index);
            // All slots of a child are zeros, which would say that no bytes are a valid message.
            if packed.word == 0 {
                cold_path();
                assert!(!self.reader.channel.is_inherited(), "a forked child has no messages of its parent");
            }
            // SAFETY: the reader's interval covers every message of the batch until `drop` releases them
            // together; the borrow of `self` ends before.
            (packed.unpack(), unsafe { descriptor::bytes(self.reader.base, packed.word) })
        })
    }

    #[inline(always)]
    fn nth(&self, index: usize) -> Packed {
        match self.reader.batch.get(index) {
            Some(packed) => *packed,
            None => self.reader.consumer.nth_before((self.len - index) as u64),
        }
    }
}

impl Drop for RawBatch<'_> {
    fn drop(&mut self) {
        self.reader.release_received();
    }
}

impl fmt::Debug for RawBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}
