//! Messages that never reached a publisher which is a relay, as a [`Consumer`] learns of them.
//!
//! The relay counts them in one word ([`State::missing`](crate::engine::segment::words::State::missing)), and
//! stamps every message with that count. Before it receives a message, the consumer compares its stamp with
//! what it has reported so far. If there is no message, it compares the word itself. So each loss is reported
//! once, at its place, and a jump past messages leaves none out.

use super::Consumer;
use crate::engine::segment::control::Control;
use crate::engine::segment::words::Header;
use crate::primitive::{LoadAcquire as _, Ordering};

/// Missing messages as counted by the relay, of which the subscriber has learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    /// The count when the subscriber joined.
    from: u64,
    count: u64,
}

impl Reported {
    /// For a subscriber that starts at `next`. `None` if the publisher is not a relay.
    pub(super) fn at_join(control: &Control, next: u64, head: u64) -> Option<Self> {
        let stamp = control.missing(next)?;
        let count = if next < head {
            // Ordering: Relaxed; made visible by the head, and the slot is claimed.
            stamp.load(Ordering::Relaxed)
        } else {
            // Loaded after the head: a loss that is reported later comes after the join.
            control.header().state.missing.load_acquire()
        };
        Some(Self { from: count, count })
    }

    /// Messages that were reported to the subscriber.
    pub(super) fn since_join(self) -> u64 {
        self.count - self.from
    }

    /// Whether everything was reported that the relay has counted.
    pub(super) fn is_all_of(self, header: &Header) -> bool {
        header.state.missing.load_acquire() <= self.count
    }
}

impl Consumer {
    /// Whether messages are missing before the next one, or after the last one, that were not reported yet.
    #[inline]
    pub(super) fn is_missing_some(&mut self) -> bool {
        match self.missing {
            None => false,
            Some(reported) => self.missing_before_next() > reported.count,
        }
    }

    /// Returns how many messages are missing here, and counts them as reported.
    pub(crate) fn take_missing(&mut self) -> u64 {
        let total = self.missing_before_next();
        let Some(reported) = &mut self.missing else { return 0 };
        // The count of another process may be anything.
        let more = total.saturating_sub(reported.count);
        reported.count += more;
        let line = self.cursor.line();
        line.missing.store(reported.since_join(), Ordering::Relaxed);
        more
    }

    /// What the relay had counted before the next message, or until now if there is none.
    #[inline(never)]
    fn missing_before_next(&mut self) -> u64 {
        if self.next == self.head {
            // Ordering: Acquire: the head loaded next is at least as new. If it has not moved, no message was
            // published before the count became this.
            let count = self.cursor.header().state.missing.load_acquire();
            self.head = self.cursor.header().head.next.load_acquire();
            if self.next == self.head {
                return count;
            }
        }
        // Ordering: Relaxed; made visible by the head. If the slot was overwritten, this is the count of a
        // later message: then the next message is lost or kept elsewhere, and the loss is reported early.
        self.cursor.control().missing(self.next).map_or(0, |stamp| stamp.load(Ordering::Relaxed))
    }
}
