//! Publishing a message takes four stores and one load. The engine's own publisher does that, and so does
//! code that publishes directly with a [`DirectPublisher`], such as a native component.
//!
//! ```text
//!   slot of the sequence   word, time     written if they differ
//!   head                   bytes, next    next with Release: a reader that sees it sees the slot and the block
//!   event count            word           read after a light barrier: 0, nobody waits
//! ```
//! The engine does everything else: its publisher provides free blocks and, behind a fence, wakes
//! subscribers. So the asymmetric barrier of an [event count](crate::engine::wake::event_count) works for
//! both publishers: a waiter's process-wide barrier reaches all threads of the process, those of a loaded
//! component among them.

#![cfg_attr(
    not(any(blockcast_library, test)),
    allow(
        dead_code,
        reason = "only apps that are shared libraries, the models and the tests publish directly"
    )
)]

use std::ptr::NonNull;

use crate::abi;
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
    /// Sets the descriptor word.
    #[inline(always)]
    pub(crate) fn describe(&self, word: u64) {
        // A slot that already holds it (blocks come round in the same order) stays unwritten, so its cache
        // line stays with the subscribers.
        // Ordering: Relaxed; published by the Release store of the head.
        if self.word.load(Ordering::Relaxed) != word {
            self.word.store(word, Ordering::Relaxed);
        }
    }

    /// Sets the time of the message that is published next.
    #[inline(always)]
    pub(crate) fn stamp(&self, time: u64) {
        // Ordering: Relaxed, and left alone where it is the same, as in `publish`.
        if self.time.load(Ordering::Relaxed) != time {
            self.time.store(time, Ordering::Relaxed);
        }
    }
}

/// The slot of the message that is published next, and the words that announce it.
pub(crate) struct Announcement<'c> {
    pub(crate) slot: &'c Slot,
    /// The sequence that will be published next.
    pub(crate) next: &'c AtomicU64,
    /// Bytes published so far.
    pub(crate) bytes: &'c AtomicU64,
    /// The word of the event count that subscribers wait for.
    pub(crate) waiters: &'c AtomicU32,
}

impl Announcement<'_> {
    /// Publishes the message with this descriptor word. The head becomes `next`. Returns `true` if somebody
    /// may wait, which the caller must check behind a fence.
    ///
    /// Nobody else publishes meanwhile, and the slot is free.
    #[inline(always)]
    pub(crate) fn publish(self, word: u64, next: u64) -> bool {
        if essential!(slot_first, false, true) {
            self.next.store(next, Ordering::Release);
        }
        self.slot.describe(word);
        // Ordering: Relaxed; our own store. One instruction, and the line stays readable here while
        // subscribers read the head.
        self.bytes.store(self.bytes.load(Ordering::Relaxed).wrapping_add(len_of(word)), Ordering::Relaxed);
        // Ordering: Release pairs with the subscribers' Acquire load of the head: descriptor and payload
        // are visible to a reader that sees the new head.
        self.next.store(next, essential!(publish_release, Ordering::Release));
        may_have_waiters(self.waiters)
    }
}

/// Whether anybody may wait for the [event count](crate::engine::wake::event_count) with this word. Every
/// message pays for this half of the check.
#[inline(always)]
pub(crate) fn may_have_waiters(word: &AtomicU32) -> bool {
    light_barrier();
    // Ordering: Relaxed; a quiet event count is fenced by the waiter's process-wide barrier, and any other
    // value is looked at again behind a fence.
    word.load(Ordering::Relaxed) != 0
}

/// The right to publish reserved blocks. It does everything that the engine's publisher does, except
/// allocating blocks and waking subscribers.
///
/// # Rules
/// One direct publisher publishes at a time, and nobody else publishes to the channel meanwhile. What it
/// publishes was reserved before ([`Writer::reserve_direct`](crate::Writer::reserve_direct)), as a range of
/// sequences whose slots name the blocks. These are the front of the queue of free blocks, and they are
/// published in that order, each once. That alone keeps the ring whole: every sequence from the first of the
/// range to the head has a block of its own, and there are at least as many slots as blocks. So the slot at
/// the head is free, or it is the one that names the block that is published there.
#[derive(Debug)]
pub(crate) struct DirectPublisher {
    slots: NonNull<Slot>,
    mask: u64,
    next: NonNull<AtomicU64>,
    bytes: NonNull<AtomicU64>,
    waiters: NonNull<AtomicU32>,
    /// The sequence of the next message, as in the head.
    sequence: u64,
    /// The sequence after that of the last reserved block.
    end: u64,
    /// Distance from a message's sequence back to the one whose slot names its block: the same for all blocks
    /// that were reserved together.
    behind: u64,
}

