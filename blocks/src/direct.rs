//! What it takes to publish a message: four stores and one load. By the engine's own publisher, and by whoever was given
//! its [`Line`], as a native component is.
//!
//! ```text
//!   slot of the sequence   word, time     written if they differ
//!   head                   bytes, next    next with Release: whoever sees it sees the slot and the block
//!   gate                   word           looked at behind a light barrier: 0, nobody waits
//! ```
//! Whatever else there is to do, the engine does: free blocks come from its publisher, and who waits is woken by it, behind a
//! fence. So the asymmetric barrier of [`gate`](crate::engine::wake::event_count) is the same whoever publishes: a waiter's process-wide barrier
//! reaches the threads of a component that is loaded into the process like all others.

#![cfg_attr(
    not(any(blockcast_library, test)),
    allow(
        dead_code,
        reason = "the line itself is used by the side of an app that is a library, and by the models"
    )
)]

use std::ptr::NonNull;

use crate::abi::PublishingLine;
use crate::descriptor::{len_of, offset_of, word_at};
use crate::primitive::{AtomicU32, AtomicU64, Ordering, essential, light_barrier};

/// One descriptor.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slot {
    /// See [`crate::descriptor`].
    pub(crate) word: AtomicU64,
    pub(crate) time: AtomicU64,
}

impl Slot {
    /// Sets the time of the message that is published next.
    #[inline(always)]
    pub(crate) fn stamp(&self, time: u64) {
        // Ordering: Relaxed, and left alone where it is the same, as in `publish`.
        if self.time.load(Ordering::Relaxed) != time {
            self.time.store(time, Ordering::Relaxed);
        }
    }
}

/// The place of the message that is published next, and the words that tell of it.
pub(crate) struct Announcement<'c> {
    pub(crate) slot: &'c Slot,
    /// The sequence that will be published next.
    pub(crate) next: &'c AtomicU64,
    /// Bytes published so far.
    pub(crate) bytes: &'c AtomicU64,
    /// The word of the gate at which subscribers wait.
    pub(crate) waiters: &'c AtomicU32,
}

impl Announcement<'_> {
    /// Publishes the message with this descriptor word. `next` and `bytes` are what stands at the head from then on. True:
    /// somebody may wait, which is to be looked at behind a fence.
    ///
    /// Nobody else publishes meanwhile, and the slot is free.
    #[inline(always)]
    pub(crate) fn publish(self, word: u64, next: u64, bytes: u64) -> bool {
        // A slot that already holds the descriptor (blocks come round in the same order) stays unwritten,
        // so its cache line stays with the subscribers.
        // Ordering: Relaxed; published by the Release store of the head.
        if self.slot.word.load(Ordering::Relaxed) != word {
            self.slot.word.store(word, Ordering::Relaxed);
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        // Ordering: Release pairs with the subscribers' Acquire load of the head: descriptor and payload
        // are visible to whoever sees the new head.
        self.next.store(next, essential!(publish_release, Ordering::Release));
        may_have_waiters(self.waiters)
    }
}

/// Whether anybody may wait at the gate with this word: the half of [`EventCount::notified`](crate::engine::wake::event_count::EventCount::notified) that every
/// message pays for.
#[inline(always)]
pub(crate) fn may_have_waiters(gate: &AtomicU32) -> bool {
    light_barrier();
    // Ordering: Relaxed; a quiet gate is fenced by the waiter's process-wide barrier, and any other
    // value is looked at again behind a fence.
    gate.load(Ordering::Relaxed) != 0
}

/// The right to publish blocks that were lent: all that the engine's publisher has, but for free blocks and for waking.
///
/// # Rules
/// One line publishes at a time, and while it does nobody else publishes to the channel. What it publishes was lent to it before
/// ([`Writer::lend_to_line`](crate::Writer::lend_to_line)), as a range of sequences whose slots name the blocks: the front of the
/// queue of free ones, and it is published in that order, each once. That keeps the ring whole without a look at it: every
/// sequence from the first of the range to the head has a block of its own, and there are at least as many slots as blocks. So the
/// slot at the head is free, or it is the one that names the block that is published there.
#[derive(Debug)]
pub(crate) struct Line {
    slots: NonNull<Slot>,
    mask: u64,
    next: NonNull<AtomicU64>,
    bytes: NonNull<AtomicU64>,
    waiters: NonNull<AtomicU32>,
    /// The sequence of the next message, and the bytes of those before it, as they stand at the head.
    sequence: u64,
    published: u64,
    /// The sequence that the last block that was lent is followed by when it is published.
    end: u64,
    /// How far behind the message's sequence the one lies whose slot names its block: the same for all that were lent together.
    behind: u64,
}

