//! A subscriber's half of the protocol: claim, receive and release messages.
//!
//! A *reliable* consumer claims everything from its `low` on. The publisher cannot pass it, so receiving
//! takes a load of the head and a load of the descriptor, and releasing takes one store. A consumer that may
//! be overtaken claims a window ahead of itself, including messages that were not published yet, so that it
//! pays the fence of a claim once per window. After each descriptor it checks that the watermark has not
//! passed it.
//!
//! If the publisher is in [another process](crate::engine::remote), every descriptor is checked. If it is a
//! relay, the consumer checks before each message whether others are [missing].

use std::hint::cold_path;
use std::sync::Arc;

use crate::descriptor::{Packed, len_of};
use crate::engine::segment::control::{Control, CursorRef};
use crate::engine::segment::words::{Header, UNBOUNDED};
use crate::engine::wake::event_count::QuietRounds;
use crate::primitive::{LoadAcquire as _, Ordering, essential, fence};

mod join;
mod jump;
mod missing;
mod overtakable;
mod remote;

use missing::Reported;
use overtakable::Backlog;

/// One subscriber's private state on one channel. Owns its cursor until [`leave`](Self::leave).
///
/// The fields that every message needs come first, together with the start of [`Control`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Consumer {
    /// The sequence to receive next.
    next: u64,
    /// The head as last seen.
    head: u64,
    cursor: CursorRef,
    /// The value of the cursor's `high`, except that a reliable consumer whose publisher is in another
    /// process, or a relay, has less than [`UNBOUNDED`] here: it takes the way on which more is checked.
    high: u64,
    /// Descriptor word of the message received last, unless by [`receive_word`](Self::receive_word).
    word: u64,
    /// When that message was published, if its slot may be overwritten.
    time: u64,
    /// Sequences to claim ahead at a time.
    window: u64,
    /// Messages kept for a consumer that may be overtaken. Older ones count as lost.
    depth: u64,
    /// Set if the newest messages are dropped, not the oldest. Then the claim is the buffer.
    keeping: Option<Box<Backlog>>,
    lost: u64,
    /// What a relay has reported as missing.
    missing: Option<Reported>,
    rounds: QuietRounds,
    /// Whether the publisher waits for it.
    reliable: bool,
    /// Whether the publisher is in another process, so that whatever it writes is checked.
    checked: bool,
    /// Whether the publisher is in another process or a relay, so that more is checked before a message.
    special: bool,
    /// The header of a channel that has ended, which has replaced that of a corrupt one.
    ended: Option<Arc<Header>>,
}

/// The result of a consumer's attempt to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A message, which [`Consumer::current`] returns.
    Message,
    /// No new message.
    Empty,
    /// No new message, and none will come.
    Ended,
    /// The watermark has passed the next message. Call [`Consumer::jump`].
    Overtaken,
    /// The publisher, a relay, misses messages before the next one. Call [`Consumer::take_missing`].
    Missing,
    /// The publisher, in another process, is broken. Call [`Consumer::give_up`].
    Corrupt,
}

/// How a consumer relates to the publisher when it is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The publisher waits for it.
    Reliable,
    /// The publisher continues, and the oldest messages are lost.
    Overtakable {
        /// Sequences to claim ahead at a time, at least 1.
        window: u64,
        /// The largest number of messages kept, at least 1.
        depth: u64,
    },
    /// The publisher continues, and the newest messages are lost.
    Keeping {
        /// Messages kept, at least 1.
        depth: u64,
    },
}

impl Pace {
    /// Maximum number of messages that stay for the consumer when the publisher moves past it.
    pub(crate) fn kept(self) -> u32 {
        match self {
            // The depth was computed from a number of blocks.
            Self::Keeping { depth } => u32::try_from(depth).unwrap_or(u32::MAX),
            Self::Reliable | Self::Overtakable { .. } => 0,
        }
    }
}

