//! Receiving through the host: message records come in batches, and messages are read where the host says
//! they are.
//!
//! # Releasing
//! The host learns what was released with the next request for a batch. While the app works through a batch,
//! that would keep blocks from a publisher that waits for them. So there are calls in between that only
//! release: every [`RELEASE_MESSAGES`] messages, every quarter of a larger batch, or every [`RELEASE_BYTES`]
//! bytes. That is rare enough for small messages, and at once for large ones. Before the component waits, the
//! host learns of all remaining releases.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::attached::Attached;
use super::error::HostError;
use super::host::types::{Error, SubscriptionStats};
use super::host::{Deliveries, Record, Runtime, THREADS};
use super::message::{RawBatch, RawMessage};
use super::sample::{RawSample, Samples};
use crate::descriptor::{Descriptor, Validity};
use crate::error::ReceiveError;
use crate::options::ReaderOptions;
use crate::payload::BLOCK_ALIGNMENT;
use crate::payload::schema::Schema;
use crate::units::{PublisherId, Sequence, Timestamp};

/// Records per batch.
const BATCH: usize = 256;
/// Messages after which the host learns that they were released, in batches of up to four times as many.
const RELEASE_MESSAGES: usize = 32;
/// Bytes after which the host learns that they were released.
const RELEASE_BYTES: u64 = 64 * 1024;
/// Bit of [`Record::length`]: the bytes are known to be valid.
pub(super) const VALID: u32 = 1 << 31;

/// The sequence of a record that reports a loss which no message follows yet.
const NO_MESSAGE: u64 = u64::MAX;

/// A delivery: a message's descriptor, and its number within the subscription.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// Number of the delivery within the subscription, which releases and holds refer to.
    pub(super) index: u64,
    /// The offset is an address in the component's memory.
    pub(super) descriptor: Descriptor,
    pub(super) publisher: PublisherId,
}

/// A subscription to one topic: the messages of all its publishers, in order per publisher.
///
/// The offset of a [`Descriptor`] is an address in the component's memory.
pub struct Subscription {
    runtime: Runtime,
    attached: Arc<Attached>,
    batch: Box<[Record]>,
    /// The next record of the batch.
    next: usize,
    /// Number of records in the batch.
    filled: usize,
    /// The records from `next` to here are messages, with nothing to report before them: neither a loss to
    /// the app nor a release to the host.
    plain: usize,
    /// The next record at the time when the host last learned about releases.
    told: usize,
    /// Deliveries received before the batch, minus records of the batch that were not deliveries. Wraps.
    before: u64,
    /// No delivery before this number is needed by reference any more.
    floor: u64,
    samples: Samples,
    lost: u64,
    /// An error that a check for messages found.
    found: Option<ReceiveError>,
}

impl Subscription {
    /// Subscribes to `topic`. A host that keeps statistics by name calls the subscription `name`. A guest
    /// reserves address space when the first message needs it.
    ///
    /// # Errors
    /// The host's error: not granted, a different schema, or a limit.
    pub fn open(
        host: &Runtime,
        topic: &str,
        schema: &Schema,
        options: ReaderOptions,
        name: &str,
    ) -> Result<Self, HostError> {
        let attached = Arc::new(Attached::new(Deliveries::open(host, topic, schema, options, name)?));
        host.with_reactor(|reactor| reactor.attach(&attached));
        Ok(Self {
            runtime: host.clone(),
            attached,
            batch: vec![Record::default(); BATCH].into_boxed_slice(),
            next: 0,
            filled: 0,
            plain: 0,
            told: 0,
            before: 0,
            floor: 0,
            samples: Samples::default(),
            lost: 0,
            found: None,
        })
    }

