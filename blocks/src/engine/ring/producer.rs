//! The publisher's half of the protocol: publish messages, and get their blocks back.
//!
//! # Publishing
//! One descriptor, one head word. Nothing depends on the number of subscribers.
//!
//! # Reclaiming
//! To give up the sequences below some *target*, the publisher
//! 1. scans the cursors for the sequences that all have passed, which gives the target;
//! 2. announces the target as the new *watermark*, then fences (if all subscribers are reliable, those that
//!    join fence for both, by a process-wide barrier);
//! 3. scans the cursors again for intervals that still cover a sequence below the target.
//!
//! A subscriber that claims an interval stores it, fences, then reads the watermark. One of the two fences
//! comes first: either the publisher's second scan sees the claim, or the subscriber sees the watermark
//! and gives the claim up (the argument of hazard pointers: Michael, 2004). Blocks that the second scan
//! finds covered, or that are held by count, wait in *limbo*. Nobody waits for them.
//!
//! A claim covers messages that its subscriber has not taken yet, so a stalled subscriber would claim them
//! forever. Once it sees the watermark, it can no longer take them; only a take that nobody has seen yet may
//! be under way. So when nothing else is left, the publisher *revokes*: after a process-wide barrier, it sees
//! how far each subscriber has begun to take, and one that begins later sees the watermark.
//!
//! The scans include the cursors of every process that takes part: see [`crate::engine::remote`].
//!
//! Descriptors below the watermark are overwritten from then on, so a subscriber that is not reliable checks
//! the watermark after it has read a descriptor.
//!
//! # Free blocks
//! As a rule every block below the watermark is free, and the ring itself is the queue of free blocks: the
//! descriptors from `oldest_free` to the watermark name them, oldest first. Then reclaiming moves one number,
//! however many blocks it frees. If some are covered or held, if blocks have several sizes, or if the
//! hottest block is wanted, the publisher checks blocks one by one and moves free ones to the pool's stacks.
//! A hottest block that is the only one to come free is taken at once, without a detour through the stacks.

use std::sync::Arc;

use crate::descriptor::{Validity, len_of, pack, unit_of};
use crate::direct::{Announcement, may_have_waiters};
use crate::engine::pool::Pool;
use crate::engine::remote::Annex;
use crate::engine::segment::control::Control;
use crate::engine::segment::words::Header;
use crate::engine::wake::event_count::QuietRounds;
use crate::primitive::{Ordering, essential, fence};

mod reclaim;
mod waking;

use reclaim::{Claim, Limbo};
pub(crate) use reclaim::{Reach, Unfinished};
use waking::Fenced;

/// The publisher's private state. One per channel.
#[derive(Debug)]
pub(crate) struct Producer {
    head: u64,
    /// Descriptors from here to the watermark name free blocks.
    oldest_free: u64,
    watermark: u64,
    control: Control,
    rounds: QuietRounds,
    /// Bytes of added messages that were not announced.
    unannounced_bytes: u64,
    /// Messages that stay available to late joiners.
    history: u64,
    /// Free blocks go to the pool one by one, not through the ring.
    one_by_one: bool,
    pool: Pool,
    /// Given up, but still covered or held.
    limbo: Vec<Limbo>,
    /// Claimed intervals found by the latest second scan; kept for its capacity.
    claims: Vec<Claim>,
    /// The attached processes, as of `annex_version`.
    annexes: Vec<Arc<Annex>>,
    annex_version: u32,
    /// Records how long ago a subscriber of another process waited.
    fenced: Fenced,
    /// Blocks that were reserved for direct publishing and not published yet, as of the head known here.
    reserved: u32,
    /// The slots of `reserved` sequences before this one name them, in the order in which they are published.
    reserved_until: u64,
}

