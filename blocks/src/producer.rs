//! The publisher's half of the protocol: publish, and get blocks back.
//!
//! # Publishing
//! One descriptor, one head word. Nothing depends on the number of subscribers.
//!
//! # Reclaiming
//! The publisher wants to let go of the sequences below some *target*. It
//! 1. scans the cursors for what everyone has passed, which gives the target;
//! 2. announces the target as the new *watermark*, then fences;
//! 3. scans the cursors again for intervals that still cover a sequence below the target.
//!
//! A subscriber that claims an interval stores it, fences, then looks at the watermark. Of the two fences
//! one comes first: either the publisher's second scan sees the claim, or the subscriber sees the watermark
//! and gives the claim up (the argument of hazard pointers: Michael, 2004). Blocks that the second scan
//! finds covered, or that are held by count, wait in *limbo* and nobody waits for them.
//!
//! Descriptors below the watermark are overwritten from then on, so a subscriber that is not reliable checks
//! the watermark after it has read a descriptor.

use crate::control::{Control, UNBOUNDED, UNUSED};
use crate::gate::QuietRounds;
use crate::primitive::{Ordering, fence};

/// Limbo entries that are looked at in one reclamation that found other blocks.
const LIMBO_LOOKS: usize = 64;

/// The publisher's private state. One per channel.
#[derive(Debug)]
pub(crate) struct Producer {
    control: Control,
    head: u64,
    watermark: u64,
    /// Messages that stay available to late joiners.
    history: u64,
    /// The block in each slot.
    blocks: Box<[u32]>,
    /// Let go of, but still covered or held.
    limbo: Vec<Limbo>,
    /// Claimed intervals found by the latest second scan; kept for its capacity.
    claims: Vec<(u64, u64)>,
    bytes: u64,
    rounds: QuietRounds,
}

#[derive(Clone, Copy, Debug)]
struct Limbo {
    sequence: u64,
    block: u32,
}

/// How far a reclamation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only what every subscriber has passed.
    Passed,
    /// If that is nothing: past subscribers that may be overtaken, this many messages at most.
    Overtake(u64),
}

