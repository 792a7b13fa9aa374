//! Owned samples, and how they stay cheap: the window of `Attachments`.
//!
//! A sample that is dropped soon costs one compare-exchange: while it lives, its subscriber's interval
//! covers it. Only a sample that would hold back the interval is turned into a *counted hold* on its block:
//! when the window is full, when an eighth of the pool's blocks was received after it, before its subscriber
//! sleeps, and when its subscriber is dropped.
//!
//! ```text
//! ticket t ──▶ slot t mod WINDOW: t   attached, covered by the interval
//!                                 0   dropped, or turned into a counted hold
//! ```
//! Both sides end an attachment by a compare-exchange of `t` with 0. If the sample wins, it is gone and the
//! interval may move on. If the subscriber wins, having counted the hold first, the sample owns the count
//! and one strong reference to the attachments.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::channel::Channel;
use crate::consumer::Consumer;
use crate::descriptor::{Descriptor, Packed, Validity, unit_of, validity_of};
use crate::primitive::{AtomicU64, Ordering};
use crate::units::PublisherId;

/// Samples that an interval covers at a time.
pub(crate) const WINDOW: usize = if cfg!(loom) { 2 } else { 32 };

const DETACHED: u64 = 0;
/// Ticket of a sample that was counted from the start.
const COUNTED: u64 = 0;

/// One subscriber's window, shared with its samples.
#[derive(Debug)]
pub(crate) struct Attachments {
    channel: Arc<Channel>,
    slots: [AtomicU64; WINDOW],
}

/// The subscriber's private side of its window.
#[derive(Debug)]
pub(crate) struct AttachmentWindow {
    shared: Arc<Attachments>,
    /// Messages received since the oldest one that is attached, at most.
    reach: u64,
    /// Tickets in use: `first..next`, never more than [`WINDOW`].
    first: u64,
    next: u64,
    /// Sequence and descriptor word.
    attached: Box<[(u64, u64); WINDOW]>,
}

impl AttachmentWindow {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        let slots = std::array::from_fn(|_| AtomicU64::new(DETACHED));
        // As with claims: at most an eighth of the pool waits for a sample of one subscriber.
        let reach = u64::from(channel.config().blocks / 8).clamp(1, WINDOW as u64);
        Self {
            shared: Arc::new(Attachments { channel, slots }),
            reach,
            first: 1,
            next: 1,
            attached: Box::new([(0, 0); WINDOW]),
        }
    }

    /// Whether a sample may be attached by interval.
    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        self.first != self.next
    }

    /// Attaches the message that `consumer` took last, and has not let go of. Never fails: a full window
    /// turns its oldest attachment into a counted hold.
    #[inline]
    pub(crate) fn attach(&mut self, consumer: &Consumer, base: NonNull<u8>, packed: Packed) -> RawSample {
        if self.next - self.first == WINDOW as u64 {
            self.skip_detached();
            if self.next - self.first == WINDOW as u64 {
                self.count_oldest(consumer);
            }
        }
        let ticket = self.next;
        self.next += 1;
        let index = ticket as usize % WINDOW;
        self.attached[index] = (packed.sequence, packed.word);
        // Ordering: Release for an earlier sample of this slot, counted since, that finds this ticket instead of
        // `DETACHED`: it must see its count. Whoever drops the new sample elsewhere received it through a
        // synchronising move.
        self.shared.slots[index].store(ticket, Ordering::Release);
        RawSample {
            // SAFETY: the descriptor is the channel's and `base` its arena's start.
            start: unsafe { base.add(packed.offset()) },
            attachments: self.attachments(),
            ticket,
            packed,
        }
    }

    /// Turns a message that `consumer`'s interval covers into a counted hold at once.
    pub(crate) fn count(&self, consumer: &Consumer, base: NonNull<u8>, packed: Packed) -> RawSample {
        consumer.hold(self.shared.channel.layout().block_of(unit_of(packed.word)));
        // The strong reference that a counted sample owns.
        std::mem::forget(Arc::clone(&self.shared));
        RawSample {
            // SAFETY: the descriptor is the channel's and `base` its arena's start.
            start: unsafe { base.add(packed.offset()) },
            attachments: self.attachments(),
            ticket: COUNTED,
            packed,
        }
    }

    /// The oldest sequence that is still attached, if any is. What is attached for longer than the window
    /// reaches is turned into counted holds, so that it does not keep the blocks after it.
    #[inline(always)]
    pub(crate) fn oldest(&mut self, consumer: &Consumer) -> Option<u64> {
        while self.first != self.next {
            self.skip_detached();
            if self.first == self.next {
                break;
            }
            let oldest = self.attached[self.first as usize % WINDOW].0;
            if consumer.next() - oldest <= self.reach {
                return Some(oldest);
            }
            self.count_oldest(consumer);
        }
        None
    }

    /// The pointer that samples carry. It may be turned into an `Arc` again, so it is made from one and not
    /// from a reference, which would reach the value only.
    #[inline(always)]
    fn attachments(&self) -> NonNull<Attachments> {
        // SAFETY: the pointer of an `Arc` is never null.
        unsafe { NonNull::new_unchecked(Arc::as_ptr(&self.shared).cast_mut()) }
    }

    /// Turns everything that is attached into counted holds, so that the interval covers no sample.
    pub(crate) fn count_all(&mut self, consumer: &Consumer) {
        while self.first != self.next {
            self.count_oldest(consumer);
        }
    }

    #[inline]
    fn skip_detached(&mut self) {
        // Ordering: Acquire pairs with the sample's Release: its holder has read its last byte.
        while self.first != self.next
            && self.shared.slots[self.first as usize % WINDOW].load(Ordering::Acquire) != self.first
        {
            self.first += 1;
        }
    }

    fn count_oldest(&mut self, consumer: &Consumer) {
        let ticket = self.first;
        let index = ticket as usize % WINDOW;
        let (_, word) = self.attached[index];
        self.first += 1;
        if self.shared.slots[index].load(Ordering::Acquire) != ticket {
            return;
        }
        let block = self.shared.channel.layout().block_of(unit_of(word));
        // Count first: from the exchange on the sample may give the hold up.
        consumer.hold(block);
        let strong = Arc::into_raw(Arc::clone(&self.shared));
        // Ordering: Release publishes the count to the sample; Acquire as in `skip_detached`.
        let counted =
            self.shared.slots[index].compare_exchange(ticket, DETACHED, Ordering::AcqRel, Ordering::Acquire);
        if counted.is_err() {
            // SAFETY: the pointer came from `into_raw` just above and the sample did not take it over.
            drop(unsafe { Arc::from_raw(strong) });
            self.shared.channel.give_up_hold(block);
        }
    }
}