impl Consumer {
    pub(crate) fn control(&self) -> &Control {
        self.cursor.control()
    }

    /// The message received last.
    #[inline(always)]
    pub(crate) fn current(&self) -> Packed {
        let sequence = self.next.wrapping_sub(1);
        let time = if self.high == UNBOUNDED {
            // Not overwritten while it is attached.
            self.cursor.control().slot(sequence).time.load(Ordering::Relaxed)
        } else {
            self.time
        };
        Packed { sequence, word: self.word, time }
    }

    /// The message received last, whose descriptor word the caller knows.
    #[inline(always)]
    pub(crate) fn current_of(&self, word: u64) -> Packed {
        Packed { word, ..self.current() }
    }

    /// The number of messages that a consumer may receive together if the publisher goes on past it, and all
    /// such consumers share `spare` blocks. A consumer that keeps the oldest never receives more than is kept
    /// for it.
    pub(crate) fn batch_limit(&self, spare: u32) -> usize {
        if self.is_reliable() || self.keeping.is_some() {
            return usize::MAX;
        }
        // Ordering: Relaxed; an estimate while others join.
        let joined = &self.cursor.control().side().words().joined;
        let sharing = joined.claimers.load(Ordering::Relaxed).max(1);
        1 + (spare / 8 / sharing) as usize
    }

    /// The largest number of messages kept for it if the newest are dropped, otherwise 0.
    pub(crate) fn kept(&self) -> u32 {
        if self.keeping.is_some() { Pace::Keeping { depth: self.window }.kept() } else { 0 }
    }

    /// Whether the publisher waits for this consumer.
    #[inline(always)]
    pub(crate) fn is_reliable(&self) -> bool {
        self.reliable
    }

    /// Whether the publisher waits for this consumer and wrote the descriptors in this process. Then they can
    /// be read without any check, and again.
    #[inline(always)]
    pub(crate) fn reads_unchecked(&self) -> bool {
        self.high == UNBOUNDED
    }