// SAFETY: it leads to atomics only, which may be reached from any thread.
unsafe impl Send for Line {}

impl Line {
    /// The line that is described. `None` if a pointer is null.
    ///
    /// # Safety
    /// Otherwise it is one that an engine's publisher has given out, and what it leads to stays for as long as the line is used.
    pub(crate) unsafe fn new(line: &PublishingLine) -> Option<Self> {
        let mut new = Self {
            slots: NonNull::new(line.slots.cast())?,
            mask: line.mask,
            next: NonNull::new(line.next.cast())?,
            bytes: NonNull::new(line.bytes.cast())?,
            waiters: NonNull::new(line.waiters.cast_mut().cast())?,
            sequence: 0,
            published: 0,
            end: 0,
            behind: 0,
        };
        new.refresh();
        new.end = new.sequence;
        Some(new)
    }

    /// Takes in what was published otherwise since.
    pub(crate) fn refresh(&mut self) {
        // SAFETY: both lead to words of the channel's head, which are there as long as the line is used (`new`).
        let (next, bytes) = unsafe { (self.next.as_ref(), self.bytes.as_ref()) };
        // Ordering: Relaxed; whatever was published otherwise was published by this thread, or told to it.
        (self.sequence, self.published) = (next.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
    }

    /// From now on it has the blocks that were lent to it: those that the slots of `count` sequences from `first` on name.
    pub(crate) fn take_up(&mut self, first: u64, count: u32) {
        self.behind = self.sequence.wrapping_sub(first);
        self.end = self.sequence.wrapping_add(u64::from(count));
    }

    /// Whether it has a block for the next message.
    #[inline(always)]
    pub(crate) fn has_block(&self) -> bool {
        self.sequence != self.end
    }

    /// That block: bytes from the arena's start. Another message's, if it [has](Self::has_block) none.
    #[inline(always)]
    pub(crate) fn block(&self) -> usize {
        let named = self.slot(self.sequence.wrapping_sub(self.behind));
        // Ordering: Relaxed; written by this thread, or before it was lent to it.
        offset_of(named.word.load(Ordering::Relaxed))
    }

    /// The sequence that the next message gets.
    #[inline(always)]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[inline(always)]
    fn slot(&self, sequence: u64) -> &Slot {
        // SAFETY: there are `mask + 1` slots, as long as the line is used (`new`), and the index is not larger than `mask`.
        unsafe { &*self.slots.as_ptr().add((sequence & self.mask) as usize) }
    }

    /// Sets the time of the message that is published next.
    #[inline(always)]
    pub(crate) fn stamp(&self, time: u64) {
        self.slot(self.sequence).stamp(time);
    }

    /// Publishes `len` valid bytes of the next block that was lent, which starts `offset` bytes into the arena, under the next
    /// sequence. True: somebody may wait, and the engine is to look.
    #[inline(always)]
    pub(crate) fn publish(&mut self, offset: usize, len: usize) -> bool {
        let (sequence, word) = (self.sequence, word_at(offset, len));
        let slot = self.slot(sequence);
        // SAFETY: they lead to words of the channel's header, which are there as long as the line is used (`new`).
        let (next, bytes, waiters) =
            unsafe { (self.next.as_ref(), self.bytes.as_ref(), self.waiters.as_ref()) };
        let published = self.published + len_of(word);
        let stirred = Announcement { slot, next, bytes, waiters }.publish(word, sequence + 1, published);
        (self.sequence, self.published) = (sequence + 1, published);
        stirred
    }
}

#[cfg(all(test, not(any(loom, blockcast_library))))]
mod tests;
