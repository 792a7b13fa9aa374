//! Receiving messages that the publisher may be giving up, by a [`Consumer`] that is not reliable.

use super::{Consumer, Outcome};
use crate::descriptor::Packed;
use crate::engine::segment::words::UNBOUNDED;
use crate::primitive::{Ordering, essential, fence, light_barrier};

/// Claimed messages whose slots were overwritten, the oldest last.
#[derive(Debug, Default)]
pub(super) struct Backlog(Vec<Packed>);

impl Consumer {
    #[inline(never)]
    pub(super) fn receive_overtakable(&mut self) -> Outcome {
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
        self.time = time;
        self.taken(word, time);
        Outcome::Message
    }

    /// Receives a claimed message whose slot may have been overwritten.
    #[cold]
    fn receive_kept(&mut self) -> Outcome {
        // Until then the publisher is between announcing the watermark and listing claimed messages: a few
        // instructions, unless its thread was suspended there.
        // Ordering: Acquire pairs with the Release in `Producer::reclaim`.
        while self.cursor.header().state.settled.load(Ordering::Acquire) <= self.next {
            if self.cursor.header().state.watermark.load(Ordering::Acquire) <= self.next {
                // It has stepped back for one that is joining; the slot was not given up.
                return self.receive_overtakable();
            }
            crate::primitive::yield_now();
        }
        let Some(Backlog(backlog)) = self.keeping.as_deref_mut() else { return Outcome::Overtaken };
        if backlog.last().is_none_or(|oldest| oldest.sequence != self.next) {
            let claimed = self.next..self.high;
            let listed = self.cursor.control().kept().iter().filter_map(|kept| {
                // Ordering: Acquire pairs with `Producer::list`, which may be listing later messages of the
                // claim right now; an entry is unchanged while the claim covers its message.
                let sequence = kept.sequence.load(Ordering::Acquire);
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
            Some(kept) if kept.sequence == self.next => {
                self.time = kept.time;
                self.taken(kept.word, kept.time);
                Outcome::Message
            }
            _ => Outcome::Overtaken,
        }
    }

    /// Makes room in a buffer that keeps the oldest, after `low` has moved. Only while nothing was dropped,
    /// so that the kept messages have no gap.
    #[inline(never)]
    pub(super) fn make_room(&mut self, low: u64) {
        if self.keeping.is_none() {
            return;
        }
        let before = self.high;
        let high = low.saturating_add(self.window).min(UNBOUNDED - 1);
        if high <= before || self.cursor.header().head.next.load(Ordering::Acquire) > before {
            return;
        }
        let line = self.cursor.line();
        line.high.store(high, Ordering::Relaxed);
        // Ordering: as in `claim`.
        essential!(room_fence, fence(Ordering::SeqCst));
        if self.cursor.header().state.watermark.load(Ordering::Acquire) > before {
            // Too late: some of the new part is already gone. An interval may always shrink.
            line.high.store(before, Ordering::Release);
        } else {
            self.high = high;
        }
    }

    /// Extends the claim to a window from `next` on. The watermark must be checked afterwards, which happens
    /// once the descriptor is read.
    fn claim(&mut self) {
        self.high = self.next.saturating_add(self.window).min(UNBOUNDED - 1);
        self.cursor.line().high.store(self.high, Ordering::Relaxed);
        // Ordering: pairs with the fence in `Producer::announce`, which is there as long as there are
        // claimers: its second scan sees this claim, or our next look at the watermark sees that it has
        // passed.
        essential!(claim_fence, fence(Ordering::SeqCst));
    }

    /// Continues, after [`Outcome::Overtaken`], at the oldest message that is still there and within the
    /// depth. Returns how many were lost, and whether the publisher sleeps and must be woken. Nothing older
    /// may still be attached through the interval.
    pub(crate) fn jump(&mut self) -> (u64, bool) {
        let from = self.next;
        self.head = self.cursor.header().head.next.load(Ordering::Acquire);
        // A consumer that keeps the oldest has received them all, and starts with an empty buffer.
        let depth = if self.keeping.is_some() { 0 } else { self.depth };
        self.next = self.next.max(self.head.saturating_sub(depth));
        if let Some(backlog) = &mut self.keeping {
            backlog.0.clear();
        }
        loop {
            // Ordering: Acquire: the head loaded next is at least as new as the watermark.
            let watermark = self.cursor.header().state.watermark.load(Ordering::Acquire);
            self.head = self.cursor.header().head.next.load(Ordering::Acquire);
            self.next = self.next.max(watermark);
            if self.keeping.is_none() {
                self.cursor.line().taken.store(self.next, Ordering::Relaxed);
            }
            self.cursor.line().low.store(self.next, Ordering::Release);
            self.claim();
            if self.cursor.header().state.watermark.load(Ordering::Relaxed) <= self.next {
                break;
            }
        }
        let lost = self.next - from;
        self.lost += lost;
        self.cursor.line().lost.store(self.lost, Ordering::Relaxed);
        (lost, self.cursor.header().space.notified(&mut self.rounds))
    }
}