    /// The sequence that will be received next.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Lost messages that were reported to the subscriber, including those that never reached the publisher.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.saturating_add(self.missing.map_or(0, Reported::since_join))
    }

    /// Whether the publisher is a relay, so that messages may be missing before each one.
    pub(crate) fn may_miss(&self) -> bool {
        self.missing.is_some()
    }

    /// Receives the next message. It stays in place until [`release`](Self::release) passes it.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Outcome {
        match self.receive() {
            Ok(_) => Outcome::Message,
            Err(other) => other,
        }
    }

    /// Like [`advance`](Self::advance), but returns the descriptor: in registers, unless something unusual
    /// happens.
    #[inline(always)]
    pub(crate) fn receive(&mut self) -> Result<Packed, Outcome> {
        if self.next == self.head {
            // Ordering: Acquire pairs with the publisher's Release store of the head.
            self.head = self.cursor.header().head.next.load_acquire();
            if self.next == self.head {
                return self.unusual(Self::at_head);
            }
        }
        self.receive_present()
    }

    /// Like [`receive`](Self::receive), if [`has_message`](Self::has_message) just returned `true`.
    #[inline(always)]
    pub(crate) fn receive_present(&mut self) -> Result<Packed, Outcome> {
        if self.next == self.head {
            // The caller did not check: a slot at the head must not be read.
            return Err(Outcome::Empty);
        }
        if self.high != UNBOUNDED {
            if self.special {
                return self.unusual(Self::receive_specially);
            }
            return self.unusual(Self::receive_overtakable::<false>);
        }
        let slot = self.cursor.control().slot(self.next);
        // Ordering: Relaxed; made visible by the head, and not overwritten while our `low` is below it.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        Ok(self.taken(word, time))
    }

    /// Like [`advance`](Self::advance), for a reliable consumer: returns the descriptor word, or `None` if
    /// there is no message. Does not count the message's bytes; [`release_word`](Self::release_word) does.
    #[inline(always)]
    pub(crate) fn receive_word(&mut self) -> Option<u64> {
        debug_assert!(self.reads_unchecked(), "descriptors that others overwrite or write are checked");
        let next = self.next;
        if next == self.head {
            // Ordering: as in `receive`.
            let head = self.cursor.header().head.next.load(Ordering::Acquire);
            self.head = head;
            if next == head {
                cold_path();
                return None;
            }
        }
        self.next = next + 1;
        // Ordering: as in `receive_present`.
        Some(self.cursor.control().slot(next).word.load(Ordering::Relaxed))
    }

    /// Releases everything that was received. The last message came by [`receive_word`](Self::receive_word).
    /// Returns `true` if the publisher sleeps and must be woken.
    #[inline(always)]
    pub(crate) fn release_word(&mut self, word: u64) -> bool {
        let next = self.next;
        self.count_bytes(len_of(word));
        self.store_low(next);
        self.cursor.control().released(&mut self.rounds)
    }

    /// Receives up to `limit` messages at once, for a reliable consumer. Returns their number;
    /// [`nth_before`](Self::nth_before) finds them.
    pub(crate) fn receive_many(&mut self, limit: u64) -> u64 {
        self.receive_each(limit, |_| {}).0
    }

    /// Like [`receive_many`](Self::receive_many), but calls `each` with every message. Returns the number of
    /// messages and of bytes.
    #[inline(always)]
    pub(crate) fn receive_each(&mut self, limit: u64, mut each: impl FnMut(Packed)) -> (u64, u64) {
        debug_assert!(self.reads_unchecked(), "descriptors that others overwrite or write are checked");
        if self.head - self.next < limit {
            // Ordering: as in `receive`.
            self.head = self.cursor.header().head.next.load(Ordering::Acquire);
        }
        let count = limit.min(self.head - self.next);
        let end = self.next + count;
        let mut bytes = 0;
        for sequence in self.next..end {
            let slot = self.cursor.control().slot(sequence);
            // Ordering: Relaxed, as in `receive_present`.
            let word = slot.word.load(Ordering::Relaxed);
            let time = slot.time.load(Ordering::Relaxed);
            bytes += len_of(word);
            each(Packed { sequence, word, time });
        }
        self.next = end;
        self.count_bytes(bytes);
        (count, bytes)
    }

    /// The message that a reliable consumer received `distance` messages before the next one: 1 is the
    /// message received last. It must not be released yet.
    #[inline(always)]
    pub(crate) fn nth_before(&self, distance: u64) -> Packed {
        let sequence = self.next - distance;
        let slot = self.cursor.control().slot(sequence);
        // Ordering: as in `receive_present`.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        Packed { sequence, word, time }
    }

    #[inline(always)]
    fn unusual(&mut self, take: impl FnOnce(&mut Self) -> Outcome) -> Result<Packed, Outcome> {
        match take(self) {
            Outcome::Message => Ok(self.current()),
            other => Err(other),
        }
    }

    /// Whether there is a published message that was not received yet, or a relay has reported a loss.
    #[inline(always)]
    pub(crate) fn has_message(&mut self) -> bool {
        if self.next == self.head {
            // Ordering: as in `advance`.
            self.head = self.cursor.header().head.next.load_acquire();
        }
        self.next != self.head || self.is_missing_some()
    }

    /// Whether everything was received that was there when the head was loaded last. Receiving loads it again
    /// then.
    #[inline(always)]
    pub(crate) fn is_at_known_head(&self) -> bool {
        self.next == self.head
    }

    /// Published messages that were not received yet, up to the depth.
    pub(crate) fn backlog(&mut self) -> u64 {
        // Ordering: as in `advance`.
        self.head = self.cursor.header().head.next.load_acquire();
        // A publisher of another process may have written anything.
        self.head.saturating_sub(self.next).min(self.depth)
    }

    /// Whether [`advance`](Self::advance) would return anything except [`Outcome::Empty`].
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        self.has_message() || self.is_closed()
    }

    /// Whether the publisher was dropped. Messages may be left.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.cursor.control().is_closed()
    }

    /// Whether the publisher was dropped, and everything was received and reported.
    pub(crate) fn has_ended(&self) -> bool {
        // Ordering: Acquire, after the mark was seen: the last head.
        self.is_closed()
            && self.cursor.header().head.next.load_acquire() == self.next
            && self.missing.is_none_or(|reported| reported.is_all_of(self.cursor.header()))
    }

    #[inline(always)]
    fn taken(&mut self, word: u64, time: u64) -> Packed {
        let sequence = self.next;
        self.next += 1;
        self.count_bytes(len_of(word));
        self.word = word;
        Packed { sequence, word, time }
    }

    /// Makes the last `count` messages, of `len` bytes together, the next ones to receive again. None of them
    /// was released, so the interval covers them. If their slots were overwritten, receiving them notices
    /// that.
    pub(crate) fn unreceive(&mut self, count: u64, len: u64) {
        self.next -= count;
        let bytes = &self.cursor.line().bytes;
        bytes.store(bytes.load(Ordering::Relaxed) - len, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn count_bytes(&self, len: u64) {
        let bytes = &self.cursor.line().bytes;
        bytes.store(bytes.load(Ordering::Relaxed) + len, Ordering::Relaxed);
    }

    /// Re-reads the descriptor of a message that was received but not yet released. `None` if it may have
    /// been overwritten, which the pace must allow.
    pub(crate) fn look_back(&self, sequence: u64) -> Option<(u64, u64)> {
        let slot = self.cursor.control().slot(sequence);
        // Ordering: Relaxed, as in `advance`.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        if self.high != UNBOUNDED {
            // Ordering: as in `receive_overtakable`.
            essential!(look_back_fence, fence(Ordering::Acquire));
            if self.cursor.header().state.watermark.load(Ordering::Relaxed) > sequence {
                return None;
            }
            return Some((self.believed(word)?, time));
        }
        Some((word, time))
    }

    #[cold]
    #[inline(never)]
    fn at_head(&mut self) -> Outcome {
        let is_closed = self.is_closed();
        if is_closed {
            self.head = self.cursor.header().head.next.load_acquire();
        }
        if self.is_missing_some() {
            return Outcome::Missing;
        }
        match self.next == self.head {
            true if is_closed => Outcome::Ended,
            true => Outcome::Empty,
            // Published meanwhile.
            false => self.advance(),
        }
    }

    /// Releases every sequence below `low`. None of them may still be attached through the interval, and
    /// `low` is at least that of the last release. Returns `true` if the publisher sleeps and must be woken.
    #[inline(always)]
    pub(crate) fn release(&mut self, low: u64) -> bool {
        self.store_low(low);
        if self.keeping.is_some() {
            self.make_room(low);
        }
        self.cursor.control().released(&mut self.rounds)
    }

    #[inline(always)]
    fn store_low(&self, low: u64) {
        // Ordering: Release pairs with the publisher's Acquire scan: we have read the messages that we
        // release.
        self.cursor.line().low.store(low, essential!(release_low, Ordering::Release));
    }

    /// Releases everything, and the cursor. Returns `true` if the publisher sleeps and must be woken.
    pub(crate) fn leave(&mut self) -> bool {
        self.cursor.vacate(!self.is_reliable());
        self.cursor.control().released(&mut self.rounds)
    }

    /// Counts one more hold on `block`, which the interval still covers.
    pub(crate) fn hold(&self, block: u32) {
        self.cursor.control().side().hold(block);
        let held = &self.cursor.line().holds;
        held.store(held.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Gives up one counted hold on `block`. Returns `true` if the publisher sleeps and must be woken.
pub(crate) fn unhold(control: &Control, block: u32) -> bool {
    control.side().unhold(block);
    control.released(&mut QuietRounds::default())
}