impl Producer {
    /// `hottest`: the block that was freed last is taken first.
    pub(crate) fn new(control: Control, pool: Pool, history: u32, hottest: bool) -> Self {
        control.header().pool.blocks.store(pool.blocks(), Ordering::Relaxed);
        Self {
            head: 0,
            oldest_free: 0,
            watermark: 0,
            control,
            rounds: QuietRounds::default(),
            unannounced_bytes: 0,
            history: u64::from(history),
            one_by_one: hottest || !pool.is_uniform(),
            pool,
            limbo: Vec::new(),
            claims: Vec::new(),
            annexes: Vec::new(),
            annex_version: 0,
            fenced: Fenced::default(),
            reserved: 0,
            reserved_until: 0,
        }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Blocks that were given up but are still covered or held.
    pub(crate) fn in_limbo(&self) -> u32 {
        self.limbo.len() as u32
    }

    /// Free blocks, including those reserved for direct publishing.
    pub(crate) fn free(&self) -> u32 {
        self.queued() + self.pool.spare() + self.reserved
    }

    /// Free blocks that the ring names.
    fn queued(&self) -> u32 {
        // Wraps if blocks were put before the very first sequence.
        self.watermark.wrapping_sub(self.oldest_free) as u32
    }

    /// The oldest sequence that was not given up.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The sequence that the next publish gets.
    #[inline(always)]
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Like [`pop_oldest`](Self::pop_oldest), but may return `None` although there is such a block: always
    /// in a forked child, whose slots are zeros, and otherwise if the first block of the arena was published
    /// as an empty message.
    #[inline(always)]
    pub(crate) fn pop_named(&mut self) -> Option<u32> {
        if self.oldest_free == self.watermark {
            return None;
        }
        // Ordering: Relaxed; our own store.
        let word = self.control.slot(self.oldest_free).word.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        self.oldest_free = self.oldest_free.wrapping_add(1);
        Some(unit_of(word))
    }

    /// Takes a free block out of the ring, if blocks are freed that way. Then all have one size.
    pub(crate) fn pop_oldest(&mut self) -> Option<u32> {
        if self.oldest_free == self.watermark {
            return None;
        }
        // Ordering: Relaxed; our own store.
        let word = self.control.slot(self.oldest_free).word.load(Ordering::Relaxed);
        self.oldest_free = self.oldest_free.wrapping_add(1);
        Some(unit_of(word))
    }

    /// The blocks that [`pop_oldest`](Self::pop_oldest) returns next, at most `most`.
    pub(crate) fn next_free(&self, most: u64) -> impl Iterator<Item = u32> {
        let count = u64::from(self.queued()).min(most);
        (0..count).map(|ahead| self.unit_at(self.oldest_free.wrapping_add(ahead)))
    }

    /// Whether other processes take part, as far as the publisher knows.
    pub(crate) fn has_annexes(&self) -> bool {
        !self.annexes.is_empty()
    }

    /// Whether a block of at least `len` bytes is known to be free. The largest blocks have that many.
    #[inline]
    pub(crate) fn has_free(&self, len: usize) -> bool {
        // The blocks that the ring names have the only size.
        self.oldest_free != self.watermark || self.pool.has(len)
    }

    /// Takes a free block of at least `len` bytes out of the pool. Returns its unit and capacity.
    pub(crate) fn pop_spare(&mut self, len: usize) -> Option<(u32, usize)> {
        self.pool.take(len)
    }

    /// Takes back a block that was taken and not published.
    #[cold]
    #[inline(never)]
    pub(crate) fn give_back(&mut self, unit: u32) {
        self.pool.give(unit);
    }

    /// Adds blocks to the pool. Returns `false` at its limit.
    pub(crate) fn grow(&mut self, len: usize) -> bool {
        let grown = self.pool.grow(len);
        self.control.header().pool.blocks.store(self.pool.blocks(), Ordering::Relaxed);
        grown
    }

    /// Records how many blocks are on loans that were suspended or forgotten: neither free, nor published,
    /// nor in limbo, nor one of the `in_hand` ones.
    pub(crate) fn note_loaned(&self, in_hand: u32) {
        let published = (self.head - self.watermark) as u32;
        let elsewhere = self.free() + published + self.in_limbo() + in_hand;
        let loaned = self.pool.blocks().saturating_sub(elsewhere);
        self.control.header().pool.loaned.store(loaned, Ordering::Relaxed);
    }

    /// Counts a loan that found no block.
    pub(crate) fn note_exhausted(&self) {
        let exhausted = &self.control.header().pool.exhausted;
        exhausted.store(exhausted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Sets the time of the message that is published next.
    #[inline(always)]
    pub(crate) fn stamp(&self, time: u64) {
        self.control.slot(self.head).stamp(time);
    }

    /// Reports that messages are missing which should have reached the publisher, a relay, before the next
    /// one. The caller wakes all subscribers.
    pub(crate) fn report_missing(&self, count: u64) {
        let missing = &self.control.header().state.missing;
        let total = missing.load(Ordering::Relaxed).saturating_add(count);
        // Ordering: Release pairs with the Acquire in `Consumer::missing_before_next`: who sees it sees the
        // head, and so the messages before the gap.
        missing.store(total, essential!(missing_release, Ordering::Release));
        // Ordering: as in `close`.
        fence(Ordering::SeqCst);
    }

    /// Records how many messages are missing before the one that is published next, if the publisher is a
    /// relay.
    pub(crate) fn note_missing(&self) {
        if let Some(word) = self.control.missing(self.head) {
            // Ordering: Relaxed; made visible by the head. The slot is free, as in `publish`.
            word.store(self.control.header().state.missing.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Publishes a taken block under the next sequence. Returns `true` if somebody may sleep, which
    /// [`wakes`](Self::wakes) finds out.
    ///
    /// The slot is free: every sequence from `oldest_free` to the head has a block of its own, the caller's
    /// block is none of them, and there are at least as many slots as blocks. This does not count the slots
    /// that name reserved blocks: if publishing may reach them, call [`recall`](Self::recall) first.
    #[inline(always)]
    pub(crate) fn publish(&mut self, word: u64) -> bool {
        let sequence = self.head;
        debug_assert!(
            sequence.wrapping_sub(self.oldest_named()) < u64::from(self.control.geometry().slots),
            "no free slot"
        );
        self.head = sequence + 1;
        let Header { head, state, .. } = self.control.header();
        let announcement = Announcement {
            slot: self.control.slot(sequence),
            next: &head.next,
            bytes: &head.bytes,
            waiters: state.messages.word(),
        };
        announcement.publish(word, self.head)
    }

    /// Like [`publish`](Self::publish), but subscribers do not see the message until the next one is
    /// published, or until [`announce`](Self::announce), which must come before reclaiming: that relies on
    /// all messages before the head being visible.
    #[inline(always)]
    pub(crate) fn add(&mut self, word: u64) {
        let sequence = self.head;
        debug_assert!(
            sequence.wrapping_sub(self.oldest_named()) < u64::from(self.control.geometry().slots),
            "no free slot"
        );
        self.head = sequence + 1;
        self.unannounced_bytes += len_of(word);
        self.control.slot(sequence).describe(word);
    }

    /// Whether all added messages are visible.
    #[inline(always)]
    pub(crate) fn is_announced(&self) -> bool {
        // Ordering: Relaxed; our own store. Direct publishing, of which this may not know yet, is ahead.
        self.control.header().head.next.load(Ordering::Relaxed) >= self.head && self.unannounced_bytes == 0
    }

    /// Makes the added messages visible. Returns `true` if somebody may sleep, which [`wakes`](Self::wakes)
    /// finds out.
    #[inline]
    pub(crate) fn announce(&mut self) -> bool {
        if self.is_announced() {
            return false;
        }
        let Header { head, state, .. } = self.control.header();
        let bytes = head.bytes.load(Ordering::Relaxed).wrapping_add(self.unannounced_bytes);
        self.unannounced_bytes = 0;
        head.bytes.store(bytes, Ordering::Relaxed);
        // Ordering: as in `Announcement::publish`.
        head.next.store(self.head, essential!(announce_release, Ordering::Release));
        may_have_waiters(state.messages.word())
    }

    /// In a forked child: erases the descriptor of the message that was published last, so that
    /// [`pop_named`](Self::pop_named) never finds it.
    pub(crate) fn erase_latest(&self) {
        self.control.slot(self.head.wrapping_sub(1)).word.store(0, Ordering::Relaxed);
    }

    /// Notices processes that were attached or detached. Returns `true` if there were any. A load, in the
    /// usual case.
    #[inline(always)]
    fn notice_annexes(&mut self) -> bool {
        // Ordering: Relaxed; a joiner of another process makes a barrier that reaches this one after it was
        // attached, and the deciding look stands behind a light barrier.
        let version = self.control.header().state.annexes.load(Ordering::Relaxed);
        let changed = version != self.annex_version;
        if changed {
            self.renew_annexes(version);
        }
        changed
    }

    #[cold]
    #[inline(never)]
    fn renew_annexes(&mut self, version: u32) {
        // Ordering: pairs with the Release in `Annexes::attach`: the list that was announced is visible.
        fence(Ordering::Acquire);
        if let Some(annexes) = self.control.annexes() {
            annexes.copy_to(&mut self.annexes);
        }
        self.annex_version = version;
        self.note_bytes();
    }

    /// Records how many bytes were published so far, for other processes that outlive this one.
    fn note_bytes(&self) {
        let Header { head, pool, .. } = self.control.header();
        // May be ahead of the head known here while direct publishing continues. It only matters for a
        // process that is killed.
        pool.counted_bytes.store(head.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        pool.counted_to.store(self.head, Ordering::Relaxed);
    }

    /// Reserves up to `most` free blocks for direct publishing, when none are reserved. `taken`, which was
    /// taken before, is one of them. Returns the first sequence whose slot names one, and their number.
    ///
    /// They are published in this order, so each name is read before it is overwritten: as `publish` states,
    /// the slot at the head is at most the one that names the next block of the queue, and the reserved
    /// blocks are its front.
    pub(crate) fn reserve(&mut self, taken: u32, most: u32) -> (u64, u32) {
        debug_assert_eq!(self.reserved, 0, "recalled");
        self.put_in_front(taken);
        let most = most.max(1);
        while self.queued() < most
            && let Some((unit, _)) = self.pool.take(0)
        {
            self.put_in_front(unit);
        }
        let first = self.oldest_free;
        self.reserved = self.queued().min(most);
        self.reserved_until = first.wrapping_add(u64::from(self.reserved));
        self.oldest_free = self.reserved_until;
        (first, self.reserved)
    }

    /// Puts a block that was taken in front of the ring's queue.
    ///
    /// The slot is free, as in [`publish`](Self::publish): it belongs to the last sequence for which there
    /// are blocks. A subscriber that has yet to read its old descriptor was overtaken, and notices that as it
    /// does there.
    fn put_in_front(&mut self, unit: u32) {
        self.oldest_free = self.oldest_free.wrapping_sub(1);
        // As a rule the block was taken from this slot.
        if self.unit_at(self.oldest_free) != unit {
            let word = pack(unit, 0, Validity::Valid);
            // Ordering: Relaxed; a subscriber that must not take it for a descriptor has seen the watermark
            // pass it.
            self.control.slot(self.oldest_free).word.store(word, Ordering::Relaxed);
        }
    }

    /// The first sequence whose slot names a block that may be needed.
    fn oldest_named(&self) -> u64 {
        if self.reserved == 0 {
            self.oldest_free
        } else {
            self.reserved_until.wrapping_sub(u64::from(self.reserved))
        }
    }

    /// Takes back the reserved blocks that were not published. Nothing is published directly meanwhile.
    pub(crate) fn recall(&mut self) {
        essential!(recall_adopts, self.adopt());
        if self.reserved_until == self.oldest_free && !self.one_by_one {
            self.oldest_free = self.oldest_named();
        } else {
            // Other blocks were taken out of the queue behind them, or there is no queue.
            for before in (1..=u64::from(self.reserved)).rev() {
                self.pool.give(self.unit_at(self.reserved_until.wrapping_sub(before)));
            }
        }
        self.reserved = 0;
    }

    /// Blocks reserved for direct publishing.
    pub(crate) fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Takes back the next reserved block, which counts as taken from then on. Returns `false` if that is
    /// another one, or if none is reserved.
    pub(crate) fn take_reserved(&mut self, unit: u32) -> bool {
        let is_next = self.reserved > 0 && self.unit_at(self.oldest_named()) == unit;
        self.reserved -= u32::from(is_next);
        is_next
    }

    /// Reserves the block again that was taken back last. Nothing was published, reserved or recalled since.
    pub(crate) fn reserve_again(&mut self, unit: u32) {
        self.reserved += 1;
        debug_assert_eq!(self.unit_at(self.oldest_named()), unit, "not the one that was taken back last");
        self.note_loaned(0);
    }

    /// Adopts the directly published messages. Call this before anything that depends on the head.
    ///
    /// Direct publishing may continue meanwhile, in another thread. Then the head known here is old, and an
    /// old one is safe. Reclaiming goes as far as the known head. The sequences beyond it have blocks that
    /// count as reserved here, which nobody else takes: every block is on one side, and direct publishing
    /// gets no further than its reserved blocks.
    pub(crate) fn adopt(&mut self) {
        let head = &self.control.header().head;
        // Ordering: Acquire pairs with the direct publisher's Release: the descriptors below are visible,
        // which reclaiming reads.
        let next = head.next.load(essential!(adopt_acquire, Ordering::Acquire));
        let published = next.saturating_sub(self.head);
        if published > 0 {
            // Fits: no more than blocks. Direct publishing that says otherwise breaks its contract.
            self.reserved = self.reserved.saturating_sub(u32::try_from(published).unwrap_or(u32::MAX));
            self.head = next;
        }
    }

    /// Messages published and their bytes, from all publishing ends.
    pub(crate) fn published(&self) -> (u64, u64) {
        let head = &self.control.header().head;
        // Ordering: Acquire, so that the bytes are at least those of that many messages.
        (head.next.load(Ordering::Acquire), head.bytes.load(Ordering::Relaxed))
    }

    fn unit_at(&self, sequence: u64) -> u32 {
        // Ordering: Relaxed; our own store.
        unit_of(self.control.slot(sequence).word.load(Ordering::Relaxed))
    }

    /// Marks the channel as ended: subscribers drain the remaining messages.
    pub(crate) fn close(&self) {
        // Ordering: Release pairs with the Acquire load in `Consumer::advance`: one that sees the mark sees
        // the last head.
        self.control.header().state.closed.store(1, essential!(close_release, Ordering::Release));
        // Ordering: pairs with the fence in `EventCount::arm`: code that wakes the subscribers after this
        // finds all that joined, or they find the mark when they look once more.
        fence(Ordering::SeqCst);
    }
}