// SAFETY: it leads to atomics only, which may be reached from any thread.
unsafe impl Send for DirectPublisher {}

impl DirectPublisher {
    /// The direct publisher with these words. `None` if a pointer is null.
    ///
    /// # Safety
    /// Otherwise an engine's publisher has given them out, and what they lead to stays for as long as the
    /// value is used.
    pub(crate) unsafe fn new(words: &abi::DirectPublisher) -> Option<Self> {
        let mut new = Self {
            slots: NonNull::new(words.slots.cast())?,
            mask: words.mask,
            next: NonNull::new(words.next.cast())?,
            bytes: NonNull::new(words.bytes.cast())?,
            waiters: NonNull::new(words.waiters.cast_mut().cast())?,
            sequence: 0,
            end: 0,
            behind: 0,
        };
        new.refresh();
        new.end = new.sequence;
        Some(new)
    }

    /// Adopts the messages published otherwise.
    pub(crate) fn refresh(&mut self) {
        // SAFETY: it leads to a word of the channel's head, which is there as long as the value is used
        // (`new`).
        let next = unsafe { self.next.as_ref() };
        // Ordering: Relaxed; whatever was published otherwise was published by this thread, or told to it.
        self.sequence = next.load(Ordering::Relaxed);
    }

    /// Starts to use reserved blocks: those that the slots of `count` sequences from `first` on name.
    pub(crate) fn take_up(&mut self, first: u64, count: u32) {
        self.behind = self.sequence.wrapping_sub(first);
        self.end = self.sequence.wrapping_add(u64::from(count));
    }

    /// Whether there is a block for the next message.
    #[inline(always)]
    pub(crate) fn has_block(&self) -> bool {
        self.sequence != self.end
    }

    /// That block: bytes from the arena's start. Another message's, if [there is none](Self::has_block).
    #[inline(always)]
    pub(crate) fn block(&self) -> usize {
        let named = self.slot(self.sequence.wrapping_sub(self.behind));
        // Ordering: Relaxed; written by this thread, or before the block was reserved.
        offset_of(named.word.load(Ordering::Relaxed))
    }

    /// The sequence of the next message.
    #[inline(always)]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[inline(always)]
    fn slot(&self, sequence: u64) -> &Slot {
        // SAFETY: there are `mask + 1` slots, as long as the value is used (`new`), and the index is not
        // larger than `mask`.
        unsafe { &*self.slots.as_ptr().add((sequence & self.mask) as usize) }
    }

    /// Sets the time of the message that is published next.
    #[inline(always)]
    pub(crate) fn stamp(&self, time: u64) {
        self.slot(self.sequence).stamp(time);
    }

    /// Publishes `len` valid bytes of the next reserved block, which starts `offset` bytes into the arena.
    /// Returns `true` if somebody may wait, which the engine must check.
    #[inline(always)]
    pub(crate) fn publish(&mut self, offset: usize, len: usize) -> bool {
        let (sequence, word) = (self.sequence, word_at(offset, len));
        let slot = self.slot(sequence);
        // SAFETY: they lead to words of the channel's header, which are there as long as the value is used
        // (`new`).
        let (next, bytes, waiters) =
            unsafe { (self.next.as_ref(), self.bytes.as_ref(), self.waiters.as_ref()) };
        let may_wait = Announcement { slot, next, bytes, waiters }.publish(word, sequence + 1);
        self.sequence = sequence + 1;
        may_wait
    }
}

#[cfg(all(test, not(any(loom, blockcast_library))))]
mod tests;
