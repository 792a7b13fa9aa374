//! A subscriber's half of the protocol: claim, take, let go.
//!
//! A *reliable* consumer claims everything from its `low` on: the publisher cannot pass it, so taking is a
//! load of the head and a load of the descriptor, and letting go is one store. One that may be overtaken
//! claims a window ahead of itself, messages yet unpublished included, so that the fence of a claim is paid
//! once per window; after each descriptor it checks that the watermark has not passed it.

use std::hint::cold_path;

use crate::descriptor::{Packed, len_of};
use crate::engine::segment::control::{Control, CursorRef};
use crate::engine::segment::words::{UNBOUNDED, UNUSED};
use crate::engine::wake::event_count::QuietRounds;
use crate::primitive::{Ordering, essential, fence};

mod overtakable;

use overtakable::Backlog;

/// One subscriber's private state on one channel. Owns its cursor until [`leave`](Self::leave).
///
/// What every message needs stands first, together with the start of [`Control`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Consumer {
    /// The sequence to take next.
    next: u64,
    /// The head as last seen.
    head: u64,
    seat: CursorRef,
    /// What `high` of the cursor holds.
    high: u64,
    /// Descriptor word of the message taken last, but by [`take_plain`](Self::take_plain).
    word: u64,
    /// When that message was published, where its slot may be overwritten.
    time: u64,
    /// Sequences claimed ahead at a time.
    window: u64,
    /// Messages kept for a consumer that may be overtaken; older ones count as lost.
    depth: u64,
    /// There where the newest are dropped, not the oldest: the claim is the buffer.
    keeping: Option<Box<Backlog>>,
    lost: u64,
    rounds: QuietRounds,
}

/// What [`Consumer::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A message: [`Consumer::current`] tells which.
    Message,
    /// Nothing new.
    Empty,
    /// Nothing new, and nothing will come.
    Ended,
    /// The watermark has passed: [`Consumer::jump`] is next.
    Overtaken,
}

/// How a consumer relates to the publisher when it is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The publisher waits.
    Reliable,
    /// The publisher goes on.
    Overtakable {
        /// Sequences claimed ahead at a time, at least 1.
        window: u64,
        /// Messages kept at most, at least 1.
        depth: u64,
    },
    /// The publisher goes on, and what is older than the newest stays.
    Keeping {
        /// Messages kept, at least 1.
        depth: u64,
    },
}

impl Pace {
    /// Messages that stay for the consumer although the publisher goes on past it, at most.
    pub(crate) fn kept(self) -> u32 {
        match self {
            // It comes from a number of blocks.
            Self::Keeping { depth } => u32::try_from(depth).unwrap_or(u32::MAX),
            Self::Reliable | Self::Overtakable { .. } => 0,
        }
    }
}

