//! Getting blocks back: the part of a [`Producer`] that reads its subscribers' cursors.

use super::Producer;
use crate::engine::segment::words::{UNBOUNDED, UNUSED};
use crate::primitive::{Ordering, asymmetric_barriers, essential, fence, heavy_barrier, light_barrier};

/// Limbo entries to check in a reclamation that found other blocks.
const LIMBO_LOOKS: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Limbo {
    sequence: u64,
    unit: u32,
}

/// How far a reclamation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only what every subscriber has passed.
    Passed,
    /// If that is nothing: past subscribers that may be overtaken, by at most this many messages.
    Overtake(u64),
}

impl Producer {
    /// Gets blocks back. Returns how many came free. Never waits.
    pub(crate) fn reclaim(&mut self, reach: Reach) -> usize {
        let target = self.target(reach);
        if target == self.watermark && self.limbo.is_empty() {
            return 0;
        }
        let first = self.watermark;
        let target = self.announce(target);
        // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
        let held = self.control.header().held.load(Ordering::Acquire) != 0;
        if !held && self.claims.is_empty() && self.limbo.is_empty() {
            // All of it is free; `announce` has moved the end of the queue.
            if self.one_by_one {
                self.empty_queue(target);
            }
            self.control.header().state.settled.store(target, Ordering::Relaxed);
            return (target - first) as usize;
        }
        let freed = self.sort_out(first, target);
        // Ordering: Release pairs with the Acquire in `Consumer::receive_kept`: the list is complete below.
        self.control.header().state.settled.store(target, Ordering::Release);
        freed
    }

    /// Checks the blocks of `first..target` and of the limbo one by one.
    fn sort_out(&mut self, first: u64, target: u64) -> usize {
        let mut freed = 0;
        self.empty_queue(first);
        for sequence in first..target {
            let unit = self.unit_at(sequence);
            let covered = covered(&self.claims, sequence);
            if covered {
                self.list(sequence, unit);
            }
            if covered || self.is_held(unit) {
                self.limbo.push(Limbo { sequence, unit });
            } else {
                self.pool.give(unit);
                freed += 1;
            }
        }
        self.oldest_free = target;
        // Older entries take turns; all of them are checked if nothing else was found.
        let looks = if freed == 0 { self.limbo.len() } else { self.limbo.len().min(LIMBO_LOOKS) };
        let mut index = 0;
        for _ in 0..looks {
            let entry = self.limbo[index];
            if covered(&self.claims, entry.sequence) || self.is_held(entry.unit) {
                index += 1;
            } else {
                self.limbo.swap_remove(index);
                let block = self.pool.block_of(entry.unit) as usize;
                self.control.kept()[block].sequence.store(UNUSED, Ordering::Relaxed);
                self.pool.give(entry.unit);
                freed += 1;
            }
        }
        if index < self.limbo.len() {
            self.limbo.rotate_left(index);
        }
        let line = &self.control.header().pool;
        line.limbo.store(self.limbo.len() as u32, Ordering::Relaxed);
        let oldest = self.limbo.iter().map(|entry| entry.sequence).min();
        line.oldest_kept.store(oldest.unwrap_or(UNUSED), Ordering::Relaxed);
        freed
    }

    /// Moves the free blocks of the ring's queue, which ends at `end`, to the pool.
    #[inline]
    fn empty_queue(&mut self, end: u64) {
        while self.oldest_free != end {
            let unit = self.unit_at(self.oldest_free);
            self.pool.give(unit);
            self.oldest_free = self.oldest_free.wrapping_add(1);
        }
    }

    /// Copies the descriptor of a claimed message to where its subscriber finds it once the slot is
    /// overwritten.
    fn list(&self, sequence: u64, unit: u32) {
        let slot = self.control.slot(sequence);
        let kept = &self.control.kept()[self.pool.block_of(unit) as usize];
        kept.word.store(slot.word.load(Ordering::Relaxed), Ordering::Relaxed);
        kept.time.store(slot.time.load(Ordering::Relaxed), Ordering::Relaxed);
        // Ordering: Release pairs with the Acquire in `Consumer::receive_kept`, which may look before all is
        // listed. The entry does not change while the claim covers its message.
        kept.sequence.store(sequence, essential!(kept_release, Ordering::Release));
    }

    fn is_held(&self, unit: u32) -> bool {
        let block = self.pool.block_of(unit) as usize;
        // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
        essential!(ignore_holds, self.control.holds()[block].load(Ordering::Acquire)) != 0
    }

    /// First scan: how far the watermark can go.
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
                // One that was overtaken before is no reason to wait: it only holds what it claims.
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

    /// Steps 2 and 3: announces `target`, collects the claims below it, and returns the target that was
    /// reached.
    fn announce(&mut self, target: u64) -> u64 {
        let watermark = &self.control.header().state.watermark;
        // Ordering: Release, so that a joiner that starts at the watermark sees what lies before it.
        watermark.store(target, Ordering::Release);
        // Ordering: pairs with the process-wide barrier in `Consumer::join`: either our scan sees the
        // joiner's claim, or it sees the watermark.
        light_barrier();
        // A subscriber that claims as it goes has joined behind such a barrier: if this does not see it, the
        // barrier came later, and its claims after that see the watermark.
        // Ordering: Acquire pairs with the Release in `CursorRef::vacate`: if this sees that the last one has
        // left, the scan, which no fence orders behind the watermark then, sees its last claim given up and
        // its holds counted.
        let acquire = essential!(claimers_acquire, Ordering::Acquire);
        if self.control.header().state.claimers.load(acquire) != 0 {
            // Ordering: pairs with the fence in `Consumer::claim`.
            essential!(reclaim_fence, fence(Ordering::SeqCst));
        }
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

    /// The last resort of a publisher without a free block: takes back what subscribers that may lose
    /// messages have claimed and not taken. Returns how many blocks came free. About 10 µs if there is
    /// something to take back.
    #[cold]
    pub(crate) fn revoke(&mut self) -> usize {
        self.collect_taken();
        let freeable = |entry: &Limbo| !covered(&self.claims, entry.sequence) && !self.is_held(entry.unit);
        if !asymmetric_barriers() || !self.limbo.iter().any(freeable) {
            return 0;
        }
        // Ordering: pairs with the light barrier in `Consumer::receive_overtakable`. All of the limbo is
        // below the watermark that was announced before.
        if !essential!(revoke_barrier, heavy_barrier()) {
            return 0;
        }
        self.collect_taken();
        self.sort_out(self.watermark, self.watermark)
    }

    /// Collects the intervals below the watermark, without what is only claimed.
    fn collect_taken(&mut self) {
        self.claims.clear();
        for cursor in self.control.used_cursors() {
            // Ordering: Acquire as in `announce`.
            let low = cursor.low.load(Ordering::Acquire);
            let high = cursor.high.load(Ordering::Acquire);
            let taken = cursor.taken.load(Ordering::Relaxed);
            if low < self.watermark {
                self.claims.push((low, high.min(taken)));
            }
        }
    }
}

fn covered(claims: &[(u64, u64)], sequence: u64) -> bool {
    claims.iter().any(|&(low, high)| low <= sequence && sequence < high)
}