    /// Lost messages that were reported so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The host's counters of this subscription. One host call.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.attached.deliveries.handle().stats()
    }

    /// Receives the next message by reference. No copy, and one host call per batch. Never waits. Dropping
    /// the returned value releases the message.
    ///
    /// # Errors
    /// [`ReceiveError`]: there is no message, the topic has ended, messages were lost, or the host refuses.
    #[inline]
    pub fn receive(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        let (address, length) = self.take()?;
        Ok(RawMessage { subscription: self, address, length })
    }

    /// Receives up to `limit` messages of one publisher by reference. Dropping the batch releases them
    /// together.
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive), if there is no message at all.
    pub fn receive_batch(&mut self, limit: usize) -> Result<RawBatch<'_>, ReceiveError> {
        self.take()?;
        let first = self.current();
        let mut descriptors = vec![first.descriptor];
        // From what the host already delivered, up to a loss, which is reported before the message that
        // follows it.
        let follows = |record: &Record| record.lost == 0 && record.publisher == first.publisher.short();
        while descriptors.len() < limit
            && self.batch[self.next..self.filled].first().is_some_and(follows)
            && self.take().is_ok()
        {
            descriptors.push(self.current().descriptor);
        }
        Ok(RawBatch { subscription: self, descriptors })
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive).
    pub fn receive_owned(&mut self) -> Result<RawSample, ReceiveError> {
        self.take()?;
        let sample = self.attach_current();
        self.release_taken();
        Ok(sample)
    }

    /// Whether a receive would return anything except [`ReceiveError::Empty`]. May call the host.
    #[inline]
    pub fn is_ready(&mut self) -> bool {
        self.next < self.plain || self.look()
    }

    /// Makes the last `count` messages of a batch, none of which was released, the next ones to receive
    /// again.
    pub(super) fn take_back(&mut self, count: usize) {
        self.next -= count;
    }

    /// Asks the host for messages, unless it is known that there are some.
    #[inline(never)]
    fn look(&mut self) -> bool {
        if self.next < self.filled || self.found.is_some() {
            return true;
        }
        match self.refill() {
            Ok(()) => true,
            Err(ReceiveError::Empty) => false,
            Err(found) => {
                // The host reports some errors only once: keep this one for the next receive.
                self.found = Some(found);
                true
            }
        }
    }

    /// The largest number of receives until the newest message that is there now: one for each message, and
    /// one for each loss. If the host had more than it delivers at a time, this is unknown, and a very large
    /// number. May call the host.
    pub fn backlog(&mut self) -> u64 {
        if !self.is_ready() {
            return 0;
        }
        match self.filled - self.next {
            // An error in place of a message.
            0 => 1,
            BATCH => u64::MAX,
            records => 2 * records as u64,
        }
    }

    /// Ready once a receive would not return [`ReceiveError::Empty`]. Before it waits, samples become holds,
    /// so that a waiting component does not hold back publishers.
    #[inline]
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() { Poll::Ready(()) } else { self.wait(cx) }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.samples.hold_all() {
            self.tell();
        }
        self.runtime.wake_on_progress(cx.waker());
        // If another thread waited meanwhile, the host does not repeat what it told that thread.
        if THREADS && self.is_ready() {
            return Poll::Ready(());
        }
        self.runtime.look_again();
        Poll::Pending
    }

    /// Takes the next message. Returns its address, and its length with the bit for bytes that are known to
    /// be valid.
    #[inline]
    fn take(&mut self) -> Result<(u64, u32), ReceiveError> {
        if self.next >= self.plain {
            self.go_on()?;
        }
        let record = self.batch.get(self.next).ok_or(ReceiveError::Empty)?;
        self.next += 1;
        Ok((record.address(), record.length))
    }

    /// Prepares the next message: requests a batch, tells the host what is released, or reports a loss.
    #[inline(never)]
    fn go_on(&mut self) -> Result<(), ReceiveError> {
        if let Some(found) = self.found.take() {
            return Err(found);
        }
        if self.next == self.filled {
            self.refill()?;
        } else if self.next >= self.told_at_latest() || self.bytes_untold() >= RELEASE_BYTES {
            self.tell();
        }
        let record = self.batch.get_mut(self.next).ok_or(ReceiveError::Empty)?;
        if record.lost > 0 {
            let lost = u64::from(std::mem::take(&mut record.lost));
            self.lost += lost;
            if record.sequence == NO_MESSAGE {
                self.next += 1;
                self.before = self.before.wrapping_sub(1);
            }
            return Err(ReceiveError::Lost(lost));
        }
        let limit = self.filled.min(self.told_at_latest());
        let ahead = self.batch.get(self.next..limit).unwrap_or_default();
        self.plain = self.next + plain_of(ahead, self.bytes_untold());
        Ok(())
    }

    /// The record before which the host must learn what is released, however small the messages are.
    fn told_at_latest(&self) -> usize {
        self.told + RELEASE_MESSAGES.max(self.filled / 4)
    }

    /// Bytes of the messages received since the host last learned about releases.
    fn bytes_untold(&self) -> u64 {
        bytes_in(self.batch.get(self.told..self.next).unwrap_or_default())
    }

    /// Deliveries received so far.
    #[inline]
    fn taken(&self) -> u64 {
        self.before.wrapping_add(self.next as u64)
    }

    /// The message received last, until something else is received.
    #[inline]
    pub(super) fn current(&self) -> Delivery {
        let record = self.next.checked_sub(1).and_then(|last| self.batch.get(last)).copied();
        let record = record.unwrap_or_default();
        let descriptor = Descriptor {
            sequence: Sequence::new(record.sequence),
            offset: record.address(),
            len: record.length & !VALID,
            time: Timestamp::from_nanos(record.time),
            validity: validity_of(record.length),
        };
        let index = self.taken().wrapping_sub(1);
        Delivery { index, descriptor, publisher: PublisherId::new(u64::from(record.publisher)) }
    }

    /// Releases all received messages except samples. The host learns of it with the next batch or a little
    /// earlier.
    #[inline]
    pub(super) fn release_taken(&mut self) {
        self.floor = self.taken();
        let released = self.released();
        self.attached.release(released);
    }

    /// Tells the host at once which messages were released.
    pub fn flush(&mut self) {
        let released = self.released();
        self.attached.release(released);
        if self.attached.is_untold() {
            self.tell();
        }
    }

    /// Keeps the message received last.
    pub(super) fn attach_current(&mut self) -> RawSample {
        let delivery = self.current();
        self.samples.attach(&self.attached, delivery)
    }

    /// Requests the next batch from the host.
    #[inline(never)]
    fn refill(&mut self) -> Result<(), ReceiveError> {
        self.before = self.taken();
        (self.next, self.filled, self.plain) = (0, 0, 0);
        let released = self.tell_next();
        match self.attached.deliveries.poll(&mut self.batch, released) {
            Ok(0) | Err(Error::Busy) => Err(ReceiveError::Empty),
            Ok(count) => {
                self.filled = (count as usize).min(self.batch.len());
                Ok(())
            }
            Err(Error::Closed) => Err(ReceiveError::Ended),
            Err(other) => Err(refused(other)),
        }
    }

    /// Tells the host which messages are released, without receiving.
    #[inline(never)]
    fn tell(&mut self) {
        let released = self.tell_next();
        self.attached.deliveries.release(released);
    }

    /// Returns the released part. The caller tells the host at once.
    fn tell_next(&mut self) -> u64 {
        self.told = self.next;
        let released = self.released();
        self.attached.tell(released);
        released
    }

    /// Deliveries before this number are needed neither by reference nor by a sample.
    #[inline]
    fn released(&mut self) -> u64 {
        match self.samples.oldest() {
            Some(oldest) => oldest.min(self.floor),
            None => self.floor,
        }
    }
}

