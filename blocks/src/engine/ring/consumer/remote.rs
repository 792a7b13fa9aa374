//! Receiving from a publisher of another process, by a [`Consumer`] that checks everything it reads.

use std::sync::Arc;

use super::{Consumer, Outcome};
use crate::descriptor::Packed;
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
