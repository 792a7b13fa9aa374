//! What it takes to publish a message: four stores and one load. By the engine's own publisher, and by whoever was given
//! its [`Line`], as a native component is.
//!
//! ```text
//!   slot of the sequence   word, time     written if they differ
//!   head                   bytes, next    next with Release: whoever sees it sees the slot and the block
//!   gate                   word           looked at behind a light barrier: 0, nobody waits
//! ```
//! Whatever else there is to do, the engine does: free blocks come from its publisher, and who waits is woken by it, behind a
//! fence. So the asymmetric barrier of [`gate`](crate::gate) is the same whoever publishes: a waiter's process-wide barrier
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
use crate::descriptor::len_of;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, light_barrier};

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
        #[cfg(not(blockcast_mutation = "publish_release"))]
        self.next.store(next, Ordering::Release);
        #[cfg(blockcast_mutation = "publish_release")]
        self.next.store(next, Ordering::Relaxed);
        is_stirred(self.waiters)
    }
}

/// Whether anybody may wait at the gate with this word: the half of [`Gate::notified`](crate::gate::Gate::notified) that every
/// message pays for.
#[inline(always)]
pub(crate) fn is_stirred(gate: &AtomicU32) -> bool {
    light_barrier();
    // Ordering: Relaxed; a quiet gate is fenced by the waiter's process-wide barrier, and any other
    // value is looked at again behind a fence.
    gate.load(Ordering::Relaxed) != 0
}

/// The right to publish blocks that were lent: all that the engine's publisher has, but for free blocks and for waking.
///
/// # Rules
/// One line publishes at a time, and while it does nobody else publishes to the channel. Every block that it publishes was lent
/// to it before ([`Writer::lend_to_line`](crate::Writer::lend_to_line)) and is published once. That keeps the ring whole
/// without a look at it: every sequence from the oldest free one to the head has a block of its own, the lent ones are none of
/// them, and there are at least as many slots as blocks. A block that is published moves from one side of that sum to the
/// other, so the slot at the head is free as long as there is a block to publish.
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
        };
        new.refresh();
        Some(new)
    }

    /// Takes in what was published otherwise since.
    pub(crate) fn refresh(&mut self) {
        // SAFETY: both lead to words of the channel's head, which are there as long as the line is used (`new`).
        let (next, bytes) = unsafe { (self.next.as_ref(), self.bytes.as_ref()) };
        // Ordering: Relaxed; whatever was published otherwise was published by this thread, or told to it.
        (self.sequence, self.published) = (next.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
    }

    /// The sequence that the next message gets.
    #[inline(always)]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Publishes a block that was lent, under the next sequence. True: somebody may wait, and the engine is to look.
    #[inline(always)]
    pub(crate) fn publish(&mut self, word: u64, time: Option<u64>) -> bool {
        let sequence = self.sequence;
        // SAFETY: there are `mask + 1` slots, as long as the line is used (`new`), and the index is not larger than `mask`.
        let slot = unsafe { &*self.slots.as_ptr().add((sequence & self.mask) as usize) };
        if let Some(time) = time {
            slot.stamp(time);
        }
        self.sequence = sequence + 1;
        self.published += len_of(word);
        // SAFETY: they lead to words of the channel's header, which are there as long as the line is used (`new`).
        let (next, bytes, waiters) =
            unsafe { (self.next.as_ref(), self.bytes.as_ref(), self.waiters.as_ref()) };
        Announcement { slot, next, bytes, waiters }.publish(word, self.sequence, self.published)
    }
}

#[cfg(all(test, not(any(loom, blockcast_library))))]
mod tests {
    use super::*;
    use crate::channel::ChannelConfig;
    use crate::descriptor::offset_of;
    use crate::options::{ReaderOptions, Reuse, SizeClass, Timestamps};
    use crate::signal::Signal;
    use crate::{LoanError, PublisherId, Schema, Writer, channel};

