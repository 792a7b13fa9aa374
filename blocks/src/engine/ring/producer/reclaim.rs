//! Getting blocks back: the part of a [`Producer`] that reads its subscribers' cursors.

use std::hint::cold_path;
use std::sync::Arc;

use super::Producer;
use crate::engine::remote::{Annex, Interval};
use crate::engine::segment::words::{UNBOUNDED, UNUSED};
use crate::primitive::{
    Ordering, asymmetric_barriers, essential, fence, heavy_barrier, light_barrier, machine_barrier,
    reachable_by_barriers,
};

/// Limbo entries to check in a reclamation that found other blocks.
const LIMBO_LOOKS: usize = 64;

/// A block that was given up, but is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limbo {
    sequence: u64,
    unit: u32,
    keeper: Keeper,
}

/// An interval that covered sequences below the watermark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    low: u64,
    high: u64,
    keeper: Keeper,
}

impl Claim {
    fn covers(&self, sequence: u64) -> bool {
        self.low <= sequence && sequence < self.high
    }
}

/// The process whose subscribers keep a block: the number of an attached process, or [`HERE`].
type Keeper = u32;

/// The publisher's process.
const HERE: Keeper = 0;

/// How far a reclamation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only the messages that every subscriber has passed.
    Passed,
    /// If that is nothing: past subscribers that may be overtaken, by at most this many messages.
    Overtake(u64),
}

/// What is left of a reclamation that took no block at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// All of it.
    Reclamation,
    /// One message was announced as given up, and its block is kept or may be.
    Settlement {
        /// Whether subscribers of other processes may keep it.
        everywhere: bool,
    },
}

impl Producer {
    /// Gets blocks back. Returns how many came free. Never waits.
    pub(crate) fn reclaim(&mut self, reach: Reach) -> usize {
        if self.annexes.is_empty() {
            return self.reclaim_from::<false>(reach);
        }
        self.notice_annexes();
        self.reclaim_from::<true>(reach)
    }

    /// Gets back what every subscriber has passed. If that is one message, and nobody keeps its block of the
    /// only size, this takes the block at once, the same that the pool would have on top. Otherwise
    /// [`finish`](Self::finish) does what is left to do. All messages are announced.
    #[inline(always)]
    pub(crate) fn take_passed(&mut self) -> Result<u32, Unfinished> {
        if self.annexes.is_empty() {
            return self.take_passed_from::<false>();
        }
        self.take_passed_everywhere()
    }

    #[inline(never)]
    fn take_passed_everywhere(&mut self) -> Result<u32, Unfinished> {
        self.notice_annexes();
        self.take_passed_from::<true>()
    }

    #[inline(always)]
    fn take_passed_from<const EVERYWHERE: bool>(&mut self) -> Result<u32, Unfinished> {
        let first = self.watermark;
        let target = first + 1;
        // First scan.
        let mut lowest = self.limit();
        let are_beyond = self.are_lows::<EVERYWHERE>(|low| {
            lowest = lowest.min(low);
            low >= target
        });
        if !are_beyond || lowest != target || !self.limbo.is_empty() || !self.pool.is_uniform() {
            cold_path();
            return Err(Unfinished::Reclamation);
        }
        self.announce_watermark(target);
        // The first scan came before the barrier, and may have missed a process.
        if essential!(latest_annexes_again, self.notice_annexes(), false) {
            cold_path();
            return Err(Unfinished::Settlement { everywhere: true });
        }
        self.fence_claimers::<EVERYWHERE>();
        // Second scan: an interval that begins at the target or later covers nothing below it.
        let is_passed = essential!(latest_again, self.are_lows::<EVERYWHERE>(|low| low >= target));
        if !is_passed || self.is_any_held::<EVERYWHERE>() {
            cold_path();
            return Err(Unfinished::Settlement { everywhere: EVERYWHERE });
        }
        if EVERYWHERE {
            self.note_bytes();
        }
        self.control.header().state.settled.store(target, Ordering::Relaxed);
        self.watermark = target;
        self.oldest_free = target;
        Ok(self.unit_at(first))
    }

