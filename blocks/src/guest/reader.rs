//! Receiving in a guest: message records in batches, blocks read where the host has mapped them.
//!
//! # Releasing
//! The host learns what was released with the next call of `poll`. While a batch is being worked off that would
//! keep blocks from a publisher that waits for them, so a call that only releases is made in
//! between, every [`RELEASE_MESSAGES`] messages or [`RELEASE_BYTES`] bytes: rare enough for small messages not to
//! notice, and at once for large ones.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::bindings::blockcast::blocks::topics::Subscription;
use super::bindings::blockcast::blocks::types::{self, Error, MemoryArea};
use super::error::HostError;
use super::reactor;
use super::window::{self, Windows};
use crate::descriptor::{Descriptor, Validity};
use crate::schema::Schema;
use crate::units::{PublisherId, Sequence, Timestamp};

/// Records per batch.
const BATCH: usize = 128;
/// Messages after which the host is told that they were released.
const RELEASE_MESSAGES: u64 = 32;
/// Bytes after which the host is told that they were released.
const RELEASE_BYTES: u64 = 64 * 1024;
/// Bit of [`Record::length`]: the bytes are known to be valid.
const VALID: u32 = 1 << 31;

/// A message record as the host writes it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
struct Record {
    index: u64,
    time: u64,
    address: u32,
    length: u32,
    publisher: u32,
    lost: u32,
}

const _: () = assert!(size_of::<Record>() == 32);

/// What happens to a subscription that falls behind.
pub use types::Overflow;

/// How a subscription wants to be served.
#[derive(Clone, Copy, Debug)]
pub struct ReaderOptions {
    /// What happens when it falls behind.
    pub overflow: Overflow,
    /// Messages per publisher, published earlier, that it wants to see.
    pub history: u32,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { overflow: Overflow::Block, history: 0 }
    }
}

/// There is no message to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Nothing at the moment.
    #[error("there is no message at the moment")]
    Empty,
    /// All publishers are gone and everything was taken.
    #[error("the topic has ended")]
    Ended,
    /// This many messages were lost just before the next one. Reported once.
    #[error("{0} messages were lost")]
    Lost(u64),
    /// The host refused to deliver.
    #[error("the host does not deliver: {0}")]
    Refused(HostError),
}

/// The subscription and the address space that it uses. Fields are dropped in this order.
#[derive(Debug)]
struct Attached {
    subscription: Subscription,
    windows: std::sync::Mutex<Windows>,
}

/// A subscription to one topic: the messages of all its publishers, in order per publisher.
///
/// The sequence of a [`Descriptor`] is the running number of the delivery within the subscription, and its offset
/// is the address in the guest's memory.
#[derive(Debug)]
pub struct Reader {
    attached: Arc<Attached>,
    batch: Box<[Record]>,
    /// The next record of the batch, and how many there are.
    next: usize,
    filled: usize,
    /// Everything before this number is released; the host knows it up to `told`.
    released: u64,
    told: u64,
    /// Number after that of the last taken message.
    taken: u64,
    /// Bytes taken since the host was told.
    bytes: u64,
    /// Publisher of the last taken message.
    publisher: PublisherId,
    lost: u64,
}

impl Reader {
    /// Subscribes to `topic`. Address space is taken when the first message needs it.
    ///
    /// # Errors
    /// What the host refuses it with: not granted, another schema, a limit.
    pub fn open(topic: &str, schema: &Schema, options: ReaderOptions) -> Result<Self, HostError> {
        let options = types::SubscriptionOptions { overflow: options.overflow, history: options.history };
        let subscription = Subscription::open(topic, schema.name(), schema.fingerprint(), options)?;
        Ok(Self {
            attached: Arc::new(Attached { subscription, windows: std::sync::Mutex::default() }),
            batch: vec![Record::default(); BATCH].into_boxed_slice(),
            next: 0,
            filled: 0,
            released: 0,
            told: 0,
            taken: 0,
            bytes: 0,
            publisher: PublisherId::default(),
            lost: 0,
        })
    }

    /// Takes the next message, which stays readable until it is released. One host call per batch.
    ///
    /// # Errors
    /// [`TakeError::Empty`] when there is none at the moment, [`TakeError::Ended`] when there never will be,
    /// [`TakeError::Lost`] once before the message that follows a loss.
    pub fn take(&mut self) -> Result<Descriptor, TakeError> {
        if self.next == self.filled {
            self.refill()?;
        } else if self.taken - self.told >= RELEASE_MESSAGES || self.bytes >= RELEASE_BYTES {
            self.tell();
        }
        let record = self.batch.get_mut(self.next).ok_or(TakeError::Empty)?;
        if record.lost > 0 {
            let lost = u64::from(std::mem::take(&mut record.lost));
            self.lost += lost;
            return Err(TakeError::Lost(lost));
        }
        let record = *record;
        self.next += 1;
        self.taken = record.index + 1;
        let len = record.length & !VALID;
        self.bytes += u64::from(len);
        self.publisher = PublisherId::new(record.publisher);
        Ok(Descriptor {
            sequence: Sequence::new(record.index),
            offset: u64::from(record.address),
            len,
            time: Timestamp::from_nanos(record.time),
            validity: if record.length & VALID != 0 { Validity::Valid } else { Validity::Unchecked },
        })
    }

