//! Receiving messages that the publisher may be giving up, by a [`Consumer`] that is not reliable.

use super::{Consumer, Outcome};
use crate::descriptor::Packed;
use crate::engine::segment::words::UNBOUNDED;
use crate::primitive::{LoadAcquire as _, Ordering, essential, fence, light_barrier};

/// How often a subscriber checks whether a publisher in another process has finished, before it reports that
/// there is no message yet.
const LOOKS: u32 = 100;

/// Claimed messages whose slots were overwritten, the oldest last.
#[derive(Debug, Default)]
pub(super) struct Backlog(pub(super) Vec<Packed>);

impl Consumer {
    /// Receives from a publisher of another process, or from a relay. Separate, so that other publishers'
    /// messages do not pay for these checks.
    #[inline(never)]
    pub(super) fn receive_specially(&mut self) -> Outcome {
        if self.checked && !self.is_sane() {
            return Outcome::Corrupt;
        }
        if self.is_missing_some() {
            return Outcome::Missing;
        }
        match (self.reliable, self.checked) {
            (true, _) => self.receive_checked(),
            (false, true) => self.receive_overtakable::<true>(),
            (false, false) => self.receive_overtakable::<false>(),
        }
    }

    /// With `CHECKED`, the publisher is in another process.
    #[inline(never)]
    pub(super) fn receive_overtakable<const CHECKED: bool>(&mut self) -> Outcome {
        if self.head - self.next > self.depth {
            return Outcome::Overtaken;
        }
        if self.next >= self.high {
            if self.keeping.is_some() && self.head > self.high {
                // The buffer was full when the next message came.
                return Outcome::Overtaken;
            }
            self.claim();
        }
        if self.keeping.is_none() {
            self.cursor.line().taken.store(self.next + 1, Ordering::Relaxed);
            // Ordering: pairs with the process-wide barrier in `Producer::revoke`: either it sees that we
            // have begun to take this message, or we see the watermark that stands behind it.
            light_barrier();
        }
        let slot = self.cursor.control().slot(self.next);
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        // Ordering: pairs with the fence in `Producer::announce`: if one of the two loads above read a later
        // message's descriptor, the load below reads the watermark that was announced before it.
        essential!(descriptor_fence, fence(Ordering::Acquire));
        if self.cursor.header().state.watermark.load(Ordering::Relaxed) > self.next {
            return if self.keeping.is_some() { self.receive_kept() } else { Outcome::Overtaken };
        }
        if CHECKED {
            return self.take_believed(Packed { sequence: self.next, word, time });
        }
        self.time = time;
        self.taken(word, time);
        Outcome::Message
    }

    /// Receives a claimed message whose slot may have been overwritten.
    #[cold]
    pub(super) fn receive_kept(&mut self) -> Outcome {
        // Until then the publisher is between announcing the watermark and listing claimed messages: a few
        // instructions, unless its thread was suspended there.
        let mut looks = 0;
        // Ordering: Acquire pairs with the Release in `Producer::reclaim`.
        while self.cursor.header().state.settled.load_acquire() <= self.next {
            if self.cursor.header().state.watermark.load_acquire() <= self.next {
                // It has stepped back for one that is joining; the slot was not given up.
                return if self.checked { Outcome::Empty } else { self.receive_overtakable::<false>() };
            }
            if self.checked {
                if self.cursor.control().is_publisher_gone() {
                    return self.receive_from_dead();
                }
                looks += 1;
                if looks > LOOKS {
                    // Its process was stopped there, or was killed and nobody knows yet.
                    return Outcome::Empty;
                }
            }
            crate::primitive::yield_now();
        }
        let Some(Backlog(backlog)) = self.keeping.as_deref_mut() else { return Outcome::Overtaken };
        if backlog.last().is_none_or(|oldest| oldest.sequence != self.next) {
            let claimed = self.next..self.high;
            let listed = self.cursor.control().kept().iter().filter_map(|kept| {
                // Ordering: Acquire pairs with `Producer::list`, which may be listing later messages of the
                // claim right now; an entry is unchanged while the claim covers its message.
                let sequence = kept.sequence.load_acquire();
                claimed.contains(&sequence).then(|| Packed {
                    sequence,
                    word: kept.word.load(Ordering::Relaxed),
                    time: kept.time.load(Ordering::Relaxed),
                })
            });
            backlog.clear();
            backlog.extend(listed);
            backlog.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.sequence));
        }
        match backlog.pop() {
            Some(kept) if kept.sequence == self.next => self.take_believed(kept),
            _ => Outcome::Overtaken,
        }
    }

    /// Makes room in a buffer that keeps the oldest, after `low` has moved. Only while nothing was dropped,
    /// so that the kept messages have no gap.
    #[inline(never)]
    pub(super) fn make_room(&mut self, low: u64) {
        let before = self.high;
        let high = low.saturating_add(self.window).min(UNBOUNDED - 1);
        if high <= before || self.cursor.header().head.next.load_acquire() > before {
            return;
        }
        let line = self.cursor.line();
        line.high.store(high, Ordering::Relaxed);
        // Ordering: as in `claim`.
        essential!(room_fence, fence(Ordering::SeqCst));
        if self.cursor.header().state.watermark.load_acquire() > before {
            // Too late: some of the new part is already gone. An interval may always shrink.
            line.high.store(before, Ordering::Release);
        } else {
            self.high = high;
        }
    }

    /// Extends the claim to a window from `next` on. The watermark must be checked afterwards, which happens
    /// once the descriptor is read.
    pub(super) fn claim(&mut self) {
        self.high = self.next.saturating_add(self.window).min(UNBOUNDED - 1);
        self.cursor.line().high.store(self.high, Ordering::Relaxed);
        // Ordering: pairs with the fence in `Producer::announce`, which is there as long as there are
        // claimers: its second scan sees this claim, or our next look at the watermark sees that it has
        // passed.
        essential!(claim_fence, fence(Ordering::SeqCst));
    }
}
