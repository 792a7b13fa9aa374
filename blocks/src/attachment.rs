//! Owned samples, and how they stay cheap: the window of `Attachments`.
//!
//! A sample that is dropped soon costs one compare-exchange: while it lives, its subscriber's interval
//! covers it. Only a sample that would hold back the interval is turned into a *counted hold* on its block:
//! when the window is full, when a quarter of the pool's blocks was received after it, before its subscriber
//! sleeps, and when its subscriber is dropped.
//!
//! ```text
//! sequence s ──▶ slot (s + 1) mod WINDOW: s + 1   attached, covered by the interval
//!                                         0       dropped, or turned into a counted hold
//! ```
//! Both sides end an attachment by a compare-exchange of `s + 1`, the sample's *ticket*, with 0. If the sample wins, it is gone and the
//! interval may move on. If the subscriber wins, having counted the hold first, the sample owns the count
//! and one strong reference to the attachments.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::channel::Channel;
use crate::consumer::Consumer;
use crate::descriptor::{self, Descriptor, Packed, Validity, unit_of, validity_of};
use crate::primitive::{AtomicU64, Ordering};
use crate::units::PublisherId;

/// Messages, the newest of which an interval covers while they are samples.
pub(crate) const WINDOW: usize = if cfg!(loom) { 2 } else { 32 };

const DETACHED: u64 = 0;
/// In the ticket of a sample that was counted from the start. Sequences do not come that far.
const COUNTED: u64 = 1 << 63;
/// No sample is attached by interval.
const NONE: u64 = u64::MAX;

#[inline(always)]
fn index_of(ticket: u64) -> usize {
    ticket as usize % WINDOW
}

/// One subscriber's window, shared with its samples.
#[derive(Debug)]
pub(crate) struct Attachments {
    slots: [AtomicU64; WINDOW],
    /// First byte of the channel's arena.
    base: NonNull<u8>,
    channel: Arc<Channel>,
}

// SAFETY: `base` points into the arena of `channel`; bytes behind it are reached through samples only.
unsafe impl Send for Attachments {}
// SAFETY: as above; the slots are atomic.
unsafe impl Sync for Attachments {}

/// The subscriber's private side of its window.
#[derive(Debug)]
pub(crate) struct AttachmentWindow {
    shared: Arc<Attachments>,
    /// The oldest sequence that may be attached by interval, or [`NONE`].
    first: u64,
    /// Messages received since the oldest one that is attached, itself included, at most; never more than
    /// [`WINDOW`], so that every one has a slot of its own.
    reach: u64,
    /// Descriptor words.
    words: Box<[u64; WINDOW]>,
}