impl Consumer {
    /// Starts at cursor `cursor`, which is unused and nobody else's, with up to `history` earlier messages as
    /// far as the channel still has them. Every message that is published after
    /// this returns will be taken, or counted as lost where the pace allows it. `None`, and the cursor is unused again,
    /// if the system refuses a process-wide barrier.
    pub(crate) fn join(control: &Control, cursor: u32, pace: Pace, history: u64) -> Option<Self> {
        let (window, depth) = match pace {
            Pace::Reliable => (UNBOUNDED, UNBOUNDED),
            Pace::Overtakable { window, depth } => (window.max(1), depth.max(1)),
            Pace::Keeping { depth } => (depth.max(1), UNBOUNDED),
        };
        let seat = control.seat(cursor);
        let (header, line) = (seat.header(), seat.line());
        if pace != Pace::Reliable {
            // Ordering: made visible by the barrier below, before the first claim.
            header.state.claimers.fetch_add(1, Ordering::Relaxed);
        }
        // Claim all there is, reliably, until the place to start at is known.
        line.high.store(UNBOUNDED, Ordering::Relaxed);
        line.taken.store(UNBOUNDED, Ordering::Relaxed);
        essential!(start_unknown, line.start.store(UNUSED, Ordering::Relaxed));
        // Ordering: Relaxed suffices before the fence below; `fetch_max` because cursors join in any order.
        header.state.cursors_used.fetch_max(cursor + 1, Ordering::Relaxed);
        let mut watermark = header.state.watermark.load(Ordering::Acquire);
        loop {
            // Ordering: Release orders `high` before `low`: who sees this `low` sees UNBOUNDED.
            line.low.store(watermark, Ordering::Release);
            // Ordering: pairs with the light barrier in `Producer::announce`: its second scan sees this claim, or
            // we see its watermark.
            if !essential!(join_fence, seat.fence_publisher()) {
                seat.vacate(pace != Pace::Reliable);
                return None;
            }
            let now = header.state.watermark.load(Ordering::Acquire);
            if now == watermark {
                break;
            }
            watermark = now;
        }
        let head = header.head.next.load(Ordering::Acquire);
        let next = head.saturating_sub(history).max(watermark);
        line.bytes.store(0, Ordering::Relaxed);
        line.lost.store(0, Ordering::Relaxed);
        line.holds.store(0, Ordering::Relaxed);
        if matches!(pace, Pace::Overtakable { .. }) {
            line.taken.store(next, Ordering::Relaxed);
        }
        line.low.store(next, Ordering::Release);
        let high = next.saturating_add(window);
        // Ordering: Release; an interval may always shrink.
        line.high.store(high, Ordering::Release);
        // Ordering: pairs with the load in `Cursor::joined_at`: who counts this subscriber publishes what it will receive.
        line.start.store(next, Ordering::Release);
        Some(Self {
            next,
            head,
            seat,
            high,
            word: 0,
            time: 0,
            window,
            depth,
            keeping: matches!(pace, Pace::Keeping { .. }).then(Box::default),
            lost: 0,
            rounds: QuietRounds::default(),
        })
    }

    pub(crate) fn control(&self) -> &Control {
        self.seat.control()
    }

    /// The message taken last.
    #[inline(always)]
    pub(crate) fn current(&self) -> Packed {
        let sequence = self.next.wrapping_sub(1);
        let time = if self.high == UNBOUNDED {
            // Not overwritten while it is attached.
            self.seat.control().slot(sequence).time.load(Ordering::Relaxed)
        } else {
            self.time
        };
        Packed { sequence, word: self.word, time }
    }

    /// The message taken last, whose descriptor word is known.
    #[inline(always)]
    pub(crate) fn current_of(&self, word: u64) -> Packed {
        Packed { word, ..self.current() }
    }

    /// Messages that may be taken together by a consumer that the publisher goes on past, if all such consumers share
    /// `spare` blocks. One that keeps the oldest takes no more than is kept for it in any case.
    pub(crate) fn batch_limit(&self, spare: u32) -> usize {
        if self.is_reliable() || self.keeping.is_some() {
            return usize::MAX;
        }
        // Ordering: Relaxed; a rule of thumb while others join.
        let sharing = self.seat.header().state.claimers.load(Ordering::Relaxed).max(1);
        1 + (spare / 8 / sharing) as usize
    }

    /// How many messages are kept for it at most, if the newest are dropped; otherwise 0.
    pub(crate) fn kept(&self) -> u32 {
        if self.keeping.is_some() { Pace::Keeping { depth: self.window }.kept() } else { 0 }
    }

    /// Whether the publisher waits for this consumer.
    #[inline(always)]
    pub(crate) fn is_reliable(&self) -> bool {
        self.high == UNBOUNDED
    }