    /// Does what [`take_passed`](Self::take_passed) has left to do. Nothing has been done since.
    pub(crate) fn finish(&mut self, unfinished: Unfinished) {
        let announced = self.watermark + 1;
        match unfinished {
            Unfinished::Reclamation => self.reclaim(Reach::Passed),
            Unfinished::Settlement { everywhere: false } => self.settle::<false>(announced),
            Unfinished::Settlement { everywhere: true } => self.settle::<true>(announced),
        };
    }

    /// With `EVERYWHERE`, this scans the cursors of attached processes too.
    #[inline]
    fn reclaim_from<const EVERYWHERE: bool>(&mut self, reach: Reach) -> usize {
        let target = self.target::<EVERYWHERE>(reach);
        if target == self.watermark && self.limbo.is_empty() {
            return 0;
        }
        self.announce_watermark(target);
        // The first scan came before the barrier, and may have missed a process.
        if essential!(annexes_again, self.notice_annexes(), false) {
            return self.settle::<true>(target);
        }
        self.settle::<EVERYWHERE>(target)
    }

    /// Between the scans: announces that sequences below `target` are given up.
    #[inline(always)]
    fn announce_watermark(&self, target: u64) {
        // Between the first scan and the watermark that follows from it.
        reachable_by_barriers();
        // Ordering: Release, so that a joiner that starts at the watermark sees what lies before it.
        self.control.header().state.watermark.store(target, Ordering::Release);
        // Ordering: pairs with the process-wide barrier in `Consumer::join`: either our scan sees the
        // joiner's claim, or it sees the watermark.
        light_barrier();
    }

    /// Frees the blocks below the watermark that nobody claims or holds. It was announced as `target`.
    #[inline]
    fn settle<const EVERYWHERE: bool>(&mut self, target: u64) -> usize {
        let first = self.watermark;
        let target = self.collect_claims::<EVERYWHERE>(target);
        let held = self.is_any_held::<EVERYWHERE>();
        if EVERYWHERE {
            self.note_bytes();
        }
        if !held && self.claims.is_empty() && self.limbo.is_empty() {
            // All of it is free; `collect_claims` has moved the end of the queue.
            if self.one_by_one {
                self.empty_queue(target);
            }
            self.control.header().state.settled.store(target, Ordering::Relaxed);
            return (target - first) as usize;
        }
        if essential!(settled_last, false, true) {
            self.control.header().state.settled.store(target, Ordering::Release);
        }
        let freed = self.sort_out::<EVERYWHERE>(first, target);
        // Ordering: Release pairs with the Acquire in `Consumer::receive_kept`: the list is complete below.
        self.control.header().state.settled.store(target, Ordering::Release);
        freed
    }