fn refused(error: Error) -> ReceiveError {
    ReceiveError::Refused(HostError::from(error).text())
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.samples.hold_all();
        // If samples live on, the last of them ends the subscription. A sample that the host would not hold
        // needs the delivery unchanged until then.
        if self.samples.is_empty() && Arc::strong_count(&self.attached) > 1 {
            self.attached.deliveries.handle().leave();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("taken", &self.taken())
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// Bytes of the messages in these records.
fn bytes_in(records: &[Record]) -> u64 {
    records.iter().map(|record| u64::from(record.length & !VALID)).sum()
}

/// Number of records before a loss, and before the host must learn of releases. `bytes` were released without
/// it knowing.
fn plain_of(ahead: &[Record], mut bytes: u64) -> usize {
    let is_plain = |record: &&Record| {
        let plain = record.lost == 0 && bytes < RELEASE_BYTES;
        bytes += u64::from(record.length & !VALID);
        plain
    };
    ahead.iter().take_while(is_plain).count()
}

/// The validity of the bytes, according to the length in a record.
#[inline]
pub(super) fn validity_of(length: u32) -> Validity {
    if length & VALID != 0 { Validity::Valid } else { Validity::Unchecked }
}

/// The bytes that a descriptor names.
///
/// # Safety
/// The descriptor was delivered to a subscription, and during `'a` it is neither released nor is the
/// subscription closed, or it is held.
#[inline]
pub(super) unsafe fn bytes_of<'a>(descriptor: &Descriptor) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { bytes_at(descriptor.offset, descriptor.len) }
}

/// The bytes of a message that was delivered at `address`.
///
/// # Safety
/// The same as for [`bytes_of`].
#[inline]
pub(super) unsafe fn bytes_at<'a>(address: u64, len: u32) -> &'a [u8] {
    if len == 0 {
        // An empty value is aligned like any other.
        let nowhere = std::ptr::without_provenance(BLOCK_ALIGNMENT);
        // SAFETY: a slice of no bytes may lie anywhere but at 0.
        return unsafe { std::slice::from_raw_parts(nowhere, 0) };
    }
    let start = std::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: the host has said that the message lies there: a guest's in address space that nothing else in
    // the guest uses (see `Windows::reserve`), a library's in the block itself. It keeps the bytes readable
    // and unchanged until the delivery is released and no longer held, which the caller excludes for `'a`. A
    // length has 31 bits: below `isize::MAX`.
    unsafe { std::slice::from_raw_parts(start, len as usize) }
}