    /// The sequence that will be taken next.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Messages that the subscriber was told it lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes the next message. It stays in place until [`let_go`](Self::let_go) says otherwise.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Taken {
        match self.take_packed() {
            Ok(_) => Taken::Message,
            Err(other) => other,
        }
    }

    /// As [`take`](Self::take), with the descriptor: in registers, where nothing unusual happens on the way.
    #[inline(always)]
    pub(crate) fn take_packed(&mut self) -> Result<Packed, Taken> {
        if self.next == self.head {
            // Ordering: Acquire pairs with the publisher's Release store of the head.
            self.head = self.seat.header().head.next.load(Ordering::Acquire);
            if self.next == self.head {
                return self.unusual(Self::at_head);
            }
        }
        self.take_present()
    }

    /// As [`take_packed`](Self::take_packed), where [`has_message`](Self::has_message) was true just before.
    #[inline(always)]
    pub(crate) fn take_present(&mut self) -> Result<Packed, Taken> {
        if self.next == self.head {
            // Nobody has looked: a slot at the head must not be read.
            return Err(Taken::Empty);
        }
        if self.high != UNBOUNDED {
            return self.unusual(Self::take_overtakable);
        }
        let slot = self.seat.control().slot(self.next);
        // Ordering: Relaxed; made visible by the head, and not overwritten while our `low` is below it.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        Ok(self.taken(word, time))
    }

    /// As [`take`](Self::take), for a reliable consumer: the descriptor word, or `None` where there is no message. It
    /// does not count the message's bytes, which [`let_go_plain`](Self::let_go_plain) does.
    #[inline(always)]
    pub(crate) fn take_plain(&mut self) -> Option<u64> {
        debug_assert!(self.is_reliable(), "what may be overtaken is checked after it was read");
        let next = self.next;
        if next == self.head {
            // Ordering: as in `take_packed`.
            let head = self.seat.header().head.next.load(Ordering::Acquire);
            self.head = head;
            if next == head {
                cold_path();
                return None;
            }
        }
        self.next = next + 1;
        // Ordering: as in `take_present`.
        Some(self.seat.control().slot(next).word.load(Ordering::Relaxed))
    }

    /// Lets go of everything that was taken, the last message of which came by
    /// [`take_plain`](Self::take_plain). True: the publisher sleeps and must be woken.
    #[inline(always)]
    pub(crate) fn let_go_plain(&mut self, word: u64) -> bool {
        let next = self.next;
        self.count_bytes(len_of(word));
        self.store_low(next);
        self.seat.header().space.notified(&mut self.rounds)
    }

    /// Takes up to `limit` messages at once, for a reliable consumer: how many. [`nth_before`](Self::nth_before)
    /// finds them.
    pub(crate) fn take_run(&mut self, limit: u64) -> u64 {
        self.take_each(limit, |_| {}).0
    }

    /// As [`take_run`](Self::take_run), and shows each of them on the way. Returns how many, and their bytes.
    #[inline(always)]
    pub(crate) fn take_each(&mut self, limit: u64, mut each: impl FnMut(Packed)) -> (u64, u64) {
        debug_assert!(self.is_reliable(), "what may be overtaken is checked after it was read");
        if self.head - self.next < limit {
            // Ordering: as in `take_packed`.
            self.head = self.seat.header().head.next.load(Ordering::Acquire);
        }
        let count = limit.min(self.head - self.next);
        let end = self.next + count;
        let mut bytes = 0;
        for sequence in self.next..end {
            let slot = self.seat.control().slot(sequence);
            // Ordering: Relaxed, as in `take_present`.
            let word = slot.word.load(Ordering::Relaxed);
            let time = slot.time.load(Ordering::Relaxed);
            bytes += len_of(word);
            each(Packed { sequence, word, time });
        }
        self.next = end;
        self.count_bytes(bytes);
        (count, bytes)
    }

    /// The message that a reliable consumer took `distance` messages before the one to take next; 1 is the
    /// message taken last. It must not be let go of.
    #[inline(always)]
    pub(crate) fn nth_before(&self, distance: u64) -> Packed {
        let sequence = self.next - distance;
        let slot = self.seat.control().slot(sequence);
        // Ordering: as in `take_present`.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        Packed { sequence, word, time }
    }

    #[inline(always)]
    fn unusual(&mut self, take: impl FnOnce(&mut Self) -> Taken) -> Result<Packed, Taken> {
        match take(self) {
            Taken::Message => Ok(self.current()),
            other => Err(other),
        }
    }

    /// Whether a message was published that was not taken yet.
    #[inline(always)]
    pub(crate) fn has_message(&mut self) -> bool {
        if self.next == self.head {
            // Ordering: as in `take`.
            self.head = self.seat.header().head.next.load(Ordering::Acquire);
        }
        self.next != self.head
    }

    /// Messages that were published and not taken yet, as far as the depth keeps them.
    pub(crate) fn backlog(&mut self) -> u64 {
        // Ordering: as in `take`.
        self.head = self.seat.header().head.next.load(Ordering::Acquire);
        (self.head - self.next).min(self.depth)
    }

    /// Whether [`take`](Self::take) would find anything but [`Taken::Empty`].
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        self.has_message() || self.is_closed()
    }

    /// Whether the publisher is gone; messages may still be there.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        // Ordering: Acquire pairs with `Producer::close`: the head loaded after it is the last.
        self.seat.header().state.closed.load(Ordering::Acquire) != 0
    }

    /// Whether the publisher is gone and everything was taken.
    pub(crate) fn has_ended(&self) -> bool {
        // Ordering: Acquire, after the mark was seen: the last head.
        self.is_closed() && self.seat.header().head.next.load(Ordering::Acquire) == self.next
    }

    #[inline(always)]
    fn taken(&mut self, word: u64, time: u64) -> Packed {
        let sequence = self.next;
        self.next += 1;
        self.count_bytes(len_of(word));
        self.word = word;
        Packed { sequence, word, time }
    }

    /// Makes the last `count` messages, of so many bytes, the next ones to be taken again. None of them was let go of, so
    /// that the interval covers them; where their slots may have been overwritten, taking them finds that out.
    pub(crate) fn take_back(&mut self, count: u64, len: u64) {
        self.next -= count;
        let bytes = &self.seat.line().bytes;
        bytes.store(bytes.load(Ordering::Relaxed) - len, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn count_bytes(&self, len: u64) {
        let bytes = &self.seat.line().bytes;
        bytes.store(bytes.load(Ordering::Relaxed) + len, Ordering::Relaxed);
    }

    /// Reads the descriptor again of a message that was taken and not let go of. `None` if it may have been
    /// overwritten, which the pace must allow.
    pub(crate) fn look_back(&self, sequence: u64) -> Option<(u64, u64)> {
        let slot = self.seat.control().slot(sequence);
        // Ordering: Relaxed, as in `take`.
        let word = slot.word.load(Ordering::Relaxed);
        let time = slot.time.load(Ordering::Relaxed);
        if self.high != UNBOUNDED {
            // Ordering: as in `take_overtakable`.
            essential!(look_back_fence, fence(Ordering::Acquire));
            if self.seat.header().state.watermark.load(Ordering::Relaxed) > sequence {
                return None;
            }
        }
        Some((word, time))
    }

    #[cold]
    #[inline(never)]
    fn at_head(&mut self) -> Taken {
        if !self.is_closed() {
            return Taken::Empty;
        }
        self.head = self.seat.header().head.next.load(Ordering::Acquire);
        if self.next == self.head { Taken::Ended } else { self.take() }
    }

    /// Lets go of every sequence below `low`, which must not be attached through the interval any more and
    /// is at least what was let go of before. True: the publisher sleeps and must be woken.
    #[inline(always)]
    pub(crate) fn let_go(&mut self, low: u64) -> bool {
        self.store_low(low);
        if self.high != UNBOUNDED {
            self.make_room(low);
        }
        self.seat.header().space.notified(&mut self.rounds)
    }

    #[inline(always)]
    fn store_low(&self, low: u64) {
        // Ordering: Release pairs with the publisher's Acquire scan: we have read what we let go of.
        self.seat.line().low.store(low, essential!(release_low, Ordering::Release));
    }

    /// Lets go of everything and of the cursor. True: the publisher sleeps and must be woken.
    pub(crate) fn leave(&mut self) -> bool {
        self.seat.vacate(!self.is_reliable());
        self.seat.header().space.notified(&mut self.rounds)
    }

    /// Counts one more hold on `block`, which the interval still covers.
    pub(crate) fn hold(&self, block: u32) {
        self.seat.control().hold(block);
        let held = &self.seat.line().holds;
        held.store(held.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Gives up one counted hold on `block`. True: the publisher sleeps and must be woken.
pub(crate) fn unhold(control: &Control, block: u32) -> bool {
    control.unhold(block);
    control.header().space.notified(&mut QuietRounds::default())
}