    /// Like [`take`](Self::take), but instead of [`TakeError::Empty`] it arranges that the task is woken.
    pub fn poll_take(&mut self, context: &Context<'_>) -> Poll<Result<Descriptor, TakeError>> {
        match self.take() {
            Err(TakeError::Empty) => {
                reactor::wake_on_progress(context.waker());
                Poll::Pending
            }
            taken => Poll::Ready(taken),
        }
    }

    /// Releases every message taken before `sequence`; those held stay. The host learns it with the next batch
    /// or a little earlier. Numbers that were not taken yet count as the last one that was.
    pub fn release_before(&mut self, sequence: Sequence) {
        self.released = self.released.max(sequence.get().min(self.taken));
    }

    /// Tells the host at once what was released.
    pub fn flush(&mut self) {
        if self.told < self.released {
            self.tell();
        }
    }

    /// Keeps a message readable beyond its release, without keeping others. One host call.
    ///
    /// # Errors
    /// When the grant's limit of held blocks is reached, or the message was already released.
    pub fn hold(&self, descriptor: &Descriptor) -> Result<Hold, HostError> {
        let number = self.attached.subscription.hold(descriptor.sequence.get())?;
        Ok(Hold { attached: Arc::clone(&self.attached), number })
    }

    /// The bytes of a message, where they lie. No copy.
    ///
    /// # Safety
    /// `descriptor` came from [`take`](Self::take) of this very reader, and was not released since
    /// (the borrow of `self` keeps it from being released while the bytes are in use).
    #[must_use]
    pub unsafe fn bytes(&self, descriptor: &Descriptor) -> &[u8] {
        // SAFETY: as the caller promises.
        unsafe { bytes_at(descriptor) }
    }

    /// Publisher of the message taken last.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.publisher
    }

    /// Messages lost so far, as far as they were reported by [`take`](Self::take).
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The host's counters of this subscription. One host call.
    #[must_use]
    pub fn stats(&self) -> types::SubscriptionStats {
        self.attached.subscription.stats()
    }

    /// Asks the host for the next batch, and for blocks to be mapped where that is needed first.
    fn refill(&mut self) -> Result<(), TakeError> {
        let size = self.batch.len() * size_of::<Record>();
        // The host writes the records behind the compiler's back: through the exposed pointer.
        let address = self.batch.as_mut_ptr().expose_provenance() as u32;
        let area = MemoryArea { address, size: size as u32 };
        self.next = 0;
        self.filled = 0;
        loop {
            let polled = self.attached.subscription.poll(area, self.released);
            self.note_told();
            match polled {
                Ok(0) | Err(Error::Busy) => return Err(TakeError::Empty),
                Ok(count) => {
                    self.filled = (count as usize).min(self.batch.len());
                    return Ok(());
                }
                Err(Error::Closed) => return Err(TakeError::Ended),
                Err(Error::NoStorage) => self.donate().map_err(TakeError::Refused)?,
                Err(other) => return Err(TakeError::Refused(other.into())),
            }
        }
    }

    /// Gives the host the address space that it says it needs.
    fn donate(&self) -> Result<(), HostError> {
        let needed = self.attached.subscription.minimum_size();
        if needed == 0 {
            return Err(Error::NoStorage.into()); // the host contradicts itself; asking again would not end
        }
        let area = Windows::reserve(needed).ok_or(Error::NoStorage)?;
        if let Err(error) = self.attached.subscription.add_storage(area) {
            window::hand_back(area);
            return Err(error.into());
        }
        if let Ok(mut windows) = self.attached.windows.lock() {
            windows.donated(area);
        }
        Ok(())
    }

    fn tell(&mut self) {
        // An empty batch only releases. Whatever else the host has to say it says again at the next refill.
        let _ = self.attached.subscription.poll(MemoryArea { address: 0, size: 0 }, self.released);
        self.note_told();
    }

    fn note_told(&mut self) {
        self.told = self.released;
        self.bytes = 0;
    }
}

/// Keeps one message readable; dropping it gives the block back. One host call then.
#[derive(Debug)]
#[must_use = "dropping it gives the block back"]
pub struct Hold {
    attached: Arc<Attached>,
    number: u32,
}

impl Hold {
    /// The bytes of the message that is held.
    ///
    /// # Safety
    /// `descriptor` is the one that [`Reader::hold`] got for this very hold.
    #[must_use]
    pub unsafe fn bytes(&self, descriptor: &Descriptor) -> &[u8] {
        // SAFETY: as the caller promises; the hold keeps the message as long as `self` is borrowed.
        unsafe { bytes_at(descriptor) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Refused only where the subscription has ended by itself, and then the block is back already.
        let _ = self.attached.subscription.unhold(self.number);
    }
}

/// The bytes that a descriptor names.
///
/// # Safety
/// The descriptor was delivered by the host, and is neither released nor will be during `'a`, or is held during `'a`.
unsafe fn bytes_at<'a>(descriptor: &Descriptor) -> &'a [u8] {
    if descriptor.len == 0 {
        return &[];
    }
    let start = std::ptr::with_exposed_provenance::<u8>(descriptor.offset as usize);
    // SAFETY: the host maps the message read-only at this address, inside of address space that nothing else in the
    // guest uses (see `Windows::reserve`), and keeps its bytes readable and unchanged until the delivery is released
    // and no longer held, which the caller excludes for `'a`. A length has 31 bits, so it is below `isize::MAX`.
    unsafe { std::slice::from_raw_parts(start, descriptor.len as usize) }
}