impl AttachmentWindow {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        let slots = std::array::from_fn(|_| AtomicU64::new(DETACHED));
        // At most a quarter of the pool waits for a sample of one subscriber.
        let reach = u64::from(channel.config().blocks / 4).clamp(1, WINDOW as u64);
        let base = channel.arena().base();
        Self {
            shared: Arc::new(Attachments { slots, base, channel }),
            first: NONE,
            reach,
            words: Box::new([0; WINDOW]),
        }
    }

    /// Whether a sample may be attached by interval.
    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        self.first != NONE
    }

    /// Attaches the message that `consumer` took last, and has not let go of. Never fails: what is older than the
    /// window reaches is turned into counted holds.
    #[inline(always)]
    pub(crate) fn attach(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        let Packed { sequence, word, time } = packed;
        if self.first == NONE {
            self.first = sequence;
        }
        self.skip(consumer, sequence);
        let ticket = sequence + 1;
        let index = index_of(ticket);
        self.words[index] = word;
        // Ordering: Release for an earlier sample of this slot, counted since, that finds this ticket instead of
        // `DETACHED`: it must see its count. Whoever drops the new sample elsewhere received it through a
        // synchronising move.
        self.shared.slots[index].store(ticket, Ordering::Release);
        RawSample { attachments: self.attachments(), ticket, word, time }
    }

    /// Turns a message that `consumer`'s interval covers into a counted hold at once.
    pub(crate) fn count(&self, consumer: &Consumer, packed: Packed) -> RawSample {
        let Packed { sequence, word, time } = packed;
        consumer.hold(self.shared.channel.layout().block_of(unit_of(word)));
        // The strong reference that a counted sample owns.
        std::mem::forget(Arc::clone(&self.shared));
        RawSample { attachments: self.attachments(), ticket: COUNTED | (sequence + 1), word, time }
    }

    /// The oldest sequence that is still attached, if any is. What is attached for longer than the window
    /// reaches is turned into counted holds, so that it does not keep the blocks after it.
    #[inline]
    pub(crate) fn oldest(&mut self, consumer: &Consumer) -> Option<u64> {
        if self.first == NONE {
            return None;
        }
        self.skip(consumer, consumer.next());
        if self.first == consumer.next() {
            self.first = NONE;
        }
        (self.first != NONE).then_some(self.first)
    }

    /// As [`oldest`](Self::oldest), right after [`attach`](Self::attach).
    #[inline(always)]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Moves `first` to the oldest sequence below `end` that is attached and within reach, or to `end`.
    #[inline(always)]
    fn skip(&mut self, consumer: &Consumer, end: u64) {
        let mut first = self.first;
        while first != end {
            if self.is_attached(first) {
                if consumer.next() - first <= self.reach {
                    break;
                }
                self.count_attached(consumer, first);
            }
            first += 1;
        }
        self.first = first;
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
        if self.first == NONE {
            return;
        }
        for sequence in self.first..consumer.next() {
            if self.is_attached(sequence) {
                self.count_attached(consumer, sequence);
            }
        }
        self.first = NONE;
    }

    #[inline(always)]
    fn is_attached(&self, sequence: u64) -> bool {
        // Ordering: Acquire pairs with the sample's Release: its holder has read its last byte.
        self.shared.slots[index_of(sequence + 1)].load(Ordering::Acquire) == sequence + 1
    }

    #[inline(never)]
    fn count_attached(&self, consumer: &Consumer, sequence: u64) {
        let ticket = sequence + 1;
        let index = index_of(ticket);
        let block = self.shared.channel.layout().block_of(unit_of(self.words[index]));
        // Count first: from the exchange on the sample may give the hold up.
        consumer.hold(block);
        let strong = Arc::into_raw(Arc::clone(&self.shared));
        // Ordering: Release publishes the count to the sample; Acquire as in `is_attached`.
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
    /// Valid while the ticket stands in its slot (the subscriber keeps it alive), and afterwards through
    /// the strong reference that came with the counted hold.
    attachments: NonNull<Attachments>,
    /// The sequence plus one, and perhaps [`COUNTED`].
    ticket: u64,
    word: u64,
    time: u64,
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
        // SAFETY: valid as stated at the field.
        let base = unsafe { self.attachments.as_ref() }.base;
        // SAFETY: the block is not handed out again while the sample is attached or counted, and its arena
        // lives as long as the channel that the attachments keep.
        unsafe { descriptor::bytes(base, self.word) }
    }

    /// Position, time and length.
    #[inline]
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let sequence = (self.ticket & !COUNTED) - 1;
        Packed { sequence, word: self.word, time: self.time }.unpack()
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[inline(always)]
    #[must_use]
    pub fn validity(&self) -> Validity {
        validity_of(self.word)
    }

    /// The number of the block, for its hold count.
    fn block(&self) -> u32 {
        self.channel().layout().block_of(unit_of(self.word))
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
        Self { ticket: self.ticket | COUNTED, ..*self }
    }
}

impl Drop for RawSample {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: valid as stated at the field.
        let attachments = unsafe { self.attachments.as_ref() };
        if self.ticket & COUNTED == 0 {
            let slot = &attachments.slots[index_of(self.ticket)];
            // Ordering: Release: we have read what we let go of. Acquire on failure pairs with the Release
            // of `count_attached`: the count is ours. After a success the attachments may be freed at any
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
        // SAFETY: a counted sample owns one strong reference, made by `count_attached` or `clone`.
        unsafe { Arc::decrement_strong_count(self.attachments.as_ptr()) };
    }
}

impl fmt::Debug for RawSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSample").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}