/// A message that stays in place for as long as this value lives. Freely sent, cloned, and dropped in any
/// order.
///
/// Dropping costs one compare-exchange; cloning, and dropping a sample that outlived its subscriber's
/// window, costs two or three atomic operations more.
pub struct RawSample {
    start: NonNull<u8>,
    /// Valid while the ticket stands in its slot (the subscriber keeps it alive), and afterwards through
    /// the strong reference that came with the counted hold.
    attachments: NonNull<Attachments>,
    ticket: u64,
    packed: Packed,
}

// SAFETY: a sample reads bytes that nobody writes while it lives, and ends its attachment through atomics.
unsafe impl Send for RawSample {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for RawSample {}

impl RawSample {
    /// The message's bytes, in place.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is not handed out again while the sample is attached or counted, and its arena
        // lives as long as the channel that the attachments keep.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.packed.len()) }
    }

    /// Position, time and length.
    #[inline]
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        self.packed.unpack()
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[inline(always)]
    #[must_use]
    pub fn validity(&self) -> Validity {
        validity_of(self.packed.word)
    }

    /// The number of the block, for its hold count.
    fn block(&self) -> u32 {
        self.channel().layout().block_of(unit_of(self.packed.word))
    }

    /// Who published it.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.channel().publisher()
    }

    /// The channel that the message came through.
    #[must_use]
    pub fn channel(&self) -> &Arc<Channel> {
        // SAFETY: valid as stated at the field.
        unsafe { &(*self.attachments.as_ptr()).channel }
    }
}

impl Clone for RawSample {
    fn clone(&self) -> Self {
        let channel = self.channel();
        // `self` keeps the block meanwhile, by interval or by count, so the count may start at any number.
        channel.add_hold(self.block());
        // SAFETY: the pointer came from an `Arc` and is valid as stated at the field.
        unsafe { Arc::increment_strong_count(self.attachments.as_ptr()) };
        Self { ticket: COUNTED, ..*self }
    }
}

impl Drop for RawSample {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: valid as stated at the field.
        let attachments = unsafe { self.attachments.as_ref() };
        if self.ticket != COUNTED {
            let slot = &attachments.slots[self.ticket as usize % WINDOW];
            // Ordering: Release: we have read what we let go of. Acquire on failure pairs with the Release
            // of `count_oldest`: the count is ours. After a success the attachments may be freed at any
            // time, so nothing of them is touched any more.
            #[cfg(not(blockcast_mutation = "release_sample"))]
            const RELEASE: Ordering = Ordering::Release;
            #[cfg(blockcast_mutation = "release_sample")]
            const RELEASE: Ordering = Ordering::Relaxed;
            if slot.compare_exchange(self.ticket, DETACHED, RELEASE, Ordering::Acquire).is_ok() {
                return;
            }
        }
        attachments.channel.give_up_hold(self.block());
        // SAFETY: a counted sample owns one strong reference, made by `count_oldest` or `clone`.
        unsafe { Arc::decrement_strong_count(self.attachments.as_ptr()) };
    }
}

impl fmt::Debug for RawSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSample").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}