    fn config(blocks: u32) -> ChannelConfig {
        let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("line"));
        (config.blocks, config.block_size, config.timestamps) = (blocks, 64, Timestamps::Off);
        config
    }

    fn line(writer: &Writer) -> Line {
        // SAFETY: the tests keep the writer for as long as they use its line.
        unsafe { Line::new(&writer.line().expect("one size, oldest first")) }.expect("no null pointers")
    }

    fn lent(writer: &mut Writer, room: u32) -> Vec<u64> {
        let mut words = Vec::new();
        writer.adopt();
        let lent = writer.lend_to_line(room, |block| words.push(block.word)).expect("a block is free");
        assert_eq!(lent as usize, words.len());
        words
    }

    #[test]
    fn what_the_line_publishes_is_received_where_it_lies_and_its_blocks_come_back() {
        let mut writer = channel(config(8)).expect("a small channel");
        let options = ReaderOptions::default();
        let mut reader =
            writer.channel().join(&Schema::named("line"), options, Signal::new()).expect("there is room");
        let mut line = line(&writer);
        for round in 0..100_u64 {
            for word in lent(&mut writer, 4) {
                assert_eq!(
                    line.publish(word | (round % 64), Some(round + 1)),
                    round == u64::MAX,
                    "nobody sleeps"
                );
                let message = reader.receive().expect("it was published");
                let descriptor = message.descriptor();
                assert_eq!(descriptor.offset as usize, offset_of(word));
                assert_eq!(u64::from(descriptor.len), round % 64);
                assert_eq!(
                    (descriptor.sequence, descriptor.time.as_nanos()),
                    (reader_sequence(&line), round + 1)
                );
            }
        }
        writer.adopt();
        assert_eq!((writer.published().0, writer.lent_to_line()), (line.sequence(), 0));
        assert_eq!(writer.reclaim(), 8);
    }

    /// The sequence of the message published last.
    fn reader_sequence(line: &Line) -> crate::Sequence {
        crate::Sequence::new(line.sequence() - 1)
    }

    #[test]
    fn lent_blocks_are_free_ones_that_nobody_else_gets() {
        let mut writer = channel(config(4)).expect("a small channel");
        let mut line = line(&writer);
        let words: Vec<u64> = (0..4).flat_map(|_| lent(&mut writer, 9)).collect();
        assert_eq!(
            (words.len(), writer.pool().free, writer.lent_to_line()),
            (4, 4, 4),
            "one at a time of four"
        );
        assert_eq!(writer.lend_to_line(1, |_| {}).err(), Some(LoanError::Exhausted { blocks: 4 }));
        assert_eq!(writer.channel().stats().loaned, 0);
        for word in words {
            let _ = line.publish(word | 8, None);
        }
        writer.adopt();
        assert_eq!((writer.published(), writer.lent_to_line(), writer.pool().free), ((4, 32), 0, 0));
        assert!(writer.try_loan(64).is_ok(), "with no subscriber all are free again");
    }

    #[test]
    fn a_line_and_its_writer_publish_in_turns() {
        let mut writer = channel(config(4)).expect("a small channel");
        let mut line = line(&writer);
        for round in 0..50 {
            for word in lent(&mut writer, 1) {
                let _ = line.publish(word | 3, None);
            }
            writer.adopt();
            let sequence = writer.try_loan(5).expect("one is free").publish(5).expect("it fits");
            assert_eq!(sequence.get(), 2 * round + 1);
            line.refresh();
            assert_eq!(
                (line.sequence(), writer.published()),
                (2 * round + 2, (2 * round + 2, 8 * (round + 1)))
            );
        }
    }

    #[test]
    fn there_is_no_line_where_blocks_have_several_sizes_or_the_hottest_is_wanted() {
        let mut sizes = config(4);
        sizes.larger = vec![SizeClass { block_size: 4096, blocks: 2, max_blocks: 2 }];
        let mut hottest = config(4);
        hottest.reuse = Reuse::Hottest;
        for config in [sizes, hottest] {
            assert!(channel(config).expect("a small channel").line().is_none());
        }
    }
}
