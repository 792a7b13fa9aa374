//! How a [`Consumer`] that was overtaken continues, and counts its losses.

use super::Consumer;
use crate::engine::segment::words::Cursor;
use crate::primitive::{LoadAcquire as _, Ordering, essential};

/// How often a consumer follows a watermark that moves on meanwhile. It may stop at any time: if the
/// watermark has passed it again, it learns of that when it receives.
const FOLLOWED: u32 = 1000;

/// A word of a cursor that a jump changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JumpWord {
    Lost,
    JumpTo,
    JumpLost,
    Low,
}

/// The stores of a jump from `low` to `to`, in this order. `before` messages were counted as lost so far, and
/// `after` are with those that it skips.
///
/// If the subscriber dies after any of them, [`Cursor::lost_messages`] fits `low`: until
/// `low` is at its new place, `lost` counts, and then `jump_lost`.
pub(super) fn stores(before: u64, after: u64, to: u64) -> [(JumpWord, u64); 5] {
    use JumpWord::{JumpLost, JumpTo, Lost, Low};

    essential!(
        journal_first,
        [(Lost, before), (JumpTo, to), (JumpLost, after), (Low, to), (Lost, after)],
        [(Low, to), (Lost, before), (JumpTo, to), (JumpLost, after), (Lost, after)]
    )
}

fn word(line: &Cursor, word: JumpWord) -> &crate::primitive::AtomicU64 {
    match word {
        JumpWord::Lost => &line.lost,
        JumpWord::JumpTo => &line.jump_to,
        JumpWord::JumpLost => &line.jump_lost,
        JumpWord::Low => &line.low,
    }
}

impl Consumer {
    /// Continues, after [`Outcome::Overtaken`](super::Outcome::Overtaken), at the oldest message that is
    /// still there and within the depth. Returns how many were lost, and whether the publisher sleeps and
    /// must be woken. Nothing older may still be attached through the interval.
    pub(crate) fn jump(&mut self) -> (u64, bool) {
        let from = self.next;
        self.head = self.cursor.header().head.next.load_acquire();
        // A consumer that keeps the oldest has received them all, and starts with an empty buffer.
        let depth = if self.keeping.is_some() { 0 } else { self.depth };
        self.next = self.next.max(self.head.saturating_sub(depth));
        if let Some(backlog) = &mut self.keeping {
            backlog.0.clear();
        }
        let mut counted = self.lost;
        for _ in 0..FOLLOWED {
            // Ordering: Acquire: the head loaded next is at least as new as the watermark.
            let watermark = self.cursor.header().state.watermark.load_acquire();
            self.head = self.cursor.header().head.next.load_acquire();
            self.next = self.next.max(watermark);
            if self.keeping.is_none() {
                self.cursor.line().taken.store(self.next, Ordering::Relaxed);
            }
            let lost = self.lost.saturating_add(self.next - from);
            for (name, value) in stores(counted, lost, self.next) {
                // Ordering: Release for each, so that they happen in this order wherever the process is
                // killed; that of `low` as in `Consumer::release`.
                word(self.cursor.line(), name).store(value, Ordering::Release);
            }
            counted = lost;
            self.claim();
            if self.cursor.header().state.watermark.load(Ordering::Relaxed) <= self.next {
                break;
            }
        }
        self.lost = counted;
        (self.next - from, self.cursor.control().released(&mut self.rounds))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn losses_are_exact_whichever_store_of_a_jump_was_the_last() {
        let line = Cursor::new();
        line.start.store(10, Ordering::Relaxed);
        let (mut low, mut received, mut lost) = (15, 5, 0);
        line.low.store(low, Ordering::Relaxed);
        let check = |received, lost, what: &str| {
            assert_eq!(line.lost_messages(), lost, "{what}");
            assert_eq!(line.low.load(Ordering::Relaxed) - 10 - lost, received, "{what}");
        };
        // The messages that each jump passes, some in several steps.
        let jumps: [&[u64]; 5] = [&[3], &[4, 2], &[0], &[1, 0, 7], &[0, 2]];
        for steps in jumps {
            for step in steps {
                for (name, value) in stores(lost, lost + step, low + step) {
                    word(&line, name).store(value, Ordering::Relaxed);
                    let there = line.low.load(Ordering::Relaxed) == low + step;
                    check(
                        received,
                        if there { lost + step } else { lost },
                        &format!("{name:?} of {steps:?}"),
                    );
                }
                (low, lost) = (low + step, lost + step);
            }
            (low, received) = (low + 1, received + 1);
            line.low.store(low, Ordering::Relaxed);
            check(received, lost, "between jumps");
        }
    }
}
