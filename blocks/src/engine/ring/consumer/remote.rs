//! Receiving from a publisher of another process, by a [`Consumer`] that checks everything it reads.

use std::sync::Arc;

use super::{Consumer, Outcome};
use crate::descriptor::{Packed, len_of};
use crate::engine::segment::words::Header;
use crate::primitive::{LoadAcquire as _, Ordering};

/// A sequence that no publisher reaches. Sums of two numbers below it do not overflow.
const UNREACHABLE: u64 = 1 << 62;

impl Consumer {
    /// Whether the head is possible.
    pub(super) fn is_sane(&self) -> bool {
        let reachable = (self.next..UNREACHABLE).contains(&self.head);
        // The publisher waits, so it cannot be further ahead than it has blocks.
        let blocks = u64::from(self.cursor.control().geometry().blocks);
        reachable && (!self.reliable || self.head - self.next <= blocks)
    }

    /// Whether the consumer receives by [`receive_checked_batch`](Self::receive_checked_batch).
    pub(crate) fn receives_checked_batches(&self) -> bool {
        self.checked && self.reliable && !self.may_miss()
    }

    /// Receives up to `limit` messages at once, for a reliable consumer whose publisher is in another
    /// process. Appends them to `batch`. Stops before whatever is unusual, which receiving one message finds
    /// out.
    ///
    /// Loads the head at most once, as [`receive_each`](Self::receive_each) does. A batch that followed the
    /// head would take its cache line from the publisher again for each message that is published meanwhile,
    /// and would release nothing until then.
    pub(crate) fn receive_checked_batch(&mut self, limit: u64, batch: &mut Vec<Packed>) {
        debug_assert!(
            self.receives_checked_batches(),
            "others claim as they go, miss some or need no checks"
        );
        if self.head.wrapping_sub(self.next) < limit {
            // Ordering: as in `receive`.
            self.head = self.cursor.header().head.next.load_acquire();
        }
        let control = self.cursor.control();
        let Some(publisher) = control.remote() else { return };
        if !self.is_sane() {
            return;
        }
        let present = limit.min(self.head - self.next);
        let (first, before, mut len) = (self.next, batch.len(), 0);
        for sequence in first..first + present {
            let slot = control.slot(sequence);
            // Ordering: as in `receive_present`.
            let word = slot.word.load(Ordering::Relaxed);
            let time = slot.time.load(Ordering::Relaxed);
            let Some(word) = publisher.believed(word) else { break };
            len += len_of(word);
            batch.push(Packed { sequence, word, time });
        }
        self.count_bytes(len);
        self.next = first + (batch.len() - before) as u64;
    }

    /// Receives the next message, which a reliable consumer has claimed.
    pub(super) fn receive_checked(&mut self) -> Outcome {
        let slot = self.cursor.control().slot(self.next);
        // Ordering: as in `receive_present`.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        self.take_believed(Packed { sequence: self.next, word, time })
    }

    /// Takes the next message, if its descriptor is valid.
    #[inline]
    pub(super) fn take_believed(&mut self, next: Packed) -> Outcome {
        let Some(word) = self.believed(next.word) else { return Outcome::Corrupt };
        self.time = next.time;
        self.taken(word, next.time);
        Outcome::Message
    }

    /// Returns the descriptor word in the form that readers may rely on. `None` if it names no block.
    #[inline]
    pub(super) fn believed(&self, word: u64) -> Option<u64> {
        if !self.checked {
            return Some(word);
        }
        match self.cursor.control().remote() {
            Some(publisher) => publisher.believed(word),
            None => Some(word),
        }
    }

    /// Receives a claimed message of a publisher that has died between announcing the watermark and listing
    /// claimed messages: no slot was overwritten since.
    pub(super) fn receive_from_dead(&mut self) -> Outcome {
        // It may have finished before it died.
        if self.cursor.header().state.settled.load_acquire() > self.next {
            return self.receive_kept();
        }
        self.receive_checked()
    }

    /// After [`Outcome::Corrupt`]: the channel counts as ended for this consumer. Nothing older may still be
    /// attached through the interval.
    pub(crate) fn give_up(&mut self) {
        let header = Header::new();
        header.head.next.store(self.next, Ordering::Relaxed);
        header.state.closed.store(1, Ordering::Relaxed);
        let header = self.ended.insert(Arc::new(header));
        // SAFETY: the consumer keeps it, and the handle does not outlive the consumer.
        unsafe { self.cursor.control_mut().replace_header(header) };
        self.head = self.next;
    }
}