impl Producer {
    pub(crate) fn new(control: Control, history: u32) -> Self {
        let slots = control.geometry().slots as usize;
        Self {
            control,
            head: 0,
            watermark: 0,
            history: u64::from(history),
            blocks: vec![0; slots].into_boxed_slice(),
            limbo: Vec::new(),
            claims: Vec::new(),
            bytes: 0,
            rounds: QuietRounds::default(),
        }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Blocks that are let go of but still covered or held.
    pub(crate) fn in_limbo(&self) -> usize {
        self.limbo.len()
    }

    /// The oldest sequence that was not let go of.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The sequence that the next publish gets.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Publishes `block` under the next sequence. True: somebody sleeps and must be woken.
    ///
    /// The slot is free: every sequence from the watermark to the head has a block of its own, the caller's
    /// block is none of them, and there are at least as many slots as blocks.
    #[inline(always)]
    pub(crate) fn publish(&mut self, block: u32, word: u64, time: u64, len: u64) -> bool {
        let sequence = self.head;
        let slot = self.control.slot(sequence);
        // A slot that already holds the descriptor (blocks come round in the same order) stays unwritten,
        // so its cache line stays with the subscribers.
        // Ordering: Relaxed; published by the Release store of the head.
        if slot.word.load(Ordering::Relaxed) != word {
            slot.word.store(word, Ordering::Relaxed);
        }
        if slot.time.load(Ordering::Relaxed) != time {
            slot.time.store(time, Ordering::Relaxed);
        }
        let index = sequence as usize & (self.blocks.len() - 1);
        self.blocks[index] = block;
        self.head = sequence + 1;
        self.bytes += len;
        let header = self.control.header();
        header.head.bytes.store(self.bytes, Ordering::Relaxed);
        // Ordering: Release pairs with the subscribers' Acquire load of the head: descriptor and payload
        // are visible to whoever sees the new head.
        #[cfg(not(blockcast_mutation = "publish_release"))]
        header.head.next.store(self.head, Ordering::Release);
        #[cfg(blockcast_mutation = "publish_release")]
        header.head.next.store(self.head, Ordering::Relaxed);
        header.state.messages.notified(&mut self.rounds)
    }

    /// Gets blocks back and gives each to `free`; returns how many. Never waits.
    pub(crate) fn reclaim(&mut self, reach: Reach, mut free: impl FnMut(u32)) -> usize {
        let target = self.target(reach);
        if target == self.watermark && self.limbo.is_empty() {
            return 0;
        }
        let first = self.watermark;
        let target = self.announce(target);

        let mut freed = 0;
        let holds = self.control.holds();
        for sequence in first..target {
            let block = self.blocks[sequence as usize & (self.blocks.len() - 1)];
            if covered(&self.claims, sequence) || is_held(holds, block) {
                self.limbo.push(Limbo { sequence, block });
            } else {
                free(block);
                freed += 1;
            }
        }
        // Older entries are looked at in turns, all of them if nothing else was found.
        let looks = if freed == 0 { self.limbo.len() } else { self.limbo.len().min(LIMBO_LOOKS) };
        let mut index = 0;
        for _ in 0..looks {
            let entry = self.limbo[index];
            if covered(&self.claims, entry.sequence) || is_held(holds, entry.block) {
                index += 1;
            } else {
                self.limbo.swap_remove(index);
                free(entry.block);
                freed += 1;
            }
        }
        if index < self.limbo.len() {
            self.limbo.rotate_left(index);
        }
        freed
    }

    /// First scan: how far the watermark could go.
    fn target(&self, reach: Reach) -> u64 {
        let limit = self.head.saturating_sub(self.history).max(self.watermark);
        let (mut reliable, mut passed) = (limit, limit);
        for cursor in self.control.used_cursors() {
            // Ordering: Acquire pairs with the subscriber's Release: what it read before it moved on is
            // read before we hand the block out again, and its holds are counted.
            let low = cursor.low.load(Ordering::Acquire);
            if low == UNUSED {
                continue;
            }
            if cursor.high.load(Ordering::Acquire) == UNBOUNDED {
                reliable = reliable.min(low);
                passed = passed.min(low);
            } else if low >= self.watermark {
                // One that was overtaken before is no reason to wait: it holds what it claims, no more.
                passed = passed.min(low);
            }
        }
        let reliable = reliable.max(self.watermark);
        let passed = passed.clamp(self.watermark, reliable);
        match reach {
            Reach::Overtake(step) if passed == self.watermark => {
                reliable.min(self.watermark.saturating_add(step))
            }
            _ => passed,
        }
    }

    /// Steps 2 and 3: announces `target`, collects the claims below it, and returns the target that holds.
    fn announce(&mut self, target: u64) -> u64 {
        let watermark = &self.control.header().state.watermark;
        // Ordering: Release, so that a joiner that starts at the watermark sees what lies before it.
        watermark.store(target, Ordering::Release);
        // Ordering: pairs with the fence in `Consumer::claim` and `Consumer::join`.
        #[cfg(not(blockcast_mutation = "reclaim_fence"))]
        fence(Ordering::SeqCst);
        let mut settled = target;
        self.claims.clear();
        for cursor in self.control.used_cursors() {
            let low = cursor.low.load(Ordering::Acquire);
            let high = cursor.high.load(Ordering::Acquire);
            if low >= target {
                continue;
            }
            if high == UNBOUNDED {
                // Joined between the scans, or is joining: its descriptors must stay, so the watermark
                // steps back to it. No descriptor was overwritten yet.
                settled = settled.min(low.max(self.watermark));
            }
            self.claims.push((low, high));
        }
        if settled != target {
            watermark.store(settled, Ordering::Release);
        }
        self.watermark = settled;
        settled
    }

    /// Marks the channel as ended: subscribers drain what is left.
    pub(crate) fn close(&self) {
        // Ordering: Release pairs with the Acquire load in `Consumer::take`: whoever sees the mark sees the
        // last head.
        self.control.header().state.closed.store(1, Ordering::Release);
    }
}

fn covered(claims: &[(u64, u64)], sequence: u64) -> bool {
    claims.iter().any(|&(low, high)| low <= sequence && sequence < high)
}

fn is_held(holds: &[crate::primitive::AtomicU32], block: u32) -> bool {
    // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
    #[cfg(not(blockcast_mutation = "ignore_holds"))]
    return holds[block as usize].load(Ordering::Acquire) != 0;
    #[cfg(blockcast_mutation = "ignore_holds")]
    return {
        let _ = (holds, block);
        false
    };
}