    /// Checks the blocks of `first..target` and of the limbo one by one.
    fn sort_out<const EVERYWHERE: bool>(&mut self, first: u64, target: u64) -> usize {
        let mut freed = 0;
        self.empty_queue(first);
        for sequence in first..target {
            let unit = self.unit_at(sequence);
            let Some(keeper) = self.keeper::<EVERYWHERE>(sequence, unit, None) else {
                self.pool.give(unit);
                freed += 1;
                continue;
            };
            if self.claims.iter().any(|claim| claim.covers(sequence)) {
                self.list(sequence, unit);
            }
            self.limbo.push(Limbo { sequence, unit, keeper });
        }
        self.oldest_free = target;
        // Older entries take turns; all of them are checked if nothing else was found.
        let looks = if freed == 0 { self.limbo.len() } else { self.limbo.len().min(LIMBO_LOOKS) };
        let mut index = 0;
        for _ in 0..looks {
            let entry = self.limbo[index];
            if let Some(keeper) = self.keeper::<EVERYWHERE>(entry.sequence, entry.unit, Some(entry.keeper)) {
                self.limbo[index].keeper = keeper;
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

    /// Copies the descriptor of a claimed message to the place where its subscriber finds it once the slot is
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

    /// Returns whose subscribers keep a block below the watermark, and charges it to that process's quota.
    /// `before` is the keeper that the limbo names.
    #[inline]
    fn keeper<const EVERYWHERE: bool>(
        &self,
        sequence: u64,
        unit: u32,
        before: Option<Keeper>,
    ) -> Option<Keeper> {
        let here = |claim: &Claim| (!EVERYWHERE || claim.keeper == HERE) && claim.covers(sequence);
        let is_here = self.claims.iter().any(here) || self.is_held_here(unit);
        if !EVERYWHERE {
            return is_here.then_some(HERE);
        }
        let block = self.pool.block_of(unit) as usize;
        let keeper = if is_here { Some(HERE) } else { self.keeper_elsewhere(sequence, block, before) };
        if let Some(before) = before.filter(|&before| keeper != Some(before)) {
            let annex = self.annexes.iter().find(|annex| annex.id().0 == before);
            annex.inspect(|annex| annex.discharge());
        }
        keeper
    }

    /// Finds another process that keeps a block, within its quota.
    fn keeper_elsewhere(&self, sequence: u64, block: usize, before: Option<Keeper>) -> Option<Keeper> {
        let keeps = |annex: &&Arc<Annex>| {
            let claims = |claim: &Claim| claim.keeper == annex.id().0 && claim.covers(sequence);
            annex.holds(block) || self.claims.iter().any(claims)
        };
        let charged = self.annexes.iter().find(|annex| Some(annex.id().0) == before);
        if charged.is_some_and(|annex| keeps(&annex)) {
            return before;
        }
        self.annexes.iter().filter(keeps).find(|annex| annex.charge()).map(|annex| annex.id().0)
    }

    /// Whether anybody keeps a block below the watermark.
    fn is_kept(&self, entry: &Limbo) -> bool {
        let block = self.pool.block_of(entry.unit) as usize;
        self.claims.iter().any(|claim| claim.covers(entry.sequence))
            || self.is_held_here(entry.unit)
            || self.annexes.iter().any(|annex| annex.holds(block))
    }

    /// Whether anybody holds any block by count.
    #[inline(always)]
    fn is_any_held<const EVERYWHERE: bool>(&self) -> bool {
        // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
        self.control.side().words().held.load(Ordering::Acquire) != 0
            || EVERYWHERE && self.annexes.iter().any(|annex| annex.holds_any())
    }

    fn is_held_here(&self, unit: u32) -> bool {
        let block = self.pool.block_of(unit) as usize;
        // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
        essential!(ignore_holds, self.control.side().holds()[block].load(Ordering::Acquire)) != 0
    }

    /// How far the watermark can go without subscribers: all but the history.
    #[inline(always)]
    fn limit(&self) -> u64 {
        self.head.saturating_sub(self.history).max(self.watermark)
    }

    /// Whether `is` holds for the oldest sequence that each subscriber, overtaken or not, has not passed.
    /// That of an unused cursor is [`UNUSED`].
    #[inline(always)]
    fn are_lows<const EVERYWHERE: bool>(&self, mut is: impl FnMut(u64) -> bool) -> bool {
        // Ordering: as in `target`.
        self.control.side().used_cursors().iter().all(|cursor| is(cursor.low.load(Ordering::Acquire)))
            && (!EVERYWHERE || self.annexes.iter().all(|annex| annex.lows().all(&mut is)))
    }

    /// First scan: how far the watermark can go.
    #[inline]
    fn target<const EVERYWHERE: bool>(&self, reach: Reach) -> u64 {
        let limit = self.limit();
        let (mut reliable, mut passed) = (limit, limit);
        for cursor in self.control.side().used_cursors() {
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
        let elsewhere: &[Arc<Annex>] = if EVERYWHERE { &self.annexes } else { &[] };
        for interval in elsewhere.iter().flat_map(|annex| annex.intervals()) {
            if interval.high == UNBOUNDED {
                reliable = reliable.min(interval.low);
                passed = passed.min(interval.low);
            } else if interval.low >= self.watermark {
                passed = passed.min(interval.low);
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

    /// Orders the second scan behind the watermark, if there are subscribers that claim as they go.
    #[inline(always)]
    fn fence_claimers<const EVERYWHERE: bool>(&self) {
        // A subscriber that claims as it goes has joined behind a process-wide barrier: if this does not see
        // it, the barrier came after the watermark was announced, and its claims after that see it.
        // Ordering: Acquire pairs with the Release in `CursorRef::vacate`: if this sees that the last one has
        // left, the scan, which no fence orders behind the watermark then, sees its last claim given up and
        // its holds counted.
        let acquire = essential!(claimers_acquire, Ordering::Acquire);
        if self.control.side().words().joined.claimers.load(acquire) != 0
            || EVERYWHERE && self.annexes.iter().any(|annex| annex.claims())
        {
            // Ordering: pairs with the fence in `Consumer::claim`.
            essential!(reclaim_fence, fence(Ordering::SeqCst));
        }
    }

    /// Second scan, after `target` was announced as the watermark: collects the claims below it, and returns
    /// the target that was reached.
    #[inline]
    fn collect_claims<const EVERYWHERE: bool>(&mut self, target: u64) -> u64 {
        self.fence_claimers::<EVERYWHERE>();
        let mut settled = target;
        self.claims.clear();
        for cursor in self.control.side().used_cursors() {
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
            self.claims.push(Claim { low, high, keeper: HERE });
        }
        if EVERYWHERE {
            for annex in &self.annexes {
                for interval in annex.intervals().filter(|interval| interval.low < target) {
                    if interval.high == UNBOUNDED {
                        settled = settled.min(interval.low.max(self.watermark));
                    }
                    let Interval { low, high, .. } = interval;
                    self.claims.push(Claim { low, high, keeper: annex.id().0 });
                }
            }
        }
        if settled != target {
            self.control.header().state.watermark.store(settled, Ordering::Release);
        }
        self.watermark = settled;
        settled
    }

    /// The last resort of a publisher without a free block: takes back what subscribers that may lose
    /// messages have claimed and not taken. Returns how many blocks came free. About 10 µs if there is
    /// something to take back.
    #[cold]
    pub(crate) fn revoke(&mut self) -> usize {
        self.notice_annexes();
        self.collect_taken();
        if !asymmetric_barriers() || self.limbo.iter().all(|entry| self.is_kept(entry)) {
            return 0;
        }
        // Ordering: pairs with the light barrier in `Consumer::receive_overtakable`. All of the limbo is
        // below the watermark that was announced before.
        let fenced = if self.annexes.is_empty() {
            essential!(revoke_barrier, heavy_barrier())
        } else {
            essential!(remote_revoke_barrier, machine_barrier())
        };
        if !fenced {
            return 0;
        }
        self.collect_taken();
        self.sort_out::<true>(self.watermark, self.watermark)
    }

    /// Collects the intervals below the watermark, except messages that are only claimed.
    fn collect_taken(&mut self) {
        self.claims.clear();
        for cursor in self.control.side().used_cursors() {
            // Ordering: Acquire as in `announce`.
            let low = cursor.low.load(Ordering::Acquire);
            let high = cursor.high.load(Ordering::Acquire);
            let taken = cursor.taken.load(Ordering::Relaxed);
            if low < self.watermark {
                self.claims.push(Claim { low, high: high.min(taken), keeper: HERE });
            }
        }
        for annex in &self.annexes {
            for interval in annex.intervals().filter(|interval| interval.low < self.watermark) {
                let high = interval.high.min(interval.taken);
                self.claims.push(Claim { low: interval.low, high, keeper: annex.id().0 });
            }
        }
    }
}
